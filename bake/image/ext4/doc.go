// Package ext4 plans an ext4 filesystem that holds a tree, and reads ext4
// filesystems.
//
// [Plan] computes every byte of the filesystem's metadata and where each file's
// content goes, without reading content: the result is an [extent.List] of
// ranges of one metadata blob and of the blobs that the tree's files are in.
// It uses no clock and no randomness: equal trees and options give equal bytes.
//
// What it makes: 4 KiB blocks, 256-byte inodes, extents, flex_bg, 64bit,
// metadata_csum, a journal, hashed directories, extended attributes including POSIX
// ACLs, hard links, device nodes, sparse_super and a resize inode, so that a
// mounted filesystem can grow. Block and inode tables that are not in use are
// flagged so, and the kernel's lazy initialisation has nothing to do at the
// first boot.
//
// All metadata that a mount reads is at the front: descriptors, bitmaps, inode
// tables, journal, directories, attribute blocks, long symlinks. Behind it
// files follow each other blob by blob, in the order in which a blob holds
// them. A run of files that is contiguous in its blob is one extent of the
// list, cut only by the superblock copies of sparse_super. Blocks of
// the extent trees, which only files in more than four pieces have, come last.
//
// What it does not make: holes in files (content is dense), encryption,
// case-folding, quota, project identifiers, inline data, bigalloc, attribute values
// larger than a block, sockets. The size is limited to 2 TiB, one
// directory to about a GiB of names, metadata in memory to what is in use (about 1 KiB
// for each file), whatever the size of the disk.
//
// [Open] reads what Plan makes and what mke2fs makes with usual features, and
// takes its input to be hostile: every checksum is verified, every number
// bounded. It does not replay a journal and does not read block-mapped files
// of ext2 and ext3.
//
// The files of the package are three layers. internal/format has the
// structures on disk. model.go makes inodes of a tree's entries; place.go
// decides where they go, with geometry.go and alloc.go; emit.go and its
// neighbours encode them. The reader is in read*.go.
package ext4
