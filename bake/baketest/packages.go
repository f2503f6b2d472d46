package baketest

import (
	"bytes"
	"crypto/sha256"
	"debug/elf"
	"encoding/binary"
	"math/rand/v2"
	"strings"

	"github.com/nodebake/bake/bake/inspect/inspecttest"
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
			{Path: "usr/bin/sh", Mode: 0o755, Content: string(noise("sh", 100_000))},
			{Path: "usr/bin/sync", Mode: 0o755, Content: "sync"},
			{Path: "usr/sbin/nft", Mode: 0o755, Content: "nft"},
		}},
		{Name: "linux-image-amd64", Version: "6.12.1-1", Fields: "Depends: linux-image-" + KernelVersion + " (= 6.12.1-1)\n"},
		{Name: "linux-image-" + KernelVersion, Version: "6.12.1-1", Files: []File{
			{Path: "boot/vmlinuz-" + KernelVersion, Content: string(noise("vmlinuz", 500_000))},
			{Path: kernel + "modules.builtin", Content: "kernel/fs/ext4/ext4.ko\nkernel/drivers/nvme/host/nvme.ko\n"},
			{Path: kernel + "modules.builtin.modinfo", Content: "ext4.license=GPL\x00"},
			{Path: kernel + "modules.order", Content: "kernel/drivers/scsi/virtio_scsi.ko\n"},
			{Path: kernel + "kernel/drivers/scsi/scsi_mod.ko", Content: module(magic, "depends=")},
			{Path: kernel + "kernel/drivers/scsi/virtio_scsi.ko.xz", Content: string(makeXZ([]byte(module(magic, "depends=scsi_mod"))))},
			{Path: kernel + "kernel/fs/efivarfs/efivarfs.ko", Content: module(magic, "depends=")},
		}},
		{Name: "shim-signed", Version: "1.47", Files: []File{{Path: "usr/lib/shim/shimx64.efi.signed", Content: "shim"}}},
		{Name: "systemd-boot-efi-amd64-signed", Version: "257", Files: []File{
			{Path: "usr/lib/systemd/boot/efi/systemd-bootx64.efi.signed", Content: "systemd-boot"},
		}},
		{Name: "tool", Version: "1.0", Fields: "Depends: libtool0 (>= 1.0)\n", Conffiles: "/etc/tool.conf\n", Files: []File{
			{Path: "etc/"}, {Path: "etc/tool.conf", Content: "changed = no\n"},
			{Path: "usr/bin/tool", Mode: 0o755, Content: string(noise("tool", 1_500_000))},
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

// noise returns content that does not compress, the same for each name.
func noise(name string, size int) []byte {
	b := make([]byte, size)
	rand.NewChaCha8(sha256.Sum256([]byte(name))).Read(b)
	return b
}

// program returns a program of that size that does nothing, and is of noise
// behind its headers.
func program(name string, size int) []byte {
	header := inspecttest.ELF(elf.EM_X86_64)
	return append([]byte(header), noise(name, size-len(header))...)
}

// module makes a kernel module that has nothing but its .modinfo.
func module(fields ...string) string {
	info := strings.Join(append(fields, ""), "\x00")
	const names = "\x00.modinfo\x00.shstrtab\x00"
	const size = 64 // of the header, and of a section's
	sections := []elf.Section64{
		{},
		{Name: 1, Type: uint32(elf.SHT_PROGBITS), Off: size, Size: uint64(len(info))},
		{Name: 10, Type: uint32(elf.SHT_STRTAB), Off: size + uint64(len(info)), Size: uint64(len(names))},
	}
	header := elf.Header64{
		Type: uint16(elf.ET_REL), Machine: uint16(elf.EM_X86_64), Version: 1, Ehsize: size,
		Shoff: size + uint64(len(info)+len(names)), Shentsize: size, Shnum: uint16(len(sections)), Shstrndx: 2,
	}
	copy(header.Ident[:], "\x7fELF\x02\x01\x01")
	var b bytes.Buffer
	for _, v := range []any{header, []byte(info), []byte(names), sections} {
		must(binary.Write(&b, binary.LittleEndian, v))
	}
	return b.String()
}
