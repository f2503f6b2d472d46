//go:build system

// Package boot_test boots a small disk of Debian's signed boot chain in QEMU, by
// hand:
//
//	go test -tags system -timeout 30m -v ./test/boot
//
// and compares the modules that it loads with kmod's opinion
// (TestModulesAreKmods). It downloads the packages with the host's own apt
// configuration (read, not changed), 36 MB and the package lists. BAKE_TEST_DEBS
// names a directory that has them already. The small root is made by mke2fs, so
// that nothing but the boot chain is under test.
package boot_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/bake/arch"
	"github.com/nodebake/bake/bake/image/boot"
	"github.com/nodebake/bake/bake/image/cpio"
	"github.com/nodebake/bake/bake/image/disk"
	"github.com/nodebake/bake/bake/image/extent"
	"github.com/nodebake/bake/bake/image/fat"
	"github.com/nodebake/bake/bake/tree"
	"github.com/nodebake/bake/initramfs"
	"github.com/nodebake/bake/test/filetest"
	"github.com/nodebake/bake/test/goprogram"
	"github.com/nodebake/bake/test/need"
)

const testEpoch = 1761998400

func TestBoot(t *testing.T) {
	for name, pkg := range map[string]string{
		"qemu-system-x86_64": "-t bookworm-backports qemu-system-x86", "mke2fs": "e2fsprogs", "dpkg-deb": "dpkg",
	} {
		need.Program(t, name, pkg)
	}
	root, _ := unpack(t, packages(t))
	image := filepath.Join(t.TempDir(), "disk.raw")
	esp := makeDisk(t, root, image)

	other := filepath.Join(t.TempDir(), "other.raw") // a second disk from the same image

	const (
		scsi = "virtio-scsi-pci,id=scsi0"
		ok   = "guest: end"
	)
	for _, tt := range []struct {
		name    string
		how     firmware
		devices []string
		want    []string // regular expressions of the console
	}{
		{
			"scsi", secureBoot,
			[]string{scsi, "scsi-hd,drive=a,serial=BOOTED,bootindex=0"},
			[]string{`guest: serial BOOTED`, `guest: secureboot 1`, `initramfs: the firmware booted .*Scsi`, ok},
		},
		{
			"scsi-second-of-two", secureBoot,
			[]string{scsi, "scsi-hd,drive=b,serial=OTHER,scsi-id=0", "scsi-hd,drive=a,serial=BOOTED,scsi-id=1,bootindex=0"},
			[]string{`guest: serial BOOTED`, `initramfs: the firmware booted .*Scsi\(0x1,0x0\)`, ok},
		},
		{
			"scsi-first-of-two", secureBoot,
			[]string{scsi, "scsi-hd,drive=a,serial=BOOTED,scsi-id=0,bootindex=0", "scsi-hd,drive=b,serial=OTHER,scsi-id=1"},
			[]string{`guest: serial BOOTED`, `initramfs: the firmware booted .*Scsi\(0x0,0x0\)`, ok},
		},
		{
			"nvme-second-of-two", plainUEFI,
			[]string{"nvme,drive=b,serial=OTHER", "nvme,drive=a,serial=BOOTED,bootindex=0"},
			[]string{`guest: serial BOOTED`, `initramfs: the firmware booted .*NVMe\(0x1\)`, ok},
		},
		{
			"nvme-first-of-two", plainUEFI,
			[]string{"nvme,drive=a,serial=BOOTED,bootindex=0", "nvme,drive=b,serial=OTHER"},
			[]string{`guest: serial BOOTED`, `initramfs: the firmware booted .*NVMe\(0x1\)`, ok},
		},
		{
			"nvme-with-scsi-beside", plainUEFI,
			[]string{scsi, "scsi-hd,drive=b,serial=OTHER", "nvme,drive=a,serial=BOOTED,bootindex=0"},
			[]string{`guest: serial BOOTED`, ok},
		},
		{
			"scsi-behind-a-bridge", plainUEFI,
			[]string{"pcie-root-port,id=p1,chassis=1", "virtio-scsi-pci,id=scsi1,bus=p1", scsi,
				"scsi-hd,drive=b,bus=scsi0.0,serial=OTHER", "scsi-hd,drive=a,bus=scsi1.0,serial=BOOTED,bootindex=0"},
			[]string{`guest: serial BOOTED`, `Pci\(0x[0-9a-f]+,0x0\)/Pci\(0x0,0x0\)/Scsi`, ok},
		},
		{
			// No firmware says anything: the first disk by place, not by name.
			"no-firmware-two-disks", direct,
			[]string{"virtio-scsi-pci,id=late,addr=9", "scsi-hd,bus=late.0,drive=b,serial=OTHER", "nvme,addr=8,drive=a,serial=BOOTED"},
			[]string{`guest: serial BOOTED`, `the machine was not booted by EFI`, `may be the wrong one: taking that of nvme0n1`, ok},
		},
		{
			"no-disk", direct,
			[]string{scsi},
			[]string{`THIS MACHINE CANNOT START: the root partition was not found`, `seen: no disk at all`, `looked for: partition GUID [0-9a-f-]{36} `, `it restarts in 3 s`, `reboot: Restarting system`},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			copyFile(t, image, other)
			booted := filepath.Join(t.TempDir(), "booted.raw")
			copyFile(t, image, booted)
			out := runQEMU(t, tt.how, esp, map[string]string{"a": booted, "b": other}, tt.devices)
			for _, w := range tt.want {
				if !regexp.MustCompile(w).MatchString(out) {
					t.Errorf("the console does not show %q", w)
				}
			}
			if t.Failed() || testing.Verbose() {
				t.Logf("console:\n%s", interesting(out))
			}
		})
	}
}

