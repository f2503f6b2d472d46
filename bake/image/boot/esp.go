package boot

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/nodebake/bake/bake/arch"
	"github.com/nodebake/bake/bake/tree"
)

// Config is what the EFI system partition is made of.
type Config struct {
	Arch arch.Arch

	// Root is where the packages' files are: shim-signed, shim-helpers,
	// systemd-boot-efi and exactly one linux-image. They need not be in the same
	// tree as the root filesystem that ships.
	Root *tree.Tree

	// Init is the program cmd/init, static and built for Arch.
	Init []byte

	Modules   []string // that the initramfs loads, by name, with what they depend on
	Arguments []string // of the kernel, beside root=
	RootGUID  string   // of the root's partition; becomes root=PARTUUID=

	// Name is the entry token: the image's IMAGE_ID in os-release, by which
	// kernel-install on the node finds this entry again.
	Name  string
	Title string // for the boot menu
	Epoch int64  // time of the initramfs' files, seconds since 1970

	// Derive returns the pack that make writes, or one that an earlier make under
	// the same key wrote. nil makes it again, in memory.
	Derive func(key string, make func(w *tree.PackWriter) error) (*tree.Pack, error)
}

// ESP is a planned EFI system partition.
type ESP struct {
	Tree          *tree.Tree
	KernelVersion string // as uname -r prints it
	CommandLine   string // of the kernel
}

// loaderConf configures systemd-boot (loader.conf(5)).
//
// No timeout: a worker that restarts at night must not wait for a key that
// nobody presses. The menu still comes when a key is held while the loader
// starts, also on the serial console, and shows what there is to boot. No
// editor: with it whoever reaches the serial console gets root by
// init=/bin/sh, and Secure Boot does not stop that. A node that does not come up
// is repaired from its disk, attached to another machine. keep: the loader
// changes no video mode, which would clear the console.
const loaderConf = `timeout 0
editor no
console-mode keep
`

// Plan makes the tree of the EFI system partition. It reads content of c.Root
// only inside c.Derive's callback.
func Plan(c Config) (*ESP, error) {
	if err := c.check(); err != nil {
		return nil, fmt.Errorf("planning the EFI system partition: %w", err)
	}
	esp, err := c.plan()
	if err != nil {
		return nil, fmt.Errorf("planning the EFI system partition: %w", err)
	}
	return esp, nil
}

func (c *Config) check() error {
	switch {
	case !c.Arch.Known():
		return fmt.Errorf("BUG: no boot loader is known for architecture %q", c.Arch)
	case c.Root == nil || len(c.Init) == 0:
		return errors.New("BUG: no root tree or no init program")
	case c.RootGUID == "":
		return errors.New("BUG: no GUID of the root partition")
	case !validToken(c.Name):
		return fmt.Errorf("the entry's name %q has other characters than letters, digits, -, _, + and . (UAPI.1)", c.Name)
	case strings.ContainsAny(c.Title, "\r\n"):
		return fmt.Errorf("the title %q has more than one line", c.Title)
	}
	for _, a := range c.Arguments {
		if a == "" || strings.ContainsAny(a, "\r\n") || strings.TrimSpace(a) != a {
			return fmt.Errorf("kernel argument %q is empty, or has a line break or space around it", a)
		}
		if strings.HasPrefix(a, "root=") {
			return fmt.Errorf("kernel argument %q: the root partition is not for the image definition to name", a)
		}
	}
	return nil
}

func validToken(s string) bool {
	return s != "" && s[0] != '.' && !strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_+.", r))
	})
}

