package lint

import (
	"bytes"
	"debug/elf"
	"debug/pe"
	"encoding/binary"
	"io"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/bake/arch"
	"github.com/nodebake/bake/bake/image/gpt"
	"github.com/nodebake/bake/bake/inspect"
	"github.com/nodebake/bake/bake/inspect/inspecttest"
	"github.com/nodebake/bake/bake/record"
	"github.com/nodebake/bake/bake/sbom"
	"github.com/nodebake/bake/bake/sbom/spdx"
	"github.com/nodebake/bake/bake/tree"
)

func TestGoodImagesHoldToEveryRule(t *testing.T) {
	for _, a := range arch.All() {
		report := lint(subjectOf(t, inspecttest.For(a)))
		for _, v := range report.Violations {
			t.Errorf("%s: FAIL %s", a, v)
		}
		if report.Arch != a || len(report.Unchecked) > 0 || report.Checked != len(Rules()) {
			t.Errorf("%s: checked %d of %d rules for %s, not %v", a, report.Checked, len(Rules()), report.Arch, report.Unchecked)
		}
		var names []string
		for _, f := range report.Features {
			names = append(names, f.Name)
			if f.Missing != "" {
				t.Errorf("%s: feature %s is missing: %s", a, f.Name, f.Missing)
			}
		}
		want := []string{"UEFI_COMPATIBLE", "VIRTIO_SCSI_MULTIQUEUE", "GVNIC", "IDPF"}
		if a == arch.AMD64 {
			want = append(want, "SEV_CAPABLE", "SEV_SNP_CAPABLE", "TDX_CAPABLE")
		}
		if diff := cmp.Diff(want, names); diff != "" {
			t.Errorf("%s: features (-want +got):\n%s", a, diff)
		}
	}
}

func TestViolationShowsSomeProblems(t *testing.T) {
	v := Violation{"x", []string{"a", "b", "c", "d", "e"}, "why"}
	if got, want := v.String(), "x: a; b; c; and 2 more (why)"; got != want {
		t.Errorf("String() = %s; want %s", got, want)
	}
}

// broken is an image that one rule refuses, and no other.
type broken struct {
	rule    string
	problem string // part of what is reported
	do      func(w *inspecttest.Image)
}

func set(p, content string) func(w *inspecttest.Image) {
	return func(w *inspecttest.Image) { w.Text(p, content) }
}

func remove(p string) func(w *inspecttest.Image) {
	return func(w *inspecttest.Image) { delete(w.Root, p) }
}

func perm(p string, bits uint16) func(w *inspecttest.Image) {
	return func(w *inspecttest.Image) { w.Change(p, func(e *tree.Entry) { e.Perm = bits }) }
}

func arguments(line string) func(w *inspecttest.Image) {
	return func(w *inspecttest.Image) {
		w.LoaderEntry(strings.ReplaceAll(line, "ROOT", "root=PARTUUID="+inspecttest.RootGUID().String()))
	}
}

func modules(old, new string) func(w *inspecttest.Image) {
	return func(w *inspecttest.Image) {
		p := "usr/lib/modules/" + inspecttest.KernelVersion + "/modules.dep"
		dep := inspecttest.Read(w.Root[p])
		w.Text(p, strings.ReplaceAll(dep, old, new))
	}
}

