// Package boot makes what stands between the firmware and the root filesystem:
// the files of the EFI system partition and the initramfs.
//
// The chain is the one that Secure Boot accepts with Microsoft's keys, all of it
// signed and taken from Debian's packages as it is: shim as EFI/BOOT/BOOTX64.EFI,
// where firmware looks on a disk that it knows nothing else about; systemd-boot
// under the name that shim loads next, grubx64.efi; the kernel, named by a boot
// loader entry (UAPI.1). The initramfs is the one part that nobody signs: it
// holds a static program of ours (package initramfs) and the kernel modules that
// it loads.
//
// Content of the root's packages is read in one place only, to take the modules
// out and find what they depend on, inside the callback that the caller may cache
// ([Config.Derive]).
//
// It makes no unified kernel images, no boot counting, no entries beside the one
// kernel of the root, and no microcode: a virtual machine's host loads that.
package boot
