package manifest

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/bake/arch"
)

func sampleLock() *Lock {
	date := time.Date(2026, 11, 14, 9, 30, 0, 0, time.UTC)
	return &Lock{
		Archs: map[arch.Arch]*LockedArch{
			arch.AMD64: {
				Request: "sha256:" + sumA,
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
			arch.ARM64: {
				Request:  "sha256:" + sumB,
				Releases: []LockedRelease{{"debian", "trixie", date, "sha256:" + sumA}},
				Packages: []LockedPackage{
					{"0ad", "0.27~rc1-1", "arm64", "trixie", "debian", "pool/main/0/0ad/0ad_0.27~rc1-1_arm64.deb", 1 << 40, "sha256:" + sumA},
				},
			},
		},
	}
}

const sampleLockText = lockHeader + `format: 2
amd64:
  request: sha256:` + sumA + `
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
  request: sha256:` + sumB + `
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

// imagesLock is the sample with packages of images, and imagesLockText how it is written.
func imagesLock() *Lock {
	lock := sampleLock()
	section := lock.Archs[arch.AMD64]
	section.Images = map[string][]LockedPackage{
		"web": {
			section.Packages[1], // the file that the root filesystem has
			{"web-server", "1.2", "amd64", "trixie", "debian", "pool/main/w/web-server/web-server_1.2_amd64.deb", 3, "sha256:" + sumA},
		},
		"null": {{"libc6", "2.41-11", "amd64", "trixie", "debian", "pool/main/g/glibc/libc6_2.41-11_amd64.deb", 2, "sha256:" + sumA}},
	}
	return lock
}

var imagesLockText = strings.Replace(strings.Replace(sampleLockText, "format: 2\n", "format: 3\n", 1), "arm64:\n", `  images:
    "null":
      - {name: libc6, version: "2.41-11", arch: amd64, suite: trixie, archive: debian, path: pool/main/g/glibc/libc6_2.41-11_amd64.deb, size: 2, sum: sha256:`+sumA+`}
    web:
      - {name: libc6, version: "2.41-12", arch: amd64, suite: trixie-security, archive: debian-security, path: pool/updates/main/g/glibc/libc6_2.41-12_amd64.deb, size: 2847212, sum: sha256:`+sumB+`}
      - {name: web-server, version: "1.2", arch: amd64, suite: trixie, archive: debian, path: pool/main/w/web-server/web-server_1.2_amd64.deb, size: 3, sum: sha256:`+sumA+`}
arm64:
`, 1)

// TestLockOfImages has packages of images, which only the newer format has.
func TestLockOfImages(t *testing.T) {
	lock := imagesLock()
	data := lock.Marshal()
	if diff := cmp.Diff(imagesLockText, string(data)); diff != "" {
		t.Errorf("Marshal (-want +got):\n%s", diff)
	}
	got, err := ParseLock("v.lock", data)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(lock.Archs, got.Archs); diff != "" {
		t.Errorf("ParseLock(Marshal) (-want +got):\n%s", diff)
	}
	slices.Reverse(lock.Archs[arch.AMD64].Images["web"])
	if !bytes.Equal(lock.Marshal(), data) {
		t.Error("Marshal writes the packages of an image in another order where the lock has them so")
	}
	lock.Archs[arch.AMD64].Images = map[string][]LockedPackage{}
	if diff := cmp.Diff(sampleLockText, string(lock.Marshal())); diff != "" {
		t.Errorf("Marshal without packages of images (-want +got):\n%s", diff)
	}

	var names []string
	for _, p := range got.Archs[arch.AMD64].All() {
		names = append(names, p.Name+" "+p.Version)
	}
	// libc6 2.41-12 is one file for two.
	want := []string{"base-files 13.8+deb13u2", "libc6 2.41-12", "no 1.10", "openssh-server 1:10.0p1-7", "libseccomp-dev 2.6.0-2", "libseccomp-dev 2.6.0-3", "libc6 2.41-11", "web-server 1.2"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("All (-want +got):\n%s", diff)
	}

	const images = "amd64.images"
	for _, test := range []struct {
		name     string
		old, new string
		want     string
	}{
		{"older format", "format: 3\n", "format: 2\n", "v.lock:18:3: amd64.images: unknown key (known here: extra, packages, releases, request)"},
		{"list", imagesLockText[strings.Index(imagesLockText, "  images:\n"):strings.Index(imagesLockText, "arm64:\n")], "  images: []\n", "v.lock:18:11: amd64.images: want a mapping, found a list"},
		{"name", "    web:\n", "    Web:\n", "v.lock:22:7: " + images + ".Web: Web is not the name of an image"},
		{"name twice", "    web:\n", "    \"null\":\n", "v.lock:21:5: " + images + ".null: duplicate key, first on line 19 (remove one)"},
		{"no packages", "    web:\n", "    none: []\n    web:\n", "v.lock:21:11: " + images + ".none: empty (an image has packages)"},
		{"package", "name: web-server", "name: Web", "v.lock:23:16: " + images + ".web[1].name: \"Web\" is not a Debian package name (lower-case letters, digits, + - and .)"},
		{"path outside", "pool/main/w/web-server/", "../", "v.lock:23:95: " + images + ".web[1].path: \"../web-server_1.2_amd64.deb\" is not a relative path that stays below its archive (no leading /, no .., letters, digits and + . _ ~ : % - only)"},
		{"package twice", "name: web-server", "name: libc6", "v.lock:23:9: " + images + ".web[1]: libc6 stands twice"},
		{"unsorted", "name: web-server", "name: ant", "v.lock:23:9: " + images + ".web[1]: ant stands after libc6, and the list must be sorted"},
		{"suite", "version: \"1.2\", arch: amd64, suite: trixie", "version: \"1.2\", arch: amd64, suite: sid", "v.lock:23:9: " + images + ".web[1]: suite sid of archive debian is not among the releases"},
	} {
		if !strings.Contains(imagesLockText, test.old) {
			t.Fatalf("%s: the sample has no %q", test.name, test.old)
		}
		l, err := ParseLock("v.lock", []byte(strings.Replace(imagesLockText, test.old, test.new, 1)))
		if got := text(err); got != test.want || l != nil {
			t.Errorf("%s: ParseLock = %v:\n got %s\nwant %s", test.name, l, got, test.want)
		}
	}
}

// TestLockMarshalSorts gives the lists in other orders.
func TestLockMarshalSorts(t *testing.T) {
	lock := sampleLock()
	section := lock.Archs[arch.AMD64]
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
	release, packages := "amd64.releases", "amd64.packages"
	pathRule := " is not a relative path that stays below its archive (no leading /, no .., letters, digits and + . _ ~ : % - only)"
	for _, test := range []struct {
		name     string
		old, new string
		want     string
	}{
		{"empty", sampleLockText, "", "v.lock:1:1: file is empty"},
		{"format", "format: 2\n", "format: 4\nnew: 1\n", "v.lock:3:9: format: this bake reads formats up to 3 (use the bake that wrote it)"},
		{"no format", "format: 2\n", "", "v.lock:3:1: format: missing (add it)"},
		{"unknown key", "  request: sha256:a", "  requests: sha256:a", "v.lock:4:1: amd64.request: missing (add it)\nv.lock:5:3: amd64.requests: unknown key (did you mean \"request\"?)"},
		{"key of an older format", "format: 2\n", "format: 2\nversions: x\n", "v.lock:4:1: versions: unknown key (known here: amd64, arm64, format)"},
		{"no sections", sampleLockText[strings.Index(sampleLockText, "amd64:\n"):], "", "v.lock:3:1: no section for any architecture"},
		{"unknown architecture", "\narm64:", "\narm46:", "v.lock:18:1: arm46: unknown key (did you mean \"arm64\"?)"},
		{"bad digest", "request: sha256:b", "request: sha256:g", "v.lock:19:12: arm64.request: sha256 has 'g' at 1, which is no hexadecimal digit"},
		{"sha512", "request: sha256:" + sumB, "request: sha512:" + sumB + sumB, "v.lock:19:12: arm64.request: sha512 is not sha256"},
		{"no releases", "  releases:\n    - {archive: debian, suite: trixie, date: \"2026-11-14T09:30:00Z\", sum: sha256:" + sumA + "}\n  packages:\n    - {name: \"0ad", "  packages:\n    - {name: \"0ad", "v.lock:18:1: arm64.releases: missing (add it)"},
		{"release twice", "suite: trixie-updates, date", "suite: trixie, date", "v.lock:8:7: " + release + "[1]: debian trixie stands twice\nv.lock:17:7: amd64.extra[1]: suite trixie-updates of archive debian is not among the releases"},
		{"date", "2026-11-14T10:30:00Z", "2026-11-14 10:30", "v.lock:9:64: " + release + "[2].date: \"2026-11-14 10:30\" is not a date (want 2006-01-02T15:04:05Z)"},
		{"date elsewhere", "2026-11-14T10:30:00Z", "2026-11-14T10:30:00+01:00", "v.lock:9:64: " + release + "[2].date: \"2026-11-14T10:30:00+01:00\" is not a date (want 2006-01-02T15:04:05Z)"},
		{"unquoted date", "\"2026-11-14T10:30:00Z\"", "2026-11-14T10:30:00Z", "v.lock:9:64: " + release + "[2].date: want text, found the date 2026-11-14T10:30:00Z (put it in quotes)"},
		{"archive outside", "archive: debian-security, suite", "archive: ../debian, suite", "v.lock:9:17: " + release + "[2].archive: \"../debian\"" + pathRule},
		{"package key", "size: 73004", "sized: 73004", "v.lock:11:7: " + packages + "[0].size: missing (add it)\nv.lock:11:160: " + packages + "[0].sized: unknown key (did you mean \"size\"?)"},
		{"package name", "name: libc6", "name: libC6", "v.lock:12:14: " + packages + "[1].name: \"libC6\" is not a Debian package name (lower-case letters, digits, + - and .)"},
		{"package version", "\"2.41-12\"", "\"v2.41\"", "v.lock:12:30: " + packages + "[1].version: \"v2.41\" is not a Debian version (it begins with a digit, and has letters, digits and . + - : ~ only)"},
		{"package architecture", "version: \"2.41-12\", arch: amd64", "version: \"2.41-12\", arch: arm64", "v.lock:12:47: " + packages + "[1].arch: \"arm64\" is not known (choose from: amd64, all)"},
		{"package suite", "arch: all, suite: trixie", "arch: all, suite: sid", "v.lock:13:7: " + packages + "[2]: suite sid of archive debian is not among the releases"},
		{"path outside", "pool/main/n/no/", "pool/../../no/", "v.lock:13:86: " + packages + "[2].path: \"pool/../../no/no_1.10_all.deb\"" + pathRule},
		{"path absolute", "pool/main/n/no/", "/pool/", "v.lock:13:86: " + packages + "[2].path: \"/pool/no_1.10_all.deb\"" + pathRule},
		{"path with query", "no_1.10_all.deb", "no_1.10_all.deb#x.deb", "v.lock:13:86: " + packages + "[2].path: \"pool/main/n/no/no_1.10_all.deb#x.deb\"" + pathRule},
		{"path of a source", "no_1.10_all.deb", "no_1.10.tar.xz", "v.lock:13:86: " + packages + "[2].path: \"pool/main/n/no/no_1.10.tar.xz\" is not the path of a .deb"},
		{"size 0", "size: 1,", "size: 0,", "v.lock:13:124: " + packages + "[2].size: 0 is out of range (at least 1)"},
		{"size of text", "size: 1,", "size: \"1\",", "v.lock:13:124: " + packages + "[2].size: want a whole decimal number, found \"1\""},
		{"package digest", "size: 1, sum: sha256:b", "size: 1, sum: sha256:", "v.lock:13:132: " + packages + "[2].sum: sha256 has 63 hexadecimal digits; want 64"},
		{"package twice", "{name: \"no\"", "{name: libc6", "v.lock:13:7: " + packages + "[2]: libc6 stands twice"},
		{"unsorted", "{name: \"no\"", "{name: ant", "v.lock:13:7: " + packages + "[2]: ant stands after libc6, and the list must be sorted"},
		{"extra twice", "suite: trixie-updates, archive", "suite: trixie, archive", "v.lock:17:7: amd64.extra[1]: libseccomp-dev/trixie stands twice"},
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
	if section, err := lock.For(arch.ARM64); section != lock.Archs[arch.ARM64] || err != nil {
		t.Errorf("For(arm64) = %v, %v; want its section", section, err)
	}
	delete(lock.Archs, arch.ARM64)
	_, err := lock.For(arch.ARM64)
	var missing *MissingArchError
	if want := "v.lock:1:1: lock: nothing for arm64 (there is: amd64)"; text(err) != want || !errors.As(err, &missing) {
		t.Errorf("For(arm64) = %v; want %s", err, want)
	}
}

func TestLockStale(t *testing.T) {
	lock := sampleLock()
	lock.File = "m/v.lock"
	const request = "sha256:" + sumA
	lock.Archs[arch.AMD64].Images = map[string][]LockedPackage{"web": {{Name: "web-server"}}}
	wanted := []string{"no", "base-files", "libseccomp-dev", "web-server"}
	for _, test := range []struct {
		name       string
		arch       arch.Arch
		request    Digest
		definition string
		file       string
		more       []string // wanted
		want       string
	}{
		{"fresh", arch.AMD64, request, "", "m/v.yaml", []string{"jq"}, ""}, // the request is what counts
		{"of no lock", "riscv64", abc256, "", "m/v.yaml", nil, ""},
		{"other packages", arch.AMD64, abc256, "", "m/v.yaml", nil,
			"m/v.lock is stale: m/v.yaml with the built-in image definition asks for other packages than when it was made (run: bake lock --versions m/v.yaml)"},
		{"one more", arch.AMD64, abc256, "../images/worker", "m/v.yaml", []string{"jq"},
			"m/v.lock is stale: m/v.yaml with the image definition images/worker asks for jq, which it lacks (run: bake lock --versions m/v.yaml)"},
		{"many more", arch.AMD64, abc256, "d", "m/v.yaml", []string{"f", "e", "d", "c", "b", "a", "a"},
			"m/v.lock is stale: m/v.yaml with the image definition m/d asks for a, b, c, d, e and 1 more, which it lacks (run: bake lock --versions m/v.yaml)"},
		{"lock that is elsewhere, and a blank", arch.AMD64, abc256, "", "my sets/v.yaml", []string{"jq"},
			"m/v.lock is stale: my sets/v.yaml with the built-in image definition asks for jq, which it lacks (run: bake lock --versions 'my sets/v.yaml' --output m/v.lock)"},
	} {
		err := lock.Stale(&Versions{File: test.file, Definition: test.definition}, test.arch, test.request, append(test.more, wanted...))
		if got := strings.ReplaceAll(text(err), `\`, "/"); got != test.want {
			t.Errorf("%s: Stale = %v; want %s", test.name, err, test.want)
		}
		if _, ok := errors.AsType[*StaleError](err); test.want != "" && !ok {
			t.Errorf("%s: Stale = %T; want *StaleError", test.name, err)
		}
	}
}

// TestOldLock reads a lock that says from which files it was made and not what
// they asked for.
func TestOldLock(t *testing.T) {
	old := strings.Replace(sampleLockText, "format: 2\n", "format: 1\nversions: sha256:"+sumA+"\ndefinition: sha256:"+sumB+"\n", 1)
	for _, sum := range []string{sumA, sumB} {
		old = strings.Replace(old, "  request: sha256:"+sum+"\n", "", 1)
	}
	lock, err := ParseLock("v.lock", []byte(old))
	if err != nil {
		t.Fatal(err)
	}
	want := sampleLock()
	for _, section := range want.Archs {
		section.Request = ""
	}
	if diff := cmp.Diff(want.Archs, lock.Archs); diff != "" {
		t.Errorf("ParseLock (-want +got):\n%s", diff)
	}
	const stale = "v.lock is stale: an older bake made it, which did not say what for (run: bake lock --versions v.yaml)"
	if err := lock.Stale(&Versions{File: "v.yaml"}, arch.AMD64, "sha256:"+sumA, nil); text(err) != stale {
		t.Errorf("Stale = %v; want %s", err, stale)
	}
}

func TestCommand(t *testing.T) {
	for _, test := range []struct {
		words []string
		want  string
	}{
		{[]string{"bake", "lock", "--versions", "a/b-c_d.yaml", "--upgrade", "g++,libstdc++6"}, "bake lock --versions a/b-c_d.yaml --upgrade g++,libstdc++6"},
		{[]string{"a b", "", "it's", "$HOME", "*", "ü", "a\\b", "~"}, `'a b' '' 'it'\''s' '$HOME' '*' 'ü' 'a\b' '~'`},
	} {
		if got := Command(test.words...); got != test.want {
			t.Errorf("Command(%q) = %s; want %s", test.words, got, test.want)
		}
		// A shell takes it apart into the same words.
		if out, err := exec.CommandContext(t.Context(), "sh", "-c", `printf '%s\n' `+test.want).Output(); err != nil || string(out) != strings.Join(test.words, "\n")+"\n" {
			t.Errorf("sh reads %q, %v; want %q", out, err, test.words)
		}
	}
}

