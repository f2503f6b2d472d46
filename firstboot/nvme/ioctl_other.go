//go:build !linux

package nvme

import "errors"

// DeviceName works under Linux only.
func DeviceName(string) (string, error) { return "", errors.ErrUnsupported }
