package archive

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/nodebake/bake/bake/image/extent"
	"github.com/nodebake/bake/bake/progress/progresstest"
	"github.com/nodebake/bake/bake/tree"
	"github.com/nodebake/bake/test/filetest"
)

// flip returns b's bytes with one bit turned.
type flip struct {
	r  io.ReaderAt
	at int64
}

func (f flip) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.r.ReadAt(p, off)
	if i := f.at - off; i >= 0 && i < int64(n) {
		p[i] ^= 0x10
	}
	return n, err
}

func TestCorruptChunk(t *testing.T) {
	l := mixedList()
	blob := l.Extents[1].Blob
	blob.R = flip{blob.R, 3<<20 + 5}
	for _, workers := range []int{1, 4} {
		o := Options{Workers: workers, Cache: newMapCache()}
		var corrupt *tree.CorruptError
		if _, err := WriteTarGz(t.Context(), io.Discard, l, o); !errors.As(err, &corrupt) || corrupt.Chunk != 3 {
			t.Errorf("WriteTarGz with %d workers: %v; want a CorruptError for chunk 3", workers, err)
		}
		f := create(t)
		if err := WriteRaw(t.Context(), f, l, o); !errors.As(err, &corrupt) || corrupt.Chunk != 3 {
			t.Errorf("WriteRaw with %d workers: %v; want a CorruptError for chunk 3", workers, err)
		}
	}
}

func create(t *testing.T) *os.File {
	t.Helper()
	f := filetest.Create(t, filepath.Join(t.TempDir(), DiskName))
	t.Cleanup(func() { f.Close() })
	return f
}

func TestBadListIsRefused(t *testing.T) {
	b := tree.Bytes("b", make([]byte, 4096))
	l := &extent.List{Size: 4096, Extents: []extent.Extent{{Offset: 512, Length: 4096, Blob: b}}}
	if _, err := WriteTarGz(t.Context(), io.Discard, l, Options{}); err == nil {
		t.Error("WriteTarGz accepts extents beyond the list's end")
	}
	if err := WriteRaw(t.Context(), create(t), l, Options{}); err == nil {
		t.Error("WriteRaw accepts extents beyond the list's end")
	}
}

// limitedWriter is a disk that is full after n bytes.
type limitedWriter struct{ n int }

var errFull = errors.New("no space left on device")

func (w *limitedWriter) Write(b []byte) (int, error) {
	if len(b) > w.n {
		return w.n, errFull
	}
	w.n -= len(b)
	return len(b), nil
}

func TestWriteErrorIsReturned(t *testing.T) {
	l := mixedList()
	_, r := write(t, l, Options{})
	for _, n := range []int64{0, 9, 100_000, r.Size / 2, r.Size - 1} {
		if _, err := WriteTarGz(t.Context(), &limitedWriter{int(n)}, l, Options{Epoch: epoch}); !errors.Is(err, errFull) {
			t.Errorf("with room for %d of %d bytes: %v; want %v", n, r.Size, err, errFull)
		}
	}
	if _, err := WriteTarGz(t.Context(), &limitedWriter{1 << 20}, &extent.List{Size: 20 << 30}, Options{}); !errors.Is(err, errFull) {
		t.Errorf("within zeroes: %v; want %v", err, errFull)
	}
}

func TestCancel(t *testing.T) {
	const workers = 2
	for _, after := range []int64{0, 1, 3} {
		l := mixedList()
		blob := l.Extents[1].Blob
		read := blob.R
		for name, run := range map[string]func(context.Context) error{
			"WriteTarGz": func(ctx context.Context) error {
				_, err := WriteTarGz(ctx, io.Discard, l, Options{Workers: workers})
				return err
			},
			"WriteRaw": func(ctx context.Context) error {
				return WriteRaw(ctx, create(t), l, Options{Workers: workers})
			},
		} {
			ctx, cancel := context.WithCancel(t.Context())
			reader := &cancelAt{r: read, cancel: cancel, after: after}
			blob.R = reader
			if err := run(ctx); !errors.Is(err, context.Canceled) {
				t.Errorf("%s cancelled at read %d: %v; want %v", name, after, err, context.Canceled)
			}
			// Promptly: each of the others may have been about to read.
			if got := reader.reads.Load(); got > after+workers {
				t.Errorf("%s cancelled at read %d: it read %d times; want at most %d", name, after, got, after+workers)
			}
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := WriteTarGz(ctx, io.Discard, &extent.List{Size: 20 << 30}, Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("WriteTarGz of zeroes after a cancel: %v; want %v", err, context.Canceled)
	}
}

// cancelAt cancels at one of its reads.
type cancelAt struct {
	r      io.ReaderAt
	cancel context.CancelFunc
	after  int64
	reads  atomic.Int64
}

func (c *cancelAt) ReadAt(p []byte, off int64) (int, error) {
	if c.reads.Add(1) > c.after {
		c.cancel()
	}
	return c.r.ReadAt(p, off)
}

func TestCacheThatCannotKeepIsNotedOnce(t *testing.T) {
	l := mixedList()
	want, _ := write(t, l, Options{})
	cache := newMapCache()
	cache.putErr = errFull
	var sink progresstest.Recorder
	got, _ := write(t, l, Options{Cache: cache, Progress: &sink})
	if !bytes.Equal(got, want) {
		t.Error("other bytes where the cache keeps nothing")
	}
	if notes := sink.Notes(); cache.puts < 2 || len(notes) != 1 || !strings.Contains(notes[0], errFull.Error()) {
		t.Errorf("notes = %q after %d failures; want one with %q", notes, cache.puts, errFull)
	}
}

func TestProgress(t *testing.T) {
	l := mixedList()
	var sink progresstest.Recorder
	cache := newMapCache()
	write(t, l, Options{Progress: &sink, Cache: cache})
	write(t, l, Options{Progress: &sink, Cache: cache})
	if err := WriteRaw(t.Context(), create(t), l, Options{Progress: &sink}); err != nil {
		t.Fatal(err)
	}
	_, err := WriteTarGz(t.Context(), &limitedWriter{}, l, Options{Progress: &sink})
	if err == nil {
		t.Fatal("no error")
	}
	want := []string{"done", "cached", "done", "failed"}
	for i, task := range sink.Tasks {
		if task.Result != want[i] {
			t.Errorf("task %d ended as %q; want %q", i, task.Result, want[i])
		}
		if task.Total != contentSize(l) || task.Result != "failed" && task.Done != task.Total {
			t.Errorf("task %d: %d of %d bytes; want all of %d", i, task.Done, task.Total, contentSize(l))
		}
	}
}
