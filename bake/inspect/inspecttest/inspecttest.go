// Package inspecttest makes small images for tests: a disk of 1 GiB that holds to
// every rule of package lint, and that a test can break at one place.
//
// Its programs are headers of programs, so that nothing of it boots.
package inspecttest

import (
	"bytes"
	"crypto/sha256"
	"debug/elf"
	"debug/pe"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nodebake/bake/bake/arch"
	"github.com/nodebake/bake/bake/image/archive"
	"github.com/nodebake/bake/bake/image/cpio"
	"github.com/nodebake/bake/bake/image/ext4"
	"github.com/nodebake/bake/bake/image/extent"
	"github.com/nodebake/bake/bake/image/fat"
	"github.com/nodebake/bake/bake/image/gpt"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/record"
	"github.com/nodebake/bake/bake/sbom"
	"github.com/nodebake/bake/bake/sbom/spdx"
	"github.com/nodebake/bake/bake/tree"
)

// Sizes in bytes.
const (
	MiB = 1 << 20
	GiB = 1 << 30
)

// Image is a small image that holds to every rule, until a test changes it.
type Image struct {
	Name string // of the file
	Arch arch.Arch
	Size int64 // of the disk
	More int64 // bytes that the disk has grown by since

	Root     map[string]tree.Entry
	ESP      map[string]tree.Entry
	Initrd   map[string]tree.Entry
	Packages []record.Package
	Parts    []gpt.Partition

	Tamper func(*record.Record)                    // changes the record that the image holds
	Patch  func(disk io.ReaderAt) map[int64][]byte // changes bytes of the disk, by offset

	machine elf.Machine
}

// KernelVersion is that of every image's kernel.
const KernelVersion = "6.12.1-cloud"

// RootGUID returns the GUID of every image's root partition.
func RootGUID() gpt.GUID { return gpt.Derive(nil, "root") }

// StatusPath is dpkg's database of packages (dpkg(1), FILES).
const StatusPath = "var/lib/dpkg/status"

// New returns an image for amd64 that holds to every rule.
func New() *Image { return For(arch.AMD64) }

