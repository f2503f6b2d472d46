package ext4

import (
	"encoding/binary"
	"fmt"

	"github.com/nodebake/bake/bake/image/ext4/internal/format"
)

// extentsPerBlock is how many entries a block of an extent tree holds beside its header
// and tail.
const extentsPerBlock = (blockSize-format.ExtentTailLength)/format.ExtentEntrySize - 1

// extentTreeBlocks is how many blocks the tree of n extents needs beside the inode.
func extentTreeBlocks(n int) int {
	blocks := 0
	for n > format.ExtentsInInode {
		n = (n + extentsPerBlock - 1) / extentsPerBlock
		blocks += n
	}
	return blocks
}

// putExtents writes the extent tree of runs: its root to area, which is
// Inode.Block, and the rest to the blocks at, in the order leaves first. block returns the buffer of
// a block, and seed is the one of the inode.
func putExtents(area []byte, runs []run, at []run, seed uint32, block func(n int64) []byte) {
	var few [format.ExtentsInInode]uint32
	first := few[:0] // of each entry of the level being written: the first block of the file that it covers
	var logical int64
	for _, r := range runs {
		first = append(first, uint32(logical))
		logical += r.n
	}
	if logical > 1<<32-1 {
		panic(fmt.Sprintf("BUG: file of %d blocks", logical))
	}
	put := func(b []byte, depth, from, to, limit int) {
		// By hand: package binary would allocate for each of thousands of files.
		binary.LittleEndian.PutUint16(b, format.ExtentMagic)
		binary.LittleEndian.PutUint16(b[2:], uint16(to-from))
		binary.LittleEndian.PutUint16(b[4:], uint16(limit))
		binary.LittleEndian.PutUint16(b[6:], uint16(depth))
		for i := from; i < to; i++ {
			b = b[format.ExtentEntrySize:]
			binary.LittleEndian.PutUint32(b, first[i])
			if depth == 0 {
				binary.LittleEndian.PutUint16(b[4:], uint16(runs[i].n))
				binary.LittleEndian.PutUint16(b[6:], uint16(runs[i].block>>32))
				binary.LittleEndian.PutUint32(b[8:], uint32(runs[i].block))
			} else {
				binary.LittleEndian.PutUint32(b[4:], uint32(runs[i].block))
				binary.LittleEndian.PutUint16(b[8:], uint16(runs[i].block>>32))
			}
		}
	}
	depth := 0
	for ; len(runs) > format.ExtentsInInode; depth++ {
		n := (len(runs) + extentsPerBlock - 1) / extentsPerBlock
		upper := make([]uint32, n)
		for i := range n {
			from := i * extentsPerBlock
			b := block(at[i].block)
			put(b, depth, from, min(from+extentsPerBlock, len(runs)), extentsPerBlock)
			tail := b[format.ExtentEntrySize*(1+extentsPerBlock):]
			binary.LittleEndian.PutUint32(tail, crc32c(seed, b[:len(b)-len(tail)]))
			upper[i] = first[from]
		}
		runs, first, at = at[:n], upper, at[n:]
	}
	put(area, depth, 0, len(runs), format.ExtentsInInode)
}
