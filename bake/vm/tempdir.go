package vm

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/gofrs/flock"
)

// tempPrefix is what names of temporary directories begin with.
const tempPrefix = "bake-vm-"

// lockFile is locked for as long as a directory's process lives.
const lockFile = ".lock"

// TempDir is a temporary directory, which one who comes later removes where its
// process has been killed or has crashed.
type TempDir struct {
	Path string
	lock *flock.Flock
}

// MakeTempDir makes a directory that its user alone may look into, in the
// directory for temporary files, and removes what dead processes left there.
func MakeTempDir() (*TempDir, error) { return makeTempDir(os.TempDir()) }

func makeTempDir(parent string) (*TempDir, error) {
	removeLeft(parent)
	path, err := os.MkdirTemp(parent, tempPrefix)
	if err != nil {
		return nil, err
	}
	// It has its name once it is locked: without it, the directory is let alone.
	lock := flock.New(filepath.Join(path, lockFile+".new"))
	locked, err := lock.TryLock()
	if err == nil && !locked {
		err = errors.New("BUG: a new file is locked")
	}
	if err == nil {
		err = os.Rename(lock.Path(), filepath.Join(path, lockFile))
	}
	if err != nil {
		lock.Close()
		os.RemoveAll(path)
		return nil, fmt.Errorf("locking %s: %w", path, err)
	}
	return &TempDir{Path: path, lock: lock}, nil
}

// Remove removes the directory with what is in it.
func (d *TempDir) Remove() error {
	return errors.Join(os.RemoveAll(d.Path), d.lock.Close())
}

// removeLeft removes directories whose process is dead. What can't be removed,
// as those of other users, stays.
func removeLeft(parent string) {
	left, _ := filepath.Glob(filepath.Join(parent, tempPrefix+"*", lockFile))
	for _, path := range left {
		if info, err := os.Lstat(filepath.Dir(path)); err != nil || !info.IsDir() {
			continue
		}
		if info, err := os.Lstat(path); err != nil || !info.Mode().IsRegular() {
			continue
		}
		lock := flock.New(path, flock.SetFlag(os.O_RDWR))
		if locked, err := lock.TryLock(); err == nil && locked {
			os.RemoveAll(filepath.Dir(path))
		}
		lock.Close()
	}
}
