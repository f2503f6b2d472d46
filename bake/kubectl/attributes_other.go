//go:build !linux

package kubectl

import "syscall"

// attributes are the system's own: elsewhere a program has no way to end with the
// one that started it.
func attributes() *syscall.SysProcAttr { return nil }
