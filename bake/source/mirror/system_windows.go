package mirror

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

// noSpace reports whether err says that the disk or the user's quota is used up.
func noSpace(err error) bool {
	return errors.Is(err, windows.ERROR_DISK_FULL) || errors.Is(err, windows.ERROR_HANDLE_DISK_FULL) ||
		errors.Is(err, windows.ERROR_DISK_QUOTA_EXCEEDED)
}

// syncDirectory does nothing: Windows flushes files only.
func syncDirectory(*os.File) error { return nil }

// noLocks is for other systems: Windows' filesystems have locks.
func noLocks(error) bool { return false }
