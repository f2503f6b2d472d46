package repo

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/bake/tree"
)

const (
	sumA = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	sumB = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
)

func digest(t *testing.T, s string) tree.Digest {
	t.Helper()
	var d tree.Digest
	if err := d.UnmarshalText([]byte(s)); err != nil {
		t.Fatal(err)
	}
	return d
}

const releaseText = `Origin: Debian
Label: Debian-Security
Suite: stable-security
Version: 13
Codename: trixie-security
Date: Sat, 21 Nov 2026 00:53:03 UTC
Valid-Until: Sat, 28 Nov 2026 00:53:03 UTC
Acquire-By-Hash: yes
Architectures: amd64 arm64
Components: updates/main updates/contrib
Description: Debian 13 - Security Updates
MD5Sum:
 0123 1 ../not/looked/at
SHA256:
 ` + sumA + `  2234121 main/binary-amd64/Packages
 ` + sumB + `   307764 main/binary-amd64/Packages.xz
`

func TestParseRelease(t *testing.T) {
	got, err := ParseRelease([]byte(releaseText))
	if err != nil {
		t.Fatal(err)
	}
	want := &Release{
		Origin: "Debian", Label: "Debian-Security", Suite: "stable-security", Codename: "trixie-security",
		Date:          time.Date(2026, 11, 21, 0, 53, 3, 0, time.UTC),
		ValidUntil:    time.Date(2026, 11, 28, 0, 53, 3, 0, time.UTC),
		Architectures: []string{"amd64", "arm64"}, Components: []string{"updates/main", "updates/contrib"}, ByHash: true,
		Files: map[string]File{
			"main/binary-amd64/Packages":    {2234121, digest(t, sumA)},
			"main/binary-amd64/Packages.xz": {307764, digest(t, sumB)},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("ParseRelease (-want +got):\n%s", diff)
	}
}

func TestParseReleaseErrors(t *testing.T) {
	tests := []struct{ name, old, new, want string }{
		{"no date", "Date: Sat, 21 Nov 2026 00:53:03 UTC\n", "", "Date"},
		{"local date", "Date: Sat, 21 Nov 2026 00:53:03 UTC", "Date: Sat, 21 Nov 2026 00:53:03 CET", "Date"},
		{"bad Valid-Until", "28 Nov 2026", "32 Nov 2026", "Valid-Until"},
		{"empty Valid-Until", "Valid-Until: Sat, 28 Nov 2026 00:53:03 UTC", "Valid-Until:", "Valid-Until"},
		{"no digests", "SHA256:", "SHA1:", "no field SHA256"},
		{"short digest", sumA, sumA[1:], "64 hexadecimal digits"},
		{"no size", "2234121", "", "digest, size and path"},
		{"bad size", "2234121", "-1", "no size"},
		{"path leaves", "main/binary-amd64/Packages.xz", "../Packages.xz", "leaves the root"},
		{"absolute path", "main/binary-amd64/Packages.xz", "/etc/passwd", "absolute"},
		{"path not for a URL", "main/binary-amd64/Packages.xz", "main/Packages?x", "does not use"},
		{"listed twice", "Packages.xz", "Packages", "twice"},
		{"two stanzas", "MD5Sum:", "\nMD5Sum:", "more than one stanza"},
		{"field twice", "Suite: stable-security", "Suite: stable-security\nSuite: evil", "twice"},
		{"syntax", "Version: 13", "Version 13", "colon"},
		{"empty", releaseText, "", "empty"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if !strings.Contains(releaseText, test.old) {
				t.Fatalf("BUG: %q is not in the text", test.old)
			}
			text := strings.Replace(releaseText, test.old, test.new, 1)
			if _, err := ParseRelease([]byte(text)); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error is %v; want %q", err, test.want)
			}
		})
	}
}

