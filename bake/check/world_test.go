package check

import (
	"bytes"
	"crypto/sha256"
	"debug/elf"
	"debug/pe"
	"encoding/binary"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nodebake/bake/bake/bom"
	"github.com/nodebake/bake/bake/image/cpio"
	"github.com/nodebake/bake/bake/image/ext4"
	"github.com/nodebake/bake/bake/image/extent"
	"github.com/nodebake/bake/bake/image/fat"
	"github.com/nodebake/bake/bake/image/gpt"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/tree"
)

const mib = 1 << 20

// world is a small image that holds to every rule, until a test changes it.
type world struct {
	name string // of the file
	arch manifest.Arch
	size int64 // of the disk
	more int64 // bytes that the disk has grown by since

	root     map[string]tree.Entry
	esp      map[string]tree.Entry
	initrd   map[string]tree.Entry
	packages []bom.Package
	parts    []gpt.Partition

	tamper func(*bom.Image)                        // changes the record that the image holds
	patch  func(disk io.ReaderAt) map[int64][]byte // changes bytes of the disk
}

const kernelVersion = "6.12.1-cloud"

var rootGUID = gpt.Derive(nil, "root")

func newWorld() *world {
	w := &world{
		name: "k8s-worker-v1-36-3-amd64.tar.gz", arch: "amd64", size: gib,
		root:   map[string]tree.Entry{".": {Path: ".", Type: tree.Dir, Perm: 0o755}},
		esp:    map[string]tree.Entry{".": {Path: ".", Type: tree.Dir, Perm: 0o755}},
		initrd: map[string]tree.Entry{".": {Path: ".", Type: tree.Dir, Perm: 0o755}},
		packages: []bom.Package{
			{Name: "base-files", Version: "13.8", Arch: "amd64"},
			{Name: "libc6", Version: "2.41-12", Arch: "amd64"},
		},
	}
	rootType, _ := gpt.RootType("amd64")
	w.parts = []gpt.Partition{
		{Type: gpt.ESPType(), GUID: gpt.Derive(nil, "esp"), Start: mib, Length: 64 * mib, Name: "esp"},
		{Type: rootType, GUID: rootGUID, Start: 65 * mib, Length: 512 * mib, Name: "root", Attributes: gpt.GrowFileSystem},
	}

	w.dir("tmp", 0o1777)
	w.dir("home", 0o755)
	w.dir("root", 0o700)
	w.dir("var/lib/apt/lists/partial", 0o700)
	w.link("bin", "usr/bin")
	w.text("etc/passwd", "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n")
	w.text("etc/group", "root:x:0:\nnogroup:x:65534:\n")
	w.text("etc/shadow", "root:*:19000:0:99999:7:::\nnobody:!*:19000::::::\n")
	w.text("etc/gshadow", "root:*::\nnogroup:*::\n")
	w.text("etc/machine-id", "")
	w.link("etc/os-release", "../usr/lib/os-release")
	w.text("usr/lib/os-release", "ID=debian\nIMAGE_ID=\"k8s-worker\"\nIMAGE_VERSION=\"v1.36.3\"\n")
	w.text("etc/hosts", "127.0.0.1 localhost\n169.254.169.254 metadata.google.internal metadata # Google\n")
	w.text("etc/nsswitch.conf", "hosts: files dns\n")
	w.text("etc/fstab", "# the root\n/dev/root / ext4 rw,x-systemd.growfs 0 0\ntmpfs /mnt/ram tmpfs size=1M 0 0\n")
	w.text("etc/repart.d/50-root.conf", "[Partition]\nType=root\n")
	w.program("usr/bin/systemd-repart")
	w.text("etc/chrony/chrony.conf", "# time\nserver metadata.google.internal iburst\nconfdir /etc/chrony/conf.d\nsourcedir /run/chrony-dhcp /etc/chrony/sources.d\n")
	w.dir("etc/chrony/sources.d", 0o755)
	w.text("etc/systemd/network/50-dhcp.network", "[Match]\nName=en* eth*\nType=ether\nKind=!*\n[Network]\nDHCP=yes\n[DHCPv4]\nUseMTU=yes\n")
	w.text("usr/lib/systemd/network/80-container-host0.network", "[Match]\nName=host0\nVirtualization=container\n[Network]\nDHCP=yes\n")
	w.text("etc/systemd/system-preset/00-bake.preset", "# nothing\ndisable *\n")
	w.text("usr/lib/systemd/system-preset/90-systemd.preset", "enable systemd-networkd.service\ndisable *\n")
	w.text("etc/systemd/journald.conf.d/50-bake.conf", "[Journal]\nSystemMaxUse=512M\n")
	w.text("etc/sysctl.d/90-kubernetes.conf", "net.ipv4.ip_forward = 1\nnet/bridge/bridge-nf-call-iptables=1\n-net.bridge.bridge-nf-call-ip6tables = 1\n")
	w.text("etc/modules-load.d/kubernetes.conf", "overlay\nbr_netfilter\n")
	w.program("usr/sbin/sshd")
	w.text("etc/ssh/sshd_config", "Include /etc/ssh/sshd_config.d/*.conf\nPasswordAuthentication yes\n")
	w.text("etc/ssh/sshd_config.d/50-bake.conf", "PasswordAuthentication no\n")

	for unit, program := range map[string]string{
		"containerd": "/bin/containerd", "kubelet": "/usr/local/bin/kubelet", "kube-proxy": "/usr/local/bin/kube-proxy",
	} {
		w.program("usr" + strings.TrimPrefix(program, "/usr"))
		w.text("etc/systemd/system/"+unit+".service", "[Service]\nExecStart="+program+" --config=x \\\n  --v=2\n")
	}
	for unit, program := range map[string]string{
		"chrony": "usr/sbin/chronyd", "google-guest-agent": "usr/bin/google_guest_agent",
		"systemd-networkd": "usr/lib/systemd/systemd-networkd", "firstboot": firstbootPath,
	} {
		w.program(program)
		w.text("usr/lib/systemd/system/"+unit+".service", "[Service]\nExecStart=!!/"+program+" $OPTS\n")
		w.link("etc/systemd/system/multi-user.target.wants/"+unit+".service", "/usr/lib/systemd/system/"+unit+".service")
	}
	for _, masked := range []string{"systemd-firstboot", "systemd-networkd-wait-online"} {
		w.text("usr/lib/systemd/system/"+masked+".service", "[Service]\nExecStart=/bin/false\n")
		w.link("etc/systemd/system/"+masked+".service", "/dev/null")
	}

	modules := "usr/lib/modules/" + kernelVersion + "/"
	w.text(modules+"modules.builtin", "kernel/fs/ext4/ext4.ko\nkernel/drivers/nvme/host/nvme.ko\nkernel/drivers/virtio/virtio_pci.ko\n")
	w.text(modules+"modules.dep", strings.Join([]string{
		"kernel/scsi_mod.ko.xz:", "kernel/virtio_scsi.ko.xz: kernel/scsi_mod.ko.xz", "kernel/sd_mod.ko.xz: kernel/scsi_mod.ko.xz",
		"kernel/failover.ko.xz:", "kernel/virtio_net.ko.xz: kernel/failover.ko.xz", "kernel/gve.ko.xz:", "kernel/idpf.ko.xz:",
		"kernel/overlay.ko.xz:", "kernel/br_netfilter.ko.xz:", "kernel/sev-guest.ko.xz:", "kernel/tdx-guest.ko.xz:", "",
	}, "\n"))
	for _, name := range []string{"scsi_mod", "virtio_scsi", "sd_mod", "failover", "virtio_net", "gve", "idpf", "overlay", "br_netfilter", "sev-guest", "tdx-guest"} {
		w.text(modules+"kernel/"+name+".ko.xz", "module "+name)
	}
	w.text("boot/config-"+kernelVersion, "# CONFIG_X is not set\nCONFIG_AMD_MEM_ENCRYPT=y\nCONFIG_INTEL_TDX_GUEST=y\n")

	for _, name := range []string{"scsi_mod", "virtio_scsi", "sd_mod"} {
		w.initrd["modules/"+name+".ko"] = entry("modules/"+name+".ko", 0o644, "module "+name)
	}
	w.initrd["init"] = entry("init", 0o755, elfFile(elf.EM_X86_64))
	for _, p := range []string{"EFI/BOOT/BOOTX64.EFI", "EFI/BOOT/grubx64.efi", "k8s-worker/" + kernelVersion + "/linux"} {
		w.esp[p] = entry(p, 0o644, peFile(pe.IMAGE_FILE_MACHINE_AMD64, true))
	}
	w.loaderEntry("root=PARTUUID=" + rootGUID.String() + " console=ttyS0,38400n8d audit=0")
	return w
}

