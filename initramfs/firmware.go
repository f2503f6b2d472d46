package initramfs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/nodebake/bake/bake/image/gpt"
)

// Names of EFI variables as efivarfs has them: NAME-VENDOR. The first vendor is
// the specification's own (UEFI 2.10, section 3.3), the second systemd's boot loader
// interface.
const (
	vendorGlobal = "8be4df61-93ca-11d2-aa0d-00e098032b8c"
	vendorLoader = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
)

// Firmware is what EFI variables say about the boot. What could not be had is
// nil, with the reason.
type Firmware struct {
	Option      *LoadOption // that was booted
	Hardware    *Hardware   // of its device path
	HardwareErr error       // why there is none

	LoaderPartition *gpt.GUID // of the EFI system partition that systemd-boot was started from
	LoaderErr       error
}

// ReadFirmware reads the variables from efivarfs, mounted at the root of vars.
func ReadFirmware(vars fs.FS) Firmware {
	var f Firmware
	f.Option, f.HardwareErr = bootedOption(vars)
	if f.HardwareErr == nil {
		if f.Hardware, f.HardwareErr = f.Option.Path.Hardware(); f.HardwareErr != nil {
			f.Hardware = nil
			f.HardwareErr = fmt.Errorf("boot option %q has the path %s: %w", f.Option.Description, f.Option.Path, f.HardwareErr)
		}
	}
	f.LoaderPartition, f.LoaderErr = loaderPartition(vars)
	return f
}

func bootedOption(vars fs.FS) (*LoadOption, error) {
	current, err := readVariable(vars, "BootCurrent", vendorGlobal)
	if err != nil {
		return nil, err
	}
	if len(current) != 2 {
		return nil, fmt.Errorf("EFI variable BootCurrent has %d bytes, want 2", len(current))
	}
	name := fmt.Sprintf("Boot%04X", binary.LittleEndian.Uint16(current))
	data, err := readVariable(vars, name, vendorGlobal)
	if err != nil {
		return nil, err
	}
	option, err := ParseLoadOption(data)
	if err != nil {
		return nil, fmt.Errorf("EFI variable %s: %w", name, err)
	}
	return option, nil
}

func loaderPartition(vars fs.FS) (*gpt.GUID, error) {
	const name = "LoaderDevicePartUUID"
	data, err := readVariable(vars, name, vendorLoader)
	if err != nil {
		return nil, err
	}
	text, _, ok := cString16(data)
	if !ok {
		return nil, fmt.Errorf("EFI variable %s does not end with NUL", name)
	}
	g, err := gpt.ParseGUID(text)
	if err != nil {
		return nil, fmt.Errorf("EFI variable %s: %w", name, err)
	}
	return &g, nil
}

// readVariable returns a variable's content. efivarfs puts four bytes of
// attributes before it (Documentation/filesystems/efivarfs.rst).
func readVariable(vars fs.FS, name, vendor string) ([]byte, error) {
	data, err := fs.ReadFile(vars, name+"-"+vendor)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no EFI variable %s", name)
	}
	if err != nil {
		return nil, fmt.Errorf("reading EFI variable %s: %w", name, err)
	}
	if len(data) < 4 {
		return nil, fmt.Errorf("EFI variable %s has %d bytes, want at least 4", name, len(data))
	}
	return data[4:], nil
}

// describe says in one line what the firmware booted.
func (f Firmware) describe() string {
	if f.Option == nil {
		return fmt.Sprintf("not known (%v)", f.HardwareErr)
	}
	return strings.TrimSpace(fmt.Sprintf("%q at %s", f.Option.Description, f.Option.Path))
}
