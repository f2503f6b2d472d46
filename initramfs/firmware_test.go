package initramfs

import (
	"strings"
	"testing"
	"testing/fstest"
	"unicode/utf16"

	"github.com/nodebake/bake/bake/image/gpt"
)

// variable is a file of efivarfs.
func variable(data []byte) *fstest.MapFile {
	return &fstest.MapFile{Data: append([]byte{7, 0, 0, 0}, data...)}
}

func utf16z(s string) []byte {
	var b []byte
	for _, u := range append(utf16.Encode([]rune(s)), 0) {
		b = append(b, byte(u), byte(u>>8))
	}
	return b
}

const (
	bootCurrent = "BootCurrent-" + vendorGlobal
	boot000A    = "Boot000A-" + vendorGlobal
	loaderPart  = "LoaderDevicePartUUID-" + vendorLoader
)

func variables(t testing.TB) fstest.MapFS {
	return fstest.MapFS{
		bootCurrent: variable([]byte{0x0a, 0}),
		boot000A:    variable(loadOption(t, "UEFI disk", pciRoot0+pci3+scsi10+end)),
		loaderPart:  variable(utf16z("1813EAC9-C56E-81C0-A5C6-2BD98E903104")),
	}
}

func TestReadFirmware(t *testing.T) {
	fw := ReadFirmware(variables(t))
	if fw.HardwareErr != nil || fw.LoaderErr != nil {
		t.Fatalf("ReadFirmware() = %+v", fw)
	}
	if fw.Hardware.Bus != BusSCSI || fw.Hardware.Unit != 1 {
		t.Errorf("Hardware = %+v; want SCSI target 1", fw.Hardware)
	}
	want, err := gpt.ParseGUID("1813eac9-c56e-81c0-a5c6-2bd98e903104")
	if err != nil || *fw.LoaderPartition != want {
		t.Errorf("LoaderPartition = %v; want %v", fw.LoaderPartition, want)
	}
	if got, want := fw.describe(), `"UEFI disk" at PciRoot(0x0)/Pci(0x3,0x0)/Scsi(0x1,0x0)`; got != want {
		t.Errorf("describe() = %s; want %s", got, want)
	}
}

func TestReadFirmwareWithout(t *testing.T) {
	for _, tt := range []struct {
		name             string
		change           func(fstest.MapFS)
		hardware, loader string // what the errors say; "": none
	}{
		{"no BootCurrent", func(m fstest.MapFS) { delete(m, bootCurrent) }, "no EFI variable BootCurrent", ""},
		{"short BootCurrent", func(m fstest.MapFS) { m[bootCurrent] = variable([]byte{1}) }, "1 bytes", ""},
		{"short file", func(m fstest.MapFS) { m[bootCurrent] = &fstest.MapFile{Data: []byte{1}} }, "at least 4", ""},
		{"no option", func(m fstest.MapFS) { delete(m, boot000A) }, "no EFI variable Boot000A", ""},
		{"bad option", func(m fstest.MapFS) { m[boot000A] = variable([]byte{1, 2}) }, "Boot000A", ""},
		{"partition only", func(m fstest.MapFS) { m[boot000A] = variable(loadOption(t, "Debian", hdESP+end)) }, `"Debian" has the path HD(1`, ""},
		{"no loader", func(m fstest.MapFS) { delete(m, loaderPart) }, "", "no EFI variable LoaderDevicePartUUID"},
		{"loader's text", func(m fstest.MapFS) { m[loaderPart] = variable(utf16z("x")) }, "", "not a GUID"},
		{"loader's end", func(m fstest.MapFS) { m[loaderPart] = variable([]byte{'x', 0}) }, "", "NUL"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			vars := variables(t)
			tt.change(vars)
			fw := ReadFirmware(vars)
			for _, e := range []struct {
				err     error
				want    string
				nothing bool
			}{{fw.HardwareErr, tt.hardware, fw.Hardware == nil}, {fw.LoaderErr, tt.loader, fw.LoaderPartition == nil}} {
				if e.want == "" && e.err != nil || e.want != "" && (e.err == nil || !strings.Contains(e.err.Error(), e.want)) {
					t.Errorf("error %v; want %q", e.err, e.want)
				}
				if e.nothing != (e.want != "") {
					t.Errorf("a value beside the error %v: %+v", e.err, fw)
				}
			}
		})
	}
}
