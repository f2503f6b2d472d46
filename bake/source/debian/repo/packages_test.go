package repo

import (
	"bytes"
	"crypto/sha256"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/bake/relation"
	"github.com/nodebake/bake/bake/source/debian/resolver"
	"github.com/nodebake/bake/test/archivetest"
)

const packagesText = `Package: libc6
Source: glibc
Version: 2.41-12
Installed-Size: 13072
Architecture: amd64
Replaces: libc6-amd64
Depends: libgcc-s1
Breaks: aide (<< 0.15), fakeroot (<< 1.25.1-1~)
Provides: libc6-2.41
Multi-Arch: same
Priority: optional
Description: GNU C Library
Tag: role::shared-lib,
 x::y
Filename: pool/main/g/glibc/libc6_2.41-12_amd64.deb
Size: 2846580
SHA256: ` + sumA + `

Package: base-files
Essential: yes
Priority: required
Version: 13.8+deb13u7
Architecture: all
Pre-Depends: awk
Conflicts: x
Filename: ./pool/main/b/base-files/base-files_13.8+deb13u7_all.deb
Size: 88296
SHA256: ` + sumB + `
`

func TestParsePackages(t *testing.T) {
	got, err := ParsePackages(strings.NewReader(packagesText), "amd64")
	if err != nil {
		t.Fatal(err)
	}
	want := []resolver.Package{
		{
			Name: "libc6", Version: "2.41-12", Arch: "amd64", MultiArch: "same", Priority: "optional",
			Depends: "libgcc-s1", Breaks: "aide (<< 0.15), fakeroot (<< 1.25.1-1~)", Provides: "libc6-2.41",
			Path: "pool/main/g/glibc/libc6_2.41-12_amd64.deb", Size: 2846580, SHA256: digest(t, sumA),
		},
		{
			Name: "base-files", Version: "13.8+deb13u7", Arch: "all", Priority: "required", Essential: true, PreDepends: "awk", Conflicts: "x",
			Path: "pool/main/b/base-files/base-files_13.8+deb13u7_all.deb", Size: 88296, SHA256: digest(t, sumB),
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("ParsePackages (-want +got):\n%s", diff)
	}
}

// TestParsePackagesMalformed breaks one of two packages, which says so.
func TestParsePackagesMalformed(t *testing.T) {
	tests := []struct{ name, old, new, want string }{
		{"no version", "Version: 2.41-12\n", "", `line 1: field Version: version is empty`},
		{"23 digits", "Version: 2.41-12", "Version: 2.12345678901234567890123", `line 1: field Version: version "2.12345678901234567890123" has more than 18 digits in a row`},
		{"provides", "Provides: libc6-2.41", "Provides: numpy (>= 1.0)", `line 1: field Provides: "numpy (>= 1.0)" is no name with at most one exact version`},
		{"bad version", "Version: 2.41-12", "Version: x.41", "field Version"},
		{"other architecture", "Architecture: amd64", "Architecture: arm64", `field Architecture: "arm64" in an index of amd64`},
		{"no path", "Filename: pool/main/g/glibc/libc6_2.41-12_amd64.deb\n", "", "field Filename"},
		{"path leaves", "pool/main/g/glibc/libc6_2.41-12_amd64.deb", "pool/../../x.deb", "field Filename"},
		{"absolute path", "pool/main/g/glibc/libc6_2.41-12_amd64.deb", "/x.deb", "field Filename"},
		{"URL", "pool/main/g/glibc/libc6_2.41-12_amd64.deb", "http://x.example/x.deb", "field Filename"},
		{"query", "libc6_2.41-12_amd64.deb", "x?.deb", "field Filename"},
		{"no size", "Size: 2846580\n", "", "field Size is missing"},
		{"size 0", "Size: 2846580", "Size: 0", "field Size"},
		{"negative size", "Size: 2846580", "Size: -5", "field Size"},
		{"no digest", "SHA256: " + sumA + "\n", "", "field SHA256 is missing"},
		{"short digest", sumB, sumB[1:], `line 19: field SHA256`},
		{"syntax", "Source: glibc", "Source glibc", `line 2: "Source glibc" has no colon`},
		{"twice", "Source: glibc", "Size: 1", "twice"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if !strings.Contains(packagesText, test.old) {
				t.Fatalf("BUG: %q is not in the text", test.old)
			}
			text := strings.Replace(packagesText, test.old, test.new, 1)
			list, err := ParsePackages(strings.NewReader(text), "amd64")
			if err != nil || len(list) != 2 || list[0].Name != "libc6" || list[1].Name != "base-files" {
				t.Fatalf("ParsePackages = %+v, %v; want both packages", list, err)
			}
			broken, whole := list[0], list[1]
			if broken.Malformed == nil {
				broken, whole = whole, broken
			}
			if broken.Malformed == nil || !strings.Contains(broken.Malformed.Error(), test.want) || whole.Malformed != nil {
				t.Errorf("malformed: %v and %v; want %q of one", broken.Malformed, whole.Malformed, test.want)
			}
		})
	}
	for _, test := range []struct{ name, old, new, want string }{
		{"no name", "Package: libc6\n", "", `package "" at line 1: field Package`},
		{"bad name", "Package: libc6", "Package: Libc6", "field Package"},
	} {
		text := strings.Replace(packagesText, test.old, test.new, 1)
		if _, err := ParsePackages(strings.NewReader(text), "amd64"); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error is %v; want %q", test.name, err, test.want)
		}
	}
}

