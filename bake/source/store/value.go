package store

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/nodebake/bake/bake/tree"
)

// Get returns the value kept under key. A damaged value is removed and counts
// as absent. The caller owns the bytes.
func (s *Store) Get(key tree.Digest) ([]byte, bool) {
	path := s.valuePath(key)
	b, err := s.readEntry(path)
	if err != nil {
		return nil, false
	}
	if len(b) < sha256.Size || !bytes.Equal(b[:sha256.Size], valueSum(key, b[sha256.Size:])) {
		_ = os.Remove(path)
		return nil, false
	}
	return b[sha256.Size:], true
}

// Put keeps value under key. Values are derived from something else, so losing
// one costs time only: a caller may go on where Put fails.
func (s *Store) Put(key tree.Digest, value []byte) error {
	path := s.valuePath(key)
	f, err := os.CreateTemp(filepath.Join(s.dir, tmpDir), "value-*")
	if err != nil {
		return fmt.Errorf("storing a value: %w", s.full(err, int64(len(value))))
	}
	_, sumErr := f.Write(valueSum(key, value))
	_, err = f.Write(value)
	err = errors.Join(sumErr, err, f.Close())
	if err == nil {
		err = place(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return fmt.Errorf("storing a value: %w", s.full(err, int64(len(value))))
	}
	return nil
}

func (s *Store) valuePath(key tree.Digest) string {
	return filepath.Join(s.dir, valuesDir, shard(key.String()))
}

// valueSum covers the key as well, so that a value cannot answer for another.
func valueSum(key tree.Digest, value []byte) []byte {
	h := sha256.New()
	h.Write(key[:])
	h.Write(value)
	return h.Sum(nil)
}

// readEntry reads a whole file and records its use.
func (s *Store) readEntry(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	// Entries are complete once they have their name, so the size does not
	// change under us; one that was cut off fails its checksum.
	b := make([]byte, info.Size())
	n, err := f.ReadAt(b, 0)
	if n < len(b) {
		return nil, err
	}
	s.touch(path, info)
	return b, nil
}
