package format

// Inode is struct ext4_inode with the extra fields that make 160 bytes
// (inodes.rst, "Index Nodes"); the rest of a 256-byte inode holds extended attributes.
type Inode struct {
	Mode        uint16               // 0x00
	UIDLo       uint16               // 0x02
	SizeLo      uint32               // 0x04
	ATime       uint32               // 0x08
	CTime       uint32               // 0x0c
	MTime       uint32               // 0x10
	DTime       uint32               // 0x14
	GIDLo       uint16               // 0x18
	LinksCount  uint16               // 0x1a
	BlocksLo    uint32               // 0x1c in units of 512 bytes
	Flags       uint32               // 0x20
	Version     uint32               // 0x24
	Block       [InodeBlockSize]byte // 0x28
	Generation  uint32               // 0x64
	FileACLLo   uint32               // 0x68 block of extended attributes
	SizeHigh    uint32               // 0x6c
	ObsoFaddr   uint32               // 0x70
	BlocksHigh  uint16               // 0x74
	FileACLHigh uint16               // 0x76
	UIDHigh     uint16               // 0x78
	GIDHigh     uint16               // 0x7a
	ChecksumLo  uint16               // 0x7c
	_           uint16               // 0x7e
	ExtraIsize  uint16               // 0x80
	ChecksumHi  uint16               // 0x82
	CTimeExtra  uint32               // 0x84
	MTimeExtra  uint32               // 0x88
	ATimeExtra  uint32               // 0x8c
	CRTime      uint32               // 0x90
	CRTimeExtra uint32               // 0x94
	VersionHi   uint32               // 0x98
	ProjID      uint32               // 0x9c
}

// Where fields of Inode are.
const (
	InodeChecksumLoOffset = 0x7c
	InodeChecksumHiOffset = 0x82
	InodeExtraIsizeOffset = 0x80
	InodeFixedSize        = 160                               // bytes of Inode
	InodeExtraIsize       = InodeFixedSize - GoodOldInodeSize // what Inode.ExtraIsize says
)

// Inode.Mode: the kinds of files.
const (
	ModeType    = 0xf000
	ModeFifo    = 0x1000
	ModeChar    = 0x2000
	ModeDir     = 0x4000
	ModeBlock   = 0x6000
	ModeFile    = 0x8000
	ModeSymlink = 0xa000
	ModeSocket  = 0xc000
	ModePerm    = 0x0fff
)

// Inode.Flags.
const (
	InodeEncrypt    = 0x800
	InodeIndex      = 0x1000 // a hashed directory
	InodeHugeFile   = 0x40000
	InodeExtents    = 0x80000
	InodeEAInode    = 0x200000
	InodeInlineData = 0x10000000
)