// For returns an image for arch that holds to every rule.
func For(arch arch.Arch) *Image {
	facts := arch.Facts()
	w := &Image{
		Name: "k8s-worker-v1-36-3-" + string(arch) + ".tar.gz", Arch: arch, Size: GiB, machine: facts.ELF,
		Root:   map[string]tree.Entry{".": {Path: ".", Type: tree.Dir, Perm: 0o755}},
		ESP:    map[string]tree.Entry{".": {Path: ".", Type: tree.Dir, Perm: 0o755}},
		Initrd: map[string]tree.Entry{".": {Path: ".", Type: tree.Dir, Perm: 0o755}},
		Packages: []record.Package{
			{Name: "base-files", Version: "13.8", Arch: "amd64", Suite: "trixie"},
			{Name: "libc6", Version: "2.41-12", Arch: "amd64", Suite: "trixie-security"},
		},
	}
	rootType, _ := gpt.RootType(string(arch))
	w.Parts = []gpt.Partition{
		{Type: gpt.ESPType(), GUID: gpt.Derive(nil, "esp"), Start: MiB, Length: 64 * MiB, Name: "esp"},
		{Type: rootType, GUID: RootGUID(), Start: 65 * MiB, Length: 512 * MiB, Name: "root", Attributes: gpt.GrowFileSystem},
	}

	w.Dir("tmp", 0o1777)
	w.Dir("home", 0o755)
	w.Dir("root", 0o700)
	w.Dir("var/lib/apt/lists/partial", 0o700)
	w.Link("bin", "usr/bin")
	w.Text("etc/passwd", "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n")
	w.Text("etc/group", "root:x:0:\nnogroup:x:65534:\n")
	w.Text("etc/shadow", "root:*:19000:0:99999:7:::\nnobody:!*:19000::::::\n")
	w.Text("etc/gshadow", "root:*::\nnogroup:*::\n")
	w.Text("etc/machine-id", "")
	w.Link("etc/os-release", "../usr/lib/os-release")
	w.Text("usr/lib/os-release", "ID=debian\nIMAGE_ID=\"k8s-worker\"\nIMAGE_VERSION=\"v1.36.3\"\n")
	w.Text("etc/hosts", "127.0.0.1 localhost\n169.254.169.254 metadata.google.internal metadata # Google\n")
	w.Text("etc/nsswitch.conf", "hosts: files dns\n")
	w.Text("etc/fstab", "# the root\n/dev/root / ext4 rw,x-systemd.growfs 0 0\ntmpfs /mnt/ram tmpfs size=1M 0 0\n")
	w.Text("etc/repart.d/50-root.conf", "[Partition]\nType=root\n")
	w.Program("usr/bin/systemd-repart")
	w.Text("etc/chrony/chrony.conf", "# time\nserver metadata.google.internal iburst\nconfdir /etc/chrony/conf.d\nsourcedir /run/chrony-dhcp /etc/chrony/sources.d\n")
	w.Dir("etc/chrony/sources.d", 0o755)
	w.Text("etc/systemd/network/50-dhcp.network", "[Match]\nName=en* eth*\nType=ether\nKind=!*\n[Network]\nDHCP=yes\n[DHCPv4]\nUseMTU=yes\n")
	w.Text("usr/lib/systemd/network/80-container-host0.network", "[Match]\nName=host0\nVirtualization=container\n[Network]\nDHCP=yes\n")
	w.Text("etc/systemd/system-preset/00-bake.preset", "# nothing\ndisable *\n")
	w.Text("usr/lib/systemd/system-preset/90-systemd.preset", "enable systemd-networkd.service\ndisable *\n")
	w.Text("etc/systemd/journald.conf.d/50-bake.conf", "[Journal]\nSystemMaxUse=512M\n")
	w.Text("etc/sysctl.d/90-kubernetes.conf", "net.ipv4.ip_forward = 1\nnet/bridge/bridge-nf-call-iptables=1\n-net.bridge.bridge-nf-call-ip6tables = 1\n")
	w.Text("etc/sysctl.d/80-node.conf", "vm.overcommit_memory = 1\nvm.panic_on_oom = 0\nkernel.panic = 10\nkernel.panic_on_oops = 1\nkernel.keys.root_maxkeys = 1000000\nkernel.keys.root_maxbytes = 25000000\n"+
		"net.ipv4.conf.*.send_redirects = 0\nkernel.kptr_restrict = 1\nkernel.yama.ptrace_scope = 1\nnet.core.bpf_jit_harden = 1\nfs.protected_fifos = 1\nfs.protected_regular = 2\n")
	w.Text("etc/modules-load.d/kubernetes.conf", "overlay\nbr_netfilter\n")
	w.Program("usr/sbin/sshd")
	w.Text("etc/ssh/sshd_config", "Include /etc/ssh/sshd_config.d/*.conf\nPasswordAuthentication yes\n")
	w.Text("etc/ssh/sshd_config.d/50-bake.conf", "PasswordAuthentication no\n")

	for unit, program := range map[string]string{
		"containerd": "/bin/containerd", "kubelet": "/usr/local/bin/kubelet", "kube-proxy": "/usr/local/bin/kube-proxy",
	} {
		w.Program("usr" + strings.TrimPrefix(program, "/usr"))
		w.Text("etc/systemd/system/"+unit+".service", "[Service]\nExecStart="+program+" --config=x \\\n  --v=2\n")
	}
	for unit, program := range map[string]string{
		"chrony": "usr/sbin/chronyd", "google-guest-agent": "usr/bin/google_guest_agent",
		"systemd-networkd": "usr/lib/systemd/systemd-networkd", "firstboot": record.FirstbootPath,
	} {
		w.Program(program)
		w.Text("usr/lib/systemd/system/"+unit+".service", "[Service]\nExecStart=!!/"+program+" $OPTS\n")
		w.Link("etc/systemd/system/multi-user.target.wants/"+unit+".service", "/usr/lib/systemd/system/"+unit+".service")
	}
	for _, program := range []string{
		"usr/local/bin/runc", "usr/bin/containerd-shim-runc-v2", "usr/local/bin/crictl", "usr/local/bin/kubectl",
		"opt/cni/bin/bridge", "opt/cni/bin/host-local", "opt/cni/bin/loopback", "usr/bin/socat", "usr/sbin/conntrack", "usr/sbin/ipset",
	} {
		w.Program(program)
	}
	for _, masked := range []string{"systemd-firstboot", "systemd-networkd-wait-online"} {
		w.Text("usr/lib/systemd/system/"+masked+".service", "[Service]\nExecStart=/bin/false\n")
		w.Link("etc/systemd/system/"+masked+".service", "/dev/null")
	}

	modules := "usr/lib/modules/" + KernelVersion + "/"
	w.Text(modules+"modules.builtin", "kernel/fs/ext4/ext4.ko\nkernel/drivers/nvme/host/nvme.ko\nkernel/drivers/virtio/virtio_pci.ko\n")
	w.Text(modules+"modules.dep", strings.Join([]string{
		"kernel/scsi_mod.ko.xz:", "kernel/virtio_scsi.ko.xz: kernel/scsi_mod.ko.xz", "kernel/sd_mod.ko.xz: kernel/scsi_mod.ko.xz",
		"kernel/failover.ko.xz:", "kernel/virtio_net.ko.xz: kernel/failover.ko.xz", "kernel/gve.ko.xz:", "kernel/idpf.ko.xz:",
		"kernel/overlay.ko.xz:", "kernel/br_netfilter.ko.xz:", "kernel/sev-guest.ko.xz:", "kernel/tdx-guest.ko.xz:", "",
	}, "\n"))
	for _, name := range []string{"scsi_mod", "virtio_scsi", "sd_mod", "failover", "virtio_net", "gve", "idpf", "overlay", "br_netfilter", "sev-guest", "tdx-guest"} {
		w.Text(modules+"kernel/"+name+".ko.xz", "module "+name)
	}
	w.Text("boot/config-"+KernelVersion, "# CONFIG_X is not set\nCONFIG_AMD_MEM_ENCRYPT=y\nCONFIG_INTEL_TDX_GUEST=y\n")

	for _, name := range []string{"scsi_mod", "virtio_scsi", "sd_mod"} {
		w.Initrd["modules/"+name+".ko"] = File("modules/"+name+".ko", 0o644, "module "+name)
	}
	w.Initrd["init"] = File("init", 0o755, ELF(facts.ELF))
	for _, p := range []string{"EFI/BOOT/" + facts.BootLoader(), "EFI/BOOT/grub" + facts.EFI + ".efi", "k8s-worker/" + KernelVersion + "/linux"} {
		w.ESP[p] = File(p, 0o644, PE(facts.PE, true))
	}
	w.LoaderEntry("root=PARTUUID=" + RootGUID().String() + " console=ttyS0,38400n8d audit=0")
	return w
}

