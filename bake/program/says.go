package program

import (
	"bytes"
	"cmp"
	"debug/buildinfo"
	"debug/elf"
	"encoding/binary"
	"io"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"

	"golang.org/x/mod/module"
)

// Says is what a Go program says that it is.
type Says struct {
	Package  string   `json:"package,omitempty"`  // import path of its main package
	Versions []string `json:"versions,omitempty"` // what it calls its own version, as far as can be told; sorted
	Others   []string `json:"others,omitempty"`   // versions in it that may be its own or of what it is linked from; sorted
}

// ReadSays reads what a program for Linux on a little-endian machine of 64 bits
// says that it is, of which no code is run. The build information has package and
// module; what Go's linker is told by -ldflags -X is not in it where the program
// is made with -trimpath, as releases are. So string variables are read as they
// are when the program starts: those whose text is a version, and in a program
// that has its symbols, whose name ends in "version".
//
// Libraries have such variables, too. What the linker has set is told by the zero
// behind its text, and that, or the module's version, is the program's. Where
// there is neither, it is what no list of versions has and no library's version
// is, such as the content of a file VERSION that is embedded. A program that was
// not made by Go, or says nothing, gives nothing.
func ReadSays(r io.ReaderAt) Says {
	info, err := buildinfo.Read(r)
	if err != nil {
		return Says{} // its errors say of what kind the file is not
	}
	var s Says
	if info.Path != "command-line-arguments" { // of files that were named one by one
		s.Package = info.Path
	}
	if v := ownVersion(info); v != "" {
		s.Versions = append(s.Versions, v)
	}
	var initial []string
	for _, v := range readVariables(r) {
		library := slices.ContainsFunc(info.Deps, func(dep *debug.Module) bool { return sameVersion(dep.Version, v.text) })
		switch {
		case v.stamped:
			s.Versions = append(s.Versions, v.text)
		case v.listed || library:
			s.Others = append(s.Others, v.text)
		default:
			initial = append(initial, v.text)
		}
	}
	if len(s.Versions) == 0 {
		s.Versions = initial
	} else {
		s.Others = append(s.Others, initial...)
	}
	s.Versions, s.Others = sorted(s.Versions), sorted(s.Others)
	s.Others = slices.DeleteFunc(s.Others, func(v string) bool { return slices.Contains(s.Versions, v) })
	if len(s.Others) == 0 {
		s.Others = nil
	}
	return s
}

func sorted(versions []string) []string {
	slices.Sort(versions)
	return slices.Compact(versions)
}

// ownVersion is the version of the module that a program's main package is of: the
// main module's, or of one that the main module requires.
func ownVersion(info *debug.BuildInfo) string {
	own := &info.Main
	if !within(info.Path, own.Path) {
		own = nil
		for _, dep := range info.Deps {
			if within(info.Path, dep.Path) && (own == nil || len(dep.Path) > len(own.Path)) {
				own = dep
			}
		}
	}
	if own == nil {
		return ""
	}
	if own.Replace != nil {
		own = own.Replace
	}
	v := strings.TrimSuffix(strings.TrimSuffix(own.Version, "+dirty"), "+incompatible")
	if !isVersion(v) || module.IsPseudoVersion(v) {
		return "" // "(devel)", or a commit
	}
	return v
}

func within(pkg, module string) bool { return pkg == module || strings.HasPrefix(pkg, module+"/") }

// A version as programs say it: Debian's has ~ds1 behind it.
var versionText = regexp.MustCompile(`^v?(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)([-+~][0-9A-Za-z.+~-]+)?$`)

func isVersion(s string) bool { return versionText.MatchString(s) }

// The limits of what is read of a program, whatever its headers say. The largest
// program of Kubernetes has 1 MB of variables.
const (
	maxData       = 16 << 20 // bytes of variables, together
	maxTables     = 64 << 20 // bytes of tables of relocations and symbols, together
	maxLoads      = 64       // parts that are loaded; Go makes four
	maxVersion    = 64       // bytes of a version
	maxVersions   = 256      // variables that hold one
	maxSymbolName = 512      // bytes
	entrySize     = 24       // bytes: of Elf64_Rela and Elf64_Sym
)

// variables reads the string variables of one program.
type variables struct {
	*elf.File
	loads []*elf.Prog
	data  uint64 // bytes of variables that may still be read
	table uint64 // likewise, of tables
}

// readVariables returns the variables of a Go program that hold versions.
func readVariables(r io.ReaderAt) []variable {
	f, err := elf.NewFile(r)
	if err != nil || f.Class != elf.ELFCLASS64 || f.Data != elf.ELFDATA2LSB {
		return nil
	}
	v := &variables{File: f, data: maxData, table: maxTables}
	for _, p := range f.Progs {
		if p.Type == elf.PT_LOAD && len(v.loads) < maxLoads {
			v.loads = append(v.loads, p)
		}
	}
	named := v.named()
	var found []goString
	for _, s := range f.Sections {
		if s.Name != ".data" && s.Name != ".noptrdata" || s.Type != elf.SHT_PROGBITS {
			continue
		}
		data := make([]byte, min(s.FileSize, v.data))
		v.data -= uint64(len(data))
		n := readSection(s, data, 0)
		data = data[:n]
		v.relocate(s.Addr, data)
		found = append(found, goStrings(s.Addr, data, named)...)
	}
	return v.versions(found)
}

// goString is a string as Go has it in memory: address and length of the text.
type goString struct {
	at              uint64 // its own address
	address, length uint64
}

