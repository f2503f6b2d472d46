package report

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// syslog(2): the kernel prints messages on the console, or keeps them only.
const (
	consoleOff = 6
	consoleOn  = 7
)

// Console returns a function that prints a line on a terminal: /dev/console is
// the last console= of the kernel's arguments, the serial port.
//
// Going through the journal would put a prefix before the line. What stands on
// the terminal's last line, a login prompt perhaps, is ended first: whether
// there is something can't be known. One write keeps other programs out of the
// line, and the kernel is asked for silence until it has left the port, since
// its messages go there by another way.
func Console(path string) func(line string) error {
	return func(line string) error {
		fd, err := unix.Open(path, unix.O_WRONLY|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("opening the console %s: %w", path, err)
		}
		defer unix.Close(fd)
		if _, err := unix.Klogctl(consoleOff, nil); err == nil {
			defer unix.Klogctl(consoleOn, nil)
		}
		for data := []byte("\r\n" + line + "\r\n"); len(data) > 0; {
			n, err := unix.Write(fd, data)
			if err == unix.EINTR {
				continue
			}
			if err != nil {
				return fmt.Errorf("writing to the console %s: %w", path, err)
			}
			data = data[n:]
		}
		// tcdrain(3); a file in the terminal's place has nothing to drain.
		_ = unix.IoctlSetInt(fd, unix.TCSBRK, 1)
		return nil
	}
}