func brokenImages() []broken {
	const multi = "etc/systemd/system/multi-user.target.wants/"
	return []broken{
		{"image-name", "begins with", func(w *inspecttest.Image) { w.Name = "1-worker.tar.gz" }},
		{"image-name", "the character 'W'", func(w *inspecttest.Image) { w.Name = "k8s-Worker.tar.gz" }},
		{"image-name", "ends with a hyphen", func(w *inspecttest.Image) { w.Name = "k8s-.tar.gz" }},
		{"image-name", "64 characters", func(w *inspecttest.Image) { w.Name = strings.Repeat("k", 64) + ".tar.gz" }},
		{"disk-size", "no whole number of GiB", func(w *inspecttest.Image) { w.Size = inspecttest.GiB + inspecttest.MiB }},
		{"disk-size", "the disk has 2048 GiB", func(w *inspecttest.Image) { w.Size = 2048 * inspecttest.GiB }},

		{"partition-table", "signature", zero(510, 2)},
		{"partition-table", "primary partition table", zero(512, 8)},
		{"partition-table", "backup partition table", zero(inspecttest.GiB-512, 8)},
		{"partition-table", "the last sector is at", func(w *inspecttest.Image) { w.More = inspecttest.GiB }},
		{"esp", "no partition has the type", func(w *inspecttest.Image) { w.Parts[0].Type = gpt.Derive(nil, "other") }},
		{"esp", "EFI system partition", zero(inspecttest.MiB, 512)},
		{"esp", "both have the type of an EFI system partition", func(w *inspecttest.Image) {
			p := w.Parts[0]
			p.Start, p.GUID = 65*inspecttest.MiB, gpt.Derive(nil, "esp2")
			root := w.Parts[1]
			root.Start = 129 * inspecttest.MiB
			w.Parts = []gpt.Partition{w.Parts[0], p, root}
		}},
		{"root", "no partition has the type", func(w *inspecttest.Image) { w.Parts[1].Type = gpt.Derive(nil, "other") }},
		{"root", "superblock", zero(65*inspecttest.MiB+1024+0x38, 2)},
		{"root", "bitmap", func(w *inspecttest.Image) {
			w.Patch = func(disk io.ReaderAt) map[int64][]byte { return flipBlockBitmap(disk, 65*inspecttest.MiB) }
		}},
		{"root-grows", "behind the root", func(w *inspecttest.Image) {
			w.Parts = append(w.Parts, gpt.Partition{Type: gpt.Derive(nil, "data"), GUID: gpt.Derive(nil, "d"), Start: 900 * inspecttest.MiB, Length: inspecttest.MiB})
		}},
		{"root-grows", "Type=root", set("etc/repart.d/50-root.conf", "[Partition]\nType=home\n")},
		{"root-grows", "systemd-repart", remove("usr/bin/systemd-repart")},
		{"root-grows", "x-systemd.growfs", set("etc/fstab", "/dev/root / ext4 rw 0 0\n")},

		{"boot-loader", "does not exist", func(w *inspecttest.Image) { delete(w.ESP, "EFI/BOOT/BOOTX64.EFI") }},
		{"boot-loader", "machine 0xaa64", func(w *inspecttest.Image) {
			w.ESPText("EFI/BOOT/BOOTX64.EFI", inspecttest.PE(pe.IMAGE_FILE_MACHINE_ARM64, true))
		}},
		{"boot-loader", "not an EFI program", func(w *inspecttest.Image) { w.ESPText("EFI/BOOT/BOOTX64.EFI", "#!/bin/sh\n") }},
		{"boot-next-stage", "does not exist", func(w *inspecttest.Image) { delete(w.ESP, "EFI/BOOT/grubx64.efi") }},
		{"boot-signed", "linux is not signed", func(w *inspecttest.Image) {
			w.ESPText("k8s-worker/"+inspecttest.KernelVersion+"/linux", inspecttest.PE(pe.IMAGE_FILE_MACHINE_AMD64, false))
		}},
		{"boot-signed", "grubx64.efi is not signed", func(w *inspecttest.Image) {
			w.ESPText("EFI/BOOT/grubx64.efi", inspecttest.PE(pe.IMAGE_FILE_MACHINE_AMD64, false))
		}},
		{"loader-entry", "there is no loader/entries", func(w *inspecttest.Image) { delete(w.ESP, "loader/entries/k8s-worker.conf") }},
		{"loader-entry", "linux: file does not exist", func(w *inspecttest.Image) { delete(w.ESP, "k8s-worker/"+inspecttest.KernelVersion+"/linux") }},
		{"loader-entry", "names no kernel", func(w *inspecttest.Image) {
			e := w.ESP["loader/entries/k8s-worker.conf"]
			w.ESPText(e.Path, strings.ReplaceAll(inspecttest.Read(e), "\nlinux", "\n#linux"))
		}},
		{"kernel-root", "want root=PARTUUID=" + inspecttest.RootGUID().String(), arguments("root=/dev/sda2 console=ttyS0,38400n8d audit=0")},
		{"kernel-root", "want root=PARTUUID=", arguments("ROOT ROOT console=ttyS0,38400n8d audit=0")},
		{"kernel-console", `"console=ttyS0"`, func(w *inspecttest.Image) {
			arguments("ROOT console=ttyS0 audit=0")(w)
			w.Tamper = func(r *record.Record) { r.KernelArguments = []string{"audit=0"} }
		}},
		{"kernel-quiet", "has quiet", arguments("ROOT console=ttyS0,38400n8d audit=0 quiet")},
		{"kernel-quiet", "has splash", arguments("ROOT console=ttyS0,38400n8d audit=0 splash")},
		{"init", "has no /init", func(w *inspecttest.Image) { delete(w.Initrd, "init") }},
		{"init", "is for EM_AARCH64", func(w *inspecttest.Image) {
			w.Initrd["init"] = inspecttest.File("init", 0o755, inspecttest.ELF(elf.EM_AARCH64))
		}},
		{"init", "not an ELF file", func(w *inspecttest.Image) { w.Initrd["init"] = inspecttest.File("init", 0o755, "#!/bin/sh\n") }},
		{"init", "mode 0644", func(w *inspecttest.Image) {
			w.Initrd["init"] = inspecttest.File("init", 0o644, inspecttest.ELF(elf.EM_X86_64))
		}},
		{"init", "not an uncompressed newc archive", func(w *inspecttest.Image) {
			w.ESPText("k8s-worker/"+inspecttest.KernelVersion+"/initrd.img", "\x28\xb5\x2f\xfd compressed")
		}},

		{"kernel-modules", "modules.dep: file does not exist", remove("usr/lib/modules/" + inspecttest.KernelVersion + "/modules.dep")},
		{"driver-scsi", "no driver sd_mod", modules("kernel/sd_mod.ko.xz:", "kernel/gone.ko.xz:")},
		{"driver-scsi", "virtio_scsi is neither", func(w *inspecttest.Image) { delete(w.Initrd, "modules/virtio_scsi.ko") }},
		{"driver-scsi", "scsi_mod is neither", func(w *inspecttest.Image) { delete(w.Initrd, "modules/scsi_mod.ko") }},
		{"driver-nvme", "no driver nvme", set("usr/lib/modules/"+inspecttest.KernelVersion+"/modules.builtin", "kernel/fs/ext4/ext4.ko\n")},
		{"driver-ext4", "no driver ext4", set("usr/lib/modules/"+inspecttest.KernelVersion+"/modules.builtin", "kernel/drivers/nvme/host/nvme.ko\n")},
		{"driver-virtio-net", "no module failover", remove("usr/lib/modules/" + inspecttest.KernelVersion + "/kernel/failover.ko.xz")},
		{"driver-gve", "no driver gve", remove("usr/lib/modules/" + inspecttest.KernelVersion + "/kernel/gve.ko.xz")},
		{"driver-containers", "no driver overlay", modules("overlay", "underlay")},

		{"ssh-host-keys", "/etc/ssh/ssh_host_ed25519_key", set("etc/ssh/ssh_host_ed25519_key", "x")},
		{"ssh-user-keys", "/root/.ssh/authorized_keys", set("root/.ssh/authorized_keys", "x")},
		{"ssh-user-keys", "/home/a/.ssh/authorized_keys2", set("home/a/.ssh/authorized_keys2", "x")},
		{"ssh-user-keys", "/home/a/.ssh/id_ed25519", set("home/a/.ssh/id_ed25519", "x")},
		{"passwords", "root has a password", set("etc/shadow", "root:$y$j9T$x:19000:0:99999:7:::\n")},
		{"passwords", "root has a password", set("etc/shadow", "root:!$y$j9T$x:19000:0:99999:7:::\n")},
		{"passwords", "root needs no password", set("etc/shadow", "root::19000:0:99999:7:::\n")},
		{"passwords", "/etc/passwd: root has a password", set("etc/passwd", "root:abcdefghijklm:0:0:root:/root:/bin/bash\n")},
		{"passwords", "/etc/shadow:1: 2 fields; want 9", set("etc/shadow", "root:*\n")},
		{"ssh-passwords", "by default", remove("etc/ssh/sshd_config")},
		{"ssh-passwords", `is "yes"`, set("etc/ssh/sshd_config.d/10-first.conf", "passwordauthentication=yes\n")},
		{"ssh-passwords", "Match block", set("etc/ssh/sshd_config.d/60-match.conf", "Match User admin\nPasswordAuthentication yes\n")},
		{"machine-id", "has 33 bytes", set("etc/machine-id", strings.Repeat("a", 32)+"\n")},
		{"machine-id", "there is no /etc/machine-id", remove("etc/machine-id")},
		{"machine-id", "is a symlink", func(w *inspecttest.Image) { w.Link("etc/machine-id", "/run/machine-id") }},
		{"machine-id", "/var/lib/dbus/machine-id", set("var/lib/dbus/machine-id", "x")},
		{"machine-secrets", "/var/lib/systemd/random-seed", set("var/lib/systemd/random-seed", "x")},
		{"machine-secrets", "on the EFI system partition", func(w *inspecttest.Image) { w.ESPText("loader/random-seed", "x") }},
		{"hostname", `"worker-0"`, set("etc/hostname", "worker-0\n")},

		{"time", "does not ask metadata.google.internal", set("etc/chrony/chrony.conf", "driftfile /x\n")},
		{"time", "chrony asks 2.debian.pool.ntp.org", set("etc/chrony/sources.d/debian.sources", "pool 2.debian.pool.ntp.org iburst\n")},
		{"time", "chrony.service is not enabled", remove(multi + "chrony.service")},
		{"time", "systemd-timesyncd.service is enabled beside", func(w *inspecttest.Image) {
			w.Text("usr/lib/systemd/system/systemd-timesyncd.service", "[Service]\nExecStart=/usr/sbin/sshd\n")
			w.Link("etc/systemd/system/sysinit.target.wants/systemd-timesyncd.service", "/usr/lib/systemd/system/systemd-timesyncd.service")
		}},
		{"metadata-host", "does not have 169.254.169.254", set("etc/hosts", "127.0.0.1 localhost\n# 169.254.169.254 metadata.google.internal\n")},
		{"metadata-host", "the address 10.0.0.1", set("etc/hosts", "169.254.169.254 metadata.google.internal\n10.0.0.1 metadata.google.internal\n")},
		{"metadata-host", "nsswitch.conf", set("etc/nsswitch.conf", "hosts: dns\n")},
		{"network-dhcp", "no file in /etc/systemd/network is for the card ens4", set("etc/systemd/network/50-dhcp.network", "[Match]\nName=wl*\n[Network]\nDHCP=yes\n")},
		{"network-dhcp", "has DHCP=ipv6", set("etc/systemd/network/50-dhcp.network", "[Match]\nName=e*\n[Network]\nDHCP=ipv6\n[DHCPv4]\nUseMTU=yes\n")},
		{"network-dhcp", "/etc/systemd/network/10-x.network", set("etc/systemd/network/10-x.network", "[Match]\nType=ether\n[Network]\nDHCP=no\n[DHCPv4]\nUseMTU=yes\n")},
		{"network-dhcp", "not enabled", remove(multi + "systemd-networkd.service")},
		{"network-mtu", "UseMTU=yes", set("etc/systemd/network/50-dhcp.network", "[Match]\nName=e*\n[Network]\nDHCP=yes\n")},
		{"network-mtu", "MTUBytes=9000", set("etc/systemd/network/50-dhcp.network", "[Match]\nName=e*\n[Link]\nMTUBytes=9000\n[Network]\nDHCP=yes\n[DHCPv4]\nUseMTU=true\n")},
		{"guest-agent", "google_guest_agent, which is not there", remove("usr/bin/google_guest_agent")},
		{"guest-agent", "google_guest_agent, which is not a program", perm("usr/bin/google_guest_agent", 0o644)},
		{"guest-agent", "is masked by", func(w *inspecttest.Image) { w.Link("etc/systemd/system/google-guest-agent.service", "/dev/null") }},
		{"guest-agent", "there is no unit", func(w *inspecttest.Image) {
			delete(w.Root, "usr/lib/systemd/system/google-guest-agent.service")
			delete(w.Root, multi+"google-guest-agent.service")
		}},
		{"kubernetes-sysctl", `net.ipv4.ip_forward is set to "0"`, set("etc/sysctl.d/99-late.conf", "net.ipv4.ip_forward=0\n")},
		{"kubernetes-sysctl", "br_netfilter", set("etc/modules-load.d/kubernetes.conf", "overlay\n#br_netfilter\n")},

		{"node-sysctl", `kernel.panic is set to "0"; want 10`, set("etc/sysctl.d/99-late.conf", "kernel/panic=0\n")},
		{"node-sysctl", `kernel.kptr_restrict is set to ""; want 1`, set("etc/sysctl.d/80-node.conf", strings.Replace(nodeSysctlFile(), "kernel.kptr_restrict = 1\n", "kernel.kptr_restrict 1\n", 1))},
		{"node-sysctl", `net.ipv4.conf.default.send_redirects is set to "1"`, set("etc/sysctl.d/00-early.conf", "net/ipv4/conf/default/send_redirects = 1\n")},
		{"node-sysctl", `fs.protected_regular is set to ""`, func(w *inspecttest.Image) { w.Link("etc/sysctl.d/80-node.conf", "/dev/null") }},

		{"services", "kubelet.service is enabled by /" + multi + "kubelet.service", func(w *inspecttest.Image) { w.Link(multi+"kubelet.service", "../kubelet.service") }},
		{"services", "starts /usr/local/bin/kube-proxy, which is not there", remove("usr/local/bin/kube-proxy")},
		{"services", "there is no unit containerd.service", remove("etc/systemd/system/containerd.service")},
		{"programs", "there is no program /usr/local/bin/runc", remove("usr/local/bin/runc")},
		{"programs", "there is no program /opt/cni/bin/bridge", perm("opt/cni/bin/bridge", 0o644)},
		{"node-settings", "no runtime type", node(record.Node{CgroupDriver: "systemd"})},
		{"node-settings", `cgroup driver "none"`, node(record.Node{RuntimeType: "io.containerd.runc.v2", CgroupDriver: "none"})},
		{"node-runtime", "io.containerd.runc.v2 needs containerd-shim-runc-v2", remove("usr/bin/containerd-shim-runc-v2")},
		{"node-runtime", "io.containerd.runc.v2 needs containerd-shim-runc-v2", perm("usr/bin/containerd-shim-runc-v2", 0o644)},
		{"node-runtime", "io.containerd.runsc.v1 needs containerd-shim-runsc-v1", node(record.Node{RuntimeType: "io.containerd.runsc.v1", CgroupDriver: "systemd"})},
		{"node-runtime", "io.containerd.runtime.v1.linux needs containerd-shim,", func(w *inspecttest.Image) {
			arguments("ROOT console=ttyS0,38400n8d audit=0 systemd.unified_cgroup_hierarchy=0")(w)
			node(record.Node{RuntimeType: "io.containerd.runtime.v1.linux", CgroupDriver: "cgroupfs"})(w)
		}},
		{"node-runtime", "has not systemd.unified_cgroup_hierarchy=0", func(w *inspecttest.Image) {
			w.Program("usr/bin/containerd-shim")
			node(record.Node{RuntimeType: "io.containerd.runtime.v1.linux", CgroupDriver: "cgroupfs"})(w)
		}},
		{"component-programs", `component kubelet: /usr/local/bin/kubelet: it is neither an ELF program nor a script: it begins with "<html>"`, func(w *inspecttest.Image) {
			w.Root["usr/local/bin/kubelet"] = inspecttest.File("usr/local/bin/kubelet", 0o755, "<html>")
		}},
		{"component-programs", "component kubelet: /usr/local/bin/kubelet: it is empty", func(w *inspecttest.Image) {
			w.Root["usr/local/bin/kubelet"] = inspecttest.File("usr/local/bin/kubelet", 0o755, "")
		}},
		{"component-programs", "component kubelet: /usr/local/bin/kubelet: it is for EM_AARCH64, the image for EM_X86_64", func(w *inspecttest.Image) {
			w.Root["usr/local/bin/kubelet"] = inspecttest.File("usr/local/bin/kubelet", 0o755, inspecttest.ELF(elf.EM_AARCH64))
		}},
		{"component-programs", "component kubelet: /usr/local/bin/kubelet needs /bin/bash, which is no program of the image", func(w *inspecttest.Image) {
			w.Root["usr/local/bin/kubelet"] = inspecttest.File("usr/local/bin/kubelet", 0o755, "#!/bin/bash\n")
		}},
		{"preset", "enable ssh.service", set("etc/systemd/system-preset/00-bake.preset", "enable ssh.service\ndisable *\n")},
		{"preset", "enable systemd-networkd.service", remove("etc/systemd/system-preset/00-bake.preset")},
		{"firstboot", "not enabled", remove(multi + "firstboot.service")},
		{"firstboot", "not an ELF file", func(w *inspecttest.Image) {
			w.Root[record.FirstbootPath] = inspecttest.File(record.FirstbootPath, 0o755, "#!/bin/sh\n")
		}},
		{"firstboot", "EM_AARCH64", func(w *inspecttest.Image) {
			w.Root[record.FirstbootPath] = inspecttest.File(record.FirstbootPath, 0o755, inspecttest.ELF(elf.EM_AARCH64))
		}},
		{"nothing-waits", "wait-online.service is enabled", func(w *inspecttest.Image) {
			delete(w.Root, "etc/systemd/system/systemd-networkd-wait-online.service")
			w.Link("etc/systemd/system/network-online.target.wants/systemd-networkd-wait-online.service", "/usr/lib/systemd/system/systemd-networkd-wait-online.service")
		}},
		{"no-questions", "is not masked", remove("etc/systemd/system/systemd-firstboot.service")},
		{"journal-size", "SystemMaxUse", set("etc/systemd/journald.conf.d/50-bake.conf", "[Journal]\nRuntimeMaxUse=64M\n")},
		{"no-swap", "/etc/fstab has the swap /dev/sdb", set("etc/fstab", "/dev/root / ext4 rw,x-systemd.growfs 0 0\n/dev/sdb none swap sw 0 0\n")},
		{"no-swap", "unit /etc/systemd/system/swapfile.swap", set("etc/systemd/system/swapfile.swap", "[Swap]\nWhat=/swapfile\n")},
		{"no-swap", "there is /swapfile", set("swapfile", "x")},
		{"no-swap", "partition 2 is swap", func(w *inspecttest.Image) {
			kind, err := gpt.ParseGUID(linuxSwap)
			if err != nil {
				panic(err)
			}
			root := w.Parts[1]
			root.Start = 100 * inspecttest.MiB
			w.Parts = []gpt.Partition{w.Parts[0], {Type: kind, GUID: gpt.Derive(nil, "swap"), Start: 80 * inspecttest.MiB, Length: inspecttest.MiB}, root}
		}},

		{"fstab", "mounts /dev/sdb on /mnt", set("etc/fstab", "/dev/root / ext4 rw,x-systemd.growfs 0 0\n/dev/sdb /mnt ext4 rw 0 0\n")},
		{"fstab", "mounts LABEL=data on /data", set("etc/fstab", "/dev/root / ext4 rw,x-systemd.growfs 0 0\nLABEL=data /data xfs rw 0 0\n")},
		{"fstab", "names the root LABEL=root", set("etc/fstab", "LABEL=root / ext4 rw,x-systemd.growfs 0 0\n")},
		{"apt-caches", "/var/lib/apt/lists/x_Packages", set("var/lib/apt/lists/x_Packages", "x")},
		{"apt-caches", "/var/cache/apt/archives/a.deb", set("var/cache/apt/archives/a.deb", "x")},
		{"world-writable", "/etc/hosts has mode 0666", perm("etc/hosts", 0o666)},
		{"world-writable", "/tmp has mode 0777", perm("tmp", 0o777)},
		{"owners", "/etc/hosts belongs to user 4242", func(w *inspecttest.Image) { w.Change("etc/hosts", func(e *tree.Entry) { e.UID = 4242 }) }},
		{"owners", "/tmp belongs to group 4242", func(w *inspecttest.Image) { w.Change("tmp", func(e *tree.Entry) { e.GID = 4242 }) }},
		{"os-release", "IMAGE_VERSION", set("usr/lib/os-release", "ID=debian\nIMAGE_ID=k8s-worker\n")},
		{"os-release", "does not have ID", remove("usr/lib/os-release")},

		{"record", "/usr/lib/bake/image.json: schema 0", set(record.Path, "{}")},
		{"record", "package jq 1.7 is recorded and not in", func(w *inspecttest.Image) {
			w.Tamper = func(r *record.Record) { r.Packages = append(r.Packages, record.Package{Name: "jq", Version: "1.7"}) }
		}},
		{"record", "package libc6 2.41-12 is in /var/lib/dpkg/status and not recorded", func(w *inspecttest.Image) {
			w.Tamper = func(r *record.Record) { r.Packages = r.Packages[:1] }
		}},
		{"record", "recorded as 1 (amd64) and is 13.8 (amd64)", func(w *inspecttest.Image) {
			w.Tamper = func(r *record.Record) {
				r.Packages = []record.Package{{Name: "base-files", Version: "1", Arch: "amd64"}, r.Packages[1]}
			}
		}},
		{"record", `the status "install ok unpacked"`, set(inspecttest.StatusPath,
			"Package: base-files\nStatus: install ok installed\nVersion: 13.8\nArchitecture: amd64\n\n"+
				"Package: libc6\nStatus: install ok unpacked\nVersion: 2.41-12\nArchitecture: amd64\n")},
		{"record", "component kubelet: /usr/local/bin/kubelet has sha256:", func(w *inspecttest.Image) {
			w.Tamper = func(r *record.Record) { r.Components[1].Files[0].SHA256 = strings.Repeat("ab", 32) }
		}},
		{"record", "component containerd: /bin/gone is recorded and missing", func(w *inspecttest.Image) {
			w.Tamper = func(r *record.Record) { r.Components[0].Files[0].Path = "/bin/gone" }
		}},
		{"component-versions", "component kubelet: /usr/local/bin/kubelet: it says v1.36.9, and the versions file says v1.36.10", func(w *inspecttest.Image) {
			const kubelet = "usr/local/bin/kubelet"
			w.Root[kubelet] = inspecttest.File(kubelet, 0o755, inspecttest.GoProgram(elf.EM_X86_64, "example.com/kubelet", "v1.36.9"))
			w.Tamper = func(r *record.Record) { r.Components[1].Version = "v1.36.10" }
		}},
		{"record", "/usr/lib/bake/firstboot has sha256:", func(w *inspecttest.Image) {
			w.Tamper = func(r *record.Record) { r.Inputs.Programs["firstboot"] = r.Inputs.Programs["init"] }
		}},
		{"record", "init in the initramfs", func(w *inspecttest.Image) {
			w.Tamper = func(r *record.Record) { r.Inputs.Programs["init"] = r.Inputs.Programs["firstboot"] }
		}},
		{"record", "the record says arm64", func(w *inspecttest.Image) { w.Arch = "arm64" }},
		{"record", "kernel argument mitigations=off is recorded", func(w *inspecttest.Image) {
			w.Tamper = func(r *record.Record) { r.KernelArguments = append(r.KernelArguments, "mitigations=off") }
		}},
		{"record", "Debian base-files 13.8 is recorded and not in", func(w *inspecttest.Image) {
			var b bytes.Buffer
			without := &sbom.Contents{Record: w.Record(), Components: make([]sbom.BuildInfo, len(w.Record().Components))}
			if err := spdx.Write(&b, without); err != nil {
				panic(err)
			}
			w.Text(record.SBOMPath, b.String())
		}},
		{"record", record.SBOMPath, set(record.SBOMPath, "{}")},
		{"record", `the recorded image name "K8s"`, func(w *inspecttest.Image) { w.Tamper = func(r *record.Record) { r.Name = "K8s" } }},
	}
}

