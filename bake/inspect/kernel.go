package inspect

import (
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/nodebake/bake/bake/image/cpio"
)

// maxProgram is the largest init in bytes that is read out of an initramfs.
const maxProgram = 64 << 20

// kernel is the kernel of a loader entry: what it has built in, what there is
// to load, and what its initramfs brings.
type Kernel struct {
	Entry   *LoaderEntry
	Version string
	builtin map[string]bool     // modules by name, with _ for -
	modules map[string][]string // the same, with the names of what each depends on
	config  map[string]string   // "CONFIG_GVE": "m"
	initrd  map[string]bool     // modules in the initramfs
	Init    []byte              // its program /init; nil: it has none

	ModulesErr error // about builtin and modules
	InitrdErr  error // about initrd and init
}

// readKernel looks for the parts of an entry's kernel. What is wrong with them
// is for rules to say.
func readKernel(files *Files, esp BootFiles, entry *LoaderEntry) *Kernel {
	k := &Kernel{Entry: entry, Version: entry.Version}
	k.ModulesErr = k.readModules(files)
	k.InitrdErr = k.readInitrd(esp)
	if text, err := files.Text("boot/config-" + k.Version); err == nil {
		k.config = map[string]string{}
		for line := range strings.Lines(text) {
			if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && strings.HasPrefix(name, "CONFIG_") {
				k.config[name] = value
			}
		}
	}
	return k
}

// readModules reads what depmod(8) and the kernel's build wrote.
func (k *Kernel) readModules(files *Files) error {
	if k.Version == "" {
		return fmt.Errorf("%s names no version, so its modules can't be found", k.Entry.Path)
	}
	dir := "usr/lib/modules/" + k.Version
	builtin, err := files.Text(dir + "/modules.builtin")
	if err != nil {
		return err
	}
	k.builtin = map[string]bool{}
	for p := range strings.FieldsSeq(builtin) {
		k.builtin[moduleName(p)] = true
	}
	dep, err := files.Text(dir + "/modules.dep")
	if err != nil {
		return err
	}
	k.modules = map[string][]string{}
	for line := range strings.Lines(dep) {
		p, needs, ok := strings.Cut(line, ":")
		if !ok || !files.Exists(path.Join(dir, p)) {
			continue
		}
		names := []string{}
		for need := range strings.FieldsSeq(needs) {
			names = append(names, moduleName(need))
		}
		k.modules[moduleName(p)] = names
	}
	return nil
}

// moduleName returns the name of the module in a file: "virtio_scsi" of
// "kernel/drivers/scsi/virtio_scsi.ko.xz". The kernel takes - and _ for one.
func moduleName(p string) string {
	name, _, _ := strings.Cut(path.Base(p), ".ko")
	return strings.ReplaceAll(name, "-", "_")
}

// readInitrd reads the entry's initramfs, which the kernel takes as one
// archive.
func (k *Kernel) readInitrd(esp BootFiles) error {
	k.initrd = map[string]bool{}
	if len(k.Entry.Initrd) == 0 {
		return fmt.Errorf("%s names no initrd", k.Entry.Path)
	}
	for _, p := range k.Entry.Initrd {
		f, err := esp.Open(p)
		if err != nil {
			return err
		}
		err = k.readArchive(f)
		f.Close()
		if err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
	}
	return nil
}

func (k *Kernel) readArchive(f io.Reader) error {
	r := cpio.NewReader(f)
	for {
		h, err := r.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("it is not an uncompressed newc archive: %w", err)
		}
		const regular, typeMask = 0o100000, 0o170000
		switch {
		case h.Mode&typeMask != regular:
		case path.Clean(h.Name) == "init":
			if h.Size > maxProgram || h.Mode&0o111 == 0 {
				return fmt.Errorf("its /init has mode %04o and %d bytes", h.Mode&0o7777, h.Size)
			}
			if k.Init, err = io.ReadAll(r); err != nil {
				return err
			}
		case strings.Contains(path.Base(h.Name), ".ko"):
			k.initrd[moduleName(h.Name)] = true
		}
	}
}

// can says why the running system could not use the driver, or nil.
func (k *Kernel) Can(driver string) error {
	if k.ModulesErr != nil {
		return k.ModulesErr
	}
	if k.builtin[driver] {
		return nil
	}
	needs, ok := k.modules[driver]
	if !ok {
		return fmt.Errorf("kernel %s has no driver %s", k.Version, driver)
	}
	for _, need := range needs {
		if _, ok := k.modules[need]; !ok && !k.builtin[need] {
			return fmt.Errorf("kernel %s has no module %s, which %s needs", k.Version, need, driver)
		}
	}
	return nil
}

// canEarly says why the initramfs could not use the driver, or nil.
func (k *Kernel) CanEarly(driver string) error {
	if err := k.Can(driver); err != nil {
		return err
	}
	if k.InitrdErr != nil {
		return k.InitrdErr
	}
	if k.builtin[driver] {
		return nil
	}
	for _, name := range append([]string{driver}, k.modules[driver]...) {
		if !k.builtin[name] && !k.initrd[name] {
			return fmt.Errorf("module %s is neither built into kernel %s nor in its initramfs", name, k.Version)
		}
	}
	return nil
}

// has says whether the kernel was configured with one of values ("y", "m").
func (k *Kernel) HasOption(option string, values ...string) bool {
	return slices.Contains(values, k.config[option])
}

// checkProgram says why the ELF file in r is no program for arch, or nil.
