// Package depmod computes what depmod(8) writes to a kernel's module
// directory: which module needs which, and the names by which udev and the
// kernel ask for one. Output equals that of kmod's depmod byte by byte, the
// indexes (.bin) included.
//
// Limits: no configuration (depmod.d), which Debian's kernels do not need; no
// System.map, so that symbols of the kernel itself are simply not looked for;
// modules are uncompressed or compressed by xz.
package depmod

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
)

// Input is a kernel's module directory, /usr/lib/modules/VERSION.
type Input struct {
	Modules []Module // in any order

	// Files of the directory that the kernel's build made.
	Order          []byte // modules.order
	Builtin        []byte // modules.builtin
	BuiltinModinfo []byte // modules.builtin.modinfo

	// WeakDeps asks for modules.weakdep, which kmod has known since version 33.
	WeakDeps bool
}

// Module is a kernel module. Modules are opened one at a time.
type Module struct {
	Path string // relative to the directory: "kernel/fs/ext4/ext4.ko.xz"
	Size int64
	Open func() io.Reader
}

// File is a file of the module directory.
type File struct {
	Name    string // "modules.dep"
	Content []byte
}

// module is a Module that was read.
type module struct {
	path    string
	name    string // as the kernel knows it: "snd_hda_intel"
	order   int    // in modules.order; what is not in it comes last
	info    []modinfo
	exports []string
	needs   []string // symbols, in the order of the symbol table

	deps  []*module // direct, without duplicates
	users int       // how many modules have it among deps
	place int       // in the list
	rank  int       // users come before what they use
}

// Files returns depmod's files, in no particular order.
func Files(in Input) ([]File, error) {
	modules, err := readModules(in)
	if err != nil {
		return nil, err
	}
	symbols := newSymbolTable(modules)
	for _, m := range modules {
		for _, symbol := range m.needs {
			if owner := symbols.owner(symbol); owner != nil && !slices.Contains(m.deps, owner) {
				m.deps = append(m.deps, owner)
				owner.users++
			}
		}
	}
	if err := rank(modules); err != nil {
		return nil, err
	}
	files := []File{
		{"modules.dep", depText(modules)},
		{"modules.dep.bin", depIndex(modules)},
		{"modules.alias", aliasText(modules)},
		{"modules.symbols", symbols.text()},
		{"modules.symbols.bin", symbols.index()},
		{"modules.softdep", softdepText(modules)},
		{"modules.devname", devnameText(modules)},
		{"modules.builtin.bin", builtinIndex(in.Builtin)},
	}
	if in.WeakDeps {
		files = append(files, File{"modules.weakdep", weakdepText(modules)})
	}
	alias, err := aliasIndex(modules)
	if err != nil {
		return nil, err
	}
	builtinAlias, err := builtinAliasIndex(in.BuiltinModinfo)
	if err != nil {
		return nil, fmt.Errorf("modules.builtin.modinfo: %w", err)
	}
	return append(files, File{"modules.alias.bin", alias}, File{"modules.builtin.alias.bin", builtinAlias}), nil
}

func readModules(in Input) ([]*module, error) {
	order := map[string]int{}
	n := 0
	for line := range bytes.Lines(in.Order) {
		order[strings.TrimSuffix(string(line), "\n")] = n
		n++
	}
	var modules []*module
	names := map[string]string{}
	sorted := slices.SortedFunc(slices.Values(in.Modules), func(a, b Module) int { return cmp.Compare(a.Path, b.Path) })
	for _, source := range sorted {
		m := &module{path: source.Path, name: moduleName(source.Path), order: n}
		if other, ok := names[m.name]; ok {
			return nil, fmt.Errorf("module %s is both %s and %s", m.name, other, m.path)
		}
		names[m.name] = m.path
		if i, ok := order[strings.TrimSuffix(m.path, ".xz")]; ok {
			m.order = i
		}
		if err := m.read(source); err != nil {
			return nil, fmt.Errorf("%s: %w", m.path, err)
		}
		modules = append(modules, m)
	}
	slices.SortStableFunc(modules, func(a, b *module) int { return cmp.Compare(a.order, b.order) })
	for i, m := range modules {
		m.place = i
	}
	return modules, nil
}

// moduleName is the name of the module in a file: up to the first dot, with
// underscores for hyphens.
func moduleName(file string) string {
	name, _, _ := strings.Cut(path.Base(file), ".")
	return strings.ReplaceAll(name, "-", "_")
}

// rank sorts topologically: a module comes before those that it uses. The
// order among equals is that of depmod's stack, since it shows in the output.
func rank(modules []*module) error {
	users := make([]int, len(modules))
	var roots []*module
	for i, m := range modules {
		if users[i] = m.users; m.users == 0 {
			roots = append(roots, m)
		}
	}
	ranked := 0
	for len(roots) > 0 {
		m := roots[len(roots)-1]
		roots = roots[:len(roots)-1]
		m.rank = ranked
		ranked++
		for _, dep := range m.deps {
			if users[dep.place]--; users[dep.place] == 0 {
				roots = append(roots, dep)
			}
		}
	}
	if ranked < len(modules) {
		for i, m := range modules {
			if users[i] > 0 {
				return fmt.Errorf("module %s needs itself, by way of others", m.name)
			}
		}
		return errors.New("BUG: unranked modules without a cycle")
	}
	return nil
}

// allDeps returns everything that m needs, in the order in which modprobe
// loads from the end.
func (m *module) allDeps() []*module {
	seen := map[*module]bool{}
	var all []*module
	var visit func(*module)
	visit = func(m *module) {
		for _, dep := range m.deps {
			if !seen[dep] {
				seen[dep] = true
				all = append(all, dep)
				visit(dep)
			}
		}
	}
	visit(m)
	slices.SortFunc(all, func(a, b *module) int { return cmp.Compare(a.rank, b.rank) })
	return all
}
