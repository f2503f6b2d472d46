// Package store keeps what bakes share between runs: downloaded files, the
// packs that were unpacked or built from them, and small derived values such
// as compressed ranges. It is a directory that the caller names:
//
//	lock                         held shared by every open store, exclusively by Prune
//	CACHEDIR.TAG                 tells backup programs to leave the directory out
//	files/sha256/ab/abcd...      a download, named by the SHA-256 of its bytes
//	files/sha512/ab/abcd...      a line "sha256:HEX": the file that has this SHA-512
//	partial/ALGORITHM-HEX        a download that was interrupted
//	partial/ALGORITHM-HEX.from   where its bytes came from: URL and validator, a line each
//	packs/ab/abcd.../index       a pack, named by the SHA-256 of its key: see index.go
//	packs/ab/abcd.../data        its blob
//	values/ab/abcd...            SHA-256 of key and value, then the value: also what a download was had as, see Had
//	locks/KIND-HEX               taken while a download or a pack is made; says by whom
//	tmp/                         what is being written
//
// Any number of processes and goroutines may use one directory. A download or
// a pack is made by one of them while the others wait for it. Every entry is
// written under tmp or partial and appears by rename, complete or not at all;
// what an interrupted bake leaves under tmp is removed by the next Open that
// finds the store unused.
//
// Nothing is believed because it is there. Downloads are verified while they
// are written and again by [Store.OpenFile]; an index and a value carry their
// own checksum; a pack's data is verified chunk by chunk as it is read
// (see tree.Blob.ReadChunk). A damaged index or value counts as absent and is
// rebuilt; a damaged download is removed and reported; a pack whose data
// proves damaged is dropped with [Store.Forget]. That is also why packs and
// values are not synced to the disk: after a power failure they are found
// damaged at worst. Downloads are synced, since they are slow to get again.
//
// The store knows no networks, archives or versions files, and never decides
// by itself to remove an entry that is intact. It keeps no file open between
// calls except its lock. Limits: flock(2) must work on the filesystem, which
// excludes some network filesystems, and a store belongs to one user.
package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/gofrs/flock"
)

// The directories and files of a store.
const (
	filesDir   = "files"
	partialDir = "partial"
	packsDir   = "packs"
	valuesDir  = "values"
	locksDir   = "locks"
	tmpDir     = "tmp"
	lockFile   = "lock"
	tagFile    = "CACHEDIR.TAG"
)

// cacheTag is the content of CACHEDIR.TAG after the Cache Directory Tagging
// Specification, https://bford.info/cachedir/.
const cacheTag = "Signature: 8a477f597d28d172789f06886806bc55\n# This directory is a cache of bake; `bake cache prune` empties it.\n"

// touchAfter is how old the record of an entry's last use may be before it is
// renewed. It bounds the writes that reading causes.
const touchAfter = time.Hour

// openTimeout is how long Open waits for a Prune that is under way.
const openTimeout = 2 * time.Minute

// A Store is an open store. Its methods may be called from several goroutines.
type Store struct {
	dir  string
	lock *flock.Flock
	now  time.Time  // of the filesystem, when the store was opened
	tell func(Wait) // nil: nobody wants to know

	mu   sync.Mutex
	busy map[string]*keyLock // what this process is making
}

// Open opens the store in dir, creating it where there is none. It proves that
// the store can be written before anything slow is begun.
func Open(dir string) (*Store, error) { return OpenTelling(dir, nil) }

// OpenTelling is Open that calls tell, now and while the store is open, for each
// other process that has been waited for for a second. It may be called from
// several goroutines.
func OpenTelling(dir string, tell func(Wait)) (*Store, error) {
	s := &Store{dir: dir, tell: tell, busy: map[string]*keyLock{}}
	for _, sub := range []string{filesDir, partialDir, packsDir, valuesDir, locksDir, tmpDir} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return nil, s.openError(err)
		}
	}
	if err := s.takeShared(); err != nil {
		return nil, err
	}
	if err := s.probe(); err != nil {
		s.Close()
		return nil, s.openError(err)
	}
	return s, nil
}

