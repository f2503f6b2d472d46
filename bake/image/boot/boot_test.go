package boot

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/bake/arch"
	"github.com/nodebake/bake/bake/image/cpio"
	"github.com/nodebake/bake/bake/inspect/inspecttest"
	"github.com/nodebake/bake/bake/tree"
	"github.com/nodebake/bake/bake/tree/treetest"
	"github.com/nodebake/bake/test/archivetest"
	"github.com/nodebake/bake/test/filetest"
)

const version = "6.12.1-cloud-amd64"

const magic = "vermagic=" + version + " SMP preempt mod_unload modversions "

// rootFiles are the files of a root that boots, by path.
func rootFiles(t testing.TB) map[string][]byte {
	const k = "usr/lib/modules/" + version + "/kernel/"
	return map[string][]byte{
		"usr/lib/shim/shimx64.efi.signed":                     []byte("shim"),
		"usr/lib/shim/mmx64.efi.signed":                       []byte("MokManager"),
		"usr/lib/systemd/boot/efi/systemd-bootx64.efi.signed": []byte("systemd-boot"),
		"boot/vmlinuz-" + version:                             []byte("kernel"),
		"usr/lib/modules/" + version + "/modules.builtin":     []byte("kernel/fs/ext4/ext4.ko\nkernel/drivers/nvme/host/nvme.ko\nkernel/drivers/virtio/virtio-pci.ko\n"),
		k + "drivers/scsi/virtio_scsi.ko.xz":                  archivetest.XZ(inspecttest.Module(magic, "depends=scsi_mod,virtio-pci")),
		k + "drivers/scsi/sd_mod.ko.xz":                       archivetest.XZ(inspecttest.Module(magic, "depends=scsi_mod,scsi-common", "softdep=pre: crc64 missing post: later")),
		k + "drivers/scsi/scsi_mod.ko.xz":                     archivetest.XZ(inspecttest.Module(magic, "depends=scsi-common")),
		k + "drivers/scsi/scsi_common.ko.xz":                  archivetest.XZ(inspecttest.Module(magic, "depends=")),
		k + "lib/crc64.ko":                                    inspecttest.Module(magic, "depends="),
		k + "lib/later.ko":                                    inspecttest.Module(magic, "depends="),
		k + "fs/efivarfs/efivarfs.ko":                         inspecttest.Module(magic, "depends="),
	}
}

