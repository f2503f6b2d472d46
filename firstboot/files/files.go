// Package files writes the files of a configuration below a root: all of them
// or none, also when the power goes, and nothing where nothing changed.
//
// An apply goes like this:
//
//  1. /var/lib/firstboot/stage.json lists the files to be written,
//  2. each is written beside its target under another name, and synced,
//  3. /var/lib/firstboot/apply.json, the journal, lists what is to be done:
//     from here on it will be done,
//  4. files are renamed to their names, and those of the configuration before
//     that are no longer wanted are removed,
//  5. the journal is removed, then stage.json.
//
// Whatever makes the machine stop before 3, Recover removes what was staged;
// after it, Recover does 4 and 5. While the journal exists, files of two
// configurations may be mixed: units that use them should not start (and have
// ConditionPathExists=!/var/lib/firstboot/apply.json). Steps 4 and 5 need no
// space on the disk.
//
// /var/lib/firstboot/files.json remembers which files are ours. Nothing else is
// ever removed, and directories never are.
//
// Paths are those of the node. Symbolic links in their directories mean what
// they would mean to a program whose root directory the root is, so nothing
// outside of it is reached. A link in the place of a file is replaced.
//
// Files belong to root if the program runs as root. Limits: one process at a
// time; no extended attributes; no other owners. google/renameio does not serve
// here: it replaces one file at a time and has no moment between writing and
// renaming at which a journal could be written, syncs no directory, and knows
// paths of the running system only.
package files

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
)

// File is what a file shall be.
type File struct {
	Path    string // absolute on the node: "/var/lib/kubelet/kubeconfig"
	Content []byte
	Mode    fs.FileMode // permission bits
	DirMode fs.FileMode // of its directory where that is missing; 0755 where 0
	Secret  bool        // it holds a key or a token, and is not to be shown

	// Theirs is a file that another program made: it is not remembered as ours,
	// so it stays when it is no longer wanted.
	Theirs bool
	// Absent is a file that shall not be there, whoever made it.
	Absent bool
}

// Change is something that happens to one file.
type Change struct {
	Path string `json:"path"` // absolute on the node
	What string `json:"what"` // one of the constants below
}

// What can happen to a file.
const (
	Created      = "created"
	Rewritten    = "rewritten"
	ModeChanged  = "mode changed"
	OwnerChanged = "owner changed"
	Removed      = "removed"
)

// Plan says what Apply would do, and touches nothing.
func Plan(root string, want []File) ([]Change, error) {
	a, err := open(root, nil)
	if err != nil {
		return nil, err
	}
	defer a.close()
	p, err := a.plan(want, true)
	if err != nil {
		return nil, err
	}
	return p.changes, nil
}

// Apply makes the files below root what want says, and removes those of the
// configuration before that want no longer has. It first ends an apply that
// was interrupted, whose changes are returned before its own. did, if not nil,
// is called for each change once it is made.
//
// On an error the files are as they were, unless it says that the journal was
// written: then the next Apply or Recover goes on.
func Apply(root string, want []File, did func(Change)) ([]Change, error) {
	a, err := open(root, did)
	if err != nil {
		return nil, err
	}
	defer a.close()
	return a.apply(want, true)
}

// Add is Apply, but it removes nothing: files of the configuration before stay
// what they are, and stay ours.
func Add(root string, want []File, did func(Change)) ([]Change, error) {
	a, err := open(root, did)
	if err != nil {
		return nil, err
	}
	defer a.close()
	return a.apply(want, false)
}

// Read returns a file's content, or nil where there is no file, and the path
// that it has where p is a link to it. Links mean what they mean on the node.
func Read(root, p string) (content []byte, target string, err error) {
	a, err := open(root, nil)
	if err != nil {
		return nil, "", err
	}
	defer a.close()
	target = p
	for range 2 {
		name, err := a.resolve(target)
		if err != nil {
			return nil, "", err
		}
		link, err := a.root.Readlink(name)
		if err != nil {
			content, err := a.root.ReadFile(name)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, "", fmt.Errorf("reading %s: %w", target, err)
			}
			return content, target, nil
		}
		if !path.IsAbs(link) {
			link = path.Join(path.Dir(target), link)
		}
		target = path.Clean(link)
	}
	return nil, "", fmt.Errorf("reading %s: a link to a link", p)
}

// Recover ends an apply that was interrupted. It returns the changes of that
// apply, also those that were made before the interruption, and none if
// nothing had changed yet.
func Recover(root string) ([]Change, error) {
	a, err := open(root, nil)
	if err != nil {
		return nil, err
	}
	defer a.close()
	return a.recover()
}

// applier works below one root.
type applier struct {
	root *os.Root
	did  func(Change)
	// step is called before each step that changes something on the disk; tests
	// stop there.
	step func(what string)
	sync func(*os.File) error
}

func open(root string, did func(Change)) (*applier, error) {
	r, err := os.OpenRoot(root)
	if err != nil {
		return nil, fmt.Errorf("opening the root %s: %w", root, err)
	}
	if did == nil {
		did = func(Change) {}
	}
	return &applier{root: r, did: did, step: func(string) {}, sync: (*os.File).Sync}, nil
}

func (a *applier) close() { _ = a.root.Close() }

// plan is what there is to do.
type plan struct {
	changes []Change // sorted by path
	write   []File   // of changes, those that are no removals
	list    []byte   // the new files.json; nil where it stays as it is
}

