package depmod

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/test/archivetest"
)

// What real kernels give is compared with kmod's own depmod by the tests of
// package rootfs.

// object makes an ELF file with a .modinfo, an export table, and undefined symbols.
func object(info, exports, needs []string) []byte {
	symbols := make([]byte, 24) // the first is empty
	names := "\x00"
	for _, need := range needs {
		entry := make([]byte, 24)
		binary.LittleEndian.PutUint32(entry, uint32(len(names)))
		entry[4] = 1 << 4 // global
		symbols = append(symbols, entry...)
		names += need + "\x00"
	}
	sections := []struct {
		name       string
		kind, link uint32
		entry      uint64
		data       []byte
	}{
		{},
		{".modinfo", 1, 0, 0, []byte(strings.Join(info, "\x00") + "\x00")},
		{"__ksymtab_strings", 1, 0, 0, []byte(strings.Join(exports, "\x00") + "\x00")},
		{".symtab", 2, 4, 24, symbols},
		{".strtab", 3, 0, 0, []byte(names)},
		{".shstrtab", 3, 0, 0, nil},
	}
	strtab := "\x00"
	var offsets []uint32
	for _, s := range sections {
		offsets = append(offsets, uint32(len(strtab)))
		strtab += s.name + "\x00"
	}
	sections[5].data = []byte(strtab)
	out := make([]byte, 64)
	headers := make([]byte, 64*len(sections))
	for i, s := range sections {
		h := headers[64*i:]
		binary.LittleEndian.PutUint32(h, offsets[i])
		binary.LittleEndian.PutUint32(h[4:], s.kind)
		binary.LittleEndian.PutUint64(h[24:], uint64(len(out)))
		binary.LittleEndian.PutUint64(h[32:], uint64(len(s.data)))
		binary.LittleEndian.PutUint32(h[40:], s.link)
		binary.LittleEndian.PutUint64(h[56:], s.entry)
		out = append(out, s.data...)
	}
	copy(out, "\x7fELF\x02\x01\x01")
	binary.LittleEndian.PutUint16(out[16:], 1)  // relocatable
	binary.LittleEndian.PutUint16(out[18:], 62) // x86-64
	binary.LittleEndian.PutUint32(out[20:], 1)
	binary.LittleEndian.PutUint64(out[40:], uint64(len(out)))
	binary.LittleEndian.PutUint16(out[52:], 64)
	binary.LittleEndian.PutUint16(out[58:], 64)
	binary.LittleEndian.PutUint16(out[60:], uint16(len(sections)))
	binary.LittleEndian.PutUint16(out[62:], 5)
	return append(out, headers...)
}

func mod(path string, image []byte) Module {
	return Module{Path: path, Size: int64(len(image)), Open: func() io.Reader { return bytes.NewReader(image) }}
}

func TestFiles(t *testing.T) {
	files, err := Files(Input{
		Modules: []Module{
			mod("kernel/low.ko", object(nil, []string{"low_do"}, nil)),
			mod("kernel/mid-dle.ko", object([]string{"softdep=pre: low"}, []string{"mid_do"}, []string{"low_do", "printk"})),
			mod("kernel/top.ko.xz", archivetest.XZ(object([]string{"alias=char-major-10-200", "alias=devname:net/top", "alias=pci:v-d[A-Z]"}, nil, []string{"mid_do", "low_do"}))),
		},
		Order:          []byte("kernel/top.ko\nkernel/low.ko\nkernel/mid-dle.ko\n"),
		Builtin:        []byte("kernel/built-in.ko\n"),
		BuiltinModinfo: []byte("built_in.alias=fs-x\x00built_in.license=GPL\x00"),
		WeakDeps:       true,
	})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, f := range files {
		if strings.HasSuffix(f.Name, ".bin") {
			got[f.Name] = strings.Join(readIndex(t, f.Content), "\n")
		} else {
			got[f.Name] = string(f.Content)
		}
	}
	want := map[string]string{
		"modules.dep":               "kernel/top.ko.xz: kernel/mid-dle.ko kernel/low.ko\nkernel/low.ko:\nkernel/mid-dle.ko: kernel/low.ko\n",
		"modules.dep.bin":           "low 1 kernel/low.ko:\nmid_dle 2 kernel/mid-dle.ko: kernel/low.ko\ntop 0 kernel/top.ko.xz: kernel/mid-dle.ko kernel/low.ko",
		"modules.alias":             "# Aliases extracted from modules themselves.\nalias char-major-10-200 top\nalias devname:net/top top\nalias pci:v-d[A-Z] top\n",
		"modules.alias.bin":         "char_major_10_200 0 top\ndevname:net/top 0 top\npci:v_d[A-Z] 0 top",
		"modules.symbols":           "# Aliases for symbols, used by symbol_request().\nalias symbol:mid_do mid_dle\nalias symbol:low_do low\n",
		"modules.symbols.bin":       "symbol:low_do 1 low\nsymbol:mid_do 2 mid_dle",
		"modules.softdep":           "# Soft dependencies extracted from modules themselves.\nsoftdep mid_dle pre: low\n",
		"modules.weakdep":           "# Weak dependencies extracted from modules themselves.\n",
		"modules.devname":           "# Device nodes to trigger on-demand module loading.\ntop net/top c10:200\n",
		"modules.builtin.bin":       "built_in 0 ",
		"modules.builtin.alias.bin": "fs_x 0 built_in",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Files (-want +got):\n%s", diff)
	}
}