func TestReleaseCheck(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	tests := []struct {
		name           string
		archive, suite string
		now            time.Time
		change         func(*Release)
		want           string
	}{
		{"good", Security, "trixie-security", now, nil, ""},
		{"by its alias", Security, "stable-security", now, nil, ""},
		{"the last second", Security, "trixie-security", time.Date(2026, 11, 28, 0, 53, 3, 0, time.UTC), nil, ""},
		{"other suite", Security, "bookworm-security", now, nil, "serves another suite"},
		{"other archive", Main, "trixie-security", now, nil, "serves another archive"},
		{"main as security", Security, "trixie-security", now, func(r *Release) { r.Label = "Debian" }, "serves another archive"},
		{"backports", Main, "trixie-backports", now, func(r *Release) { r.Label, r.Codename = "Debian Backports", "trixie-backports" }, ""},
		{"vendor", Main, "trixie-security", now, func(r *Release) { r.Label = "Vendor" }, "serves another archive"},
		{"expired", Security, "trixie-security", time.Date(2026, 11, 28, 0, 53, 4, 0, time.UTC), nil,
			"expired on 2026-11-28 00:53:03 UTC and it is 2026-11-28 00:53:04 UTC now: the mirror is stale, take another, or this host's clock is wrong"},
		{"does not expire", Security, "trixie-security", now.AddDate(5, 0, 0), func(r *Release) { r.ValidUntil = time.Time{} }, ""},
		{"from the future", Security, "trixie-security", now.AddDate(0, -1, 0), nil, "this host's clock is wrong"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r, err := ParseRelease([]byte(releaseText))
			if err != nil {
				t.Fatal(err)
			}
			if test.change != nil {
				test.change(r)
			}
			err = r.Check(test.archive, test.suite, test.now)
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("Check: error is %v; want %q", err, test.want)
			}
			var expired *ExpiredError
			if got := errors.As(err, &expired); got != (test.name == "expired") {
				t.Errorf("Check: error is %T", err)
			}
		})
	}
}

func TestReleasePackages(t *testing.T) {
	r, err := ParseRelease([]byte(releaseText))
	if err != nil {
		t.Fatal(err)
	}
	x, err := r.Packages("amd64")
	if err != nil {
		t.Fatal(err)
	}
	want := Index{File{307764, digest(t, sumB)}, "main/binary-amd64/Packages.xz", 2234121}
	if diff := cmp.Diff(want, x); diff != "" {
		t.Errorf("Packages (-want +got):\n%s", diff)
	}
	if got, want := x.ByHash(), "main/binary-amd64/by-hash/SHA256/"+sumB; got != want {
		t.Errorf("ByHash() = %q; want %q", got, want)
	}
	r.Files["main/binary-amd64/Packages.gz"] = File{400000, digest(t, sumA)}
	if x, err = r.Packages("amd64"); err != nil || x.Path != "main/binary-amd64/Packages.gz" {
		t.Errorf("Packages = %s, %v; want the .gz, which is faster to read", x.Path, err)
	}
	if _, err := r.Packages("riscv64"); err == nil || !strings.Contains(err.Error(), "trixie-security has no architecture riscv64, only amd64, arm64") {
		t.Errorf("Packages(riscv64): error is %v", err)
	}
	if _, err := r.Packages("arm64"); err == nil || !strings.Contains(err.Error(), "does not list main/binary-arm64/Packages") {
		t.Errorf("Packages(arm64): error is %v", err)
	}
}

func FuzzParseRelease(f *testing.F) {
	f.Add([]byte(releaseText))
	f.Add([]byte("Date: Sat, 21 Nov 2026 00:53:03 UTC\nSHA256:\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := ParseRelease(text)
		if err != nil {
			return
		}
		for p := range r.Files {
			if err := validPath(p); err != nil {
				t.Errorf("a file's path is let through: %v", err)
			}
		}
		if x, err := r.Packages("amd64"); err == nil && x.Size < 0 {
			t.Errorf("Packages has %d bytes", x.Size)
		}
	})
}
