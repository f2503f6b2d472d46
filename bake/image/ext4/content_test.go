package ext4

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/nodebake/bake/bake/tree"
)

// sparseBlob is content of size bytes, each MiB of which begins with its number and
// is zero otherwise.
func sparseBlob(name string, size int64) *tree.Blob {
	b := &tree.Blob{Name: name, Size: size, R: sparseContent{}}
	chunk := make([]byte, tree.ChunkSize)
	for i := int64(0); i*tree.ChunkSize < size; i++ {
		binary.LittleEndian.PutUint64(chunk, uint64(i+1))
		b.Chunks = append(b.Chunks, sha256.Sum256(chunk[:min(tree.ChunkSize, size-i*tree.ChunkSize)]))
	}
	return b
}

type sparseContent struct{}

func (sparseContent) ReadAt(p []byte, off int64) (int, error) {
	if off%tree.ChunkSize != 0 || len(p) > tree.ChunkSize {
		return 0, fmt.Errorf("BUG: reading %d at %d", len(p), off)
	}
	clear(p)
	binary.LittleEndian.PutUint64(p, uint64(off/tree.ChunkSize)+1)
	return len(p), nil
}

// sameContent compares two readers to their ends.
func sameContent(got, want io.Reader) error {
	a, b := make([]byte, 1<<20), make([]byte, 1<<20)
	for at := int64(0); ; {
		n, errA := io.ReadFull(got, a)
		m, errB := io.ReadFull(want, b)
		if !bytes.Equal(a[:n], b[:m]) {
			return fmt.Errorf("content differs within %d bytes from %d on", max(n, m), at)
		}
		at += int64(n)
		if errA != nil || errB != nil {
			if errA != errB {
				return fmt.Errorf("content ends at %d with %v; want %v", at, errA, errB)
			}
			if errA == io.EOF || errA == io.ErrUnexpectedEOF {
				return nil
			}
			return errA
		}
	}
}
