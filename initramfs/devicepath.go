package initramfs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"unicode/utf16"

	"github.com/nodebake/bake/bake/image/gpt"
)

// LoadOption is a boot option of the firmware, the content of a Boot####
// variable (EFI_LOAD_OPTION, UEFI 2.10, section 3.1.3).
type LoadOption struct {
	Attributes  uint32
	Description string
	Path        DevicePath // the first of its file paths
}

// ParseLoadOption reads the content of a Boot#### variable.
func ParseLoadOption(data []byte) (*LoadOption, error) {
	if len(data) < 6 {
		return nil, fmt.Errorf("a boot option of %d bytes, want at least 6", len(data))
	}
	o := &LoadOption{Attributes: binary.LittleEndian.Uint32(data)}
	length := int(binary.LittleEndian.Uint16(data[4:]))
	rest := data[6:]
	description, n, ok := cString16(rest)
	if !ok {
		return nil, errors.New("a boot option whose description does not end")
	}
	o.Description = description
	if rest = rest[n:]; length > len(rest) {
		return nil, fmt.Errorf("a boot option with %d bytes of device path, says %d", len(rest), length)
	}
	path, err := ParseDevicePath(rest[:length])
	if err != nil {
		return nil, err
	}
	o.Path = path
	return o, nil
}

// cString16 reads UTF-16 up to NUL and returns how many bytes it took.
func cString16(data []byte) (string, int, bool) {
	var units []uint16
	for i := 0; i+2 <= len(data); i += 2 {
		u := binary.LittleEndian.Uint16(data[i:])
		if u == 0 {
			return string(utf16.Decode(units)), i + 2, true
		}
		units = append(units, u)
	}
	return "", 0, false
}

// DevicePath is a device path up to its first end (UEFI 2.10, chapter 10).
type DevicePath []Node

// Node is one step of a device path.
type Node struct {
	Type, SubType uint8
	Data          []byte // without the header
}

// Types and sub-types of nodes (sections 10.3.2 to 10.3.5).
const (
	typeHardware, subPCI                     = 1, 1
	typeACPI, subACPI, subACPIExpanded       = 2, 1, 2
	typeMessaging, subSCSI, subSATA, subNVMe = 3, 2, 18, 23
	typeMedia, subHardDrive, subFilePath     = 4, 1, 4
	typeEnd                                  = 0x7f

	hidPCIRoot   = 0x0a0341d0 // EISA id PNP0A03
	hidPCIeRoot  = 0x0a0841d0 // PNP0A08
	signatureGPT = 2          // of a hard drive node's signature
)

// ParseDevicePath reads the nodes up to the first end node.
func ParseDevicePath(data []byte) (DevicePath, error) {
	var path DevicePath
	for {
		if len(data) < 4 {
			return nil, errors.New("a device path without an end")
		}
		length := int(binary.LittleEndian.Uint16(data[2:]))
		if length < 4 || length > len(data) {
			return nil, fmt.Errorf("a device path node of %d bytes where %d are left", length, len(data))
		}
		if data[0] == typeEnd {
			return path, nil
		}
		path = append(path, Node{Type: data[0], SubType: data[1], Data: data[4:length]})
		data = data[length:]
	}
}

// String writes the path as firmware shells do (section 10.6): nodes that this
// package does not know as Path(TYPE,SUBTYPE,HEX).
func (p DevicePath) String() string {
	parts := make([]string, len(p))
	for i, n := range p {
		parts[i] = n.String()
	}
	return strings.Join(parts, "/")
}

