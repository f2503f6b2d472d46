package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sync/errgroup"
)

// maxData bounds what a tar.gz can make us write to a disk: deflate expands up
// to 1032 times. An image of ours has less than 2 GiB that is not zero.
const maxData = 32 << 30

// Disk is the disk of a tar.gz with random access, in a sparse temporary file.
//
// A file was chosen over memory and over an index into the compressed stream:
// checkers look everywhere (both GPTs, the ESP, metadata in every block group,
// and files), gzip's own checksum wants one whole pass in any case, an index
// would hold 32 KiB of window per entry for archives that others made, and
// outside checkers want a file. The kernel keeps as much of it in memory as it
// finds good.
type Disk struct {
	f    *os.File
	size int64
}

// OpenTarGz checks the tar.gz at path from beginning to end and unpacks its
// disk to a temporary file in dir, which must exist. It is removed at once
// where an open file can be, else by Close.
func OpenTarGz(ctx context.Context, path, dir string) (*Disk, error) {
	in, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("opening the archive: %w", err)
	}
	defer in.Close()
	if dir == "" {
		return nil, errors.New("BUG: no directory given for the temporary disk")
	}
	f, err := os.CreateTemp(dir, "disk-*.raw")
	if err != nil {
		return nil, fmt.Errorf("making a temporary disk: %w", err)
	}
	_ = os.Remove(f.Name()) // refused on Windows; Close does it there
	d := &Disk{f: f}
	if d.size, err = Unpack(ctx, in, f); err != nil {
		d.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return d, nil
}

// Size returns the length of the disk in bytes.
func (d *Disk) Size() int64 { return d.size }

// ReadAt implements io.ReaderAt. It may be called from several goroutines.
func (d *Disk) ReadAt(p []byte, off int64) (int, error) { return d.f.ReadAt(p, off) }

// Close drops the temporary file.
func (d *Disk) Close() error {
	err := d.f.Close()
	if rmErr := os.Remove(d.f.Name()); rmErr != nil && !errors.Is(rmErr, os.ErrNotExist) {
		err = errors.Join(err, rmErr)
	}
	return err
}

// PartialError says that a tar.gz could not be read to its end. What precedes
// the fault was unpacked.
type PartialError struct {
	Size int64 // of the disk, as the tar header states it
	Have int64 // bytes of the disk that were unpacked; Size where the fault is behind the disk
	Err  error
}

func (e *PartialError) Error() string { return e.Err.Error() }

func (e *PartialError) Unwrap() error { return e.Err }

// Unpack writes the disk in the tar.gz that r holds to f, from offset 0,
// leaving out what is zero, and returns its size. f must be empty. It accepts
// what [NewReader] accepts, and at most 32 GiB that are not zero. A fault behind
// the headers is a [PartialError].
func Unpack(ctx context.Context, r io.Reader, f *os.File) (int64, error) {
	in, err := NewReader(r)
	if err != nil {
		return 0, err
	}
	if err := f.Truncate(in.Size()); err != nil {
		return 0, fmt.Errorf("setting the size of %s: %w", f.Name(), err)
	}
	if err := unpack(ctx, in, f, maxData); err != nil {
		return 0, err
	}
	return in.Size(), nil
}

// unpack copies in to out but for zeroes, of which at most limit bytes may not
// be. Inflating, which is the slow half, overlaps with looking for zeroes and
// writing. Where reading fails, all that was read before is written.
func unpack(ctx context.Context, in *Reader, out io.WriterAt, limit int64) error {
	const blocks = 3 // one being filled, one being written, one between
	full, empty := make(chan []byte, blocks), make(chan []byte, blocks)
	for range blocks {
		empty <- make([]byte, 1<<20)
	}
	var at int64      // bytes that were dealt with
	var readErr error // for g it is none: the other half goes on to the end
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(full)
		for {
			var buf []byte
			select {
			case buf = <-empty:
			case <-ctx.Done():
				return ctx.Err()
			}
			n, err := io.ReadFull(in, buf)
			full <- buf[:n] // has room for every block there is
			switch {
			case err == io.EOF, err == io.ErrUnexpectedEOF: // in said io.EOF; its own errors are wrapped
				return nil
			case err != nil:
				readErr = err
				return nil
			}
		}
	})
	g.Go(func() error {
		var written int64
		for buf := range full {
			if err := ctx.Err(); err != nil {
				return err
			}
			n, err := writeSparse(out, buf, at)
			if err != nil {
				return fmt.Errorf("writing the temporary disk: %w", err)
			}
			if written += n; written > limit {
				return fmt.Errorf("more than %d bytes of %s are not zero: refusing to unpack them", limit, DiskName)
			}
			at += int64(len(buf))
			empty <- buf[:cap(buf)]
		}
		return nil
	})
	if err := g.Wait(); err != nil {
		return err
	}
	if readErr != nil {
		return &PartialError{Size: in.Size(), Have: at, Err: readErr}
	}
	return nil
}

// sparseBlock is the unit in bytes in which zeroes are left out.
const sparseBlock = 4096

// writeSparse writes buf at off but for blocks of zeroes, and returns how many
// bytes it wrote. Neighbouring blocks are written together.
func writeSparse(out io.WriterAt, buf []byte, off int64) (int64, error) {
	var zero [sparseBlock]byte
	var written int64
	for at := 0; at < len(buf); {
		n := min(sparseBlock, len(buf)-at)
		if bytes.Equal(buf[at:at+n], zero[:n]) {
			at += n
			continue
		}
		end := at + n
		for end < len(buf) {
			n := min(sparseBlock, len(buf)-end)
			if bytes.Equal(buf[end:end+n], zero[:n]) {
				break
			}
			end += n
		}
		if _, err := out.WriteAt(buf[at:end], off+int64(at)); err != nil {
			return written, err
		}
		written += int64(end - at)
		at = end
	}
	return written, nil
}
