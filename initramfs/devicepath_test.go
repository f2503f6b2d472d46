package initramfs

import (
	"encoding/binary"
	"encoding/hex"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/test/must"
)

// unhex reads hexadecimal digits; spaces are for people.
func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b := must.Get(hex.DecodeString(strings.Join(strings.Fields(s), "")))
	return b
}

// Nodes as firmware writes them.
const (
	pciRoot0 = "02010c00 d041030a 00000000"
	pciRoot1 = "02010c00 d041080a 01000000"
	pci3     = "01010600 0003"
	pci2f1   = "01010600 0102"
	pci0     = "01010600 0000"
	scsi10   = "03020800 0100 0000"
	nvme1    = "03171000 01000000 0011223344556677"
	sata2    = "03120a00 0200 ffff 0000"
	usb      = "03050600 0100"
	hdESP    = "04012a00 01000000 0008000000000000 0000080000000000 c9ea1318 6ec5 c081 a5c62bd98e903104 0202"
	fileBoot = "04042400 5c004500460049005c0042004f004f0054005c0058002e00450046004900 0000"
	end      = "7fff0400"
)

func TestDevicePath(t *testing.T) {
	for _, tt := range []struct {
		name, hex, text string
		want            *Hardware // nil: cannot be compared
		err             string
	}{
		{
			"virtio-scsi", pciRoot0 + pci3 + scsi10 + end, "PciRoot(0x0)/Pci(0x3,0x0)/Scsi(0x1,0x0)",
			&Hardware{PCI: []Function{{3, 0}}, Bus: BusSCSI, Unit: 1}, "",
		},
		{
			"with partition and file", pciRoot0 + pci3 + scsi10 + hdESP + fileBoot + end,
			`PciRoot(0x0)/Pci(0x3,0x0)/Scsi(0x1,0x0)/HD(1,GPT,1813eac9-c56e-81c0-a5c6-2bd98e903104)/\EFI\BOOT\X.EFI`,
			&Hardware{PCI: []Function{{3, 0}}, Bus: BusSCSI, Unit: 1}, "",
		},
		{
			"NVMe behind a bridge of a second root", pciRoot1 + pci2f1 + pci0 + nvme1 + end, "PciRoot(0x1)/Pci(0x2,0x1)/Pci(0x0,0x0)/NVMe(0x1)",
			&Hardware{Root: 1, PCI: []Function{{2, 1}, {0, 0}}, Bus: BusNVMe, Unit: 1}, "",
		},
		{
			"SATA", pciRoot0 + pci2f1 + sata2 + end, "PciRoot(0x0)/Pci(0x2,0x1)/Sata(0x2,0xffff,0x0)",
			&Hardware{PCI: []Function{{2, 1}}, Bus: BusSATA, Unit: 2}, "",
		},
		{
			"virtio-blk", pciRoot0 + pci3 + end, "PciRoot(0x0)/Pci(0x3,0x0)",
			&Hardware{PCI: []Function{{3, 0}}}, "",
		},
		{"partition alone", hdESP + fileBoot + end, `HD(1,GPT,1813eac9-c56e-81c0-a5c6-2bd98e903104)/\EFI\BOOT\X.EFI`, nil, "host bridge"},
		{"USB", pciRoot0 + pci3 + usb + end, "PciRoot(0x0)/Pci(0x3,0x0)/Path(3,5,0100)", nil, "Path(3,5,0100)"},
		{"two buses", pciRoot0 + pci3 + scsi10 + nvme1 + end, "PciRoot(0x0)/Pci(0x3,0x0)/Scsi(0x1,0x0)/NVMe(0x1)", nil, "NVMe"},
		{"root only", pciRoot0 + end, "PciRoot(0x0)", nil, "no PCI device"},
		{"not PCI", "02010c00 d0410b06 00000000" + end, "Acpi(0x60b41d0,0x0)", nil, "not a PCI host bridge"},
		{"port multiplier", pciRoot0 + pci3 + "03120a00 0200 0100 0000" + end, "PciRoot(0x0)/Pci(0x3,0x0)/Sata(0x2,0x1,0x0)", nil, "multiplier"},
		{"empty", end, "", nil, "host bridge"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path, err := ParseDevicePath(unhex(t, tt.hex))
			if err != nil {
				t.Fatalf("ParseDevicePath() = %v", err)
			}
			if got := path.String(); got != tt.text {
				t.Errorf("String() = %s; want %s", got, tt.text)
			}
			got, err := path.Hardware()
			if tt.want == nil {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("Hardware() = %+v, %v; want an error with %q", got, err, tt.err)
				}
				return
			}
			if diff := cmp.Diff(tt.want, got); err != nil || diff != "" {
				t.Errorf("Hardware() = %v (-want +got):\n%s", err, diff)
			}
		})
	}
}

func TestDevicePathRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"nothing":            "",
		"no end":             pciRoot0,
		"node longer than":   "0101ff00 0003",
		"node of no length":  "01010000 7fff0400",
		"half a node header": "7fff",
	} {
		if p, err := ParseDevicePath(unhex(t, text)); err == nil {
			t.Errorf("%s: ParseDevicePath() = %v; want an error", name, p)
		}
	}
}

// loadOption encodes a boot option.
func loadOption(t testing.TB, description, path string) []byte {
	nodes := unhex(t, path)
	b := []byte{1, 0, 0, 0}
	b = binary.LittleEndian.AppendUint16(b, uint16(len(nodes)))
	for _, u := range append(utf16.Encode([]rune(description)), 0) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return append(append(b, nodes...), "optional data"...)
}

func TestLoadOption(t *testing.T) {
	o, err := ParseLoadOption(loadOption(t, "UEFI Google PersistentDisk ", pciRoot0+pci3+scsi10+end))
	if err != nil || o.Description != "UEFI Google PersistentDisk " || o.Attributes != 1 || o.Path.String() != "PciRoot(0x0)/Pci(0x3,0x0)/Scsi(0x1,0x0)" {
		t.Errorf("ParseLoadOption() = %+v, %v", o, err)
	}
	good := loadOption(t, "x", pciRoot0+end)
	for name, bad := range map[string][]byte{
		"short":                good[:5],
		"description":          good[:8],
		"path length":          append([]byte{1, 0, 0, 0, 0xff, 0xff}, good[6:]...),
		"path without its end": append([]byte{1, 0, 0, 0, 12, 0}, good[6:]...),
	} {
		if o, err := ParseLoadOption(bad); err == nil {
			t.Errorf("%s: ParseLoadOption() = %+v; want an error", name, o)
		}
	}
}

func FuzzParseLoadOption(f *testing.F) {
	f.Add(loadOption(f, "UEFI Misc Device", pciRoot0+pci3+scsi10+hdESP+fileBoot+end))
	f.Add(loadOption(f, "", pciRoot1+pci2f1+nvme1+end))
	f.Add(loadOption(f, "a", pciRoot1+sata2+usb+end))
	f.Fuzz(func(t *testing.T, data []byte) {
		o, err := ParseLoadOption(data)
		if err != nil {
			return
		}
		_ = o.Path.String()
		_, _ = o.Path.Hardware()
	})
}
