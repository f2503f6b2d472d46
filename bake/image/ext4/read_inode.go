package ext4

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/nodebake/bake/bake/image/ext4/internal/format"
	"github.com/nodebake/bake/bake/tree"
)

// inode is an inode that was read.
type inode struct {
	format.Inode
	number uint32
	seed   uint32 // of checksums of what belongs to it
	size   int64
	xattrs []byte // the space for extended attributes in it
}

func (f *FS) readInode(number uint32) (*inode, error) {
	if number == 0 || number > f.super.InodesCount {
		return nil, fmt.Errorf("inode %d is outside of the filesystem's %d", number, f.super.InodesCount)
	}
	group := (number - 1) / f.super.InodesPerGroup
	index := int64((number - 1) % f.super.InodesPerGroup)
	d := &f.groups[group]
	table := f.join(d.InodeTableLo, d.InodeTableHi)
	perBlock := f.blockSize / int64(f.inodeSize)
	block, err := f.readBlock(table + index/perBlock)
	if err != nil {
		return nil, fmt.Errorf("inode %d: %w", number, err)
	}
	at := int(index%perBlock) * f.inodeSize
	b := block[at : at+f.inodeSize]

	// What a 128-byte inode lacks is zero.
	whole := make([]byte, max(len(b), format.InodeFixedSize))
	copy(whole, b)
	i := &inode{number: number}
	getStruct(whole, &i.Inode)
	if len(b) == format.GoodOldInodeSize {
		i.ExtraIsize = 0
	} else if end := format.GoodOldInodeSize + int(i.ExtraIsize); end > len(b) || i.ExtraIsize%4 != 0 {
		return nil, fmt.Errorf("inode %d: %d extra bytes in one of %d", number, i.ExtraIsize, len(b))
	} else {
		i.xattrs = whole[end:len(b)]
		if end < format.InodeFixedSize {
			// An older kernel made it: behind end are attributes, no fields.
			short := make([]byte, format.InodeFixedSize)
			copy(short, b[:end])
			getStruct(short, &i.Inode)
		}
	}
	i.seed = inodeSeed(f.seed, number, i.Generation)
	i.size = int64(i.SizeHigh&0x7fffffff)<<32 | int64(i.SizeLo)
	if got, want := inodeChecksum(i, b); f.checked && got != want {
		return nil, &ChecksumError{What: fmt.Sprintf("inode %d", number), Got: got, Want: want}
	}
	if i.Mode == 0 || i.LinksCount == 0 {
		return nil, fmt.Errorf("inode %d is not in use", number)
	}
	if i.Flags&(format.InodeEncrypt|format.InodeInlineData|format.InodeEAInode) != 0 {
		return nil, fmt.Errorf("inode %d: flags %#x are not supported", number, i.Flags)
	}
	return i, nil
}

// inodeChecksum computes the checksum of an inode and returns the one that it carries; old
// inodes have only room for its lower half.
func inodeChecksum(i *inode, b []byte) (got, want uint32) {
	want = uint32(i.ChecksumLo)
	if i.ExtraIsize < format.InodeChecksumHiOffset+2-format.GoodOldInodeSize {
		return crcExcept(i.seed, b, 2, format.InodeChecksumLoOffset) & 0xffff, want
	}
	want |= uint32(i.ChecksumHi) << 16
	return crcExcept(i.seed, b, 2, format.InodeChecksumLoOffset, format.InodeChecksumHiOffset), want
}

// aclBlock is the block with the inode's extended attributes, or 0.
func (f *FS) aclBlock(i *inode) int64 {
	return f.join(i.FileACLLo, uint32(i.FileACLHigh))
}

// entry makes a tree's entry of an inode. extents are its content's.
func (f *FS) entry(path string, i *inode, extents []fileExtent) (tree.Entry, error) {
	e := tree.Entry{
		Path:  path,
		Perm:  i.Mode & format.ModePerm,
		UID:   uint32(i.UIDHigh)<<16 | uint32(i.UIDLo),
		GID:   uint32(i.GIDHigh)<<16 | uint32(i.GIDLo),
		MTime: decodeTime(i.MTime, i.MTimeExtra),
	}
	var err error
	switch i.Mode & format.ModeType {
	case format.ModeDir:
		e.Type = tree.Dir
	case format.ModeFile:
		e.Type, e.Size = tree.File, i.size
	case format.ModeSymlink:
		e.Type = tree.Symlink
		e.Link, err = f.symlink(i, extents)
	case format.ModeChar:
		e.Type = tree.Char
		e.Major, e.Minor = decodeDevice(&i.Block)
	case format.ModeBlock:
		e.Type = tree.Block
		e.Major, e.Minor = decodeDevice(&i.Block)
	case format.ModeFifo:
		e.Type = tree.Fifo
	default:
		err = fmt.Errorf("mode %#o is of a kind that is not supported", i.Mode)
	}
	if err == nil {
		e.Xattrs, err = f.readXattrs(i)
	}
	if err != nil {
		return e, fmt.Errorf("inode %d: %w", i.number, err)
	}
	return e, nil
}

