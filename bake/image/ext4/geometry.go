package ext4

import "fmt"

// growDescBlocks is how many blocks of group descriptors there is room for,
// in use or reserved: 256 describe 2 TiB, the largest GCE image. The kernel
// grows the table into them while mounted, and goes on with meta_bg where
// they end (ext4_resize_fs in fs/ext4/resize.c). mke2fs would reserve 1024 times
// the size, up to 1024 blocks: four times as much in each superblock copy.
const growDescBlocks = 256

// minReservedDescs keeps the resize inode in use where the table is at its limit already.
const minReservedDescs = 16

// minGroupRest is how many blocks must be usable in the last group to have it.
const minGroupRest = 50

// geometry is how the disk is divided into groups.
type geometry struct {
	blocks         int64 // of the filesystem, which may end before the partition does
	groups         int
	inodesPerGroup int
	descBlocks     int // in use
	reservedDescs  int // blocks for more of them
	journalBlocks  int64
}

func newGeometry(o Options) (geometry, error) {
	g := geometry{blocks: o.Size / blockSize, journalBlocks: o.JournalSize / blockSize}
	for {
		g.groups = int((g.blocks + blocksPerGroup - 1) / blocksPerGroup)
		g.descBlocks = (g.groups + descsPerBlock - 1) / descsPerBlock
		g.reservedDescs = max(growDescBlocks-g.descBlocks, minReservedDescs)
		perGroup := min(g.blocks, blocksPerGroup) * blockSize / o.BytesPerInode
		perGroup = (perGroup + inodesPerBlock - 1) / inodesPerBlock * inodesPerBlock
		g.inodesPerGroup = int(min(max(perGroup, inodesPerBlock), 8*blockSize))

		// A last group that holds little more than its own tables would take
		// space away. mke2fs leaves it out as well.
		rest := g.blocks % blocksPerGroup
		own := g.baseBlocks(g.groups-1) + 2 + int64(g.tableBlocks())
		if rest == 0 || rest >= own+minGroupRest {
			return g, nil
		}
		if g.groups == 1 {
			return g, fmt.Errorf("%d bytes are too few for an ext4 filesystem: choose a larger disk", o.Size)
		}
		g.blocks -= rest
	}
}

// tableBlocks is the length of one group's inode table.
func (g *geometry) tableBlocks() int { return g.inodesPerGroup / inodesPerBlock }

// groupStart is the first block of a group.
func (g *geometry) groupStart(group int) int64 { return int64(group) * blocksPerGroup }

// groupBlocks is how many blocks a group has.
func (g *geometry) groupBlocks(group int) int64 {
	return min(blocksPerGroup, g.blocks-g.groupStart(group))
}

// hasSuper reports whether sparse_super puts a copy of superblock and
// descriptors into a group: 0, 1 and powers of 3, 5 and 7 (super.rst).
func hasSuper(group int) bool {
	if group <= 1 {
		return true
	}
	for _, base := range [...]int{3, 5, 7} {
		n := group
		for n%base == 0 {
			n /= base
		}
		if n == 1 {
			return true
		}
	}
	return false
}

// baseBlocks is how many blocks at the start of a group hold its copy of
// superblock and descriptors, with those reserved for more descriptors.
func (g *geometry) baseBlocks(group int) int64 {
	if !hasSuper(group) {
		return 0
	}
	return 1 + int64(g.descBlocks) + int64(g.reservedDescs)
}
