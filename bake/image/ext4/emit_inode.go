package ext4

import (
	"encoding/binary"
	"fmt"

	"github.com/nodebake/bake/bake/image/ext4/internal/format"
	"github.com/nodebake/bake/bake/tree"
)

// encodeTime splits a time into the field that ext2 had, 32 bits with a
// sign, and the one that ext4 added: the two bits above in its lowest bits
// (inodes.rst, "Inode Timestamps").
func encodeTime(seconds int64) (low, extra uint32, err error) {
	const first, last = -1 << 31, 1<<34 - 1<<31 - 1
	if seconds < first || seconds > last {
		return 0, 0, fmt.Errorf("time %d is outside of what ext4 can hold, 1901 to 2446: choose another", seconds)
	}
	low = uint32(seconds)
	return low, uint32((seconds - int64(int32(low))) >> 32), nil
}

// decodeTime is the inverse of encodeTime.
func decodeTime(low, extra uint32) int64 {
	return int64(int32(low)) + int64(extra&3)<<32
}

// emitInodes writes the inode tables as far as they are in use.
func (w *emitter) emitInodes() {
	tables := make([][]byte, 0, 4)
	for group := range w.state {
		used := w.state[group].usedInodes
		if used == 0 {
			break
		}
		n := (used + inodesPerBlock - 1) / inodesPerBlock
		tables = append(tables, w.makeBlocks(w.tables[group], n))
	}
	slot := func(ino uint32) []byte {
		at := (int(ino-1) % w.inodesPerGroup) * format.InodeSize
		return tables[w.groupOfInode(ino)][at : at+format.InodeSize]
	}
	w.sealInode(format.InodeResize, slot(format.InodeResize), w.resizeInode())
	w.sealInode(format.InodeJournal, slot(format.InodeJournal), w.journalInode())
	trees := w.trees
	inode := new(format.Inode)
	for i := range w.nodes {
		ino := inodeNumber(int32(i))
		var at []run // blocks of its extent tree
		if len(trees) > 0 && trees[0].node == int32(i) {
			at, trees = w.treeAt[trees[0].from:], trees[1:]
		}
		b := slot(ino)
		w.fillInode(inode, int32(i), at)
		copy(b[format.InodeFixedSize:], w.nodes[i].inXattr)
		w.sealInode(ino, b, inode)
	}
}

// sealInode writes inode, and the checksum of all of b into it.
func (w *emitter) sealInode(ino uint32, b []byte, inode *format.Inode) {
	inode.ExtraIsize = format.InodeExtraIsize
	putStruct(b, inode)
	// The checksum's own fields are still zero, as the sum wants them.
	sum := crc32c(inodeSeed(w.seed, ino, inode.Generation), b)
	binary.LittleEndian.PutUint16(b[format.InodeChecksumLoOffset:], uint16(sum))
	binary.LittleEndian.PutUint16(b[format.InodeChecksumHiOffset:], uint16(sum>>16))
}

// newInode is an inode whose every time is the epoch.
func (w *emitter) newInode(mode uint16, size, blocks int64) *format.Inode {
	inode := new(format.Inode)
	w.initInode(inode, mode, size, blocks)
	return inode
}

// initInode makes inode what newInode returns.
func (w *emitter) initInode(inode *format.Inode, mode uint16, size, blocks int64) {
	*inode = format.Inode{Mode: mode, LinksCount: 1}
	inode.SizeLo, inode.SizeHigh = uint32(size), uint32(size>>32)
	sectors := blocks * (blockSize / 512)
	inode.BlocksLo, inode.BlocksHigh = uint32(sectors), uint16(sectors>>32)
	low, extra, err := encodeTime(w.o.Epoch)
	if err != nil {
		panic("BUG: " + err.Error()) // options are checked
	}
	inode.ATime, inode.CTime, inode.MTime, inode.CRTime = low, low, low, low
	inode.ATimeExtra, inode.CTimeExtra, inode.MTimeExtra, inode.CRTimeExtra = extra, extra, extra, extra
}