func makeTree(t testing.TB, files map[string][]byte) *tree.Tree {
	t.Helper()
	entries := []tree.Entry{directory(".")}
	for path, content := range files {
		entries = append(entries, textEntry(path, 0o644, content))
	}
	tr, err := withParents(entries)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func config(t testing.TB, files map[string][]byte) Config {
	return Config{
		Arch: arch.AMD64, Root: makeTree(t, files), Init: []byte("the init program"),
		Modules: []string{"virtio_scsi", "sd_mod", "nvme"}, Arguments: []string{"console=ttyS0,38400n8d", "audit=0"},
		RootGUID: "0a0b0c0d-0000-8000-8000-000000000001", Name: "k8s-worker", Title: "Kubernetes worker v1.36.3", Epoch: 1761998400,
	}
}

func TestPlan(t *testing.T) {
	esp, err := Plan(config(t, rootFiles(t)))
	if err != nil {
		t.Fatalf("Plan() = %v", err)
	}
	var paths []string
	for _, e := range esp.Tree.Entries {
		if e.Type == tree.File {
			paths = append(paths, e.Path)
		}
	}
	if diff := cmp.Diff([]string{
		"EFI/BOOT/BOOTX64.EFI", "EFI/BOOT/grubx64.efi", "EFI/BOOT/mmx64.efi",
		"k8s-worker/" + version + "/initrd.img", "k8s-worker/" + version + "/linux",
		"loader/entries/k8s-worker-" + version + ".conf", "loader/loader.conf",
	}, paths); diff != "" {
		t.Errorf("files of the ESP (-want +got):\n%s", diff)
	}
	for path, want := range map[string]string{
		"EFI/BOOT/BOOTX64.EFI":             "shim",
		"EFI/BOOT/grubx64.efi":             "systemd-boot",
		"k8s-worker/" + version + "/linux": "kernel",
		"loader/entries/k8s-worker-" + version + ".conf": `title      Kubernetes worker v1.36.3
sort-key   k8s-worker
version    6.12.1-cloud-amd64
linux      /k8s-worker/6.12.1-cloud-amd64/linux
initrd     /k8s-worker/6.12.1-cloud-amd64/initrd.img
options    root=PARTUUID=0a0b0c0d-0000-8000-8000-000000000001 console=ttyS0,38400n8d audit=0
`,
	} {
		if got := treetest.Text(t, esp.Tree, path); got != want {
			t.Errorf("%s = %q; want %q", path, got, want)
		}
	}
	if esp.KernelVersion != version || esp.CommandLine != "root=PARTUUID=0a0b0c0d-0000-8000-8000-000000000001 console=ttyS0,38400n8d audit=0" {
		t.Errorf("Plan() = %+v", esp)
	}
	again, err := Plan(config(t, rootFiles(t)))
	if err != nil {
		t.Fatal(err)
	}
	if treetest.Text(t, esp.Tree, "k8s-worker/"+version+"/initrd.img") != treetest.Text(t, again.Tree, "k8s-worker/"+version+"/initrd.img") {
		t.Error("two initramfs of the same files differ")
	}
}

func TestInitramfs(t *testing.T) {
	esp, err := Plan(config(t, rootFiles(t)))
	if err != nil {
		t.Fatal(err)
	}
	r := cpio.NewReader(strings.NewReader(treetest.Text(t, esp.Tree, "k8s-worker/"+version+"/initrd.img")))
	got := map[string]string{}
	for {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		data := filetest.ReadAll(t, r)
		what := fmt.Sprintf("%o", h.Mode)
		if strings.HasSuffix(h.Name, ".ko") {
			what += " " + string(data[:4])
		} else if len(data) > 0 {
			what += " " + string(data)
		}
		got[h.Name] = what
	}
	want := map[string]string{
		".": "40755", "dev": "40755", "proc": "40755", "sys": "40755", "sysroot": "40755", "modules": "40755",
		"init":                   "100755 the init program",
		"modules/order":          "100644 scsi_common.ko\nscsi_mod.ko\nvirtio_scsi.ko\ncrc64.ko\nsd_mod.ko\nefivarfs.ko\n",
		"modules/scsi_common.ko": "100644 \x7fELF", "modules/scsi_mod.ko": "100644 \x7fELF", "modules/virtio_scsi.ko": "100644 \x7fELF",
		"modules/crc64.ko": "100644 \x7fELF", "modules/sd_mod.ko": "100644 \x7fELF", "modules/efivarfs.ko": "100644 \x7fELF",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the initramfs (-want +got):\n%s", diff)
	}
}

func TestARM64(t *testing.T) {
	files := map[string][]byte{}
	for path, content := range rootFiles(t) {
		files[strings.Replace(path, "x64.efi", "aa64.efi", 1)] = content
	}
	delete(files, "usr/lib/shim/mmaa64.efi.signed") // not needed
	c := config(t, files)
	c.Arch = arch.ARM64
	esp, err := Plan(c)
	if err != nil {
		t.Fatalf("Plan() = %v", err)
	}
	for _, path := range []string{"EFI/BOOT/BOOTAA64.EFI", "EFI/BOOT/grubaa64.efi"} {
		if esp.Tree.Lookup(path) == nil {
			t.Errorf("there is no %s", path)
		}
	}
}

// TestBookworm has modules outside of /usr.
func TestBookworm(t *testing.T) {
	files := map[string][]byte{}
	for path, content := range rootFiles(t) {
		files[strings.Replace(path, "usr/lib/modules", "lib/modules", 1)] = content
	}
	if _, err := Plan(config(t, files)); err != nil {
		t.Errorf("Plan() = %v", err)
	}
}

// TestLinks has kernel, boot loaders and modules under names that are links.
func TestLinks(t *testing.T) {
	plain, err := Plan(config(t, rootFiles(t)))
	if err != nil {
		t.Fatal(err)
	}
	for _, typ := range []tree.Type{tree.Hardlink, tree.Symlink} {
		c := config(t, rootFiles(t))
		var entries []tree.Entry
		for _, e := range c.Root.Entries {
			if e.Type == tree.File {
				link := tree.Entry{Path: e.Path, Type: typ, Link: "aside/" + e.Path}
				e.Path = link.Link
				if typ == tree.Symlink {
					link.Link = "/" + link.Link
				}
				entries = append(entries, link)
			}
			if e.Type == tree.File || e.Path == "." {
				entries = append(entries, e)
			}
		}
		if c.Root, err = withParents(entries); err != nil {
			t.Fatal(err)
		}
		linked, err := Plan(c)
		if err != nil {
			t.Errorf("Plan() of a root of %ss = %v", typ, err)
			continue
		}
		for _, e := range plain.Tree.Entries {
			if e.Type == tree.File && treetest.Text(t, linked.Tree, e.Path) != treetest.Text(t, plain.Tree, e.Path) {
				t.Errorf("%s: %s differs", typ, e.Path)
			}
		}
	}
}

func TestPlanRefuses(t *testing.T) {
	const scsi = "usr/lib/modules/" + version + "/kernel/drivers/scsi/"
	for _, tt := range []struct {
		name   string
		change func(map[string][]byte, *Config)
		want   string
	}{
		{"no shim", func(f map[string][]byte, _ *Config) { delete(f, "usr/lib/shim/shimx64.efi.signed") }, "add the package shim-signed"},
		{"no systemd-boot", func(f map[string][]byte, _ *Config) {
			delete(f, "usr/lib/systemd/boot/efi/systemd-bootx64.efi.signed")
		}, "add the package systemd-boot-efi-amd64-signed"},
		{"no kernel", func(f map[string][]byte, _ *Config) { delete(f, "boot/vmlinuz-"+version) }, "add a linux-image package"},
		{"two kernels", func(f map[string][]byte, _ *Config) { f["boot/vmlinuz-6.1"] = []byte("x") }, "two kernels"},
		{"no modules.builtin", func(f map[string][]byte, _ *Config) { delete(f, "usr/lib/modules/"+version+"/modules.builtin") }, "modules.builtin"},
		{"unknown module", func(_ map[string][]byte, c *Config) { c.Modules = []string{"floppy"} }, "no module floppy, neither as a file nor built in (the image definition names it)"},
		{"missing dependency", func(f map[string][]byte, _ *Config) { delete(f, scsi+"scsi_common.ko.xz") }, "scsi_common, neither as a file nor built in (scsi_mod depends on it)"},
		{"loop", func(f map[string][]byte, _ *Config) {
			f[scsi+"scsi_common.ko.xz"] = archivetest.XZ(inspecttest.Module(magic, "depends=sd_mod,virtio_scsi"))
		}, "depends on itself"},
		{"other kernel's module", func(f map[string][]byte, _ *Config) {
			f[scsi+"scsi_common.ko.xz"] = archivetest.XZ(inspecttest.Module("vermagic=6.1 SMP"))
		}, `for kernel "6.1"`},
		{"not ELF", func(f map[string][]byte, _ *Config) { f[scsi+"scsi_common.ko.xz"] = archivetest.XZ([]byte("junk")) }, "scsi_common.ko.xz: "},
		{"not xz", func(f map[string][]byte, _ *Config) { f[scsi+"scsi_common.ko.xz"] = []byte("junk") }, "scsi_common.ko.xz: "},
		{"zstd", func(f map[string][]byte, _ *Config) {
			f[scsi+"scsi_common.ko.zst"] = []byte("junk")
			delete(f, scsi+"scsi_common.ko.xz")
		}, "compression .zst is not supported"},
		{"architecture", func(_ map[string][]byte, c *Config) { c.Arch = "vax" }, `architecture "vax"`},
		{"root argument", func(_ map[string][]byte, c *Config) { c.Arguments = []string{"root=/dev/sda"} }, "root=/dev/sda"},
		{"line break in an argument", func(_ map[string][]byte, c *Config) { c.Arguments = []string{"a\nlinux /evil"} }, "line break"},
		{"name", func(_ map[string][]byte, c *Config) { c.Name = "../x" }, `"../x"`},
		{"title", func(_ map[string][]byte, c *Config) { c.Title = "a\nb" }, "line"},
		{"no GUID", func(_ map[string][]byte, c *Config) { c.RootGUID = "" }, "GUID"},
		{"no init", func(_ map[string][]byte, c *Config) { c.Init = nil }, "init"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			files := rootFiles(t)
			c := config(t, files)
			tt.change(files, &c)
			c.Root = makeTree(t, files)
			if _, err := Plan(c); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Plan() = %v; want an error with %q", err, tt.want)
			}
		})
	}
}

