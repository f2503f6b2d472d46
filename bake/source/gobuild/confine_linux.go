package gobuild

import (
	"os"
	"os/exec"
	"syscall"
)

// separations returns what may start a program in a network namespace of its
// own, in which no interface is up (network_namespaces(7)). A user needs a user
// namespace for that, which some hosts refuse; he stays who he is in it. Root may
// do without, and then still reads files of others.
func separations() []func(*exec.Cmd) {
	network := func(cmd *exec.Cmd) { cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWNET }
	user := func(cmd *exec.Cmd) {
		network(cmd)
		a := cmd.SysProcAttr
		a.Cloneflags |= syscall.CLONE_NEWUSER
		a.UidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getuid(), HostID: os.Getuid(), Size: 1}}
		a.GidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getgid(), HostID: os.Getgid(), Size: 1}}
	}
	if os.Geteuid() == 0 {
		return []func(*exec.Cmd){network, user}
	}
	return []func(*exec.Cmd){user}
}
