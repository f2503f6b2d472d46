package firstboot

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// uptime includes times of suspension, and is what the kernel's log counts in.
func uptime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

func cpuTime() time.Duration {
	var ru unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &ru); err != nil {
		return 0
	}
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
}

func memory() uint64 {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return 0
	}
	return uint64(info.Totalram) * uint64(info.Unit)
}

func setHostname(name string) error { return unix.Sethostname([]byte(name)) }

// swapoffAll turns off what /proc/swaps lists (proc_swaps(5)).
func swapoffAll(swaps []byte) (off []string, err error) {
	for _, path := range parseSwaps(string(swaps)) {
		name, err := unix.BytePtrFromString(path)
		if err != nil {
			return off, fmt.Errorf("turning swap on %q off: %w", path, err)
		}
		if _, _, errno := unix.Syscall(unix.SYS_SWAPOFF, uintptr(unsafe.Pointer(name)), 0, 0); errno != 0 {
			return off, fmt.Errorf("turning swap on %s off: %w", path, errno)
		}
		off = append(off, path)
	}
	return off, nil
}

// parseSwaps returns the paths of a table whose first line is its header.
func parseSwaps(table string) []string {
	var paths []string
	first := true
	for line := range strings.Lines(table) {
		fields := strings.Fields(line)
		if !first && len(fields) > 0 {
			paths = append(paths, unescape(fields[0]))
		}
		first = false
	}
	return paths
}

// unescape undoes the kernel's writing of blanks: "\\040" is a space.
func unescape(s string) string {
	var b strings.Builder
	for len(s) > 0 {
		if len(s) >= 4 && s[0] == '\\' {
			if c, err := strconv.ParseUint(s[1:4], 8, 8); err == nil {
				b.WriteByte(byte(c))
				s = s[4:]
				continue
			}
		}
		b.WriteByte(s[0])
		s = s[1:]
	}
	return b.String()
}
