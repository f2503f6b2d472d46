package ext4

import "github.com/nodebake/bake/bake/image/ext4/internal/format"

// run is a contiguous range of blocks.
type run struct {
	block, n int64
}

// allocator hands out blocks from the front of the disk to its end, around
// the copies of superblock and descriptors.
type allocator struct {
	g     *geometry
	next  int64
	group int   // the first group that begins at or after next and has a copy
	taken []run // everything handed out, in order; neighbours are merged
	total int64 // blocks in taken
}

func newAllocator(g *geometry) *allocator {
	a := &allocator{g: g}
	a.skipCopies()
	return a
}

// skipCopies moves next behind copies that begin there and finds the copy
// that comes after.
func (a *allocator) skipCopies() {
	for {
		for a.group < a.g.groups && !hasSuper(a.group) {
			a.group++
		}
		if a.group == a.g.groups || a.g.groupStart(a.group) > a.next {
			return
		}
		a.next = a.g.groupStart(a.group) + a.g.baseBlocks(a.group)
		a.group++
	}
}

// limit is where the free range at next ends.
func (a *allocator) limit() int64 {
	if a.group == a.g.groups {
		return a.g.blocks
	}
	return a.g.groupStart(a.group)
}

// take appends n blocks to runs, none longer than an extent can be. It reports false where the
// disk is full.
func (a *allocator) take(runs []run, n int64) ([]run, bool) {
	for n > 0 {
		got := min(n, a.limit()-a.next, format.MaxExtentBlocks)
		if got <= 0 {
			return runs, false
		}
		runs = append(runs, a.handOut(got))
		n -= got
	}
	return runs, true
}

// contiguous takes n blocks in one piece. Blocks that it leaves out stay free.
func (a *allocator) contiguous(n int64) (int64, bool) {
	for a.limit()-a.next < n {
		if a.group == a.g.groups {
			return 0, false
		}
		a.next = a.limit()
		a.skipCopies()
	}
	return a.handOut(n).block, true
}

func (a *allocator) handOut(n int64) run {
	r := run{a.next, n}
	if last := len(a.taken) - 1; last >= 0 && a.taken[last].block+a.taken[last].n == r.block {
		a.taken[last].n += n
	} else {
		a.taken = append(a.taken, r)
	}
	a.total += n
	a.next += n
	if a.next == a.limit() {
		a.skipCopies()
	}
	return r
}
