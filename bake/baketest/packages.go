package baketest

import (
	"debug/elf"

	"github.com/nodebake/bake/bake/inspect/inspecttest"
	"github.com/nodebake/bake/test/archivetest"
	"github.com/nodebake/bake/test/filetest"
)

// KernelVersion is that of the kernel.
const KernelVersion = "6.12.1-amd64"

// packages are what an image of the world's definition is made of.
func packages() []*Package {
	kernel := "usr/lib/modules/" + KernelVersion + "/"
	magic := "vermagic=" + KernelVersion + " SMP preempt mod_unload modversions "
	return []*Package{
		{Name: "base-files", Version: "13.8", Fields: "Essential: yes\n", Files: []File{
			{Path: "boot/"}, {Path: "dev/"}, {Path: "etc/"}, {Path: "proc/"}, {Path: "root/", Mode: 0o700}, {Path: "run/"},
			{Path: "sys/"}, {Path: "tmp/", Mode: 0o1777}, {Path: "usr/"}, {Path: "usr/bin/"}, {Path: "usr/lib/"},
			{Path: "usr/sbin/"}, {Path: "var/"}, {Path: "var/run/"},
			{Path: "bin", Link: "usr/bin"}, {Path: "lib", Link: "usr/lib"}, {Path: "sbin", Link: "usr/sbin"},
			{Path: "usr/lib/os-release", Content: "ID=debian\n"}, {Path: "etc/os-release", Link: "../usr/lib/os-release"},
		}},
		{Name: "base-passwd", Version: "3.6", Fields: "Essential: yes\n", Files: []File{
			{Path: "usr/share/base-passwd/passwd.master", Content: "root:*:0:0:root:/root:/bin/sh\nnobody:*:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"},
			{Path: "usr/share/base-passwd/group.master", Content: "root:*:0:\nshadow:*:42:\nnogroup:*:65534:\n"},
		}},
		{Name: "shell", Version: "0.5", Fields: "Essential: yes\n", Files: []File{
			{Path: "usr/bin/sh", Mode: 0o755, Content: string(filetest.Noise("sh", 100_000))},
			{Path: "usr/bin/sync", Mode: 0o755, Content: "sync"},
			{Path: "usr/sbin/nft", Mode: 0o755, Content: "nft"},
		}},
		{Name: "linux-image-amd64", Version: "6.12.1-1", Fields: "Depends: linux-image-" + KernelVersion + " (= 6.12.1-1)\n"},
		{Name: "linux-image-" + KernelVersion, Version: "6.12.1-1", Files: []File{
			{Path: "boot/vmlinuz-" + KernelVersion, Content: string(filetest.Noise("vmlinuz", 500_000))},
			{Path: kernel + "modules.builtin", Content: "kernel/fs/ext4/ext4.ko\nkernel/drivers/nvme/host/nvme.ko\n"},
			{Path: kernel + "modules.builtin.modinfo", Content: "ext4.license=GPL\x00"},
			{Path: kernel + "modules.order", Content: "kernel/drivers/scsi/virtio_scsi.ko\n"},
			{Path: kernel + "kernel/drivers/scsi/scsi_mod.ko", Content: string(inspecttest.Module(magic, "depends="))},
			{Path: kernel + "kernel/drivers/scsi/virtio_scsi.ko.xz", Content: string(archivetest.XZ(inspecttest.Module(magic, "depends=scsi_mod")))},
			{Path: kernel + "kernel/fs/efivarfs/efivarfs.ko", Content: string(inspecttest.Module(magic, "depends="))},
		}},
		{Name: "shim-signed", Version: "1.47", Files: []File{{Path: "usr/lib/shim/shimx64.efi.signed", Content: "shim"}}},
		{Name: "systemd-boot-efi-amd64-signed", Version: "257", Files: []File{
			{Path: "usr/lib/systemd/boot/efi/systemd-bootx64.efi.signed", Content: "systemd-boot"},
		}},
		{Name: "tool", Version: "1.0", Fields: "Depends: libtool0 (>= 1.0)\n", Conffiles: "/etc/tool.conf\n", Files: []File{
			{Path: "etc/"}, {Path: "etc/tool.conf", Content: "changed = no\n"},
			{Path: "usr/bin/tool", Mode: 0o755, Content: string(filetest.Noise("tool", 1_500_000))},
			{Path: "usr/bin/tool-too", Link: "usr/bin/tool", Hard: true},
			{Path: "var/lib/tool/", Mode: 0o750},
		}},
		{Name: "libtool0", Version: "1.0", Files: []File{{Path: "usr/lib/libtool.so.0", Content: "library"}}},
		{Name: "kube-proxy-amd64", Version: "1.30.0", Files: []File{
			{Path: "usr/bin/kube-proxy", Mode: 0o755, Content: string(program("kube-proxy", 50_000))},
			{Path: "usr/bin/runc", Mode: 0o755, Content: string(program("runc", 20_000))},
			{Path: "usr/lib/cni/bridge", Mode: 0o755, Content: string(program("bridge", 20_000))},
		}},
	}
}

// program returns a program of that size that does nothing, and is of noise
// behind its headers.
func program(name string, size int) []byte {
	header := inspecttest.ELF(elf.EM_X86_64)
	return append([]byte(header), filetest.Noise(name, size-len(header))...)
}
