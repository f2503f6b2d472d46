package mirror

import (
	"bytes"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/nodebake/bake/bake/progress"
	"github.com/nodebake/bake/test/filetest"
)

// benchDir makes a mirror of blobs that have size bytes each.
func benchDir(b *testing.B, blobs, size int) (string, *world) {
	b.Helper()
	dir := b.TempDir()
	w := newWorld()
	m, err := Create(dir)
	if err != nil {
		b.Fatal(err)
	}
	defer m.Close()
	content := filetest.Noise("1", size)
	for i := range blobs {
		copy(content, fmt.Sprintf("%08d", i))
		name := fmt.Sprintf("package %d", i)
		sum := w.add(Package, name, "pool/"+name, content, "kubernetes-1.36")
		delete(w.blobs, sum)
		// Not synced, as Add would: what is measured is reading.
		filetest.Write(b, filepath.Join(dir, blobPath(sum)), content)
	}
	for sum, content := range w.blobs {
		if err := m.Add(b.Context(), sum, int64(len(content)), bytes.NewReader(content)); err != nil {
			b.Fatal(err)
		}
	}
	if err := m.Commit(b.Context(), w.index, w.images); err != nil {
		b.Fatal(err)
	}
	return dir, w
}

// BenchmarkCheck says at how many bytes a second a mirror is checked.
func BenchmarkCheck(b *testing.B) {
	dir, _ := benchDir(b, 64, 4<<20)
	b.SetBytes(64 * 4 << 20)
	for b.Loop() {
		r, err := Check(b.Context(), dir, 0, progress.Discard{})
		if err != nil || r.Err() != nil {
			b.Fatal(err, r.Err())
		}
	}
}

// BenchmarkNoChange is what a run costs that finds everything there: the index
// is read, every blob looked for, and the same index committed.
func BenchmarkNoChange(b *testing.B) {
	dir, w := benchDir(b, 3000, 100)
	for b.Loop() {
		m, err := Create(dir)
		if err != nil {
			b.Fatal(err)
		}
		for _, e := range w.index.Entries {
			if !m.Has(e.SHA256, e.Size) {
				b.Fatal("Has = false")
			}
		}
		if err := m.Commit(b.Context(), w.index, w.images); err != nil {
			b.Fatal(err)
		}
		m.Close()
	}
}

// BenchmarkHas looks for 3000 blobs.
func BenchmarkHas(b *testing.B) {
	dir, w := benchDir(b, 3000, 100)
	m, err := Create(dir)
	if err != nil {
		b.Fatal(err)
	}
	defer m.Close()
	for b.Loop() {
		for _, e := range w.index.Entries {
			if !m.Has(e.SHA256, e.Size) {
				b.Fatal("Has = false")
			}
		}
	}
}

// BenchmarkOpen reads the index of 3000 entries.
func BenchmarkOpen(b *testing.B) {
	dir, _ := benchDir(b, 3000, 100)
	for b.Loop() {
		if _, err := Open(b.Context(), dir, nil); err != nil {
			b.Fatal(err)
		}
	}
}
