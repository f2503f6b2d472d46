package program

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/nodebake/bake/bake/arch"
)

// program makes a program that is a header, and where interpreter is not empty
// the name of what loads it.
func program(machine elf.Machine, typ elf.Type, interpreter string) string {
	h := elf.Header64{Type: uint16(typ), Machine: uint16(machine), Version: 1, Ehsize: 64, Phoff: 64, Phentsize: 56, Phnum: 1, Shentsize: 64}
	copy(h.Ident[:], "\x7fELF\x02\x01\x01")
	p := elf.Prog64{Type: uint32(elf.PT_LOAD)}
	if interpreter != "" {
		p = elf.Prog64{Type: uint32(elf.PT_INTERP), Off: 120, Filesz: uint64(len(interpreter))}
	}
	var b bytes.Buffer
	for _, v := range []any{h, p} {
		if err := binary.Write(&b, binary.LittleEndian, v); err != nil {
			panic(err)
		}
	}
	return b.String() + interpreter
}

func TestRead(t *testing.T) {
	const loader = "/lib64/ld-linux-x86-64.so.2"
	for _, test := range []struct {
		name, content string
		want          Info
		err           string
	}{
		{"static", program(elf.EM_X86_64, elf.ET_EXEC, ""), Info{}, ""},
		{"dynamic", program(elf.EM_X86_64, elf.ET_DYN, loader+"\x00"), Info{Interpreter: loader}, ""},
		{"script", "#! /bin/sh -e\nexit\n", Info{true, "/bin/sh"}, ""},
		{"script without more", "#!/bin/sh", Info{true, "/bin/sh"}, ""},
		{"empty", "", Info{}, "it is empty"},
		{"a page", "<!DOCTYPE html>\n<title>404", Info{}, `it is neither an ELF program nor a script: it begins with "<!DOCTYPE html>\n"`},
		{"no interpreter", "#!\n/bin/sh\n", Info{}, "it is a script whose first line names no interpreter by its absolute path"},
		{"relative interpreter", "#!sh\n", Info{}, "it is a script whose first line names no interpreter by its absolute path"},
		{"other architecture", program(elf.EM_AARCH64, elf.ET_EXEC, ""), Info{}, "it is for EM_AARCH64, the image for EM_X86_64"},
		{"object", program(elf.EM_X86_64, elf.ET_REL, ""), Info{}, "it is of type ET_REL, not a program"},
		{"cut off", program(elf.EM_X86_64, elf.ET_EXEC, "")[:70], Info{}, "it is not an ELF file: "},
		{"loader cut off", strings.TrimSuffix(program(elf.EM_X86_64, elf.ET_EXEC, loader), ".so.2"), Info{}, `"/lib64/ld-linux-x86-64" can't be what loads it`},
		{"magic alone", elf.ELFMAG, Info{}, "it is not an ELF file: "},
	} {
		got, err := Read(strings.NewReader(test.content), arch.AMD64)
		if test.err == "" && (err != nil || got != test.want) {
			t.Errorf("%s: Read() = %+v, %v; want %+v", test.name, got, err, test.want)
		}
		if test.err != "" && (err == nil || !strings.HasPrefix(err.Error(), test.err)) {
			t.Errorf("%s: Read() = %v; want %s", test.name, err, test.err)
		}
	}
	if _, err := Read(strings.NewReader(program(elf.EM_AARCH64, elf.ET_EXEC, "")), arch.ARM64); err != nil {
		t.Errorf("Read() of a program for arm64 = %v", err)
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(program(elf.EM_X86_64, elf.ET_DYN, "/lib/ld\x00")))
	f.Add([]byte("#!/bin/sh\n"))
	f.Fuzz(func(t *testing.T, content []byte) {
		info, err := Read(bytes.NewReader(content), arch.AMD64)
		if err == nil && info.Interpreter != "" && info.Interpreter[0] != '/' {
			t.Errorf("the interpreter is %q; want an absolute path", info.Interpreter)
		}
	})
}
