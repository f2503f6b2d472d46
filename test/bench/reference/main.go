//go:build linux

// Reference is what `bake image` is measured against: it compresses the bytes
// of the files given with the library and level that bake uses, in independent
// blocks of 1 MiB on GOMAXPROCS goroutines, and does nothing else. It makes no
// filesystem, verifies nothing, hashes nothing and keeps nothing. Blocks are
// written in the order in which they are done, so its output is not an
// archive: it is a lower bound on the time that one takes.
//
// Holes of sparse files are skipped, so a raw image stands for its payload.
//
//	reference [-o FILE] [-level N] FILE...
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/flate"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/nodebake/bake/bake/image/archive"
)

const blockSize = 1 << 20

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "reference:", err)
		os.Exit(1)
	}
}

func run(args []string, stdout io.Writer) error {
	flags := flag.NewFlagSet("reference", flag.ContinueOnError)
	output := flags.String("o", os.DevNull, "file to write to")
	level := flags.Int("level", archive.Level, "compression level")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() == 0 {
		return errors.New("no files given")
	}
	start := time.Now()
	out, err := os.Create(*output)
	if err != nil {
		return err
	}
	defer out.Close()
	in, compressed, err := compress(flags.Args(), out, *level)
	if err != nil {
		return err
	}
	if err := out.Close(); err != nil {
		return err
	}
	elapsed := time.Since(start)
	fmt.Fprintf(stdout, "level %d, %d procs: %d bytes to %d in %.3f s, %.0f MB/s\n",
		*level, runtime.GOMAXPROCS(0), in, compressed, elapsed.Seconds(), float64(in)/1e6/elapsed.Seconds())
	return nil
}

// block is at most blockSize bytes of a file.
type block struct {
	file   *os.File
	offset int64
	length int
}

func compress(paths []string, w io.Writer, level int) (in, compressed int64, err error) {
	var read, written atomic.Int64
	var mu sync.Mutex // of w
	work := make(chan block)
	var g errgroup.Group
	for range runtime.GOMAXPROCS(0) {
		g.Go(func() error {
			// After an error the rest is drained, so that the sender is not stuck.
			err := compressBlocks(work, level, func(n int, b []byte) error {
				read.Add(int64(n))
				written.Add(int64(len(b)))
				mu.Lock()
				defer mu.Unlock()
				_, err := w.Write(b)
				return err
			})
			for range work {
			}
			return err
		})
	}
	g.Go(func() error {
		defer close(work)
		for _, path := range paths {
			f, err := os.Open(path)
			if err != nil {
				return err
			}
			if err := blocks(f, work); err != nil {
				return fmt.Errorf("reading %s: %w", path, err)
			}
			// f stays open until the process ends: workers still read it.
		}
		return nil
	})
	err = g.Wait()
	return read.Load(), written.Load(), err
}

func compressBlocks(work <-chan block, level int, done func(int, []byte) error) error {
	var out bytes.Buffer
	w, err := flate.NewWriter(&out, level)
	if err != nil {
		return err
	}
	buf := make([]byte, blockSize)
	for b := range work {
		if _, err := b.file.ReadAt(buf[:b.length], b.offset); err != nil {
			return err
		}
		out.Reset()
		w.Reset(&out)
		if _, err := w.Write(buf[:b.length]); err != nil {
			return err
		}
		if err := w.Flush(); err != nil {
			return err
		}
		if err := done(b.length, out.Bytes()); err != nil {
			return err
		}
	}
	return nil
}

// blocks sends the blocks of f that are not holes.
func blocks(f *os.File, work chan<- block) error {
	for at := int64(0); ; {
		data, err := f.Seek(at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) { // no data from at on
			return nil
		} else if err != nil {
			return err
		}
		hole, err := f.Seek(data, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		for at = data; at < hole; {
			n := min(blockSize, hole-at)
			work <- block{f, at, int(n)}
			at += n
		}
	}
}
