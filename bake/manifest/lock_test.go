package manifest

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func sampleLock() *Lock {
	date := time.Date(2026, 11, 14, 9, 30, 0, 0, time.UTC)
	return &Lock{
		Versions:   "sha256:" + sumA,
		Definition: "sha256:" + sumB,
		Archs: map[Arch]*LockedArch{
			AMD64: {
				Releases: []LockedRelease{
					{"debian", "trixie", date, "sha256:" + sumA},
					{"debian", "trixie-updates", date, "sha256:" + sumA},
					{"debian-security", "trixie-security", date.Add(time.Hour), "sha256:" + sumB},
				},
				Packages: []LockedPackage{
					{"base-files", "13.8+deb13u2", "amd64", "trixie", "debian", "pool/main/b/base-files/base-files_13.8+deb13u2_amd64.deb", 73004, "sha256:" + sumA},
					{"libc6", "2.41-12", "amd64", "trixie-security", "debian-security", "pool/updates/main/g/glibc/libc6_2.41-12_amd64.deb", 2847212, "sha256:" + sumB},
					{"no", "1.10", "all", "trixie", "debian", "pool/main/n/no/no_1.10_all.deb", 1, "sha256:" + sumB},
					{"openssh-server", "1:10.0p1-7", "amd64", "trixie", "debian", "pool/main/o/openssh/openssh-server_10.0p1-7_amd64.deb", 592660, "sha256:" + sumA},
				},
				Extra: []LockedPackage{
					{"libseccomp-dev", "2.6.0-2", "amd64", "trixie", "debian", "pool/main/libs/libseccomp/libseccomp-dev_2.6.0-2_amd64.deb", 94000, "sha256:" + sumA},
					{"libseccomp-dev", "2.6.0-3", "amd64", "trixie-updates", "debian", "pool/main/libs/libseccomp/libseccomp-dev_2.6.0-3_amd64.deb", 94004, "sha256:" + sumB},
				},
			},
			ARM64: {
				Releases: []LockedRelease{{"debian", "trixie", date, "sha256:" + sumA}},
				Packages: []LockedPackage{
					{"0ad", "0.27~rc1-1", "arm64", "trixie", "debian", "pool/main/0/0ad/0ad_0.27~rc1-1_arm64.deb", 1 << 40, "sha256:" + sumA},
				},
			},
		},
	}
}

const sampleLockText = lockHeader + `format: 1
versions: sha256:` + sumA + `
definition: sha256:` + sumB + `
amd64:
  releases:
    - {archive: debian, suite: trixie, date: "2026-11-14T09:30:00Z", sum: sha256:` + sumA + `}
    - {archive: debian, suite: trixie-updates, date: "2026-11-14T09:30:00Z", sum: sha256:` + sumA + `}
    - {archive: debian-security, suite: trixie-security, date: "2026-11-14T10:30:00Z", sum: sha256:` + sumB + `}
  packages:
    - {name: base-files, version: "13.8+deb13u2", arch: amd64, suite: trixie, archive: debian, path: pool/main/b/base-files/base-files_13.8+deb13u2_amd64.deb, size: 73004, sum: sha256:` + sumA + `}
    - {name: libc6, version: "2.41-12", arch: amd64, suite: trixie-security, archive: debian-security, path: pool/updates/main/g/glibc/libc6_2.41-12_amd64.deb, size: 2847212, sum: sha256:` + sumB + `}
    - {name: "no", version: "1.10", arch: all, suite: trixie, archive: debian, path: pool/main/n/no/no_1.10_all.deb, size: 1, sum: sha256:` + sumB + `}
    - {name: openssh-server, version: "1:10.0p1-7", arch: amd64, suite: trixie, archive: debian, path: pool/main/o/openssh/openssh-server_10.0p1-7_amd64.deb, size: 592660, sum: sha256:` + sumA + `}
  extra:
    - {name: libseccomp-dev, version: "2.6.0-2", arch: amd64, suite: trixie, archive: debian, path: pool/main/libs/libseccomp/libseccomp-dev_2.6.0-2_amd64.deb, size: 94000, sum: sha256:` + sumA + `}
    - {name: libseccomp-dev, version: "2.6.0-3", arch: amd64, suite: trixie-updates, archive: debian, path: pool/main/libs/libseccomp/libseccomp-dev_2.6.0-3_amd64.deb, size: 94004, sum: sha256:` + sumB + `}
arm64:
  releases:
    - {archive: debian, suite: trixie, date: "2026-11-14T09:30:00Z", sum: sha256:` + sumA + `}
  packages:
    - {name: "0ad", version: "0.27~rc1-1", arch: arm64, suite: trixie, archive: debian, path: pool/main/0/0ad/0ad_0.27~rc1-1_arm64.deb, size: 1099511627776, sum: sha256:` + sumA + `}
`

