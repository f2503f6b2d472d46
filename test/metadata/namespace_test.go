//go:build system && linux

package metadata

import (
	"errors"
	"net"
	"net/http"
	"net/netip"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/nodebake/bake/firstboot/metadata/emulator"
	"github.com/nodebake/bake/test/need"
)

// enterNamespace puts the test's goroutine, and the programs that it starts,
// into a new network namespace, with the loopback interface up. The thread ends
// with the test. Connections that Go dials are made on other threads: have a
// program do that.
func enterNamespace(t *testing.T) {
	t.Helper()
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		need.Missing(t, "a network namespace of one's own needs root: %v", err)
	}
	withSocket(t, unix.AF_INET, func(fd int) error {
		ifr, err := unix.NewIfreq("lo")
		if err != nil {
			return err
		}
		ifr.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
		return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr)
	})
}

// addAddress gives the loopback interface an address.
func addAddress(t *testing.T, address string) {
	t.Helper()
	ip := netip.MustParseAddr(address)
	if ip.Is4() {
		withSocket(t, unix.AF_INET, func(fd int) error {
			ifr, err := unix.NewIfreq("lo:1")
			if err != nil {
				return err
			}
			if err := ifr.SetInet4Addr(ip.AsSlice()); err != nil {
				return err
			}
			return unix.IoctlIfreq(fd, unix.SIOCSIFADDR, ifr)
		})
		return
	}
	withSocket(t, unix.AF_INET6, func(fd int) error {
		// struct in6_ifreq of linux/ipv6.h
		request := struct {
			address [16]byte
			prefix  uint32
			index   int32
		}{ip.As16(), 128, 1} // lo is always the first
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCSIFADDR, uintptr(unsafe.Pointer(&request)))
		if errno != 0 {
			return errno
		}
		return nil
	})
}

func withSocket(t *testing.T, family int, f func(fd int) error) {
	t.Helper()
	fd, err := unix.Socket(family, unix.SOCK_DGRAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := f(fd); err != nil {
		t.Fatalf("configuring the loopback interface: %v", err)
	}
}

// serve has the emulator answer at an address of the namespace.
func serve(t *testing.T, address string, server *emulator.Server) {
	t.Helper()
	var l net.Listener
	var err error
	// An IPv6 address can be used a moment after it was added.
	eventually(t, "the emulator listens at "+address, func() bool {
		l, err = net.Listen("tcp", net.JoinHostPort(address, "80"))
		return err == nil || !errors.Is(err, unix.EADDRNOTAVAIL)
	})
	if err != nil {
		t.Fatal(err)
	}
	hs := &http.Server{Handler: server}
	done := make(chan struct{})
	go func() {
		defer close(done)
		hs.Serve(l)
	}()
	t.Cleanup(func() {
		hs.Close()
		<-done
	})
}

// inRoot is a program of the tree at root, in the test's namespace. It ends
// with the test's thread.
func inRoot(t *testing.T, root, program string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Path = filepath.Clean(program) // as seen from root
	cmd.Err = nil
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin", "HOME=/root", "LANG=C.UTF-8"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root, Pdeathsig: syscall.SIGKILL}
	return cmd
}
