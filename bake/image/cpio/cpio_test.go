package cpio

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/bake/tree"
	"github.com/nodebake/bake/bake/tree/treetest"
	"github.com/nodebake/bake/test/need"
)

const epoch = 1761998400

func file(path string, size int) tree.Entry {
	return treetest.File(path, 0o755, strings.Repeat(path+"\n", size/len(path)+1)[:size])
}

func sample(t testing.TB) *tree.Tree {
	t.Helper()
	return treetest.New(t, treetest.Dir("."), treetest.Dir("dev"),
		tree.Entry{Path: "dev/null", Type: tree.Char, Perm: 0o666, Major: 1, Minor: 3},
		tree.Entry{Path: "lib", Type: tree.Symlink, Perm: 0o777, Link: "usr/lib"},
		tree.Entry{Path: "usr", Type: tree.Dir, Perm: 0o700, MTime: 1000000000},
		file("init", 5001), file("usr/empty", 0), file("usr/1", 1), file("usr/22", 2), file("usr/333", 3), file("usr/4444", 4))
}

func archive(t testing.TB, tr *tree.Tree) []byte {
	t.Helper()
	var buf bytes.Buffer
	if err := Write(&buf, tr, epoch); err != nil {
		t.Fatalf("Write() = %v", err)
	}
	return buf.Bytes()
}

func TestGNUcpio(t *testing.T) {
	cpio := need.Program(t, "cpio", "cpio")
	tr := sample(t)
	data := archive(t, tr)
	run := func(data []byte, dir string, args ...string) (string, error) {
		cmd := exec.Command(cpio, args...)
		cmd.Dir = dir
		cmd.Stdin = bytes.NewReader(data)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	out, err := run(data, t.TempDir(), "-t", "--quiet")
	var want []string
	for _, e := range tr.Entries {
		want = append(want, e.Path)
	}
	if got := strings.Fields(out); err != nil || !cmp.Equal(got, want) {
		t.Errorf("cpio -t = %v, %v; want %v", got, err, want)
	}
	dir := t.TempDir()
	if out, err := run(data, dir, "-i", "-m", "--quiet", "-d", "init", "lib", "usr*"); err != nil {
		t.Fatalf("cpio -i: %v\n%s", err, out)
	}
	for i := range tr.Entries {
		e := &tr.Entries[i]
		path := filepath.Join(dir, e.Path)
		switch e.Type {
		case tree.File:
			want := treetest.Content(t, e)
			if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s: cpio -i gives other content (%v)", e.Path, err)
			}
			if info, err := os.Stat(path); err != nil || info.ModTime().Unix() != epoch {
				t.Errorf("%s: %v; want the epoch as its time", e.Path, err)
			}
		case tree.Symlink:
			if got, err := os.Readlink(path); err != nil || got != e.Link {
				t.Errorf("Readlink(%s) = %q, %v; want %q", e.Path, got, err, e.Link)
			}
		}
	}
	broken := bytes.Clone(data)
	copy(broken[headerSize+4:], "xxxxxx") // the second header's magic
	if out, err := run(broken[:len(broken)/2], t.TempDir(), "-t"); err == nil {
		t.Errorf("cpio -t accepts a broken archive:\n%s", out)
	}
}

func TestReadBack(t *testing.T) {
	tr := sample(t)
	data := archive(t, tr)
	if !bytes.Equal(data, archive(t, tr)) {
		t.Error("two archives of one tree differ")
	}
	r := NewReader(bytes.NewReader(data))
	var got []string
	for {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatalf("Next() = %v", err)
		}
		content, err := io.ReadAll(r)
		if err != nil || int64(len(content)) != h.Size {
			t.Fatalf("%s: %d bytes, %v; want %d", h.Name, len(content), err, h.Size)
		}
		got = append(got, fmt.Sprintf("%s %o %d %d %d,%d", h.Name, h.Mode, h.MTime, h.Size, h.RdevMajor, h.RdevMinor))
	}
	want := []string{
		". 40755 1761998400 0 0,0",
		"dev 40755 1761998400 0 0,0",
		"dev/null 20666 1761998400 0 1,3",
		"init 100755 1761998400 5001 0,0",
		"lib 120777 1761998400 7 0,0",
		"usr 40700 1000000000 0 0,0",
		"usr/1 100755 1761998400 1 0,0",
		"usr/22 100755 1761998400 2 0,0",
		"usr/333 100755 1761998400 3 0,0",
		"usr/4444 100755 1761998400 4 0,0",
		"usr/empty 100755 1761998400 0 0,0",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("read back (-want +got):\n%s", diff)
	}
}

func TestWriteRefuses(t *testing.T) {
	for _, e := range []tree.Entry{
		{Path: "hard", Type: tree.Hardlink, Link: "file"},
		{Path: trailer, Type: tree.Dir},
		{Path: "old", Type: tree.Dir, MTime: -1},
		{Path: strings.Repeat("x/", 2100) + "x", Type: tree.Dir},
		{Path: "huge", Type: tree.File, Size: 1 << 32},
	} {
		if err := Write(io.Discard, &tree.Tree{Entries: []tree.Entry{e}}, epoch); err == nil {
			t.Errorf("Write() of %s %.20s succeeds", e.Type, e.Path)
		}
	}
}

func FuzzReader(f *testing.F) {
	f.Add(archive(f, sample(f)))
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := NewReader(bytes.NewReader(data))
		for range 1000 {
			if _, err := r.Next(); err != nil {
				return
			}
			if _, err := io.Copy(io.Discard, r); err != nil {
				return
			}
		}
	})
}