func TestLockRoundTrip(t *testing.T) {
	lock := sampleLock()
	data := lock.Marshal()
	if diff := cmp.Diff(sampleLockText, string(data)); diff != "" {
		t.Errorf("Marshal (-want +got):\n%s", diff)
	}
	got, err := ParseLock("v.lock", data)
	if err != nil {
		t.Fatal(err)
	}
	if got.File != "v.lock" || !strings.HasPrefix(string(got.Sum), "sha256:") {
		t.Errorf("ParseLock gives file %q and sum %q", got.File, got.Sum)
	}
	lock.File, lock.Sum = got.File, got.Sum
	if diff := cmp.Diff(lock, got); diff != "" {
		t.Errorf("ParseLock(Marshal) (-want +got):\n%s", diff)
	}
}

// TestLockMarshalSorts gives the lists in other orders.
func TestLockMarshalSorts(t *testing.T) {
	lock := sampleLock()
	section := lock.Archs[AMD64]
	section.Releases[0], section.Releases[2] = section.Releases[2], section.Releases[0]
	section.Packages[0], section.Packages[3] = section.Packages[3], section.Packages[0]
	section.Extra[0], section.Extra[1] = section.Extra[1], section.Extra[0]
	if diff := cmp.Diff(sampleLockText, string(lock.Marshal())); diff != "" {
		t.Errorf("Marshal (-want +got):\n%s", diff)
	}
	if section.Packages[0].Name != "openssh-server" {
		t.Error("Marshal changed the order of the lock itself")
	}
}

