package manifest

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"math"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/nodebake/bake/bake/arch"
)

// ParseLock parses what Marshal wrote. It is as strict as ParseVersions,
// although nobody should edit a lock: paths of it become URLs and its digests
// decide what is installed. The error joins an *InputError for each mistake.
func ParseLock(file string, data []byte) (*Lock, error) {
	doc, top := parseYAML(file, data)
	l := &Lock{File: file, Sum: SHA256(sha256.Sum256(data)), Archs: map[arch.Arch]*LockedArch{}}
	format := top.required("format")
	version := format.integer(1, math.MaxInt64)
	switch {
	case version > lockFormatImages:
		format.errorf("this bake reads formats up to %d (use the bake that wrote it)", lockFormatImages)
		top.closed = true // what it has otherwise is no mistake
		return nil, doc.err()
	case version == 1: // did not know what had been asked for, but the digests of the files that did
		top.optional("versions")
		top.optional("definition")
	}
	for _, arch := range arch.All() {
		if section := top.optional(string(arch)); section.present() {
			l.Archs[arch] = readLockedArch(section, arch, version)
		}
	}
	if len(l.Archs) == 0 {
		top.errorf("no section for any architecture")
	}
	if err := doc.err(); err != nil {
		return nil, err
	}
	return l, nil
}

func readLockedArch(v value, arch arch.Arch, version int64) *LockedArch {
	m := v.mapping()
	releases, packages, extra := m.required("releases"), m.required("packages"), m.optional("extra")
	section := &LockedArch{
		Packages: readLockedPackages(packages, arch),
		Extra:    readLockedPackages(extra, arch),
	}
	if version != 1 {
		section.Request = m.required("request").sum()
	}
	var images []value
	if version >= lockFormatImages {
		images = m.optional("images").mapping().entries()
	}
	for _, image := range images {
		if section.Images == nil {
			section.Images = map[string][]LockedPackage{}
		}
		if !componentName.MatchString(image.name) {
			image.errorf("%s is not the name of an image", shown(image.name))
		}
		if image.emptyList() {
			image.errorf("empty (an image has packages)")
		}
		section.Images[image.name] = readLockedPackages(image, arch)
	}
	for _, item := range releases.list() {
		section.Releases = append(section.Releases, readLockedRelease(item))
	}
	if len(v.problems) > 0 {
		return section // what follows would be about the same mistakes
	}
	checkOrder(releases, section.Releases, compareReleases, func(r LockedRelease) string { return r.Archive + " " + r.Suite })
	checkOrder(packages, section.Packages,
		func(a, b LockedPackage) int { return strings.Compare(a.Name, b.Name) },
		func(p LockedPackage) string { return p.Name })
	checkOrder(extra, section.Extra, comparePackages, func(p LockedPackage) string { return p.Name + "/" + p.Suite })
	checkSuites(packages, section.Packages, section.Releases)
	checkSuites(extra, section.Extra, section.Releases)
	for _, image := range images {
		checkOrder(image, section.Images[image.name],
			func(a, b LockedPackage) int { return strings.Compare(a.Name, b.Name) },
			func(p LockedPackage) string { return p.Name })
		checkSuites(image, section.Images[image.name], section.Releases)
	}
	return section
}

func readLockedRelease(v value) LockedRelease {
	m := v.mapping()
	return LockedRelease{
		Archive: m.required("archive").checked(checkRelativePath),
		Suite:   m.required("suite").suite(),
		Date:    m.required("date").date(),
		SHA256:  m.required("sum").sum(),
	}
}

func readLockedPackages(v value, arch arch.Arch) []LockedPackage {
	var out []LockedPackage
	for _, item := range v.list() {
		m := item.mapping()
		out = append(out, LockedPackage{
			Name:    m.required("name").checked(checkPackageName),
			Version: m.required("version").checked(checkDebianVersion),
			Arch:    m.required("arch").oneOf(string(arch), "all"),
			Suite:   m.required("suite").suite(),
			Archive: m.required("archive").checked(checkRelativePath),
			Path:    m.required("path").checked(checkPoolPath),
			Size:    m.required("size").integer(1, math.MaxInt64),
			SHA256:  m.required("sum").sum(),
		})
	}
	return out
}

// checkSuites reports packages of a suite that the lock has no Release of.
func checkSuites(v value, packages []LockedPackage, releases []LockedRelease) {
	values := v.list()
	for i, p := range packages {
		if !slices.ContainsFunc(releases, func(r LockedRelease) bool { return r.Archive == p.Archive && r.Suite == p.Suite }) {
			values[i].errorf("suite %s of archive %s is not among the releases", p.Suite, p.Archive)
		}
	}
}

// checkOrder reports items that are not sorted, or stand twice.
func checkOrder[T any](v value, items []T, compare func(a, b T) int, name func(T) string) {
	values := v.list()
	for i := 1; i < len(items); i++ {
		switch c := compare(items[i-1], items[i]); {
		case c == 0:
			values[i].errorf("%s stands twice", name(items[i]))
		case c > 0:
			values[i].errorf("%s stands after %s, and the list must be sorted", name(items[i]), name(items[i-1]))
		}
	}
}

// sum reads a SHA-256 digest with its algorithm: everything that a lock pins
// has one.
func (v value) sum() Digest {
	return Digest(v.checked(func(s string) error {
		sum, err := ParseDigest(s)
		if err == nil && sum.Algorithm() != sha256Name {
			err = fmt.Errorf("%s is not %s", sum.Algorithm(), sha256Name)
		}
		return err
	}))
}

func (v value) date() time.Time {
	s := v.text()
	if s == "" {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil || t.UTC().Format(time.RFC3339) != s {
		v.errorf("%q is not a date (want 2006-01-02T15:04:05Z)", s)
		return time.Time{}
	}
	return t.UTC()
}

// checkRelativePath checks a path below an archive or a mirror, which may be
// a directory of this machine: nothing in it may lead out.
func checkRelativePath(s string) error {
	if !archivePath.MatchString(s) || !fs.ValidPath(s) || s == "." {
		return fmt.Errorf("%q is not a relative path that stays below its archive (no leading /, no .., letters, digits and + . _ ~ : %% - only)", s)
	}
	return nil
}

func checkPoolPath(s string) error {
	if err := checkRelativePath(s); err != nil {
		return err
	}
	if path.Ext(s) != ".deb" {
		return fmt.Errorf("%q is not the path of a .deb", s)
	}
	return nil
}

// checkDebianVersion checks what characters a version has (Debian policy,
// section 5.6.12).
func checkDebianVersion(s string) error {
	if !debianVersion.MatchString(s) {
		return fmt.Errorf("%q is not a Debian version (it begins with a digit, and has letters, digits and . + - : ~ only)", s)
	}
	return nil
}

var (
	archivePath   = regexp.MustCompile(`^[A-Za-z0-9+._~:%/-]+$`)
	debianVersion = regexp.MustCompile(`^[0-9][A-Za-z0-9.+:~-]*$`)
)
