//go:build unix

package gobuild

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/bake/arch"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/tree"
)

// fakeDebs has packs by the names of packages.
type fakeDebs map[string]*tree.Pack

func (d fakeDebs) unpack(ctx context.Context, p manifest.LockedPackage) (*tree.Pack, error) {
	return d[p.Name], nil
}

func needCC(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("cc"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("cc is not installed (apt-get install gcc libc6-dev)")
		}
		t.Skip("cc is not installed (apt-get install gcc libc6-dev)")
	}
}

// packOf makes a pack of entries whose contents are their Origin.
func packOf(t *testing.T, entries ...tree.Entry) *tree.Pack {
	t.Helper()
	var blob bytes.Buffer
	w := tree.NewPackWriter(&blob)
	for _, e := range entries {
		e.Size = int64(len(e.Owner))
		if err := w.Add(e, strings.NewReader(e.Owner)); err != nil {
			t.Fatal(err)
		}
	}
	pack, err := w.Close()
	if err != nil {
		t.Fatal(err)
	}
	pack.Bind("test", "", bytes.NewReader(blob.Bytes()))
	return pack
}

const demoPC = `# demo
prefix=/usr
libdir=${prefix}/lib/x86_64-linux-gnu
Name: demo
Version: 1.0: not a key
Libs: -L${libdir} -ldemo
Libs.private: -lm ${nothing}
Cflags: -I${prefix}/include/demo -DDEMO=1 -I/../../demo
`

func TestParsePC(t *testing.T) {
	cflags, libs := parsePC(demoPC)
	if diff := cmp.Diff([]string{"-I/usr/include/demo", "-DDEMO=1", "-I/../../demo"}, cflags); diff != "" {
		t.Errorf("parsePC: cflags (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"-L/usr/lib/x86_64-linux-gnu", "-ldemo", "-lm"}, libs); diff != "" {
		t.Errorf("parsePC: libs (-want +got):\n%s", diff)
	}
}

func FuzzParsePC(f *testing.F) {
	f.Add(demoPC)
	f.Add("a=${a}${a}\na=${a}${a}\nLibs: ${a}")
	f.Add("=\n:\nLibs\nLibs:\n${}=$\n#Libs: -lx")
	f.Fuzz(func(t *testing.T, text string) {
		cflags, libs := parsePC(text)
		for _, word := range append(cflags, libs...) {
			if word == "" || strings.ContainsAny(word, " \t\n") {
				t.Errorf("parsePC(%q) has the word %q", text, word)
			}
		}
	})
}

func TestSysroot(t *testing.T) {
	debs := fakeDebs{
		"libc6-dev": packOf(t,
			tree.Entry{Path: "DEBIAN/control", Type: tree.File, Owner: "Package: libc6-dev"},
			tree.Entry{Path: "usr/include", Type: tree.Dir, Perm: 0o755},
			tree.Entry{Path: "usr/include/stdio.h", Type: tree.File, Owner: "stdio"},
			tree.Entry{Path: "usr/include/other.h", Type: tree.Hardlink, Link: "usr/include/stdio.h"},
			tree.Entry{Path: "usr/share/doc/libc6-dev/copyright", Type: tree.File, Owner: "GNU"},
		),
		"libdemo-dev": packOf(t,
			tree.Entry{Path: "usr/lib/x86_64-linux-gnu/pkgconfig/demo.pc", Type: tree.File, Owner: demoPC},
			tree.Entry{Path: "usr/lib/x86_64-linux-gnu/libdemo.a", Type: tree.File, Owner: "!<arch>"},
			tree.Entry{Path: "usr/lib/x86_64-linux-gnu/libdemo.so", Type: tree.Symlink, Link: "libdemo.so.1"},
			tree.Entry{Path: "usr/lib/x86_64-linux-gnu/libabs.so", Type: tree.Symlink, Link: "/lib/libabs.so.1"},
			tree.Entry{Path: "usr/lib/x86_64-linux-gnu/libout.so", Type: tree.Symlink, Link: "../../../../../../etc/passwd"},
			tree.Entry{Path: "usr/lib/x86_64-linux-gnu/here", Type: tree.Symlink, Link: "."},
			tree.Entry{Path: "usr/lib/x86_64-linux-gnu/libround.so", Type: tree.Symlink, Link: "here/here/../../../../x"},
		),
	}
	b := newBuilder(t, Config{Unpack: debs.unpack})
	r := &recipe{arch: arch.AMD64, cgo: &cgo{cc: "/usr/bin/cc", packages: []manifest.LockedPackage{{Name: "libc6-dev"}, {Name: "libdemo-dev"}}}}
	dir := filepath.Join(t.TempDir(), "with a space", "sysroot")
	s, err := b.unpackSysroot(t.Context(), r, dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	err = filepath.WalkDir(filepath.Join(dir, "usr"), func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		got = append(got, rel)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"usr/include/other.h", "usr/include/stdio.h",
		"usr/lib/x86_64-linux-gnu/here", "usr/lib/x86_64-linux-gnu/libdemo.a", "usr/lib/x86_64-linux-gnu/libdemo.so", "usr/lib/x86_64-linux-gnu/pkgconfig/demo.pc",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("sysroot (-want +got):\n%s", diff)
	}

	pkgConfig := filepath.Join(dir, "pkg-config", "pkg-config")
	for flag, want := range map[string]string{
		"--cflags": "'-I" + dir + "/usr/include/demo' -DDEMO=1 '-I" + dir + "/demo'\n",
		"--libs":   "'-L" + dir + "/usr/lib/x86_64-linux-gnu' -ldemo -lm\n",
	} {
		out, err := exec.Command(pkgConfig, flag, "--", "demo").Output()
		if err != nil || string(out) != want {
			t.Errorf("pkg-config %s demo = %q, %v; want %q", flag, out, err, want)
		}
	}
	if out, err := exec.Command(pkgConfig, "--libs", "--", "nosuch").Output(); err == nil {
		t.Errorf("pkg-config --libs nosuch = %q; want an error", out)
	}
	env := strings.Join(s.env(r.cgo), "\n")
	if want := "CGO_CFLAGS=-O2 '--sysroot=" + dir + "'"; !strings.Contains(env, want) {
		t.Errorf("env = %s; want %s in it", env, want)
	}
}

// TestSysrootEscape unpacks packages that try to write beside the sysroot.
func TestSysrootEscape(t *testing.T) {
	outside := t.TempDir()
	for _, pack := range []*tree.Pack{
		packOf(t,
			tree.Entry{Path: "usr/lib/out", Type: tree.Symlink, Link: "../../../../../../../../../../../../" + outside},
			tree.Entry{Path: "usr/lib/out/file", Type: tree.File, Owner: "evil"}),
		packOf(t,
			tree.Entry{Path: "usr/lib/out", Type: tree.Symlink, Link: "../../.."},
			tree.Entry{Path: "usr/lib/out/dir/file", Type: tree.File, Owner: "evil"}),
	} {
		b := newBuilder(t, Config{Unpack: fakeDebs{"evil": pack}.unpack})
		r := &recipe{arch: arch.AMD64, cgo: &cgo{packages: []manifest.LockedPackage{{Name: "evil"}}}}
		_, err := b.unpackSysroot(t.Context(), r, filepath.Join(t.TempDir(), "sysroot"))
		if err == nil || !strings.Contains(err.Error(), "escapes") {
			t.Errorf("unpackSysroot = %v; want that the path escapes", err)
		}
	}
	if left, _ := os.ReadDir(outside); len(left) != 0 {
		t.Errorf("%v was written outside", left)
	}
}
