package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/nodebake/bake/bake/tree"
)

// everyType is a pack that uses all that an index can hold.
func everyType(t testing.TB) *tree.Pack {
	t.Helper()
	w := tree.NewPackWriter(io.Discard)
	big := bytes.Repeat([]byte("chunk"), tree.ChunkSize/2)
	for _, e := range []tree.Entry{
		{Path: ".", Type: tree.Dir, Perm: 0o755},
		{Path: "DEBIAN/control", Type: tree.File, Perm: 0o644, Size: 5, MTime: -1},
		{Path: "empty", Type: tree.File},
		{Path: "big", Type: tree.File, Perm: 0o7777, UID: 1<<32 - 1, GID: 42, MTime: 1 << 33, Size: int64(len(big))},
		{Path: "link", Type: tree.Symlink, Perm: 0o777, Link: "../etc/\x80 odd"},
		{Path: "hard", Type: tree.Hardlink, Link: "big"},
		{Path: "dev/null", Type: tree.Char, Perm: 0o666, Major: 1, Minor: 3},
		{Path: "dev/sda", Type: tree.Block, Major: 8, Minor: 1<<32 - 1},
		{Path: "fifo", Type: tree.Fifo, Xattrs: map[string][]byte{"user.b": {0, 1, 2}, "security.capability": nil}},
	} {
		if err := w.Add(e, bytes.NewReader(big[:e.Size])); err != nil {
			t.Fatal(err)
		}
	}
	p, err := w.Close()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestIndex(t *testing.T) {
	for name, want := range map[string]*tree.Pack{"every type": everyType(t), "empty": {}} {
		b, err := encodeIndex("the key", want)
		if err != nil {
			t.Fatalf("%s: encodeIndex = %v", name, err)
		}
		got, key, err := decodeIndex(b)
		if err != nil || key != "the key" {
			t.Fatalf("%s: decodeIndex = %q, %v; want the key", name, key, err)
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s: pack (-want +got):\n%s", name, diff)
		}
		again, err := encodeIndex("the key", got)
		if err != nil || !bytes.Equal(again, b) {
			t.Errorf("%s: encoding what was decoded gives other bytes (%v)", name, err)
		}
	}
}

// TestIndexCut cuts and changes every byte: nothing may be accepted.
func TestIndexCut(t *testing.T) {
	good, err := encodeIndex("k", everyType(t))
	if err != nil {
		t.Fatal(err)
	}
	for i := range good {
		if _, _, err := decodeIndex(good[:i]); err == nil {
			t.Errorf("decodeIndex of the first %d of %d bytes = nil error", i, len(good))
		}
		changed := bytes.Clone(good)
		changed[i] ^= 1
		if _, _, err := decodeIndex(changed); err == nil {
			t.Errorf("decodeIndex with a flipped bit at %d = nil error", i)
		}
	}
}

func FuzzDecodeIndex(f *testing.F) {
	b, err := encodeIndex("key", everyType(f))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b[:len(b)-sha256.Size])
	f.Add([]byte(indexMagic))
	f.Add([]byte(indexMagic + "\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"))
	f.Add([]byte(indexMagic + "\x00\x00\xff\xff\xff\xff\x0f"))
	f.Fuzz(func(t *testing.T, body []byte) {
		p, key, err := decodeIndexBody(body)
		if err != nil {
			return
		}
		// What is accepted is safe to use, and survives being written.
		for _, e := range p.Entries {
			if err := tree.ValidPath(e.Path); err != nil {
				t.Errorf("accepted a bad path: %v", err)
			}
			if e.Offset < 0 || e.Size < 0 || e.Offset+e.Size > p.Size {
				t.Errorf("accepted %q: %d bytes at %d of %d", e.Path, e.Size, e.Offset, p.Size)
			}
		}
		again, err := encodeIndex(key, p)
		if err != nil {
			t.Fatalf("encodeIndex of what was decoded = %v", err)
		}
		q, _, err := decodeIndex(again)
		if err != nil {
			t.Fatalf("decodeIndex of what was encoded = %v", err)
		}
		if diff := cmp.Diff(p, q, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("second decoding (-first +second):\n%s", diff)
		}
	})
}

// BenchmarkLoadPacks loads what a worker image is made of: 200 packs with
// 12,500 entries and 680 MB of data in all.
func BenchmarkLoadPacks(b *testing.B) {
	s := open(b, b.TempDir())
	const packs, entries = 200, 12_500
	content := make([]byte, 54_000)
	for i := range packs {
		_, err := s.Pack(b.Context(), fmt.Sprint("key ", i), "x", func(_ context.Context, w *tree.PackWriter) error {
			for j := range entries / packs {
				e := tree.Entry{Path: fmt.Sprintf("usr/share/doc/package-%d/some/file-%d", i, j), Type: tree.File, Perm: 0o644, Size: int64(len(content)), MTime: 1_700_000_000}
				if err := w.Add(e, bytes.NewReader(content)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	for _, workers := range []int{1, 2} {
		b.Run(fmt.Sprintf("workers=%d", workers), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				var wg sync.WaitGroup
				for w := range workers {
					wg.Go(func() {
						for i := w; i < packs; i += workers {
							if _, err := s.loadPack(fmt.Sprint("key ", i), "x"); err != nil {
								b.Error(err)
							}
						}
					})
				}
				wg.Wait()
			}
		})
	}
}

func BenchmarkGet(b *testing.B) {
	s := open(b, b.TempDir())
	value := bytes.Repeat([]byte{1, 2, 3, 5, 7}, 100_000)
	const values = 200
	for i := range values {
		if err := s.Put(tree.Digest{byte(i)}, value); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(int64(len(value)))
	for i := 0; b.Loop(); i++ {
		if _, ok := s.Get(tree.Digest{byte(i % values)}); !ok {
			b.Fatal("Get = nothing")
		}
	}
}

func BenchmarkPut(b *testing.B) {
	s := open(b, b.TempDir())
	value := bytes.Repeat([]byte{1, 2, 3, 5, 7}, 100_000)
	b.SetBytes(int64(len(value)))
	for i := 0; b.Loop(); i++ {
		if err := s.Put(tree.Digest{byte(i)}, value); err != nil {
			b.Fatal(err)
		}
	}
}
