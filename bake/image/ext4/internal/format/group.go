package format

// GroupDesc is struct ext4_group_desc with 64 bytes, as feature 64bit has it;
// without it only the first 32 bytes are there (group_descr.rst).
type GroupDesc struct {
	BlockBitmapLo     uint32 // 0x00
	InodeBitmapLo     uint32 // 0x04
	InodeTableLo      uint32 // 0x08
	FreeBlocksCountLo uint16 // 0x0c
	FreeInodesCountLo uint16 // 0x0e
	UsedDirsCountLo   uint16 // 0x10
	Flags             uint16 // 0x12
	ExcludeBitmapLo   uint32 // 0x14
	BlockBitmapCsumLo uint16 // 0x18
	InodeBitmapCsumLo uint16 // 0x1a
	ItableUnusedLo    uint16 // 0x1c
	Checksum          uint16 // 0x1e
	BlockBitmapHi     uint32 // 0x20
	InodeBitmapHi     uint32 // 0x24
	InodeTableHi      uint32 // 0x28
	FreeBlocksCountHi uint16 // 0x2c
	FreeInodesCountHi uint16 // 0x2e
	UsedDirsCountHi   uint16 // 0x30
	ItableUnusedHi    uint16 // 0x32
	ExcludeBitmapHi   uint32 // 0x34
	BlockBitmapCsumHi uint16 // 0x38
	InodeBitmapCsumHi uint16 // 0x3a
	_                 uint32 // 0x3c
}

// GroupDescChecksumOffset is where GroupDesc.Checksum is.
const GroupDescChecksumOffset = 0x1e

// GroupDesc.Flags.
const (
	GroupInodeUninit = 0x1 // inode bitmap and table not in use yet
	GroupBlockUninit = 0x2 // block bitmap not written: only the group's own copies are in use
	GroupInodeZeroed = 0x4 // the rest of the inode table is zeroes
)
