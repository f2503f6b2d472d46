package program

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/test/filetest"
	"github.com/nodebake/bake/test/goprogram"
)

// section is one of a program that a test makes; where it has an address, it is
// loaded there.
type section struct {
	name    string
	typ     elf.SectionType
	address uint64
	link    uint32
	size    uint64 // that the header says; 0: that of content
	content []byte
}

// elfOf makes a program of sections.
func elfOf(sections ...section) []byte {
	const headers = 64
	names := []byte{0}
	sections = append(slices.Clone(sections), section{name: ".shstrtab", typ: elf.SHT_STRTAB})
	var loads []elf.Prog64
	table := []elf.Section64{{}}
	var content bytes.Buffer
	loaded := 0
	for _, s := range sections {
		if s.address != 0 {
			loaded++
		}
	}
	start := uint64(headers + 56*loaded)
	for i, s := range sections {
		h := elf.Section64{Name: uint32(len(names)), Type: uint32(s.typ), Addr: s.address, Off: start + uint64(content.Len()), Link: s.link}
		names = append(append(names, s.name...), 0)
		if i == len(sections)-1 {
			s.content = names
		}
		if h.Size = s.size; h.Size == 0 {
			h.Size = uint64(len(s.content))
		}
		if s.address != 0 || s.typ == elf.SHT_RELA {
			h.Flags = uint64(elf.SHF_ALLOC)
		}
		if s.address != 0 {
			loads = append(loads, elf.Prog64{Type: uint32(elf.PT_LOAD), Off: h.Off, Vaddr: s.address, Filesz: h.Size, Memsz: h.Size})
		}
		if s.typ == elf.SHT_RELA || s.typ == elf.SHT_SYMTAB {
			h.Entsize = entrySize
		}
		table = append(table, h)
		content.Write(s.content)
	}
	h := elf.Header64{
		Type: uint16(elf.ET_DYN), Machine: uint16(elf.EM_X86_64), Version: 1, Ehsize: 64, Phoff: headers, Phentsize: 56, Phnum: uint16(loaded),
		Shoff: start + uint64(content.Len()), Shentsize: 64, Shnum: uint16(len(table)), Shstrndx: uint16(len(table) - 1),
	}
	copy(h.Ident[:], "\x7fELF\x02\x01\x01")
	var b bytes.Buffer
	write(&b, h, loads)
	b.Write(content.Bytes())
	write(&b, table)
	return b.Bytes()
}

func write(b *bytes.Buffer, values ...any) {
	for _, v := range values {
		if err := binary.Write(b, binary.LittleEndian, v); err != nil {
			panic(err)
		}
	}
}

// words are numbers of 64 bits, in a row.
func words(numbers ...uint64) []byte {
	var b bytes.Buffer
	write(&b, numbers)
	return b.Bytes()
}

const (
	textAt = 0x1000
	dataAt = 0x4000
)

// withStrings is what a program has whose text is text, and whose variables have the
// addresses and lengths in headers.
func withStrings(text string, headers ...uint64) []section {
	return []section{
		{name: ".rodata", typ: elf.SHT_PROGBITS, address: textAt, content: []byte(text)},
		{name: ".data", typ: elf.SHT_PROGBITS, address: dataAt, content: words(headers...)},
	}
}

