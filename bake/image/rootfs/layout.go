package rootfs

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/nodebake/bake/bake/tree"
)

// layout is the tree while it is being put together: entries by path, where no
// path goes through a symbolic link. Only put changes entries.
type layout struct {
	Config
	entries  map[string]tree.Entry
	names    map[string][]string  // hard links by the path of their file
	packages map[string]*unpacked // by origin
	sorted   []*unpacked          // base-files, then by name
	content  reader
	accounts accounts
	made     *memory // what is small and rebuilt each time
}

func origin(pkg string) string { return "package " + pkg }

// definitionOrigin is the origin of what the definition brings and declares.
const definitionOrigin = "definition"

func newLayout(c Config) (*layout, error) {
	l := &layout{
		Config:   c,
		entries:  map[string]tree.Entry{".": {Path: ".", Type: tree.Dir, Perm: 0o755, Owner: definitionOrigin}},
		names:    map[string][]string{},
		packages: map[string]*unpacked{},
		made:     newMemory("small files"),
	}
	var errs []error
	for _, p := range c.Packages {
		u, err := open(p)
		if err != nil {
			errs = append(errs, fmt.Errorf("package %s: %w", p.Name, err))
			continue
		}
		if l.packages[origin(p.Name)] != nil {
			errs = append(errs, fmt.Errorf("package %s is given twice", p.Name))
			continue
		}
		l.packages[origin(p.Name)] = u
		l.sorted = append(l.sorted, u)
	}
	// dpkg leaves a directory as its first package made it, and base-files is
	// the first that an installer unpacks.
	slices.SortFunc(l.sorted, func(a, b *unpacked) int {
		if first := "base-files"; a.Name == first || b.Name == first {
			return map[bool]int{true: -1, false: 1}[a.Name == first]
		}
		return strings.Compare(a.Name, b.Name)
	})
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if err := l.readControls(); err != nil {
		return nil, fmt.Errorf("reading control files: %w", err)
	}
	return l, nil
}

// has says whether the package is part of the image.
func (l *layout) has(pkg string) bool { return l.packages[origin(pkg)] != nil }

// ConflictError says that two sources bring the same file.
type ConflictError struct {
	Path          string // absolute
	First, Second string // origins: "package coreutils", "component kubelet"
}

func (e *ConflictError) Error() string {
	return fmt.Sprintf("%s comes from both %s and %s", e.Path, e.First, e.Second)
}

// add puts an entry where nothing may be but a directory of the same path or
// the same symbolic link. It reports whether e was used.
func (l *layout) add(e tree.Entry) (bool, error) {
	old, ok := l.entries[e.Path]
	switch {
	case !ok:
		l.put(e)
		return true, nil
	case old.Type == tree.Dir && e.Type == tree.Dir:
		return true, nil
	case old.Type == tree.Symlink && e.Type == tree.Symlink && old.Link == e.Link:
		return true, nil
	}
	return false, &ConflictError{"/" + e.Path, old.Owner, e.Owner}
}

// addOverlay puts the definition's files over those of the packages.
func (l *layout) addOverlay() error {
	m := newMemory("files of the image definition")
	for _, f := range l.Definition.Overlay {
		p := l.place(f.Path)
		if old, ok := l.entries[p]; ok {
			if old.Type != tree.File && old.Type != tree.Hardlink && old.Type != tree.Symlink {
				return fmt.Errorf("files/%s: the image has a %s there, from %s", f.Path, old.Type, old.Owner)
			}
			if owner := l.packages[old.Owner]; owner != nil {
				ok, err := owner.isConffile(&l.content, "/"+f.Path)
				if err != nil {
					return err
				}
				if !ok {
					return fmt.Errorf("files/%s: the file of %s is not a configuration file, which alone may be changed (configure it by another file, or divert it)", f.Path, old.Owner)
				}
			}
		}
		l.put(m.add(tree.Entry{Path: p, Type: tree.File, Perm: f.Mode, Size: int64(len(f.Content)), Owner: definitionOrigin}, f.Content))
	}
	return m.close()
}

