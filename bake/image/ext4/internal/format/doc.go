// Package format has the on-disk structures of ext4 as the kernel documents
// them, and their constants. Everything is little-endian, except the journal,
// which is big-endian.
//
// It has no logic: who fills or checks these structures is package ext4. The
// sources are the kernel's Documentation/filesystems/ext4 (the chapter is named
// at each type, https://docs.kernel.org/filesystems/ext4/) and, where that is
// silent, the name of the field in fs/ext4/ext4.h.
package format

// Sizes and numbers that the structures fix.
const (
	SuperBlockOffset = 1024 // bytes from the start of the partition
	SuperBlockSize   = 1024
	GroupDescSize32  = 32 // without feature 64bit
	GroupDescSize    = 64
	InodeSize        = 256 // of the inodes that we make
	GoodOldInodeSize = 128 // what every inode has at least
	InodeBlockSize   = 60  // bytes of Inode.Block
)

// Inodes with a fixed number (special_inodes.rst).
const (
	InodeRoot       = 2
	InodeResize     = 7
	InodeJournal    = 8
	InodeFirst      = 11 // the first that is not reserved
	InodeLostFound  = 11 // by custom, as mke2fs makes it first
	MaxLinks        = 65000
	MaxNameLen      = 255
	MaxSymlink      = 4095 // one block with its NUL
	MaxFastSymlink  = InodeBlockSize - 1
	MaxExtentBlocks = 32768 // longer ones are unwritten extents
	MaxExtentDepth  = 5
)