func TestIndex(t *testing.T) {
	for _, suffix := range []string{"", ".gz", ".xz"} {
		content := archivetest.Compress(suffix, []byte(packagesText))
		x := Index{File{int64(len(content)), sha256.Sum256(content)}, "main/binary-amd64/Packages" + suffix, int64(len(packagesText))}
		if err := x.Verify(content); err != nil {
			t.Errorf("%s: Verify: %v", x.Path, err)
		}
		if list, err := x.Parse(content, "amd64"); err != nil || len(list) != 2 {
			t.Errorf("%s: Parse = %d packages, %v; want 2", x.Path, len(list), err)
		}
		if err := x.Verify(content[1:]); err == nil || !strings.Contains(err.Error(), "bytes, the Release file says") {
			t.Errorf("%s: Verify of less: error is %v", x.Path, err)
		}
		flipped := bytes.Clone(content)
		flipped[len(flipped)/2] ^= 1
		if err := x.Verify(flipped); err == nil || !strings.Contains(err.Error(), "SHA-256") {
			t.Errorf("%s: Verify of a flipped byte: error is %v", x.Path, err)
		}
		for _, size := range []int64{x.Unpacked - 1, x.Unpacked + 1, 10} {
			y := x
			y.Unpacked = size
			if _, err := y.Parse(content, "amd64"); err == nil {
				t.Errorf("%s: Parse of %d bytes that should be %d: no error", x.Path, x.Unpacked, size)
			}
		}
		if suffix == "" {
			continue
		}
		if _, err := x.Parse(content[:len(content)-20], "amd64"); err == nil {
			t.Errorf("%s: Parse of a file cut short: no error", x.Path)
		}
	}
}

func FuzzParsePackages(f *testing.F) {
	f.Add([]byte(packagesText))
	f.Add([]byte("Package: a\n\nPackage: b\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		packages, err := ParsePackages(bytes.NewReader(text), "amd64")
		if err != nil {
			return
		}
		for _, p := range packages {
			if p.Malformed != nil && relation.ValidName(p.Name) {
				continue
			}
			if !relation.ValidName(p.Name) || relation.ValidVersion(p.Version) != nil || validPath(p.Path) != nil || p.Size <= 0 {
				t.Errorf("a package is let through: %+v", p)
			}
		}
	})
}

func TestParseControl(t *testing.T) {
	got, err := ParseControl([]byte(controlText), "amd64")
	if err != nil {
		t.Fatal(err)
	}
	want := resolver.Package{
		Name: "libc6", Version: "2.41-12", Arch: "amd64", MultiArch: "same", Priority: "optional", Essential: true,
		Depends: "libgcc-s1", PreDepends: "x", Conflicts: "y", Breaks: "aide (<< 0.15)", Provides: "libc6-2.41",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("ParseControl (-want +got):\n%s", diff)
	}
	for _, test := range []struct{ old, new, want string }{
		{"Package: libc6", "Package: LibC", `control file of package "LibC": field Package: missing, or not the name of a package`},
		{"Architecture: amd64", "Architecture: arm64", `control file of package "libc6": field Architecture: "arm64" in an index of amd64`},
		{"Version: 2.41-12", "Version: -", `control file of package "libc6": field Version: `},
		{"Provides: libc6-2.41", "Provides: a | b", `control file of package "libc6": field Provides: `},
		{controlText, "", "reading a control file: EOF"},
		{"Depends: ", "Depends ", "reading a control file: line "},
	} {
		_, err := ParseControl([]byte(strings.Replace(controlText, test.old, test.new, 1)), "amd64")
		if err == nil || !strings.HasPrefix(err.Error(), test.want) {
			t.Errorf("ParseControl with %q = %v; want %s", test.new, err, test.want)
		}
	}
}

const controlText = `Package: libc6
Source: glibc
Version: 2.41-12
Architecture: amd64
Essential: yes
Depends: libgcc-s1
Pre-Depends: x
Conflicts: y
Breaks: aide (<< 0.15)
Provides: libc6-2.41
Multi-Arch: same
Priority: optional
Filename: pool/main/elsewhere.deb
Description: GNU C Library
 and more
`

func FuzzParseControl(f *testing.F) {
	f.Add([]byte(controlText))
	f.Add([]byte("Package: a\nVersion: 1\nArchitecture: all\n"))
	f.Fuzz(func(t *testing.T, content []byte) {
		p, err := ParseControl(content, "amd64")
		if err == nil && (p.Name == "" || p.Version == "" || p.Path != "" || p.Size != 0) {
			t.Errorf("ParseControl = %+v", p)
		}
	})
}