func (l *layout) addComponents() error {
	var errs []error
	components := slices.Clone(l.Components)
	slices.SortFunc(components, func(a, b Component) int { return strings.Compare(a.Name, b.Name) })
	for _, c := range components {
		for _, e := range c.Pack.Entries {
			e.Owner = "component " + c.Name
			errs = append(errs, l.addPlaced(e))
		}
	}
	return errors.Join(errs...)
}

func (l *layout) addExtra() error {
	var errs []error
	for _, e := range l.Extra {
		if e.Owner == "" {
			e.Owner = "bake"
		}
		errs = append(errs, l.addPlaced(e))
	}
	return errors.Join(errs...)
}

// addPlaced adds an entry of a pack that holds what its hard links name.
func (l *layout) addPlaced(e tree.Entry) error {
	e.Path = l.place(e.Path)
	if e.Type == tree.Hardlink {
		e.Link = l.place(e.Link)
	}
	_, err := l.add(e)
	return err
}

// make puts a small file of our own, owned by root.
func (l *layout) make(p string, mode uint16, content []byte) {
	l.makeOwned(p, mode, 0, 0, content)
}

func (l *layout) makeOwned(p string, mode uint16, uid, gid uint32, content []byte) {
	l.put(l.made.add(tree.Entry{
		Path: l.place(p), Type: tree.File, Perm: mode, UID: uid, GID: gid,
		Size: int64(len(content)), Owner: definitionOrigin,
	}, content))
}

// link puts a symbolic link of our own.
func (l *layout) link(p, to string) {
	l.put(tree.Entry{Path: l.place(p), Type: tree.Symlink, Perm: 0o777, Link: to, Owner: definitionOrigin})
}

// below returns the paths below dir, sorted.
func (l *layout) below(dir string) []string {
	var out []string
	for p := range l.entries {
		if strings.HasPrefix(p, dir+"/") {
			out = append(out, p)
		}
	}
	slices.Sort(out)
	return out
}

// addParents makes the directories that nobody brought. The first of the paths
// below one decides its origin, which the record has.
func (l *layout) addParents() {
	missing := map[string]string{} // by directory
	for p := range l.entries {
		for dir := path.Dir(p); ; dir = path.Dir(dir) {
			if _, ok := l.entries[dir]; ok {
				break
			}
			if first, ok := missing[dir]; !ok || p < first {
				missing[dir] = p
			}
		}
	}
	for dir, first := range missing {
		l.put(tree.Entry{Path: dir, Type: tree.Dir, Perm: 0o755, Owner: l.entries[first].Owner})
	}
}

// tree finishes the layout: small files, missing parents and times.
func (l *layout) tree() (*tree.Tree, error) {
	if err := l.made.close(); err != nil {
		return nil, err
	}
	l.addParents()
	if err := l.checkNames(); err != nil {
		return nil, err
	}
	entries := make([]tree.Entry, 0, len(l.entries))
	for _, e := range l.entries {
		// The time of a directory says when it was last changed, which is now.
		if e.MTime == 0 || e.MTime > l.Epoch || e.Type == tree.Dir {
			e.MTime = l.Epoch
		}
		entries = append(entries, e)
	}
	return tree.New(entries)
}

// checkNames refuses names that the image's record, which is JSON, can't hold.
func (l *layout) checkNames() error {
	var errs []error
	for _, p := range sortedKeys(l.entries) {
		e := l.entries[p]
		if !utf8.ValidString(p) {
			errs = append(errs, fmt.Errorf("%s has a file with the name %q, which is not UTF-8 and so can't be recorded (leave it out)", e.Owner, "/"+p))
		} else if e.Type == tree.Symlink && !utf8.ValidString(e.Link) {
			errs = append(errs, fmt.Errorf("%s has /%s as a symbolic link to %q, which is not UTF-8 and so can't be recorded (leave it out)", e.Owner, p, e.Link))
		}
	}
	return errors.Join(errs...)
}
