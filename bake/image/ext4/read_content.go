package ext4

import (
	"encoding/binary"
	"fmt"
	"io"
	"slices"

	"github.com/nodebake/bake/bake/image/ext4/internal/format"
	"github.com/nodebake/bake/bake/tree"
)

// fileExtent is where blocks of a file are.
type fileExtent struct {
	logical   int64 // the first, of the file
	n         int64
	block     int64 // of the filesystem
	unwritten bool  // reads as zeroes
}

// extents reads the extent tree of an inode: extents in order. Every block of
// the tree is reported to claim.
func (f *FS) extents(i *inode, claim func(block, n int64) error) ([]fileExtent, error) {
	if i.Flags&format.InodeExtents == 0 {
		if i.Block == ([format.InodeBlockSize]byte{}) {
			return nil, nil // an empty file
		}
		return nil, fmt.Errorf("inode %d maps blocks without extents, as ext2 did, which is not supported", i.number)
	}
	t := treeReader{f: f, inode: i, claim: claim}
	depth := int(binary.LittleEndian.Uint16(i.Block[6:]))
	if depth > format.MaxExtentDepth {
		return nil, fmt.Errorf("inode %d: extent tree of depth %d", i.number, depth)
	}
	if err := t.node(i.Block[:], depth, 0, 1<<32); err != nil {
		return nil, fmt.Errorf("inode %d: %w", i.number, err)
	}
	return t.list, nil
}

// treeReader reads one extent tree.
type treeReader struct {
	f     *FS
	inode *inode
	claim func(block, n int64) error
	list  []fileExtent
}

// node reads a node whose extents are in the file's blocks from low to high-1.
func (t *treeReader) node(b []byte, depth int, low, high int64) error {
	var h format.ExtentHeader
	getStruct(b, &h)
	room := len(b)/format.ExtentEntrySize - 1
	root := len(b) == format.InodeBlockSize
	switch {
	case h.Magic != format.ExtentMagic:
		return fmt.Errorf("extent tree with magic number %#x, want %#x", h.Magic, format.ExtentMagic)
	case int(h.Depth) != depth:
		return fmt.Errorf("extent tree with depth %d, want %d", h.Depth, depth)
	case h.Entries > h.Max || int(h.Max) > room || h.Entries == 0 && !(root && depth == 0):
		return fmt.Errorf("extent tree with %d of %d entries, %d fit", h.Entries, h.Max, room)
	}
	if !root {
		at := format.ExtentEntrySize * (1 + int(h.Max))
		if t.f.checked && at+format.ExtentTailLength <= len(b) {
			got, want := crc32c(t.inode.seed, b[:at]), binary.LittleEndian.Uint32(b[at:])
			if got != want {
				return &ChecksumError{What: "extent tree", Got: got, Want: want}
			}
		}
	}
	entry := func(i int) []byte { return b[format.ExtentEntrySize*(1+i):] }
	for i := range int(h.Entries) {
		if depth == 0 {
			if err := t.leaf(entry(i), low, high); err != nil {
				return err
			}
			last := &t.list[len(t.list)-1]
			low = last.logical + last.n
			continue
		}
		var x format.ExtentIndex
		getStruct(entry(i), &x)
		end := high
		if i+1 < int(h.Entries) {
			end = int64(binary.LittleEndian.Uint32(entry(i + 1)))
		}
		if int64(x.Block) < low || end <= int64(x.Block) || end > high {
			return fmt.Errorf("extent index for block %d is outside of %d to %d", x.Block, low, end)
		}
		n := int64(x.LeafHi)<<32 | int64(x.LeafLo)
		if err := t.claim(n, 1); err != nil {
			return err
		}
		child, err := t.f.readBlock(n)
		if err != nil {
			return err
		}
		if err := t.node(child, depth-1, int64(x.Block), end); err != nil {
			return fmt.Errorf("block %d: %w", n, err)
		}
		low = end
	}
	return nil
}

