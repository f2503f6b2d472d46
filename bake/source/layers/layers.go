// Package layers makes the files of a container image's layer out of Debian
// packages, as package rootfs makes those of a disk: what dpkg would have laid down,
// and nothing that a maintainer script would have done.
//
// It adds what makes an image of them that can be used: users and groups with fixed
// numbers and those of sysusers.d where base-passwd is among the packages, the
// directories and links that the versions file asks for, and for scanners what is
// installed, below /var/lib/dpkg/status.d, as distroless images have it. Documentation
// is left out, but for copyright files.
//
// Limits: users that only a maintainer script would have made are not there; no
// devices, FIFOs or sockets.
package layers

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/nodebake/bake/bake/accounts"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/merge"
	"github.com/nodebake/bake/bake/tree"
)

// Config is what Compose makes a tree of.
type Config struct {
	Image    manifest.ContainerImage // its Paths are added, and its program must be there
	Packages []merge.Package         // in any order
	Programs []string                // absolute paths of files that are to be in a layer above this one
	Derive   merge.Derive            // nil stands for making packs in memory
}

// owner has what no package has brought.
const owner = "versions file"

// searchPath is where a program without a slash in its name is looked for.
const searchPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Composed is what Compose makes.
type Composed struct {
	Tree     *tree.Tree // in which everything is of the year 1970
	Programs []string   // absolute: where those of Config belong, whose paths may go through links of Tree
	Start    string     // path in Tree of the program that the image starts; "": of none, or of one that is not in Tree
}

// Compose returns the files of c. Errors are a [manifest.InputError], or join such, where
// the versions file is to be changed: they name the packages and files they are about.
func Compose(c Config) (*Composed, error) {
	l, err := merge.New(c.Packages, owner, c.Derive)
	if err != nil {
		return nil, err
	}
	if err := l.AddPackages(nil); err != nil {
		return nil, blame(&c.Image, err)
	}
	dropDocumentation(l)
	if err := addAccounts(l); err != nil {
		return nil, blame(&c.Image, err)
	}
	if err := addStatus(l); err != nil {
		return nil, err
	}
	if err := addPaths(l, c.Image.Paths); err != nil {
		return nil, err
	}
	l.AddParents()
	if err := errors.Join(checkEntries(l), l.CheckNames()); err != nil {
		return nil, blame(&c.Image, err)
	}
	out := &Composed{}
	if out.Programs, err = placePrograms(l, &c); err != nil {
		return nil, err
	}
	if out.Start, err = findStart(l, &c, out.Programs); err != nil {
		return nil, err
	}
	entries := make([]tree.Entry, 0, len(l.Entries))
	for _, e := range l.Entries {
		e.MTime = 0
		entries = append(entries, e)
	}
	out.Tree, err = tree.New(entries)
	return out, err
}

// blame says of each problem that the packages of an image have where they are asked
// for.
func blame(image *manifest.ContainerImage, err error) error {
	problems := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		problems = joined.Unwrap()
	}
	var errs []error
	for _, p := range problems {
		if joined, ok := p.(interface{ Unwrap() []error }); ok {
			errs = append(errs, blame(image, errors.Join(joined.Unwrap()...)))
			continue
		}
		text := p.Error()
		if !strings.HasSuffix(text, ")") {
			text += " (name other packages)"
		}
		errs = append(errs, &manifest.InputError{Pos: image.PackagesPos, Key: "images." + image.Name + ".packages", Problem: text})
	}
	return errors.Join(errs...)
}

// placePrograms returns where the programs of c belong. A layer that had one below a
// link of the layer under it, such as /bin of merged /usr, would have a directory in
// place of the link, and all that is behind it were gone.
func placePrograms(l *merge.Layout, c *Config) ([]string, error) {
	var errs []error
	problem := func(program, format string, args ...any) {
		pos := c.Image.Pos
		if c.Image.Module != nil {
			pos = c.Image.Module.Pos
			for _, p := range c.Image.Module.Programs {
				if p.Path == program {
					pos = p.Pos
				}
			}
		}
		errs = append(errs, &manifest.InputError{Pos: pos, Key: "images." + c.Image.Name + ".module.programs",
			Problem: program + ": " + fmt.Sprintf(format, args...) + " (choose another path)"})
	}
	var out []string
	for _, program := range c.Programs {
		p := l.Place(program)
		if e, ok := l.Entries[p]; ok {
			problem(program, "%s has a %s there", e.Owner, e.Type)
		} else if slices.Contains(out, "/"+p) {
			problem(program, "another program is there by a link")
		}
		for dir := path.Dir(p); dir != "."; dir = path.Dir(dir) {
			if e, ok := l.Entries[dir]; ok && e.Type != tree.Dir {
				problem(program, "/%s above it is a %s of %s", dir, e.Type, e.Owner)
			}
		}
		out = append(out, "/"+p)
	}
	return out, errors.Join(errs...)
}

// whiteout begins the names that say in a layer that a file of another one is gone
// (OCI image specification, "Whiteouts").
const whiteout = ".wh."

