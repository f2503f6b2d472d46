package ext4

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/nodebake/bake/bake/image/ext4/internal/format"
	"github.com/nodebake/bake/bake/image/extent"
	"github.com/nodebake/bake/bake/tree"
)

// emitter encodes a placement's metadata. Blocks that are all zeroes are not
// made at all.
type emitter struct {
	*placement
	o    *Options
	seed uint32 // of all checksums but the superblock's

	buf   []byte // the blocks, one after the other in the order in which they were made
	spans []metaSpan
	state []groupState
}

// metaSpan puts blocks of the buffer on the disk.
type metaSpan struct {
	block, n int64 // on the disk
	from     int64 // byte in buf
}

// groupState is what the allocation means for one group.
type groupState struct {
	usedBlocks  int64 // with the group's copy of superblock and descriptors
	usedInodes  int64 // they are at the front of the inode table
	directories int
	desc        format.GroupDesc
}

func newEmitter(p *placement, o *Options) *emitter {
	w := &emitter{placement: p, o: o, seed: crc32c(crcStart, o.UUID[:])}
	w.state = make([]groupState, p.groups)
	for group := range w.state {
		w.state[group].usedBlocks = p.baseBlocks(group)
	}
	for _, r := range p.alloc.taken {
		for r.n > 0 {
			group := r.block / blocksPerGroup
			n := min(r.n, (group+1)*blocksPerGroup-r.block)
			w.state[group].usedBlocks += n
			r.block, r.n = r.block+n, r.n-n
		}
	}
	rest := w.usedInodes()
	for group := range w.state {
		w.state[group].usedInodes = min(rest, int64(p.inodesPerGroup))
		rest -= w.state[group].usedInodes
	}
	for i := range p.dirs {
		w.state[w.groupOfInode(inodeNumber(p.dirs[i].node))].directories++
	}
	w.buf = make([]byte, 0, w.countBlocks()*blockSize)
	return w
}

// usedInodes is how many inodes are in use, with the reserved ones.
func (w *emitter) usedInodes() int64 { return int64(inodeNumber(int32(len(w.nodes) - 1))) }

func (w *emitter) groupOfInode(ino uint32) int { return int(ino-1) / w.inodesPerGroup }

// blockUninit reports whether a group's block bitmap need not be on the disk:
// only its own copies are in use, which the kernel adds itself. The
// last group is exempt since its bitmap also says where it ends.
func (w *emitter) blockUninit(group int) bool {
	return group > 0 && group < w.groups-1 && w.state[group].usedBlocks == w.baseBlocks(group)
}

// countBlocks is how many blocks the buffer will have.
func (w *emitter) countBlocks() int64 {
	n := w.baseBlocks(0) + 2 // the resize inode's map, the journal's superblock
	for group := range w.state {
		s := &w.state[group]
		if group > 0 && hasSuper(group) {
			n++
		}
		if !w.blockUninit(group) {
			n++
		}
		if s.usedInodes > 0 {
			n += 1 + (s.usedInodes+inodesPerBlock-1)/inodesPerBlock
		}
	}
	for i := range w.nodes {
		if w.nodes[i].entry.Type != tree.File {
			n += w.nodes[i].blocks
		}
		if w.nodes[i].xattr != nil {
			n++
		}
	}
	return n + int64(len(w.treeAt))
}

// makeBlocks returns n zeroed blocks that will be at block on the disk.
func (w *emitter) makeBlocks(block, n int64) []byte {
	from := len(w.buf)
	if from+int(n)*blockSize > cap(w.buf) {
		panic(fmt.Sprintf("BUG: more metadata than the %d blocks that were counted", cap(w.buf)/blockSize))
	}
	w.buf = w.buf[:from+int(n)*blockSize]
	w.spans = append(w.spans, metaSpan{block, n, int64(from)})
	return w.buf[from:]
}

func (w *emitter) makeBlock(n int64) []byte { return w.makeBlocks(n, 1) }