// LoaderEntry sets the loader entry, with the kernel arguments options.
func (w *Image) LoaderEntry(options string) {
	dir := "/k8s-worker/" + KernelVersion
	w.ESPText("loader/entries/k8s-worker.conf", "title x\nversion "+KernelVersion+"\nlinux "+dir+"/linux\ninitrd "+dir+"/initrd.img\noptions "+options+"\n")
}

// File is an entry with content.
func File(p string, perm uint16, content string) tree.Entry {
	return tree.Entry{
		Path: p, Type: tree.File, Perm: perm, Size: int64(len(content)),
		SHA256: sha256.Sum256([]byte(content)), Blob: tree.Bytes(p, []byte(content)),
	}
}

// Text sets the file at p of the root, readable by all.
func (w *Image) Text(p, content string) { w.Root[p] = File(p, 0o644, content) }

// Program sets the file at p of the root to a program of its own.
func (w *Image) Program(p string) { w.Root[p] = File(p, 0o755, ELF(w.machine)+p) }

// Dir sets the directory at p of the root.
func (w *Image) Dir(p string, perm uint16) {
	w.Root[p] = tree.Entry{Path: p, Type: tree.Dir, Perm: perm}
}

// Link sets the symbolic link at p of the root.
func (w *Image) Link(p, to string) {
	w.Root[p] = tree.Entry{Path: p, Type: tree.Symlink, Perm: 0o777, Link: to}
}

