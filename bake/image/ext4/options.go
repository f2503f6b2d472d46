package ext4

import (
	"errors"
	"fmt"

	"github.com/nodebake/bake/bake/image/ext4/internal/format"
	"github.com/nodebake/bake/bake/image/extent"
	"github.com/nodebake/bake/bake/tree"
)

// Sizes that Plan fixes. Debian's mke2fs takes the same for a filesystem of
// some GiB.
const (
	blockSize      = 4096
	blocksPerGroup = 8 * blockSize // one block of bitmap: 128 MiB
	inodesPerBlock = blockSize / format.InodeSize
	descsPerBlock  = blockSize / format.GroupDescSize

	maxSize = 2 << 40 // a bound of our own, above what an image may have (gce.MaxImageSize)
)

// Defaults of Options.
const (
	DefaultBytesPerInode = 16 << 10
	minJournal           = 4 << 20
	maxDefaultJournal    = 64 << 20
	maxJournal           = 256 << 20
)

// Options says what filesystem to make.
type Options struct {
	Size     int64    // of the partition in bytes, a multiple of 4096
	UUID     [16]byte // must be set
	HashSeed [16]byte // of hashed directories; zero: the hash's own constants
	Label    string   // at most 16 bytes
	Epoch    int64    // every time that an entry does not give, seconds since 1970

	// Blobs is the order in which content goes to the disk. Blobs of the tree that
	// are not in it follow in the order of their first file.
	Blobs []*tree.Blob

	// JournalSize is in bytes, 4 to 256 MiB. Zero means a sixteenth of Size,
	// within 4 and 64 MiB.
	JournalSize int64

	// BytesPerInode says that there is an inode for so many bytes of disk, now
	// and when it grows. Zero means DefaultBytesPerInode.
	BytesPerInode int64
}

// Layout is a planned filesystem.
type Layout struct {
	List extent.List // the partition's content

	// FreeBytes is what files can take. No blocks are reserved for root, as
	// everything on a node runs as root and kubelet evicts before the disk is full. The kernel
	// keeps up to 16 MiB of it back while mounted, which statfs(2) leaves out of f_bavail.
	FreeBytes  int64
	Inodes     int64 // in all
	FreeInodes int64

	PayloadBytes  int64 // files' content, in whole blocks
	MetadataBytes int64 // metadata that is not zero, which the plan keeps in memory
}

// withDefaults checks o and fills in what it leaves to us.
func (o Options) withDefaults() (Options, error) {
	if o.JournalSize == 0 {
		o.JournalSize = min(max(o.Size/16, minJournal), maxDefaultJournal) &^ (1<<20 - 1)
	}
	if o.BytesPerInode == 0 {
		o.BytesPerInode = DefaultBytesPerInode
	}
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if o.Size <= 0 || o.Size%blockSize != 0 || o.Size > maxSize {
		bad("size of %d bytes: want a multiple of %d up to %d", o.Size, blockSize, int64(maxSize))
	}
	if o.UUID == ([16]byte{}) {
		bad("UUID is not set")
	}
	if len(o.Label) > len(format.SuperBlock{}.VolumeName) {
		bad("label %q has %d bytes, at most %d fit", o.Label, len(o.Label), len(format.SuperBlock{}.VolumeName))
	}
	if o.Epoch < 0 || o.Epoch > 1<<32-1 {
		bad("epoch %d is outside of what the superblock can hold, 1970 to 2106", o.Epoch)
	}
	if o.JournalSize < minJournal || o.JournalSize > maxJournal || o.JournalSize%blockSize != 0 {
		bad("journal of %d bytes: want a multiple of %d from %d to %d", o.JournalSize, blockSize, minJournal, maxJournal)
	}
	if o.BytesPerInode < blockSize || o.BytesPerInode > 64<<20 {
		bad("an inode for %d bytes: want %d to %d", o.BytesPerInode, blockSize, 64<<20)
	}
	if len(errs) > 0 {
		return o, fmt.Errorf("ext4 options: %w", errors.Join(errs...))
	}
	return o, nil
}
