package extent

import (
	"bytes"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/nodebake/bake/bake/tree"
	"github.com/nodebake/bake/test/filetest"
)

func noise(n int, seed byte) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

// sample returns a list and the bytes that it stands for.
func sample(t *testing.T) (List, []byte) {
	t.Helper()
	a, b := noise(3*tree.ChunkSize+100, 1), noise(5000, 2)
	blobA, blobB := tree.Bytes("a", a), tree.Bytes("b", b)
	l := List{Size: 8 << 20}
	l.Append(4096, 2*tree.ChunkSize, blobA, 50)
	l.Append(4096+2*tree.ChunkSize, 1000, blobA, 50+2*tree.ChunkSize) // continues: merged
	l.Append(5<<20, 5000, blobB, 0)
	want := make([]byte, l.Size)
	copy(want[4096:], a[50:50+2*tree.ChunkSize+1000])
	copy(want[5<<20:], b)
	if err := l.Check(); err != nil {
		t.Fatal(err)
	}
	if len(l.Extents) != 2 {
		t.Fatalf("%d extents; want 2, the continued one merged", len(l.Extents))
	}
	return l, want
}

func TestReaderReadsAnywhere(t *testing.T) {
	l, want := sample(t)
	r := l.Reader()
	got := filetest.ReadAll(t, io.NewSectionReader(r, 0, l.Size))
	if !bytes.Equal(got, want) {
		t.Error("the whole list reads differently")
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		off := rng.Int64N(l.Size)
		n := rng.Int64N(min(l.Size-off, 200000)) + 1
		buf := noise(int(n), 3)
		if m, err := r.ReadAt(buf, off); int64(m) != n || err != nil {
			t.Fatalf("ReadAt(%d bytes, %d) = %d, %v", n, off, m, err)
		}
		if !bytes.Equal(buf, want[off:off+n]) {
			t.Fatalf("ReadAt(%d bytes, %d) differs", n, off)
		}
	}
	if n, err := r.ReadAt(make([]byte, 10), l.Size-4); n != 4 || err != io.EOF {
		t.Errorf("ReadAt over the end = %d, %v; want 4, EOF", n, err)
	}
}

func TestPiecesCoverTheListWithinChunks(t *testing.T) {
	l, want := sample(t)
	var at int64
	buf := make([]byte, tree.ChunkSize)
	for p := range l.Pieces() {
		if p.Offset != at {
			t.Fatalf("piece at %d; want %d", p.Offset, at)
		}
		at += p.Length
		if p.Blob == nil {
			if len(bytes.Trim(want[p.Offset:at], "\x00")) != 0 {
				t.Fatalf("piece at %d is said to be zeroes", p.Offset)
			}
			continue
		}
		chunk, err := p.Blob.ReadChunk(p.Chunk, buf)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(chunk[p.From:p.From+p.Length], want[p.Offset:at]) {
			t.Fatalf("piece at %d differs", p.Offset)
		}
	}
	if at != l.Size {
		t.Errorf("pieces end at %d; want %d", at, l.Size)
	}
}

func TestInsertShifts(t *testing.T) {
	l, want := sample(t)
	whole := List{Size: 16 << 20}
	whole.Insert(8<<20, l)
	whole.Insert(0, List{Size: 4, Extents: []Extent{{0, 4, tree.Bytes("x", []byte("head")), 0}}})
	if err := whole.Check(); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, l.Size)
	if _, err := whole.Reader().ReadAt(got, 8<<20); err != nil && err != io.EOF {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("the inserted part reads differently")
	}
}

func TestCheckRefuses(t *testing.T) {
	blob := tree.Bytes("blob", make([]byte, 100))
	for _, test := range []struct {
		list List
		want string
	}{
		{List{Size: 200, Extents: []Extent{{0, 50, blob, 0}, {40, 50, blob, 0}}}, "overlaps"},
		{List{Size: 200, Extents: []Extent{{0, 50, blob, 60}}}, "needs blob up to 110"},
		{List{Size: 20, Extents: []Extent{{0, 50, blob, 0}}}, "extents end at 50, the list at 20"},
		{List{Size: 20, Extents: []Extent{{0, 0, blob, 0}}}, "length 0"},
	} {
		if err := test.list.Check(); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("Check = %v; want an error with %q", err, test.want)
		}
	}
}
