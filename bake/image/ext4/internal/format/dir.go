package format

// DirEntry is the fixed part of struct ext4_dir_entry_2, the name follows
// (directory.rst, "Linear (Classic) Directories").
type DirEntry struct {
	Inode    uint32
	RecLen   uint16
	NameLen  uint8
	FileType uint8
}

// DirTail is struct ext4_dir_entry_tail, which ends a block of entries.
type DirTail struct {
	ReservedZero1 uint32
	RecLen        uint16 // 12
	ReservedZero2 uint8
	ReservedFT    uint8 // FileTypeTail
	Checksum      uint32
}

// Sizes in a directory.
const (
	DirEntrySize = 8
	DirTailSize  = 12
)

// DirEntry.FileType.
const (
	FileTypeUnknown = 0
	FileTypeFile    = 1
	FileTypeDir     = 2
	FileTypeChar    = 3
	FileTypeBlock   = 4
	FileTypeFifo    = 5
	FileTypeSocket  = 6
	FileTypeSymlink = 7
	FileTypeTail    = 0xde
)

// Of a hashed directory (directory.rst, "Hash Tree Directories"). Block 0 has
// entries "." and "..", the latter spanning the rest of the block, and in its slack
// struct dx_root_info and the index. A lower index block begins with an unused
// entry that spans it. Both end in struct dx_tail.
const (
	DXInfoOffset      = 24 // struct dx_root_info in block 0
	DXInfoLength      = 8
	DXRootEntries     = DXInfoOffset + DXInfoLength // where block 0's index starts
	DXNodeEntries     = 8                           // where a lower block's index starts
	DXEntrySize       = 8                           // hash, block
	DXTailSize        = 8                           // reserved, checksum
	DXHashEOF         = 0xfffffffe                  // not the hash of any name
	DXMaxIndirect     = 1                           // levels below block 0 without feature largedir
	DXInfoHashOffset  = DXInfoOffset + 4            // hash_version
	DXInfoLenOffset   = DXInfoOffset + 5
	DXInfoLevelOffset = DXInfoOffset + 6
)