func TestReadVariables(t *testing.T) {
	const text = "go1.26v1.36.9\n1.4.3~ds1\x00v1.2.3-rc.1+x y1.2.3" // at 6, 14, 24 and 38
	symbol := func(name uint32, typ elf.SymType, value, size uint64) []byte {
		var b bytes.Buffer
		write(&b, elf.Sym64{Name: name, Info: byte(typ), Value: value, Size: size})
		return b.Bytes()
	}
	symbols := slices.Concat(symbol(0, elf.STT_NOTYPE, 0, 0), symbol(1, elf.STT_OBJECT, dataAt, 16), symbol(14, elf.STT_OBJECT, dataAt+16, 16), symbol(24, elf.STT_OBJECT, dataAt+32, 8))
	for _, test := range []struct {
		name     string
		sections []section
		want     []string // with a * what is stamped, with a + what is of a list
	}{
		{"a version", withStrings(text, textAt+6, 7), []string{"v1.36.9"}},
		{"with a line's end", withStrings(text, textAt+6, 8), []string{"v1.36.9"}},
		{"stamped in Debian, and one with all", withStrings(text, textAt+14, 9, 0, textAt+24, 13), []string{"1.4.3~ds1*", "v1.2.3-rc.1+x"}},
		{"the same twice", withStrings(text, textAt+6, 7, textAt+6, 8), []string{"v1.36.9", "v1.36.9"}},
		{"a list", withStrings(text, textAt+6, 7, textAt+24, 13, textAt+6, 8, 0, 0, textAt+6, 7), []string{"v1.36.9+", "v1.2.3-rc.1+x+", "v1.36.9+", "v1.36.9"}},
		{"less than a version", withStrings(text, textAt+6, 5), nil},
		{"more than a version", withStrings(text, textAt+4, 9), nil},
		{"of the language", withStrings(text, textAt, 6), nil},
		{"one letter before", withStrings(text, textAt+38, 6), nil},
		{"behind the end", withStrings(text, textAt+uint64(len(text))-5, 6), nil},
		{"before the start", withStrings(text, textAt-1, 8), nil},
		{"nowhere", withStrings(text, 0, 7, 1<<63, 7, ^uint64(0), 7), nil},
		{"length that overflows", withStrings(text, textAt+6, ^uint64(0), textAt+6, 1<<63), nil},
		{"cut off", withStrings(text, textAt+6), nil},
		{"not at an address for one", []section{
			{name: ".rodata", typ: elf.SHT_PROGBITS, address: textAt, content: []byte(text)},
			{name: ".data", typ: elf.SHT_PROGBITS, address: dataAt + 4, content: words(textAt+6, 7)},
		}, nil},
		{"in the data that has no pointers", []section{
			{name: ".rodata", typ: elf.SHT_PROGBITS, address: textAt, content: []byte(text)},
			{name: ".noptrdata", typ: elf.SHT_PROGBITS, address: dataAt, content: words(textAt+6, 7)},
		}, []string{"v1.36.9"}},
		{"relocated", append(withStrings(text, 0, 7, 0, 9), section{name: ".rela.dyn", typ: elf.SHT_RELA, content: words(
			dataAt, uint64(elf.R_X86_64_RELATIVE), textAt+6,
			dataAt+16, uint64(elf.R_X86_64_64), textAt+14, // a symbol's
			dataAt-4, uint64(elf.R_X86_64_RELATIVE), 1, dataAt+30, uint64(elf.R_X86_64_RELATIVE), 1, // partly outside
		)}), []string{"v1.36.9"}},
		{"named", append(withStrings(text, textAt+6, 7, textAt+14, 9),
			section{name: ".symtab", typ: elf.SHT_SYMTAB, link: 4, content: symbols},
			section{name: ".strtab", typ: elf.SHT_STRTAB, content: []byte("\x00main.VERSION\x00main.more\x00x.version")},
		), []string{"v1.36.9"}},
		{"none of that name", append(withStrings(text, textAt+6, 7),
			section{name: ".symtab", typ: elf.SHT_SYMTAB, link: 4, content: symbol(1, elf.STT_OBJECT, dataAt, 16)},
			section{name: ".strtab", typ: elf.SHT_STRTAB, content: []byte("\x00main.versions\x00")},
		), nil},
		{"names that are not there", append(withStrings(text, textAt+6, 7),
			section{name: ".symtab", typ: elf.SHT_SYMTAB, link: 99, content: symbols},
		), []string{"v1.36.9"}},
	} {
		var got []string
		for _, v := range readVariables(bytes.NewReader(elfOf(test.sections...))) {
			mark := ""
			if v.stamped {
				mark += "*"
			}
			if v.listed {
				mark += "+"
			}
			got = append(got, v.text+mark)
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s: readVariables() (-want +got):\n%s", test.name, diff)
		}
	}
}

// sized is a reader that has as many bytes as its headers say, which are zero.
type sized struct {
	head []byte
	read int64
}

func (s *sized) ReadAt(p []byte, off int64) (int, error) {
	s.read += int64(len(p))
	if s.read > 1<<30 {
		return 0, errors.New("enough")
	}
	clear(p)
	if off < int64(len(s.head)) {
		copy(p, s.head[off:])
	}
	return len(p), nil
}

