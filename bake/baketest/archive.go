package baketest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/md5"
	"crypto/sha256"
	"fmt"
	"io"
	"path"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	"github.com/ulikunitz/xz"
)

// Package is a binary package of amd64.
type Package struct {
	Name, Version string
	Suite         string // "trixie" where it is empty
	Fields        string // further fields, of its control file and in the index: "Essential: yes\n"
	Files         []File // members of data.tar, in their order
	Conffiles     string // the control member

	// What makes it lie.
	Control string                  // another control file
	MD5Sums string                  // another control member md5sums
	Change  func(deb []byte) []byte // another file
}

// File is a member of a tar: a directory where Path ends in a slash, a link
// where Link is not empty.
type File struct {
	Path    string
	Mode    int64 // 0: 0755 for directories, else 0644
	Content string
	Link    string
	Hard    bool // the link is a hard one
	Type    byte // of the header, where it is none of these
}

// archiveOf is the archive that has a suite.
func archiveOf(suite string) string {
	if strings.HasSuffix(suite, "-security") {
		return "debian-security"
	}
	return "debian"
}

func (p *Package) suite() string {
	if p.Suite == "" {
		return "trixie"
	}
	return p.Suite
}

// Pool is where the server has the package.
func (p *Package) Pool() string { return "/" + archiveOf(p.suite()) + "/" + p.filename() }

func (p *Package) filename() string {
	return fmt.Sprintf("pool/main/%s/%s/%s_%s_amd64.deb", p.Name[:1], p.Name, p.Name, p.Version)
}

func (p *Package) fields() string {
	return fmt.Sprintf("Package: %s\nVersion: %s\nArchitecture: amd64\nMaintainer: Nobody <nobody@example.com>\n%s", p.Name, p.Version, p.Fields)
}

// deb is the package as a file, deb(5).
func (p *Package) deb() []byte {
	control := p.Control
	if control == "" {
		control = p.fields() + "Description: a made-up package\n"
	}
	sums := p.MD5Sums
	if sums == "" {
		for _, f := range p.Files {
			if f.Link == "" && !strings.HasSuffix(f.Path, "/") {
				sums += fmt.Sprintf("%x  %s\n", md5.Sum([]byte(f.Content)), f.Path)
			}
		}
	}
	members := []File{{Path: "./"}, {Path: "./control", Content: control}, {Path: "./md5sums", Content: sums}}
	if p.Conffiles != "" {
		members = append(members, File{Path: "./conffiles", Content: p.Conffiles})
	}
	data := []File{{Path: "./"}}
	for _, f := range p.Files {
		f.Path = "./" + f.Path
		if f.Hard {
			f.Link = "./" + f.Link
		}
		data = append(data, f)
	}
	deb := AppendMember([]byte("!<arch>\n"), "debian-binary", []byte("2.0\n"))
	deb = AppendMember(deb, "control.tar.gz", Gzip(makeTar(members)))
	// Our xz writer is slow.
	if content := makeTar(data); len(content) < 100_000 {
		deb = AppendMember(deb, "data.tar.xz", makeXZ(content))
	} else {
		deb = AppendMember(deb, "data.tar.gz", Gzip(content))
	}
	if p.Change != nil {
		deb = p.Change(deb)
	}
	return deb
}

// AppendMember appends a member to an ar archive, ar(5).
func AppendMember(archive []byte, name string, content []byte) []byte {
	archive = fmt.Appendf(archive, "%-16s%-12d%-6d%-6d%-8o%-10d`\n", name, epoch().Unix(), 0, 0, 0o100644, len(content))
	archive = append(archive, content...)
	if len(content)%2 == 1 {
		archive = append(archive, '\n')
	}
	return archive
}

// Tarball is a tar.gz of files.
func Tarball(files ...File) []byte { return Gzip(makeTar(files)) }

// epoch is the time of all files.
func epoch() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }

