package ext4

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/nodebake/bake/bake/image/ext4/internal/format"
)

// Limits of what [Open] and [FS.Walk] accept. They are far above what an
// image of ours has, and keep memory and time bounded on a hostile one.
const (
	maxGroups      = 1 << 15   // 4 TiB with blocks of 4 KiB
	maxNames       = 1 << 20   // in one walk
	maxText        = 256 << 20 // bytes of paths, symlinks and extended attributes in one walk
	maxDirBlocks   = 1 << 16
	maxFileExtents = 1 << 20
	maxPath        = 4096 // bytes
)

// Features that the reader understands; any other incompatible one is an error.
const readableIncompat = format.IncompatFiletype | format.IncompatExtents | format.Incompat64Bit | format.IncompatFlexBG |
	format.IncompatMetaBG | format.IncompatCsumSeed | format.IncompatMMP | format.IncompatLargeDir

// FS reads an ext4 filesystem. It must not be used from several goroutines.
type FS struct {
	meta metaReader
	r    io.ReaderAt

	super     format.SuperBlock
	blockSize int64
	blocks    int64
	inodeSize int
	groups    []format.GroupDesc

	checked bool   // whether metadata has checksums that we verify
	seed    uint32 // of checksums
}

// Info says what the superblock says.
type Info struct {
	UUID       [16]byte
	Label      string
	Size       int64 // bytes
	FreeBytes  int64
	Inodes     int64
	FreeInodes int64
	Created    int64 // seconds since 1970
}

// Open reads the superblock and the group descriptors of the filesystem that
// begins at the start of r, and verifies their checksums. Where it lacks feature
// metadata_csum there are none to verify. It refuses filesystems that were not unmounted cleanly.
func Open(r io.ReaderAt) (*FS, error) { return open(r, true) }

// open is Open; fuzzing leaves out the checksums, to get behind them.
func open(r io.ReaderAt, verify bool) (*FS, error) {
	f := &FS{r: r, meta: newMetaReader(r)}
	if err := f.readSuper(verify); err != nil {
		return nil, fmt.Errorf("reading ext4 superblock: %w", err)
	}
	if err := f.readGroups(); err != nil {
		return nil, fmt.Errorf("reading ext4 group descriptors: %w", err)
	}
	return f, nil
}

// Info returns what the superblock says.
func (f *FS) Info() Info {
	s := &f.super
	return Info{
		UUID:       s.UUID,
		Label:      string(bytes.TrimRight(s.VolumeName[:], "\x00")),
		Size:       f.blocks * f.blockSize,
		FreeBytes:  f.join(s.FreeBlocksCountLo, s.FreeBlocksCountHi) * f.blockSize,
		Inodes:     int64(s.InodesCount),
		FreeInodes: int64(s.FreeInodesCount),
		Created:    int64(s.MkfsTime),
	}
}

func (f *FS) incompat(feature uint32) bool { return f.super.FeatureIncompat&feature != 0 }
func (f *FS) roCompat(feature uint32) bool { return f.super.FeatureROCompat&feature != 0 }

// join makes one number of a field's two halves, the upper of which is only there with
// feature 64bit.
func (f *FS) join(low, high uint32) int64 {
	if !f.incompat(format.Incompat64Bit) {
		high = 0
	}
	return int64(high&0x7fffffff)<<32 | int64(low)
}

func (f *FS) readSuper(verify bool) error {
	b, err := f.meta.read(format.SuperBlockOffset, format.SuperBlockSize)
	if err != nil {
		return err
	}
	s := &f.super
	getStruct(b, s)
	if s.Magic != format.SuperBlockMagic {
		return fmt.Errorf("magic number %#x, want %#x: this is not an ext filesystem", s.Magic, format.SuperBlockMagic)
	}
	f.checked = verify && f.roCompat(format.ROCompatMetadataCsum)
	if f.checked {
		if s.ChecksumType != format.ChecksumCRC32C {
			return fmt.Errorf("checksums of unknown type %d", s.ChecksumType)
		}
		if got := crc32c(crcStart, b[:format.SuperBlockChecksumOffset]); got != s.Checksum {
			return &ChecksumError{What: "superblock", Got: got, Want: s.Checksum}
		}
	}
	if f.incompat(format.IncompatRecover) {
		return errors.New("it was not unmounted cleanly, its journal has to be replayed: run e2fsck -p on it first")
	}
	if rest := s.FeatureIncompat &^ readableIncompat; rest != 0 {
		return fmt.Errorf("incompatible features %#x are not supported", rest)
	}
	if !f.incompat(format.IncompatFiletype) {
		return errors.New("without feature filetype, as ext2 had it, it is not supported")
	}
	f.seed = crc32c(crcStart, s.UUID[:])
	if f.incompat(format.IncompatCsumSeed) {
		f.seed = s.ChecksumSeed
	}
	return f.checkSuper()
}

