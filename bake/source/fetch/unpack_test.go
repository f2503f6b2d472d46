package fetch

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/tree"
	"github.com/nodebake/bake/bake/tree/treetest"
	"github.com/nodebake/bake/test/archivetest"
)

// file is a member that others than root own and may not read.
func file(name, content string) archivetest.Member {
	return archivetest.Member{Header: tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o600, Uid: 1000}, Content: content}
}

func other(name string, flag byte, link string) archivetest.Member {
	return archivetest.Member{Header: tar.Header{Name: name, Typeflag: flag, Linkname: link, Mode: 0o777}}
}

// suffixes are those of the supported forms of an archive.
func suffixes() []string { return []string{".gz", ".xz", ".zst"} }

// unpack runs Unpack and returns the pack, bound to its content.
func unpack(archive []byte, files ...manifest.File) (*tree.Pack, error) {
	return tree.NewPack("node", func(w *tree.PackWriter) error {
		return Unpack(context.Background(), bytes.NewReader(archive), "node.tar.gz", files, w)
	})
}

// show lists a pack for comparison.
func show(t *testing.T, p *tree.Pack) []string {
	t.Helper()
	var lines []string
	for _, e := range p.Entries {
		line := strings.Join([]string{string(e.Type), e.Path}, " ")
		switch e.Type {
		case tree.File:
			line += " " + string(treetest.Content(t, &e))
		default:
			line += " -> " + e.Link
		}
		if e.UID != 0 || e.GID != 0 || e.MTime != 0 {
			line += " (owner or time)"
		}
		if e.Perm != 0o755 && e.Type == tree.File {
			line += " (mode)"
		}
		lines = append(lines, line)
	}
	return lines
}

func TestUnpack(t *testing.T) {
	archive := archivetest.Tar(other("./", tar.TypeDir, ""),
		other("bin/current", tar.TypeSymlink, "containerd"),
		file("./bin/containerd", "containerd"),
		file("bin/ctr", "ctr"),
		other("bin/hard", tar.TypeLink, "./bin/ctr"),
		other("bin/dir", tar.TypeDir, ""),
		other("dev/null", tar.TypeChar, ""), // not selected
		file("kubernetes/node/bin/kube-proxy", "kube-proxy"),
	)
	files := []manifest.File{
		{Member: "bin/*", Path: "/bin/", Mode: 0o755},
		{Member: "kubernetes/node/bin/kube-proxy", Path: "/usr/local/bin/kube-proxy"},
	}
	want := []string{
		"file bin/containerd containerd",
		"file bin/ctr ctr",
		"file usr/local/bin/kube-proxy kube-proxy",
		"symlink bin/current -> containerd",
		"hardlink bin/hard -> bin/ctr",
	}
	forms := map[string][]byte{"plain": archive}
	for _, format := range suffixes() {
		forms[format] = archivetest.Compress(format, archive)
	}
	forms["two gzip members"] = append(archivetest.Gzip(archive[:700]), archivetest.Gzip(archive[700:])...)
	for name, form := range forms {
		p, err := unpack(form, files...)
		if err != nil {
			t.Errorf("Unpack of %s = %v", name, err)
			continue
		}
		if diff := cmp.Diff(want, show(t, p)); diff != "" {
			t.Errorf("Unpack of %s (-want +got):\n%s", name, diff)
		}
	}
}

func TestUnpackArtifactItself(t *testing.T) {
	// Also where it looks like an archive: nobody asked for a member.
	for _, artifact := range [][]byte{[]byte("\x7fELF..."), archivetest.Gzip([]byte("x")), nil} {
		p, err := unpack(artifact, manifest.File{Path: "/usr/local/bin/runc", Mode: 0o700}, manifest.File{Path: "/sbin/runc"})
		if err != nil {
			t.Fatalf("Unpack = %v", err)
		}
		want := []string{"file usr/local/bin/runc " + string(artifact) + " (mode)", "file sbin/runc " + string(artifact)}
		if diff := cmp.Diff(want, show(t, p)); diff != "" {
			t.Errorf("Unpack (-want +got):\n%s", diff)
		}
	}
	if _, err := unpack([]byte("x"), manifest.File{Path: "/usr/local/bin/"}); err == nil {
		t.Error("Unpack of the artifact itself to a directory = nil error")
	}
}

