package unixsocket

import (
	"fmt"
	"os"
)

// short returns an address of name in dir that is valid until release is called.
func short(dir, name string) (address string, release func(), err error) {
	d, err := os.Open(dir)
	if err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", d.Fd(), name), func() { d.Close() }, nil
}
