package archive

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sync/errgroup"

	"github.com/nodebake/bake/bake/progress"
)

// limits bound what a tar.gz can make us write to a disk. Zeroes do not count,
// since they are not written: a disk that is mostly empty compresses at deflate's
// 1032 to 1.
type limits struct {
	data  int64 // bytes that are not zero
	free  int64 // of them, before ratio counts
	ratio int64 // the most for each byte of the archive
}

// defaults leave room: an image of ours has less than 2 GiB that is not zero, and
// between a half and a third of that in its archive.
func defaults() limits { return limits{data: 32 << 30, free: 1 << 30, ratio: 200} }

// headSize is what is looked at of a disk before anything is written: the boot
// record, the partition table's header and its entries, 34 sectors.
const headSize = 34 * 512 // bytes

// isDisk reports whether a disk begins with head: with the signature of a boot
// record or of a partition table's header (UEFI 2.10, tables 5.1 and 5.5), one of
// which a damaged disk has as well.
func isDisk(head []byte) bool {
	return len(head) >= 512 && head[510] == 0x55 && head[511] == 0xaa || len(head) >= 520 && string(head[512:520]) == "EFI PART"
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
// what [NewReader] accepts, if it begins as disks do, which it sees before it
// writes; at most 32 GiB that are not zero; and beyond 1 GiB of these no more than
// 200 times what was read of the archive. A fault behind the headers is a
// [PartialError].
func Unpack(ctx context.Context, r io.Reader, f *os.File) (int64, error) {
	in, err := NewReader(r)
	if err != nil {
		return 0, err
	}
	if head := in.peek(headSize); in.headErr == nil && !isDisk(head) {
		return 0, fmt.Errorf("%s is no disk: there is neither a boot record nor a partition table at its beginning", DiskName)
	}
	return fill(ctx, in, f)
}

// UnpackFile is Unpack for a file, and tells sink how far it is.
func UnpackFile(ctx context.Context, in, f *os.File, sink progress.Sink) error {
	info, err := in.Stat()
	if err != nil {
		return err
	}
	progress.Phase(sink, "unpack")
	task := sink.Start("unpack", filepath.Base(in.Name()), info.Size())
	if _, err := Unpack(ctx, &meter{in, task}, f); err != nil {
		task.End("failed")
		return err
	}
	task.End("done")
	progress.Phase(sink, "")
	return nil
}

// meter tells a task what is read.
type meter struct {
	r    io.Reader
	task progress.Task
}

func (m *meter) Read(p []byte) (int, error) {
	n, err := m.r.Read(p)
	m.task.Add(int64(n))
	return n, err
}

// fill writes the disk that in has to f.
func fill(ctx context.Context, in *Reader, f *os.File) (int64, error) {
	if err := f.Truncate(in.Size()); err != nil {
		return 0, fmt.Errorf("setting the size of %s: %w", f.Name(), err)
	}
	if err := unpack(ctx, in, f, defaults()); err != nil {
		return 0, err
	}
	return in.Size(), nil
}

// unpack copies in to out but for zeroes, within max. Inflating, which is the slow half, overlaps with looking for zeroes and
// writing. Where reading fails, all that was read before is written.
func unpack(ctx context.Context, in *Reader, out io.WriterAt, max limits) error {
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
			written += n
			switch read := in.in.n.Load(); {
			case written > max.data:
				return fmt.Errorf("more than %d bytes of %s are not zero: refusing to unpack them", max.data, DiskName)
			case written > max.free && written/max.ratio > read:
				return fmt.Errorf("%d bytes of %s that are not zero came from %d of the archive, more than %d times as many: refusing to unpack the rest", written, DiskName, read, max.ratio)
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
