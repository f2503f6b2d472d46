// Package extent describes a disk, or a part of one, as an ordered list of
// byte ranges, each either a range of a blob or zeroes. Planners make lists
// without reading content; writers stream them.
//
// A list says nothing about what its bytes mean.
package extent

import (
	"fmt"
	"io"
	"iter"
	"slices"

	"github.com/nodebake/bake/bake/tree"
)

// Extent puts Length bytes of Blob, from BlobOffset, at Offset.
type Extent struct {
	Offset     int64
	Length     int64
	Blob       *tree.Blob
	BlobOffset int64
}

// List is the content of Size bytes. What no extent covers reads as zeroes.
// Extents are sorted by offset and do not overlap.
type List struct {
	Size    int64
	Extents []Extent
}

// Append adds length bytes of blob at offset, which must not be before the end
// of the last extent. A range that continues the last one is merged with it.
func (l *List) Append(offset, length int64, blob *tree.Blob, blobOffset int64) {
	if length == 0 {
		return
	}
	if n := len(l.Extents); n > 0 {
		last := &l.Extents[n-1]
		if last.Blob == blob && last.Offset+last.Length == offset && last.BlobOffset+last.Length == blobOffset {
			last.Length += length
			return
		}
	}
	l.Extents = append(l.Extents, Extent{offset, length, blob, blobOffset})
}

// Insert puts all of part at offset of l, in any order of calls.
func (l *List) Insert(offset int64, part List) {
	for _, e := range part.Extents {
		e.Offset += offset
		l.Extents = append(l.Extents, e)
	}
	slices.SortStableFunc(l.Extents, func(a, b Extent) int {
		switch {
		case a.Offset < b.Offset:
			return -1
		case a.Offset > b.Offset:
			return 1
		}
		return 0
	})
}

// Check reports extents that overlap, are out of order, leave the list or
// leave their blob.
func (l *List) Check() error {
	var end int64
	for i, e := range l.Extents {
		switch {
		case e.Length <= 0 || e.BlobOffset < 0:
			return fmt.Errorf("BUG: extent %d has length %d and blob offset %d", i, e.Length, e.BlobOffset)
		case e.Offset < end:
			return fmt.Errorf("BUG: extent %d (%s) at %d overlaps the one before, which ends at %d", i, e.Blob.Name, e.Offset, end)
		case e.BlobOffset+e.Length > e.Blob.Size:
			return fmt.Errorf("BUG: extent %d needs %s up to %d, it has %d bytes", i, e.Blob.Name, e.BlobOffset+e.Length, e.Blob.Size)
		}
		end = e.Offset + e.Length
	}
	if end > l.Size {
		return fmt.Errorf("BUG: extents end at %d, the list at %d", end, l.Size)
	}
	return nil
}

// Piece is a range that is either zeroes (Blob is nil) or lies within one
// chunk of a blob, so that its bytes are known by the chunk's digest, From and
// Length alone.
type Piece struct {
	Offset int64 // in the list
	Length int64 // at most tree.ChunkSize for content; any for zeroes
	Blob   *tree.Blob
	Chunk  int   // which chunk of Blob
	From   int64 // offset within the chunk
}

// Pieces yields the whole of l in order.
func (l *List) Pieces() iter.Seq[Piece] {
	return func(yield func(Piece) bool) {
		var at int64
		for _, e := range l.Extents {
			if e.Offset > at && !yield(Piece{Offset: at, Length: e.Offset - at}) {
				return
			}
			for done := int64(0); done < e.Length; {
				pos := e.BlobOffset + done
				chunk, from := pos/tree.ChunkSize, pos%tree.ChunkSize
				n := min(tree.ChunkSize-from, e.Length-done)
				if !yield(Piece{e.Offset + done, n, e.Blob, int(chunk), from}) {
					return
				}
				done += n
			}
			at = e.Offset + e.Length
		}
		if at < l.Size {
			yield(Piece{Offset: at, Length: l.Size - at})
		}
	}
}

// Reader returns the content of l as an io.ReaderAt, for checkers and tests.
// Every read verifies the chunks it touches; the last chunk read is kept.
// It must not be used from several goroutines.
func (l *List) Reader() io.ReaderAt {
	return &reader{list: l}
}

type reader struct {
	list   *List
	chunks tree.ChunkReader
}

func (r *reader) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off > r.list.Size {
		return 0, fmt.Errorf("offset %d is outside of %d bytes", off, r.list.Size)
	}
	short := false
	if rest := r.list.Size - off; int64(len(p)) > rest {
		p, short = p[:rest], true
	}
	clear(p)
	end := off + int64(len(p))
	first, _ := slices.BinarySearchFunc(r.list.Extents, off, func(e Extent, off int64) int {
		if e.Offset+e.Length <= off {
			return -1
		}
		return 1
	})
	for _, e := range r.list.Extents[first:] {
		if e.Offset >= end {
			break
		}
		lo, hi := max(off, e.Offset), min(end, e.Offset+e.Length)
		for lo < hi {
			pos := e.BlobOffset + lo - e.Offset
			data, err := r.chunks.At(e.Blob, pos)
			if err != nil {
				return 0, err
			}
			lo += int64(copy(p[lo-off:hi-off], data))
		}
	}
	if short {
		return len(p), io.EOF
	}
	return len(p), nil
}
