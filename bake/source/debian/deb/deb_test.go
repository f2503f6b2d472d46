package deb

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/md5"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	"github.com/nodebake/bake/bake/tree"
)

const controlText = "Package: hello\nVersion: 2.10-3\nArchitecture: amd64\nDescription: greets\n more\n"

// m is a member of a tar.
type m struct {
	tar.Header
	content string
}

func dir(name string) m { return m{Header: tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: 0o755}} }

func file(name, content string) m {
	return m{Header: tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644}, content: content}
}

func symlink(name, to string) m {
	return m{Header: tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: to, Mode: 0o777}}
}

func hardlink(name, to string) m {
	return m{Header: tar.Header{Name: name, Typeflag: tar.TypeLink, Linkname: to, Mode: 0o644}}
}

func makeTar(t testing.TB, members ...m) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, m := range members {
		h := m.Header
		h.Size = int64(len(m.content))
		if h.ModTime.IsZero() {
			h.ModTime = time.Unix(1700000000, 0)
		}
		if h.Uname == "" && h.Uid == 0 {
			h.Uname = "root"
		}
		if h.Gname == "" && h.Gid == 0 {
			h.Gname = "root"
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(m.content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func compress(t testing.TB, suffix string, content []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	var w io.WriteCloser
	var err error
	switch suffix {
	case "":
		return content
	case ".gz":
		w = gzip.NewWriter(&b)
	case ".xz":
		w, err = xz.NewWriter(&b)
	case ".zst":
		w, err = zstd.NewWriter(&b)
	default:
		t.Fatalf("BUG: suffix %s", suffix)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// part is a member of an ar archive.
type part struct {
	name    string
	content []byte
}

func makeAr(parts ...part) []byte {
	b := []byte("!<arch>\n")
	for _, p := range parts {
		b = fmt.Appendf(b, "%-16s%-12d%-6d%-6d%-8s%-10d`\n", p.name, 0, 0, 0, "100644", len(p.content))
		b = append(b, p.content...)
		if len(p.content)%2 == 1 {
			b = append(b, '\n')
		}
	}
	return b
}

func controlTar(t testing.TB, more ...m) []byte {
	return makeTar(t, append([]m{dir("./"), file("./control", controlText)}, more...)...)
}

// makeDeb makes a .deb with the usual control files around data.
func makeDeb(t testing.TB, data ...m) []byte {
	return makeAr(part{"debian-binary", []byte("2.0\n")}, part{"control.tar", controlTar(t)}, part{"data.tar", makeTar(t, data...)})
}

// pack unpacks a .deb and binds the result to its bytes.
func pack(data []byte, max limits) (*Control, *tree.Pack, error) {
	var blob bytes.Buffer
	w := tree.NewPackWriter(&blob)
	c, err := unpack(bytes.NewReader(data), int64(len(data)), w, max)
	if err != nil {
		return nil, nil, err
	}
	p, err := w.Close()
	if err != nil {
		return nil, nil, err
	}
	p.Bind("test.deb", "package test", bytes.NewReader(blob.Bytes()))
	return c, p, nil
}

// list writes entries as lines: type, permissions, owner, path, what follows.
func list(t testing.TB, p *tree.Pack) []string {
	t.Helper()
	var lines []string
	for _, e := range p.Entries {
		line := fmt.Sprintf("%s %04o %d:%d %s", e.Type, e.Perm, e.UID, e.GID, e.Path)
		switch e.Type {
		case tree.File:
			b, err := io.ReadAll(e.Content())
			if err != nil {
				t.Fatal(err)
			}
			line += fmt.Sprintf(" %q", b)
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
		{Header: tar.Header{Name: "./usr/bin/hello", Typeflag: tar.TypeReg, Mode: 0o4755, PAXRecords: map[string]string{"SCHILY.xattr.security.capability": "\x01\x00"}}, content: "#!"},
		{Header: tar.Header{Name: "./usr/bin/chage", Typeflag: tar.TypeReg, Mode: 0o2755, Gid: 42, Gname: "shadow"}, content: "x"},
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
	postinst := m{Header: tar.Header{Name: "./postinst", Typeflag: tar.TypeReg, Mode: 0o755}, content: "#!/bin/sh\n"}
	control := controlTar(t, postinst, file("./md5sums", sums))
	for _, suffix := range []string{"", ".gz", ".xz", ".zst"} {
		deb := makeAr(part{"debian-binary", []byte("2.0\n")}, part{"control.tar" + suffix, compress(t, suffix, control)},
			part{"data.tar" + suffix, compress(t, suffix, makeTar(t, data...))})
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

func TestUnpackHostileData(t *testing.T) {
	device := m{Header: tar.Header{Name: "./dev/sda", Typeflag: tar.TypeBlock, Devmajor: 8}}
	tests := []struct {
		name string
		data []m
		want string
	}{
		{"parent", []m{file("../x", "")}, "leaves the root"},
		{"parent below", []m{file("./a/../../x", "")}, "not clean"},
		{"dots", []m{file("./a/./x", "")}, "not clean"},
		{"two slashes", []m{file("./a//x", "")}, "not clean"},
		{"absolute", []m{file("/etc/passwd", "")}, "absolute"},
		{"absolute behind a dot", []m{file(".//etc/passwd", "")}, "absolute"},
		{"empty name", []m{{Header: tar.Header{Typeflag: tar.TypeReg}}}, "path is empty"},
		{"file twice", []m{file("./a", "1"), file("./a", "2")}, "twice"},
		{"file twice under two names", []m{file("./a", "1"), file("a", "2")}, "twice"},
		{"directory twice", []m{dir("./a/"), dir("./a")}, "twice"},
		{"root is a link", []m{symlink("./", "/etc")}, "the root is not a directory"},
		{"below a symbolic link", []m{symlink("./a", "/etc"), file("./a/passwd", "")}, "lies below a, which is not a directory"},
		{"deep below a symbolic link", []m{dir("./x/"), symlink("./x/a", "/etc"), file("./x/a/b/c/passwd", "")}, "lies below x/a"},
		{"below a file", []m{file("./a", ""), file("./a/b", "")}, "lies below a"},
		{"below a hard link", []m{file("./a", ""), hardlink("./b", "./a"), file("./b/c", "")}, "lies below b"},
		{"link over a directory in use", []m{file("./a/b", ""), symlink("./a", "/etc")}, "files below it"},
		{"link over a directory", []m{dir("./a/"), symlink("./a", "/etc")}, "twice"},
		{"empty symbolic link", []m{symlink("./a", "")}, "symbolic link to"},
		{"long symbolic link", []m{symlink("./a", strings.Repeat("x", 5000))}, "symbolic link to"},
		{"hard link to nothing", []m{hardlink("./a", "./b")}, "not a file before it"},
		{"hard link to itself", []m{hardlink("./a", "./a")}, "not a file before it"},
		{"hard link forward", []m{hardlink("./a", "./b"), file("./b", "")}, "not a file before it"},
		{"hard link to a directory", []m{dir("./b/"), hardlink("./a", "./b")}, "not a file before it"},
		{"hard link to a symbolic link", []m{symlink("./b", "/etc/passwd"), hardlink("./a", "./b")}, "not a file before it"},
		{"hard link outside", []m{hardlink("./a", "/etc/passwd")}, "absolute"},
		{"hard link above", []m{hardlink("./a", "../b")}, "leaves the root"},
		{"block device", []m{device}, "type '4'"},
		{"character device", []m{{Header: tar.Header{Name: "./dev/null", Typeflag: tar.TypeChar}}}, "type '3'"},
		{"pipe", []m{{Header: tar.Header{Name: "./run/pipe", Typeflag: tar.TypeFifo}}}, "type '6'"},
		{"control files", []m{dir("./DEBIAN/"), file("./DEBIAN/control", controlText)}, "DEBIAN is for control files"},
		{"user without a fixed number", []m{{Header: tar.Header{Name: "./a", Typeflag: tar.TypeReg, Uid: 107, Uname: "messagebus"}}}, `user: "messagebus" (107)`},
		{"group without a fixed number", []m{{Header: tar.Header{Name: "./a", Typeflag: tar.TypeReg, Gid: 101, Gname: "_ssh"}}}, `group: "_ssh" (101)`},
		{"number of nobody known", []m{{Header: tar.Header{Name: "./a", Typeflag: tar.TypeReg, Uid: 1000}}}, "user: 1000 is not one"},
		{"too many", []m{file("./1", ""), file("./2", ""), file("./3", ""), file("./4", ""), file("./5", ""), file("./6", "")}, "more than 5 members"},
		{"too large", []m{file("./1", strings.Repeat("x", 60000)), file("./2", strings.Repeat("x", 60000))}, "more than 100000 bytes"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, _, err := pack(makeDeb(t, test.data...), limits{control: 1 << 20, data: 100000, entries: 5})
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error is %v; want %q", err, test.want)
			}
		})
	}
}

func TestUnpackHostileMembers(t *testing.T) {
	format := part{"debian-binary", []byte("2.0\n")}
	control := part{"control.tar", controlTar(t)}
	data := part{"data.tar", makeTar(t, dir("./"), file("./a", "content"))}
	gz := func(name string, b []byte) part { return part{name + ".gz", compress(t, ".gz", b)} }
	xzData := compress(t, ".xz", data.content)
	with := func(more ...m) part { return part{"control.tar", controlTar(t, more...)} }
	sum := fmt.Sprintf("%x", md5.Sum([]byte("content")))
	bomb := func(tar []byte) []byte { return compress(t, ".gz", append(tar, make([]byte, 2<<20)...)) }
	bigDictionary := bytes.Clone(xzData)
	bigDictionary[16] = 40 // 4 GiB - 1; the header's checksum is wrong now, but looked at later
	tests := []struct {
		name string
		deb  []byte
		want string
	}{
		{"empty", nil, "ar magic"},
		{"not ar", []byte("PK\x03\x04aaaaaaa"), "not an ar archive"},
		{"only ar", makeAr(), "reading debian-binary"},
		{"no debian-binary", makeAr(control, data), "want debian-binary"},
		{"newer format", makeAr(part{"debian-binary", []byte("2.1\n")}, control, data), `says "2.1\n"`},
		{"old format", makeAr(part{"debian-binary", []byte("0.939000\n")}, control, data), "want debian-binary of 4"},
		{"no control", makeAr(format, data), "member data.tar where control.tar is due"},
		{"no data", makeAr(format, control), "reading data.tar: unexpected EOF"},
		{"only debian-binary", makeAr(format), "reading control.tar: unexpected EOF"},
		{"wrong order", makeAr(format, data, control), "where control.tar is due"},
		{"control twice", makeAr(format, control, control, data), "where data.tar is due"},
		{"data twice", makeAr(format, control, data, data), "member data.tar after data.tar"},
		{"member after", makeAr(format, control, data, part{"_gpgorigin", []byte("xx")}), "member _gpgorigin after data.tar"},
		{"member between", makeAr(format, part{"_x", nil}, control, data), "member _x where"},
		{"bytes after", append(makeAr(format, control, data), 0), "after data.tar"},
		{"unknown compression", makeAr(format, control, part{"data.tar.lzma", data.content}), `compression ".lzma" is not supported`},
		{"name that goes on", makeAr(format, control, part{"data.tarball", data.content}), "is not supported"},
		{"not what the suffix says", makeAr(format, control, part{"data.tar.xz", data.content}), "reading data.tar.xz"},
		{"plain that is compressed", makeAr(format, control, part{"data.tar", xzData}), "reading data.tar"},
		{"not a tar", makeAr(format, control, part{"data.tar", bytes.Repeat([]byte("x"), 1024)}), "reading data.tar: archive/tar"},
		{"tar cut in a file", makeAr(format, control, part{"data.tar", data.content[:1027]}), "unexpected EOF"},
		{"file larger than the tar", makeAr(format, control, part{"data.tar", hugeFile(t)}), "bytes"},
		{"xz cut short", makeAr(format, control, part{"data.tar.xz", xzData[:len(xzData)-10]}), "data.tar.xz"},
		{"gz cut short", makeAr(format, control, part{"data.tar.gz", compress(t, ".gz", data.content)[:60]}), "unexpected EOF"},
		{"garbage after xz", makeAr(format, control, part{"data.tar.xz", append(bytes.Clone(xzData), "garbage garbage"...)}), "data.tar.xz"},
		{"garbage after gz", makeAr(format, control, part{"data.tar.gz", append(compress(t, ".gz", data.content), "garbage"...)}), "data.tar.gz"},
		{"garbage after zst", makeAr(format, control, part{"data.tar.zst", append(compress(t, ".zst", data.content), "garbage"...)}), "data.tar.zst"},
		{"content after the tar", makeAr(format, control, part{"data.tar", append(bytes.Clone(data.content), data.content...)}), "content after the end of the tar"},
		{"flipped byte in xz", makeAr(format, control, part{"data.tar.xz", flip(xzData, len(xzData)/2)}), "data.tar.xz"},
		{"bomb in data", makeAr(format, control, part{"data.tar.gz", bomb(data.content)}), "more than 1000000 bytes"},
		{"bomb in control", makeAr(format, part{"control.tar.gz", bomb(control.content)}, data), "more than 1000000 bytes"},
		{"large dictionary", makeAr(format, control, part{"data.tar.xz", bigDictionary}), "dictionary of 4294967296 bytes"},
		{"no control file", makeAr(format, part{"control.tar", makeTar(t, dir("./"), file("./md5sums", ""))}, data), "no file control"},
		{"control twice in the tar", makeAr(format, with(file("./control", controlText)), data), "control is there twice"},
		{"control file above", makeAr(format, with(file("../evil", "")), data), "leaves the root"},
		{"control file below", makeAr(format, with(file("./a/b", "")), data), "not a plain file"},
		{"control file is a link", makeAr(format, with(symlink("./postinst", "/bin/sh")), data), "not a plain file"},
		{"control file is a device", makeAr(format, with(m{Header: tar.Header{Name: "./x", Typeflag: tar.TypeChar}}), data), "not a plain file"},
		{"empty control", makeAr(format, gz("control.tar", makeTar(t, file("./control", ""))), data), "control: it is empty"},
		{"two stanzas", makeAr(format, part{"control.tar", makeTar(t, file("./control", controlText+"\nPackage: x\n"))}, data), "more than one stanza"},
		{"no version", makeAr(format, part{"control.tar", makeTar(t, file("./control", "Package: x\nArchitecture: all\n"))}, data), "field Version"},
		{"control syntax", makeAr(format, part{"control.tar", makeTar(t, file("./control", "Package\n"))}, data), "control: line 1"},
		{"md5sums of other content", makeAr(format, with(file("./md5sums", sum[1:]+"0  a\n")), data), "a has MD5 " + sum},
		{"md5sums of what is not there", makeAr(format, with(file("./md5sums", sum+"  a\n"+sum+"  b\n")), data), "b is not there"},
		{"md5sums of a directory", makeAr(format, with(file("./md5sums", sum+"  .\n")), data), ". is not there"},
		{"md5sums above", makeAr(format, with(file("./md5sums", sum+"  ../a\n")), data), "md5sums: line 1"},
		{"md5sums syntax", makeAr(format, with(file("./md5sums", "\n")), data), "md5sums: line 1"},
		{"md5sums contradicts itself", makeAr(format, with(file("./md5sums", sum+"  a\n"+sum[1:]+"0  a\n")), data), "twice"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, _, err := pack(test.deb, limits{control: 1e6, data: 1e6, entries: 100})
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error is %v; want %q", err, test.want)
			}
		})
	}
	// What all of these were made of is good.
	good := makeAr(format, with(file("./md5sums", sum+"  a\n")), data)
	if _, _, err := pack(good, defaults()); err != nil {
		t.Errorf("the package that they are variations of: %v", err)
	}
	w := tree.NewPackWriter(io.Discard)
	if _, err := Unpack(bytes.NewReader(good), int64(len(good))+1, w); err == nil || !strings.Contains(err.Error(), "want") {
		t.Errorf("Unpack of a file of another size: error is %v", err)
	}
}

// hugeFile is a tar that announces a file of 1 TiB and ends there.
func hugeFile(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	h := tar.Header{Name: "./a", Typeflag: tar.TypeReg, Size: 1 << 40, Uname: "root", Gname: "root"}
	if err := tar.NewWriter(&b).WriteHeader(&h); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func flip(b []byte, at int) []byte {
	c := bytes.Clone(b)
	c[at] ^= 1
	return c
}

// TestDpkgRefuses shows dpkg-deb what it must refuse as we do.
func TestDpkgRefuses(t *testing.T) {
	if _, err := exec.LookPath("dpkg-deb"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("dpkg-deb is not there: apt-get install dpkg")
		}
		t.Skip("dpkg-deb is not there: apt-get install dpkg")
	}
	format := part{"debian-binary", []byte("2.0\n")}
	control := part{"control.tar.gz", compress(t, ".gz", controlTar(t))}
	data := compress(t, ".gz", makeTar(t, dir("./"), file("./a", strings.Repeat("content", 1000))))
	good := makeAr(format, control, part{"data.tar.gz", data})
	tests := []struct {
		name string
		deb  []byte
		good bool
	}{
		{"good", good, true},
		{"cut short", good[:len(good)-20], false},
		{"flipped byte", makeAr(format, control, part{"data.tar.gz", flip(data, len(data)-20)}), false},
		{"no data", makeAr(format, control), false},
		{"wrong order", makeAr(format, part{"data.tar.gz", data}, control), false},
		{"no debian-binary", makeAr(control, part{"data.tar.gz", data}), false},
	}
	for _, test := range tests {
		name := filepath.Join(t.TempDir(), "x.deb")
		if err := os.WriteFile(name, test.deb, 0o644); err != nil {
			t.Fatal(err)
		}
		dpkg := exec.CommandContext(t.Context(), "dpkg-deb", "--fsys-tarfile", name).Run()
		_, _, ours := pack(test.deb, defaults())
		if (dpkg == nil) != test.good || (ours == nil) != test.good {
			t.Errorf("%s: dpkg-deb says %v, we say %v; want good: %t", test.name, dpkg, ours, test.good)
		}
	}
}

// TestUnpackRatio: far more out than in is a bomb also below the limit.
func TestUnpackRatio(t *testing.T) {
	var b bytes.Buffer
	z, err := zstd.NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := z.Write(makeTar(t, file("./a", ""))); err != nil {
		t.Fatal(err)
	}
	for range 80 {
		if _, err := z.Write(make([]byte, 1<<20)); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	deb := makeAr(part{"debian-binary", []byte("2.0\n")}, part{"control.tar", controlTar(t)}, part{"data.tar.zst", b.Bytes()})
	if _, _, err := pack(deb, defaults()); err == nil || !strings.Contains(err.Error(), "500 times its size") {
		t.Errorf("error is %v; want that of a bomb", err)
	}
}

func TestUnpackReportsReadErrors(t *testing.T) {
	broken := errors.New("the disk is broken")
	deb := makeDeb(t, dir("./"), file("./a", strings.Repeat("x", 100000)))
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
	f.Add(makeDeb(f, dir("./"), dir("./usr/"), file("./usr/a", "content"), hardlink("./usr/b", "./usr/a"), symlink("./c", "usr/a")))
	f.Add(makeDeb(f, m{Header: tar.Header{Name: "./x", Typeflag: tar.TypeReg, Mode: 0o755, PAXRecords: map[string]string{"SCHILY.xattr.user.a": "b"}}}))
	f.Add(makeDeb(f, symlink("./a", "/etc"), file("./a/b", "")))
	f.Add(makeAr(part{"debian-binary", []byte("2.0\n")}, part{"control.tar.gz", compress(f, ".gz", controlTar(f))}, part{"data.tar.xz", compress(f, ".xz", makeTar(f, dir("./")))}))
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
