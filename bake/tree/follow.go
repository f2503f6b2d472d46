package tree

import (
	"fmt"
	"io/fs"
	"path"
	"strings"
)

// maxLinks is how many symbolic links a path may go through, as Linux has it
// (path_resolution(7)).
const maxLinks = 40

// Follow returns the path, as entries have them, that p leads to in a root:
// symbolic links on the way are followed, absolute ones from the root, and the
// last element is with last. link returns the text of a symbolic link, and false
// for whatever else is or is not there.
func Follow(p string, last bool, link func(p string) (string, bool)) (string, error) {
	rest := elements(p)
	at := "."
	for links := 0; len(rest) > 0; {
		part := rest[0]
		rest = rest[1:]
		if part == ".." {
			at = path.Dir(at)
			continue
		}
		next := path.Join(at, part)
		text, ok := "", false
		if last || len(rest) > 0 {
			text, ok = link(next)
		}
		if !ok {
			at = next
			continue
		}
		if links++; links > maxLinks {
			return "", fmt.Errorf("/%s: more than %d symbolic links", strings.TrimPrefix(p, "/"), maxLinks)
		}
		if strings.HasPrefix(text, "/") {
			at = "."
		}
		rest = append(elements(text), rest...)
	}
	return at, nil
}

// elements splits a path, without what stays where it is.
func elements(p string) []string {
	var out []string
	for part := range strings.SplitSeq(p, "/") {
		if part != "" && part != "." {
			out = append(out, part)
		}
	}
	return out
}

// Resolve returns what an open of p finds: symbolic links are followed, and
// instead of a hard link comes the File that it is another name of. Where there
// is nothing, the error is fs.ErrNotExist.
func (t *Tree) Resolve(p string) (*Entry, error) {
	at, err := Follow(p, true, func(p string) (string, bool) {
		e := t.Lookup(p)
		if e == nil || e.Type != Symlink {
			return "", false
		}
		return e.Link, true
	})
	if err != nil {
		return nil, err
	}
	e := t.Lookup(at)
	if e != nil && e.Type == Hardlink {
		e = t.Lookup(e.Link)
	}
	if e == nil {
		return nil, fmt.Errorf("/%s: %w", strings.TrimPrefix(p, "/"), fs.ErrNotExist)
	}
	return e, nil
}
