package depmod

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

func depLine(m *module) string {
	line := m.path + ":"
	for _, dep := range m.allDeps() {
		line += " " + dep.path
	}
	return line
}

func depText(modules []*module) []byte {
	var out []byte
	for _, m := range modules {
		out = fmt.Appendln(out, depLine(m))
	}
	return out
}

func depIndex(modules []*module) []byte {
	var x index
	for _, m := range modules {
		x.insert(m.name, depLine(m), m.place)
	}
	return x.bytes()
}

// infoText lists the values of one key of every module: KEYWORD MODULE VALUE.
func infoText(modules []*module, header, key string) []byte {
	out := []byte(header)
	for _, m := range modules {
		for _, info := range m.info {
			if info.key == key {
				out = fmt.Appendf(out, "%s %s %s\n", key, m.name, info.value)
			}
		}
	}
	return out
}

func softdepText(modules []*module) []byte {
	return infoText(modules, "# Soft dependencies extracted from modules themselves.\n", "softdep")
}

func weakdepText(modules []*module) []byte {
	return infoText(modules, "# Weak dependencies extracted from modules themselves.\n", "weakdep")
}

func aliasText(modules []*module) []byte {
	out := []byte("# Aliases extracted from modules themselves.\n")
	for _, m := range modules {
		for _, info := range m.info {
			if info.key == "alias" {
				out = fmt.Appendf(out, "alias %s %s\n", info.value, m.name)
			}
		}
	}
	return out
}

func aliasIndex(modules []*module) ([]byte, error) {
	var x index
	for _, m := range modules {
		for _, info := range m.info {
			if info.key != "alias" {
				continue
			}
			alias, err := normalizeAlias(info.value)
			if err != nil {
				return nil, fmt.Errorf("%s: alias %q: %w", m.path, info.value, err)
			}
			x.insert(alias, m.name, m.place)
		}
	}
	return x.bytes(), nil
}

// normalizeAlias writes underscores for hyphens outside of brackets, which are
// sets of characters in a pattern.
func normalizeAlias(alias string) (string, error) {
	if err := checkKey(alias); err != nil {
		return "", err
	}
	out := []byte(alias)
	set := false
	for i, c := range out {
		switch {
		case c == '[':
			set = true
		case c == ']' && !set:
			return "", errors.New("a ] without a [")
		case c == ']':
			set = false
		case c == '-' && !set:
			out[i] = '_'
		}
	}
	if set {
		return "", errors.New("a [ without a ]")
	}
	return string(out), nil
}

// devnameText lists the device nodes that load a module when they are opened.
func devnameText(modules []*module) []byte {
	out := []byte("# Device nodes to trigger on-demand module loading.\n")
	for _, m := range modules {
		name, kind := "", byte(0)
		var major, minor uint
		for _, info := range m.info {
			if info.key != "alias" {
				continue
			}
			var a, b uint
			switch {
			case scan(info.value, "char-major-%d-%d", &a, &b):
				kind, major, minor = 'c', a, b
			case scan(info.value, "block-major-%d-%d", &a, &b):
				kind, major, minor = 'b', a, b
			case strings.HasPrefix(info.value, "devname:"):
				name = strings.TrimPrefix(info.value, "devname:")
			}
			if kind != 0 && name != "" {
				out = fmt.Appendf(out, "%s %s %c%d:%d\n", m.name, name, kind, major, minor)
				break
			}
		}
	}
	return out
}

func scan(s, format string, a, b *uint) bool {
	n, err := fmt.Sscanf(s, format, a, b)
	return err == nil && n == 2
}

// builtinIndex holds the modules that are part of the kernel.
func builtinIndex(list []byte) []byte {
	var x index
	for line := range bytes.Lines(list) {
		if file := strings.TrimSpace(string(line)); file != "" {
			x.insert(moduleName(file), "", 0)
		}
	}
	return x.bytes()
}

// builtinAliasIndex holds the aliases of code that is part of the kernel, also
// of what could not be a module and is not in modules.builtin. modinfo has strings MODULE.KEY=VALUE.
func builtinAliasIndex(modinfo []byte) ([]byte, error) {
	var x index
	for line := range strings.SplitSeq(string(modinfo), "\x00") {
		key, value, ok := strings.Cut(line, "=")
		name, key, dotted := strings.Cut(key, ".")
		if !ok || !dotted || key != "alias" {
			continue
		}
		name = strings.ReplaceAll(name, "-", "_")
		alias, err := normalizeAlias(value)
		if err != nil {
			return nil, fmt.Errorf("alias %q: %w", value, err)
		}
		x.insert(alias, name, 0)
	}
	return x.bytes(), nil
}

// symbolTable maps exported symbols to modules.
type symbolTable map[string]*module

func newSymbolTable(modules []*module) symbolTable {
	t := symbolTable{}
	for _, m := range modules {
		for _, name := range m.exports {
			t[name] = m // of two, the last counts
		}
	}
	return t
}

func (t symbolTable) owner(symbol string) *module { return t[strings.TrimPrefix(symbol, ".")] }

// names returns the symbols in the order of depmod's hash table: by bucket,
// then by name.
func (t symbolTable) names() []string {
	const buckets = 2048
	type symbol struct {
		name   string
		bucket uint32
	}
	var sorted []symbol
	for name := range t {
		sorted = append(sorted, symbol{name, superFastHash(name) % buckets})
	}
	slices.SortFunc(sorted, func(a, b symbol) int {
		return cmp.Or(cmp.Compare(a.bucket, b.bucket), cmp.Compare(a.name, b.name))
	})
	out := make([]string, len(sorted))
	for i, s := range sorted {
		out[i] = s.name
	}
	return out
}

func (t symbolTable) text() []byte {
	out := []byte("# Aliases for symbols, used by symbol_request().\n")
	for _, name := range t.names() {
		out = fmt.Appendf(out, "alias symbol:%s %s\n", name, t[name].name)
	}
	return out
}

func (t symbolTable) index() []byte {
	var x index
	for _, name := range t.names() {
		x.insert("symbol:"+name, t[name].name, t[name].place)
	}
	return x.bytes()
}
