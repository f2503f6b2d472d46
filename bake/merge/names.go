package merge

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/nodebake/bake/bake/tree"
)

// usrLinks are the links that merge / into /usr. Debian's packages may still
// name files below them; trixie's base-files has the links and bookworm's has
// directories, which the installer replaces.
var usrLinks = [...]string{"bin", "sbin", "lib", "lib32", "lib64", "libx32", "libo32"}

// usrLink returns what p is a link to, where it is one of usrLinks.
func usrLink(p string) (string, bool) {
	if slices.Contains(usrLinks[:], p) {
		return "usr/" + p, true
	}
	return "", false
}

// symlink returns the text of the symbolic link at p.
func (l *Layout) symlink(p string) (string, bool) {
	if to, ok := usrLink(p); ok {
		return to, true
	}
	e := l.Entries[p]
	return e.Link, e.Type == tree.Symlink
}

// Place returns where a file belongs that is to be at p, an absolute or relative
// path in the image: the links among the directories above it are followed.
// Links that go round stay, for package tree to say so.
func (l *Layout) Place(p string) string {
	at, err := tree.Follow(p, false, l.symlink)
	if err != nil {
		return strings.TrimPrefix(p, "/")
	}
	return at
}

// At returns the entry at p, which may be a link.
func (l *Layout) At(p string) (tree.Entry, bool) {
	e, ok := l.Entries[l.Place(p)]
	return e, ok
}

// Resolve returns what an open of p in the image finds, and never a link.
func (l *Layout) Resolve(p string) (tree.Entry, error) {
	at, err := tree.Follow(p, true, l.symlink)
	if err != nil {
		return tree.Entry{}, err
	}
	e, ok := l.Entries[at]
	if ok && e.Type == tree.Hardlink {
		e, ok = l.Entries[e.Link]
	}
	if !ok {
		return e, fmt.Errorf("/%s is not in the image: %w", strings.TrimPrefix(p, "/"), fs.ErrNotExist)
	}
	return e, nil
}

// File returns the file that an open of p finds, under the name p.
func (l *Layout) File(p string) (tree.Entry, bool) {
	e, err := l.Resolve(p)
	e.Path = p
	return e, err == nil && e.Type == tree.File
}

// Read returns the content of a file of the image.
func (l *Layout) Read(p string) ([]byte, error) {
	e, err := l.Resolve(p)
	if err != nil {
		return nil, err
	}
	return l.Content.Read(e)
}

// Put sets an entry whatever was there. The content of a file that had other
// names stays at these.
func (l *Layout) Put(e tree.Entry) {
	l.Remove(e.Path)
	l.Entries[e.Path] = e
	if e.Type == tree.Hardlink {
		l.names[e.Link] = append(l.names[e.Link], e.Path)
	}
}

// handOn makes the next name of a file that leaves its path the file.
func (l *Layout) handOn(file tree.Entry) {
	names := l.names[file.Path]
	delete(l.names, file.Path)
	if len(names) == 0 {
		return
	}
	next := l.Entries[names[0]]
	file.Path, file.Owner = next.Path, next.Owner
	l.Entries[file.Path] = file
	l.names[file.Path] = names[1:]
	for _, name := range names[1:] {
		e := l.Entries[name]
		e.Link = file.Path
		l.Entries[name] = e
	}
}

// Remove takes an entry away. The content of a file that had other names stays at
// these.
func (l *Layout) Remove(p string) {
	switch old := l.Entries[p]; old.Type {
	case tree.Hardlink:
		l.names[old.Link] = slices.DeleteFunc(l.names[old.Link], func(name string) bool { return name == p })
	case tree.File:
		l.handOn(old)
	}
	delete(l.Entries, p)
}
