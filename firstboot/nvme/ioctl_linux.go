package nvme

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"unsafe"
)

// The kernel's interface, include/uapi/linux/nvme_ioctl.h.
const (
	ioctlID    = 0x4e40     // NVME_IOCTL_ID
	ioctlAdmin = 0xc0484e41 // NVME_IOCTL_ADMIN_CMD

	opIdentify = 6 // NVM Express Base Specification 2.0, figure 138
	timeout    = 5000
)

// adminCommand is struct nvme_passthru_cmd.
type adminCommand struct {
	opcode, flags        uint8
	_                    uint16
	nsid                 uint32
	cdw2, cdw3           uint32
	metadata, addr       uint64
	metadataLen, dataLen uint32
	cdw10                uint32 // 0: of the namespace nsid
	cdw11, cdw12, cdw13  uint32
	cdw14, cdw15         uint32
	timeoutMilliseconds  uint32
	result               uint32
}

// DeviceName returns the name under which Compute Engine attached the disk at
// path, "/dev/nvme0n1"; "" for a disk of somebody else's.
func DeviceName(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	nsid, _, errno := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), ioctlID, 0)
	if errno != 0 {
		return "", fmt.Errorf("asking %s for its namespace: %w", path, errno)
	}
	data := make([]byte, identifySize)
	command := adminCommand{
		opcode: opIdentify, nsid: uint32(nsid),
		addr: uint64(uintptr(unsafe.Pointer(&data[0]))), dataLen: identifySize, timeoutMilliseconds: timeout,
	}
	var pin runtime.Pinner
	pin.Pin(&data[0])
	defer pin.Unpin()
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), ioctlAdmin, uintptr(unsafe.Pointer(&command))); errno != 0 {
		return "", fmt.Errorf("identifying %s: %w", path, errno)
	}
	model, err := os.ReadFile(filepath.Join("/sys/class/block", filepath.Base(path), "device/model"))
	if err != nil {
		return "", err
	}
	found, err := deviceName(data, strings.TrimSpace(string(model)), uint32(nsid))
	if err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	return found, nil
}
