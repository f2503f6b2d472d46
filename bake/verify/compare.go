package verify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/nodebake/bake/bake/image/archive"
	"github.com/nodebake/bake/bake/image/extent"
	"github.com/nodebake/bake/bake/inspect"
	"github.com/nodebake/bake/bake/tree"
)

// compareRange is how much of a disk one worker compares at a time. Ranges cut
// the chunks of blobs, which are verified whole, so they should be some chunks
// long.
const compareRange = 16 * tree.ChunkSize

// firstDifference returns the offset of the first byte in which the disk of m
// is not want, or -1. What one of them has and the other lacks is a difference.
func (c *Config) firstDifference(ctx context.Context, m *inspect.Image, want *extent.List) (int64, error) {
	both := min(m.Have, want.Size)
	shown := c.Progress.Start("compare", filepath.Base(m.Path), both)
	var first atomic.Int64
	first.Store(both)
	found := func(at int64) {
		for before := first.Load(); at < before && !first.CompareAndSwap(before, at); before = first.Load() {
		}
	}
	g, gctx := errgroup.WithContext(ctx)
	starts := make(chan int64)
	g.Go(func() error {
		defer close(starts)
		for at := int64(0); at < first.Load(); at += compareRange {
			select {
			case starts <- at:
			case <-gctx.Done():
				return context.Cause(gctx)
			}
		}
		return nil
	})
	for range c.Jobs {
		g.Go(func() error {
			planned := want.Reader()
			made, got := make([]byte, tree.ChunkSize), make([]byte, tree.ChunkSize)
			for start := range starts {
				for at := start; at < min(start+compareRange, first.Load()); at += tree.ChunkSize {
					if err := context.Cause(gctx); err != nil {
						return err
					}
					n := min(tree.ChunkSize, both-at)
					if err := readFull(planned, made[:n], at); err != nil {
						return err
					}
					if err := readFull(m.Disk, got[:n], at); err != nil {
						return fmt.Errorf("reading %s: %w", m.Path, err)
					}
					shown.Add(n)
					if i := mismatch(made[:n], got[:n]); i >= 0 {
						found(at + int64(i))
						break
					}
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		shown.End("failed")
		return 0, err
	}
	shown.End("done")
	if at := first.Load(); at < both || m.Have != want.Size || m.Size != want.Size {
		return at, nil
	}
	return -1, nil
}

func readFull(r io.ReaderAt, p []byte, at int64) error {
	if n, err := r.ReadAt(p, at); n < len(p) {
		if err == nil || err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	return nil
}

// mismatch returns where a and b, of one length, begin to differ, or -1.
func mismatch(a, b []byte) int {
	if bytes.Equal(a, b) {
		return -1
	}
	for i := range a {
		if a[i] != b[i] {
			return i
		}
	}
	panic("BUG: unequal and the same")
}

// errDiffers stops the writing of an archive at the first byte that is another.
var errDiffers = errors.New("the archive differs")

// compareArchive makes the archive of a disk that is the same and compares it
// with that of m, without keeping it.
func compareArchive(ctx context.Context, m *inspect.Image, list *extent.List, options archive.Options) (*Difference, archive.Result, error) {
	f := m.Source
	w := &comparer{file: f}
	made, err := archive.WriteTarGz(ctx, w, list, options)
	if err != nil && !errors.Is(err, errDiffers) {
		return nil, archive.Result{}, err
	}
	var next [16]byte
	if err == nil { // all that was made is there
		n, err := f.ReadAt(next[:], w.at)
		if n == 0 {
			if err == io.EOF {
				return nil, made, nil
			}
			return nil, made, err
		}
		w.got = next[:n]
	}
	d := &Difference{
		Partition: "archive", Offset: w.at, DiskOffset: -1,
		Want: fmt.Sprintf("%x", w.want), Got: fmt.Sprintf("%x", w.got),
		What: "the disk is the same, byte by byte; the archive around it was made by something else",
	}
	if m.Fault != nil {
		d.What = "the disk is the same, byte by byte; the archive around it is damaged: " + m.Fault.Error()
	}
	return d, archive.Result{}, nil
}

// comparer is written what a file should hold.
type comparer struct {
	file      io.ReaderAt
	at        int64 // of the first byte that was not compared, or that differs
	buf       []byte
	want, got []byte // at most 16 bytes from at on, once they differ
}

// Write implements io.Writer. It fails with errDiffers.
func (c *comparer) Write(p []byte) (int, error) {
	if cap(c.buf) < len(p) {
		c.buf = make([]byte, len(p))
	}
	n, err := c.file.ReadAt(c.buf[:len(p)], c.at)
	if err != nil && err != io.EOF {
		return 0, err
	}
	i := mismatch(p[:n], c.buf[:n])
	if i < 0 && n == len(p) {
		c.at += int64(n)
		return n, nil
	}
	if i < 0 {
		i = n
	}
	c.at += int64(i)
	c.want = bytes.Clone(p[i:min(i+16, len(p))])
	c.got = c.buf[i:min(i+16, n)]
	return i, errDiffers
}
