// Package arch is the table of the architectures that images are made for: what
// Debian, Go, EFI, OCI, QEMU and Compute Engine call each, and what else differs
// between them. A new one is a row here, an entry of ARCHES in the Makefile, and
// the type of its root partition in package gpt, which the initramfs reads and so
// can't have from here.
package arch

import (
	"debug/elf"
	"debug/pe"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Arch is an architecture by Debian's and Go's common name.
type Arch string

// The architectures that images are made for.
const (
	AMD64 Arch = "amd64"
	ARM64 Arch = "arm64"
)

// Default is what commands take that are told none.
const Default = AMD64

// Facts are what depends on an architecture.
type Facts struct {
	Aliases []string // what others call it, for who writes that: "x86_64"

	// GoEnv is the go command's environment: the architecture and its baseline,
	// which is that command's own default, spelled out because a host may have set
	// another.
	GoEnv []string

	Triplet string      // in GNU tools and Debian's multiarch paths (wiki.debian.org/Multiarch/Tuples)
	ELF     elf.Machine // of programs
	PE      uint16      // of EFI programs: pe.IMAGE_FILE_MACHINE_*
	EFI     string      // in EFI file names (UEFI 2.10, section 3.5.1.1), in shim's lower case: "x64"

	// OCIBaseline is the variant that all its machines run, and OCIVariant the one
	// that the configuration of an image for all of them names: none where that is
	// usual (OCI image specification, "Platform Variants").
	OCIBaseline, OCIVariant string

	ComputeEngine string // an image's architecture in Compute Engine's API: "X86_64"
	QEMU          QEMU   // zero: package vm runs none of its images
}

// QEMU is how a machine of the architecture is made.
type QEMU struct {
	Program string // "qemu-system-x86_64"
	Package string // Debian's, which has it
	Machine string
}

func table() map[Arch]Facts {
	return map[Arch]Facts{
		AMD64: {
			Aliases: []string{"x86_64", "x64"},
			GoEnv:   []string{"GOARCH=amd64", "GOAMD64=v1"},
			Triplet: "x86_64-linux-gnu",
			ELF:     elf.EM_X86_64, PE: pe.IMAGE_FILE_MACHINE_AMD64, EFI: "x64",
			OCIBaseline:   "v1",
			ComputeEngine: "X86_64",
			QEMU:          QEMU{Program: "qemu-system-x86_64", Package: "qemu-system-x86", Machine: "q35"},
		},
		ARM64: {
			Aliases: []string{"aarch64"},
			GoEnv:   []string{"GOARCH=arm64", "GOARM64=v8.0"},
			Triplet: "aarch64-linux-gnu",
			ELF:     elf.EM_AARCH64, PE: pe.IMAGE_FILE_MACHINE_ARM64, EFI: "aa64",
			OCIBaseline: "v8", OCIVariant: "v8",
			ComputeEngine: "ARM64",
		},
	}
}

// All returns the architectures, sorted.
func All() []Arch { return slices.Sorted(maps.Keys(table())) }

// Names returns their names, with sep between them.
func Names(sep string) string {
	var names []string
	for _, a := range All() {
		names = append(names, string(a))
	}
	return strings.Join(names, sep)
}

// Parse returns the architecture of that name.
func Parse(name string) (Arch, error) {
	if !Arch(name).Known() {
		return "", fmt.Errorf("unknown architecture %q (known: %s)", name, Names(", "))
	}
	return Arch(name), nil
}

// Known reports whether images are made for a.
func (a Arch) Known() bool { _, ok := table()[a]; return ok }

// Facts returns a's row of the table; it is zero where a is not known.
func (a Arch) Facts() Facts { return table()[a] }

// BootLoader is the name below EFI/BOOT of the program that firmware starts
// where it knows no boot entry: "BOOTX64.EFI".
func (f Facts) BootLoader() string { return "BOOT" + strings.ToUpper(f.EFI) + ".EFI" }
