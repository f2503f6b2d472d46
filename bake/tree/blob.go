package tree

import (
	"bytes"
	"crypto/sha256"
	"encoding"
	"encoding/hex"
	"fmt"
	"io"
)

// ChunkSize is the unit in bytes in which content is identified, verified and
// compressed. The last chunk of a blob may be shorter.
const ChunkSize = 1 << 20

// Digest is a SHA-256.
type Digest [sha256.Size]byte

var (
	_ encoding.TextMarshaler   = Digest{}
	_ encoding.TextUnmarshaler = (*Digest)(nil)
)

// String returns d in lower-case hexadecimal.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// IsZero reports whether d was never set.
func (d Digest) IsZero() bool { return d == Digest{} }

// MarshalText implements encoding.TextMarshaler.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Digest) UnmarshalText(text []byte) error {
	if hex.DecodedLen(len(text)) != len(d) {
		return fmt.Errorf("a SHA-256 has 64 hexadecimal digits, not %d", len(text))
	}
	_, err := hex.Decode(d[:], text)
	return err
}

// Blob is immutable content whose chunks are known before they are read.
type Blob struct {
	Name   string      // for errors: a file name or "ext4 metadata"
	Key    string      // of the pack that it is of, where the store has that
	Size   int64       // bytes
	Chunks []Digest    // of every ChunkSize bytes; ceil(Size/ChunkSize) of them
	R      io.ReaderAt // the bytes; read them with ReadChunk or Section, which verify
}

// Bytes makes a Blob of b, which the caller must not change afterwards.
func Bytes(name string, b []byte) *Blob {
	blob := &Blob{Name: name, Size: int64(len(b)), R: bytes.NewReader(b)}
	for rest := b; len(rest) > 0; {
		n := min(len(rest), ChunkSize)
		blob.Chunks = append(blob.Chunks, sha256.Sum256(rest[:n]))
		rest = rest[n:]
	}
	return blob
}

// ChunkLen returns the length in bytes of chunk i.
func (b *Blob) ChunkLen(i int) int {
	return int(min(ChunkSize, b.Size-int64(i)*ChunkSize))
}

// CorruptError says that stored bytes are not what they were recorded to be.
type CorruptError struct {
	Name, Key string // of the blob
	Chunk     int
	Got, Want Digest
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("%s: bytes from %d on have SHA-256 %s, want %s", e.Name, int64(e.Chunk)*ChunkSize, e.Got, e.Want)
}

// ReadChunk reads chunk i into buf, which must hold ChunkSize bytes, and
// returns the part of buf that it filled. It fails with a [CorruptError] where
// the bytes are not those recorded.
func (b *Blob) ReadChunk(i int, buf []byte) ([]byte, error) {
	buf = buf[:b.ChunkLen(i)]
	// A ReaderAt may return io.EOF together with the last full read.
	if n, err := b.R.ReadAt(buf, int64(i)*ChunkSize); n < len(buf) {
		if err == nil || err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("reading %s at %d: %w", b.Name, int64(i)*ChunkSize, err)
	}
	if got := Digest(sha256.Sum256(buf)); got != b.Chunks[i] {
		return nil, &CorruptError{Name: b.Name, Key: b.Key, Chunk: i, Got: got, Want: b.Chunks[i]}
	}
	return buf, nil
}

// Section reads length bytes of b from offset, verifying every chunk it
// touches. It keeps one chunk in memory.
func (b *Blob) Section(offset, length int64) io.Reader {
	return &section{blob: b, next: offset, end: offset + length}
}

type section struct {
	blob      *Blob
	next, end int64
	chunks    ChunkReader
}

func (s *section) Read(p []byte) (int, error) {
	if s.next >= s.end {
		return 0, io.EOF
	}
	if s.end > s.blob.Size {
		return 0, fmt.Errorf("BUG: reading %s up to %d, it has %d bytes", s.blob.Name, s.end, s.blob.Size)
	}
	data, err := s.chunks.At(s.blob, s.next)
	if err != nil {
		return 0, err
	}
	n := copy(p, data[:min(int64(len(data)), s.end-s.next)])
	s.next += int64(n)
	return n, nil
}

// Content reads the content of a File entry, verified.
func (e *Entry) Content() io.Reader {
	if e.Size == 0 {
		return bytes.NewReader(nil)
	}
	return e.Blob.Section(e.Offset, e.Size)
}
