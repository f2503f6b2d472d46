package tree

import "io"

// ChunkReader reads chunks of blobs, verified, and keeps the last one: who reads one
// thing after the other finds neighbours there. The zero value is ready, for one
// goroutine.
type ChunkReader struct {
	blob  *Blob // of the chunk in data; nil: of none
	chunk int
	data  []byte
	buf   []byte // ChunkSize bytes, allocated at the first read
}

// Chunk returns chunk i of b. It is valid until the next call. Errors are those of
// [Blob.ReadChunk].
func (r *ChunkReader) Chunk(b *Blob, i int) ([]byte, error) {
	if r.blob == b && r.chunk == i {
		return r.data, nil
	}
	if r.buf == nil {
		r.buf = make([]byte, ChunkSize)
	}
	r.blob = nil // data is being overwritten
	data, err := b.ReadChunk(i, r.buf)
	if err != nil {
		return nil, err
	}
	r.blob, r.chunk, r.data = b, i, data
	return data, nil
}

// At returns what b has from offset to the end of the chunk that it lies in, which is
// valid until the next call.
func (r *ChunkReader) At(b *Blob, offset int64) ([]byte, error) {
	data, err := r.Chunk(b, int(offset/ChunkSize))
	if err != nil {
		return nil, err
	}
	return data[offset%ChunkSize:], nil
}

// ContentReader reads a File's content at any offset, verified.
type ContentReader struct {
	entry  *Entry
	chunks ChunkReader
	err    error // of the blob
}

// NewContentReader returns the content of a File.
func NewContentReader(e *Entry) *ContentReader { return &ContentReader{entry: e} }

// Err returns the error of the blob that ended a read, if one did.
func (r *ContentReader) Err() error { return r.err }

// ReadAt implements io.ReaderAt, for one goroutine.
func (r *ContentReader) ReadAt(p []byte, off int64) (n int, err error) {
	for n < len(p) {
		at := off + int64(n)
		if at < 0 || at >= r.entry.Size {
			return n, io.EOF
		}
		data, err := r.chunks.At(r.entry.Blob, r.entry.Offset+at)
		if err != nil {
			r.err = err
			return n, err
		}
		n += copy(p[n:], data[:min(int64(len(data)), r.entry.Size-at)])
	}
	return n, nil
}
