//go:build !linux

package gobuild

import "os/exec"

// separations returns nothing: namespaces are Linux's.
func separations() []func(*exec.Cmd) { return nil }
