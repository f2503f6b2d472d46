// Package unixsocket listens at unix sockets and connects to them by directory
// and name, however long the directory's path is. The address of such a socket
// has at most 107 bytes (sun_path in unix(7)), which directories for state and
// those of tests exceed.
//
// That needs Linux's /proc. Elsewhere the whole path is the address, and a long
// one an error.
package unixsocket

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
)

// Listen listens at the socket name in dir. A socket that is there is replaced:
// the caller knows, by a lock, that nobody serves it. Close leaves the file.
func Listen(dir, name string) (net.Listener, error) {
	if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	address, release, err := short(dir, name)
	if err != nil {
		return nil, err
	}
	defer release()
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: address})
	if err != nil {
		return nil, fmt.Errorf("listening at %s: %w", filepath.Join(dir, name), err)
	}
	listener.SetUnlinkOnClose(false) // the address says nothing once it is released
	return listener, nil
}

// Dial connects to the socket name in dir.
func Dial(ctx context.Context, dir, name string) (net.Conn, error) {
	address, release, err := short(dir, name)
	if err != nil {
		return nil, err
	}
	defer release()
	return new(net.Dialer).DialContext(ctx, "unix", address)
}