// TestKey keeps the promise that the initramfs can be cached: equal inputs
// have equal keys, all others another, and none is read for it.
func TestKey(t *testing.T) {
	key := func(change func(map[string][]byte, *Config)) string {
		files := rootFiles(t)
		c := config(t, files)
		if change != nil {
			change(files, &c)
			c.Root = makeTree(t, files)
		}
		for i := range c.Root.Entries {
			c.Root.Entries[i].Blob = nil // reading would panic
		}
		var got string
		stop := errors.New("stop")
		c.Derive = func(key string, _ func(*tree.PackWriter) error) (*tree.Pack, error) {
			got = key
			return nil, stop
		}
		if _, err := Plan(c); !errors.Is(err, stop) {
			t.Fatalf("Plan() = %v; want Derive's error", err)
		}
		return got
	}
	same := key(nil)
	for name, tt := range map[string]struct {
		equal  bool
		change func(map[string][]byte, *Config)
	}{
		"nothing":   {true, nil},
		"shim":      {true, func(f map[string][]byte, _ *Config) { f["usr/lib/shim/shimx64.efi.signed"] = []byte("new") }},
		"arguments": {true, func(_ map[string][]byte, c *Config) { c.Arguments = nil }},
		"init":      {false, func(_ map[string][]byte, c *Config) { c.Init = []byte("another") }},
		"modules":   {false, func(_ map[string][]byte, c *Config) { c.Modules = c.Modules[1:] }},
		"epoch":     {false, func(_ map[string][]byte, c *Config) { c.Epoch++ }},
		"a module": {false, func(f map[string][]byte, _ *Config) {
			f["usr/lib/modules/"+version+"/kernel/lib/crc64.ko"] = inspecttest.Module(magic)
		}},
		"built-in ones":  {false, func(f map[string][]byte, _ *Config) { f["usr/lib/modules/"+version+"/modules.builtin"] = nil }},
		"order of names": {false, func(_ map[string][]byte, c *Config) { c.Modules = []string{"sd_mod", "virtio_scsi", "nvme"} }},
	} {
		if got := key(tt.change); (got == same) != tt.equal {
			t.Errorf("%s: key equal %v; want %v", name, got == same, tt.equal)
		}
	}
}

func FuzzParseModinfo(f *testing.F) {
	f.Add(inspecttest.Module(magic, "depends=a,b", "softdep=pre: c post: d", "alias=x"))
	f.Add([]byte("\x7fELF\x02\x01\x01"))
	f.Fuzz(func(t *testing.T, data []byte) { _, _ = parseModinfo(data) })
}
