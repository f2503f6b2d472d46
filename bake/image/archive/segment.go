package archive

import (
	"crypto/sha256"
	"encoding/binary"
	"iter"

	"github.com/nodebake/bake/bake/image/extent"
	"github.com/nodebake/bake/bake/tree"
)

const (
	// segmentSize is the most content in bytes that is compressed as one.
	segmentSize = tree.ChunkSize

	// A piece of at least soloSize bytes is a segment of its own. Shorter ones
	// are grouped: a group shares one Huffman table and one cache entry, and a
	// chunk of which it uses several parts is read once. Solo pieces keep a
	// change local: however the groups before one shift, those behind it do not.
	soloSize = 128 << 10

	// A gap of at least gapSize zeroes ends a group. That is the window of
	// deflate (RFC 1951 section 2), so nothing is lost by not looking back over it.
	gapSize = 32 << 10
)

// segment is a range of the disk that is compressed as one: zeroes, where
// pieces is nil, or pieces of content with short gaps between them.
type segment struct {
	offset int64 // in the disk
	length int64
	pieces []extent.Piece
}

// segments yields the whole of l in order. Where it cuts depends only on the
// pieces of l, never on how many workers there are.
func segments(l *extent.List) iter.Seq[segment] {
	return func(yield func(segment) bool) {
		var group segment
		flush := func() bool {
			s := group
			group = segment{}
			return s.length == 0 || yield(s)
		}
		for p := range l.Pieces() {
			switch {
			case p.Blob == nil && (p.Length >= gapSize || group.length == 0):
				if !flush() || !yield(segment{offset: p.Offset, length: p.Length}) {
					return
				}
				continue
			case p.Blob != nil && p.Length >= soloSize:
				if !flush() || !yield(segment{p.Offset, p.Length, []extent.Piece{p}}) {
					return
				}
				continue
			}
			if group.length+p.Length > segmentSize && !flush() {
				return
			}
			if group.length == 0 {
				group.offset = p.Offset
			}
			group.length += p.Length
			group.pieces = append(group.pieces, p)
		}
		flush()
	}
}

// key returns what identifies the compressed form of s: the codec and the
// content, by the digests of its chunks. Nothing is read.
func (s *segment) key() tree.Digest {
	h := sha256.New()
	b := appendCodec([]byte("bake segment\n"))
	for _, p := range s.pieces {
		b = appendPiece(b, p)
	}
	h.Write(b)
	return tree.Digest(h.Sum(nil))
}

// appendPiece appends the identity of p's content: 48 bytes.
func appendPiece(b []byte, p extent.Piece) []byte {
	var digest tree.Digest // zero for zeroes, which no content has
	if p.Blob != nil {
		digest = p.Blob.Chunks[p.Chunk]
	}
	b = append(b, digest[:]...)
	b = binary.LittleEndian.AppendUint64(b, uint64(p.From))
	return binary.LittleEndian.AppendUint64(b, uint64(p.Length))
}

// PlanDigest identifies the archive that [WriteTarGz] would write for l and o,
// without reading content: equal digests mean equal archives. It covers the
// size of the disk, the digests and places of its chunks, the member's name
// and time, and the version of the codec. l must be valid (see
// [extent.List.Check]).
func PlanDigest(l *extent.List, o Options) tree.Digest {
	o = o.withDefaults()
	h := sha256.New()
	b := appendCodec([]byte("bake archive\n"))
	b = binary.LittleEndian.AppendUint64(b, uint64(len(o.Name)))
	b = append(b, o.Name...)
	b = binary.LittleEndian.AppendUint64(b, uint64(o.Epoch))
	b = binary.LittleEndian.AppendUint64(b, uint64(l.Size))
	h.Write(b)
	for p := range l.Pieces() {
		h.Write(appendPiece(b[:0], p))
	}
	return tree.Digest(h.Sum(nil))
}
