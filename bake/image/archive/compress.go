package archive

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/klauspost/compress/flate"

	"github.com/nodebake/bake/bake/tree"
)

// Level is the compression level of klauspost/compress/flate. Measured over 817
// MB of unpacked Debian packages and Go programs in blocks of 1 MiB, both in
// processor seconds and MB of output:
//
//	level     1    2    3    4     5     6     7
//	seconds 4.8  5.2  7.5  8.2  10.7  11.7  20.9
//	MB      360  351  342  335   328   325   320
//
// A segment is compressed once and then kept, but written to every archive and
// uploaded with it, so size counts for more than the first run's time. Beyond 6
// a percent costs as much as everything before; between 5 and 6 a percent
// costs a tenth, and 5 is the library's default, which sees the most use.
const Level = 5

// codec names everything that decides about a segment's compressed form beside
// its content and Level. Another version of the library may compress to other
// bytes, so a test compares this with go.mod and with the digest of a sample.
const codec = "github.com/klauspost/compress v1.20.3 flate, segments 1"

// appendCodec appends the codec's identity.
func appendCodec(b []byte) []byte {
	return fmt.Appendf(b, "%s, level %d, solo %d, gap %d\n", codec, Level, soloSize, gapSize)
}

// A cached value is the CRC-32 of the content, little-endian, and the
// compressed form, which ends in a sync flush.
const crcLen = 4

// validValue reports whether b can be a cached value at all. That it is the
// one that was put under a key is for the cache to verify.
func validValue(b []byte) bool {
	return len(b) > crcLen+4 && bytes.HasSuffix(b, []byte{0, 0, 0xff, 0xff})
}

// loader reads the content of segments. One goroutine uses it.
type loader struct {
	chunks tree.ChunkReader
	stage  []byte // for groups; as long as the longest so far
}

// load returns the content of s, verified. It is valid until the next call.
func (l *loader) load(s *segment) ([]byte, error) {
	if len(s.pieces) == 1 && s.pieces[0].Blob != nil {
		p := s.pieces[0]
		data, err := l.chunks.Chunk(p.Blob, p.Chunk)
		if err != nil {
			return nil, err
		}
		return data[p.From : p.From+p.Length], nil
	}
	if int64(len(l.stage)) < s.length {
		l.stage = make([]byte, s.length)
	}
	out := l.stage[:s.length]
	at := int64(0)
	for _, p := range s.pieces {
		if p.Blob == nil {
			clear(out[at : at+p.Length])
		} else {
			data, err := l.chunks.Chunk(p.Blob, p.Chunk)
			if err != nil {
				return nil, err
			}
			copy(out[at:], data[p.From:p.From+p.Length])
		}
		at += p.Length
	}
	return out, nil
}

// compressor makes values out of content. One goroutine uses it.
type compressor struct {
	flate *flate.Writer
}

func newCompressor() (*compressor, error) {
	w, err := flate.NewWriter(nil, Level)
	if err != nil {
		return nil, fmt.Errorf("BUG: %w", err)
	}
	return &compressor{w}, nil
}

// appendValue appends the value of content to dst.
func (c *compressor) appendValue(dst, content []byte) ([]byte, error) {
	out := bytes.NewBuffer(binary.LittleEndian.AppendUint32(dst, crc32.ChecksumIEEE(content)))
	c.flate.Reset(out)
	// The library fills its blocks alike however content is cut into writes.
	if _, err := c.flate.Write(content); err != nil {
		return nil, err
	}
	if err := c.flate.Flush(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