// emit encodes everything, in about the order of the disk, so that a change late
// on the disk leaves the blob's first chunks as they were.
func (w *emitter) emit() {
	front := w.makeBlocks(0, w.baseBlocks(0))
	w.emitBitmaps()
	w.emitInodes()
	w.emitResizeMap(front)
	w.emitJournal()
	w.emitContents()
	w.emitGroups(front)
	if len(w.buf) != cap(w.buf) {
		panic(fmt.Sprintf("BUG: %d blocks of metadata, %d were counted", len(w.buf)/blockSize, cap(w.buf)/blockSize))
	}
}

// emitBitmaps writes the bitmaps of groups in use and their part of the
// descriptors.
func (w *emitter) emitBitmaps() {
	next := 0 // in alloc.taken: the first run that may reach into the group
	for group := range w.state {
		s := &w.state[group]
		start, length := w.groupStart(group), w.groupBlocks(group)
		if w.blockUninit(group) {
			s.desc.Flags |= format.GroupBlockUninit
			continue
		}
		bitmap := w.makeBlock(w.blockBitmaps.block + int64(group))
		setBits(bitmap, 0, w.baseBlocks(group))
		setBits(bitmap, length, blocksPerGroup)
		for next < len(w.alloc.taken) && w.alloc.taken[next].block+w.alloc.taken[next].n <= start {
			next++
		}
		for _, r := range w.alloc.taken[next:] {
			if r.block >= start+length {
				break
			}
			setBits(bitmap, max(r.block-start, 0), min(r.block+r.n-start, length))
		}
		sum := crc32c(w.seed, bitmap)
		s.desc.BlockBitmapCsumLo, s.desc.BlockBitmapCsumHi = uint16(sum), uint16(sum>>16)
	}
	for group := range w.state {
		s := &w.state[group]
		if s.usedInodes == 0 {
			s.desc.Flags |= format.GroupInodeUninit
			continue
		}
		bitmap := w.makeBlock(w.inodeBitmaps.block + int64(group))
		setBits(bitmap, 0, s.usedInodes)
		setBits(bitmap, int64(w.inodesPerGroup), 8*blockSize)
		sum := crc32c(w.seed, bitmap[:w.inodesPerGroup/8])
		s.desc.InodeBitmapCsumLo, s.desc.InodeBitmapCsumHi = uint16(sum), uint16(sum>>16)
	}
}

// setBits sets bits from to to-1.
func setBits(bitmap []byte, from, to int64) {
	for ; from < to && from%8 != 0; from++ {
		bitmap[from/8] |= 1 << (from % 8)
	}
	for ; from+8 <= to; from += 8 {
		bitmap[from/8] = 0xff
	}
	for ; from < to; from++ {
		bitmap[from/8] |= 1 << (from % 8)
	}
}

// emitContents writes directories, attribute blocks and long symlinks.
func (w *emitter) emitContents() {
	for i := range w.nodes {
		n := &w.nodes[i]
		seed := inodeSeed(w.seed, inodeNumber(int32(i)), 0)
		switch {
		case n.dir >= 0:
			at := 0
			for _, r := range w.content[i].of(w.runs) {
				blocks := w.makeBlocks(r.block, r.n)
				for ; len(blocks) > 0; blocks = blocks[blockSize:] {
					w.dirs[n.dir].encodeBlock(w.nodes, at, seed, blocks[:blockSize])
					at++
				}
			}
		case n.entry.Type == tree.Symlink && n.blocks > 0:
			copy(w.makeBlock(w.runs[w.content[i].from].block), n.entry.Link)
		}
		if n.xattr != nil {
			sealXattrs(w.seed, w.xattrs[i], n.xattr)
			copy(w.makeBlock(w.xattrs[i]), n.xattr)
		}
	}
}

// metadata returns the buffer as extents of one blob, ordered.
func (w *emitter) metadata() []extent.Extent {
	slices.SortFunc(w.spans, func(a, b metaSpan) int { return cmp.Compare(a.block, b.block) })
	blob := tree.Bytes("ext4 metadata", w.buf)
	var list extent.List
	for _, s := range w.spans {
		list.Append(s.block*blockSize, s.n*blockSize, blob, s.from)
	}
	return list.Extents
}

// putStruct writes a structure of package format, little-endian.
func putStruct(b []byte, v any) {
	if _, err := binary.Encode(b, binary.LittleEndian, v); err != nil {
		panic(fmt.Sprintf("BUG: encoding %T into %d bytes: %v", v, len(b), err))
	}
}