func nodeSysctlFile() string {
	return inspecttest.Read(inspecttest.New().Root["etc/sysctl.d/80-node.conf"])
}

func node(n record.Node) func(w *inspecttest.Image) {
	return func(w *inspecttest.Image) { w.Tamper = func(r *record.Record) { r.Node = n } }
}

func zero(at int64, n int) func(w *inspecttest.Image) {
	return func(w *inspecttest.Image) {
		w.Patch = func(io.ReaderAt) map[int64][]byte { return map[int64][]byte{at: make([]byte, n)} }
	}
}

func TestEachRuleRefusesWhatOnlyItRefuses(t *testing.T) {
	tested := map[string]bool{"archive": true} // by TestLintFiles
	for _, test := range brokenImages() {
		tested[test.rule] = true
		t.Run(test.rule+"/"+test.problem, func(t *testing.T) {
			t.Parallel()
			w := inspecttest.New()
			test.do(w)
			report := lint(subjectOf(t, w))
			if len(report.Violations) != 1 || report.Violations[0].Rule != test.rule {
				t.Fatalf("violations = %v; want one, of %s", report.Violations, test.rule)
			}
			if got := strings.Join(report.Violations[0].Problems, "\n"); !strings.Contains(got, test.problem) {
				t.Errorf("problems = %s; want one with %q", got, test.problem)
			}
			if report.OK() {
				t.Error("the report is OK; want it not to be")
			}
		})
	}
	for _, rule := range Rules() {
		if !tested[rule.ID] {
			t.Errorf("no broken image is for the rule %s", rule.ID)
		}
	}
}