// TestUnpackRefuses has every archive that must not become a pack.
func TestUnpackRefuses(t *testing.T) {
	good := archivetest.Tar(file("bin/runc", strings.Repeat("runc", 1000)), file("README", "read me"))
	gz := archivetest.Gzip(good)
	pos := manifest.Pos{File: "versions.yaml", Line: 12}
	all := []manifest.File{{Member: "*", Path: "/x/", Pos: pos}, {Member: "*/*", Path: "/y/", Pos: pos}}
	one := []manifest.File{{Member: "bin/runc", Path: "/usr/bin/runc", Pos: pos}}
	for _, test := range []struct {
		name    string
		archive []byte
		files   []manifest.File
		want    string
	}{
		{"dot-dot", archivetest.Tar(file("../etc/passwd", "root")), all, `"../etc/passwd" leaves the archive`},
		{"dot-dot within", archivetest.Tar(file("bin/../../etc/passwd", "root")), one, `"bin/../../etc/passwd" leaves the archive`},
		{"absolute", archivetest.Tar(file("/etc/passwd", "root")), one, `"/etc/passwd" has an absolute name`},
		{"symlink escape", archivetest.Tar(file("a", ""), other("s", tar.TypeSymlink, "../../etc")), all[:1], `link "s" leads to "../../etc", out of the archive`},
		{"absolute symlink", archivetest.Tar(file("a", ""), other("s", tar.TypeSymlink, "/etc/passwd")), all[:1], `link "s" leads to "/etc/passwd", out of the archive`},
		{"symlink to what is not taken", archivetest.Tar(file("a", ""), other("s", tar.TypeSymlink, "b/c")), all[:1], `link "s" leads to "b/c", which is no regular file`},
		{"symlink to itself", archivetest.Tar(file("a", ""), other("s", tar.TypeSymlink, "s")), all[:1], `link "s" leads to "s", which is no regular file`},
		{"hard link escape", archivetest.Tar(file("a", ""), other("h", tar.TypeLink, "../../etc/shadow")), all[:1], `link "h" leads to "../../etc/shadow", out of the archive`},
		{"hard link to nothing", archivetest.Tar(file("a", ""), other("h", tar.TypeLink, "nothing")), all[:1], `link "h" leads to "nothing", which is no regular file`},
		{"character device", archivetest.Tar(file("a", ""), other("mem", tar.TypeChar, "")), all[:1], `"mem", which versions.yaml:12: "*" selects, is a character device`},
		{"block device", archivetest.Tar(file("a", ""), other("sda", tar.TypeBlock, "")), all[:1], "is a block device"},
		{"FIFO", archivetest.Tar(file("a", ""), other("f", tar.TypeFifo, "")), all[:1], "is a FIFO"},
		{"member twice", archivetest.Tar(file("a", "1"), file("a", "2")), all[:1], `it has "a" twice`},
		{"same destination", archivetest.Tar(file("a/f", "1"), file("b/f", "2")), all[1:], `"a/f" and "b/f" would both become /y/f`},
		{"two patterns", archivetest.Tar(file("a", "1")), []manifest.File{all[0], {Member: "a", Path: "/b"}}, `"a" is selected by versions.yaml:12: "*" and by "a"`},
		{"bad pattern", archivetest.Tar(file("a", "1")), []manifest.File{{Member: "[", Path: "/b"}}, "syntax error in pattern"},
		{"bad destination", archivetest.Tar(file("a", "1")), []manifest.File{{Member: "a", Path: "/../b"}}, `/../b can't be the path of a file`},
		{"no match", gz, []manifest.File{{Member: "usr/runc", Path: "/b", Pos: pos}}, `versions.yaml:12: no file matches "usr/runc": it has "bin/runc", "README"`},
		{"directory only", archivetest.Tar(other("bin/runc", tar.TypeDir, "")), one, "it has no files"},
		{"symlink only", archivetest.Tar(other("bin/runc", tar.TypeSymlink, "x")), one, `link "bin/runc" leads to "bin/x", which is no regular file`},
		{"not an archive", []byte(strings.Repeat("<html>", 1000)), one, "it is not a tar archive"},
		{"empty", nil, one, "its end is not marked"},
		{"gzip of something else", archivetest.Gzip([]byte(strings.Repeat("ELF?", 1000))), one, "it is not a tar archive"},
		{"truncated gzip", gz[:len(gz)-4], one, "it is cut off"},
		{"truncated gzip, half", gz[:len(gz)/2], one, "it is cut off"},
		{"truncated gzip head", gz[:5], one, "it is cut off"},
		{"truncated tar", good[:2000], one, "it is cut off"},
		{"tar without end", good[:len(good)-1024], one, "its end is not marked"},
		{"truncated tar in whole gzip", archivetest.Gzip(good[:2000]), one, "it is cut off"},
		{"truncated xz", archivetest.XZ(good)[:60], one, "it is cut off"},
		{"truncated zstd", archivetest.Compress(".zst", good)[:60], one, "it is cut off"},
		{"garbage after gzip", append(bytes.Clone(gz), "garbage, more than a header"...), one, "gzip: its stream is followed by something else"},
		{"garbage after zstd", append(archivetest.Compress(".zst", good), "garbage"...), one, "zstd: its stream is followed by something else"},
		{"garbage after xz", append(archivetest.XZ(good), "garbage, longer than a header"...), one, "xz"},
		{"garbage after tar", append(bytes.Clone(good), "garbage"...), one, "something follows its end"},
		{"gzip checksum", changed(gz, len(gz)-7), one, "gzip: "},
		{"gzip bomb", bomb(".gz", good), one, "it decompresses to more than 200 times its size"},
		{"xz bomb", bomb(".xz", good), one, "it decompresses to more than 200 times its size"},
		{"zstd bomb", bomb(".zst", good), one, "it decompresses to more than 200 times its size"},
		{"sparse bomb", sparse(t, 1<<40), []manifest.File{{Member: "bomb", Path: "/b"}}, "far more than a release of "},
		{"xz dictionary", hugeDictionary(t, good), one, "needs a dictionary of 4096 MiB, at most 64"},
	} {
		p, err := unpack(test.archive, test.files...)
		if err == nil {
			t.Errorf("%s: Unpack = %q; want an error", test.name, show(t, p))
			continue
		}
		for _, want := range []string{"unpacking node.tar.gz: ", test.want} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: Unpack = %v; want %q in it", test.name, err, want)
			}
		}
	}
}