func TestParseLockErrors(t *testing.T) {
	const again = "(run bake lock again)"
	release, packages := "amd64.releases", "amd64.packages"
	pathRule := " is not a relative path that stays below its archive (no leading /, no .., letters, digits and + . _ ~ : % - only)"
	for _, test := range []struct {
		name     string
		old, new string
		want     string
	}{
		{"empty", sampleLockText, "", "v.lock:1:1: file is empty"},
		{"format", "format: 1", "format: 2", "v.lock:3:9: format: this bake reads format 1 only (use the bake that wrote it, or run bake lock again)"},
		{"no format", "format: 1\n", "", "v.lock:3:1: format: missing (add it)"},
		{"unknown key", "versions:", "version:", "v.lock:3:1: versions: missing (add it)\nv.lock:4:1: version: unknown key (did you mean \"versions\"?)"},
		{"no sections", sampleLockText[strings.Index(sampleLockText, "amd64:\n"):], "", "v.lock:3:1: no section for any architecture " + again},
		{"unknown architecture", "\narm64:", "\narm46:", "v.lock:19:1: arm46: unknown key (did you mean \"arm64\"?)"},
		{"bad digest", "definition: sha256:b", "definition: sha256:g", "v.lock:5:13: definition: sha256 has 'g' at 1, which is no hexadecimal digit"},
		{"sha512", "definition: sha256:" + sumB, "definition: sha512:" + sumB + sumB, "v.lock:5:13: definition: sha512 is not sha256"},
		{"no releases", "  releases:\n    - {archive: debian, suite: trixie, date: \"2026-11-14T09:30:00Z\", sum: sha256:" + sumA + "}\n  packages:\n    - {name: \"0ad", "  packages:\n    - {name: \"0ad", "v.lock:19:1: arm64.releases: missing (add it)"},
		{"release twice", "suite: trixie-updates, date", "suite: trixie, date", "v.lock:9:7: " + release + "[1]: debian trixie stands twice " + again + "\nv.lock:18:7: amd64.extra[1]: suite trixie-updates of archive debian is not among the releases " + again},
		{"date", "2026-11-14T10:30:00Z", "2026-11-14 10:30", "v.lock:10:64: " + release + "[2].date: \"2026-11-14 10:30\" is not a date (want 2006-01-02T15:04:05Z)"},
		{"date elsewhere", "2026-11-14T10:30:00Z", "2026-11-14T10:30:00+01:00", "v.lock:10:64: " + release + "[2].date: \"2026-11-14T10:30:00+01:00\" is not a date (want 2006-01-02T15:04:05Z)"},
		{"unquoted date", "\"2026-11-14T10:30:00Z\"", "2026-11-14T10:30:00Z", "v.lock:10:64: " + release + "[2].date: want text, found the date 2026-11-14T10:30:00Z (put it in quotes)"},
		{"archive outside", "archive: debian-security, suite", "archive: ../debian, suite", "v.lock:10:17: " + release + "[2].archive: \"../debian\"" + pathRule},
		{"package key", "size: 73004", "sized: 73004", "v.lock:12:7: " + packages + "[0].size: missing (add it)\nv.lock:12:160: " + packages + "[0].sized: unknown key (did you mean \"size\"?)"},
		{"package name", "name: libc6", "name: libC6", "v.lock:13:14: " + packages + "[1].name: \"libC6\" is not a Debian package name (lower-case letters, digits, + - and .)"},
		{"package version", "\"2.41-12\"", "\"v2.41\"", "v.lock:13:30: " + packages + "[1].version: \"v2.41\" is not a Debian version (it begins with a digit, and has letters, digits and . + - : ~ only)"},
		{"package architecture", "version: \"2.41-12\", arch: amd64", "version: \"2.41-12\", arch: arm64", "v.lock:13:47: " + packages + "[1].arch: \"arm64\" is not known (choose from: amd64, all)"},
		{"package suite", "arch: all, suite: trixie", "arch: all, suite: sid", "v.lock:14:7: " + packages + "[2]: suite sid of archive debian is not among the releases " + again},
		{"path outside", "pool/main/n/no/", "pool/../../no/", "v.lock:14:86: " + packages + "[2].path: \"pool/../../no/no_1.10_all.deb\"" + pathRule},
		{"path absolute", "pool/main/n/no/", "/pool/", "v.lock:14:86: " + packages + "[2].path: \"/pool/no_1.10_all.deb\"" + pathRule},
		{"path with query", "no_1.10_all.deb", "no_1.10_all.deb#x.deb", "v.lock:14:86: " + packages + "[2].path: \"pool/main/n/no/no_1.10_all.deb#x.deb\"" + pathRule},
		{"path of a source", "no_1.10_all.deb", "no_1.10.tar.xz", "v.lock:14:86: " + packages + "[2].path: \"pool/main/n/no/no_1.10.tar.xz\" is not the path of a .deb"},
		{"size 0", "size: 1,", "size: 0,", "v.lock:14:124: " + packages + "[2].size: 0 is out of range (at least 1)"},
		{"size of text", "size: 1,", "size: \"1\",", "v.lock:14:124: " + packages + "[2].size: want a whole decimal number, found \"1\""},
		{"package digest", "size: 1, sum: sha256:b", "size: 1, sum: sha256:", "v.lock:14:132: " + packages + "[2].sum: sha256 has 63 hexadecimal digits; want 64"},
		{"package twice", "{name: \"no\"", "{name: libc6", "v.lock:14:7: " + packages + "[2]: libc6 stands twice " + again},
		{"unsorted", "{name: \"no\"", "{name: ant", "v.lock:14:7: " + packages + "[2]: ant stands after libc6, and the list must be sorted " + again},
		{"extra twice", "suite: trixie-updates, archive", "suite: trixie, archive", "v.lock:18:7: amd64.extra[1]: libseccomp-dev/trixie stands twice " + again},
	} {
		t.Run(test.name, func(t *testing.T) {
			if !strings.Contains(sampleLockText, test.old) {
				t.Fatalf("the sample has no %q", test.old)
			}
			l, err := ParseLock("v.lock", []byte(strings.Replace(sampleLockText, test.old, test.new, 1)))
			if got := text(err); got != test.want {
				t.Errorf("ParseLock with %q for %q:\n got %s\nwant %s", test.new, test.old, got, test.want)
			}
			if l != nil {
				t.Error("ParseLock returned a value with its error")
			}
		})
	}
}

func TestLockFile(t *testing.T) {
	for in, want := range map[string]string{
		"manifests/versions.yaml": "manifests/versions.lock",
		"kthw-1.21.yml":           "kthw-1.21.lock",
		"versions":                "versions.lock",
	} {
		if got := LockFile(in); got != want {
			t.Errorf("LockFile(%q) = %q; want %q", in, got, want)
		}
	}
}