// packages returns the directory of Debian packages.
func packages(t *testing.T) string {
	if dir := os.Getenv("BAKE_TEST_DEBS"); dir != "" {
		return dir
	}
	dir := t.TempDir()
	sources := hostSources(t, "trixie")
	apt := func(args ...string) string {
		for _, d := range []string{"lists/partial", "cache/archives/partial", "parts", "debs"} {
			filetest.Mkdir(t, filepath.Join(dir, d))
		}
		filetest.Write(t, filepath.Join(dir, "parts/host.sources"), sources)
		cmd := exec.Command("apt-get", append([]string{
			"-o", "Dir::Etc::sourcelist=/dev/null", "-o", "Dir::Etc::sourceparts=" + dir + "/parts", "-o", "Dir::State::lists=" + dir + "/lists",
			"-o", "Dir::State::status=/dev/null", "-o", "Dir::Cache=" + dir + "/cache", "-o", "APT::Sandbox::User=root",
			"-o", "APT::Architecture=amd64", "-o", "APT::Architectures=amd64",
		}, args...)...)
		cmd.Dir = filepath.Join(dir, "debs")
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("apt-get %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	apt("update")
	kernel := regexp.MustCompile(`(?m)^Inst (linux-image-[0-9]\S*)`).FindStringSubmatch(apt("-s", "--no-install-recommends", "install", "linux-image-cloud-amd64"))
	if kernel == nil {
		t.Fatal("apt-get knows no linux-image that linux-image-cloud-amd64 depends on")
	}
	apt("download", kernel[1], "shim-signed", "shim-helpers-amd64-signed", "systemd-boot-efi-amd64-signed")
	return filepath.Join(dir, "debs")
}

// hostSources returns the host's apt sources for another suite.
func hostSources(t *testing.T, suite string) []byte {
	files, err := filepath.Glob("/etc/apt/sources.list.d/*.sources")
	if err != nil || len(files) == 0 {
		t.Fatal("the host has no /etc/apt/sources.list.d/*.sources to take a mirror from")
	}
	var all []byte
	for _, f := range files {
		data := filetest.Read(t, f)
		for line := range strings.Lines(string(data)) {
			if suites, ok := strings.CutPrefix(line, "Suites:"); ok {
				if strings.Contains(suites, "-security") {
					line = "Suites: " + suite + "-security\n"
				} else {
					line = "Suites: " + suite + "\n"
				}
			}
			all = append(all, line...)
		}
		all = append(all, '\n')
	}
	return all
}

// unpack makes a tree of the packages' files, and the directory that they are in.
func unpack(t *testing.T, debs string) (*tree.Tree, string) {
	t.Helper()
	dir := t.TempDir()
	files, err := filepath.Glob(filepath.Join(debs, "*.deb"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s has no packages", debs)
	}
	for _, f := range files {
		if out, err := exec.Command("dpkg-deb", "-x", f, dir).CombinedOutput(); err != nil {
			t.Fatalf("dpkg-deb -x %s: %v\n%s", f, err, out)
		}
	}
	var entries []tree.Entry
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			entries = append(entries, tree.Entry{Path: rel, Type: tree.Dir, Perm: 0o755})
			return nil
		}
		if !d.Type().IsRegular() {
			return nil
		}
		data, err := os.ReadFile(path)
		entries = append(entries, tree.Entry{
			Path: rel, Type: tree.File, Perm: 0o644, Size: int64(len(data)), SHA256: sha256.Sum256(data), Blob: tree.Bytes(rel, data),
		})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	tr, err := tree.New(entries)
	if err != nil {
		t.Fatal(err)
	}
	return tr, dir
}

// TestModulesAreKmods compares what an initramfs loads with what modprobe would,
// but for soft dependencies on aliases (btrfs on "blake2b-256"), which it leaves
// out.
func TestModulesAreKmods(t *testing.T) {
	for _, name := range []string{"depmod", "modprobe"} {
		need.Program(t, name, "kmod")
	}
	root, dir := unpack(t, packages(t))
	kernels, err := filepath.Glob(filepath.Join(dir, "boot/vmlinuz-*"))
	if err != nil || len(kernels) != 1 {
		t.Fatalf("the packages have the kernels %q; want one", kernels)
	}
	version := strings.TrimPrefix(filepath.Base(kernels[0]), "vmlinuz-")
	filetest.Link(t, "usr/lib", filepath.Join(dir, "lib"))
	if out, err := exec.Command("depmod", "-b", dir, version).CombinedOutput(); err != nil {
		t.Fatalf("depmod: %v\n%s", err, out)
	}
	// What every initramfs loads comes with each.
	own := []string{"ext4", "efivarfs"}
	for _, name := range []string{"virtio_scsi", "sd_mod", "nvme", "efivarfs", "ext4", "virtio_net", "gve", "idpf", "br_netfilter", "mlx5_core", "vfat"} {
		want := map[string]bool{}
		for _, name := range append(own, name) {
			out, err := exec.Command("modprobe", "-d", dir, "-S", version, "--show-depends", name).CombinedOutput()
			if err != nil {
				t.Errorf("modprobe --show-depends %s: %v\n%s", name, err, out)
				continue
			}
			for line := range strings.Lines(string(out)) {
				if f := strings.Fields(line); len(f) > 1 && f[0] == "insmod" {
					file, _, _ := strings.Cut(filepath.Base(f[1]), ".")
					want[strings.ReplaceAll(file, "-", "_")] = true
				}
			}
		}
		esp, err := boot.Plan(boot.Config{Arch: arch.AMD64, Root: root, Init: []byte("init"), Modules: []string{name}, RootGUID: "x", Name: "test"})
		if err != nil {
			t.Errorf("Plan with %s = %v", name, err)
			continue
		}
		got := map[string]bool{}
		for line := range strings.Lines(initramfsFile(t, esp, initramfs.ModulesList)) {
			got[strings.TrimSuffix(line, ".ko\n")] = true
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: other modules than modprobe's (-modprobe +ours):\n%s", name, diff)
		}
	}
}

// initramfsFile returns the content of a file of the initramfs.
func initramfsFile(t *testing.T, esp *boot.ESP, name string) string {
	t.Helper()
	r := cpio.NewReader(esp.Tree.Lookup("test/" + esp.KernelVersion + "/initrd.img").Content())
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			t.Fatalf("the initramfs has no %s", name)
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Name == name {
			data := filetest.ReadAll(t, r)
			return string(data)
		}
	}
}

// makeDisk writes a bootable disk.
func makeDisk(t *testing.T, root *tree.Tree, to string) *boot.ESP {
	t.Helper()
	layout, err := disk.NewLayout(512 << 20)
	if err != nil {
		t.Fatal(err)
	}
	guids := disk.NewGUIDs([]byte("boot test"))
	esp, err := boot.Plan(boot.Config{
		Arch: arch.AMD64, Root: root, Init: filetest.Read(t, goprogram.Build(t, "init", "../../cmd/init", "amd64", "-ldflags=-s -w -buildid=")), Modules: []string{"virtio_scsi", "sd_mod", "nvme", "virtio_pci"},
		// no_timer_check: under TCG on a busy host the kernel may miss its timer in its own test and panic.
		Arguments: []string{"console=ttyS0,38400n8d", "panic=3", "no_timer_check"}, RootGUID: guids.Root.String(), Name: "test", Title: "A test", Epoch: testEpoch,
	})
	if err != nil {
		t.Fatal(err)
	}
	espList, err := fat.Plan(esp.Tree, fat.Options{
		Size: layout.ESP.Length, HiddenSectors: uint32(layout.ESP.Start / 512), VolumeID: 1, Label: "ESP", Epoch: time.Unix(testEpoch, 0),
	})
	if err != nil {
		t.Fatal(err)
	}
	list, err := disk.Plan(disk.Config{
		Layout: layout, GUIDs: guids, Arch: "amd64", ESPList: espList,
		RootList: extent.List{Size: layout.Root.Length, Extents: smallRoot(t)},
	})
	if err != nil {
		t.Fatal(err)
	}
	f := filetest.Create(t, to)
	if err := f.Truncate(list.Size); err != nil {
		t.Fatal(err)
	}
	for _, e := range list.Extents {
		if _, err := io.Copy(io.NewOffsetWriter(f, e.Offset), e.Blob.Section(e.BlobOffset, e.Length)); err != nil {
			t.Fatal(err)
		}
	}
	return esp
}

// smallRoot is an ext4 with an init, made by mke2fs.
func smallRoot(t *testing.T) []extent.Extent {
	t.Helper()
	dir, image := t.TempDir(), filepath.Join(t.TempDir(), "root.ext4")
	for _, d := range []string{"dev", "proc", "sys", "usr/lib/systemd", "usr/sbin"} {
		filetest.Mkdir(t, filepath.Join(dir, d))
	}
	filetest.Script(t, filepath.Join(dir, "usr/lib/systemd/systemd"), string(filetest.Read(t, goprogram.Build(t, "guest", "testdata/guest", "amd64"))))
	for link, to := range map[string]string{"sbin": "usr/sbin", "lib": "usr/lib", "usr/sbin/init": "/lib/systemd/systemd"} {
		filetest.Link(t, to, filepath.Join(dir, link))
	}
	if out, err := exec.Command("mke2fs", "-q", "-t", "ext4", "-d", dir, image, "32M").CombinedOutput(); err != nil {
		t.Fatalf("mke2fs: %v\n%s", err, out)
	}
	data := filetest.Read(t, image)
	return []extent.Extent{{Length: int64(len(data)), Blob: tree.Bytes("root", data)}}
}

// firmware is how a machine is started.
type firmware int

const (
	secureBoot firmware = iota // OVMF with Microsoft's keys, enforcing
	plainUEFI
	direct // QEMU loads the kernel
)

// extract writes a file of the ESP beside the machine's other files.
func extract(t *testing.T, esp *boot.ESP, dir, name string) string {
	t.Helper()
	e := esp.Tree.Lookup("test/" + esp.KernelVersion + "/" + name)
	data := filetest.ReadAll(t, e.Content())
	filetest.Write(t, filepath.Join(dir, name), data)
	return filepath.Join(dir, name)
}

// runQEMU boots and returns what the serial console showed.
func runQEMU(t *testing.T, how firmware, esp *boot.ESP, drives map[string]string, devices []string) string {
	t.Helper()
	dir := t.TempDir()
	console := filepath.Join(dir, "console")
	args := []string{"-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "1024", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-serial", "file:" + console}
	pflash := func(code, vars string) {
		copyFile(t, "/usr/share/OVMF/"+vars, filepath.Join(dir, "vars.fd"))
		args = append(args, "-drive", "if=pflash,unit=0,format=raw,readonly=on,file=/usr/share/OVMF/"+code,
			"-drive", "if=pflash,unit=1,format=raw,file="+filepath.Join(dir, "vars.fd"))
	}
	switch how {
	case secureBoot:
		args = append(args, "-machine", "q35,smm=on", "-global", "driver=cfi.pflash01,property=secure,value=on")
		pflash("OVMF_CODE_4M.secboot.fd", "OVMF_VARS_4M.ms.fd")
	case plainUEFI:
		args = append(args, "-machine", "q35")
		pflash("OVMF_CODE_4M.fd", "OVMF_VARS_4M.fd")
	case direct:
		args = append(args, "-machine", "q35", "-append", esp.CommandLine,
			"-kernel", extract(t, esp, dir, "linux"), "-initrd", extract(t, esp, dir, "initrd.img"))
	}
	for _, id := range []string{"a", "b"} {
		if file := drives[id]; file != "" && strings.Contains(strings.Join(devices, " "), "drive="+id) {
			args = append(args, "-drive", "if=none,format=raw,id="+id+",file="+file)
		}
	}
	for _, d := range devices {
		args = append(args, "-device", d)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	began := time.Now()
	out, err := exec.CommandContext(ctx, "qemu-system-x86_64", args...).CombinedOutput()
	text, _ := os.ReadFile(console)
	t.Logf("qemu-system-x86_64 %s\n%.1f s", strings.Join(args, " "), time.Since(began).Seconds())
	if err != nil {
		t.Errorf("QEMU: %v\n%s", err, out)
	}
	return string(bytes.ReplaceAll(text, []byte("\r"), nil))
}

// interesting leaves out what the firmware draws and most of the kernel's lines
// before it starts init.
func interesting(console string) string {
	var b strings.Builder
	started := false
	for line := range strings.Lines(console) {
		started = started || strings.Contains(line, "Run /init")
		if started || regexp.MustCompile(`initramfs:|guest:|secureboot|ecure boot|ockdown|EXT4|rror|panic|reboot`).MatchString(line) {
			fmt.Fprint(&b, line)
		}
	}
	return b.String()
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	if out, err := exec.Command("cp", "--sparse=always", "--no-preserve=mode", from, to).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v\n%s", err, out)
	}
}
