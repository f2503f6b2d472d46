package ext4

import (
	"encoding/binary"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/nodebake/bake/bake/image/ext4/internal/format"
	"github.com/nodebake/bake/bake/tree"
)

// Element is a file that was found. Of its Entry, SHA256, Blob, Offset and
// Owner are not set; Content reads a file. Any further name of a File comes as a
// Hardlink to the first, without owner, permissions or times of its own.
type Element struct {
	tree.Entry
	Inode uint32
}

// foundName is a name in a directory that was read.
type foundName struct {
	name     string
	inode    uint32
	fileType uint8
}

// walker is one walk's state.
type walker struct {
	*FS
	visit func(n *Element) error

	owned bitset // blocks that something owns
	dirs  bitset // inodes of directories
	links map[uint32]*linkCount
	names int
	text  int64
}

// linkCount compares the names of a file with the number that its inode has.
type linkCount struct {
	first     string
	fileType  uint8
	seen, has int
}

// Walk calls visit with every file, a directory before what is in it, names
// sorted by byte: the order of [tree.New]. It fails where visit does, where metadata is corrupt or
// beyond the limits, and where two files own one block, so that all content
// together is never more than the filesystem has.
func (f *FS) Walk(visit func(n *Element) error) error {
	w := &walker{FS: f, visit: visit, owned: bitset{}, dirs: bitset{}, links: map[uint32]*linkCount{}}
	if err := w.walk(); err != nil {
		return fmt.Errorf("walking ext4: %w", err)
	}
	return nil
}

// Entries returns what Walk visits.
func (f *FS) Entries() ([]tree.Entry, error) {
	var entries []tree.Entry
	err := f.Walk(func(n *Element) error {
		entries = append(entries, n.Entry)
		return nil
	})
	return entries, err
}

// dirStep is a directory under way: the names that are left in it.
type dirStep struct {
	path    string
	inode   uint32
	names   []foundName
	subdirs int
	has     uint16 // links that its inode has
}

func (w *walker) walk() error {
	root, err := w.enter(".", format.InodeRoot, format.InodeRoot)
	if err != nil {
		return err
	}
	// A stack instead of recursion: how deep it goes is up to the image.
	stack := []*dirStep{root}
	for len(stack) > 0 {
		dir := stack[len(stack)-1]
		if len(dir.names) == 0 {
			if err := w.checkDirLinks(dir); err != nil {
				return err
			}
			stack = stack[:len(stack)-1]
			continue
		}
		n := dir.names[0]
		dir.names = dir.names[1:]
		full := path.Join(dir.path, n.name)
		if len(full) > maxPath {
			return fmt.Errorf("a path of %d bytes below %.64q..., at most %d are supported", len(full), full, maxPath)
		}
		if n.fileType == format.FileTypeDir {
			dir.subdirs++
			step, err := w.enter(full, n.inode, dir.inode)
			if err != nil {
				return err
			}
			stack = append(stack, step)
			continue
		}
		if err := w.file(full, n); err != nil {
			return err
		}
	}
	return w.checkLinks()
}

// checkLinks compares all link counts with the names that were found. Of several that are
// wrong it names the first by path.
func (w *walker) checkLinks() error {
	var wrong *linkCount
	for _, l := range w.links {
		if l.seen != l.has && (wrong == nil || l.first < wrong.first) {
			wrong = l
		}
	}
	if wrong != nil {
		return fmt.Errorf("%s: it has %d names and counts %d links", wrong.first, wrong.seen, wrong.has)
	}
	return nil
}

func (w *walker) checkDirLinks(dir *dirStep) error {
	want := 2 + dir.subdirs
	uncounted := dir.has == 1 && w.roCompat(format.ROCompatDirNlink)
	if int(dir.has) != want && !uncounted {
		return fmt.Errorf("%s: it has %d directories and counts %d links", dir.path, dir.subdirs, dir.has)
	}
	return nil
}

// claim makes blocks owned.
func (w *walker) claim(block, n int64) error {
	if err := w.inRange(block, n); err != nil {
		return err
	}
	for i := range n {
		if !w.owned.add(block + i) {
			return fmt.Errorf("block %d belongs to two files", block+i)
		}
	}
	return nil
}

