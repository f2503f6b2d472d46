package ext4

import (
	"errors"
	"fmt"
	"math/bits"

	"github.com/nodebake/bake/bake/image/ext4/internal/format"
)

// Verify checks what Walk does not look at: the bitmaps' checksums, and that the numbers of
// free blocks and inodes agree with them. It is no e2fsck: whether each file's
// blocks are marked in the bitmaps, it does not compare.
func (f *FS) Verify() error {
	if f.super.State&format.StateError != 0 {
		return errors.New("verifying ext4: it is marked as having errors: run e2fsck on it")
	}
	var freeBlocks, freeInodes int64
	for group := range f.groups {
		blocks, inodes, err := f.verifyGroup(group)
		if err != nil {
			return fmt.Errorf("verifying ext4: group %d: %w", group, err)
		}
		freeBlocks += blocks
		freeInodes += inodes
	}
	if want := f.join(f.super.FreeBlocksCountLo, f.super.FreeBlocksCountHi); freeBlocks != want {
		return fmt.Errorf("verifying ext4: %d blocks are free, the superblock says %d", freeBlocks, want)
	}
	if want := int64(f.super.FreeInodesCount); freeInodes != want {
		return fmt.Errorf("verifying ext4: %d inodes are free, the superblock says %d", freeInodes, want)
	}
	return nil
}

// verifyGroup returns how many blocks and inodes of a group are free.
func (f *FS) verifyGroup(group int) (blocks, inodes int64, err error) {
	d := &f.groups[group]
	blocks = f.join(uint32(d.FreeBlocksCountLo), 0)
	inodes = f.join(uint32(d.FreeInodesCountLo), 0)
	if f.incompat(format.Incompat64Bit) {
		blocks |= int64(d.FreeBlocksCountHi) << 16
		inodes |= int64(d.FreeInodesCountHi) << 16
	}
	if f.roCompat(format.ROCompatBigalloc) {
		return blocks, inodes, errors.New("feature bigalloc is not supported")
	}
	first := int64(f.super.FirstDataBlock) + int64(group)*int64(f.super.BlocksPerGroup)
	length := min(int64(f.super.BlocksPerGroup), f.blocks-first)
	if d.Flags&format.GroupBlockUninit == 0 {
		at := f.join(d.BlockBitmapLo, d.BlockBitmapHi)
		sum := uint32(d.BlockBitmapCsumHi)<<16 | uint32(d.BlockBitmapCsumLo)
		if err := f.verifyBitmap("block bitmap", at, length, int(f.super.BlocksPerGroup/8), sum, blocks); err != nil {
			return 0, 0, err
		}
	}
	if d.Flags&format.GroupInodeUninit == 0 {
		at := f.join(d.InodeBitmapLo, d.InodeBitmapHi)
		sum := uint32(d.InodeBitmapCsumHi)<<16 | uint32(d.InodeBitmapCsumLo)
		if err := f.verifyBitmap("inode bitmap", at, int64(f.super.InodesPerGroup), int(f.super.InodesPerGroup/8), sum, inodes); err != nil {
			return 0, 0, err
		}
	}
	return blocks, inodes, nil
}

// verifyBitmap checks a bitmap of length bits, the checksum over its first summed bytes,
// and how many bits of it are clear.
func (f *FS) verifyBitmap(what string, at, length int64, summed int, sum uint32, free int64) error {
	b, err := f.readBlock(at)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	got := crc32c(f.seed, b[:summed])
	if f.descSize() < format.GroupDescSize {
		got &= 0xffff // its upper half has no place
	}
	if err := f.checkSum(what+" in block", at, got, sum); err != nil {
		return err
	}
	used := int64(0)
	for _, octet := range b[:length/8] {
		used += int64(bits.OnesCount8(octet))
	}
	for bit := length &^ 7; bit < length; bit++ {
		used += int64(b[bit/8] >> (bit % 8) & 1)
	}
	if length-used != free {
		return fmt.Errorf("%s has %d of %d bits clear, its descriptor says %d", what, length-used, length, free)
	}
	return nil
}