// checkSuper checks the numbers that everything else is computed from.
func (f *FS) checkSuper() error {
	s := &f.super
	if s.LogBlockSize > 2 {
		return fmt.Errorf("blocks of 1024 << %d bytes: 1, 2 and 4 KiB are supported", s.LogBlockSize)
	}
	f.blockSize = 1024 << s.LogBlockSize
	f.blocks = f.join(s.BlocksCountLo, s.BlocksCountHi)
	f.inodeSize = int(s.InodeSize)
	bits := uint32(8 * f.blockSize)
	first := int64(s.FirstDataBlock)
	switch {
	case first > 1 || first >= f.blocks:
		return fmt.Errorf("it begins with block %d of %d", first, f.blocks)
	case s.BlocksPerGroup == 0 || s.BlocksPerGroup%8 != 0 || s.BlocksPerGroup > bits && !f.roCompat(format.ROCompatBigalloc):
		return fmt.Errorf("%d blocks in a group, at most %d fit", s.BlocksPerGroup, bits)
	case s.InodesPerGroup == 0 || s.InodesPerGroup%8 != 0 || s.InodesPerGroup > bits:
		return fmt.Errorf("%d inodes in a group, at most %d fit", s.InodesPerGroup, bits)
	case f.inodeSize < format.GoodOldInodeSize || int64(f.inodeSize) > f.blockSize || f.inodeSize&(f.inodeSize-1) != 0:
		return fmt.Errorf("inodes of %d bytes", f.inodeSize)
	case f.descSize() < format.GroupDescSize32 || f.descSize() > 1024 || f.descSize()&(f.descSize()-1) != 0:
		return fmt.Errorf("group descriptors of %d bytes", f.descSize())
	case f.blocks > 1<<47:
		return fmt.Errorf("%d blocks", f.blocks)
	}
	groups := f.groupCount()
	if groups > maxGroups {
		return fmt.Errorf("%d groups, at most %d are supported", groups, maxGroups)
	}
	if want := groups * int64(s.InodesPerGroup); want != int64(s.InodesCount) {
		return fmt.Errorf("%d inodes, want %d for %d groups", s.InodesCount, want, groups)
	}
	return nil
}

func (f *FS) groupCount() int64 {
	per := int64(f.super.BlocksPerGroup)
	return (f.blocks - int64(f.super.FirstDataBlock) + per - 1) / per
}

func (f *FS) descSize() int {
	if f.incompat(format.Incompat64Bit) {
		return int(f.super.DescSize)
	}
	return format.GroupDescSize32
}

// readGroups reads the descriptors: in the blocks after the superblock, and with feature
// meta_bg from its first group on in the first block of so many groups as one block
// describes (group_descr.rst; blockgroup.rst, "Meta Block Groups").
func (f *FS) readGroups() error {
	size := f.descSize()
	perBlock := int(f.blockSize) / size
	count := int(f.groupCount())
	first := int64(f.super.FirstDataBlock)
	for group := range count {
		at := first + 1 + int64(group/perBlock)
		if meta := group / perBlock; f.incompat(format.IncompatMetaBG) && meta >= int(f.super.FirstMetaBG) {
			leader := meta * perBlock
			at = first + int64(leader)*int64(f.super.BlocksPerGroup)
			if f.hasSuper(leader) {
				at++
			}
		}
		b, err := f.meta.read(at*f.blockSize+int64(group%perBlock*size), size)
		if err != nil {
			return fmt.Errorf("group %d: %w", group, err)
		}
		var d format.GroupDesc
		whole := make([]byte, format.GroupDescSize)
		copy(whole, b)
		getStruct(whole, &d)
		if f.checked {
			if got := groupChecksum(f.seed, group, b); got != d.Checksum {
				return &ChecksumError{What: fmt.Sprintf("descriptor of group %d", group), Got: uint32(got), Want: uint32(d.Checksum)}
			}
		}
		f.groups = append(f.groups, d)
	}
	return nil
}

// hasSuper reports whether a group has a copy of the superblock.
func (f *FS) hasSuper(group int) bool {
	return !f.roCompat(format.ROCompatSparseSuper) || hasSuper(group)
}

// ChecksumError says that metadata is not what its checksum was made of.
type ChecksumError struct {
	What      string // such as "inode 12"
	Got, Want uint32
}

func (e *ChecksumError) Error() string {
	return fmt.Sprintf("%s: checksum %#x, want %#x: it is corrupt", e.What, e.Got, e.Want)
}

// checkSum is nil where got is want or checksums are not in use.
func (f *FS) checkSum(what string, number int64, got, want uint32) error {
	if !f.checked || got == want {
		return nil
	}
	return &ChecksumError{What: fmt.Sprintf("%s %d", what, number), Got: got, Want: want}
}

// readBlock reads one block of metadata. The result must not be changed.
func (f *FS) readBlock(n int64) ([]byte, error) {
	if n < int64(f.super.FirstDataBlock) || n >= f.blocks {
		return nil, fmt.Errorf("block %d is outside of the filesystem's %d", n, f.blocks)
	}
	return f.meta.read(n*f.blockSize, int(f.blockSize))
}

// getStruct reads a structure of package format, little-endian.
func getStruct(b []byte, v any) {
	if _, err := binary.Decode(b, binary.LittleEndian, v); err != nil {
		panic(fmt.Sprintf("BUG: decoding %T from %d bytes: %v", v, len(b), err))
	}
}
