//go:build !unix

package gobuild

import (
	"os/exec"
	"time"
)

// ownGroup makes Wait return soon after the context ends. There are no process
// groups here: compilers that the go command has started end on their own.
func ownGroup(cmd *exec.Cmd) { cmd.WaitDelay = 5 * time.Second }
