// Package cpio writes and reads archives in the "newc" format, which is what the
// kernel takes as an initramfs.
//
// It writes directories, files, symbolic links and device nodes. It knows no
// hard links (an initramfs of ours has none), no extended attributes (the format
// has none) and no checksums (the "crc" variant), and does not compress.
//
// The format is Documentation/driver-api/early-userspace/buffer-format.rst of
// the Linux kernel.
package cpio

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/nodebake/bake/bake/tree"
)

const (
	magic      = "070701"
	headerSize = 110 // magic and 13 fields of 8 hexadecimal digits
	trailer    = "TRAILER!!!"
	maxSize    = 1<<32 - 1
	maxName    = 4096 // the kernel's PATH_MAX, with the NUL
)

// Types of files in a mode, as stat(2) has them.
const (
	modeFifo    = 0o010000
	modeChar    = 0o020000
	modeDir     = 0o040000
	modeBlock   = 0o060000
	modeFile    = 0o100000
	modeSymlink = 0o120000
	modeType    = 0o170000
)

// Write writes t to w. Entries without a time get epoch, in seconds since 1970.
func Write(w io.Writer, t *tree.Tree, epoch int64) error {
	out := &writer{w: bufio.NewWriter(w)}
	for i := range t.Entries {
		e := &t.Entries[i]
		mtime := e.MTime
		if mtime == 0 {
			mtime = epoch
		}
		if err := out.entry(e, i+1, mtime); err != nil {
			return fmt.Errorf("writing %s to a cpio archive: %w", e.Path, err)
		}
	}
	out.header(fields{nlink: 1}, trailer)
	if out.err == nil {
		out.err = out.w.Flush()
	}
	if out.err != nil {
		return fmt.Errorf("writing a cpio archive: %w", out.err)
	}
	return nil
}

// fields are a header's numbers, in its order.
type fields struct {
	ino, mode, uid, gid, nlink, mtime, size  uint32
	devMajor, devMinor, rdevMajor, rdevMinor uint32
	nameSize /* with the NUL */, checksum    uint32
}

type writer struct {
	w   *bufio.Writer
	n   int64
	err error // the first one
}

func (w *writer) entry(e *tree.Entry, ino int, mtime int64) error {
	f := fields{
		ino: uint32(ino), mode: uint32(e.Perm), uid: e.UID, gid: e.GID, nlink: 1,
		mtime: uint32(mtime),
	}
	if mtime < 0 || mtime > maxSize {
		return fmt.Errorf("time %d does not fit into 32 bits", mtime)
	}
	var content io.Reader
	switch e.Type {
	case tree.Dir:
		f.mode |= modeDir
		f.nlink = 2
	case tree.File:
		if e.Size > maxSize {
			return fmt.Errorf("%d bytes, the format holds files of up to %d", e.Size, int64(maxSize))
		}
		f.mode |= modeFile
		f.size = uint32(e.Size)
		content = e.Content()
	case tree.Symlink:
		f.mode |= modeSymlink
		f.size = uint32(len(e.Link))
	case tree.Char, tree.Block:
		f.mode |= modeChar
		if e.Type == tree.Block {
			f.mode = f.mode&^modeType | modeBlock
		}
		f.rdevMajor, f.rdevMinor = e.Major, e.Minor
	case tree.Fifo:
		f.mode |= modeFifo
	default:
		return fmt.Errorf("a %s is not supported", e.Type)
	}
	if len(e.Path) >= maxName || e.Path == trailer {
		return errors.New("its name is too long, or ends the archive")
	}
	w.header(f, e.Path)
	switch {
	case content != nil && w.err == nil:
		n, err := io.Copy(w.w, content)
		if err != nil {
			return err
		}
		if n != e.Size {
			return fmt.Errorf("BUG: content has %d bytes, want %d", n, e.Size)
		}
		w.n += n
	case e.Type == tree.Symlink:
		w.string(e.Link)
	}
	w.pad()
	return w.err
}

func (w *writer) header(f fields, name string) {
	f.nameSize = uint32(len(name) + 1)
	w.string(magic)
	for _, v := range []uint32{
		f.ino, f.mode, f.uid, f.gid, f.nlink, f.mtime, f.size,
		f.devMajor, f.devMinor, f.rdevMajor, f.rdevMinor, f.nameSize, f.checksum,
	} {
		w.string(fmt.Sprintf("%08x", v))
	}
	w.string(name + "\x00")
	w.pad()
}

func (w *writer) string(s string) {
	if w.err == nil {
		_, w.err = w.w.WriteString(s)
		w.n += int64(len(s))
	}
}

// pad aligns to 4 bytes, as header plus name and content are.
func (w *writer) pad() { w.string("\x00\x00\x00"[:(4-w.n%4)%4]) }

// Header is one member of an archive that is read.
type Header struct {
	Name                 string
	Mode                 uint32 // type and permissions, as stat(2) has them
	UID, GID, MTime      uint32
	Size                 int64
	RdevMajor, RdevMinor uint32
}

// Reader reads an archive of up to a trailer; what follows is left unread.
type Reader struct {
	r    *bufio.Reader
	left int64 // of the member's content
	pad  int64 // after it
}

// NewReader returns a Reader of r.
func NewReader(r io.Reader) *Reader { return &Reader{r: bufio.NewReader(r)} }

// Next goes to the next member, or returns io.EOF at the trailer.
func (r *Reader) Next() (*Header, error) {
	if _, err := io.CopyN(io.Discard, r.r, r.left+r.pad); err != nil {
		return nil, fmt.Errorf("reading a cpio archive: %w", noEOF(err))
	}
	r.left, r.pad = 0, 0
	raw := make([]byte, headerSize)
	if _, err := io.ReadFull(r.r, raw); err != nil {
		return nil, fmt.Errorf("reading a cpio header: %w", noEOF(err))
	}
	if string(raw[:len(magic)]) != magic {
		return nil, fmt.Errorf("reading a cpio header: it starts with %q, want %q", raw[:len(magic)], magic)
	}
	var v [13]uint32
	for i := range v {
		n, err := strconv.ParseUint(string(raw[len(magic)+i*8:][:8]), 16, 32)
		if err != nil {
			return nil, fmt.Errorf("reading a cpio header: %w", err)
		}
		v[i] = uint32(n)
	}
	nameSize := v[11]
	if nameSize < 2 || nameSize > maxName {
		return nil, fmt.Errorf("reading a cpio header: a name of %d bytes", nameSize)
	}
	name := make([]byte, pad4(headerSize+int64(nameSize))-headerSize)
	if _, err := io.ReadFull(r.r, name); err != nil {
		return nil, fmt.Errorf("reading a cpio header: %w", noEOF(err))
	}
	if name[nameSize-1] != 0 {
		return nil, errors.New("reading a cpio header: its name does not end with NUL")
	}
	h := &Header{
		Name: string(name[:nameSize-1]), Mode: v[1], UID: v[2], GID: v[3], MTime: v[5], Size: int64(v[6]),
		RdevMajor: v[9], RdevMinor: v[10],
	}
	if h.Name == trailer {
		return nil, io.EOF
	}
	r.left, r.pad = h.Size, pad4(h.Size)-h.Size
	return h, nil
}

// Read reads the content of the current member; of a symbolic link, its text.
func (r *Reader) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, io.EOF
	}
	n, err := r.r.Read(p[:min(int64(len(p)), r.left)])
	r.left -= int64(n)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

func pad4(n int64) int64 { return (n + 3) &^ 3 }

func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
