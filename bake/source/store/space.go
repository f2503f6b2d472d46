package store

import (
	"fmt"
	"strings"

	"github.com/nodebake/bake/bake/manifest"
)

// FullError says that a filesystem has no room for an entry. The store is
// unchanged.
type FullError struct {
	Dir  string // of the store
	Need int64  // bytes that the entry needs in all; 0: not known
	Free int64  // bytes that this user may still write; -1: not known
	Err  error  // from the system, or nil where the lack was foreseen
}

func (e *FullError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "the filesystem of the store %s is full", e.Dir)
	if e.Need > 0 {
		fmt.Fprintf(&b, ": %d bytes are needed", e.Need)
	}
	if e.Free >= 0 {
		fmt.Fprintf(&b, ", %d are free", e.Free)
	}
	fmt.Fprintf(&b, "; make room, or give another directory with --cache (run: %s)", manifest.Command("bake", "cache", "prune", "--cache", e.Dir))
	if e.Err != nil {
		fmt.Fprintf(&b, " (%v)", e.Err)
	}
	return b.String()
}

func (e *FullError) Unwrap() error { return e.Err }

// full turns an error for want of space into a FullError and leaves others.
func (s *Store) full(err error, need int64) error {
	if err == nil || !noSpace(err) {
		return err
	}
	free, freeErr := freeSpace(s.dir)
	if freeErr != nil {
		free = -1
	}
	return &FullError{Dir: s.dir, Need: need, Free: free, Err: err}
}

// Reserve fails with a FullError where the store's filesystem has not need
// bytes left. It reserves nothing: it lets slow work fail before it begins.
func (s *Store) Reserve(need int64) error {
	free, err := freeSpace(s.dir)
	if err != nil {
		return fmt.Errorf("asking for the free space of %s: %w", s.dir, err)
	}
	if free < need {
		return &FullError{Dir: s.dir, Need: need, Free: free}
	}
	return nil
}