// variable is a string that holds a version.
type variable struct {
	goString
	text    string
	stamped bool // the linker has set it: it ends its text with a zero, which the compiler does not
	listed  bool // its neighbour in memory holds another version: they are of a list
}

// goStrings returns what in data, which is at address, can be a string as long as a
// version; where named is not nil, at its addresses only.
func goStrings(address uint64, data []byte, named map[uint64]bool) []goString {
	var found []goString
	for i := int(-address & 7); i+16 <= len(data); i += 8 {
		if named != nil && !named[address+uint64(i)] {
			continue
		}
		s := goString{address + uint64(i), binary.LittleEndian.Uint64(data[i:]), binary.LittleEndian.Uint64(data[i+8:])}
		if s.length >= uint64(len("1.2.3")) && s.length <= maxVersion {
			found = append(found, s)
		}
	}
	return found
}

// versions returns those strings that are versions. Their texts are read in the
// order in which the file has them.
func (v *variables) versions(all []goString) []variable {
	slices.SortFunc(all, func(a, b goString) int {
		return cmp.Or(cmp.Compare(a.address, b.address), cmp.Compare(a.length, b.length), cmp.Compare(a.at, b.at))
	})
	var out []variable
	var text [maxVersion + 1]byte
	for _, s := range all {
		i := slices.IndexFunc(v.loads, func(p *elf.Prog) bool {
			return s.address >= p.Vaddr && s.address-p.Vaddr <= p.Filesz && s.length <= p.Filesz-(s.address-p.Vaddr)
		})
		if i < 0 {
			continue
		}
		n, _ := v.loads[i].ReadAt(text[:s.length+1], int64(s.address-v.loads[i].Vaddr))
		if uint64(n) < s.length {
			continue
		}
		said := strings.TrimSuffix(string(text[:s.length]), "\n")
		if isVersion(said) && len(out) < maxVersions {
			out = append(out, variable{goString: s, text: said, stamped: uint64(n) > s.length && text[s.length] == 0})
		}
	}
	const size = 16
	slices.SortFunc(out, func(a, b variable) int { return cmp.Compare(a.at, b.at) })
	for i := range out {
		if i > 0 && out[i].at-out[i-1].at == size && out[i].text != out[i-1].text {
			out[i].listed, out[i-1].listed = true, true
		}
	}
	return out
}

// relocate does to data, which is at address, what the loader does to the pointers
// of a program that may be anywhere.
func (v *variables) relocate(address uint64, data []byte) {
	relative := map[elf.Machine]uint64{elf.EM_X86_64: uint64(elf.R_X86_64_RELATIVE), elf.EM_AARCH64: uint64(elf.R_AARCH64_RELATIVE)}[v.Machine]
	if relative == 0 || len(data) < 8 {
		return
	}
	for _, s := range v.Sections {
		if s.Type != elf.SHT_RELA || s.Flags&elf.SHF_ALLOC == 0 {
			continue
		}
		v.entries(s, func(entry []byte) { // offset, info, addend
			at := binary.LittleEndian.Uint64(entry) - address
			if binary.LittleEndian.Uint64(entry[8:]) == relative && at <= uint64(len(data)-8) {
				copy(data[at:], entry[16:])
			}
		})
	}
}

// named returns the addresses of strings whose symbol's name ends in "version";
// nil where the program has no symbols.
func (v *variables) named() map[uint64]bool {
	i := slices.IndexFunc(v.Sections, func(s *elf.Section) bool { return s.Type == elf.SHT_SYMTAB })
	if i < 0 || uint64(v.Sections[i].Link) >= uint64(len(v.Sections)) {
		return nil
	}
	type symbol struct {
		name  uint32 // offset in the table of names
		value uint64
	}
	var symbols []symbol
	v.entries(v.Sections[i], func(entry []byte) { // name, info, other, section, value, size
		if elf.ST_TYPE(entry[4]) == elf.STT_OBJECT && binary.LittleEndian.Uint64(entry[16:]) == 16 {
			symbols = append(symbols, symbol{binary.LittleEndian.Uint32(entry), binary.LittleEndian.Uint64(entry[8:])})
		}
	})
	slices.SortFunc(symbols, func(a, b symbol) int { return cmp.Compare(a.name, b.name) })
	names := v.Sections[v.Sections[i].Link]
	addresses := map[uint64]bool{}
	text := make([]byte, maxSymbolName)
	for _, s := range symbols {
		n := readSection(names, text, int64(s.name))
		name, _, ended := bytes.Cut(text[:n], []byte{0})
		if ended && len(name) >= len("version") && strings.EqualFold(string(name[len(name)-len("version"):]), "version") {
			addresses[s.value] = true
		}
	}
	return addresses
}

// readSection reads b at an offset of a section, as far as that goes, and returns how
// many bytes there were: none of one that is compressed, or has no bytes in the file.
func readSection(s *elf.Section, b []byte, at int64) int {
	if s.ReaderAt == nil {
		return 0
	}
	n, _ := s.ReadAt(b, at)
	return n
}

// entries calls do with each entry of a table, as far as it goes.
func (v *variables) entries(s *elf.Section, do func(entry []byte)) {
	window := make([]byte, 4096*entrySize)
	for at := uint64(0); at < s.FileSize && v.table >= uint64(len(window)); at += uint64(len(window)) {
		v.table -= uint64(len(window))
		n := readSection(s, window, int64(at))
		for i := 0; i+entrySize <= n; i += entrySize {
			do(window[i : i+entrySize])
		}
		if n < len(window) {
			return
		}
	}
}