func makeTar(files []File) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		h := tar.Header{Name: f.Path, Mode: f.Mode, Uname: "root", Gname: "root", ModTime: epoch(), Typeflag: tar.TypeReg, Size: int64(len(f.Content)), Linkname: f.Link}
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		switch {
		case f.Type != 0:
			h.Typeflag = f.Type
		case f.Hard:
			h.Typeflag = tar.TypeLink
		case f.Link != "":
			h.Typeflag, h.Mode = tar.TypeSymlink, 0o777
		case strings.HasSuffix(f.Path, "/"):
			if h.Typeflag = tar.TypeDir; f.Mode == 0 {
				h.Mode = 0o755
			}
		}
		must(w.WriteHeader(&h))
		_, err := io.WriteString(w, f.Content)
		must(err)
	}
	must(w.Close())
	return b.Bytes()
}

// Gzip compresses content.
func Gzip(content []byte) []byte {
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestSpeed)
	must(err)
	_, err = w.Write(content)
	must(err)
	must(w.Close())
	return b.Bytes()
}

func makeXZ(content []byte) []byte {
	var b bytes.Buffer
	w, err := xz.WriterConfig{DictCap: 1 << 16}.NewWriter(&b)
	must(err)
	_, err = w.Write(content)
	must(err)
	must(w.Close())
	return b.Bytes()
}

// must is for what can't fail in memory.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

// Package returns the package called name in suite trixie.
func (w *World) Package(name string) *Package {
	w.t.Helper()
	for _, p := range w.Packages {
		if p.Name == name && p.suite() == "trixie" {
			return p
		}
	}
	w.t.Fatalf("there is no package %s", name)
	return nil
}

// Publish publishes the packages of w as the archive's present state: files
// below pool, indices, and Release files dated half a day before w.Now and
// valid for a week. What was published before stays in the pool.
func (w *World) Publish() {
	w.t.Helper()
	for _, suite := range []string{"trixie", "trixie-updates", "trixie-security"} {
		var index bytes.Buffer
		for _, p := range w.Packages {
			if p.suite() != suite {
				continue
			}
			deb := p.deb()
			w.Serve(p.Pool(), deb)
			fmt.Fprintf(&index, "%sFilename: %s\nSize: %d\nSHA256: %x\n\n", p.fields(), p.filename(), len(deb), sha256.Sum256(deb))
		}
		w.publishSuite(suite, index.Bytes())
	}
}

func (w *World) publishSuite(suite string, index []byte) {
	w.t.Helper()
	archive := archiveOf(suite)
	dist := "/" + archive + "/dists/" + suite
	arches, sums := "amd64", ""
	add := func(arch string, index []byte) {
		name := "main/binary-" + arch + "/Packages"
		packed := Gzip(index)
		w.Serve(path.Join(dist, name+".gz"), packed)
		sums += fmt.Sprintf(" %x %d %s\n %x %d %s.gz\n", sha256.Sum256(index), len(index), name, sha256.Sum256(packed), len(packed), name)
	}
	add("amd64", index)
	if w.ARM64 {
		arches += " arm64"
		add("arm64", bytes.ReplaceAll(index, []byte("amd64"), []byte("arm64")))
	}
	label := map[string]string{"debian": "Debian", "debian-security": "Debian-Security"}[archive]
	const layout = "Mon, 02 Jan 2006 15:04:05 UTC"
	date := w.Now.Add(-12 * time.Hour)
	text := fmt.Sprintf("Origin: Debian\nLabel: %s\nSuite: stable\nCodename: %s\nDate: %s\nValid-Until: %s\n"+
		"Architectures: all %s\nComponents: main\nSHA256:\n%s",
		label, suite, date.Format(layout), date.AddDate(0, 0, 7).Format(layout), arches, sums)
	var signed bytes.Buffer
	c, err := clearsign.Encode(&signed, w.key.PrivateKey, &packet.Config{Time: func() time.Time { return date }})
	must(err)
	_, err = io.WriteString(c, text)
	must(err)
	must(c.Close())
	w.Serve(dist+"/InRelease", signed.Bytes())
}

func (w *World) makeKey() {
	w.t.Helper()
	key, err := openpgp.NewEntity("archive", "", "archive@debian.example", &packet.Config{
		Algorithm: packet.PubKeyAlgoEdDSA, Time: func() time.Time { return w.Now.AddDate(-1, 0, 0) },
	})
	if err != nil {
		w.t.Fatal(err)
	}
	var b bytes.Buffer
	armored, err := armor.Encode(&b, openpgp.PublicKeyType, nil)
	must(err)
	must(key.Serialize(armored))
	must(armored.Close())
	w.key, w.Keyring = key, b.Bytes()
}
