//go:build !windows

package main

import (
	"os/exec"
	"syscall"
)

// detachFromTerminal makes a command that is to be started one that the terminal's
// end and Ctrl-C don't reach.
func detachFromTerminal(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} }
