package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/nodebake/bake/bake/manifest"
)

// DamagedError says that a file of the store was not what its name says. The
// file was removed.
type DamagedError struct {
	Path string
	Err  error
}

func (e *DamagedError) Error() string {
	return fmt.Sprintf("%s is damaged and was removed, run again to get it again: %v", e.Path, e.Err)
}

func (e *DamagedError) Unwrap() error { return e.Err }

// parseSums checks sums and returns them with SHA-256, the store's own, first.
func parseSums(sums []manifest.Digest) ([]manifest.Digest, error) {
	if len(sums) == 0 {
		return nil, errors.New("no digest is given")
	}
	for _, sum := range sums {
		if _, err := manifest.ParseDigest(string(sum)); err != nil {
			return nil, err
		}
	}
	// "sha256" sorts before "sha512".
	return slices.Compact(slices.Sorted(slices.Values(sums))), nil
}

func (s *Store) filePath(sum manifest.Digest) string {
	return filepath.Join(s.dir, filesDir, sum.Algorithm(), shard(sum.Hex()))
}

// Path returns the path of the downloaded file that has sum, if the store has
// it. Its bytes were right when they were written; use [Store.OpenFile] to
// rely on them.
func (s *Store) Path(sum manifest.Digest) (string, bool) {
	if _, err := manifest.ParseDigest(string(sum)); err != nil {
		return "", false
	}
	if sum.Algorithm() != "sha256" {
		record, err := s.readEntry(s.filePath(sum))
		if err != nil {
			return "", false
		}
		sum, err = manifest.ParseDigest(strings.TrimSuffix(string(record), "\n"))
		if err != nil || sum.Algorithm() != "sha256" {
			return "", false
		}
	}
	path := s.filePath(sum)
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() {
		return "", false
	}
	s.touch(path, info)
	return path, true
}

// Find returns the path of the file that has all of sums, if the store has it.
// A digest that the file was not yet checked against is checked now; a file
// that has some of the digests and not the others is a manifest.DigestError.
func (s *Store) Find(ctx context.Context, sums []manifest.Digest) (string, bool, error) {
	sums, err := parseSums(sums)
	if err != nil {
		return "", false, err
	}
	path, ok := s.Path(sums[0])
	if !ok {
		return "", false, nil
	}
	for _, sum := range sums[1:] {
		if other, ok := s.Path(sum); ok && other == path {
			continue
		}
		f, err := s.OpenFile(ctx, sums[0])
		if _, ok := errors.AsType[*DamagedError](err); ok {
			return "", false, nil
		} else if err != nil {
			return "", false, err
		}
		err = verify(ctx, f, sum)
		if err := errors.Join(err, f.Close()); err != nil {
			return "", false, fmt.Errorf("%s: %w", path, err)
		}
		if sum.Algorithm() != "sha256" {
			if err := s.record(sum, filepath.Base(path)); err != nil {
				return "", false, err
			}
		}
	}
	return path, true, nil
}

// OpenFile opens the downloaded file that has sum, after reading it once to
// verify it. A damaged file is removed and reported as a DamagedError; the
// error is fs.ErrNotExist where the store does not have the file.
func (s *Store) OpenFile(ctx context.Context, sum manifest.Digest) (*os.File, error) {
	path, ok := s.Path(sum)
	if !ok {
		return nil, fmt.Errorf("opening %s in the store: %w", sum, fs.ErrNotExist)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	err = verify(ctx, f, sum)
	if err == nil {
		return f, nil
	}
	defer f.Close()
	if _, ok := errors.AsType[*manifest.DigestError](err); !ok {
		return nil, fmt.Errorf("verifying %s: %w", path, err)
	}
	if s.filePath(sum) != path {
		// It was found through the record of a SHA-512, which may be what is
		// damaged.
		if err := removeIfThere(s.filePath(sum)); err != nil {
			return nil, fmt.Errorf("removing a record: %w", err)
		}
		own, parseErr := manifest.ParseDigest("sha256:" + filepath.Base(path))
		if parseErr == nil && verify(ctx, f, own) == nil {
			return nil, &DamagedError{Path: s.filePath(sum), Err: err}
		}
	}
	f.Close() // Windows does not remove open files
	if err := removeIfThere(path); err != nil {
		return nil, fmt.Errorf("removing a damaged file: %w", err)
	}
	return nil, &DamagedError{Path: path, Err: err}
}

// verify reads all of f, without moving its offset.
func verify(ctx context.Context, f *os.File, sum manifest.Digest) error {
	h := sum.NewHash()
	if err := copyAt(ctx, h, f, 0); err != nil {
		return err
	}
	return sum.Check(h)
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// copyAt writes what f holds from off on to w, until ctx is done.
func copyAt(ctx context.Context, w io.Writer, f *os.File, off int64) error {
	buf := make([]byte, 1<<20)
	for {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		n, err := f.ReadAt(buf, off)
		if _, err := w.Write(buf[:n]); err != nil {
			return err
		}
		off += int64(n)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// record notes that the file with a SHA-256 has the digest sum as well.
func (s *Store) record(sum manifest.Digest, sha256Hex string) error {
	f, err := os.CreateTemp(filepath.Join(s.dir, tmpDir), "record-*")
	if err != nil {
		return s.full(err, 0)
	}
	_, err = fmt.Fprintf(f, "sha256:%s\n", sha256Hex)
	if err = errors.Join(err, f.Close()); err == nil {
		err = place(f.Name(), s.filePath(sum))
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return fmt.Errorf("recording %s: %w", sum, s.full(err, 0))
	}
	return nil
}

// Add copies r, which must have all of sums, into the store and returns the
// path of the file: for what comes from elsewhere than the network.
func (s *Store) Add(ctx context.Context, sums []manifest.Digest, r io.Reader) (string, error) {
	d, err := s.Download(ctx, "a file", sums)
	if err != nil {
		return "", err
	}
	defer d.Close()
	if path, ok, err := s.Find(ctx, sums); ok || err != nil {
		return path, err
	}
	if err := d.Reset("", ""); err != nil {
		return "", err
	}
	if _, err := io.Copy(d, r); err != nil {
		return "", err
	}
	return d.Commit()
}
