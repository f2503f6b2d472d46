// Package nvme reads the name under which Compute Engine attached an NVMe disk.
//
// A persistent disk's is in the vendor's part of the Identify Namespace data; a
// local SSD has a number. It sends one admin command and changes nothing. Disks
// of other makers have no name.
package nvme

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
)

const (
	identifySize = 4096 // of Identify Namespace data (NVM Command Set Specification 1.0, figure 97)
	vendorOffset = 384  // of its vendor specific part, which ends with it

	// localModel is the controller of a local SSD. Persistent disks have another.
	localModel = "nvme_card"
)

// name is what can stand in a link below /dev/disk/by-id.
var name = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}$`)

// deviceName returns the name of the disk with Identify Namespace data and a
// controller's model, namespace number nsid there (from 1); "" where it is not
// Compute Engine's. The vendor's part is JSON in zeros: {"device_name": "data"}.
func deviceName(data []byte, model string, nsid uint32) (string, error) {
	if len(data) != identifySize {
		return "", fmt.Errorf("identify data have %d bytes, want %d", len(data), identifySize)
	}
	if model == localModel {
		if nsid == 0 {
			return "", fmt.Errorf("a local SSD with namespace 0")
		}
		return fmt.Sprintf("local-nvme-ssd-%d", nsid-1), nil
	}
	text := data[vendorOffset:]
	if text[0] != '{' {
		return "", nil
	}
	text, _, _ = bytes.Cut(text, []byte{0})
	var vendor struct {
		DeviceName string `json:"device_name"`
	}
	if err := json.Unmarshal(text, &vendor); err != nil {
		return "", fmt.Errorf("the vendor's part of the identify data: %w", err)
	}
	if vendor.DeviceName != "" && !name.MatchString(vendor.DeviceName) {
		return "", fmt.Errorf("device name %q can't be that of a link", vendor.DeviceName)
	}
	return vendor.DeviceName, nil
}
