package vm

import (
	"os/exec"
	"syscall"
)

// detach keeps the terminal's Ctrl-C, which is for us, from QEMU, and ends it
// where we are killed.
func detach(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
