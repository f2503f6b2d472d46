package ext4

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/nodebake/bake/bake/image/ext4/internal/format"
)

// dirent is a name in a directory.
type dirent struct {
	name string
	node int32
	hash uint32 // set in hashed directories
}

// size is how many bytes the name takes in a block.
func (d *dirent) size() int { return (format.DirEntrySize + len(d.name) + 3) &^ 3 }

// directory is what a directory's blocks hold.
type directory struct {
	node, parent int32
	entries      []dirent // without "." and "..", in the order of the blocks
	minBlocks    int

	leaves []leaf // of a hashed directory: one for each block of names
	lower  int    // of a hashed directory: index blocks below block 0
}

// leaf is a block of names of a hashed directory.
type leaf struct {
	hash uint32 // the lowest in it, with bit 0 set where it continues the leaf before
	end  int    // index in entries behind its last
}

// Room for names in blocks. Leaves are left an eighth empty, so that the first
// names that a package upgrade adds do not split every one of them.
const (
	dotsSize     = 2 * 12 // "." and ".."
	dirBlockRoom = blockSize - format.DirTailSize
	leafRoom     = dirBlockRoom - blockSize/8

	dxRootLimit = (blockSize - format.DXRootEntries - format.DXTailSize) / format.DXEntrySize
	dxNodeLimit = (blockSize - format.DXNodeEntries - format.DXTailSize) / format.DXEntrySize
)

// pack decides which block holds which name. A directory whose names fit into
// one block is linear, as the kernel keeps it, any larger one is hashed.
func (d *directory) pack(hash nameHash) error {
	used := dotsSize
	for i := range d.entries {
		used += d.entries[i].size()
	}
	if used <= dirBlockRoom {
		return nil
	}
	if d.minBlocks > 1 {
		return fmt.Errorf("it has %d names, one block is all that we put into it: move them", len(d.entries))
	}
	for i := range d.entries {
		d.entries[i].hash = hash.sum(d.entries[i].name)
	}
	slices.SortFunc(d.entries, func(a, b dirent) int {
		return cmp.Or(cmp.Compare(a.hash, b.hash), strings.Compare(a.name, b.name))
	})
	used = 0
	d.leaves = append(d.leaves, leaf{hash: 0})
	for i := range d.entries {
		size := d.entries[i].size()
		if used+size > leafRoom {
			hash := d.entries[i].hash
			if hash == d.entries[i-1].hash {
				hash |= 1
			}
			d.leaves[len(d.leaves)-1].end = i
			d.leaves = append(d.leaves, leaf{hash: hash})
			used = 0
		}
		used += size
	}
	d.leaves[len(d.leaves)-1].end = len(d.entries)
	if len(d.leaves) > dxRootLimit {
		d.lower = (len(d.leaves) + dxNodeLimit - 1) / dxNodeLimit
	}
	if d.lower > dxRootLimit {
		return fmt.Errorf("it has %d names, more than a directory's index holds: split it", len(d.entries))
	}
	return nil
}

// blocks is the length of the directory.
func (d *directory) blocks() int {
	if d.leaves == nil {
		return max(1, d.minBlocks)
	}
	return 1 + d.lower + len(d.leaves)
}

// encodeBlock writes block i of the directory. seed is the one of its inode.
func (d *directory) encodeBlock(nodes []node, i int, seed uint32, block []byte) {
	switch {
	case d.leaves == nil && i == 0:
		at := d.encodeDots(block, 12)
		encodeNames(nodes, d.entries, block, at, seed)
	case d.leaves == nil:
		encodeNames(nodes, nil, block, 0, seed)
	case i == 0:
		d.encodeRoot(block, seed)
	case i <= d.lower:
		d.encodeNode(i-1, block, seed)
	default:
		n := i - 1 - d.lower
		from := 0
		if n > 0 {
			from = d.leaves[n-1].end
		}
		encodeNames(nodes, d.entries[from:d.leaves[n].end], block, 0, seed)
	}
}

// encodeDots writes "." and "..", the latter spanning length bytes, and returns where
// they end.
func (d *directory) encodeDots(block []byte, length int) int {
	putDirent(block, inodeNumber(d.node), 12, format.FileTypeDir, ".")
	putDirent(block[12:], inodeNumber(d.parent), length, format.FileTypeDir, "..")
	return 12 + length
}

