package deb

import (
	"archive/tar"
	"bytes"
	"crypto/md5"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/bake/tree"
	"github.com/nodebake/bake/bake/tree/treetest"
	"github.com/nodebake/bake/test/archivetest"
)

const controlText = "Package: hello\nVersion: 2.10-3\nArchitecture: amd64\nDescription: greets\n more\n"

// m is a member of a tar.
type m = archivetest.Member

func dir(name string) m           { return archivetest.Dir(name) }
func file(name, content string) m { return archivetest.File(name, content) }
func symlink(name, to string) m   { return archivetest.Symlink(name, to) }
func hardlink(name, to string) m  { return archivetest.Hardlink(name, to) }

// part is a member of an ar archive.
type part struct {
	name    string
	content []byte
}

func makeAr(parts ...part) []byte {
	b := []byte(archivetest.ArMagic)
	for _, p := range parts {
		b = archivetest.AppendAr(b, p.name, p.content)
	}
	return b
}

func controlTar(more ...m) []byte {
	return archivetest.Tar(append([]m{dir("./"), file("./control", controlText)}, more...)...)
}

// makeDeb makes a .deb with the usual control files around data.
func makeDeb(data ...m) []byte {
	return makeAr(part{"debian-binary", []byte("2.0\n")}, part{"control.tar", controlTar()}, part{"data.tar", archivetest.Tar(data...)})
}

// pack unpacks a .deb and binds the result to its bytes.
func pack(data []byte, max limits) (c *Control, p *tree.Pack, err error) {
	p, err = tree.NewPack("test.deb", func(w *tree.PackWriter) (err error) {
		c, err = unpack(bytes.NewReader(data), int64(len(data)), w, max)
		return err
	})
	return c, p, err
}

// list writes entries as lines: type, permissions, owner, path, what follows.
func list(t testing.TB, p *tree.Pack) []string {
	t.Helper()
	var lines []string
	for _, e := range p.Entries {
		line := fmt.Sprintf("%s %04o %d:%d %s", e.Type, e.Perm, e.UID, e.GID, e.Path)
		switch e.Type {
		case tree.File:
			line += fmt.Sprintf(" %q", treetest.Content(t, &e))
		case tree.Symlink, tree.Hardlink:
			line += " -> " + e.Link
		}
		for name, value := range e.Xattrs {
			line += fmt.Sprintf(" %s=%x", name, value)
		}
		lines = append(lines, line)
	}
	return lines
}

func TestUnpack(t *testing.T) {
	long := strings.Repeat("long/", 60) + "name"
	sums := fmt.Sprintf("%x  usr/bin/hello\n%x  usr/bin/hi\n", md5.Sum([]byte("#!")), md5.Sum([]byte("#!")))
	data := []m{
		dir("./"), dir("./usr/"), dir("./usr/bin/"),
		{Header: tar.Header{Name: "./usr/bin/hello", Typeflag: tar.TypeReg, Mode: 0o4755, PAXRecords: map[string]string{"SCHILY.xattr.security.capability": "\x01\x00"}}, Content: "#!"},
		{Header: tar.Header{Name: "./usr/bin/chage", Typeflag: tar.TypeReg, Mode: 0o2755, Gid: 42, Gname: "shadow"}, Content: "x"},
		{Header: tar.Header{Name: "./usr/bin/other-number", Typeflag: tar.TypeReg, Mode: 0o100755, Gid: 1234, Gname: "mail"}},
		{Header: tar.Header{Name: "./usr/bin/number", Typeflag: tar.TypeReg, Mode: 0o755, Uid: 6}},
		hardlink("./usr/bin/hi", "./usr/bin/hello"),
		hardlink("./usr/bin/hey", "./usr/bin/hi"),
		symlink("./usr/bin/link", "../../../etc/passwd"),
		symlink("./abs", "/proc/self"),
		{Header: tar.Header{Name: "./tmp/", Typeflag: tar.TypeDir, Mode: 0o1777}},
		file("./"+long, "deep"),
	}
	want := []string{
		`file 0644 0:0 DEBIAN/control ` + fmt.Sprintf("%q", controlText),
		`file 0755 0:0 DEBIAN/postinst "#!/bin/sh\n"`,
		`file 0644 0:0 DEBIAN/md5sums ` + fmt.Sprintf("%q", sums),
		`dir 0755 0:0 .`, `dir 0755 0:0 usr`, `dir 0755 0:0 usr/bin`,
		`file 4755 0:0 usr/bin/hello "#!" security.capability=0100`,
		`file 2755 0:42 usr/bin/chage "x"`,
		`file 0755 0:8 usr/bin/other-number ""`,
		`file 0755 6:0 usr/bin/number ""`,
		`hardlink 0644 0:0 usr/bin/hi -> usr/bin/hello`,
		`hardlink 0644 0:0 usr/bin/hey -> usr/bin/hello`,
		`symlink 0777 0:0 usr/bin/link -> ../../../etc/passwd`,
		`symlink 0777 0:0 abs -> /proc/self`,
		`dir 1777 0:0 tmp`,
		`file 0644 0:0 ` + long + ` "deep"`,
	}
	postinst := m{Header: tar.Header{Name: "./postinst", Typeflag: tar.TypeReg, Mode: 0o755}, Content: "#!/bin/sh\n"}
	control := controlTar(postinst, file("./md5sums", sums))
	for _, suffix := range []string{"", ".gz", ".xz", ".zst"} {
		deb := makeAr(part{"debian-binary", []byte("2.0\n")}, part{"control.tar" + suffix, archivetest.Compress(suffix, control)},
			part{"data.tar" + suffix, archivetest.Compress(suffix, archivetest.Tar(data...))})
		c, p, err := pack(deb, defaults())
		if err != nil {
			t.Errorf("data.tar%s: %v", suffix, err)
			continue
		}
		if diff := cmp.Diff(want, list(t, p)); diff != "" {
			t.Errorf("data.tar%s: entries (-want +got):\n%s", suffix, diff)
		}
		if p.Entries[3].MTime != 1700000000 {
			t.Errorf("data.tar%s: time is %d; want 1700000000", suffix, p.Entries[3].MTime)
		}
		if err := c.Check("hello", "2.10-3", "amd64"); err != nil || c.Get("description") != "greets\nmore" {
			t.Errorf("data.tar%s: control is %+v, %v", suffix, c, err)
		}
	}
}

