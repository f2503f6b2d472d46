package fat

// The on-disk structures of FAT32, from Microsoft's "FAT: General Overview of
// On-Disk Format" 1.03 (fatgen103), which the UEFI Specification 2.10, section
// 13.3, makes the format of the EFI system partition. All numbers are
// little-endian.

const (
	sectorSize = 512
	entrySize  = 32

	numFATs        = 2
	fsInfoSector   = 1
	backupSector   = 6 // where fatgen103 wants the backup boot sector
	minReserved    = 32
	rootCluster    = 2
	mediaFixed     = 0xf8
	bootSignature  = 0xaa55
	extBootSig     = 0x29
	minClusters    = 65525 // fewer make a driver take the volume for FAT16
	maxClusters    = 0x0ffffff5
	endOfChain     = 0x0fffffff
	endOfChainMin  = 0x0ffffff8
	entryMask      = 0x0fffffff
	maxFileSize    = 1<<32 - 1
	maxDirBytes    = 65536 * entrySize
	nameUnits      = 255 // UTF-16 code units of a long name
	unitsPerRecord = 13  // of which one directory record holds
)

// bootSector is the first sector: BIOS parameter block and what follows it.
type bootSector struct {
	Jump              [3]byte
	OEMName           [8]byte
	BytesPerSector    uint16
	SectorsPerCluster uint8
	ReservedSectors   uint16
	NumFATs           uint8
	RootEntries       uint16 // 0 on FAT32
	TotalSectors16    uint16 // 0 on FAT32
	Media             uint8
	FATSize16         uint16 // 0 on FAT32
	SectorsPerTrack   uint16
	Heads             uint16
	HiddenSectors     uint32
	TotalSectors32    uint32
	FATSize32         uint32 // sectors
	ExtFlags          uint16 // 0: both FATs are alike
	Version           uint16
	RootCluster       uint32
	FSInfo            uint16
	BackupBoot        uint16
	Reserved          [12]byte
	DriveNumber       uint8
	Reserved1         uint8
	BootSig           uint8
	VolumeID          uint32
	Label             [11]byte
	Type              [8]byte // "FAT32   ", for people
	Code              [420]byte
	Signature         uint16
}

// fsInfo is the second sector.
type fsInfo struct {
	LeadSig     uint32
	Reserved1   [480]byte
	StructSig   uint32
	Free        uint32 // clusters
	NextFree    uint32 // where to look first
	Reserved2   [12]byte
	TrailSigLow uint32
}

const (
	fsInfoLead   = 0x41615252
	fsInfoStruct = 0x61417272
	fsInfoTrail  = 0xaa550000
)

// dirEntry is a short directory record.
type dirEntry struct {
	Name        [11]byte // 8.3, padded with spaces
	Attr        uint8
	NTRes       uint8
	CreateTenth uint8 // 10 ms units, 0 to 199
	CreateTime  uint16
	CreateDate  uint16
	AccessDate  uint16
	ClusterHigh uint16
	WriteTime   uint16
	WriteDate   uint16
	ClusterLow  uint16
	Size        uint32
}

// longEntry is one record of a long name. Records precede the short one, the
// last part of the name first.
type longEntry struct {
	Order      uint8 // from 1; lastLong is set in the one that comes first
	Name1      [5]uint16
	Attr       uint8 // attrLong
	Type       uint8
	Checksum   uint8 // of the short name
	Name2      [6]uint16
	ClusterLow uint16 // 0
	Name3      [2]uint16
}

const (
	attrReadOnly = 0x01
	attrHidden   = 0x02
	attrSystem   = 0x04
	attrVolumeID = 0x08
	attrDir      = 0x10
	attrArchive  = 0x20
	attrLong     = attrReadOnly | attrHidden | attrSystem | attrVolumeID
	attrLongMask = attrLong | attrDir | attrArchive

	caseLowerBase = 0x08 // in NTRes; not in fatgen103, but what Windows NT does
	caseLowerExt  = 0x10

	lastLong    = 0x40
	deletedMark = 0xe5
	kanjiE5     = 0x05 // stands for 0xe5 as the first byte of a name
)