func (w *world) loaderEntry(options string) {
	dir := "/k8s-worker/" + kernelVersion
	w.espText("loader/entries/k8s-worker.conf", "title x\nversion "+kernelVersion+"\nlinux "+dir+"/linux\ninitrd "+dir+"/initrd.img\noptions "+options+"\n")
}

func entry(p string, perm uint16, content string) tree.Entry {
	return tree.Entry{
		Path: p, Type: tree.File, Perm: perm, Size: int64(len(content)),
		SHA256: sha256.Sum256([]byte(content)), Blob: tree.Bytes(p, []byte(content)),
	}
}

func (w *world) text(p, content string)    { w.root[p] = entry(p, 0o644, content) }
func (w *world) program(p string)          { w.root[p] = entry(p, 0o755, elfFile(elf.EM_X86_64)+p) }
func (w *world) espText(p, content string) { w.esp[p] = entry(p, 0o644, content) }
func (w *world) dir(p string, perm uint16) {
	w.root[p] = tree.Entry{Path: p, Type: tree.Dir, Perm: perm}
}
func (w *world) link(p, to string) {
	w.root[p] = tree.Entry{Path: p, Type: tree.Symlink, Perm: 0o777, Link: to}
}
func (w *world) change(p string, f func(e *tree.Entry)) {
	e, ok := w.root[p]
	if !ok {
		panic("BUG: the world has no " + p)
	}
	f(&e)
	w.root[p] = e
}

