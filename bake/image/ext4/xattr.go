package ext4

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"
	"strings"

	"github.com/nodebake/bake/bake/image/ext4/internal/format"
)

// inodeXattrRoom is how many bytes of an inode hold extended attributes.
const inodeXattrRoom = format.InodeSize - format.InodeFixedSize

// xattrPrefixes are the namespaces that ext4 knows, by index (attributes.rst).
// The two of POSIX ACLs are whole names.
func xattrPrefixes() []struct {
	prefix string
	index  uint8
} {
	return []struct {
		prefix string
		index  uint8
	}{
		{"system.posix_acl_access", format.XattrACLAccess},
		{"system.posix_acl_default", format.XattrACLDefault},
		{"user.", format.XattrUser},
		{"trusted.", format.XattrTrusted},
		{"security.", format.XattrSecurity},
	}
}

// isACL reports whether values of a namespace are POSIX ACLs.
func isACL(index uint8) bool {
	return index == format.XattrACLAccess || index == format.XattrACLDefault
}

// xattr is one extended attribute as it is on disk.
type xattr struct {
	full  string // its name, for errors
	index uint8
	name  string // without prefix
	value []byte
}

// newXattr splits name and converts value.
func newXattr(full string, value []byte) (xattr, error) {
	for _, p := range xattrPrefixes() {
		name, ok := strings.CutPrefix(full, p.prefix)
		if !ok || isACL(p.index) != (name == "") {
			continue
		}
		if len(name) > format.MaxNameLen {
			return xattr{}, fmt.Errorf("extended attribute %s: its name is longer than %d bytes", full, format.MaxNameLen)
		}
		if isACL(p.index) {
			var err error
			if value, err = encodeACL(value); err != nil {
				return xattr{}, fmt.Errorf("extended attribute %s: %w", full, err)
			}
		}
		return xattr{full, p.index, name, value}, nil
	}
	return xattr{}, fmt.Errorf("extended attribute %q: ext4 has user., trusted., security., and of system. the two POSIX ACLs", full)
}

// size is how many bytes x takes: its entry with the name, and its value.
func (x *xattr) size() int {
	return padXattr(format.XattrEntrySize+len(x.name)) + padXattr(len(x.value))
}

func padXattr(n int) int { return (n + format.XattrPad - 1) &^ (format.XattrPad - 1) }

// encodeXattrs encodes attributes for the space in the inode, and those that
// do not fit there for a block, whose checksum is left to who knows its place.
func encodeXattrs(attrs map[string][]byte) (inode, block []byte, err error) {
	if len(attrs) == 0 {
		return nil, nil, nil
	}
	list := make([]xattr, 0, len(attrs))
	for name, value := range attrs {
		x, err := newXattr(name, value)
		if err != nil {
			return nil, nil, err
		}
		list = append(list, x)
	}
	slices.SortFunc(list, func(a, b xattr) int { // as the kernel searches them in a block
		return cmp.Or(cmp.Compare(a.index, b.index), cmp.Compare(len(a.name), len(b.name)), strings.Compare(a.name, b.name))
	})
	var inInode, inBlock []xattr
	inodeRoom := inodeXattrRoom - format.XattrInodeHeaderSize - format.XattrEnd
	blockRoom := blockSize - format.XattrBlockHeaderSize - format.XattrEnd
	for _, x := range list {
		if x.size() <= inodeRoom {
			inInode = append(inInode, x)
			inodeRoom -= x.size()
			continue
		}
		if x.size() > blockRoom {
			return nil, nil, fmt.Errorf("extended attribute %s: %d bytes, and %d are left in the one block that ext4 has for a file's attributes: make it smaller", x.full, x.size(), blockRoom)
		}
		inBlock = append(inBlock, x)
		blockRoom -= x.size()
	}
	if len(inInode) > 0 {
		inode = make([]byte, inodeXattrRoom)
		binary.LittleEndian.PutUint32(inode, format.XattrMagic)
		putXattrs(inode[format.XattrInodeHeaderSize:], 0, inInode, nil)
	}
	if len(inBlock) > 0 {
		block = make([]byte, blockSize)
		var hash uint32
		putXattrs(block, format.XattrBlockHeaderSize, inBlock, &hash)
		putStruct(block, &format.XattrBlockHeader{Magic: format.XattrMagic, RefCount: 1, Blocks: 1, Hash: hash})
	}
	return inode, block, nil
}

// putXattrs writes entries from offset at of area and values from its end;
// values are found by their offset in area. Hashes are written and summed up only where sum
// is not nil: e2fsck checks those of a block, and the kernel leaves them out in inodes.
func putXattrs(area []byte, at int, list []xattr, sum *uint32) {
	end := len(area)
	for i := range list {
		x := &list[i]
		e := format.XattrEntry{
			NameLen:   uint8(len(x.name)),
			NameIndex: x.index,
			ValueSize: uint32(len(x.value)),
		}
		if len(x.value) > 0 {
			end -= padXattr(len(x.value))
			copy(area[end:], x.value)
			e.ValueOffs = uint16(end)
		}
		if sum != nil {
			e.Hash = xattrHash(x.name, x.value)
			*sum = bits.RotateLeft32(*sum, 16) ^ e.Hash
		}
		if next := at + padXattr(format.XattrEntrySize+len(x.name)); next+format.XattrEnd > end {
			panic(fmt.Sprintf("BUG: extended attributes meet at %d and %d", next, end))
		}
		putStruct(area[at:], &e)
		copy(area[at+format.XattrEntrySize:], x.name)
		at += padXattr(format.XattrEntrySize + len(x.name))
	}
}

// xattrHash is what an entry in a block carries of its name and value
// (ext4_xattr_hash_entry in fs/ext4/xattr.c). Bytes of names are unsigned.
func xattrHash(name string, value []byte) uint32 {
	var hash uint32
	for i := range len(name) {
		hash = bits.RotateLeft32(hash, 5) ^ uint32(name[i])
	}
	var word [4]byte
	for len(value) > 0 {
		word = [4]byte{}
		n := copy(word[:], value)
		hash = bits.RotateLeft32(hash, 16) ^ binary.LittleEndian.Uint32(word[:])
		value = value[n:]
	}
	return hash
}

// sealXattrs writes the checksum of a block of attributes into it, which covers where it is.
func sealXattrs(seed uint32, n int64, block []byte) {
	binary.LittleEndian.PutUint32(block[format.XattrChecksumOffset:], xattrChecksum(seed, n, block))
}

func xattrChecksum(seed uint32, n int64, block []byte) uint32 {
	var at [8]byte
	binary.LittleEndian.PutUint64(at[:], uint64(n))
	return crcExcept(crc32c(seed, at[:]), block, 4, format.XattrChecksumOffset)
}