func (t *treeReader) leaf(b []byte, low, high int64) error {
	var x format.Extent
	getStruct(b, &x)
	e := fileExtent{
		logical: int64(x.Block),
		n:       int64(x.Len),
		block:   int64(x.StartHi)<<32 | int64(x.StartLo),
	}
	if e.n > format.MaxExtentBlocks {
		e.n, e.unwritten = e.n-format.MaxExtentBlocks, true
	}
	switch {
	case e.n == 0 || e.logical < low || e.logical+e.n > high:
		return fmt.Errorf("extent of %d blocks from %d is outside of %d to %d", e.n, e.logical, low, high)
	case len(t.list) == maxFileExtents:
		return fmt.Errorf("more than %d extents", maxFileExtents)
	}
	if err := t.claim(e.block, e.n); err != nil {
		return err
	}
	t.list = append(t.list, e)
	return nil
}

// inRange checks that blocks are in the filesystem.
func (f *FS) inRange(block, n int64) error {
	if block < int64(f.super.FirstDataBlock) || n > f.blocks || block > f.blocks-n {
		return fmt.Errorf("%d blocks from %d are outside of the filesystem's %d", n, block, f.blocks)
	}
	return nil
}

// Content returns the content of a File or Hardlink that Walk or Lookup found.
// Holes read as zeroes. Content itself has no checksum in ext4. A file that is
// larger than the filesystem is refused: it would be almost all holes.
func (f *FS) Content(n *Element) (*io.SectionReader, error) {
	if n.Type != tree.File && n.Type != tree.Hardlink {
		return nil, fmt.Errorf("%s: a %s has no content", n.Path, n.Type)
	}
	i, err := f.readInode(n.Inode)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", n.Path, err)
	}
	if i.Mode&format.ModeType != format.ModeFile {
		return nil, fmt.Errorf("%s: inode %d is not a file", n.Path, n.Inode)
	}
	if i.size > f.blocks*f.blockSize {
		return nil, fmt.Errorf("%s: %d bytes are more than the filesystem has, %d", n.Path, i.size, f.blocks*f.blockSize)
	}
	extents, err := f.extents(i, f.inRange)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", n.Path, err)
	}
	return io.NewSectionReader(&contentReader{f, n.Path, i.size, extents}, 0, i.size), nil
}

// contentReader reads a file.
type contentReader struct {
	f       *FS
	path    string
	size    int64
	extents []fileExtent
}

// ReadAt implements io.ReaderAt.
func (c *contentReader) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("%s: reading at %d", c.path, off)
	}
	if off >= c.size {
		return 0, io.EOF
	}
	whole := len(p)
	p = p[:min(int64(len(p)), c.size-off)]
	bs := c.f.blockSize
	i, _ := slices.BinarySearchFunc(c.extents, off/bs, func(e fileExtent, block int64) int {
		if e.logical+e.n <= block {
			return -1
		}
		return 1
	})
	done := 0
	for done < len(p) {
		at := off + int64(done)
		rest := p[done:]
		switch {
		case i == len(c.extents): // a hole at the end
			clear(rest)
			done += len(rest)
		case at < c.extents[i].logical*bs: // a hole before the extent
			n := min(int64(len(rest)), c.extents[i].logical*bs-at)
			clear(rest[:n])
			done += int(n)
		default:
			e := c.extents[i]
			from := at - e.logical*bs
			n := min(int64(len(rest)), e.n*bs-from)
			if e.unwritten {
				clear(rest[:n])
			} else if got, err := c.f.r.ReadAt(rest[:n], e.block*bs+from); got < int(n) {
				if err == nil || err == io.EOF {
					err = io.ErrUnexpectedEOF
				}
				return done + got, fmt.Errorf("reading %s at %d: %w", c.path, at, err)
			}
			done += int(n)
			i++
		}
	}
	if done < whole {
		return done, io.EOF
	}
	return done, nil
}