// TestReadVariablesIsBounded reads a program whose headers promise far more than a
// program has.
func TestReadVariablesIsBounded(t *testing.T) {
	const huge = 1 << 50
	sections := withStrings("x", 0)
	sections[0].size, sections[1].size = huge, huge
	for range 500 {
		sections = append(sections, section{name: ".data", typ: elf.SHT_PROGBITS, address: dataAt, size: huge},
			section{name: ".rela.dyn", typ: elf.SHT_RELA, size: huge})
	}
	sections = append(sections, section{name: ".symtab", typ: elf.SHT_SYMTAB, size: huge, link: 1})
	r := &sized{head: elfOf(sections...)}
	begun := time.Now()
	readVariables(r)
	if limit := int64(maxData + maxTables + 4<<20); r.read > limit {
		t.Errorf("readVariables() read %d bytes; want at most %d", r.read, limit)
	}
	if took := time.Since(begun); took > 20*time.Second {
		t.Errorf("readVariables() took %v", took)
	}
}

// TestReadSays builds programs as projects do, and one that says nothing.
func TestReadSays(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":              "module example.com/tool\n\ngo 1.21\n",
		"cmd/tool/main.go":    "package main\n\nimport \"example.com/tool/version\"\n\nvar other = \"v7.8.9\"\n\nvar list = []string{\"0.1.0\", \"0.2.0\"}\n\nfunc main() { println(version.Version, other, list[len(other)%2]) }\n",
		"version/version.go":  "package version\n\nvar Version = \"v0.0.0-master+$Format:%H$\"\n",
		"cmd/embed/main.go":   "package main\n\nimport _ \"embed\"\n\n//go:embed VERSION\nvar version string\n\nfunc main() { println(version) }\n",
		"cmd/embed/VERSION":   "1.4.3\n",
		"cmd/nothing/main.go": "package main\n\nfunc main() {}\n",
	} {
		filetest.Write(t, filepath.Join(dir, name), text)
	}
	const stamp = "-X example.com/tool/version.Version=v1.36.9"
	for _, test := range []struct {
		name  string
		flags []string
		want  Says
	}{
		{"stripped", []string{"-ldflags=-s -w " + stamp, "./cmd/tool"}, Says{"example.com/tool/cmd/tool", []string{"v1.36.9"}, []string{"0.1.0", "0.2.0", "v7.8.9"}}},
		{"with symbols", []string{"-ldflags=" + stamp, "./cmd/tool"}, Says{"example.com/tool/cmd/tool", []string{"v1.36.9"}, nil}},
		{"anywhere in memory", []string{"-buildmode=pie", "-ldflags=-s -w " + stamp, "./cmd/tool"}, Says{"example.com/tool/cmd/tool", []string{"v1.36.9"}, []string{"0.1.0", "0.2.0", "v7.8.9"}}},
		{"not stamped", []string{"-ldflags=-s -w", "./cmd/tool"}, Says{"example.com/tool/cmd/tool", []string{"v7.8.9"}, []string{"0.1.0", "0.2.0"}}},
		{"not stamped, with symbols", []string{"-ldflags=-w", "./cmd/tool"}, Says{Package: "example.com/tool/cmd/tool"}},
		{"embedded", []string{"-ldflags=-s -w", "./cmd/embed"}, Says{"example.com/tool/cmd/embed", []string{"1.4.3"}, nil}},
		{"files by name", []string{"-ldflags=-s -w", "./cmd/nothing/main.go"}, Says{}},
	} {
		f := filetest.Open(t, goprogram.Build(t, "program", dir, "amd64", test.flags...))
		got := ReadSays(f)
		f.Close()
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s: ReadSays() (-want +got):\n%s", test.name, diff)
		}
	}
	if got := ReadSays(strings.NewReader("#!/bin/sh\n")); got.Package != "" || got.Versions != nil {
		t.Errorf("ReadSays() of a script = %+v; want nothing", got)
	}
}

