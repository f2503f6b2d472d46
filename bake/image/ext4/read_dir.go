package ext4

import (
	"encoding/binary"
	"fmt"
	"io/fs"
	"strings"

	"github.com/nodebake/bake/bake/image/ext4/internal/format"
)

// readDir reads the names of a directory, sorted, without "." and "..", which
// must be the directory and its parent. Hashed directories read like linear ones:
// their index hides in the slack of entries (directory.rst).
func (f *FS) readDir(i *inode, parent uint32, limit int) ([]foundName, error) {
	extents, err := f.extents(i, f.inRange)
	if err != nil {
		return nil, err
	}
	blocks := i.size / f.blockSize
	if i.size%f.blockSize != 0 || blocks == 0 || blocks > maxDirBlocks {
		return nil, fmt.Errorf("directory of %d bytes: want a multiple of %d up to %d", i.size, f.blockSize, maxDirBlocks*f.blockSize)
	}
	var names []foundName
	next := int64(0)
	for _, e := range extents {
		if e.logical != next && next < blocks || e.unwritten {
			return nil, fmt.Errorf("directory with a hole at block %d", next)
		}
		for n := int64(0); n < e.n && next < blocks; n++ {
			b, err := f.readBlock(e.block + n)
			if err != nil {
				return nil, err
			}
			found, err := f.readDirBlock(i, b, next, parent)
			if err != nil {
				return nil, fmt.Errorf("block %d of the directory: %w", next, err)
			}
			if len(found) > limit-len(names) {
				return nil, fmt.Errorf("more than %d names in the filesystem", maxNames)
			}
			names = append(names, found...)
			next++
		}
	}
	if next < blocks {
		return nil, fmt.Errorf("directory with a hole at block %d", next)
	}
	return names, sortNames(names)
}

// readDirBlock reads the names in block n of a directory.
func (f *FS) readDirBlock(i *inode, b []byte, n int64, parent uint32) ([]foundName, error) {
	isIndex, err := f.checkDirBlock(i, b, n)
	if err != nil {
		return nil, err
	}
	if n == 0 {
		if err := checkDots(b, i.number, parent); err != nil {
			return nil, err
		}
	}
	if isIndex {
		return nil, nil
	}
	var names []foundName
	for at := 0; at < len(b); {
		if len(b)-at < format.DirEntrySize {
			return nil, fmt.Errorf("entry at %d leaves the block", at)
		}
		var e format.DirEntry
		getStruct(b[at:], &e)
		length := int(e.RecLen)
		if length < format.DirEntrySize || length%4 != 0 || length > len(b)-at || int(e.NameLen) > length-format.DirEntrySize {
			return nil, fmt.Errorf("entry at %d of %d bytes with a name of %d", at, length, e.NameLen)
		}
		if e.Inode != 0 && !(n == 0 && (at == 0 || at == 12)) {
			name := string(b[at+format.DirEntrySize:][:e.NameLen])
			if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") {
				return nil, fmt.Errorf("entry at %d with name %q", at, name)
			}
			names = append(names, foundName{name, e.Inode, e.FileType})
		}
		at += length
	}
	return names, nil
}

// checkDots checks the two entries that a directory begins with.
func checkDots(b []byte, self, parent uint32) error {
	var dot, dotdot format.DirEntry
	getStruct(b, &dot)
	getStruct(b[12:], &dotdot)
	if dot.RecLen != 12 || dot.NameLen != 1 || b[format.DirEntrySize] != '.' || dot.Inode != self {
		return fmt.Errorf("it does not begin with an entry . for inode %d", self)
	}
	if dotdot.NameLen != 2 || string(b[12+format.DirEntrySize:][:2]) != ".." || dotdot.Inode != parent {
		return fmt.Errorf("its second entry is not .. for inode %d", parent)
	}
	return nil
}

// checkDirBlock verifies the checksum of block n of a directory, and reports whether
// the block has an index and no names.
func (f *FS) checkDirBlock(i *inode, b []byte, n int64) (isIndex bool, err error) {
	at := 0
	if i.Flags&format.InodeIndex != 0 {
		switch {
		case n == 0 && recLen(b) == 12 && recLen(b[12:]) == len(b)-12:
			at = format.DXInfoOffset + int(b[format.DXInfoLenOffset])
		case n > 0 && binary.LittleEndian.Uint32(b) == 0 && recLen(b) == len(b):
			at = format.DXNodeEntries
		}
	}
	if at != 0 {
		limit, count := int(binary.LittleEndian.Uint16(b[at:])), int(binary.LittleEndian.Uint16(b[at+2:]))
		if count == 0 || count > limit || at+limit*format.DXEntrySize > len(b) {
			return true, fmt.Errorf("index with %d of %d entries", count, limit)
		}
		if !f.checked {
			return true, nil
		}
		tail := at + limit*format.DXEntrySize
		if tail+format.DXTailSize > len(b) {
			return true, fmt.Errorf("index without room for its checksum")
		}
		got := indexChecksum(i.seed, b, at, limit, count)
		return true, f.checkSum("directory index of inode", int64(i.number), got, binary.LittleEndian.Uint32(b[tail+4:]))
	}
	if !f.checked {
		return false, nil
	}
	var tail format.DirTail
	end := len(b) - format.DirTailSize
	getStruct(b[end:], &tail)
	if tail.ReservedZero1 != 0 || tail.RecLen != format.DirTailSize || tail.ReservedFT != format.FileTypeTail {
		return false, fmt.Errorf("it does not end in a checksum")
	}
	return false, f.checkSum("directory of inode", int64(i.number), crc32c(i.seed, b[:end]), tail.Checksum)
}

// lookupIn finds a name in a directory.
func (f *FS) lookupIn(dir, parent uint32, name string) (uint32, error) {
	i, err := f.readInode(dir)
	if err != nil {
		return 0, err
	}
	if i.Mode&format.ModeType != format.ModeDir {
		return 0, fs.ErrNotExist
	}
	names, err := f.readDir(i, parent, maxNames)
	if err != nil {
		return 0, err
	}
	for _, n := range names {
		if n.name == name {
			return n.inode, nil
		}
	}
	return 0, fs.ErrNotExist
}
