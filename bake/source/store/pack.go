package store

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/nodebake/bake/bake/tree"
)

// packBuffer is the size in bytes of the writes to a pack's data. Most files
// of a package are small.
const packBuffer = 256 << 10

// Pack returns the pack that is kept under key, which may be any string that
// says all that the pack depends on. Where there is none, or only a damaged
// one, it is made: one caller in all processes runs make while the others wait
// for it. name is what errors, and Origin of the entries, call the pack.
//
// The pack is bound: its blob reads the store, and fails with a
// tree.CorruptError where the data was damaged since; see [Store.Forget].
func (s *Store) Pack(ctx context.Context, key, name string, make func(ctx context.Context, w *tree.PackWriter) error) (*tree.Pack, error) {
	if p, err := s.loadPack(key, name); err == nil {
		return p, nil
	}
	release, err := s.acquire(ctx, "pack-"+hexOf(key), "makes "+name)
	if err != nil {
		return nil, fmt.Errorf("waiting for %s: %w", name, err)
	}
	defer release()
	if p, err := s.loadPack(key, name); err == nil {
		return p, nil // made while we waited
	}
	if err := s.makePack(ctx, key, make); err != nil {
		return nil, fmt.Errorf("storing %s: %w", name, err)
	}
	p, err := s.loadPack(key, name)
	if err != nil {
		return nil, fmt.Errorf("reading %s back from the store: %w", name, err)
	}
	return p, nil
}

// HasPack reports whether an intact index and data of the right length are
// kept under key.
func (s *Store) HasPack(key string) bool {
	_, err := s.loadPack(key, "")
	return err == nil
}

// Forget removes what is kept under key, if anything. The next Pack makes it
// again.
func (s *Store) Forget(key string) error {
	release, err := s.acquire(context.Background(), "pack-"+hexOf(key), "makes a pack that is damaged here")
	if err != nil {
		return err
	}
	defer release()
	return s.removePack(key)
}

func (s *Store) packPath(key string) string {
	return filepath.Join(s.dir, packsDir, shard(hexOf(key)))
}

func (s *Store) loadPack(key, name string) (*tree.Pack, error) {
	dir := s.packPath(key)
	b, err := s.readEntry(filepath.Join(dir, "index"))
	if err != nil {
		return nil, err
	}
	p, kept, err := decodeIndex(b)
	if err == nil && kept != key {
		err = fmt.Errorf("it belongs to %q", kept)
	}
	if err != nil {
		return nil, fmt.Errorf("index of %s: %w", dir, err)
	}
	data := dataFile(filepath.Join(dir, "data"))
	info, err := os.Stat(string(data))
	if err != nil {
		return nil, err
	}
	if info.Size() != p.Size {
		return nil, fmt.Errorf("%s has %d bytes, want %d", data, info.Size(), p.Size)
	}
	p.Bind(name, name, data).Key = key
	return p, nil
}

// makePack makes a pack under tmp and gives it its name.
func (s *Store) makePack(ctx context.Context, key string, make func(context.Context, *tree.PackWriter) error) (err error) {
	tmp, err := os.MkdirTemp(filepath.Join(s.dir, tmpDir), "pack-*")
	if err != nil {
		return s.full(err, 0)
	}
	defer os.RemoveAll(tmp)  // gone already where all went well
	_ = os.Chmod(tmp, 0o755) // refused where there are no permissions, as on FAT

	data, err := os.Create(filepath.Join(tmp, "data"))
	if err != nil {
		return s.full(err, 0)
	}
	defer data.Close()
	counted := &countingWriter{f: data, store: s}
	buffered := bufio.NewWriterSize(counted, packBuffer)
	w := tree.NewPackWriter(buffered)
	if err := make(ctx, w); err != nil {
		return err
	}
	pack, err := w.Close()
	if err != nil {
		return err
	}
	if err := buffered.Flush(); err != nil {
		return err
	}
	if err := data.Close(); err != nil {
		return s.full(err, counted.n)
	}

	index, err := encodeIndex(key, pack)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(tmp, "index"), index, 0o644); err != nil {
		return s.full(err, counted.n+int64(len(index)))
	}
	// What is there was found damaged, else we would not make it again.
	if err := s.removePack(key); err != nil {
		return err
	}
	return s.full(place(tmp, s.packPath(key)), 0)
}

// removePack removes the index first, so that no reader believes the rest.
func (s *Store) removePack(key string) error {
	dir := s.packPath(key)
	if err := os.Remove(filepath.Join(dir, "index")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.RemoveAll(dir)
}

// countingWriter writes to f, naming the store where it is full.
type countingWriter struct {
	f     *os.File
	store *Store
	n     int64 // bytes that were to be written so far
}

func (w *countingWriter) Write(b []byte) (int, error) {
	w.n += int64(len(b))
	n, err := w.f.Write(b)
	return n, w.store.full(err, w.n)
}

// dataFile reads the file that it names. It opens it for every read, because
// an image is made of hundreds of packs and reads come a megabyte at a time:
// opening costs 20 us, reading and hashing some 500 us, while an open file per
// pack may exceed the limit.
type dataFile string

func (name dataFile) ReadAt(b []byte, off int64) (int, error) {
	f, err := os.Open(string(name))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return f.ReadAt(b, off)
}
