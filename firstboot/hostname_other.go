//go:build !linux

package firstboot

import "errors"

func setHostname(string) error { return errors.New("firstboot runs on Linux only") }
