package cluster

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// ReadHost asks this machine what it has.
func ReadHost() Host {
	h := Host{WatchesLimit: "fs.inotify.max_user_instances"}
	if data, err := os.ReadFile("/proc/meminfo"); err == nil {
		h.MemoryMiB = availableMiB(data)
	}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err == nil {
		h.Files = int(min(limit.Max, 1<<30)) // Go programs raise theirs to the most
	}
	h.NoWatches = !canWatch(neededWatches)
	return h
}

// availableMiB reads the memory that programs can have without swapping
// (proc_meminfo(5)), 0 where it isn't there.
func availableMiB(meminfo []byte) int {
	lines := bufio.NewScanner(bytes.NewReader(meminfo))
	for lines.Scan() {
		var kib int
		if n, _ := fmt.Sscanf(lines.Text(), "MemAvailable: %d kB", &kib); n == 1 {
			return kib >> 10
		}
	}
	return 0
}

// canWatch reports whether n inotify instances can be made: the limit is of a
// user, and nothing tells how much of it is used.
func canWatch(n int) bool {
	var open []int
	defer func() {
		for _, fd := range open {
			unix.Close(fd)
		}
	}()
	for range n {
		fd, err := unix.InotifyInit1(unix.IN_CLOEXEC)
		if err != nil {
			return err != unix.EMFILE // another reason is nobody's limit
		}
		open = append(open, fd)
	}
	return true
}
