package boot

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"iter"
	"path"
	"slices"
	"strings"

	"github.com/nodebake/bake/bake/decompress"
	"github.com/nodebake/bake/bake/tree"
)

// maxModule is the most that a module may have after decompression. The
// largest of a Debian kernel have 10 MB.
const maxModule = 64 << 20

// moduleRoots are where a kernel package has its modules: since trixie below
// /usr, before that not.
func moduleRoots(version string) []string {
	return []string{"usr/lib/modules/" + version + "/", "lib/modules/" + version + "/"}
}

// isModuleFile reports whether p is a module of that kernel, or its list of
// built-in ones.
func isModuleFile(p, version string) bool {
	for _, root := range moduleRoots(version) {
		if rest, ok := strings.CutPrefix(p, root); ok {
			return rest == "modules.builtin" || strings.HasPrefix(rest, "kernel/")
		}
	}
	return false
}

// moduleFiles yields the files of which isModuleFile holds, links to files among
// them.
func moduleFiles(root *tree.Tree, version string) iter.Seq[*tree.Entry] {
	return func(yield func(*tree.Entry) bool) {
		for i := range root.Entries {
			if p := root.Entries[i].Path; isModuleFile(p, version) {
				if e, ok := file(root, p); ok && !yield(e) {
					return
				}
			}
		}
	}
}

// moduleSet is the modules of one kernel by name.
type moduleSet struct {
	version string
	files   map[string]*tree.Entry
	builtin map[string]bool
}

// module is one that an initramfs loads.
type module struct {
	name    string
	content []byte // ELF, with its signature appended
}

func findModules(root *tree.Tree, version string) (*moduleSet, error) {
	s := &moduleSet{version: version, files: map[string]*tree.Entry{}, builtin: map[string]bool{}}
	listed := false
	for e := range moduleFiles(root, version) {
		if path.Base(e.Path) == "modules.builtin" {
			data, err := readLimited(e.Content(), maxModule)
			if err != nil {
				return nil, fmt.Errorf("reading %s: %w", e.Path, err)
			}
			for line := range strings.Lines(string(data)) {
				s.builtin[moduleName(strings.TrimSpace(line))] = true
			}
			listed = true
		} else if base := path.Base(e.Path); strings.Contains(base, ".ko") {
			s.files[moduleName(base)] = e
		}
	}
	if !listed {
		return nil, fmt.Errorf("the root has no modules.builtin of kernel %s: is its linux-image package whole?", version)
	}
	return s, nil
}

// moduleName turns a file name into the module's name: without directory and
// extensions, and with the underscores that the kernel uses throughout.
func moduleName(file string) string {
	name, _, _ := strings.Cut(path.Base(file), ".ko")
	return strings.ReplaceAll(name, "-", "_")
}

// closure returns the named modules and all that they depend on, each after
// what it depends on. Modules that are built in are left out.
func (s *moduleSet) closure(names []string) ([]module, error) {
	var order []module
	state := map[string]int{} // 1: being visited, 2: done
	var visit func(name, why string) error
	visit = func(name, why string) error {
		name = strings.ReplaceAll(name, "-", "_")
		if state[name] == 2 || s.builtin[name] {
			return nil
		}
		if state[name] == 1 {
			return fmt.Errorf("kernel module %s depends on itself", name)
		}
		e := s.files[name]
		if e == nil {
			return fmt.Errorf("kernel %s has no module %s, neither as a file nor built in (%s)", s.version, name, why)
		}
		state[name] = 1
		content, err := readModule(e)
		if err != nil {
			return fmt.Errorf("reading kernel module %s: %w", e.Path, err)
		}
		info, err := parseModinfo(content)
		if err != nil {
			return fmt.Errorf("reading kernel module %s: %w", e.Path, err)
		}
		if magic, _, _ := strings.Cut(info.vermagic, " "); magic != s.version {
			return fmt.Errorf("kernel module %s is for kernel %q, want %q", e.Path, magic, s.version)
		}
		for _, d := range info.depends {
			if err := visit(d, name+" depends on it"); err != nil {
				return err
			}
		}
		for _, d := range info.before {
			// A soft dependency may be of a kernel built otherwise, or an alias. Those
			// are left out: to find whose alias it is every module would have to be
			// decompressed, and the kernel asks for them again when it needs them.
			if d = strings.ReplaceAll(d, "-", "_"); s.files[d] != nil && state[d] == 0 {
				if err := visit(d, name+" wants it first"); err != nil {
					return err
				}
			}
		}
		order = append(order, module{name, content})
		state[name] = 2
		return nil
	}
	for _, name := range names {
		if err := visit(name, "the image definition names it"); err != nil {
			return nil, err
		}
	}
	return order, nil
}

// readModule returns a module's content, decompressed: the kernel can do
// that itself only since 5.17 and only if it was built so.
func readModule(e *tree.Entry) ([]byte, error) {
	switch path.Ext(e.Path) {
	case ".ko":
		return readLimited(e.Content(), maxModule)
	case ".xz":
		r, err := decompress.NewReader(e.Content(), decompress.XZ, decompress.Limits{Bytes: maxModule})
		if err != nil {
			return nil, err
		}
		defer r.Close()
		return readLimited(r, maxModule)
	}
	return nil, fmt.Errorf("compression %s is not supported (.ko and .ko.xz are)", path.Ext(e.Path))
}

func readLimited(r io.Reader, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("it has more than %d bytes", limit)
	}
	return data, nil
}

// modinfo is what a module says of itself in its section .modinfo, as
// modinfo(8) shows it.
type modinfo struct {
	depends  []string
	before   []string // softdep's "pre:"
	vermagic string   // "VERSION SMP preempt mod_unload ..."
}

// parseModinfo reads the section: strings of the form KEY=VALUE, each ended
// by NUL (include/linux/moduleparam.h, __MODULE_INFO).
func parseModinfo(content []byte) (*modinfo, error) {
	f, err := elf.NewFile(bytes.NewReader(content))
	if err != nil {
		return nil, err
	}
	section := f.Section(".modinfo")
	if section == nil {
		return nil, errors.New("it has no section .modinfo")
	}
	data, err := section.Data()
	if err != nil {
		return nil, fmt.Errorf("section .modinfo: %w", err)
	}
	info := &modinfo{}
	for field := range strings.SplitSeq(string(data), "\x00") {
		key, value, _ := strings.Cut(field, "=")
		switch key {
		case "depends":
			info.depends = append(info.depends, splitList(value, ",")...)
		case "softdep":
			info.before = append(info.before, softdepBefore(value)...)
		case "vermagic":
			info.vermagic = value
		}
	}
	return info, nil
}

// softdepBefore reads "pre: a b post: c", and returns a and b.
func softdepBefore(value string) []string {
	var before []string
	pre := false
	for word := range strings.FieldsSeq(value) {
		switch word {
		case "pre:":
			pre = true
		case "post:":
			pre = false
		default:
			if pre {
				before = append(before, word)
			}
		}
	}
	return before
}

func splitList(s, sep string) []string {
	return slices.DeleteFunc(strings.Split(s, sep), func(p string) bool { return p == "" })
}