// encodeNames writes entries from offset at, the last spanning the rest of the
// block up to the tail with the checksum.
func encodeNames(nodes []node, entries []dirent, block []byte, at int, seed uint32) {
	if len(entries) == 0 {
		if at == 0 {
			putDirent(block, 0, dirBlockRoom, format.FileTypeUnknown, "")
		} else {
			// Only the dots: ".." spans the rest.
			binary.LittleEndian.PutUint16(block[12+4:], uint16(dirBlockRoom-12))
		}
	}
	for i := range entries {
		e := &entries[i]
		length := e.size()
		if i == len(entries)-1 {
			length = dirBlockRoom - at
		}
		putDirent(block[at:], inodeNumber(e.node), length, fileType(nodes[e.node].mode), e.name)
		at += length
	}
	tail := block[dirBlockRoom:]
	binary.LittleEndian.PutUint16(tail[4:], format.DirTailSize)
	tail[7] = format.FileTypeTail
	binary.LittleEndian.PutUint32(tail[8:], crc32c(seed, block[:dirBlockRoom]))
}

func putDirent(b []byte, ino uint32, length int, fileType uint8, name string) {
	if length < format.DirEntrySize+len(name) {
		panic(fmt.Sprintf("BUG: %d bytes for directory entry %q", length, name))
	}
	binary.LittleEndian.PutUint32(b, ino)
	binary.LittleEndian.PutUint16(b[4:], uint16(length))
	b[6] = uint8(len(name))
	b[7] = fileType
	copy(b[format.DirEntrySize:], name)
}

// encodeRoot writes block 0 of a hashed directory.
func (d *directory) encodeRoot(block []byte, seed uint32) {
	d.encodeDots(block, blockSize-12)
	block[format.DXInfoHashOffset] = format.HashHalfMD4
	block[format.DXInfoLenOffset] = format.DXInfoLength
	if d.lower == 0 {
		putIndex(block, format.DXRootEntries, len(d.leaves), seed, func(i int) (uint32, int) {
			return d.leaves[i].hash, 1 + i
		})
		return
	}
	block[format.DXInfoLevelOffset] = 1
	putIndex(block, format.DXRootEntries, d.lower, seed, func(i int) (uint32, int) {
		return d.leaves[i*dxNodeLimit].hash, 1 + i
	})
}

// encodeNode writes the i-th index block below block 0.
func (d *directory) encodeNode(i int, block []byte, seed uint32) {
	putDirent(block, 0, blockSize, format.FileTypeUnknown, "")
	from := i * dxNodeLimit
	n := min(dxNodeLimit, len(d.leaves)-from)
	putIndex(block, format.DXNodeEntries, n, seed, func(i int) (uint32, int) {
		return d.leaves[from+i].hash, 1 + d.lower + from + i
	})
}

// putIndex writes count index entries at an offset of block, and the tail. The first
// entry's hash is not stored: limit and count are in its place.
func putIndex(block []byte, at, count int, seed uint32, entry func(i int) (hash uint32, block int)) {
	limit := (blockSize - at - format.DXTailSize) / format.DXEntrySize
	if count < 1 || count > limit {
		panic(fmt.Sprintf("BUG: %d of %d index entries", count, limit))
	}
	for i := range count {
		hash, n := entry(i)
		binary.LittleEndian.PutUint32(block[at+8*i:], hash)
		binary.LittleEndian.PutUint32(block[at+8*i+4:], uint32(n))
	}
	binary.LittleEndian.PutUint16(block[at:], uint16(limit))
	binary.LittleEndian.PutUint16(block[at+2:], uint16(count))
	tail := block[at+limit*format.DXEntrySize:]
	binary.LittleEndian.PutUint32(tail[4:], indexChecksum(seed, block, at, limit, count))
}

// indexChecksum covers the entries in use and the tail without its checksum.
func indexChecksum(seed uint32, block []byte, at, limit, count int) uint32 {
	sum := crc32c(seed, block[:at+count*format.DXEntrySize])
	tail := block[at+limit*format.DXEntrySize:]
	return crc32c32(crc32c(sum, tail[:4]), 0)
}

// fileType is what a directory says of a file with a mode.
func fileType(mode uint16) uint8 {
	switch mode & format.ModeType {
	case format.ModeFile:
		return format.FileTypeFile
	case format.ModeDir:
		return format.FileTypeDir
	case format.ModeChar:
		return format.FileTypeChar
	case format.ModeBlock:
		return format.FileTypeBlock
	case format.ModeFifo:
		return format.FileTypeFifo
	case format.ModeSocket:
		return format.FileTypeSocket
	case format.ModeSymlink:
		return format.FileTypeSymlink
	}
	return format.FileTypeUnknown
}