func TestCheckVersion(t *testing.T) {
	for _, test := range []struct {
		says           string // with blanks between; behind a / what may be others'
		want, accepted string
		err            string
	}{
		{"v1.36.10", "v1.36.10", "", ""},
		{"1.36.10", "v1.36.10", "", ""},
		{"v2.3.4", "2.3.4", "", ""},
		{"v1.2.3 v1.36.10 v4.5.6", "v1.36.10", "", ""},
		{"v1.36.10+dirty", "v1.36.10", "", ""},
		{"1.4.13~ds1", "1.4.13", "", ""},
		{"1.4.13~ds1", "1.4.13~ds1-1~deb11u4", "", ""},
		{"1.4.13", "1.4.13-2", "", ""},
		{"", "v1.36.10", "", ""},
		{"v1.36.9", "2026a", "", ""},
		{"v1.36.9", "v1.36.10", "", "it says v1.36.9, and the versions file says v1.36.10"},
		{"v1.36.1", "v1.36.10", "", "it says v1.36.1, and the versions file says v1.36.10"},
		{"v1.36.10-rc.1", "v1.36.10", "", "it says v1.36.10-rc.1, and the versions file says v1.36.10"},
		{"1.2.3 v1.36.9", "v1.36.10", "", "it says 1.2.3 or v1.36.9, and the versions file says v1.36.10"},
		{"1.1.1 2.2.2 3.3.3 4.4.4 5.5.5", "v1.36.10", "", "it says 1.1.1 or 2.2.2 or 3.3.3 or 4.4.4 or ..., and the versions file says v1.36.10"},
		{"v1.36.9 / 0.1.0 v1.36.10", "v1.36.10", "", ""},
		{"/ 0.1.0", "v1.36.10", "", ""},
		{"v1.36.9 / 0.1.0", "v1.36.10", "", "it says v1.36.9, and the versions file says v1.36.10"},
		{"v1.36.9", "v1.36.10", "1.36.9", ""},
		{"v1.36.9", "v1.36.10", "v1.36.8", "it says v1.36.9, and the versions file says v1.36.10"},
		{"v1.36.10", "v1.36.10", "v1.36.8", ""},
	} {
		own, others, _ := strings.Cut(test.says, "/")
		err := Says{Versions: strings.Fields(own), Others: strings.Fields(others)}.CheckVersion(test.want, test.accepted)
		if (err == nil) != (test.err == "") || err != nil && err.Error() != test.err {
			t.Errorf("CheckVersion(%s, %q) of what says %q = %v; want %q", test.want, test.accepted, test.says, err, test.err)
		}
	}
}

func TestCheckPackage(t *testing.T) {
	for _, test := range []struct{ says, want, err string }{
		{"k8s.io/kubernetes/cmd/kubelet", "k8s.io/kubernetes/cmd/kubelet", ""},
		{"", "k8s.io/kubernetes/cmd/kubelet", ""},
		{"github.com/kubernetes-sigs/cri-tools/cmd/crictl", "sigs.k8s.io/cri-tools/cmd/crictl", ""},
		{"github.com/containerd/nerdctl/v2", "github.com/containerd/nerdctl", ""},
		{"k8s.io/kubernetes/cmd/kube-proxy", "k8s.io/kubernetes/cmd/kubelet", "it is k8s.io/kubernetes/cmd/kube-proxy, and the versions file's module has k8s.io/kubernetes/cmd/kubelet there"},
	} {
		err := Says{Package: test.says}.CheckPackage(test.want)
		if (err == nil) != (test.err == "") || err != nil && err.Error() != test.err {
			t.Errorf("CheckPackage(%s) of %s = %v; want %q", test.want, test.says, err, test.err)
		}
	}
}

func FuzzReadVariables(f *testing.F) {
	const text = "v1.36.9\n"
	f.Add(elfOf(withStrings(text, textAt, 8)...))
	f.Add(elfOf(append(withStrings(text, 0, 7), section{name: ".rela.dyn", typ: elf.SHT_RELA, content: words(dataAt, uint64(elf.R_X86_64_RELATIVE), textAt)})...))
	var symbol bytes.Buffer
	write(&symbol, elf.Sym64{Name: 1, Info: byte(elf.STT_OBJECT), Value: dataAt, Size: 16})
	f.Add(elfOf(append(withStrings(text, textAt, 7), section{name: ".symtab", typ: elf.SHT_SYMTAB, link: 4, content: symbol.Bytes()},
		section{name: ".strtab", typ: elf.SHT_STRTAB, content: []byte("\x00version\x00")})...))
	f.Fuzz(func(t *testing.T, content []byte) {
		got := readVariables(bytes.NewReader(content))
		if len(got) > maxVersions {
			t.Errorf("readVariables() = %d; want at most %d", len(got), maxVersions)
		}
		for _, v := range got {
			if !bytes.Contains(content, []byte(v.text)) || len(v.text) > maxVersion {
				t.Errorf("readVariables() = %q, which is not in the program", v.text)
			}
		}
		ReadSays(bytes.NewReader(content))
	})
}
