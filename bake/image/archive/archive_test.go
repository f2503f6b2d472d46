package archive

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/nodebake/bake/bake/image/extent"
	"github.com/nodebake/bake/bake/tree"
	"github.com/nodebake/bake/test/filetest"
)

const epoch = 1_700_000_000

// mapCache is a Cache in memory.
type mapCache struct {
	mu         sync.Mutex
	m          map[tree.Digest][]byte
	hits, puts int
	putErr     error
}

func newMapCache() *mapCache { return &mapCache{m: map[tree.Digest][]byte{}} }

func (c *mapCache) Get(key tree.Digest) ([]byte, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v, ok := c.m[key]
	if ok {
		c.hits++
	}
	return v, ok
}

func (c *mapCache) Put(key tree.Digest, value []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.puts++
	if c.putErr != nil {
		return c.putErr
	}
	c.m[key] = bytes.Clone(value)
	return nil
}

// forget drops every second value.
func (c *mapCache) forget() {
	drop := false
	for key := range c.m {
		if drop = !drop; drop {
			delete(c.m, key)
		}
	}
}

// text returns n bytes that compress about as programs do: words out of a
// small set with noise between.
func text(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	words := make([][]byte, 300)
	for i := range words {
		words[i] = make([]byte, 2+r.IntN(12))
		for j := range words[i] {
			words[i][j] = byte(r.Uint32())
		}
	}
	out := make([]byte, 0, n+32)
	for len(out) < n {
		out = append(out, words[r.IntN(len(words))]...)
		out = append(out, byte(r.Uint32()))
	}
	return out[:n]
}

// mixedList has what a real disk has: long runs, short last chunks, many small
// files, parts of chunks, short and long gaps, content that does not compress.
func mixedList() *extent.List {
	l := &extent.List{Size: 24<<20 + 512}
	at := int64(0)
	add := func(b *tree.Blob, from, length int64) {
		l.Append(at, length, b, from)
		at += length
	}
	add(tree.Bytes("table", text(1, 34*512)), 0, 34*512)
	at = 1 << 20
	big := tree.Bytes("big", text(2, 5<<20+300<<10))
	add(big, 0, big.Size)
	for i := range 60 {
		small := tree.Bytes("small", text(uint64(10+i), 4096*(1+i%40)))
		add(small, 0, small.Size)
		if i%7 == 0 {
			at += 4096
		}
	}
	at += 3 << 20
	noise := make([]byte, 2<<20+17)
	rand.NewChaCha8([32]byte{1}).Read(noise)
	nb := tree.Bytes("noise", noise)
	add(nb, 0, nb.Size)
	at += 4096 - at%4096
	for from := int64(0); from+40<<10 < big.Size; from += 200 << 10 {
		add(big, from+4096, 8192)
	}
	add(tree.Bytes("zeroes by content", make([]byte, 1<<20+4096)), 4096, 1<<20)
	at = l.Size - 33*512
	add(tree.Bytes("backup table", text(3, 33*512)), 0, 33*512)
	return l
}

func content(t testing.TB, l *extent.List) []byte {
	t.Helper()
	b := make([]byte, l.Size)
	if n, err := l.Reader().ReadAt(b, 0); int64(n) != l.Size {
		t.Fatal(err)
	}
	return b
}

func write(t testing.TB, l *extent.List, o Options) ([]byte, Result) {
	t.Helper()
	o.Epoch = epoch
	var out bytes.Buffer
	r, err := WriteTarGz(t.Context(), &out, l, o)
	if err != nil {
		t.Fatal(err)
	}
	if r.Size != int64(out.Len()) || r.SHA256 != sha256.Sum256(out.Bytes()) {
		t.Errorf("WriteTarGz says %d bytes, SHA-256 %s; it wrote %d, %x", r.Size, r.SHA256, out.Len(), sha256.Sum256(out.Bytes()))
	}
	return out.Bytes(), r
}

func TestWriteTarGzReadBack(t *testing.T) {
	for _, tc := range []struct {
		name string
		list *extent.List
	}{
		{"mixed", mixedList()},
		{"empty", &extent.List{}},
		{"one byte of zero", &extent.List{Size: 1}},
		{"one byte", &extent.List{Size: 1, Extents: []extent.Extent{{Length: 1, Blob: tree.Bytes("b", []byte("x"))}}}},
		{"zeroes", &extent.List{Size: 5<<20 + 100}},
		{"a block less than a record", &extent.List{Size: recordSize - 4*blockSize}},
		{"a whole record", &extent.List{Size: recordSize - 3*blockSize}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			out, _ := write(t, tc.list, Options{})
			gz, err := gzip.NewReader(bytes.NewReader(out))
			if err != nil {
				t.Fatal(err)
			}
			if gz.OS != 255 || gz.Name != "" || !gz.ModTime.IsZero() {
				t.Errorf("gzip header = %+v; want OS 255, no name, no time", gz.Header)
			}
			tarball := filetest.ReadAll(t, gz)
			if len(tarball)%recordSize != 0 {
				t.Errorf("the tar archive has %d bytes; want a multiple of %d", len(tarball), recordSize)
			}
			tr := tar.NewReader(bytes.NewReader(tarball))
			h, err := tr.Next()
			if err != nil {
				t.Fatal(err)
			}
			if h.Name != DiskName || h.Size != tc.list.Size || h.Mode != 0o644 || h.ModTime.Unix() != epoch || h.Format != tar.FormatGNU || h.Typeflag != tar.TypeReg {
				t.Errorf("header = %+v; want a regular GNU member", h)
			}
			disk := filetest.ReadAll(t, tr)
			if !bytes.Equal(disk, content(t, tc.list)) {
				t.Error("the member's content is not the list's")
			}
			if _, err := tr.Next(); err != io.EOF {
				t.Errorf("after the member: %v; want %v", err, io.EOF)
			}
		})
	}
}

func TestWriteTarGzDoesNotDependOnWorkersOrCache(t *testing.T) {
	l := mixedList()
	want, _ := write(t, l, Options{Workers: 1})
	cache := newMapCache()
	for _, workers := range []int{1, 2, 7, 64} {
		for _, state := range []string{"no cache", "cold", "warm", "partly warm"} {
			o := Options{Workers: workers, Cache: cache}
			switch state {
			case "no cache":
				o.Cache = nil
			case "cold":
				clear(cache.m)
			case "partly warm":
				cache.forget()
			}
			got, r := write(t, l, o)
			if !bytes.Equal(got, want) {
				t.Errorf("%d workers, %s: other bytes than with one worker and no cache", workers, state)
			}
			if all := r.Cached == r.Content; all != (state == "warm") {
				t.Errorf("%d workers, %s: %d of %d bytes from the cache", workers, state, r.Cached, r.Content)
			}
		}
	}
}

// failingReader stands for a payload that is not there.
type failingReader struct{}

func (failingReader) ReadAt([]byte, int64) (int, error) { return 0, errors.New("payload was read") }

func TestCachedContentIsNotRead(t *testing.T) {
	l := mixedList()
	cache := newMapCache()
	want, _ := write(t, l, Options{Cache: cache})
	for _, e := range l.Extents {
		e.Blob.R = failingReader{}
	}
	got, _ := write(t, l, Options{Cache: cache})
	if !bytes.Equal(got, want) {
		t.Error("other bytes from the cache")
	}
	for key, value := range cache.m {
		cache.m[key] = value[:len(value)-1] // not a value any more
	}
	if _, err := WriteTarGz(context.Background(), io.Discard, l, Options{Cache: cache}); err == nil {
		t.Error("cut values were used; want them compressed again, and so the payload read")
	}
}