func TestFilesErrors(t *testing.T) {
	for _, test := range []struct {
		name    string
		modules []Module
		want    string
	}{
		{"not ELF", []Module{mod("a.ko", []byte("text, not a module"))}, "a.ko: "},
		{"not xz", []Module{mod("a.ko.xz", []byte("text, not a module"))}, "a.ko.xz: "},
		{"cycle", []Module{mod("a.ko", object(nil, []string{"a"}, []string{"b"})), mod("b.ko", object(nil, []string{"b"}, []string{"a"}))}, "needs itself"},
		{"one name", []Module{mod("a-b.ko", object(nil, nil, nil)), mod("x/a_b.ko", object(nil, nil, nil))}, "module a_b is both"},
		{"alias", []Module{mod("a.ko", object([]string{"alias=x]"}, nil, nil))}, "a ] without a ["},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, err := Files(Input{Modules: test.modules}); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("Files = %v; want an error with %q", err, test.want)
			}
		})
	}
}

// readIndex lists an index as KEY PRIORITY VALUE, in the order of keys.
func readIndex(t *testing.T, data []byte) []string {
	t.Helper()
	if binary.BigEndian.Uint32(data) != indexMagic || binary.BigEndian.Uint32(data[4:]) != indexVersion {
		t.Fatalf("index begins with %x", data[:8])
	}
	text := func(at uint32) (string, uint32) {
		s, _, _ := bytes.Cut(data[at:], []byte{0})
		return string(s), at + uint32(len(s)) + 1
	}
	var out []string
	var visit func(offset uint32, key string)
	visit = func(offset uint32, key string) {
		at := offset & 0x1fffffff
		if offset&nodePrefix != 0 {
			var s string
			s, at = text(at)
			key += s
		}
		var first, last int
		children := uint32(0)
		if offset&nodeChildren != 0 {
			first, last = int(data[at]), int(data[at+1])
			children = at + 2
			at = children + 4*uint32(last-first+1)
		}
		if offset&nodeValues != 0 {
			n := binary.BigEndian.Uint32(data[at:])
			at += 4
			for range n {
				priority := binary.BigEndian.Uint32(data[at:])
				var s string
				s, at = text(at + 4)
				out = append(out, fmt.Sprintf("%s %d %s", key, priority, s))
			}
		}
		for c := first; children != 0 && c <= last; c++ {
			if child := binary.BigEndian.Uint32(data[children+4*uint32(c-first):]); child != 0 {
				visit(child, key+string(rune(c)))
			}
		}
	}
	visit(binary.BigEndian.Uint32(data[8:]), "")
	return out
}

func FuzzIndex(f *testing.F) {
	f.Add("abc\nabd\nab\nabc\n\x7f")
	f.Fuzz(func(t *testing.T, text string) {
		var x index
		n := 0
		for key := range strings.SplitSeq(text, "\n") {
			if key == "" || checkKey(key) != nil {
				continue
			}
			x.insert(key, "v", n)
			n++
		}
		if got := len(readIndex(t, x.bytes())); got != n {
			t.Errorf("%d values in the index; want %d", got, n)
		}
	})
}

func FuzzModule(f *testing.F) {
	f.Add(object([]string{"alias=x-y"}, []string{"a"}, []string{"b"}))
	f.Fuzz(func(t *testing.T, image []byte) {
		m := &module{path: "x.ko"}
		m.read(mod("x.ko", image))
	})
}