func (n Node) String() string {
	switch {
	case n.is(typeHardware, subPCI, 2):
		return fmt.Sprintf("Pci(%#x,%#x)", n.Data[1], n.Data[0])
	case n.is(typeACPI, subACPI, 8) || n.is(typeACPI, subACPIExpanded, 12):
		if hid := n.u32(0); hid == hidPCIRoot || hid == hidPCIeRoot {
			return fmt.Sprintf("PciRoot(%#x)", n.u32(4))
		}
		return fmt.Sprintf("Acpi(%#x,%#x)", n.u32(0), n.u32(4))
	case n.is(typeMessaging, subSCSI, 4):
		return fmt.Sprintf("Scsi(%#x,%#x)", n.u16(0), n.u16(2))
	case n.is(typeMessaging, subSATA, 6):
		return fmt.Sprintf("Sata(%#x,%#x,%#x)", n.u16(0), n.u16(2), n.u16(4))
	case n.is(typeMessaging, subNVMe, 12):
		return fmt.Sprintf("NVMe(%#x)", n.u32(0))
	case n.is(typeMedia, subHardDrive, 38):
		if g, ok := n.partition(); ok {
			return fmt.Sprintf("HD(%d,GPT,%s)", n.u32(0), g)
		}
		return fmt.Sprintf("HD(%d)", n.u32(0))
	case n.Type == typeMedia && n.SubType == subFilePath:
		name, _, _ := cString16(append(append([]byte{}, n.Data...), 0, 0))
		return name
	}
	return fmt.Sprintf("Path(%d,%d,%x)", n.Type, n.SubType, n.Data)
}

// is reports whether n is of that kind and has at least so much data.
func (n Node) is(typ, sub uint8, size int) bool {
	return n.Type == typ && n.SubType == sub && len(n.Data) >= size
}

func (n Node) u16(off int) uint16 { return binary.LittleEndian.Uint16(n.Data[off:]) }
func (n Node) u32(off int) uint32 { return binary.LittleEndian.Uint32(n.Data[off:]) }

// partition returns the GUID of a hard drive node (table 10.52).
func (n Node) partition() (gpt.GUID, bool) {
	if !n.is(typeMedia, subHardDrive, 38) || n.Data[37] != signatureGPT {
		return gpt.GUID{}, false
	}
	return gpt.FromDisk([16]byte(n.Data[20:36])), true
}

// Bus is how a disk hangs on its controller.
type Bus string

// The kinds of controllers that a path is compared for.
const (
	BusNone Bus = ""     // the controller is the disk, as with virtio-blk
	BusSCSI Bus = "scsi" // also virtio-scsi
	BusSATA Bus = "sata"
	BusNVMe Bus = "nvme"
)

// Function is a PCI device and function number on a bus that is not named: bus
// numbers are for the operating system to give, the way through bridges is not.
type Function struct{ Device, Function uint8 }

// Hardware says where a disk is, in terms that the firmware and the kernel have
// in common.
type Hardware struct {
	Root uint32     // the PCI host bridge's ACPI _UID
	PCI  []Function // from the host bridge to the controller
	Bus  Bus
	Unit uint32 // SCSI: target; SATA: port, from 0; NVMe: namespace
	LUN  uint64 // SCSI
}

// Hardware returns the place of the disk that p leads to.
func (p DevicePath) Hardware() (*Hardware, error) {
	h := &Hardware{}
	if len(p) == 0 || p[0].Type != typeACPI {
		return nil, errors.New("it does not start at a host bridge")
	}
	for i, n := range p {
		switch {
		case i == 0 && (n.is(typeACPI, subACPI, 8) || n.is(typeACPI, subACPIExpanded, 12)):
			if hid := n.u32(0); hid != hidPCIRoot && hid != hidPCIeRoot {
				return nil, fmt.Errorf("%s is not a PCI host bridge", n)
			}
			h.Root = n.u32(4)
		case n.is(typeHardware, subPCI, 2) && h.Bus == BusNone:
			h.PCI = append(h.PCI, Function{Device: n.Data[1], Function: n.Data[0]})
		case n.is(typeMessaging, subSCSI, 4) && h.Bus == BusNone:
			h.Bus, h.Unit, h.LUN = BusSCSI, uint32(n.u16(0)), uint64(n.u16(2))
		case n.is(typeMessaging, subSATA, 6) && h.Bus == BusNone:
			if n.u16(2)&0x8000 == 0 { // set: connected without a port multiplier
				return nil, fmt.Errorf("%s is behind a port multiplier", n)
			}
			h.Bus, h.Unit = BusSATA, uint32(n.u16(0))
		case n.is(typeMessaging, subNVMe, 12) && h.Bus == BusNone:
			h.Bus, h.Unit = BusNVMe, n.u32(0)
		case n.Type == typeMedia:
			return h, h.check()
		default:
			return nil, fmt.Errorf("its step %s is not one that can be compared", n)
		}
	}
	return h, h.check()
}

func (h *Hardware) check() error {
	if len(h.PCI) == 0 {
		return errors.New("it names no PCI device")
	}
	return nil
}