// hasContent reports whether Inode.Block leads to blocks of content.
func (f *FS) hasContent(i *inode) bool {
	switch i.Mode & format.ModeType {
	case format.ModeDir, format.ModeFile:
		return true
	case format.ModeSymlink:
		sectors := int64(i.BlocksHigh)<<32 | int64(i.BlocksLo)
		if f.aclBlock(i) != 0 {
			sectors -= f.blockSize / 512
		}
		return sectors > 0
	}
	return false
}

func (f *FS) symlink(i *inode, extents []fileExtent) (string, error) {
	var target []byte
	if !f.hasContent(i) {
		if i.size > format.MaxFastSymlink {
			return "", fmt.Errorf("symlink of %d bytes without a block", i.size)
		}
		target = i.Block[:i.size]
	} else {
		if i.size > f.blockSize || len(extents) != 1 || extents[0].logical != 0 || extents[0].unwritten {
			return "", fmt.Errorf("symlink of %d bytes is not in one block", i.size)
		}
		b, err := f.readBlock(extents[0].block)
		if err != nil {
			return "", err
		}
		target = b[:i.size]
	}
	if len(target) == 0 || bytes.IndexByte(target, 0) >= 0 {
		return "", fmt.Errorf("symlink to %q", target)
	}
	return string(target), nil
}

// readXattrs reads the extended attributes of an inode: those in it and those in its
// block.
func (f *FS) readXattrs(i *inode) (map[string][]byte, error) {
	var all map[string][]byte
	add := func(name string, value []byte) error {
		if _, twice := all[name]; twice {
			return fmt.Errorf("extended attribute %s is there twice", name)
		}
		if all == nil {
			all = make(map[string][]byte)
		}
		all[name] = value
		return nil
	}
	if area := i.xattrs; len(area) >= format.XattrInodeHeaderSize+format.XattrEnd &&
		binary.LittleEndian.Uint32(area) == format.XattrMagic {
		if err := parseXattrs(area[format.XattrInodeHeaderSize:], 0, add); err != nil {
			return nil, err
		}
	}
	n := f.aclBlock(i)
	if n == 0 {
		return all, nil
	}
	b, err := f.readBlock(n)
	if err != nil {
		return nil, err
	}
	var h format.XattrBlockHeader
	getStruct(b, &h)
	if h.Magic != format.XattrMagic || h.Blocks != 1 {
		return nil, fmt.Errorf("block %d with extended attributes has magic number %#x and %d blocks", n, h.Magic, h.Blocks)
	}
	if err := f.checkSum("extended attributes in block", n, xattrChecksum(f.seed, n, b), h.Checksum); err != nil {
		return nil, err
	}
	return all, parseXattrs(b, format.XattrBlockHeaderSize, add)
}

// parseXattrs calls add with what the entries from offset at of area say.
func parseXattrs(area []byte, at int, add func(name string, value []byte) error) error {
	for {
		if at+format.XattrEnd > len(area) {
			return fmt.Errorf("extended attributes do not end within %d bytes", len(area))
		}
		if binary.LittleEndian.Uint32(area[at:]) == 0 {
			return nil
		}
		if at+format.XattrEntrySize > len(area) {
			return fmt.Errorf("extended attribute at %d leaves its %d bytes", at, len(area))
		}
		var e format.XattrEntry
		getStruct(area[at:], &e)
		nameEnd := at + format.XattrEntrySize + int(e.NameLen)
		valueEnd := int64(e.ValueOffs) + int64(e.ValueSize)
		if nameEnd > len(area) || e.ValueSize > 0 && valueEnd > int64(len(area)) {
			return fmt.Errorf("extended attribute at %d leaves its %d bytes", at, len(area))
		}
		if e.ValueInum != 0 {
			return fmt.Errorf("extended attribute at %d has its value in inode %d, which is not supported", at, e.ValueInum)
		}
		name, err := xattrName(e.NameIndex, string(area[at+format.XattrEntrySize:nameEnd]))
		if err != nil {
			return err
		}
		var value []byte
		if e.ValueSize > 0 {
			value = bytes.Clone(area[e.ValueOffs:valueEnd])
		}
		if isACL(e.NameIndex) {
			if value, err = decodeACL(value); err != nil {
				return fmt.Errorf("extended attribute %s: %w", name, err)
			}
		}
		if err := add(name, value); err != nil {
			return err
		}
		at = padXattr(nameEnd)
	}
}

// xattrName is the inverse of what newXattr does to a name.
func xattrName(index uint8, name string) (string, error) {
	for _, p := range xattrPrefixes() {
		if p.index == index && isACL(index) == (name == "") {
			return p.prefix + name, nil
		}
	}
	return "", fmt.Errorf("extended attribute %q in unknown namespace %d", name, index)
}
