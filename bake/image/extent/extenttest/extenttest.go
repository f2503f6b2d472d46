// Package extenttest writes lists of extents to files, for tests that show them
// to other programs.
package extenttest

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/nodebake/bake/bake/image/extent"
	"github.com/nodebake/bake/bake/tree"
)

// WriteFile writes a list to a sparse file and returns its path.
func WriteFile(t testing.TB, l *extent.List) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk.img")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(l.Size); err != nil {
		t.Fatal(err)
	}
	buf, zero := make([]byte, tree.ChunkSize), make([]byte, 4096)
	for p := range l.Pieces() {
		if p.Blob == nil {
			continue
		}
		chunk, err := p.Blob.ReadChunk(p.Chunk, buf)
		if err != nil {
			t.Fatal(err)
		}
		data := chunk[p.From : p.From+p.Length]
		for at := 0; at < len(data); at += 4096 {
			block := data[at:min(at+4096, len(data))]
			if bytes.Equal(block, zero[:len(block)]) {
				continue
			}
			if _, err := f.WriteAt(block, p.Offset+int64(at)); err != nil {
				t.Fatal(err)
			}
		}
	}
	return path
}

// Digest returns the SHA-256 of what a list has, and where.
func Digest(t testing.TB, l *extent.List) [sha256.Size]byte {
	t.Helper()
	h := sha256.New()
	fmt.Fprintln(h, l.Size)
	for p := range l.Pieces() {
		fmt.Fprintln(h, p.Offset, p.Length)
		if p.Blob == nil {
			continue
		}
		if _, err := io.Copy(h, p.Blob.Section(int64(p.Chunk)*tree.ChunkSize+p.From, p.Length)); err != nil {
			t.Fatal(err)
		}
	}
	return [sha256.Size]byte(h.Sum(nil))
}
