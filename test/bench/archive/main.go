//go:build linux

// Archive measures package archive alone, over a real store: it puts the files
// given on a made-up disk, one after another, and writes that as a tar.gz.
// Each file stands for the unpacked content of a package. What a bake knows
// from its store, the digests of every chunk, is computed first and not
// counted.
//
//	archive -store DIR [-o FILE] [-procs N] FILE...
//
// The first run with an empty -store is the cold figure, a second the warm one;
// leave out, add or change a file between two runs for what lies between.
package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"syscall"
	"time"

	"github.com/nodebake/bake/bake/image/archive"
	"github.com/nodebake/bake/bake/image/extent"
	"github.com/nodebake/bake/bake/source/store"
	"github.com/nodebake/bake/bake/tree"
)

func main() {
	if err := run(context.Background(), os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "archive:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout io.Writer) error {
	flags := flag.NewFlagSet("archive", flag.ContinueOnError)
	dir := flags.String("store", "", "store to keep compressed segments in; empty: none")
	output := flags.String("o", os.DevNull, "file to write to")
	procs := flags.Int("procs", runtime.GOMAXPROCS(0), "workers")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() == 0 {
		return errors.New("no files given")
	}
	list, err := disk(flags.Args())
	if err != nil {
		return err
	}
	o := archive.Options{Workers: *procs}
	if *dir != "" {
		s, err := store.Open(*dir)
		if err != nil {
			return err
		}
		defer s.Close()
		o.Cache = s
	}

	before, start := cpuTime(), time.Now()
	out, err := os.Create(*output)
	if err != nil {
		return err
	}
	defer out.Close()
	r, err := archive.WriteTarGz(ctx, out, list, o)
	if err != nil {
		return err
	}
	if err := out.Close(); err != nil {
		return err
	}
	elapsed := time.Since(start)
	_, err = fmt.Fprintf(stdout, "%d workers: %d bytes, %d of them cached, to %d in %.3f s (processors %.3f s), sha256:%s\n",
		*procs, r.Content, r.Cached, r.Size, elapsed.Seconds(), (cpuTime() - before).Seconds(), r.SHA256)
	return err
}

// disk puts the files on a disk of whole GiB.
func disk(paths []string) (*extent.List, error) {
	const gib = 1 << 30
	list := &extent.List{}
	at := int64(1 << 20)
	for _, path := range paths {
		blob, err := digest(path)
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", path, err)
		}
		list.Append(at, blob.Size, blob, 0)
		at = (at + blob.Size + tree.Align - 1) / tree.Align * tree.Align
	}
	list.Size = (at/gib + 2) * gib
	return list, nil
}

// digest makes a blob of the file at path, which stays open.
func digest(path string) (*tree.Blob, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	blob := &tree.Blob{Name: path, R: f}
	buf := make([]byte, tree.ChunkSize)
	for {
		n, err := io.ReadFull(f, buf)
		if n > 0 {
			blob.Chunks = append(blob.Chunks, sha256.Sum256(buf[:n]))
			blob.Size += int64(n)
		}
		switch {
		case err == io.EOF, err == io.ErrUnexpectedEOF:
			return blob, nil
		case err != nil:
			return nil, err
		}
	}
}

// cpuTime returns what this process has used of all processors.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