// enter visits a directory and reads its names.
func (w *walker) enter(p string, number, parent uint32) (*dirStep, error) {
	if !w.dirs.add(int64(number)) {
		return nil, fmt.Errorf("%s: directory inode %d has two names", p, number)
	}
	i, err := w.readInode(number)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p, err)
	}
	if i.Mode&format.ModeType != format.ModeDir {
		return nil, fmt.Errorf("%s: inode %d is not a directory", p, number)
	}
	if err := w.report(p, i, w.claim); err != nil {
		return nil, err
	}
	names, err := w.readDir(i, parent, maxNames-w.names)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p, err)
	}
	w.names += len(names)
	return &dirStep{path: p, inode: number, names: names, has: i.LinksCount}, nil
}

// file visits anything but a directory.
func (w *walker) file(p string, n foundName) error {
	if l := w.links[n.inode]; l != nil && l.fileType == format.FileTypeFile && n.fileType == l.fileType {
		l.seen++
		return w.show(&Element{tree.Entry{Path: p, Type: tree.Hardlink, Link: l.first}, n.inode})
	}
	i, err := w.readInode(n.inode)
	if err != nil {
		return fmt.Errorf("%s: %w", p, err)
	}
	got := fileType(i.Mode)
	if got != n.fileType {
		return fmt.Errorf("%s: its directory says type %d, inode %d says %d", p, n.fileType, n.inode, got)
	}
	claim := w.claim
	if l := w.links[n.inode]; l != nil {
		l.seen++
		claim = w.inRange // a second name of a symlink or device, whose blocks are claimed
	} else {
		w.links[n.inode] = &linkCount{first: p, fileType: got, seen: 1, has: int(i.LinksCount)}
	}
	return w.report(p, i, claim)
}

// report visits an inode under its first name.
func (w *walker) report(p string, i *inode, claim func(block, n int64) error) error {
	var extents []fileExtent
	if w.hasContent(i) {
		var err error
		if extents, err = w.extents(i, claim); err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
	}
	e, err := w.entry(p, i, extents)
	if err != nil {
		return fmt.Errorf("%s: %w", p, err)
	}
	return w.show(&Element{e, i.number})
}

// show calls visit, as long as all that was shown stays within limits.
func (w *walker) show(n *Element) error {
	w.text += int64(len(n.Path) + len(n.Link))
	for name, value := range n.Xattrs {
		w.text += int64(len(name) + len(value))
	}
	if w.text > maxText {
		return fmt.Errorf("%s: more than %d bytes of paths, symlinks and extended attributes", n.Path, maxText)
	}
	return w.visit(n)
}

// Lookup finds the file at a path as entries have them, such as "etc/os-release".
// It does not follow symlinks. A missing file is fs.ErrNotExist.
func (f *FS) Lookup(p string) (*Element, error) {
	if err := tree.ValidPath(p); err != nil {
		return nil, err
	}
	number, parent := uint32(format.InodeRoot), uint32(format.InodeRoot)
	if p != "." {
		for name := range strings.SplitSeq(p, "/") {
			next, err := f.lookupIn(number, parent, name)
			if err != nil {
				return nil, fmt.Errorf("looking up %s: %w", p, err)
			}
			number, parent = next, number
		}
	}
	i, err := f.readInode(number)
	if err != nil {
		return nil, fmt.Errorf("looking up %s: %w", p, err)
	}
	var extents []fileExtent
	if i.Mode&format.ModeType == format.ModeSymlink && f.hasContent(i) {
		if extents, err = f.extents(i, f.inRange); err != nil {
			return nil, fmt.Errorf("looking up %s: %w", p, err)
		}
	}
	e, err := f.entry(p, i, extents)
	if err != nil {
		return nil, fmt.Errorf("looking up %s: %w", p, err)
	}
	return &Element{e, number}, nil
}

// sortNames orders names by byte and refuses duplicates.
func sortNames(names []foundName) error {
	slices.SortFunc(names, func(a, b foundName) int { return strings.Compare(a.name, b.name) })
	for i := 1; i < len(names); i++ {
		if names[i].name == names[i-1].name {
			return fmt.Errorf("name %q is there twice", names[i].name)
		}
	}
	return nil
}

// recLen reads the length of the directory entry at the start of b.
func recLen(b []byte) int { return int(binary.LittleEndian.Uint16(b[4:])) }
