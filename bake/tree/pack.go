package tree

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
)

// Pack is a set of files with all their content in one blob: a package, a
// release archive or a built program after it was unpacked, as the store keeps
// it. Entries keep the order in which they were added; unlike a [Tree], a pack
// need not hold the parents of its files.
type Pack struct {
	Entries []Entry  `json:"entries"`
	Size    int64    `json:"size"`   // of the blob, bytes
	Chunks  []Digest `json:"chunks"` // of the blob
}

// Bind gives the pack its bytes: every File entry's Blob is set to one blob
// that reads r, called name in errors, which is returned. owner is set on every entry.
func (p *Pack) Bind(name, owner string, r io.ReaderAt) *Blob {
	blob := &Blob{Name: name, Size: p.Size, Chunks: p.Chunks, R: r}
	for i := range p.Entries {
		p.Entries[i].Owner = owner
		if p.Entries[i].Type == File {
			p.Entries[i].Blob = blob
		}
	}
	return blob
}

// NewPack returns what fill adds, with its content in memory, in a blob called
// name. Nobody is its owner.
func NewPack(name string, fill func(w *PackWriter) error) (*Pack, error) {
	var blob bytes.Buffer
	w := NewPackWriter(&blob)
	if err := fill(w); err != nil {
		return nil, err
	}
	p, err := w.Close()
	if err != nil {
		return nil, err
	}
	p.Bind(name, "", bytes.NewReader(blob.Bytes()))
	return p, nil
}

// PackWriter writes a pack: the blob goes to an io.Writer, the rest is kept
// and returned by Close.
type PackWriter struct {
	w     io.Writer
	pack  Pack
	chunk hash.Hash
	fill  int // bytes in chunk
	err   error
}

// NewPackWriter returns a PackWriter whose blob goes to w.
func NewPackWriter(w io.Writer) *PackWriter {
	return &PackWriter{w: w, chunk: sha256.New()}
}

// Add appends e. For a File exactly e.Size bytes are read from content, whose
// SHA-256 and offset the writer fills in; a shorter or longer content is an
// error. content is not read for other types.
func (p *PackWriter) Add(e Entry, content io.Reader) error {
	if p.err != nil {
		return p.err
	}
	if err := ValidPath(e.Path); err != nil {
		return err
	}
	if e.Type == File {
		p.err = p.addContent(&e, content)
		if p.err != nil {
			return fmt.Errorf("%s: %w", e.Path, p.err)
		}
	}
	p.pack.Entries = append(p.pack.Entries, e)
	return nil
}

func (p *PackWriter) addContent(e *Entry, content io.Reader) error {
	e.Offset = p.pack.Size
	sum := sha256.New()
	if e.Size > 0 {
		n, err := io.Copy(io.MultiWriter((*packBlob)(p), sum), io.LimitReader(content, e.Size))
		if err != nil {
			return err
		}
		if n < e.Size {
			return fmt.Errorf("content ends after %d of %d bytes: %w", n, e.Size, io.ErrUnexpectedEOF)
		}
		var one [1]byte
		if n, _ := io.ReadFull(content, one[:]); n != 0 {
			return fmt.Errorf("content is longer than %d bytes", e.Size)
		}
	}
	sum.Sum(e.SHA256[:0])
	if tail := p.pack.Size % Align; tail != 0 {
		if _, err := (*packBlob)(p).Write(make([]byte, Align-tail)); err != nil {
			return err
		}
	}
	return nil
}

// Close returns what was written. It does not close the io.Writer.
func (p *PackWriter) Close() (*Pack, error) {
	if p.err != nil {
		return nil, p.err
	}
	if p.fill > 0 {
		p.endChunk()
	}
	return &p.pack, nil
}

func (p *PackWriter) endChunk() {
	var d Digest
	p.chunk.Sum(d[:0])
	p.pack.Chunks = append(p.pack.Chunks, d)
	p.chunk.Reset()
	p.fill = 0
}

// packBlob is the io.Writer side of a PackWriter: it writes to the blob and
// keeps the digests of its chunks.
type packBlob PackWriter

func (b *packBlob) Write(data []byte) (int, error) {
	n, err := b.w.Write(data)
	if err != nil {
		return n, err
	}
	for len(data) > 0 {
		m := min(len(data), ChunkSize-b.fill)
		b.chunk.Write(data[:m])
		b.fill += m
		b.pack.Size += int64(m)
		data = data[m:]
		if b.fill == ChunkSize {
			(*PackWriter)(b).endChunk()
		}
	}
	return n, nil
}