// plan compares want with what is there. It forgets former files if remove.
func (a *applier) plan(want []File, remove bool) (*plan, error) {
	p := &plan{}
	wanted := map[string]bool{}
	for _, f := range want {
		if err := checkFile(f); err != nil {
			return nil, err
		}
		if wanted[f.Path] {
			return nil, fmt.Errorf("BUG: file %s is wanted twice", f.Path)
		}
		wanted[f.Path] = true
		if f.Absent {
			there, err := a.isFile(f.Path)
			if err != nil {
				return nil, err
			}
			if there {
				p.changes = append(p.changes, Change{f.Path, Removed})
			}
			continue
		}
		what, err := a.compare(f)
		if err != nil {
			return nil, err
		}
		if what != "" {
			p.changes = append(p.changes, Change{f.Path, what})
			p.write = append(p.write, f)
		}
	}
	list, former, err := a.readList()
	if err != nil {
		return nil, err
	}
	for _, old := range former {
		if wanted[old] {
			continue
		}
		if !remove {
			wanted[old] = true
			continue
		}
		there, err := a.isFile(old)
		if err != nil {
			return nil, err
		}
		if there {
			p.changes = append(p.changes, Change{old, Removed})
		}
	}
	ours := make([]string, 0, len(wanted))
	for _, f := range want {
		if f.Theirs || f.Absent {
			delete(wanted, f.Path)
		}
	}
	for name := range wanted {
		ours = append(ours, name)
	}
	if l := encodeList(ours); !bytes.Equal(l, list) {
		p.list = l
	}
	slices.SortFunc(p.changes, func(a, b Change) int { return strings.Compare(a.Path, b.Path) })
	slices.SortFunc(p.write, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	return p, nil
}

// checkFile refuses what can't be meant; the paths are our own, not a user's.
func checkFile(f File) error {
	if problem := checkPath(f.Path); problem != "" {
		return fmt.Errorf("BUG: file %q: the path %s", f.Path, problem)
	}
	if f.Absent {
		return nil
	}
	if f.Mode&^fs.ModePerm != 0 || f.Mode&0o400 == 0 {
		return fmt.Errorf("BUG: file %s: the mode %v is more than permissions, or nobody can read it", f.Path, f.Mode)
	}
	if f.DirMode&^fs.ModePerm != 0 || f.DirMode != 0 && f.DirMode&0o700 != 0o700 {
		return fmt.Errorf("BUG: file %s: the mode %v of its directory is more than permissions, or its owner can't use it", f.Path, f.DirMode)
	}
	return nil
}

func checkPath(name string) string {
	switch {
	case !path.IsAbs(name) || path.Clean(name) != name || name == "/":
		return "is not absolute and clean"
	case strings.ContainsRune(name, 0):
		return "has a null byte"
	case name == stateDir || strings.HasPrefix(name, stateDir+"/"):
		return "is in the directory of the journal"
	case strings.HasSuffix(name, stagedSuffix):
		return "has the suffix of staged files"
	}
	return ""
}

// compare says what is to be done about f, or nothing.
func (a *applier) compare(f File) (what string, err error) {
	name, err := a.resolve(f.Path)
	if err != nil {
		return "", err
	}
	info, err := a.root.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Created, nil
	case err != nil:
		return "", fmt.Errorf("looking at %s: %w", f.Path, err)
	case info.IsDir():
		return "", fmt.Errorf("looking at %s: a directory is in the place of the file; remove it", f.Path)
	case !info.Mode().IsRegular() || info.Size() != int64(len(f.Content)):
		return Rewritten, nil
	}
	content, err := a.root.ReadFile(name)
	if err != nil {
		return "", fmt.Errorf("reading %s: %w", f.Path, err)
	}
	switch {
	case !bytes.Equal(content, f.Content):
		return Rewritten, nil
	case info.Mode()&(fs.ModePerm|fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky) != f.Mode:
		return ModeChanged, nil
	case os.Geteuid() == 0 && !ownedByRoot(info):
		return OwnerChanged, nil
	}
	return "", nil
}

// isFile tells whether there is something at a former file's path that can be
// removed.
func (a *applier) isFile(p string) (bool, error) {
	name, err := a.resolve(p)
	if err != nil {
		return false, err
	}
	info, err := a.root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("looking at %s: %w", p, err)
	}
	return !info.IsDir(), nil
}

// maxLinks is how many symbolic links a path may lead through: Linux's own limit.
const maxLinks = 40

// resolve turns a path of the node into one relative to the root in which no
// directory is a symbolic link. The last element is not followed. os.Root alone
// would do if it did not refuse absolute links, which are common inside a root:
// /var/run -> /run.
func (a *applier) resolve(p string) (string, error) {
	rest := strings.Split(p, "/")
	resolved, links := "", 0
	for len(rest) > 1 {
		element := rest[0]
		rest = rest[1:]
		switch element {
		case "", ".":
			continue
		case "..":
			if resolved = path.Dir(resolved); resolved == "." {
				resolved = ""
			}
			continue
		}
		next := path.Join(resolved, element)
		info, err := a.root.Lstat(next)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return "", fmt.Errorf("looking at /%s: %w", next, err)
		case info.Mode()&fs.ModeSymlink != 0:
			if links++; links > maxLinks {
				return "", fmt.Errorf("looking at %s: its directory leads through too many symbolic links", p)
			}
			target, err := a.root.Readlink(next)
			if err != nil {
				return "", fmt.Errorf("reading the link /%s: %w", next, err)
			}
			if path.IsAbs(target) {
				resolved = ""
			}
			rest = append(strings.Split(target, "/"), rest...)
			continue
		case !info.IsDir():
			return "", fmt.Errorf("looking at %s: /%s is no directory; remove it", p, next)
		}
		resolved = next
	}
	return path.Join(resolved, rest[0]), nil
}
