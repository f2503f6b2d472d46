package format

// SuperBlock is struct ext4_super_block (super.rst).
type SuperBlock struct {
	InodesCount       uint32     // 0x00
	BlocksCountLo     uint32     // 0x04
	RBlocksCountLo    uint32     // 0x08 reserved for root
	FreeBlocksCountLo uint32     // 0x0c
	FreeInodesCount   uint32     // 0x10
	FirstDataBlock    uint32     // 0x14
	LogBlockSize      uint32     // 0x18 block size is 1024 << this
	LogClusterSize    uint32     // 0x1c
	BlocksPerGroup    uint32     // 0x20
	ClustersPerGroup  uint32     // 0x24
	InodesPerGroup    uint32     // 0x28
	MTime             uint32     // 0x2c last mount
	WTime             uint32     // 0x30 last write
	MntCount          uint16     // 0x34
	MaxMntCount       uint16     // 0x36
	Magic             uint16     // 0x38
	State             uint16     // 0x3a
	Errors            uint16     // 0x3c
	MinorRevLevel     uint16     // 0x3e
	LastCheck         uint32     // 0x40
	CheckInterval     uint32     // 0x44
	CreatorOS         uint32     // 0x48
	RevLevel          uint32     // 0x4c
	DefResUID         uint16     // 0x50
	DefResGID         uint16     // 0x52
	FirstIno          uint32     // 0x54
	InodeSize         uint16     // 0x58
	BlockGroupNr      uint16     // 0x5a which copy this is
	FeatureCompat     uint32     // 0x5c
	FeatureIncompat   uint32     // 0x60
	FeatureROCompat   uint32     // 0x64
	UUID              [16]byte   // 0x68
	VolumeName        [16]byte   // 0x78
	LastMounted       [64]byte   // 0x88
	AlgorithmUsage    uint32     // 0xc8
	PreallocBlocks    uint8      // 0xcc
	PreallocDirBlocks uint8      // 0xcd
	ReservedGDTBlocks uint16     // 0xce
	JournalUUID       [16]byte   // 0xd0 of an external journal
	JournalInum       uint32     // 0xe0
	JournalDev        uint32     // 0xe4
	LastOrphan        uint32     // 0xe8
	HashSeed          [16]byte   // 0xec four little-endian words
	DefHashVersion    uint8      // 0xfc
	JnlBackupType     uint8      // 0xfd
	DescSize          uint16     // 0xfe
	DefaultMountOpts  uint32     // 0x100
	FirstMetaBG       uint32     // 0x104
	MkfsTime          uint32     // 0x108
	JnlBlocks         [17]uint32 // 0x10c copy of the journal inode's i_block, size high, size low
	BlocksCountHi     uint32     // 0x150
	RBlocksCountHi    uint32     // 0x154
	FreeBlocksCountHi uint32     // 0x158
	MinExtraIsize     uint16     // 0x15c
	WantExtraIsize    uint16     // 0x15e
	Flags             uint32     // 0x160
	RAIDStride        uint16     // 0x164
	MMPInterval       uint16     // 0x166
	MMPBlock          uint64     // 0x168
	RAIDStripeWidth   uint32     // 0x170
	LogGroupsPerFlex  uint8      // 0x174
	ChecksumType      uint8      // 0x175
	EncryptionLevel   uint8      // 0x176
	ReservedPad       uint8      // 0x177
	KBytesWritten     uint64     // 0x178
	SnapshotInum      uint32     // 0x180
	SnapshotID        uint32     // 0x184
	SnapshotRBlocks   uint64     // 0x188
	SnapshotList      uint32     // 0x190
	ErrorCount        uint32     // 0x194
	FirstError        [40]byte   // 0x198 time, inode, block, function, line
	LastError         [40]byte   // 0x1c0
	_                 [24]byte   // 0x1e8 the rest of the error fields and the start of s_mount_opts
	_                 [48]byte   // 0x200 the rest of s_mount_opts[64]
	_                 [16]byte   // 0x230
	UsrQuotaInum      uint32     // 0x240
	GrpQuotaInum      uint32     // 0x244
	OverheadClusters  uint32     // 0x248
	BackupBGs         [2]uint32  // 0x24c sparse_super2
	EncryptAlgos      [4]uint8   // 0x254
	EncryptPWSalt     [16]byte   // 0x258
	LpfIno            uint32     // 0x268
	PrjQuotaInum      uint32     // 0x26c
	ChecksumSeed      uint32     // 0x270
	_                 [8]byte    // 0x274 high bytes of times, error codes
	Encoding          uint16     // 0x27c
	EncodingFlags     uint16     // 0x27e
	OrphanFileInum    uint32     // 0x280
	_                 [94]uint32 // 0x284
	Checksum          uint32     // 0x3fc
}

// Offsets that are used without decoding the whole.
const (
	SuperBlockChecksumOffset = 0x3fc
	SuperBlockMagic          = 0xef53
)

// SuperBlock.State, Errors, CreatorOS, RevLevel, ChecksumType, JnlBackupType.
const (
	StateValid          = 1
	StateError          = 2
	ErrorsContinue      = 1
	ErrorsRemountRO     = 2
	OSLinux             = 0
	DynamicRev          = 1
	ChecksumCRC32C      = 1
	JournalBackupBlocks = 1
	NoMaxMounts         = 0xffff // -1: never checked by count
)

// SuperBlock.DefaultMountOpts.
const (
	MountXattrUser = 0x4
	MountACL       = 0x8
)

// SuperBlock.Flags and DefHashVersion (directory.rst, "Hash Tree Directories").
const (
	FlagSignedHash   = 1
	FlagUnsignedHash = 2
	HashHalfMD4      = 1
)

// SuperBlock.FeatureCompat.
const (
	CompatHasJournal  = 0x4
	CompatExtAttr     = 0x8
	CompatResizeInode = 0x10
	CompatDirIndex    = 0x20
)

// SuperBlock.FeatureIncompat.
const (
	IncompatFiletype  = 0x2
	IncompatRecover   = 0x4
	IncompatMetaBG    = 0x10
	IncompatExtents   = 0x40
	Incompat64Bit     = 0x80
	IncompatMMP       = 0x100
	IncompatFlexBG    = 0x200
	IncompatEAInode   = 0x400
	IncompatCsumSeed  = 0x2000
	IncompatLargeDir  = 0x4000
	IncompatInline    = 0x8000
	IncompatEncrypt   = 0x10000
	IncompatCasefold  = 0x20000
	IncompatJournalEx = 0x8 // an external journal device
)

// SuperBlock.FeatureROCompat.
const (
	ROCompatSparseSuper  = 0x1
	ROCompatLargeFile    = 0x2
	ROCompatHugeFile     = 0x8
	ROCompatGDTCsum      = 0x10
	ROCompatDirNlink     = 0x20
	ROCompatExtraIsize   = 0x40
	ROCompatBigalloc     = 0x200
	ROCompatMetadataCsum = 0x400
)
