package bake_test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/nodebake/bake/bake/baketest"
)

// refuse has the kernel refuse calls of this process from now on, as a file
// system does that does not know them: chmod as on FAT and CIFS, flock as on NFS
// without a lock service (seccomp(2)).
func refuse(what string) error {
	const fchmodat2 = 452
	calls := map[string]struct {
		numbers []uint32
		errno   unix.Errno
	}{
		"chmod": {[]uint32{unix.SYS_FCHMOD, unix.SYS_FCHMODAT, fchmodat2}, unix.EPERM},
		"flock": {[]uint32{unix.SYS_FLOCK}, unix.ENOLCK},
	}
	c, ok := calls[what]
	if !ok {
		return fmt.Errorf("BUG: %s can't be refused", what)
	}
	const load, jumpEqual, ret = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, unix.BPF_RET | unix.BPF_K
	filter := []unix.SockFilter{{Code: load, K: 0}} // the number of the call
	for i, n := range c.numbers {
		filter = append(filter, unix.SockFilter{Code: jumpEqual, Jt: uint8(len(c.numbers) - i), K: n})
	}
	filter = append(filter,
		unix.SockFilter{Code: ret, K: unix.SECCOMP_RET_ALLOW},
		unix.SockFilter{Code: ret, K: unix.SECCOMP_RET_ERRNO | uint32(c.errno)})
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if _, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&program))); errno != 0 {
		return fmt.Errorf("seccomp: %w", errno)
	}
	return proof(what)
}

// proof fails unless the call is refused.
func proof(what string) error {
	f, err := os.CreateTemp("", "refused-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	err = f.Chmod(0o600)
	if what == "flock" {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
	}
	if err == nil {
		return fmt.Errorf("%s is not refused", what)
	}
	return nil
}

// TestNoChmod bakes and mirrors on a filesystem that has no permissions. The
// umask leaves files that others should read without.
func TestNoChmod(t *testing.T) {
	t.Parallel()
	w, want := baketest.NewBaked(t)
	c := w.Config()
	umask := 0o077
	result, err := spawn(t.Context(), w, c, limits{Umask: &umask, Refuse: "chmod"}, "TMPDIR="+t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	baketest.WantImage(t, c, result, want)
	if _, err := os.Stat(filepath.Join(c.Out+"-mirror", "mirror.json")); err != nil {
		t.Error(err)
	}
}

// TestNoLocks names directories on a filesystem that has no locks, with the
// remedy.
func TestNoLocks(t *testing.T) {
	t.Parallel()
	w := baketest.NewLocked(t)
	c := w.Config()
	_, err := spawn(t.Context(), w, c, limits{Refuse: "flock"}, "TMPDIR="+t.TempDir())
	baketest.WantError(t, err, "input",
		"writing the mirror "+c.Out+"-mirror: its filesystem has no locks (NFS without a lock service?); make the mirror on a local disk and copy it there: no locks available",
		"opening the store: "+c.Cache+" is on a filesystem without locks (NFS without a lock service?); give another directory with --cache, or set XDG_CACHE_HOME: no locks available")
	if _, err := os.Stat(filepath.Join(c.Out+"-mirror", "mirror.json")); err == nil {
		t.Error("a mirror was made")
	}
	baketest.WantNothing(t, c)
}
