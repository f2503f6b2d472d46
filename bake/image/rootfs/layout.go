package rootfs

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/nodebake/bake/bake/tree"
)

// layout is the tree while it is being put together: entries by path, where no
// path goes through one of the links that merge / into /usr.
type layout struct {
	Config
	entries  map[string]tree.Entry
	packages map[string]*unpacked // by origin
	sorted   []*unpacked          // base-files, then by name
	content  reader
	accounts accounts
	made     *memory // what is small and made anew each time
}

// usrLinks are the links that merge / into /usr. Debian's packages may still
// name files below them; trixie's base-files has the links and bookworm's has
// directories, which the installer replaces.
var usrLinks = [...]string{"bin", "sbin", "lib", "lib32", "lib64", "libx32", "libo32"}

// canonical rewrites a path that goes through a link of usrLinks.
func canonical(p string) string {
	top, _, _ := strings.Cut(p, "/")
	for _, link := range usrLinks {
		if top == link {
			return "usr/" + p
		}
	}
	return p
}

func origin(pkg string) string { return "package " + pkg }

// definitionOrigin is the origin of what the definition brings and declares.
const definitionOrigin = "definition"

func newLayout(c Config) (*layout, error) {
	l := &layout{
		Config:   c,
		entries:  map[string]tree.Entry{".": {Path: ".", Type: tree.Dir, Perm: 0o755, Origin: definitionOrigin}},
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

// at returns the entry at p, an absolute or relative path in the image.
func (l *layout) at(p string) (tree.Entry, bool) {
	e, ok := l.entries[canonical(strings.TrimPrefix(p, "/"))]
	return e, ok
}

// put sets an entry whatever was there.
func (l *layout) put(e tree.Entry) { l.entries[e.Path] = e }

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
	e.Path = canonical(e.Path)
	if e.Type == tree.Hardlink {
		e.Link = canonical(e.Link)
	}
	old, ok := l.entries[e.Path]
	switch {
	case !ok:
		l.entries[e.Path] = e
		return true, nil
	case old.Type == tree.Dir && e.Type == tree.Dir:
		return true, nil
	case old.Type == tree.Symlink && e.Type == tree.Symlink && old.Link == e.Link:
		return true, nil
	}
	return false, &ConflictError{"/" + e.Path, old.Origin, e.Origin}
}

// addPackages lays the packages' files over each other as dpkg would.
func (l *layout) addPackages() error {
	diversions := l.diversions()
	var errs []error
	for _, u := range l.sorted {
		for _, e := range u.data() {
			e.Origin = origin(u.Name)
			if e.Type == tree.Symlink && slices.Contains(usrLinks[:], e.Path) {
				continue // made below
			}
			if d, ok := diversions["/"+e.Path]; ok && d.pkg != u.Name {
				e.Path = strings.TrimPrefix(d.to, "/")
			}
			_, err := l.add(e)
			var conflict *ConflictError
			if errors.As(err, &conflict) {
				err = l.replace(u, e, conflict)
			}
			errs = append(errs, err)
		}
	}
	for _, link := range usrLinks {
		if l.hasDirectory("usr/" + link) {
			l.put(tree.Entry{Path: link, Type: tree.Symlink, Perm: 0o777, Link: "usr/" + link, Origin: origin("base-files")})
		}
	}
	return errors.Join(errs...)
}

// hasDirectory says whether there is something at or below p.
func (l *layout) hasDirectory(p string) bool {
	if _, ok := l.entries[p]; ok {
		return true
	}
	for child := range l.entries {
		if strings.HasPrefix(child, p+"/") {
			return true
		}
	}
	return false
}

// replace settles a conflict by the packages' Replaces fields (Debian policy,
// section 7.6.1): the file belongs to the package that replaces the other.
func (l *layout) replace(u *unpacked, e tree.Entry, conflict *ConflictError) error {
	other := l.packages[conflict.First]
	if other == nil {
		return conflict
	}
	p := canonical(e.Path)
	switch {
	case u.replaces(other):
		other.lost[p] = true
		e.Path = p
		if e.Type == tree.Hardlink {
			e.Link = canonical(e.Link)
		}
		l.put(e)
	case other.replaces(u):
		u.lost[p] = true
	default:
		return conflict
	}
	return nil
}

// addOverlay puts the definition's files over those of the packages.
func (l *layout) addOverlay() error {
	m := newMemory("files of the image definition")
	for _, f := range l.Definition.Overlay {
		p := canonical(f.Path)
		if old, ok := l.entries[p]; ok {
			if old.Type != tree.File && old.Type != tree.Symlink {
				return fmt.Errorf("files/%s: the image has a %s there, from %s", f.Path, old.Type, old.Origin)
			}
			if owner := l.packages[old.Origin]; owner != nil {
				ok, err := owner.isConffile(&l.content, "/"+f.Path)
				if err != nil {
					return err
				}
				if !ok {
					return fmt.Errorf("files/%s: the file of %s is not a configuration file, which alone may be changed (configure it by another file, or divert it)", f.Path, old.Origin)
				}
			}
		}
		l.put(m.add(tree.Entry{Path: p, Type: tree.File, Perm: f.Mode, Size: int64(len(f.Content)), Origin: definitionOrigin}, f.Content))
	}
	return m.close()
}

func (l *layout) addComponents() error {
	var errs []error
	components := slices.Clone(l.Components)
	slices.SortFunc(components, func(a, b Component) int { return strings.Compare(a.Name, b.Name) })
	for _, c := range components {
		for _, e := range c.Pack.Entries {
			e.Origin = "component " + c.Name
			_, err := l.add(e)
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (l *layout) addExtra() error {
	var errs []error
	for _, e := range l.Extra {
		if e.Origin == "" {
			e.Origin = "bake"
		}
		_, err := l.add(e)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// make puts a small file of our own, owned by root.
func (l *layout) make(p string, mode uint16, content []byte) {
	l.makeOwned(p, mode, 0, 0, content)
}

func (l *layout) makeOwned(p string, mode uint16, uid, gid uint32, content []byte) {
	l.put(l.made.add(tree.Entry{
		Path: canonical(strings.TrimPrefix(p, "/")), Type: tree.File, Perm: mode, UID: uid, GID: gid,
		Size: int64(len(content)), Origin: definitionOrigin,
	}, content))
}

// link puts a symbolic link of our own.
func (l *layout) link(p, to string) {
	l.put(tree.Entry{Path: canonical(strings.TrimPrefix(p, "/")), Type: tree.Symlink, Perm: 0o777, Link: to, Origin: definitionOrigin})
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
		l.put(tree.Entry{Path: dir, Type: tree.Dir, Perm: 0o755, Origin: l.entries[first].Origin})
	}
}

// tree finishes the layout: small files, missing parents and times.
func (l *layout) tree() (*tree.Tree, error) {
	if err := l.made.close(); err != nil {
		return nil, err
	}
	l.addParents()
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
