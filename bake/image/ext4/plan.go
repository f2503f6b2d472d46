package ext4

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/nodebake/bake/bake/image/extent"
	"github.com/nodebake/bake/bake/tree"
)

// Plan lays out a filesystem of o.Size bytes that holds t. It reads no content.
//
// It fails on what ext4 cannot hold, with errors that name the path: names
// over 255 bytes, symlinks over 4095, over 65000 links to a file, extended attributes over a
// block, times before 1901 or after 2446; and with a [FullError] where t is too large for o.Size.
//
// An MTime of zero means o.Epoch. All other times (access, change, creation) are o.Epoch.
// Symlinks have the permissions 0777. Two entries with the same content get blocks of their own each.
// A directory lost+found is added where t has none.
func Plan(t *tree.Tree, o Options) (*Layout, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	m, err := newModel(t, &o)
	if err != nil {
		return nil, fmt.Errorf("planning ext4: %w", err)
	}
	g, err := newGeometry(o)
	if err != nil {
		return nil, fmt.Errorf("planning ext4: %w", err)
	}
	p, err := place(g, m)
	if err != nil {
		return nil, fmt.Errorf("planning ext4: %w", err)
	}
	w := newEmitter(p, &o)
	w.emit()
	l := &Layout{
		FreeBytes:     p.freeBlocks() * blockSize,
		Inodes:        p.inodes(),
		FreeInodes:    p.inodes() - w.usedInodes(),
		MetadataBytes: int64(len(w.buf)),
	}
	payload := p.payload(o.Size)
	for _, i := range p.files {
		l.PayloadBytes += p.nodes[i].blocks * blockSize
	}
	metadata := w.metadata()
	// Both parts are in order and do not overlap; Check below would tell.
	l.List = extent.List{Size: o.Size, Extents: append(payload.Extents, metadata...)}
	slices.SortFunc(l.List.Extents, func(a, b extent.Extent) int { return cmp.Compare(a.Offset, b.Offset) })
	if err := l.List.Check(); err != nil {
		return nil, fmt.Errorf("planning ext4: %w", err)
	}
	return l, nil
}

// payload lists where files' content goes.
func (p *placement) payload(size int64) extent.List {
	list := extent.List{Size: size}
	for _, i := range p.files {
		e := p.nodes[i].entry
		at := e.Offset
		for _, r := range p.content[i].of(p.runs) {
			// The last block of a blob may be shorter than ours; what it lacks reads as zeroes.
			list.Append(r.block*blockSize, min(r.n*blockSize, e.Blob.Size-at), e.Blob, at)
			at += r.n * blockSize
		}
	}
	return list
}
