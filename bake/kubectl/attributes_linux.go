package kubectl

import "syscall"

// attributes of a program that ends with the thread that starts it. It has a group
// of its own, so that Ctrl-C in a terminal reaches bake alone, which then cleans up.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
