package ext4

import (
	"encoding/binary"

	"github.com/nodebake/bake/bake/image/ext4/internal/format"
)

// logGroupsPerFlex is what mke2fs takes: the kernel allocates in units of 16
// groups, and lays out groups that it adds in such units. That our own groups'
// tables are all at the front of the disk is independent of it.
const logGroupsPerFlex = 4

// emitGroups writes descriptors and superblock to front, which has group 0's
// blocks from the superblock on, and the copies of both.
func (w *emitter) emitGroups(front []byte) {
	descs := front[blockSize : blockSize*(1+w.descBlocks)]
	for group := range w.state {
		w.putGroup(descs[group*format.GroupDescSize:][:format.GroupDescSize], group)
	}
	super := w.superBlock()
	putSuper(front[format.SuperBlockOffset:], super)

	descsAt := w.spans[0].from + blockSize // front was made first
	for group := 1; group < w.groups; group++ {
		if !hasSuper(group) {
			continue
		}
		super.BlockGroupNr = uint16(group)
		putSuper(w.makeBlock(w.groupStart(group)), super)
		w.spans = append(w.spans, metaSpan{w.groupStart(group) + 1, int64(w.descBlocks), descsAt})
	}
}

// putGroup completes and writes the descriptor of a group.
func (w *emitter) putGroup(b []byte, group int) {
	s := &w.state[group]
	d := &s.desc
	d.Flags |= format.GroupInodeZeroed
	at := w.blockBitmaps.block + int64(group)
	d.BlockBitmapLo, d.BlockBitmapHi = uint32(at), uint32(at>>32)
	at = w.inodeBitmaps.block + int64(group)
	d.InodeBitmapLo, d.InodeBitmapHi = uint32(at), uint32(at>>32)
	at = w.tables[group]
	d.InodeTableLo, d.InodeTableHi = uint32(at), uint32(at>>32)
	free := w.groupBlocks(group) - s.usedBlocks
	d.FreeBlocksCountLo, d.FreeBlocksCountHi = uint16(free), uint16(free>>16)
	unused := int64(w.inodesPerGroup) - s.usedInodes
	d.FreeInodesCountLo, d.FreeInodesCountHi = uint16(unused), uint16(unused>>16)
	d.ItableUnusedLo, d.ItableUnusedHi = uint16(unused), uint16(unused>>16)
	d.UsedDirsCountLo, d.UsedDirsCountHi = uint16(s.directories), uint16(s.directories>>16)
	putStruct(b, d)
	binary.LittleEndian.PutUint16(b[format.GroupDescChecksumOffset:], groupChecksum(w.seed, group, b))
}

// groupChecksum is the checksum of a descriptor.
func groupChecksum(seed uint32, group int, b []byte) uint16 {
	return uint16(crcExcept(crc32c32(seed, uint32(group)), b, 2, format.GroupDescChecksumOffset))
}

// putSuper writes a superblock with its checksum.
func putSuper(b []byte, s *format.SuperBlock) {
	putStruct(b, s)
	binary.LittleEndian.PutUint32(b[format.SuperBlockChecksumOffset:], crc32c(crcStart, b[:format.SuperBlockChecksumOffset]))
}

func (w *emitter) superBlock() *format.SuperBlock {
	free := w.freeBlocks()
	journal := w.journalInode()
	s := &format.SuperBlock{
		InodesCount:       uint32(w.inodes()),
		BlocksCountLo:     uint32(w.blocks),
		BlocksCountHi:     uint32(w.blocks >> 32),
		FreeBlocksCountLo: uint32(free),
		FreeBlocksCountHi: uint32(free >> 32),
		FreeInodesCount:   uint32(w.inodes() - w.usedInodes()),
		LogBlockSize:      2, // 4096 bytes
		LogClusterSize:    2,
		BlocksPerGroup:    blocksPerGroup,
		ClustersPerGroup:  blocksPerGroup,
		InodesPerGroup:    uint32(w.inodesPerGroup),
		WTime:             uint32(w.o.Epoch),
		MaxMntCount:       format.NoMaxMounts,
		Magic:             format.SuperBlockMagic,
		State:             format.StateValid,
		Errors:            format.ErrorsRemountRO,
		LastCheck:         uint32(w.o.Epoch),
		CreatorOS:         format.OSLinux,
		RevLevel:          format.DynamicRev,
		FirstIno:          format.InodeFirst,
		InodeSize:         format.InodeSize,
		FeatureCompat: format.CompatHasJournal | format.CompatExtAttr | format.CompatResizeInode |
			format.CompatDirIndex,
		FeatureIncompat: format.IncompatFiletype | format.IncompatExtents | format.Incompat64Bit |
			format.IncompatFlexBG,
		FeatureROCompat: format.ROCompatSparseSuper | format.ROCompatLargeFile | format.ROCompatHugeFile |
			format.ROCompatDirNlink | format.ROCompatExtraIsize | format.ROCompatMetadataCsum,
		UUID:              w.o.UUID,
		ReservedGDTBlocks: uint16(w.reservedDescs),
		JournalInum:       format.InodeJournal,
		HashSeed:          w.o.HashSeed,
		DefHashVersion:    format.HashHalfMD4,
		JnlBackupType:     format.JournalBackupBlocks,
		DescSize:          format.GroupDescSize,
		DefaultMountOpts:  format.MountXattrUser | format.MountACL,
		MkfsTime:          uint32(w.o.Epoch),
		MinExtraIsize:     format.InodeExtraIsize,
		WantExtraIsize:    format.InodeExtraIsize,
		Flags:             format.FlagUnsignedHash, // also on machines whose char is signed
		LogGroupsPerFlex:  logGroupsPerFlex,
		ChecksumType:      format.ChecksumCRC32C,
		OverheadClusters:  uint32(w.overhead()),
	}
	copy(s.VolumeName[:], w.o.Label)
	for i := range 15 {
		s.JnlBlocks[i] = binary.LittleEndian.Uint32(journal.Block[4*i:])
	}
	s.JnlBlocks[15], s.JnlBlocks[16] = journal.SizeHigh, journal.SizeLo
	return s
}

// overhead is how many blocks statfs(2) leaves out of the size: what the
// kernel would compute at every mount otherwise (ext4_calculate_overhead).
func (w *emitter) overhead() int64 {
	n := w.journalBlocks
	for group := range w.state {
		n += w.baseBlocks(group) + 2 + int64(w.tableBlocks())
	}
	return n
}
