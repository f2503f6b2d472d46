package baketest

import (
	"archive/tar"
	"bytes"
	"crypto/md5"
	"crypto/sha256"
	"fmt"
	"strings"
	"time"

	"github.com/nodebake/bake/bake/source/debian/debiantest"
	"github.com/nodebake/bake/test/archivetest"
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
	deb := archivetest.AppendAr([]byte(archivetest.ArMagic), "debian-binary", []byte("2.0\n"))
	deb = archivetest.AppendAr(deb, "control.tar.gz", archivetest.Gzip(makeTar(members)))
	// Writing xz is slow.
	if content := makeTar(data); len(content) < 100_000 {
		deb = archivetest.AppendAr(deb, "data.tar.xz", archivetest.XZ(content))
	} else {
		deb = archivetest.AppendAr(deb, "data.tar.gz", archivetest.Gzip(content))
	}
	if p.Change != nil {
		deb = p.Change(deb)
	}
	return deb
}

// Tarball is a tar.gz of files.
func Tarball(files ...File) []byte { return archivetest.Gzip(makeTar(files)) }

// epoch is the time of all files.
func epoch() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }

func makeTar(files []File) []byte {
	var members []archivetest.Member
	for _, f := range files {
		h := tar.Header{Name: f.Path, Mode: f.Mode, Uname: "root", Gname: "root", ModTime: epoch(), Typeflag: tar.TypeReg, Linkname: f.Link}
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
		members = append(members, archivetest.Member{Header: h, Content: f.Content})
	}
	return archivetest.Tar(members...)
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
	packages := map[string][]byte{"amd64": index}
	if w.ARM64 {
		packages["arm64"] = bytes.ReplaceAll(index, []byte("amd64"), []byte("arm64"))
	}
	w.publisher.Publish(debiantest.Suite{Archive: archiveOf(suite), Name: suite, Date: w.Now.Add(-12 * time.Hour), Packages: packages}, w.Serve)
}