// bomb is an archive followed by more zeroes than are allowed. Each format may
// consist of several streams, so a megabyte is compressed once and repeated.
func bomb(format string, archive []byte) []byte {
	zeroes := archivetest.Compress(format, make([]byte, 1<<20))
	return append(archivetest.Compress(format, archive), bytes.Repeat(zeroes, freeOutput>>20+1)...)
}

func changed(b []byte, at int) []byte {
	b = bytes.Clone(b)
	b[at] ^= 1
	return b
}

// sparse makes a member that says it has size bytes and stores none, in the
// PAX 1.0 format of GNU tar, which archive/tar does not write.
func sparse(t *testing.T, size int64) []byte {
	t.Helper()
	numbers := "1\n" + itoa(size-1) + "\n1\n"
	body := numbers + strings.Repeat("\x00", 512-len(numbers)) + "x"
	archive := archivetest.Tar(archivetest.Member{Header: tar.Header{
		Name: "GNUSparseFile.0/bomb", Typeflag: tar.TypeReg, Format: tar.FormatPAX,
		PAXRecords: map[string]string{"BAKE.sparse.major": "1", "BAKE.sparse.minor": "0", "BAKE.sparse.name": "bomb", "BAKE.sparse.realsize": itoa(size)},
	}, Content: body})
	// archive/tar refuses to write the real names, which are 1 byte shorter.
	for _, key := range []string{"major", "minor", "name", "realsize"} {
		archive = shorten(t, archive, "BAKE.sparse."+key, "GNU.sparse."+key)
	}
	return archive
}

