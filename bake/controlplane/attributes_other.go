//go:build !linux

package controlplane

import "syscall"

// attributes is here so that the package compiles everywhere. There are no
// programs to start: they are built for Linux.
func attributes() *syscall.SysProcAttr { return nil }