// Change changes the file at p of the root, which must be there.
func (w *Image) Change(p string, f func(e *tree.Entry)) {
	e, ok := w.Root[p]
	if !ok {
		panic("BUG: the image has no " + p)
	}
	f(&e)
	w.Root[p] = e
}

// ESPText sets the file at p of the EFI system partition.
func (w *Image) ESPText(p, content string) { w.ESP[p] = File(p, 0o644, content) }

// ELF is the shortest program: a header.
func ELF(machine elf.Machine) string {
	h := elf.Header64{
		Type: uint16(elf.ET_EXEC), Machine: uint16(machine), Version: 1, Ehsize: 64, Phoff: 64, Phentsize: 56, Phnum: 1, Shentsize: 64,
	}
	copy(h.Ident[:], "\x7fELF\x02\x01\x01")
	var b bytes.Buffer
	write(&b, h)
	write(&b, elf.Prog64{Type: uint32(elf.PT_LOAD)})
	return b.String()
}

// Module makes a kernel module that has nothing but its .modinfo.
func Module(fields ...string) []byte {
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
		write(&b, v)
	}
	return b.Bytes()
}

// GoProgram is the shortest program with what Go's linker writes about its build
// (package debug/buildinfo): its main package is that of the module, at version.
func GoProgram(machine elf.Machine, module, version string) string {
	const frame = "0123456789abcdef" // before and after what describes the modules
	about := frame + "path\t" + module + "\nmod\t" + module + "\t" + version + "\t\n" + frame
	info := append([]byte("\xff Go buildinf:\x08\x02"), make([]byte, 16)...)
	for _, s := range []string{"go1.26.8", about} {
		info = append(binary.AppendUvarint(info, uint64(len(s))), s...)
	}
	h := elf.Header64{
		Type: uint16(elf.ET_EXEC), Machine: uint16(machine), Version: 1, Ehsize: 64, Phoff: 64, Phentsize: 56, Phnum: 1, Shentsize: 64,
	}
	copy(h.Ident[:], "\x7fELF\x02\x01\x01")
	var b bytes.Buffer
	write(&b, h)
	write(&b, elf.Prog64{
		Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_W), Off: 120, Vaddr: 0x1000, Filesz: uint64(len(info)), Memsz: uint64(len(info)),
	})
	return b.String() + string(info)
}

// PE is the shortest EFI program: headers.
func PE(machine uint16, signed bool) string {
	var b bytes.Buffer
	dos := make([]byte, 64)
	copy(dos, "MZ")
	dos[0x3c] = 64
	b.Write(dos)
	b.WriteString("PE\x00\x00")
	o := pe.OptionalHeader64{Magic: 0x20b, NumberOfRvaAndSizes: 16}
	write(&b, pe.FileHeader{Machine: machine, SizeOfOptionalHeader: uint16(binary.Size(o))})
	if signed {
		o.DataDirectory[pe.IMAGE_DIRECTORY_ENTRY_SECURITY] = pe.DataDirectory{VirtualAddress: 0x200, Size: 8}
	}
	write(&b, o)
	return b.String()
}

func write(b *bytes.Buffer, v any) {
	if err := binary.Write(b, binary.LittleEndian, v); err != nil {
		panic(err)
	}
}

// Tree makes a tree of entries and the directories above them.
func Tree(entries map[string]tree.Entry) (*tree.Tree, error) {
	all := map[string]tree.Entry{}
	for p, e := range entries {
		all[p] = e
		for dir := path.Dir(p); ; dir = path.Dir(dir) {
			if _, ok := entries[dir]; ok {
				break
			}
			all[dir] = tree.Entry{Path: dir, Type: tree.Dir, Perm: 0o755}
		}
	}
	return tree.New(slices.Collect(maps.Values(all)))
}