func TestDiffLocks(t *testing.T) {
	a, b := sampleLock(), sampleLock()
	if changes := DiffLocks(a, b, arch.AMD64); len(changes) != 0 {
		t.Errorf("DiffLocks of equal locks = %v; want nothing", changes)
	}
	section := b.Archs[arch.AMD64]
	section.Packages[1].Suite = "trixie" // moved, the same file
	section.Packages[2].Version, section.Packages[2].SHA256 = "1.11", abc256
	section.Packages[3].SHA256 = abc256
	section.Packages = append(section.Packages[1:], LockedPackage{Name: "zlib1g", Version: "1:1.3", SHA256: abc256})
	section.Extra = section.Extra[1:]
	var got []string
	for _, c := range DiffLocks(a, b, arch.AMD64) {
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
	a, b = imagesLock(), imagesLock()
	section = b.Archs[arch.AMD64]
	section.Images["web"] = section.Images["web"][1:]
	section.Images["null"][0].Version, section.Images["null"][0].SHA256 = "2.41-12", "sha256:"+sumB
	section.Images["new"] = []LockedPackage{section.Packages[2]}
	section.Extra = nil
	got = nil
	for _, c := range DiffLocks(a, b, arch.AMD64) {
		got = append(got, c.String())
	}
	want = []string{
		"- libseccomp-dev 2.6.0-2 (not installed)",
		"- libseccomp-dev 2.6.0-3 (not installed)",
		"+ no 1.10 (image new)",
		"libc6 2.41-11 -> 2.41-12 (image null)",
		"- libc6 2.41-12 (image web)",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("DiffLocks of images (-want +got):\n%s", diff)
	}
	delete(b.Archs, arch.ARM64)
	if got := DiffLocks(a, b, arch.ARM64); len(got) != 1 || got[0].String() != "- 0ad 0.27~rc1-1" {
		t.Errorf("DiffLocks without a section = %v; want - 0ad", got)
	}
	if got := DiffLocks(b, a, arch.ARM64); len(got) != 1 || got[0].String() != "+ 0ad 0.27~rc1-1" {
		t.Errorf("DiffLocks without a section = %v; want + 0ad", got)
	}
}

func FuzzParseLock(f *testing.F) {
	f.Add([]byte(sampleLockText))
	f.Add([]byte(imagesLockText))
	f.Add([]byte("format: 3\namd64: {request: x, releases: [], packages: [], images: {a: []}}\n"))
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
		for _, section := range l.Archs {
			if section.Request == "" {
				return // of an older format, which is not written any more
			}
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
