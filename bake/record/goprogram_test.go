package record_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/bake/record"
	"github.com/nodebake/bake/bake/tree"
	"github.com/nodebake/bake/bake/tree/treetest"
	"github.com/nodebake/bake/test/filetest"
	"github.com/nodebake/bake/test/goprogram"
	"github.com/nodebake/bake/test/must"
)

// pack puts files into a pack, one after the other, as the store has them, and
// returns it with its bytes.
func pack(t *testing.T, files ...[]byte) (*tree.Pack, []byte) {
	t.Helper()
	var data bytes.Buffer
	w := tree.NewPackWriter(&data)
	for i, f := range files {
		if err := w.Add(tree.Entry{Path: "f" + string(rune('0'+i)), Type: tree.File, Size: int64(len(f))}, bytes.NewReader(f)); err != nil {
			t.Fatal(err)
		}
	}
	p, err := w.Close()
	if err != nil {
		t.Fatal(err)
	}
	p.Bind("pack", "test", bytes.NewReader(data.Bytes()))
	return p, data.Bytes()
}

// counting counts what is read.
type counting struct {
	io.ReaderAt
	n int64
}

func (c *counting) ReadAt(p []byte, off int64) (int, error) {
	n, err := c.ReaderAt.ReadAt(p, off)
	c.n += int64(n)
	return n, err
}

// versionM has the go command read a program, and returns its modules in the
// form "path version sum".
func versionM(t *testing.T, path string) (toolchain string, modules []string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "version", "-m", path).Output()
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range strings.Split(strings.TrimSpace(string(out)), "\n") {
		fields := strings.Fields(line)
		switch {
		case i == 0:
			_, toolchain, _ = strings.Cut(line, ": ")
		case fields[0] == "dep":
			modules = append(modules, strings.Join(fields[1:], " "))
		case fields[0] == "=>":
			modules[len(modules)-1] = strings.Join(fields[1:], " ")
		}
	}
	slices.Sort(modules)
	return toolchain, modules
}

// TestReadGo reads a program that Go built, between others.
func TestReadGo(t *testing.T) {
	t.Parallel()
	self := goprogram.Build(t, "firstboot", "../../cmd/firstboot", "amd64")
	program := filetest.Read(t, self)
	p, data := pack(t, []byte("#!/bin/sh\n"), program, nil, program[:len(program)/2])
	reads := &counting{ReaderAt: bytes.NewReader(data)}
	p.Bind("pack", "test", reads)
	got, err := record.ReadGo(&p.Entries[1])
	if err != nil || got == nil {
		t.Fatalf("ReadGo = %+v, %v; want what is in the program", got, err)
	}
	// A chunk more at each end: the program does not begin at one.
	if most := int64(8 << 20); reads.n > most {
		t.Errorf("%d bytes of %d were read; want at most %d", reads.n, len(program), most)
	}
	toolchain, want := versionM(t, self)
	var modules []string
	for _, m := range got.Deps {
		modules = append(modules, strings.TrimSpace(m.Path+" "+m.Version+" "+m.Sum))
	}
	if diff := cmp.Diff(want, modules); diff != "" || len(want) == 0 || got.Toolchain != toolchain || got.Path != "/f1" {
		t.Errorf("%s by %s has modules (-go version -m, +read):\n%s; want the path /f1 and the toolchain %s", got.Path, got.Toolchain, diff, toolchain)
	}
	for _, i := range []int{0, 2} {
		if got, err := record.ReadGo(&p.Entries[i]); got != nil || err != nil {
			t.Errorf("ReadGo of %s = %+v, %v; want nothing", p.Entries[i].Path, got, err)
		}
	}
	if _, err := record.ReadGo(&p.Entries[3]); err != nil { // whatever can be read of it
		t.Errorf("ReadGo of half a program = %v; want no error", err)
	}
}

// TestReadGoVerifies damages what is read: that is no "not Go".
func TestReadGoVerifies(t *testing.T) {
	t.Parallel()
	self := must.Get(os.Executable())
	program := filetest.Read(t, self)
	p, data := pack(t, program)
	data[0] ^= 1
	corrupt := (*tree.CorruptError)(nil)
	if got, err := record.ReadGo(&p.Entries[0]); !errors.As(err, &corrupt) {
		t.Errorf("ReadGo of a damaged pack = %+v, %v; want a CorruptError", got, err)
	}
}

// TestReadGoReplaced builds a program with replaced modules: what is in it is
// what replaced them.
func TestReadGoReplaced(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, content := range map[string]string{
		"go.mod":       "module example.com/main\n\ngo 1.26\n\nrequire example.com/local v1.2.3\n\nreplace example.com/local => ./local\n",
		"main.go":      "package main\n\nimport \"example.com/local\"\n\nfunc main() { local.F() }\n",
		"local/go.mod": "module example.com/local\n",
		"local/l.go":   "package local\n\nfunc F() { println(1) }\n",
	} {
		filetest.Write(t, filepath.Join(dir, name), content)
	}
	e := treetest.File("bin/main", 0o755, string(filetest.Read(t, goprogram.Build(t, "main", dir, "arm64"))))
	got, err := record.ReadGo(&e)
	if err != nil || got == nil {
		t.Fatalf("ReadGo = %+v, %v", got, err)
	}
	want := &record.GoProgram{Path: "/bin/main", Toolchain: got.Toolchain, Main: record.GoModule{Path: "example.com/main"}, Deps: []record.GoModule{{Path: "example.com/local"}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("ReadGo (-want +got):\n%s", diff)
	}
}
