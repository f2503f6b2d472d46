// Package merge lays the files of Debian packages over each other, as dpkg would
// have laid them: Replaces, diversions, links to directories, hard links, merged
// /usr. The root filesystem of an image is made of packages so, and a layer of a
// container image.
//
// Packages are unpacked and never configured: no maintainer script is run, and
// none is read. What such scripts would have done is for the caller to add.
//
// Limits: one architecture without foreign packages; merged /usr only.
package merge

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/tree"
)

// Package is one unpacked .deb: its pack holds the control members below
// DEBIAN/ and the data members at their paths.
type Package struct {
	manifest.LockedPackage
	Pack *tree.Pack
}

// Derive returns the pack that make writes, or one that an earlier make wrote
// under the same key, bound.
type Derive func(key string, make func(w *tree.PackWriter) error) (*tree.Pack, error)

// Layout is a tree while it is being put together: entries by path, where no
// path goes through a symbolic link. Only Put changes which entries there are.
type Layout struct {
	Entries map[string]tree.Entry
	ByOwner map[string]*Unpacked // packages by what they are called as the owner of entries
	Sorted  []*Unpacked          // base-files, then by name
	Content Reader

	names map[string][]string // hard links by the path of their file
}

// Owner is what a package is called as the owner of entries.
func Owner(pkg string) string { return "package " + pkg }

// New returns a layout of packages, whose root directory owner has. [Layout.AddPackages]
// adds their files. derive nil stands for making packs in memory.
func New(packages []Package, owner string, derive Derive) (*Layout, error) {
	if derive == nil {
		derive = tree.NewPack
	}
	l := &Layout{
		Entries: map[string]tree.Entry{".": {Path: ".", Type: tree.Dir, Perm: 0o755, Owner: owner}},
		ByOwner: map[string]*Unpacked{},
		names:   map[string][]string{},
	}
	var errs []error
	for _, p := range packages {
		u, err := open(p)
		if err != nil {
			errs = append(errs, fmt.Errorf("package %s: %w", p.Name, err))
			continue
		}
		if l.Has(p.Name) {
			errs = append(errs, fmt.Errorf("package %s is given twice", p.Name))
			continue
		}
		l.ByOwner[Owner(p.Name)] = u
		l.Sorted = append(l.Sorted, u)
	}
	// dpkg leaves a directory as its first package made it, and base-files is
	// the first that an installer unpacks.
	slices.SortFunc(l.Sorted, func(a, b *Unpacked) int {
		if first := "base-files"; a.Name == first || b.Name == first {
			return map[bool]int{true: -1, false: 1}[a.Name == first]
		}
		return strings.Compare(a.Name, b.Name)
	})
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if err := l.readControls(derive); err != nil {
		return nil, fmt.Errorf("reading control files: %w", err)
	}
	return l, nil
}

// Has says whether the package is part of the image.
func (l *Layout) Has(pkg string) bool { return l.ByOwner[Owner(pkg)] != nil }

// ConflictError says that two sources bring the same file.
type ConflictError struct {
	Path          string // absolute
	First, Second string // owners: "package coreutils", "component kubelet"
}

func (e *ConflictError) Error() string {
	return fmt.Sprintf("%s comes from both %s and %s", e.Path, e.First, e.Second)
}

// Add puts an entry where nothing may be but a directory of the same path or
// the same symbolic link. It reports whether e was used.
func (l *Layout) Add(e tree.Entry) (bool, error) {
	old, ok := l.Entries[e.Path]
	switch {
	case !ok:
		l.Put(e)
		return true, nil
	case old.Type == tree.Dir && e.Type == tree.Dir:
		return true, nil
	case old.Type == tree.Symlink && e.Type == tree.Symlink && old.Link == e.Link:
		return true, nil
	}
	return false, &ConflictError{"/" + e.Path, old.Owner, e.Owner}
}

// AddPlaced adds an entry of a pack that holds what its hard links name.
func (l *Layout) AddPlaced(e tree.Entry) error {
	e.Path = l.Place(e.Path)
	if e.Type == tree.Hardlink {
		e.Link = l.Place(e.Link)
	}
	_, err := l.Add(e)
	return err
}

// Below returns the paths below dir, sorted.
func (l *Layout) Below(dir string) []string {
	var out []string
	for p := range l.Entries {
		if strings.HasPrefix(p, dir+"/") {
			out = append(out, p)
		}
	}
	slices.Sort(out)
	return out
}

// AddParents makes the directories that nobody brought. The first of the paths
// below one decides its owner, which the record has.
func (l *Layout) AddParents() {
	missing := map[string]string{} // by directory
	for p := range l.Entries {
		for dir := path.Dir(p); ; dir = path.Dir(dir) {
			if _, ok := l.Entries[dir]; ok {
				break
			}
			if first, ok := missing[dir]; !ok || p < first {
				missing[dir] = p
			}
		}
	}
	for dir, first := range missing {
		l.Put(tree.Entry{Path: dir, Type: tree.Dir, Perm: 0o755, Owner: l.Entries[first].Owner})
	}
}

// CheckNames refuses names that are not UTF-8: records are JSON, and can't hold them.
func (l *Layout) CheckNames() error {
	var errs []error
	for _, p := range sortedKeys(l.Entries) {
		e := l.Entries[p]
		if !utf8.ValidString(p) {
			errs = append(errs, fmt.Errorf("%s has a file with the name %q, which is not UTF-8 and so can't be recorded (leave it out)", e.Owner, "/"+p))
		} else if e.Type == tree.Symlink && !utf8.ValidString(e.Link) {
			errs = append(errs, fmt.Errorf("%s has /%s as a symbolic link to %q, which is not UTF-8 and so can't be recorded (leave it out)", e.Owner, p, e.Link))
		}
	}
	return errors.Join(errs...)
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