func (c *Config) plan() (*ESP, error) {
	facts := c.Arch.Facts()
	suffix := facts.EFI
	kernel, version, err := findKernel(c.Root)
	if err != nil {
		return nil, err
	}
	initrd, err := c.initramfs(version)
	if err != nil {
		return nil, err
	}
	line := strings.Join(append([]string{"root=PARTUUID=" + c.RootGUID}, c.Arguments...), " ")

	b := &espTree{root: c.Root}
	b.from("EFI/BOOT/"+facts.BootLoader(), "usr/lib/shim/shim"+suffix+".efi.signed", "shim-signed")
	b.from("EFI/BOOT/grub"+suffix+".efi", "usr/lib/systemd/boot/efi/systemd-boot"+suffix+".efi.signed", "systemd-boot-efi-"+string(c.Arch)+"-signed")
	// shim starts MokManager when told to enrol keys, and complains of nothing
	// when it is missing: it is welcome, not needed.
	if mm := "usr/lib/shim/mm" + suffix + ".efi.signed"; c.Root.Lookup(mm) != nil {
		b.from("EFI/BOOT/mm"+suffix+".efi", mm, "shim-helpers-"+string(c.Arch)+"-signed")
	}
	// kernel-install's layout for entries of type 1: TOKEN/VERSION/linux.
	dir := c.Name + "/" + version
	b.entry(dir+"/linux", *kernel)
	b.entry(dir+"/initrd.img", *initrd)
	b.text("loader/loader.conf", loaderConf)
	b.text("loader/entries/"+c.Name+"-"+version+".conf", strings.Join([]string{
		"title      " + c.Title,
		"sort-key   " + c.Name,
		"version    " + version,
		"linux      /" + dir + "/linux",
		"initrd     /" + dir + "/initrd.img",
		"options    " + line,
		"",
	}, "\n"))
	t, err := b.tree()
	if err != nil {
		return nil, err
	}
	return &ESP{Tree: t, KernelVersion: version, CommandLine: line}, nil
}

// file returns the file that an open of p in the root finds, under the name p.
func file(root *tree.Tree, p string) (*tree.Entry, bool) {
	e, err := root.Resolve(p)
	if err != nil || e.Type != tree.File {
		return nil, false
	}
	named := *e
	named.Path = p
	return &named, true
}

// findKernel returns the one kernel of a root.
func findKernel(root *tree.Tree) (*tree.Entry, string, error) {
	const prefix = "boot/vmlinuz-"
	var found *tree.Entry
	for i := range root.Entries {
		if !strings.HasPrefix(root.Entries[i].Path, prefix) {
			continue
		}
		e, ok := file(root, root.Entries[i].Path)
		if !ok {
			continue
		}
		if found != nil {
			return nil, "", fmt.Errorf("the root has two kernels, %s and %s: keep one linux-image package", found.Path, e.Path)
		}
		found = e
	}
	if found == nil {
		return nil, "", errors.New("the root has no boot/vmlinuz-*: add a linux-image package to the image definition")
	}
	version := strings.TrimPrefix(found.Path, prefix)
	if !validToken(version) {
		return nil, "", fmt.Errorf("the kernel's version %q has characters that a boot loader entry cannot have", version)
	}
	return found, version, nil
}

// espTree collects the entries of the partition.
type espTree struct {
	root    *tree.Tree
	entries []tree.Entry
	errs    []error
}

// from takes the root's file at source, which package pkg brings.
func (b *espTree) from(to, source, pkg string) {
	e, ok := file(b.root, source)
	if !ok || e.Size == 0 {
		b.errs = append(b.errs, fmt.Errorf("the root has no file %s: add the package %s to the image definition", source, pkg))
		return
	}
	b.entry(to, *e)
}

func (b *espTree) entry(to string, e tree.Entry) {
	e.Path, e.Perm, e.UID, e.GID, e.Xattrs = to, 0o644, 0, 0, nil
	b.entries = append(b.entries, e)
}

func (b *espTree) text(to, content string) {
	b.entries = append(b.entries, textEntry(to, 0o644, []byte(content)))
}

// tree adds the directories and checks the whole.
func (b *espTree) tree() (*tree.Tree, error) {
	if len(b.errs) > 0 {
		return nil, errors.Join(b.errs...)
	}
	return withParents(b.entries)
}

// withParents makes a tree of files, adding every directory above them.
func withParents(entries []tree.Entry) (*tree.Tree, error) {
	have := map[string]bool{}
	for _, e := range entries {
		have[e.Path] = true
	}
	for i := range entries {
		for dir := path.Dir(entries[i].Path); !have[dir]; dir = path.Dir(dir) {
			have[dir] = true
			entries = append(entries, tree.Entry{Path: dir, Type: tree.Dir, Perm: 0o755, Owner: "bake"})
		}
	}
	return tree.New(entries)
}