// shorten replaces a key of a PAX record by one a byte shorter and keeps the
// record's length by a digit that means the same: a leading zero.
func shorten(t *testing.T, archive []byte, old, new string) []byte {
	t.Helper()
	i := bytes.Index(archive, []byte(" "+old))
	if i < 0 {
		t.Fatalf("no %s in the archive", old)
	}
	start := i
	for start > 0 && archive[start-1] >= '0' && archive[start-1] <= '9' {
		start--
	}
	out := bytes.Clone(archive[:start])
	out = append(out, '0')
	out = append(out, archive[start:i]...)
	out = append(out, " "+new...)
	return append(out, archive[i+1+len(old):]...)
}

func itoa(n int64) string {
	var digits []byte
	for ; n > 0; n /= 10 {
		digits = append([]byte{byte('0' + n%10)}, digits...)
	}
	return string(digits)
}

// hugeDictionary changes the dictionary's size in the header of an xz stream.
func hugeDictionary(t *testing.T, content []byte) []byte {
	t.Helper()
	b := archivetest.XZ(content)
	if b[14] != 0x21 {
		t.Fatalf("the filter of the first block is %#x; want LZMA2", b[14])
	}
	b[16] = 40
	binary.LittleEndian.PutUint32(b[20:], crc32.ChecksumIEEE(b[12:20]))
	return b
}

func TestUnpackStops(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	archive := archivetest.Gzip(archivetest.Tar(file("a", "1")))
	err := Unpack(ctx, bytes.NewReader(archive), "x", []manifest.File{{Member: "a", Path: "/a"}}, tree.NewPackWriter(io.Discard))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Unpack with a cancelled context = %v; want context.Canceled", err)
	}
}

func TestPack(t *testing.T) {
	archive := archivetest.Gzip(archivetest.Tar(file("bin/runc", "runc")))
	s := serve(t, archive, nil)
	f := newFetcher(t)
	req := request(archive, s.URL+"/runc.tar.gz")
	files := []manifest.File{{Member: "bin/runc", Path: "/usr/local/bin/runc", Mode: 0o755}}
	for range 2 {
		p, err := f.Pack(t.Context(), req, "component runc", files)
		if err != nil {
			t.Fatalf("Pack = %v", err)
		}
		if diff := cmp.Diff([]string{"file usr/local/bin/runc runc"}, show(t, p)); diff != "" {
			t.Errorf("Pack (-want +got):\n%s", diff)
		}
		if got := p.Entries[0].Owner; got != "component runc" {
			t.Errorf("Origin = %q; want component runc", got)
		}
	}
	if got := s.requests.Load(); got != 1 {
		t.Errorf("the server saw %d requests; want 1", got)
	}
	if !f.config.Store.HasPack(PackKey(req.Sums, files)) {
		t.Error("HasPack(PackKey) = false after Pack")
	}
	for name, other := range map[string][]manifest.File{
		"mode":   {{Member: "bin/runc", Path: "/usr/local/bin/runc", Mode: 0o700}},
		"path":   {{Member: "bin/runc", Path: "/usr/bin/runc", Mode: 0o755}},
		"member": {{Member: "bin/*", Path: "/usr/local/bin/runc", Mode: 0o755}},
	} {
		if PackKey(req.Sums, other) == PackKey(req.Sums, files) {
			t.Errorf("PackKey does not depend on the %s", name)
		}
	}
}

func FuzzUnpack(f *testing.F) {
	archive := archivetest.Tar(file("bin/a", "aaa"), other("bin/s", tar.TypeSymlink, "a"), other("bin/h", tar.TypeLink, "bin/a"), other("d", tar.TypeDir, ""))
	f.Add(archive)
	for _, format := range suffixes() {
		f.Add(archivetest.Compress(format, archive))
	}
	f.Fuzz(func(t *testing.T, archive []byte) {
		p, err := unpack(archive, manifest.File{Member: "*", Path: "/a/"}, manifest.File{Member: "bin/*", Path: "/b/"})
		if err != nil {
			return
		}
		for _, e := range p.Entries {
			if err := tree.ValidPath(e.Path); err != nil || !strings.HasPrefix(e.Path, "a/") && !strings.HasPrefix(e.Path, "b/") {
				t.Errorf("unpacked to %q, %v; want a path below a or b", e.Path, err)
			}
			if e.Type != tree.File && strings.Contains(e.Link, "..") {
				t.Errorf("%s links to %q", e.Path, e.Link)
			}
		}
	})
}