// elfFile is the shortest program: a header.
func elfFile(machine elf.Machine) string {
	h := elf.Header64{
		Type: uint16(elf.ET_EXEC), Machine: uint16(machine), Version: 1, Ehsize: 64, Phoff: 64, Phentsize: 56, Phnum: 1, Shentsize: 64,
	}
	copy(h.Ident[:], "\x7fELF\x02\x01\x01")
	var b bytes.Buffer
	write(&b, h)
	write(&b, elf.Prog64{Type: uint32(elf.PT_LOAD)})
	return b.String()
}

// peFile is the shortest EFI program: headers.
func peFile(machine uint16, signed bool) string {
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

// treeOf adds the directories above entries.
func treeOf(t testing.TB, entries map[string]tree.Entry) *tree.Tree {
	t.Helper()
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
	var list []tree.Entry
	for _, e := range all {
		list = append(list, e)
	}
	made, err := tree.New(list)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// record is what bake would have recorded.
func (w *world) record() *bom.Image {
	r := &bom.Image{
		Schema: bom.Schema, Name: "k8s-worker-v1-36-3-amd64", Arch: w.arch,
		KernelArguments: []string{"console=ttyS0,38400n8d", "audit=0"}, Packages: w.packages,
		Inputs: bom.Inputs{Guest: map[string]manifest.Sum{}},
	}
	for name, e := range map[string]tree.Entry{"firstboot": w.root[firstbootPath], "init": w.initrd["init"]} {
		if e.Path != "" {
			r.Inputs.Guest[name] = manifest.SHA256(e.SHA256)
		}
	}
	for name, p := range map[string]string{"kubelet": "usr/local/bin/kubelet", "containerd": "usr/bin/containerd"} {
		if e := w.root[p]; e.Path != "" {
			p = strings.TrimPrefix(p, "usr/bin/") // through the link
			if !strings.HasPrefix(p, "usr") {
				p = "bin/" + p
			}
			r.Components = append(r.Components, bom.Component{
				Name: name, Version: "v1", Origin: "release", Files: []bom.Program{{Path: "/" + p, SHA256: e.SHA256.String()}},
			})
		}
	}
	slices.SortFunc(r.Components, func(a, b bom.Component) int { return strings.Compare(a.Name, b.Name) })
	return r
}

// list lays out the disk.
func (w *world) list(t testing.TB) *extent.List {
	t.Helper()
	if _, ok := w.root[recordPath]; !ok {
		r := w.record()
		if w.tamper != nil {
			w.tamper(r)
		}
		var b bytes.Buffer
		if err := r.Write(&b); err != nil {
			t.Fatal(err)
		}
		w.text(recordPath, b.String())
	}
	if _, ok := w.root[statusPath]; !ok {
		var b strings.Builder
		for _, p := range w.packages {
			fmt.Fprintf(&b, "Package: %s\nStatus: install ok installed\nArchitecture: %s\nVersion: %s\nDescription: x\n y\n\n", p.Name, p.Arch, p.Version)
		}
		w.text(statusPath, b.String())
	}
	initrd := "k8s-worker/" + kernelVersion + "/initrd.img"
	if _, ok := w.esp[initrd]; !ok {
		var b bytes.Buffer
		if err := cpio.Write(&b, treeOf(t, w.initrd), 1); err != nil {
			t.Fatal(err)
		}
		w.espText(initrd, b.String())
	}
	disk, err := gpt.Plan(w.size, gpt.Derive(nil, "disk"), w.parts)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range w.parts {
		switch {
		case p.Type == gpt.ESPType():
			l, err := fat.Plan(treeOf(t, w.esp), fat.Options{Size: p.Length, Epoch: time.Unix(1e9, 0)})
			if err != nil {
				t.Fatal(err)
			}
			disk.Insert(p.Start, l)
		case p.Name == "root":
			l, err := ext4.Plan(treeOf(t, w.root), ext4.Options{Size: p.Length, UUID: gpt.Derive(nil, "fs"), Epoch: 1e9})
			if err != nil {
				t.Fatal(err)
			}
			disk.Insert(p.Start, l.List)
		}
	}
	return &disk
}

// subject opens the disk without going through a file.
func (w *world) subject(t testing.TB) *subject {
	t.Helper()
	disk := w.list(t).Reader()
	if w.patch != nil {
		disk = &patched{disk, w.patch(disk)}
	}
	m := &Image{Path: w.name, Format: TarGz, Disk: disk, Size: w.size + w.more, sum: new([32]byte)}
	return &subject{m, m.openDisk()}
}

// patched replaces bytes of what it reads.
type patched struct {
	io.ReaderAt
	patches map[int64][]byte
}

func (p *patched) ReadAt(b []byte, off int64) (int, error) {
	n, err := p.ReaderAt.ReadAt(b, off)
	for at, with := range p.patches {
		for i, c := range with {
			if j := at + int64(i) - off; j >= 0 && j < int64(n) {
				b[j] = c
			}
		}
	}
	return n, err
}

// flipBlockBitmap changes a bit of the first group's block bitmap of the ext4
// file system at offset.
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
