package rootfs

import (
	"errors"
	"fmt"
	"iter"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/merge"
	"github.com/nodebake/bake/bake/tree"
)

// scripts yields what the definition declares for the packages of this image.
func (l *layout) scripts() iter.Seq2[int, manifest.PackageScripts] {
	return func(yield func(int, manifest.PackageScripts) bool) {
		for i, s := range l.Definition.Configure {
			if l.Has(s.Package) && (s.Suite == "" || s.Suite == l.Suite) && !yield(i, s) {
				return
			}
		}
	}
}

// local is the package of a diversion that the administrator of a system has
// made, in whose place we are (dpkg-divert(1)).
const local = ":"

// diversions returns our own and the declared diversions by the path that they
// move.
func (l *layout) diversions() map[string]merge.Diversion {
	out := map[string]merge.Diversion{releasePath: {To: releasePath + ".distrib", Package: local}}
	for _, s := range l.scripts() {
		for _, d := range s.Diversions {
			out[d.Path] = merge.Diversion{To: d.To, Package: s.Package}
		}
	}
	return out
}

// applyScripts does what the definition declares for the packages.
func (l *layout) applyScripts() error {
	var errs []error
	for _, s := range l.scripts() {
		for _, n := range s.Directories {
			errs = append(errs, at(n.Pos, l.directory(n)))
		}
		for _, n := range s.Empty {
			errs = append(errs, at(n.Pos, l.empty(n)))
		}
		for _, c := range s.Copies {
			errs = append(errs, at(c.Pos, l.copy(c)))
		}
		for _, k := range s.Symlinks {
			errs = append(errs, at(k.Pos, l.declaredLink(k)))
		}
		for _, n := range slices.Concat(s.Permissions, s.Overrides) {
			errs = append(errs, at(n.Pos, l.setPermissions(n)))
		}
	}
	errs = append(errs, l.alternatives())
	return errors.Join(errs...)
}

// at names the place of the definition that an error is about.
func at(pos manifest.Pos, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", pos, err)
}

func (l *layout) directory(n manifest.PathSpec) error {
	uid, gid, err := l.accounts.Owner(n.Owner, n.Group)
	if err != nil {
		return err
	}
	if old, ok := l.At(n.Path); ok {
		return fmt.Errorf("%s exists already, as a %s of %s (to change its owner or mode, declare it under permissions)", n.Path, old.Type, old.Owner)
	}
	l.Put(tree.Entry{Path: l.Place(n.Path), Type: tree.Dir, Perm: n.Mode, UID: uid, GID: gid, Owner: definitionOrigin})
	return nil
}

func (l *layout) empty(n manifest.PathSpec) error {
	uid, gid, err := l.accounts.Owner(n.Owner, n.Group)
	if err != nil {
		return err
	}
	if old, ok := l.At(n.Path); ok {
		return fmt.Errorf("%s exists already, from %s", n.Path, old.Owner)
	}
	l.makeOwned(n.Path, n.Mode, uid, gid, nil)
	return nil
}

// copy shares the content of the file that is copied.
func (l *layout) copy(c manifest.Copy) error {
	e, ok := l.File(c.From)
	if !ok {
		return fmt.Errorf("%s is not a file of the image", c.From)
	}
	if old, ok := l.At(c.To); ok {
		return fmt.Errorf("%s exists already, from %s", c.To, old.Owner)
	}
	e.Path = l.Place(c.To)
	if c.Mode != 0 {
		e.Perm = c.Mode
	}
	l.Put(e)
	return nil
}

// declaredLink makes a symbolic link. It may take the place of an empty directory,
// as /var/run does.
func (l *layout) declaredLink(k manifest.Link) error {
	p := l.Place(k.Path)
	if old, ok := l.Entries[p]; ok {
		if old.Type != tree.Dir {
			return fmt.Errorf("%s exists already, from %s", k.Path, old.Owner)
		}
		for child := range l.Entries {
			if strings.HasPrefix(child, p+"/") {
				return fmt.Errorf("%s is a directory of %s that holds /%s", k.Path, old.Owner, child)
			}
		}
	}
	l.link(p, k.To)
	return nil
}

func (l *layout) setPermissions(n manifest.PathSpec) error {
	uid, gid, err := l.accounts.Owner(n.Owner, n.Group)
	if err != nil {
		return err
	}
	e, ok := l.At(n.Path)
	if !ok {
		return fmt.Errorf("%s is not in the image", n.Path)
	}
	switch e.Type {
	case tree.Hardlink: // its inode is the file's
		e = l.Entries[e.Link]
	case tree.Symlink:
		return fmt.Errorf("%s is a symbolic link to %s and has no permissions of its own (declare those of what it leads to)", n.Path, e.Link)
	}
	e.UID, e.GID, e.Perm = uid, gid, n.Mode
	l.Entries[e.Path] = e // at all its names
	return nil
}

// alternatives links each name to its best program and writes what
// update-alternatives remembers.
func (l *layout) alternatives() error {
	groups := map[string][]manifest.Alternative{}
	var errs []error
	for _, s := range l.scripts() {
		for _, a := range s.Alternatives {
			if _, ok := l.At(a.Path); !ok {
				errs = append(errs, fmt.Errorf("%s: %s is not in the image", a.Pos, a.Path))
				continue
			}
			groups[a.Name] = append(groups[a.Name], a)
		}
	}
	for _, name := range sortedKeys(groups) {
		errs = append(errs, l.alternative(name, groups[name]))
	}
	return errors.Join(errs...)
}

func (l *layout) alternative(name string, choices []manifest.Alternative) error {
	// The file lists choices by path; the best is the first of the highest priority.
	slices.SortFunc(choices, func(a, b manifest.Alternative) int { return strings.Compare(a.Path, b.Path) })
	best := choices[0]
	slaves := map[string]string{} // links by name, over all choices
	for _, c := range choices {
		if c.Link != best.Link {
			return fmt.Errorf("%s: alternative %s has the link %s here and %s elsewhere", c.Pos, name, c.Link, best.Link)
		}
		if c.Priority > best.Priority {
			best = c
		}
		for _, slave := range c.Slaves {
			slaves[slave.Name] = slave.Link
		}
	}
	var state strings.Builder
	fmt.Fprintf(&state, "auto\n%s\n", best.Link)
	for _, slave := range sortedKeys(slaves) {
		fmt.Fprintf(&state, "%s\n%s\n", slave, slaves[slave])
	}
	state.WriteString("\n")
	for _, c := range choices {
		fmt.Fprintf(&state, "%s\n%d\n", c.Path, c.Priority)
		for _, slave := range sortedKeys(slaves) {
			target := ""
			if i := slices.IndexFunc(c.Slaves, func(s manifest.Alternative) bool { return s.Name == slave }); i >= 0 {
				target = c.Slaves[i].Path
			}
			state.WriteString(target + "\n")
		}
	}
	state.WriteString("\n")
	l.make(path.Join(dpkgDir, "alternatives", name), 0o644, []byte(state.String()))

	for _, a := range append([]manifest.Alternative{best}, best.Slaves...) {
		if old, ok := l.At(a.Link); ok {
			return fmt.Errorf("%s: alternative %s: %s exists already, from %s", a.Pos, a.Name, a.Link, old.Owner)
		}
		l.link(a.Link, "/etc/alternatives/"+a.Name)
		l.link("/etc/alternatives/"+a.Name, a.Path)
	}
	return nil
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
