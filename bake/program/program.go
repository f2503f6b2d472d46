// Package program says whether a file is a program that a Linux of some
// architecture can start. It runs nothing, and reads a program's headers only.
package program

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/nodebake/bake/bake/arch"
)

// Info is what a program says of itself.
type Info struct {
	Script      bool   `json:"script,omitempty"`      // begins with #!
	Interpreter string `json:"interpreter,omitempty"` // absolute path of what runs a script, or loads a program that is linked dynamically
}

// maxLine is how much of a script's first line Linux reads (BINPRM_BUF_SIZE,
// include/uapi/linux/binfmts.h), and maxPath how long a path can be, in bytes.
const (
	maxLine = 256
	maxPath = 4096
)

// Read reads a program for arch: an ELF file, or a script.
func Read(r io.ReaderAt, arch arch.Arch) (Info, error) {
	start := make([]byte, maxLine)
	n, err := r.ReadAt(start, 0)
	if err != nil && err != io.EOF {
		return Info{}, err
	}
	start = start[:n]
	switch {
	case n == 0:
		return Info{}, errors.New("it is empty")
	case bytes.HasPrefix(start, []byte("#!")):
		line, _, _ := strings.Cut(string(start[2:]), "\n")
		words := strings.Fields(line)
		if len(words) == 0 || !strings.HasPrefix(words[0], "/") {
			return Info{}, errors.New("it is a script whose first line names no interpreter by its absolute path")
		}
		return Info{Script: true, Interpreter: words[0]}, nil
	case !bytes.HasPrefix(start, []byte(elf.ELFMAG)):
		return Info{}, fmt.Errorf("it is neither an ELF program nor a script: it begins with %q", start[:min(n, 16)])
	}
	interpreter, err := ReadELF(r, arch)
	return Info{Interpreter: interpreter}, err
}

// ReadELF reads an ELF program for arch, and returns the path of what loads it.
// It is empty where the program is linked statically.
func ReadELF(r io.ReaderAt, arch arch.Arch) (interpreter string, err error) {
	f, err := elf.NewFile(r)
	if err != nil {
		return "", fmt.Errorf("it is not an ELF file: %w", err)
	}
	switch want := arch.Facts().ELF; {
	case f.Machine != want:
		return "", fmt.Errorf("it is for %v, the image for %v", f.Machine, want)
	case f.Class != elf.ELFCLASS64 || f.Data != elf.ELFDATA2LSB:
		return "", fmt.Errorf("it is %v and %v, the image's programs are of 64 bits and little-endian", f.Class, f.Data)
	case f.Type != elf.ET_EXEC && f.Type != elf.ET_DYN:
		return "", fmt.Errorf("it is of type %v, not a program", f.Type)
	}
	for _, p := range f.Progs {
		if p.Type != elf.PT_INTERP {
			continue
		}
		text, err := io.ReadAll(io.LimitReader(p.Open(), maxPath))
		if err != nil {
			return "", fmt.Errorf("it is cut off: reading what loads it: %w", err)
		}
		name, _, ended := strings.Cut(string(text), "\x00")
		if !ended || !strings.HasPrefix(name, "/") {
			return "", fmt.Errorf("%q can't be what loads it", text)
		}
		return name, nil
	}
	return "", nil
}