func TestControlCheck(t *testing.T) {
	c, err := ParseControl(strings.NewReader(controlText))
	if err != nil {
		t.Fatal(err)
	}
	for _, other := range [][3]string{{"hell", "2.10-3", "amd64"}, {"hello", "2.10-4", "amd64"}, {"hello", "2.10-3", "all"}} {
		if err := c.Check(other[0], other[1], other[2]); err == nil || !strings.Contains(err.Error(), "says that it is hello 2.10-3 for amd64, want "+other[0]) {
			t.Errorf("Check(%q): error is %v", other, err)
		}
	}
}

func TestUnpackReportsReadErrors(t *testing.T) {
	broken := errors.New("the disk is broken")
	deb := makeDeb(dir("./"), file("./a", strings.Repeat("x", 100000)))
	for _, at := range []int{4, 60, 300, 3000, len(deb) - 5000} {
		r := io.MultiReader(bytes.NewReader(deb[:at]), brokenReader{broken})
		if _, err := Unpack(r, int64(len(deb)), tree.NewPackWriter(io.Discard)); !errors.Is(err, broken) {
			t.Errorf("Unpack of a reader that fails after %d bytes: error is %v; want %v", at, err, broken)
		}
	}
}

type brokenReader struct{ err error }

func (r brokenReader) Read([]byte) (int, error) { return 0, r.err }

// FuzzUnpack mutates uncompressed packages. What is let through must be
// acceptable entries.
func FuzzUnpack(f *testing.F) {
	f.Add(makeDeb(dir("./"), dir("./usr/"), file("./usr/a", "content"), hardlink("./usr/b", "./usr/a"), symlink("./c", "usr/a")))
	f.Add(makeDeb(m{Header: tar.Header{Name: "./x", Typeflag: tar.TypeReg, Mode: 0o755, PAXRecords: map[string]string{"SCHILY.xattr.user.a": "b"}}}))
	f.Add(makeDeb(symlink("./a", "/etc"), file("./a/b", "")))
	f.Add(makeAr(part{"debian-binary", []byte("2.0\n")}, part{"control.tar.gz", archivetest.Compress(".gz", controlTar())}, part{"data.tar.xz", archivetest.Compress(".xz", archivetest.Tar(dir("./")))}))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, p, err := pack(data, limits{control: 1 << 20, data: 1 << 20, entries: 1000})
		if err != nil {
			return
		}
		if c.Package == "" || c.Version == "" || c.Architecture == "" {
			t.Errorf("control is %+v", c)
		}
		seen := make(map[string]tree.Type)
		for _, e := range p.Entries {
			if err := tree.ValidPath(e.Path); err != nil {
				t.Errorf("an entry is let through: %v", err)
			}
			if _, twice := seen[e.Path]; twice {
				t.Errorf("%s is there twice", e.Path)
			}
			if e.Type == tree.Hardlink && seen[e.Link] != tree.File {
				t.Errorf("%s is a hard link to %s, which is no file", e.Path, e.Link)
			}
			seen[e.Path] = e.Type
			if e.Type == tree.File {
				if n, err := io.Copy(io.Discard, e.Content()); err != nil || n != e.Size {
					t.Errorf("%s: content of %d bytes, want %d: %v", e.Path, n, e.Size, err)
				}
			}
		}
		for p := range seen {
			for i := range p {
				if p[i] == '/' {
					if typ, ok := seen[p[:i]]; ok && typ != tree.Dir {
						t.Errorf("%s lies below %s, a %s", p, p[:i], typ)
					}
				}
			}
		}
	})
}

func FuzzParseControl(f *testing.F) {
	f.Add(controlText)
	f.Add("Package: a\nVersion: 1\nArchitecture: all\nDepends: b (>= 1),\n c\n")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := ParseControl(strings.NewReader(text))
		if err == nil && (c.Package == "" || strings.ContainsAny(c.Package+c.Version+c.Architecture, "/ \n")) {
			t.Errorf("control is let through: %+v", c)
		}
	})
}
