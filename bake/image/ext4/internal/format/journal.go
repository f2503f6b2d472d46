package format

// JournalSuperBlock is journal_superblock_t, version 2, big-endian
// (journal.rst, "Super Block").
type JournalSuperBlock struct {
	Magic           uint32   // 0x00
	BlockType       uint32   // 0x04
	HeaderSequence  uint32   // 0x08
	BlockSize       uint32   // 0x0c
	MaxLen          uint32   // 0x10 blocks
	First           uint32   // 0x14 first block of the log
	Sequence        uint32   // 0x18 first commit to expect
	Start           uint32   // 0x1c where the log starts; 0: it is empty
	Errno           uint32   // 0x20
	FeatureCompat   uint32   // 0x24
	FeatureIncompat uint32   // 0x28
	FeatureROCompat uint32   // 0x2c
	UUID            [16]byte // 0x30
	NrUsers         uint32   // 0x40
	DynSuper        uint32   // 0x44
	MaxTransaction  uint32   // 0x48
	MaxTransData    uint32   // 0x4c
	ChecksumType    uint8    // 0x50
	_               [3]uint8 // 0x51
	NumFastCommit   uint32   // 0x54
	Head            uint32   // 0x58
	_               [40]uint32
	Checksum        uint32     // 0xfc
	Users           [768]uint8 // 0x100
}

// Of the journal.
const (
	JournalMagic        = 0xc03b3998
	JournalSuperBlockV2 = 4
	JournalMinBlocks    = 1024
)
