package store

import (
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/nodebake/bake/bake/manifest"
)

// MismatchError says that bytes are not those that a digest names.
type MismatchError struct {
	Got, Want manifest.Sum
}

func (e *MismatchError) Error() string { return fmt.Sprintf("digest is %s, want %s", e.Got, e.Want) }

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

// digest is a manifest.Sum taken apart.
type digest struct {
	algorithm string // "sha256" or "sha512"
	hex       string // lower case
}

func (d digest) sum() manifest.Sum { return manifest.Sum(d.algorithm + ":" + d.hex) }

func (d digest) newHash() hash.Hash {
	if d.algorithm == "sha512" {
		return sha512.New()
	}
	return sha256.New()
}

func parseSum(sum manifest.Sum) (digest, error) {
	algorithm, digits, _ := strings.Cut(string(sum), ":")
	size := 0
	switch algorithm {
	case "sha256":
		size = sha256.Size
	case "sha512":
		size = sha512.Size
	default:
		return digest{}, fmt.Errorf("digest %q is neither sha256:HEX nor sha512:HEX", sum)
	}
	raw, err := hex.DecodeString(digits)
	if err != nil || len(raw) != size {
		return digest{}, fmt.Errorf("digest %q does not have %d hexadecimal digits", sum, 2*size)
	}
	return digest{algorithm, hex.EncodeToString(raw)}, nil
}

// parseSums returns the digests with SHA-256, the store's own, first.
func parseSums(sums []manifest.Sum) ([]digest, error) {
	if len(sums) == 0 {
		return nil, errors.New("no digest is given")
	}
	var digests, others []digest
	for _, sum := range sums {
		d, err := parseSum(sum)
		if err != nil {
			return nil, err
		}
		if d.algorithm == "sha256" {
			digests = append(digests, d)
		} else {
			others = append(others, d)
		}
	}
	return append(digests, others...), nil
}

func (s *Store) filePath(d digest) string {
	return filepath.Join(s.dir, filesDir, d.algorithm, shard(d.hex))
}

// Path returns the path of the downloaded file that has sum, if the store has
// it. Its bytes were right when they were written; use [Store.OpenFile] to
// rely on them.
func (s *Store) Path(sum manifest.Sum) (string, bool) {
	d, err := parseSum(sum)
	if err != nil {
		return "", false
	}
	if d.algorithm != "sha256" {
		record, err := s.readEntry(s.filePath(d))
		if err != nil {
			return "", false
		}
		if d, err = parseSum(manifest.Sum(strings.TrimSuffix(string(record), "\n"))); err != nil || d.algorithm != "sha256" {
			return "", false
		}
	}
	path := s.filePath(d)
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() {
		return "", false
	}
	s.touch(path, info)
	return path, true
}

// Find returns the path of the file that has all of sums, if the store has it.
// A digest that the file was not yet checked against is checked now; a file
// that has some of the digests and not the others is a MismatchError.
func (s *Store) Find(ctx context.Context, sums []manifest.Sum) (string, bool, error) {
	digests, err := parseSums(sums)
	if err != nil {
		return "", false, err
	}
	path, ok := s.Path(digests[0].sum())
	if !ok {
		return "", false, nil
	}
	for _, d := range digests[1:] {
		if other, ok := s.Path(d.sum()); ok && other == path {
			continue
		}
		f, err := s.OpenFile(ctx, digests[0].sum())
		if damaged := (*DamagedError)(nil); errors.As(err, &damaged) {
			return "", false, nil
		} else if err != nil {
			return "", false, err
		}
		got, err := hashFile(ctx, f, d)
		if err := errors.Join(err, f.Close()); err != nil {
			return "", false, err
		}
		if got != d {
			return "", false, &MismatchError{Got: got.sum(), Want: d.sum()}
		}
		if d.algorithm == "sha512" {
			if err := s.record(d, filepath.Base(path)); err != nil {
				return "", false, err
			}
		}
	}
	return path, true, nil
}

// OpenFile opens the downloaded file that has sum, after reading it once to
// verify it. A damaged file is removed and reported as a DamagedError; the
// error is fs.ErrNotExist where the store does not have the file.
func (s *Store) OpenFile(ctx context.Context, sum manifest.Sum) (*os.File, error) {
	want, err := parseSum(sum)
	if err != nil {
		return nil, err
	}
	path, ok := s.Path(sum)
	if !ok {
		return nil, fmt.Errorf("opening %s in the store: %w", sum, fs.ErrNotExist)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	got, err := hashFile(ctx, f, want)
	if err == nil && got == want {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err == nil && got == want {
		return f, nil
	}
	f.Close()
	if err != nil {
		return nil, fmt.Errorf("verifying %s: %w", path, err)
	}
	// The record of a SHA-512 may be what is damaged; remove both.
	err = errors.Join(removeIfThere(path), removeIfThere(s.filePath(want)))
	return nil, &DamagedError{Path: path, Err: errors.Join(&MismatchError{Got: got.sum(), Want: sum}, err)}
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// hashFile returns the digest of all that f holds, by the algorithm of like.
func hashFile(ctx context.Context, f *os.File, like digest) (digest, error) {
	h := like.newHash()
	if err := copyAt(ctx, h, f, 0); err != nil {
		return digest{}, err
	}
	return digest{like.algorithm, hex.EncodeToString(h.Sum(nil))}, nil
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

// record notes that the file with a SHA-256 has the digest d as well.
func (s *Store) record(d digest, sha256Hex string) error {
	f, err := os.CreateTemp(filepath.Join(s.dir, tmpDir), "record-*")
	if err != nil {
		return s.full(err, 0)
	}
	_, err = fmt.Fprintf(f, "sha256:%s\n", sha256Hex)
	if err = errors.Join(err, f.Close()); err == nil {
		err = place(f.Name(), s.filePath(d))
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return fmt.Errorf("recording %s: %w", d.sum(), s.full(err, 0))
	}
	return nil
}

// Add copies r, which must have all of sums, into the store and returns the
// path of the file: for what comes from elsewhere than the network.
func (s *Store) Add(ctx context.Context, sums []manifest.Sum, r io.Reader) (string, error) {
	d, err := s.Download(ctx, sums)
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
