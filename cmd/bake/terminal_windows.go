package main

import (
	"os"

	"golang.org/x/sys/windows"
)

// drawsOn reports whether f is a terminal that obeys control sequences, and has it
// do so.
func drawsOn(f *os.File) bool {
	handle := windows.Handle(f.Fd())
	var mode uint32
	if err := windows.GetConsoleMode(handle, &mode); err != nil {
		return false
	}
	return windows.SetConsoleMode(handle, mode|windows.ENABLE_VIRTUAL_TERMINAL_PROCESSING) == nil
}
