package format

// ExtentHeader is struct ext4_extent_header (ifork.rst, "Extent Tree"). It
// begins Inode.Block and every block of the tree.
type ExtentHeader struct {
	Magic      uint16
	Entries    uint16
	Max        uint16
	Depth      uint16 // 0: Extents follow, else ExtentIndexes
	Generation uint32
}

// Extent is struct ext4_extent: where a run of a file's blocks is.
type Extent struct {
	Block   uint32 // first block of the file
	Len     uint16 // blocks; above MaxExtentBlocks: that much less, unwritten
	StartHi uint16
	StartLo uint32
}

// ExtentIndex is struct ext4_extent_idx: which block of the tree knows the
// file's blocks from Block on.
type ExtentIndex struct {
	Block  uint32
	LeafLo uint32
	LeafHi uint16
	_      uint16
}

// Of the extent tree. A tree block ends in a 32-bit checksum right after Max
// entries (struct ext4_extent_tail).
const (
	ExtentMagic      = 0xf30a
	ExtentEntrySize  = 12 // of header, extent and index alike
	ExtentsInInode   = InodeBlockSize/ExtentEntrySize - 1
	ExtentTailLength = 4
)
