package merge

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/nodebake/bake/bake/tree"
)

// Diversion moves a file of packages (dpkg-divert(1)).
type Diversion struct {
	To      string // absolute
	Package string // whose file at the path stays there
}

// AddPackages lays the packages' files over each other as dpkg would, had it
// unpacked each package before those that replace its files, divert them or have
// files below its links. Diversions are by the path, absolute, that they move.
func (l *Layout) AddPackages(diversions map[string]Diversion) error {
	p := l.newPlacer(diversions)
	var errs []error
	for _, u := range l.Sorted {
		errs = append(errs, l.addPackage(u, p))
	}
	for _, link := range usrLinks {
		if l.hasDirectory("usr/" + link) {
			l.Put(tree.Entry{Path: link, Type: tree.Symlink, Perm: 0o777, Link: "usr/" + link, Owner: Owner("base-files")})
		}
	}
	return errors.Join(errs...)
}

func (l *Layout) addPackage(u *Unpacked, p *placer) error {
	var errs []error
	files := map[string]tree.Entry{} // of the package, by their paths there
	now := map[string]string{}       // where these are in the image
	for _, e := range u.Data() {
		e.Owner = Owner(u.Name)
		own, file := e.Path, e.Path
		switch e.Type {
		case tree.Symlink:
			if _, ok := usrLink(own); ok {
				continue // addPackages makes them
			}
		case tree.File:
			files[own] = e
		case tree.Hardlink:
			// The name of a file that another package replaced, or that is to
			// have this name alone, gets the content.
			if file = e.Link; now[file] == "" {
				e = files[file]
			} else {
				e.Link = now[file]
			}
		}
		var err error
		if e.Path, err = p.place(u, own, e.Type); err != nil {
			errs = append(errs, err)
			continue
		}
		if e.Path == "" {
			continue // said already
		}
		if e.Path != own {
			u.own[e.Path] = own
		}
		used, err := l.Add(e)
		if conflict, ok := errors.AsType[*ConflictError](err); ok {
			used, err = l.replace(u, e, conflict)
		}
		if used && e.Type == tree.File {
			now[file] = e.Path
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// replace settles a conflict by the packages' Replaces fields (Debian policy,
// section 7.6.1): the file belongs to the package that replaces the other. It
// reports whether e was used.
func (l *Layout) replace(u *Unpacked, e tree.Entry, conflict *ConflictError) (bool, error) {
	other := l.ByOwner[conflict.First]
	if other == nil {
		return false, conflict
	}
	first, err := u.replaces(other)
	if err != nil {
		return false, err
	}
	second, err := other.replaces(u)
	switch {
	case err != nil:
		return false, err
	case first:
		other.lose(e.Path)
		l.Put(e)
		return true, nil
	case second:
		u.lose(e.Path)
		return false, nil
	}
	return false, conflict
}

// placer says where the files of packages belong.
type placer struct {
	diversions map[string]Diversion
	links      map[string]tree.Entry // the packages' symbolic links
	dirs       map[string]bool       // their directories, and those above their files
	done       map[string]string     // directories of which the way was followed
	failed     map[string]bool       // by package and directory: it leads nowhere
}

func (l *Layout) newPlacer(diversions map[string]Diversion) *placer {
	p := &placer{
		diversions: diversions, links: map[string]tree.Entry{}, dirs: map[string]bool{".": true},
		done: map[string]string{}, failed: map[string]bool{},
	}
	for _, u := range l.Sorted {
		for _, e := range u.Data() {
			e.Path, e.Owner = p.divert(u, e.Path), Owner(u.Name)
			if e.Type == tree.Symlink {
				p.links[e.Path] = e
			}
			dir := e.Path
			if e.Type != tree.Dir {
				dir = path.Dir(dir)
			}
			if top, _, _ := strings.Cut(dir, "/"); slices.Contains(usrLinks[:], top) {
				dir = "usr/" + dir
			}
			for ; !p.dirs[dir]; dir = path.Dir(dir) {
				p.dirs[dir] = true
			}
		}
	}
	return p
}

// divert returns the path that a package's file gets by the diversions of others.
func (p *placer) divert(u *Unpacked, own string) string {
	if d, ok := p.diversions["/"+own]; ok && d.Package != u.Name {
		return strings.TrimPrefix(d.To, "/")
	}
	return own
}

func (p *placer) symlink(at string) (string, bool) {
	if to, ok := usrLink(at); ok {
		return to, true
	}
	e, ok := p.links[at]
	return e.Link, ok
}

// Place returns where the package's entry at own belongs: links of other
// packages among the directories above it are followed, and one to a directory
// is as good as that directory. The path is empty where an error about the same
// directory was returned before.
func (p *placer) place(u *Unpacked, own string, typ tree.Type) (string, error) {
	at := p.divert(u, own)
	if typ == tree.Dir {
		if to := p.follow(at); p.dirs[to] {
			return to, nil
		}
		return at, nil
	}
	dir := path.Dir(at)
	to := p.follow(dir)
	if to == dir || p.dirs[to] {
		return path.Join(to, path.Base(at)), nil
	}
	if key := u.Name + " " + dir; !p.failed[key] {
		p.failed[key] = true
		link := p.linkAbove(dir)
		return "", fmt.Errorf("package %s has /%s below /%s, a symbolic link of %s to %s, which is not a directory of the image",
			u.Name, own, link.Path, link.Owner, link.Link)
	}
	return "", nil
}

// follow returns the directory that dir leads to, or "" where links go round.
func (p *placer) follow(dir string) string {
	to, ok := p.done[dir]
	if !ok {
		to, _ = tree.Follow(dir, true, p.symlink)
		p.done[dir] = to
	}
	return to
}

// linkAbove returns the first of the packages' links on the way to dir.
func (p *placer) linkAbove(dir string) tree.Entry {
	var found tree.Entry
	for ; dir != "."; dir = path.Dir(dir) {
		if e, ok := p.links[dir]; ok {
			found = e
		}
	}
	return found
}

// hasDirectory says whether there is something at or below p.
func (l *Layout) hasDirectory(p string) bool {
	if _, ok := l.Entries[p]; ok {
		return true
	}
	for child := range l.Entries {
		if strings.HasPrefix(child, p+"/") {
			return true
		}
	}
	return false
}
