package merge

import (
	"bytes"
	"crypto/sha256"

	"github.com/nodebake/bake/bake/tree"
)

// memory holds files made here, in one blob.
type Memory struct {
	blob *tree.Blob
	buf  bytes.Buffer
	w    *tree.PackWriter
	err  error
}

func NewMemory(name string) *Memory {
	m := &Memory{blob: &tree.Blob{Name: name}}
	m.w = tree.NewPackWriter(&m.buf)
	return m
}

// Add returns e, a File, with its content. Its blob can be read when m is closed.
func (m *Memory) Add(e tree.Entry, content []byte) tree.Entry {
	e.Blob, e.Offset, e.SHA256 = m.blob, int64(m.buf.Len()), sha256.Sum256(content)
	if err := m.w.Add(e, bytes.NewReader(content)); m.err == nil {
		m.err = err
	}
	return e
}

// Close completes the blob of everything added.
func (m *Memory) Close() error {
	if m.err != nil {
		return m.err
	}
	pack, err := m.w.Close()
	if err != nil {
		return err
	}
	m.blob.Size, m.blob.Chunks, m.blob.R = pack.Size, pack.Chunks, bytes.NewReader(m.buf.Bytes())
	return nil
}
