//go:build unix

package bake_test

import (
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

func (l limits) apply() error {
	if l.Umask != nil {
		syscall.Umask(*l.Umask)
	}
	if l.FileSize > 0 {
		signal.Ignore(syscall.SIGXFSZ)
		if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: l.FileSize, Max: l.FileSize}); err != nil {
			return err
		}
	}
	if l.UID > 0 {
		return syscall.Setuid(l.UID)
	}
	return nil
}