// checkEntries refuses what a layer can't have.
func checkEntries(l *merge.Layout) error {
	var errs []error
	for p, e := range l.Entries {
		switch e.Type {
		case tree.File, tree.Dir, tree.Symlink, tree.Hardlink:
		default:
			errs = append(errs, fmt.Errorf("%s has /%s, a %s, which an image of packages can't have", e.Owner, p, e.Type))
		}
		if strings.HasPrefix(path.Base(p), whiteout) {
			errs = append(errs, fmt.Errorf("%s has /%s: in an image that name deletes another file", e.Owner, p))
		}
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(errs...)
}

// dropDocumentation removes what people read, but for copyright files, which must
// go where the programs go.
func dropDocumentation(l *merge.Layout) {
	for _, dir := range []string{"usr/share/doc", "usr/share/doc-base", "usr/share/man", "usr/share/info", "usr/share/lintian", "usr/share/bug"} {
		for _, p := range l.Below(dir) {
			e := l.Entries[p]
			copyright := dir == "usr/share/doc" && (path.Base(p) == "copyright" || e.Type == tree.Symlink && path.Dir(p) == dir)
			if !copyright {
				l.Remove(p)
			}
		}
		if dir != "usr/share/doc" {
			l.Remove(dir)
		}
	}
}

// addAccounts makes the users and groups that every Debian has and those that packages
// declare in sysusers.d, where base-passwd is among the packages. None has a password,
// and a file that a package has stays.
func addAccounts(l *merge.Layout) error {
	if !l.Has("base-passwd") {
		return nil
	}
	var all accounts.Accounts
	if err := errors.Join(all.ReadMasters(l), all.ApplySysusers(l)); err != nil {
		return err
	}
	passwd, group := all.Unshadowed()
	small := merge.NewMemory("users and groups")
	for _, f := range []struct {
		path string
		text []byte
	}{{"etc/passwd", passwd}, {"etc/group", group}} {
		if _, there := l.Entries[f.path]; !there {
			e := tree.Entry{Path: f.path, Type: tree.File, Perm: 0o644, Size: int64(len(f.text)), Owner: merge.Owner("base-passwd")}
			l.Put(small.Add(e, f.text))
		}
	}
	return small.Close()
}

// addStatus says what is installed, as dpkg's database would, a file for each package.
func addStatus(l *merge.Layout) error {
	const dir = "var/lib/dpkg/status.d"
	small := merge.NewMemory("dpkg status")
	for _, u := range l.Sorted {
		text := []byte(u.Control.Status(nil))
		l.Put(small.Add(tree.Entry{Path: path.Join(dir, u.Name), Type: tree.File, Perm: 0o644, Size: int64(len(text)), Owner: merge.Owner(u.Name)}, text))
		if sums, ok := u.Members["md5sums"]; ok {
			sums.Path, sums.Perm, sums.Owner = path.Join(dir, u.Name+".md5sums"), 0o644, merge.Owner(u.Name)
			l.Put(sums)
		}
	}
	return small.Close()
}

// addPaths adds the directories and links of the versions file. A directory that is
// there gets its mode and owner; a link takes no other file's place.
func addPaths(l *merge.Layout, paths []manifest.ImagePath) error {
	var errs []error
	for _, p := range paths {
		e := tree.Entry{Path: l.Place(p.Path), Type: tree.Dir, Perm: p.Mode, UID: p.UID, GID: p.GID, Owner: owner}
		if p.Link != "" {
			e = tree.Entry{Path: e.Path, Type: tree.Symlink, Perm: 0o777, Link: p.Link, Owner: owner}
		}
		old, there := l.Entries[e.Path]
		switch {
		case !there, old.Type == tree.Dir && e.Type == tree.Dir:
			l.Put(e)
		case old.Type == tree.Symlink && old.Link == e.Link && e.Type == tree.Symlink:
		default:
			errs = append(errs, &manifest.InputError{Pos: p.Pos, Key: p.Key, Problem: fmt.Sprintf(
				"%s has a %s at %s (remove this entry, or the package)", old.Owner, old.Type, p.Path)})
		}
	}
	// What stands above a path may be no directory.
	for _, p := range paths {
		for dir := path.Dir(l.Place(p.Path)); dir != "."; dir = path.Dir(dir) {
			if e, ok := l.Entries[dir]; ok && e.Type != tree.Dir {
				errs = append(errs, &manifest.InputError{Pos: p.Pos, Key: p.Key, Problem: fmt.Sprintf(
					"/%s above it is a %s of %s (choose another path)", dir, e.Type, e.Owner)})
			}
		}
	}
	return errors.Join(errs...)
}

// findStart returns the path of the program that the image starts, which must be there;
// "" where there is none, or it is one of programs, which are in another layer.
func findStart(l *merge.Layout, c *Config, programs []string) (string, error) {
	start, key := c.Image.Entrypoint, "entrypoint"
	if len(start) == 0 {
		start, key = c.Image.Command, "command"
	}
	if len(start) == 0 || key == "command" && c.Image.Module != nil {
		return "", nil // its own program is the entry point
	}
	program := start[0]
	places := []string{program}
	if !strings.Contains(program, "/") {
		places = nil
		search := searchPath
		for _, kv := range c.Image.Environment {
			if v, ok := strings.CutPrefix(kv, "PATH="); ok {
				search = v
			}
		}
		for dir := range strings.SplitSeq(search, ":") {
			places = append(places, path.Join("/", dir, program))
		}
	}
	for _, p := range places {
		if slices.Contains(programs, "/"+l.Place(p)) {
			return "", nil
		}
		if e, err := l.Resolve(p); err == nil && e.Type == tree.File && e.Perm&0o111 != 0 {
			return e.Path, nil
		}
	}
	return "", &manifest.InputError{Pos: c.Image.StartPos, Key: "images." + c.Image.Name + "." + key, Problem: fmt.Sprintf(
		"%s is no program of the image (name one of its packages' by its path, or add the package that has it)", program)}
}