// fillInode makes inode the one of a node; at has the blocks of its extent tree.
func (w *emitter) fillInode(inode *format.Inode, i int32, at []run) {
	n := &w.nodes[i]
	e := n.entry
	runs := w.content[i].of(w.runs)

	size := e.Size
	switch e.Type {
	case tree.Dir:
		size = n.blocks * blockSize
	case tree.Symlink:
		size = int64(len(e.Link))
	case tree.Char, tree.Block, tree.Fifo:
		size = 0
	}
	blocks := n.blocks + int64(extentTreeBlocks(len(runs)))
	if n.xattr != nil {
		blocks++
	}
	w.initInode(inode, n.mode, size, blocks)
	inode.UIDLo, inode.UIDHigh = uint16(e.UID), uint16(e.UID>>16)
	inode.GIDLo, inode.GIDHigh = uint16(e.GID), uint16(e.GID>>16)
	inode.FileACLLo, inode.FileACLHigh = uint32(w.xattrs[i]), uint16(w.xattrs[i]>>32)
	if e.MTime != 0 {
		inode.MTime, inode.MTimeExtra, _ = encodeTime(e.MTime) // newModel has seen that it fits
	}
	inode.LinksCount = uint16(n.links)
	if n.dir >= 0 {
		if w.dirs[n.dir].leaves != nil {
			inode.Flags |= format.InodeIndex
		}
		if n.links > format.MaxLinks {
			inode.LinksCount = 1 // dir_nlink: too many to count
		}
	}

	switch {
	case e.Type == tree.Symlink && n.blocks == 0:
		copy(inode.Block[:], e.Link)
	case e.Type == tree.Char || e.Type == tree.Block:
		encodeDevice(&inode.Block, e.Major, e.Minor)
	case e.Type == tree.Fifo:
	default:
		inode.Flags |= format.InodeExtents
		putExtents(inode.Block[:], runs, at, inodeSeed(w.seed, inodeNumber(i), 0), w.makeBlock)
	}
}

// encodeDevice writes a device number: in 16 bits where it fits, as the first
// Unix had it, else in 32 (inodes.rst; new_encode_dev in include/linux/kdev_t.h).
func encodeDevice(block *[format.InodeBlockSize]byte, major, minor uint32) {
	if major < 256 && minor < 256 {
		binary.LittleEndian.PutUint32(block[:], major<<8|minor)
		return
	}
	binary.LittleEndian.PutUint32(block[4:], minor&0xff|major<<8|minor&^0xff<<12)
}

// decodeDevice is the inverse of encodeDevice.
func decodeDevice(block *[format.InodeBlockSize]byte) (major, minor uint32) {
	if old := binary.LittleEndian.Uint32(block[:]); old != 0 {
		return old >> 8 & 0xff, old & 0xff
	}
	dev := binary.LittleEndian.Uint32(block[4:])
	return dev >> 8 & 0xfff, dev&0xff | dev>>12&^0xff
}

// resizeInode makes the inode that owns the blocks reserved for group
// descriptors, through block pointers as ext2 had them: its double indirect
// block knows the reserved blocks, and each of these is an indirect block that
// knows its copies in other groups (special_inodes.rst, "Reserved GDT Blocks").
func (w *emitter) resizeInode() *format.Inode {
	const perBlock = blockSize / 4
	const direct = 12
	copies := 0
	for group := 1; group < w.groups; group++ {
		if hasSuper(group) {
			copies++
		}
	}
	inode := w.newInode(format.ModeFile|0o600, (direct+perBlock+perBlock*perBlock)*blockSize, 1+int64(w.reservedDescs)*int64(1+copies))
	binary.LittleEndian.PutUint32(inode.Block[4*(direct+1):], uint32(w.resizeMap))
	return inode
}

// emitResizeMap writes the pointers that resizeInode begins. front has the
// blocks of group 0 from the superblock on.
func (w *emitter) emitResizeMap(front []byte) {
	double := w.makeBlock(w.resizeMap)
	for i := range w.reservedDescs {
		reserved := 1 + w.descBlocks + i // the block in group 0; its copies have the same place in theirs
		binary.LittleEndian.PutUint32(double[4*(w.descBlocks+i):], uint32(reserved))
		at := front[reserved*blockSize:]
		for group := 1; group < w.groups; group++ {
			if hasSuper(group) {
				binary.LittleEndian.PutUint32(at, uint32(w.groupStart(group))+uint32(reserved))
				at = at[4:]
			}
		}
	}
}

// journalInode makes the journal's inode.
func (w *emitter) journalInode() *format.Inode {
	inode := w.newInode(format.ModeFile|0o600, w.journalBlocks*blockSize, w.journalBlocks)
	inode.Flags |= format.InodeExtents
	putExtents(inode.Block[:], w.journal, nil, 0, nil)
	return inode
}

// emitJournal writes the superblock of an empty journal; the log behind it
// stays zero. The kernel turns on checksums in it at the first mount.
func (w *emitter) emitJournal() {
	b := w.makeBlock(w.journal[0].block)
	js := format.JournalSuperBlock{
		Magic:     format.JournalMagic,
		BlockType: format.JournalSuperBlockV2,
		BlockSize: blockSize,
		MaxLen:    uint32(w.journalBlocks),
		First:     1,
		Sequence:  1,
		UUID:      w.o.UUID,
		NrUsers:   1,
	}
	if _, err := binary.Encode(b, binary.BigEndian, &js); err != nil {
		panic(fmt.Sprintf("BUG: encoding the journal's superblock: %v", err))
	}
}