func TestRulesSayWhatAndWhy(t *testing.T) {
	seen := map[string]bool{}
	id := regexp.MustCompile(`^[a-z][a-z0-9-]+$`)
	for _, r := range Rules() {
		if seen[r.ID] || !id.MatchString(r.ID) || r.Must == "" || r.Why == "" || r.check == nil {
			t.Errorf("rule %q: %+v; want a name of its own, what must hold, why, and a check", r.ID, r)
		}
		seen[r.ID] = true
	}
}

// What is behind a part that can't be opened is not taken for good.
func TestUncheckedRules(t *testing.T) {
	w := inspecttest.New()
	w.Patch = func(io.ReaderAt) map[int64][]byte { return map[int64][]byte{65*inspecttest.MiB + 1024 + 0x38: {0, 0}} }
	report := lint(subjectOf(t, w))
	if report.OK() || len(report.Unchecked) < 20 {
		t.Errorf("%d rules unchecked without a root; want at least 20 and a report that is not OK", len(report.Unchecked))
	}
}

func TestFeaturesFollowDrivers(t *testing.T) {
	for _, test := range []struct {
		feature string
		do      func(w *inspecttest.Image)
	}{
		{"VIRTIO_SCSI_MULTIQUEUE", func(w *inspecttest.Image) { delete(w.Initrd, "modules/virtio_scsi.ko") }},
		{"GVNIC", modules("gve", "gone")},
		{"IDPF", modules("idpf", "gone")},
		{"SEV_SNP_CAPABLE", modules("sev-guest", "gone")},
		{"TDX_CAPABLE", modules("tdx-guest", "gone")},
		{"TDX_CAPABLE", set("boot/config-"+inspecttest.KernelVersion, "CONFIG_AMD_MEM_ENCRYPT=y\n")},
	} {
		w := inspecttest.New()
		test.do(w)
		for _, f := range lint(subjectOf(t, w)).Features {
			if (f.Missing != "") != (f.Name == test.feature) {
				t.Errorf("without what %s needs, %s is missing: %q", test.feature, f.Name, f.Missing)
			}
		}
	}
}

// flipBlockBitmap changes a bit of the first group's block bitmap of the ext4
// filesystem at offset.
func flipBlockBitmap(disk io.ReaderAt, offset int64) map[int64][]byte {
	desc := make([]byte, 64)
	if _, err := disk.ReadAt(desc, offset+4096); err != nil { // the block behind the superblock
		panic(err)
	}
	bitmap := offset + 4096*int64(binary.LittleEndian.Uint32(desc))
	b := make([]byte, 1)
	if _, err := disk.ReadAt(b, bitmap+4000); err != nil {
		panic(err)
	}
	return map[int64][]byte{bitmap + 4000: {b[0] ^ 1}}
}

// subjectOf opens an image without going through a file.
func subjectOf(t testing.TB, w *inspecttest.Image) *subject {
	t.Helper()
	disk, err := w.Disk()
	if err != nil {
		t.Fatal(err)
	}
	m := &inspect.Image{Path: w.Name, Format: inspect.TarGz, Disk: disk, Size: w.Size + w.More}
	return newSubject(m, m.OpenDisk())
}
