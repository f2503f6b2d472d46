//go:build unix

package mirror

import (
	"errors"
	"os"
	"syscall"
)

// noSpace reports whether err says that the disk, the user's quota or the
// process's file size limit (RLIMIT_FSIZE) is used up.
func noSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG)
}

func syncDirectory(d *os.File) error {
	err := d.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOTSUP) {
		return nil // a filesystem that knows no such thing
	}
	return err
}

// noLocks reports whether err says that a filesystem has no locks.
func noLocks(err error) bool {
	return errors.Is(err, syscall.ENOLCK) || errors.Is(err, syscall.ENOTSUP) || errors.Is(err, syscall.EOPNOTSUPP) || errors.Is(err, syscall.ENOSYS)
}
