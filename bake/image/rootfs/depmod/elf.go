package depmod

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/nodebake/bake/bake/decompress"
)

// maxModule bounds a module's uncompressed size in bytes. The largest of
// Debian's cloud kernels has 5 MB.
const maxModule = 64 << 20

// modinfo is one KEY=VALUE of a module's section .modinfo.
type modinfo struct{ key, value string }

// read fills in what the module's file says.
func (m *module) read(source Module) error {
	image, err := readImage(source)
	if err != nil {
		return err
	}
	file, err := elf.NewFile(bytes.NewReader(image))
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := sectionStrings(file, ".modinfo")
	if err != nil {
		return err
	}
	for _, line := range info {
		key, value, ok := strings.Cut(line, "=")
		if !ok {
			return fmt.Errorf(".modinfo: %q is not KEY=VALUE", line)
		}
		m.info = append(m.info, modinfo{key, value})
	}
	symbols, err := file.Symbols()
	if err != nil && !errors.Is(err, elf.ErrNoSymbols) {
		return err
	}
	if m.exports, err = exportedSymbols(file, symbols); err != nil {
		return err
	}
	m.needs, err = neededSymbols(file, symbols)
	return err
}

func readImage(source Module) ([]byte, error) {
	format := decompress.None
	if strings.HasSuffix(source.Path, ".xz") {
		format = decompress.XZ
	}
	r, err := decompress.NewReader(source.Open(), format, decompress.Limits{Bytes: maxModule + 1})
	if err != nil {
		return nil, err
	}
	defer r.Close()
	image, err := io.ReadAll(io.LimitReader(r, maxModule+1))
	if err != nil {
		return nil, err
	}
	if len(image) > maxModule {
		return nil, fmt.Errorf("module has more than %d bytes", maxModule)
	}
	return image, nil
}

// sectionStrings returns the strings of a section, of which empty ones are
// padding.
func sectionStrings(file *elf.File, name string) ([]string, error) {
	section := file.Section(name)
	if section == nil {
		return nil, nil
	}
	data, err := section.Data()
	if err != nil {
		return nil, fmt.Errorf("section %s: %w", name, err)
	}
	return slices.DeleteFunc(strings.Split(string(data), "\x00"), func(s string) bool { return s == "" }), nil
}

// exportedSymbols returns what the module exports: the symbols that have a
// checksum, or without checksums the strings of the export table.
func exportedSymbols(file *elf.File, symbols []elf.Symbol) ([]string, error) {
	var out []string
	for _, s := range symbols {
		if name, ok := strings.CutPrefix(s.Name, "__crc_"); ok {
			out = append(out, name)
		}
	}
	if len(out) > 0 {
		return out, nil
	}
	return sectionStrings(file, "__ksymtab_strings")
}

// versionSize is the size of an entry of the section __versions on 64-bit
// machines: a checksum of 8 bytes and a name (linux/module.h, struct
// modversion_info).
const versionSize = 64

// neededSymbols returns the undefined symbols, and after them those that only
// the version table names.
func neededSymbols(file *elf.File, symbols []elf.Symbol) ([]string, error) {
	var out []string
	seen := map[string]bool{}
	for _, s := range symbols {
		if s.Section == elf.SHN_UNDEF && s.Name != "" {
			out = append(out, s.Name)
			seen[s.Name] = true
		}
	}
	section := file.Section("__versions")
	if section == nil {
		return out, nil
	}
	data, err := section.Data()
	if err != nil {
		return nil, fmt.Errorf("section __versions: %w", err)
	}
	if len(data)%versionSize != 0 {
		return nil, fmt.Errorf("section __versions has %d bytes, no multiple of %d", len(data), versionSize)
	}
	for entry := range slices.Chunk(data, versionSize) {
		name, _, _ := bytes.Cut(entry[8:], []byte{0})
		if s := strings.TrimPrefix(string(name), "."); !seen[s] {
			out = append(out, s)
		}
	}
	return out, nil
}