func TestLockFor(t *testing.T) {
	lock := sampleLock()
	lock.File = "v.lock"
	if section, err := lock.For(ARM64); section != lock.Archs[ARM64] || err != nil {
		t.Errorf("For(arm64) = %v, %v; want its section", section, err)
	}
	delete(lock.Archs, ARM64)
	_, err := lock.For(ARM64)
	var missing *MissingArchError
	if want := "v.lock:1:1: lock: nothing for arm64 (there is: amd64)"; text(err) != want || !errors.As(err, &missing) {
		t.Errorf("For(arm64) = %v; want %s", err, want)
	}
}

func TestLockStale(t *testing.T) {
	lock := sampleLock()
	lock.File = "m/v.lock"
	for _, test := range []struct {
		versions, definition Sum
		want                 string
	}{
		{lock.Versions, lock.Definition, ""},
		{abc256, lock.Definition, "m/v.lock is stale: since it was made, m/v.yaml changed (run: bake lock --versions m/v.yaml)"},
		{lock.Versions, abc256, "m/v.lock is stale: since it was made, the image definition changed (run: bake lock --versions m/v.yaml)"},
		{abc256, abc256, "m/v.lock is stale: since it was made, m/v.yaml and the image definition changed (run: bake lock --versions m/v.yaml)"},
	} {
		err := lock.Stale(&Versions{File: "m/v.yaml", Sum: test.versions}, test.definition)
		if text(err) != test.want {
			t.Errorf("Stale = %v; want %s", err, test.want)
		}
		var stale *StaleError
		if test.want != "" && !errors.As(err, &stale) {
			t.Errorf("Stale = %T; want *StaleError", err)
		}
	}
}

func TestDiffLocks(t *testing.T) {
	a, b := sampleLock(), sampleLock()
	if changes := DiffLocks(a, b, AMD64); len(changes) != 0 {
		t.Errorf("DiffLocks of equal locks = %v; want nothing", changes)
	}
	section := b.Archs[AMD64]
	section.Packages[1].Suite = "trixie" // moved, the same file
	section.Packages[2].Version, section.Packages[2].SHA256 = "1.11", abc256
	section.Packages[3].SHA256 = abc256
	section.Packages = append(section.Packages[1:], LockedPackage{Name: "zlib1g", Version: "1:1.3", SHA256: abc256})
	section.Extra = section.Extra[1:]
	var got []string
	for _, c := range DiffLocks(a, b, AMD64) {
		got = append(got, c.String())
	}
	want := []string{
		"- base-files 13.8+deb13u2",
		"no 1.10 -> 1.11",
		"openssh-server 1:10.0p1-7 (same version, other file)",
		"+ zlib1g 1:1.3",
		"- libseccomp-dev 2.6.0-2 (not installed)",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("DiffLocks (-want +got):\n%s", diff)
	}
	delete(b.Archs, ARM64)
	if got := DiffLocks(a, b, ARM64); len(got) != 1 || got[0].String() != "- 0ad 0.27~rc1-1" {
		t.Errorf("DiffLocks without a section = %v; want - 0ad", got)
	}
	if got := DiffLocks(b, a, ARM64); len(got) != 1 || got[0].String() != "+ 0ad 0.27~rc1-1" {
		t.Errorf("DiffLocks without a section = %v; want + 0ad", got)
	}
}

func FuzzParseLock(f *testing.F) {
	f.Add([]byte(sampleLockText))
	f.Add([]byte("format: 1\nversions: x\ndefinition: y\namd64: {releases: [], packages: []}\n"))
	f.Add([]byte(strings.Replace(sampleLockText, "pool/main", "pool/..", 1)))
	if data, err := os.ReadFile("../../manifests/versions.lock"); err == nil {
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := ParseLock("v.lock", data)
		if err != nil {
			if l != nil || !strings.HasPrefix(err.Error(), "v.lock:") {
				t.Errorf("ParseLock = %v, %v; want no value and an error with a position", l, err)
			}
			return
		}
		again, err := ParseLock("v.lock", l.Marshal())
		if err != nil {
			t.Fatalf("ParseLock(Marshal): %v", err)
		}
		again.Sum = l.Sum
		if diff := cmp.Diff(l, again); diff != "" {
			t.Errorf("ParseLock(Marshal) (-want +got):\n%s", diff)
		}
	})
}
