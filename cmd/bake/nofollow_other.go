//go:build !unix

package main

import (
	"errors"
	"os"
)

// openNoFollow opens a file for reading and writing that is not a link.
func openNoFollow(path string) (*os.File, error) {
	info, err := os.Lstat(path)
	switch {
	case err != nil:
		return nil, errors.Unwrap(err)
	case info.Mode()&os.ModeSymlink != 0:
		return nil, errLink
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, errors.Unwrap(err)
	}
	// It may be another one than a moment ago.
	if opened, err := f.Stat(); err != nil || !os.SameFile(info, opened) {
		f.Close()
		return nil, errLink
	}
	return f, nil
}
