//go:build linux

// Command init is process 1 of an image's initramfs; see package initramfs. It
// is built static (CGO_ENABLED=0) and embedded in bake.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/nodebake/bake/initramfs"
)

func main() {
	err := initramfs.Run(context.Background(), initramfs.Config{PID: os.Getpid(), Args: os.Args, Env: os.Environ()})
	fmt.Fprintln(os.Stderr, "init:", err)
	os.Exit(1)
}
