//go:build !linux

package report

import "errors"

// Console returns a function that fails: firstboot runs on Linux only.
func Console(path string) func(line string) error {
	return func(string) error { return errors.New("firstboot runs on Linux only") }
}