// DirError says that a directory can't hold a store.
type DirError struct {
	Dir  string
	What string // is wrong with it
	Err  error  // from the system
}

func (e *DirError) Error() string {
	return fmt.Sprintf("opening the store: %s %s; give another directory with --cache, or set XDG_CACHE_HOME: %v", e.Dir, e.What, e.Err)
}

func (e *DirError) Unwrap() error { return e.Err }

func (s *Store) openError(err error) error {
	switch {
	case noSpace(err):
		return fmt.Errorf("opening the store %s: %w", s.dir, s.full(err, 0))
	case noLocks(err):
		return &DirError{s.dir, "is on a filesystem without locks (NFS without a lock service?)", err}
	}
	return &DirError{s.dir, "can't be made or written", err}
}

// takeShared takes the lock of the store, sweeping first where nobody else has
// it.
func (s *Store) takeShared() error {
	s.lock = flock.New(filepath.Join(s.dir, lockFile))
	alone, err := s.lock.TryLock()
	if err != nil {
		return s.openError(err)
	}
	if alone {
		sign(s.lock.Path())
		err := sweep(s.dir)
		if err := errors.Join(err, s.lock.Unlock()); err != nil {
			return s.openError(err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), openTimeout)
	defer cancel()
	if err := take(ctx, s.lock.TryRLock, func() { s.waits(s.lock.Path(), "cleans up the store") }); err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			return fmt.Errorf("opening the store %s: process %d has been cleaning it up for %v; run again when it has ended", s.dir, signature(s.lock.Path()), openTimeout)
		}
		return s.openError(err)
	}
	return nil
}

// probe proves that files can be made. The time of one is what the store takes
// for now: ages are then right also where the clock of a file server differs
// from ours.
func (s *Store) probe() error {
	now, err := fileSystemTime(s.dir)
	if err != nil {
		return err
	}
	s.now = now
	tag := filepath.Join(s.dir, tagFile)
	if _, err := os.Lstat(tag); errors.Is(err, fs.ErrNotExist) {
		_ = os.WriteFile(tag, []byte(cacheTag), 0o644) // a courtesy
	}
	return nil
}

// fileSystemTime makes a file to see its time. It writes nothing to it, which
// would fail where the disk is full: a store that has all that a bake needs
// works there as well.
func fileSystemTime(dir string) (time.Time, error) {
	f, err := os.CreateTemp(filepath.Join(dir, tmpDir), "probe-*")
	if err != nil {
		return time.Time{}, err
	}
	defer os.Remove(f.Name())
	info, err := f.Stat()
	if err := errors.Join(err, f.Close()); err != nil {
		return time.Time{}, err
	}
	return info.ModTime(), nil
}

// sweep removes what no process can be using while the store is held
// exclusively.
func sweep(dir string) error {
	for _, sub := range []string{tmpDir, locksDir} {
		left, err := os.ReadDir(filepath.Join(dir, sub))
		if err != nil {
			return err
		}
		for _, entry := range left {
			if err := os.RemoveAll(filepath.Join(dir, sub, entry.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// Close releases the store for Prune. The packs that it returned can still
// be read until then.
func (s *Store) Close() error { return s.lock.Unlock() }

// Dir returns the directory of the store.
func (s *Store) Dir() string { return s.dir }

// shard returns the path of an entry below its kind's directory. 256
// directories keep each short where a kind has many entries.
func shard(hexDigest string) string { return filepath.Join(hexDigest[:2], hexDigest) }

func hexOf(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:])
}

// touch records that the entry whose file is info at path was used. Failing
// costs only that the entry may be pruned early.
func (s *Store) touch(path string, info fs.FileInfo) {
	if s.now.Sub(info.ModTime()) > touchAfter {
		_ = os.Chtimes(path, s.now, s.now)
	}
}

// place renames tmp to path, making path's directory where it is missing.
func place(tmp, path string) error {
	err := os.Rename(tmp, path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		err = os.Rename(tmp, path)
	}
	return err
}
