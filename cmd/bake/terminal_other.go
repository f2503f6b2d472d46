//go:build !windows

package main

import (
	"os"

	"github.com/nodebake/bake/bake/progress"
)

// drawsOn reports whether f is a terminal that obeys control sequences.
func drawsOn(f *os.File) bool { return progress.IsTerminal(f) }
