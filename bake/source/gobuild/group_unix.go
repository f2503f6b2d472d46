//go:build unix

package gobuild

import (
	"os/exec"
	"syscall"
	"time"
)

// ownGroup makes cmd the leader of a process group, all of which is killed
// when its context ends: the go command's compilers and linkers too.
func ownGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second // for the pipe, should a process have left the group
}
