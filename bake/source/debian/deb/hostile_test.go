package deb

import (
	"archive/tar"
	"bytes"
	"crypto/md5"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/nodebake/bake/bake/tree"
	"github.com/nodebake/bake/test/archivetest"
	"github.com/nodebake/bake/test/filetest"
	"github.com/nodebake/bake/test/need"
)

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
			_, _, err := pack(makeDeb(test.data...), limits{control: 1 << 20, data: 100000, entries: 5})
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error is %v; want %q", err, test.want)
			}
		})
	}
}

func TestUnpackHostileMembers(t *testing.T) {
	format := part{"debian-binary", []byte("2.0\n")}
	control := part{"control.tar", controlTar()}
	data := part{"data.tar", archivetest.Tar(dir("./"), file("./a", "content"))}
	gz := func(name string, b []byte) part { return part{name + ".gz", archivetest.Compress(".gz", b)} }
	xzData := archivetest.Compress(".xz", data.content)
	with := func(more ...m) part { return part{"control.tar", controlTar(more...)} }
	sum := fmt.Sprintf("%x", md5.Sum([]byte("content")))
	bomb := func(tar []byte) []byte { return archivetest.Compress(".gz", append(tar, make([]byte, 2<<20)...)) }
	bigDictionary := bytes.Clone(xzData)
	bigDictionary[16] = 40 // 4 GiB - 1
	binary.LittleEndian.PutUint32(bigDictionary[20:], crc32.ChecksumIEEE(bigDictionary[12:20]))
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
		{"gz cut short", makeAr(format, control, part{"data.tar.gz", archivetest.Compress(".gz", data.content)[:60]}), "unexpected EOF"},
		{"garbage after xz", makeAr(format, control, part{"data.tar.xz", append(bytes.Clone(xzData), "garbage garbage"...)}), "data.tar.xz"},
		{"garbage after gz", makeAr(format, control, part{"data.tar.gz", append(archivetest.Compress(".gz", data.content), "garbage"...)}), "data.tar.gz"},
		{"garbage after zst", makeAr(format, control, part{"data.tar.zst", append(archivetest.Compress(".zst", data.content), "garbage"...)}), "data.tar.zst"},
		{"content after the tar", makeAr(format, control, part{"data.tar", append(bytes.Clone(data.content), data.content...)}), "content after the end of the tar"},
		{"flipped byte in xz", makeAr(format, control, part{"data.tar.xz", flip(xzData, len(xzData)/2)}), "data.tar.xz"},
		{"bomb in data", makeAr(format, control, part{"data.tar.gz", bomb(data.content)}), "more than 1000000 bytes"},
		{"bomb in control", makeAr(format, part{"control.tar.gz", bomb(control.content)}, data), "more than 1000000 bytes"},
		{"large dictionary", makeAr(format, control, part{"data.tar.xz", bigDictionary}), "dictionary of 4096 MiB"},
		{"no control file", makeAr(format, part{"control.tar", archivetest.Tar(dir("./"), file("./md5sums", ""))}, data), "no file control"},
		{"control twice in the tar", makeAr(format, with(file("./control", controlText)), data), "control is there twice"},
		{"control file above", makeAr(format, with(file("../evil", "")), data), "leaves the root"},
		{"control file below", makeAr(format, with(file("./a/b", "")), data), "not a plain file"},
		{"control file is a link", makeAr(format, with(symlink("./postinst", "/bin/sh")), data), "not a plain file"},
		{"control file is a device", makeAr(format, with(m{Header: tar.Header{Name: "./x", Typeflag: tar.TypeChar}}), data), "not a plain file"},
		{"empty control", makeAr(format, gz("control.tar", archivetest.Tar(file("./control", ""))), data), "control: it is empty"},
		{"two stanzas", makeAr(format, part{"control.tar", archivetest.Tar(file("./control", controlText+"\nPackage: x\n"))}, data), "more than one stanza"},
		{"no version", makeAr(format, part{"control.tar", archivetest.Tar(file("./control", "Package: x\nArchitecture: all\n"))}, data), "field Version"},
		{"control syntax", makeAr(format, part{"control.tar", archivetest.Tar(file("./control", "Package\n"))}, data), "control: line 1"},
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
	need.Program(t, "dpkg-deb", "dpkg")
	format := part{"debian-binary", []byte("2.0\n")}
	control := part{"control.tar.gz", archivetest.Compress(".gz", controlTar())}
	data := archivetest.Compress(".gz", archivetest.Tar(dir("./"), file("./a", strings.Repeat("content", 1000))))
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
		filetest.Write(t, name, test.deb)
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
	if _, err := z.Write(archivetest.Tar(file("./a", ""))); err != nil {
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
	deb := makeAr(part{"debian-binary", []byte("2.0\n")}, part{"control.tar", controlTar()}, part{"data.tar.zst", b.Bytes()})
	if _, _, err := pack(deb, defaults()); err == nil || !strings.Contains(err.Error(), "500 times its size") {
		t.Errorf("error is %v; want that of a bomb", err)
	}
}