// Record is what bake would have recorded.
func (w *Image) Record() *record.Record {
	r := &record.Record{
		Schema: record.Schema, Name: "k8s-worker-v1-36-3-" + string(w.Arch), Arch: w.Arch,
		KernelArguments: []string{"console=ttyS0,38400n8d", "audit=0"}, Packages: w.Packages,
		Node: record.Node{RuntimeType: "io.containerd.runc.v2", CgroupDriver: "systemd"},
		Inputs: record.Inputs{
			Versions: sum("versions"), Lock: sum("lock"), Definition: sum("definition"), Units: sum("units"),
			Programs: map[string]manifest.Digest{},
		},
	}
	for name, e := range map[string]tree.Entry{"firstboot": w.Root[record.FirstbootPath], "init": w.Initrd["init"]} {
		if e.Path != "" {
			r.Inputs.Programs[name] = manifest.SHA256(e.SHA256)
		}
	}
	for name, p := range map[string]string{"kubelet": "usr/local/bin/kubelet", "containerd": "usr/bin/containerd"} {
		if e := w.Root[p]; e.Path != "" {
			p = strings.TrimPrefix(p, "usr/bin/") // through the link
			if !strings.HasPrefix(p, "usr") {
				p = "bin/" + p
			}
			r.Components = append(r.Components, record.Component{
				Name: name, Version: "v1", Origin: "source", Toolchain: "go1.26.8, cc 12", From: "example.com/" + name + "@v1", Files: []record.Program{{Path: "/" + p, SHA256: e.SHA256.String()}},
			})
		}
	}
	slices.SortFunc(r.Components, func(a, b record.Component) int { return strings.Compare(a.Name, b.Name) })
	return r
}

func sum(s string) manifest.Digest { return manifest.SHA256(sha256.Sum256([]byte(s))) }

// List lays out the disk. It adds the record, dpkg's database and the initramfs
// where the test has not.
func (w *Image) List() (*extent.List, error) {
	if err := w.complete(); err != nil {
		return nil, err
	}
	disk, err := gpt.Plan(w.Size, gpt.Derive(nil, "disk"), w.Parts)
	if err != nil {
		return nil, err
	}
	for _, p := range w.Parts {
		var l extent.List
		switch {
		case p.Type == gpt.ESPType():
			files, err := Tree(w.ESP)
			if err != nil {
				return nil, err
			}
			if l, err = fat.Plan(files, fat.Options{Size: p.Length, Epoch: time.Unix(1e9, 0)}); err != nil {
				return nil, err
			}
		case p.Name == "root":
			files, err := Tree(w.Root)
			if err != nil {
				return nil, err
			}
			layout, err := ext4.Plan(files, ext4.Options{Size: p.Length, UUID: gpt.Derive(nil, "fs"), Epoch: 1e9})
			if err != nil {
				return nil, err
			}
			l = layout.List
		}
		disk.Insert(p.Start, l)
	}
	return &disk, nil
}

// sbom writes the SBOM of r.
func (w *Image) sbom(r *record.Record) error {
	contents := &sbom.Contents{Record: r, Components: make([]sbom.BuildInfo, len(r.Components)), Images: make([]sbom.BuildInfo, len(r.Images))}
	for _, p := range r.Packages {
		contents.Packages = append(contents.Packages, manifest.LockedPackage{Name: p.Name, Version: p.Version, Arch: p.Arch, Suite: p.Suite, SHA256: p.SHA256})
	}
	var b bytes.Buffer
	if err := spdx.Write(&b, contents); err != nil {
		return err
	}
	w.Text(record.SBOMPath, b.String())
	return nil
}

