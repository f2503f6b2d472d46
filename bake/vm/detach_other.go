//go:build !linux

package vm

import "os/exec"

// detach does nothing: FindTools finds nothing to start here.
func detach(*exec.Cmd) {}
