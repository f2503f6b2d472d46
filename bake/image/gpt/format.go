package gpt

// The on-disk structures of the GUID partition table, UEFI Specification 2.10,
// chapter 5. All numbers are little-endian. GUIDs are stored with their first
// three fields byte-swapped (appendix A).

const (
	// SectorSize is the logical block size in bytes that a table is written
	// for and read with.
	SectorSize = 512

	numEntries     = 128 // 16 KiB of entries, the least that section 5.3.1 allows
	entrySize      = 128
	entryBytes     = numEntries * entrySize
	entrySectors   = entryBytes / SectorSize
	headerSize     = 92 // of the header proper; the rest of its sector is zero
	maxNameUnits   = 36 // UTF-16 code units of a partition's name
	firstUsableLBA = 2 + entrySectors
	tailSectors    = entrySectors + 1 // backup entries and backup header

	signature = "EFI PART"
	revision  = 0x00010000
)

// HeadSize and TailSize are the bytes at either end of a disk that the table
// occupies: protective MBR, primary header and entries; backup entries and
// backup header.
const (
	HeadSize = firstUsableLBA * SectorSize
	TailSize = tailSectors * SectorSize
)

// header is the partition table header (section 5.3.2, table 5.5).
type header struct {
	Signature      [8]byte
	Revision       uint32
	HeaderSize     uint32
	HeaderCRC32    uint32 // over HeaderSize bytes with this field zero
	Reserved       uint32
	MyLBA          uint64
	AlternateLBA   uint64
	FirstUsableLBA uint64
	LastUsableLBA  uint64
	DiskGUID       [16]byte
	EntryLBA       uint64
	NumEntries     uint32
	EntrySize      uint32
	EntriesCRC32   uint32
}

// entry is one partition (section 5.3.3, table 5.6).
type entry struct {
	Type       [16]byte
	GUID       [16]byte
	FirstLBA   uint64
	LastLBA    uint64 // inclusive
	Attributes uint64
	Name       [maxNameUnits]uint16
}

// mbrEntry is a partition record of the protective MBR (section 5.2.3, table 5.4).
type mbrEntry struct {
	BootIndicator uint8
	StartCHS      [3]byte
	Type          uint8
	EndCHS        [3]byte
	StartLBA      uint32
	Sectors       uint32
}

const (
	mbrEntryOffset  = 446
	mbrSignature    = 0xaa55 // at byte 510
	mbrTypeGPT      = 0xee
	mbrMaxSectors   = 0xffffffff // where the disk is larger than 32 bits count
	mbrSignatureOff = 510
)