// complete adds what follows from the rest.
func (w *Image) complete() error {
	if _, ok := w.Root[record.Path]; !ok {
		r := w.Record()
		if w.Tamper != nil {
			w.Tamper(r)
		}
		var b bytes.Buffer
		if err := r.Write(&b); err != nil {
			return err
		}
		w.Text(record.Path, b.String())
		if _, ok := w.Root[record.SBOMPath]; !ok {
			if err := w.sbom(r); err != nil {
				return err
			}
		}
	}
	if _, ok := w.Root[StatusPath]; !ok {
		var b strings.Builder
		for _, p := range w.Packages {
			fmt.Fprintf(&b, "Package: %s\nStatus: install ok installed\nArchitecture: %s\nVersion: %s\nDescription: x\n y\n\n", p.Name, p.Arch, p.Version)
		}
		w.Text(StatusPath, b.String())
	}
	initrd := "k8s-worker/" + KernelVersion + "/initrd.img"
	if _, ok := w.ESP[initrd]; ok {
		return nil
	}
	files, err := Tree(w.Initrd)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if err := cpio.Write(&b, files, 1); err != nil {
		return err
	}
	w.ESPText(initrd, b.String())
	return nil
}

// Disk returns the disk, patched.
func (w *Image) Disk() (io.ReaderAt, error) {
	l, err := w.List()
	if err != nil {
		return nil, err
	}
	disk := l.Reader()
	if w.Patch == nil {
		return disk, nil
	}
	return &Patched{disk, w.Patch(disk)}, nil
}

// Patched replaces bytes of what it reads.
type Patched struct {
	io.ReaderAt
	Patches map[int64][]byte // by offset
}

// ReadAt implements io.ReaderAt.
func (p *Patched) ReadAt(b []byte, off int64) (int, error) {
	n, err := p.ReaderAt.ReadAt(b, off)
	for at, with := range p.Patches {
		for i, c := range with {
			if j := at + int64(i) - off; j >= 0 && j < int64(n) {
				b[j] = c
			}
		}
	}
	return n, err
}

// FileName is what [Image.WriteTarGz] and [Image.WriteRaw] call an image, without
// its ending.
const FileName = "k8s-worker-v1-36-3-amd64"

// WriteTarGz writes the image to dir as what Compute Engine imports, and returns its path.
func (w *Image) WriteTarGz(t testing.TB, dir string) string {
	t.Helper()
	return w.write(t, filepath.Join(dir, FileName+".tar.gz"), func(f *os.File) error {
		_, err := archive.WriteTarGz(t.Context(), f, w.MustList(t), archive.Options{})
		return err
	})
}

// WriteRaw writes the image to dir as a raw disk, and returns its path.
func (w *Image) WriteRaw(t testing.TB, dir string) string {
	t.Helper()
	return w.write(t, filepath.Join(dir, FileName+".raw"), func(f *os.File) error {
		return archive.WriteRaw(t.Context(), f, w.MustList(t), archive.Options{})
	})
}

func (w *Image) write(t testing.TB, path string, write func(f *os.File) error) string {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(write(f), f.Close()); err != nil {
		t.Fatal(err)
	}
	return path
}

// MustList is List for tests.
func (w *Image) MustList(t testing.TB) *extent.List {
	t.Helper()
	l, err := w.List()
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// MustTree is Tree for tests.
func MustTree(t testing.TB, entries map[string]tree.Entry) *tree.Tree {
	t.Helper()
	made, err := Tree(entries)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// Read returns the content of a file.
func Read(e tree.Entry) string {
	data, err := io.ReadAll(e.Content())
	if err != nil {
		panic(err)
	}
	return string(data)
}

// SumFile returns the digest of a file.
func SumFile(t testing.TB, p string) manifest.Digest {
	t.Helper()
	data, err := os.ReadFile(p)
	if err != nil {
		t.Fatal(err)
	}
	return manifest.SHA256(sha256.Sum256(data))
}

// WantEmpty fails where something was left in a directory for temporary files.
func WantEmpty(t testing.TB, dir string) {
	t.Helper()
	left, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range left {
		t.Errorf("%s was left in the directory for temporary files", e.Name())
	}
}
