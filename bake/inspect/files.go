package inspect

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"path"
	"slices"
	"strings"

	"github.com/nodebake/bake/bake/image/ext4"
	"github.com/nodebake/bake/bake/tree"
)

// maxText is the largest file in bytes that is read as text. The largest in
// an image of ours is dpkg's status, below 1 MiB.
const maxText = 16 << 20

// files are the files of a root filesystem by path.
type Files struct {
	root  *ext4.FS
	Nodes []ext4.Element // in the order of tree.New
	index map[string]int
}

func readFiles(root *ext4.FS) (*Files, error) {
	f := &Files{root: root, index: map[string]int{}}
	err := root.Walk(func(n *ext4.Element) error {
		f.index[n.Path] = len(f.Nodes)
		f.Nodes = append(f.Nodes, *n)
		return nil
	})
	return f, err
}

// lookup returns the file at p, a path without a leading slash, or nil. It
// follows no link.
func (f *Files) Lookup(p string) *ext4.Element {
	i, ok := f.index[p]
	if !ok {
		return nil
	}
	return &f.Nodes[i]
}

// resolve returns what an open of p inside the root would find: symbolic links
// are followed, absolute ones from the root, and of a hard link the first name
// is returned.
func (f *Files) Resolve(p string) (*ext4.Element, error) {
	at, err := tree.Follow(p, true, func(p string) (string, bool) {
		n := f.Lookup(p)
		if n == nil || n.Type != tree.Symlink {
			return "", false
		}
		return n.Link, true
	})
	if err != nil {
		return nil, err
	}
	n := f.Lookup(at)
	if n != nil && n.Type == tree.Hardlink {
		n = f.Lookup(n.Link)
	}
	if n == nil {
		return nil, fmt.Errorf("/%s: %w", strings.TrimPrefix(p, "/"), fs.ErrNotExist)
	}
	return n, nil
}

// exists says whether an open of p would find a file.
func (f *Files) Exists(p string) bool {
	n, err := f.Resolve(p)
	return err == nil && n.Type == tree.File
}

// text reads the file at p, following links.
func (f *Files) Text(p string) (string, error) {
	n, err := f.Resolve(p)
	if err != nil {
		return "", err
	}
	if n.Type == tree.Char && n.Major == 1 && n.Minor == 3 { // /dev/null
		return "", nil
	}
	if n.Size > maxText {
		return "", fmt.Errorf("/%s: %d bytes, more than the %d that are read as text", n.Path, n.Size, maxText)
	}
	content, err := f.root.Content(n)
	if err != nil {
		return "", err
	}
	data, err := io.ReadAll(content)
	return string(data), err
}

// lines returns the lines of the file at p without blanks around them, those
// that are empty and those that begin with # or ;. A file that is not there
// has none.
func (f *Files) Lines(p string) ([]string, error) {
	text, err := f.Text(p)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return ParseLines(text), nil
}

func ParseLines(text string) []string {
	var lines []string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line != "" && line[0] != '#' && line[0] != ';' {
			lines = append(lines, line)
		}
	}
	return lines
}

// below yields everything in the directory dir and the directories in it.
func (f *Files) Below(dir string) iter.Seq[*ext4.Element] {
	return func(yield func(*ext4.Element) bool) {
		i, ok := f.index[dir]
		if !ok {
			return
		}
		for i++; i < len(f.Nodes) && (dir == "." || strings.HasPrefix(f.Nodes[i].Path, dir+"/")); i++ {
			if !yield(&f.Nodes[i]) {
				return
			}
		}
	}
}

// in yields what is in the directory dir itself.
func (f *Files) In(dir string) iter.Seq[*ext4.Element] {
	return func(yield func(*ext4.Element) bool) {
		for n := range f.Below(dir) {
			if path.Dir(n.Path) == dir && !yield(n) {
				return
			}
		}
	}
}

// fragments returns the files NAME+suffix of a configuration that is spread
// over directories, sorted by name. The first directory that has a name hides
// it in all others, as systemd's programs have it (sysctl.d(5)).
func (f *Files) Fragments(suffix string, dirs ...string) []string {
	byName := map[string]string{}
	for _, dir := range dirs {
		for n := range f.In(dir) {
			name := path.Base(n.Path)
			if _, ok := byName[name]; !ok && strings.HasSuffix(name, suffix) {
				byName[name] = n.Path
			}
		}
	}
	names := make([]string, 0, len(byName))
	for name := range byName {
		names = append(names, name)
	}
	slices.Sort(names)
	for i, name := range names {
		names[i] = byName[name]
	}
	return names
}
