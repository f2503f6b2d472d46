package ext4

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"testing"

	"github.com/nodebake/bake/bake/image/ext4/ext4test"
	"github.com/nodebake/bake/bake/image/extent"
	"github.com/nodebake/bake/bake/tree"
	"github.com/nodebake/bake/test/filetest"
)

// testOptions are valid options for a size.
func testOptions(size int64) Options {
	return Options{
		Size:     size,
		UUID:     [16]byte{0x5b, 0x1c, 0x9e, 0x02, 0x88, 0x41, 0x4f, 0x6a, 0x9d, 0x3c, 0x10, 0x22, 0x33, 0x44, 0x55, 0x66},
		HashSeed: [16]byte{0xd0, 0x0d, 0xfe, 0xed, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12},
		Label:    "root",
		Epoch:    ext4test.Epoch,
	}
}

// mustPlan plans or ends the test.
func mustPlan(t testing.TB, tr *tree.Tree, o Options) *Layout {
	t.Helper()
	l, err := Plan(tr, o)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// hashList is the SHA-256 of a list: of its structure and its blobs' digests.
func hashList(l *extent.List) string {
	h := sha256.New()
	for p := range l.Pieces() {
		fmt.Fprintln(h, p.Offset, p.Length, p.From)
		if p.Blob != nil {
			fmt.Fprintln(h, p.Blob.Chunks[p.Chunk])
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}

// openImage opens an image with our reader.
func openImage(t testing.TB, name string) *FS {
	t.Helper()
	f := filetest.Open(t, name)
	t.Cleanup(func() { f.Close() })
	fsys, err := Open(f)
	if err != nil {
		t.Fatal(err)
	}
	return fsys
}

// readTree reads all of a filesystem: its entries, with the SHA-256 of content.
func readTree(t testing.TB, fsys *FS) []tree.Entry {
	t.Helper()
	var entries []tree.Entry
	err := fsys.Walk(func(n *Element) error {
		e := n.Entry
		if e.Type == tree.File {
			r, err := fsys.Content(n)
			if err != nil {
				return err
			}
			h := sha256.New()
			if _, err := io.Copy(h, r); err != nil {
				return err
			}
			h.Sum(e.SHA256[:0])
		}
		entries = append(entries, e)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return entries
}
