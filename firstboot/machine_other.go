//go:build !linux

package firstboot

import (
	"errors"
	"time"
)

var errLinux = errors.New("firstboot runs on Linux only")

func uptime() time.Duration               { return 0 }
func cpuTime() time.Duration              { return 0 }
func memory() uint64                      { return 0 }
func setHostname(string) error            { return errLinux }
func swapoffAll([]byte) ([]string, error) { return nil, errLinux }
