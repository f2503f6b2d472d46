// Package repo reads the index files of a Debian archive: it verifies and
// parses InRelease and Packages. It fetches nothing and chooses nothing.
//
// The formats are those of the Debian wiki's DebianRepository/Format; the
// fields that are not used are not checked.
package repo

import (
	"bytes"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nodebake/bake/bake/source/debian/deb822"
	"github.com/nodebake/bake/bake/tree"
)

// Release is the text of a Release file.
type Release struct {
	Origin, Label   string // "Debian", "Debian-Security"
	Suite, Codename string // "stable-security", "trixie-security"

	Date       time.Time
	ValidUntil time.Time // zero: it does not expire

	Architectures []string // "all", "amd64", ...
	Components    []string // "main", "updates/main", ...
	ByHash        bool     // files are available by their digest (Acquire-By-Hash)

	// Files are the indices, by their path relative to the Release file.
	Files map[string]File
}

// File is what a Release says of one file. Older digests than SHA-256 are not
// looked at.
type File struct {
	Size   int64 // bytes
	SHA256 tree.Digest
}

// ParseRelease parses the text of a Release file.
func ParseRelease(text []byte) (*Release, error) {
	s, err := deb822.ReadOne(bytes.NewReader(text), "Origin", "Label", "Suite", "Codename", "Date",
		"Valid-Until", "Architectures", "Components", "Acquire-By-Hash", "SHA256")
	if err != nil {
		return nil, err
	}
	r := &Release{
		Origin: s.Get("Origin"), Label: s.Get("Label"), Suite: s.Get("Suite"), Codename: s.Get("Codename"),
		Architectures: strings.Fields(s.Get("Architectures")),
		Components:    strings.Fields(s.Get("Components")),
		ByHash:        s.Get("Acquire-By-Hash") == "yes",
	}
	if r.Date, err = parseTime(s.Get("Date")); err != nil {
		return nil, fmt.Errorf("field Date: %w", err)
	}
	if v, ok := s.Lookup("Valid-Until"); ok {
		if r.ValidUntil, err = parseTime(v); err != nil {
			return nil, fmt.Errorf("field Valid-Until: %w", err)
		}
	}
	sums, ok := s.Lookup("SHA256")
	if !ok {
		return nil, errors.New("it has no field SHA256")
	}
	if r.Files, err = parseFiles(sums); err != nil {
		return nil, fmt.Errorf("field SHA256: %w", err)
	}
	return r, nil
}

// parseTime parses the date of RFC 2822 as Debian writes it, in UTC only.
func parseTime(s string) (time.Time, error) {
	for _, layout := range []string{"Mon, 02 Jan 2006 15:04:05 UTC", "Mon, _2 Jan 2006 15:04:05 UTC", "Mon, 02 Jan 2006 15:04:05 +0000"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is no date of the form %q", s, "Sat, 12 Sep 2026 07:55:41 UTC")
}

func parseFiles(field string) (map[string]File, error) {
	files := make(map[string]File)
	for line := range strings.SplitSeq(strings.TrimPrefix(field, "\n"), "\n") {
		parts := strings.Fields(line)
		if len(parts) != 3 {
			return nil, fmt.Errorf("line %q is not digest, size and path", line)
		}
		var f File
		if err := f.SHA256.UnmarshalText([]byte(parts[0])); err != nil {
			return nil, fmt.Errorf("file %s: %w", parts[2], err)
		}
		size, err := strconv.ParseUint(parts[1], 10, 63)
		if err != nil {
			return nil, fmt.Errorf("file %s: %q is no size", parts[2], parts[1])
		}
		f.Size = int64(size)
		if err := validPath(parts[2]); err != nil {
			return nil, err
		}
		if before, twice := files[parts[2]]; twice && before != f {
			return nil, fmt.Errorf("file %s is listed twice, with different digests", parts[2])
		}
		files[parts[2]] = f
	}
	return files, nil
}

// validPath checks that p stays below where it is relative to, and that it has
// no character that would end the path of a URL.
func validPath(p string) error {
	if err := tree.ValidPath(p); err != nil {
		return err
	}
	for i := range len(p) {
		c := p[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("+-./_~:%", c) >= 0) {
			return fmt.Errorf("path %q has a character that Debian does not use", p)
		}
	}
	return nil
}

// ExpiredError says that a Release file is too old to be believed: a mirror
// that stands still hides security updates.
type ExpiredError struct {
	Suite      string
	ValidUntil time.Time
	Now        time.Time
}

func (e *ExpiredError) Error() string {
	return fmt.Sprintf("the Release file of %s expired on %s and it is %s now: the mirror is stale, take another, or this host's clock is wrong",
		e.Suite, stamp(e.ValidUntil), stamp(e.Now))
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

// maxFuture is how far ahead of this host's clock a Release may be dated.
// Mirrors are hours behind, so an hour is a generous error of the clock.
const maxFuture = time.Hour

// Check says whether r is the Release of suite in archive and holds at now. A
// mirror could otherwise serve the signed file of an older suite.
func (r *Release) Check(archive, suite string, now time.Time) error {
	if r.Codename != suite && r.Suite != suite {
		return fmt.Errorf("it is the Release file of suite %q, codename %q, not of %s: the mirror serves another suite", r.Suite, r.Codename, suite)
	}
	labels := []string{"Debian", "Debian Backports"}
	if archive == Security {
		labels = []string{"Debian-Security"}
	}
	if !slices.Contains(labels, r.Label) {
		return fmt.Errorf("its label is %q, and archive %s has %q: the mirror serves another archive", r.Label, archive, labels[0])
	}
	if !r.ValidUntil.IsZero() && now.After(r.ValidUntil) {
		return &ExpiredError{Suite: suite, ValidUntil: r.ValidUntil, Now: now}
	}
	if r.Date.After(now.Add(maxFuture)) {
		return fmt.Errorf("the Release file of %s is dated %s and it is %s now: this host's clock is wrong", suite, stamp(r.Date), stamp(now))
	}
	return nil
}

// The archives, by the names of their directories on mirrors.
const (
	Main     = "debian"
	Security = "debian-security"
)

// Index is how to fetch the Packages file of one architecture.
type Index struct {
	File
	Path     string // relative to the Release file: "main/binary-amd64/Packages.gz"
	Unpacked int64  // size in bytes after decompression
}

// Packages returns the Packages index of component main for arch.
//
// gzip is preferred where the Release lists it, as it does for a suite's main
// index: 13.3 MB against 9.7 MB, but decoded in 0.4 s instead of 3 s.
func (r *Release) Packages(arch string) (Index, error) {
	if !slices.Contains(r.Architectures, arch) {
		return Index{}, fmt.Errorf("%s has no architecture %s, only %s", r.Codename, arch, strings.Join(r.Architectures, ", "))
	}
	base := "main/binary-" + arch + "/Packages"
	plain, ok := r.Files[base]
	if !ok {
		return Index{}, fmt.Errorf("the Release file of %s does not list %s", r.Codename, base)
	}
	for _, suffix := range []string{".gz", ".xz"} {
		if f, ok := r.Files[base+suffix]; ok {
			return Index{f, base + suffix, plain.Size}, nil
		}
	}
	return Index{plain, base, plain.Size}, nil
}

// ByHash returns the path under which the index is available by its digest: it
// stays there for a while when the next version replaces the plain path.
func (x Index) ByHash() string {
	return path.Join(path.Dir(x.Path), "by-hash/SHA256", x.SHA256.String())
}
