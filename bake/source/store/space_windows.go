package store

import (
	"errors"

	"golang.org/x/sys/windows"
)

// noSpace reports whether err says that the disk or the user's quota is used up.
func noSpace(err error) bool {
	return errors.Is(err, windows.ERROR_DISK_FULL) || errors.Is(err, windows.ERROR_HANDLE_DISK_FULL) ||
		errors.Is(err, windows.ERROR_DISK_QUOTA_EXCEEDED)
}

// freeSpace returns the bytes that this user may still write to the volume of
// dir.
func freeSpace(dir string) (int64, error) {
	p, err := windows.UTF16PtrFromString(dir)
	if err != nil {
		return 0, err
	}
	var free uint64
	if err := windows.GetDiskFreeSpaceEx(p, &free, nil, nil); err != nil {
		return 0, err
	}
	return int64(free), nil
}

// noLocks is for other systems: Windows' filesystems have locks.
func noLocks(error) bool { return false }
