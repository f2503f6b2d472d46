package ext4

import (
	"fmt"

	"github.com/nodebake/bake/bake/image/ext4/internal/format"
	"github.com/nodebake/bake/bake/tree"
)

// placement says where everything of a model is.
type placement struct {
	geometry
	*model
	alloc *allocator

	blockBitmaps run     // one block for each group, as inodeBitmaps
	inodeBitmaps run     //
	tables       []int64 // each group's inode table
	journal      []run
	resizeMap    int64 // the block of the resize inode that knows the reserved descriptors

	runs    []run        // of all nodes, each node's together
	content []span       // by node: its content in runs
	xattrs  []int64      // by node: its block of extended attributes, or 0
	trees   []extentTree // of nodes whose extents do not fit into the inode, in their order
	treeAt  []run        // blocks of extent trees
}

// extentTree says where the blocks of a node's extent tree are: in treeAt, from an index on.
type extentTree struct {
	node, from int32
}

// span is a range of indexes.
type span struct {
	from, to int32
}

// of returns the runs in s.
func (s span) of(runs []run) []run { return runs[s.from:s.to] }

// FullError says that a tree does not fit into a filesystem of Size bytes.
type FullError struct {
	Path string // what was being placed: a path or what metadata
	Size int64
}

func (e *FullError) Error() string {
	return fmt.Sprintf("%s: the filesystem of %d bytes is full: choose a larger disk", e.Path, e.Size)
}

// place decides where everything goes.
func place(g geometry, m *model) (*placement, error) {
	p := &placement{geometry: g, model: m}
	p.alloc = newAllocator(&p.geometry)
	if last := inodeNumber(int32(len(m.nodes) - 1)); int64(last) > p.inodes() {
		return nil, fmt.Errorf("%d files, the filesystem of %d bytes has %d inodes: choose a larger disk or fewer bytes for an inode", len(m.nodes), g.blocks*blockSize, p.inodes())
	}
	if err := p.placeTables(); err != nil {
		return nil, err
	}
	p.content = make([]span, len(m.nodes))
	p.xattrs = make([]int64, len(m.nodes))
	p.runs = make([]run, 0, len(m.nodes)+8*g.groups)
	// Metadata first: what a directory walk and stat read lies together.
	for i := range m.nodes {
		n := &m.nodes[i]
		if n.entry.Type != tree.File {
			if err := p.placeContent(int32(i)); err != nil {
				return nil, err
			}
		}
		if n.xattr != nil {
			block, ok := p.alloc.contiguous(1)
			if !ok {
				return nil, p.full(n.entry.Path)
			}
			p.xattrs[i] = block
		}
	}
	for _, i := range m.files {
		if err := p.placeContent(i); err != nil {
			return nil, err
		}
	}
	return p, p.placeTrees()
}

func (p *placement) full(what string) error {
	return &FullError{Path: what, Size: p.blocks * blockSize}
}

// inodes is how many inodes there are.
func (p *placement) inodes() int64 { return int64(p.groups) * int64(p.inodesPerGroup) }

// placeTables places what belongs to groups, and the journal.
func (p *placement) placeTables() error {
	for _, bitmaps := range []*run{&p.blockBitmaps, &p.inodeBitmaps} {
		block, ok := p.alloc.contiguous(int64(p.groups))
		if !ok {
			return p.full("bitmaps")
		}
		*bitmaps = run{block, int64(p.groups)}
	}
	p.tables = make([]int64, p.groups)
	for i := range p.tables {
		block, ok := p.alloc.contiguous(int64(p.tableBlocks()))
		if !ok {
			return p.full("inode tables")
		}
		p.tables[i] = block
	}
	var ok bool
	if p.resizeMap, ok = p.alloc.contiguous(1); !ok {
		return p.full("resize inode")
	}
	if p.journal, ok = p.alloc.take(nil, p.journalBlocks); !ok {
		return p.full("journal")
	}
	if len(p.journal) > format.ExtentsInInode {
		return fmt.Errorf("BUG: journal of %d blocks in %d extents", p.journalBlocks, len(p.journal))
	}
	return nil
}

// placeContent places the blocks of a node.
func (p *placement) placeContent(i int32) error {
	from := len(p.runs)
	var ok bool
	if p.runs, ok = p.alloc.take(p.runs, p.nodes[i].blocks); !ok {
		return p.full(p.nodes[i].entry.Path)
	}
	p.content[i] = span{int32(from), int32(len(p.runs))}
	return nil
}

// placeTrees places the blocks of extent trees of nodes whose extents do not fit into the
// inode. They come last because how many extents there are is only known now.
func (p *placement) placeTrees() error {
	for i := range p.nodes {
		blocks := extentTreeBlocks(len(p.content[i].of(p.runs)))
		if blocks == 0 {
			continue
		}
		from := int32(len(p.treeAt))
		for range blocks {
			block, ok := p.alloc.contiguous(1)
			if !ok {
				return p.full(p.nodes[i].entry.Path)
			}
			p.treeAt = append(p.treeAt, run{block, 1})
		}
		p.trees = append(p.trees, extentTree{int32(i), from})
	}
	return nil
}

// freeBlocks is how many blocks are left.
func (p *placement) freeBlocks() int64 {
	free := p.blocks - p.alloc.total
	for group := range p.groups {
		free -= p.baseBlocks(group)
	}
	return free
}

// MinSize returns the smallest Options.Size in bytes with which Plan of t
// leaves free bytes free; every larger one does so too. It ignores o.Size. A
// tree that no size fits is an error. Below a GiB, where the default journal grows with
// the size, both hold to within a MiB.
func MinSize(t *tree.Tree, o Options, free int64) (int64, error) {
	o.Size = maxSize
	checked, err := o.withDefaults()
	if err != nil {
		return 0, err
	}
	m, err := newModel(t, &checked)
	if err != nil {
		return 0, err
	}
	// The search relies on what is free growing with the size. A group that
	// begins would be an exception, had newGeometry not left out those that take
	// space away. Whatever the search meets, it ends with a size that fits.
	fits := func(blocks int64) bool {
		o.Size = blocks * blockSize
		sized, err := o.withDefaults()
		if err != nil {
			return false
		}
		g, err := newGeometry(sized)
		if err != nil {
			return false
		}
		p, err := place(g, m)
		return err == nil && p.freeBlocks()*blockSize >= free
	}
	low, high := int64(0), int64(blocksPerGroup)
	for !fits(high) {
		low, high = high, 2*high
		if high > maxSize/blockSize {
			return 0, fmt.Errorf("no filesystem of up to %d bytes holds the tree and %d free bytes", int64(maxSize), free)
		}
	}
	for high-low > 1 {
		if middle := low + (high-low)/2; fits(middle) {
			high = middle
		} else {
			low = middle
		}
	}
	return high * blockSize, nil
}
