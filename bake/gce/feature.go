package gce

import (
	"slices"

	"github.com/nodebake/bake/bake/arch"
)

// Feature is a guest OS feature that an image may declare, and what kernels must
// have for it. The options are those that Linux's own documentation names
// (arch/x86/amd-memory-encryption.rst, virt/coco/sev-guest.rst, arch/x86/tdx.rst).
type Feature struct {
	Name   string
	Early  string    // driver, built in or in the initramfs
	Option string    // of the kernel's configuration, that must be y
	Driver string    // built in or a module
	Arch   arch.Arch // the only one that has the feature; "": all
}

// Features returns the features that images for a may have, in the order in which
// they are shown.
func Features(a arch.Arch) []Feature {
	all := []Feature{
		{Name: "UEFI_COMPATIBLE"},
		{Name: "VIRTIO_SCSI_MULTIQUEUE", Early: "virtio_scsi"},
		{Name: "GVNIC", Driver: "gve"},
		{Name: "IDPF", Driver: "idpf"},
		{Name: "SEV_CAPABLE", Option: "CONFIG_AMD_MEM_ENCRYPT", Arch: arch.AMD64},
		{Name: "SEV_SNP_CAPABLE", Option: "CONFIG_AMD_MEM_ENCRYPT", Driver: "sev_guest", Arch: arch.AMD64},
		{Name: "TDX_CAPABLE", Option: "CONFIG_INTEL_TDX_GUEST", Driver: "tdx_guest", Arch: arch.AMD64},
	}
	return slices.DeleteFunc(all, func(f Feature) bool { return f.Arch != "" && f.Arch != a })
}
