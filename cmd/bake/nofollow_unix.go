//go:build unix

package main

import (
	"errors"
	"os"
	"syscall"
)

// openNoFollow opens a file for reading and writing that is not a link. It does
// not wait for whoever is at the other end of a pipe.
func openNoFollow(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, syscall.ELOOP):
		return nil, errLink
	case err != nil:
		return nil, errors.Unwrap(err)
	}
	return f, nil
}
