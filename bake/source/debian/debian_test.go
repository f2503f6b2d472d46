package debian

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/bake/arch"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/progress/progresstest"
	"github.com/nodebake/bake/bake/source/debian/debiantest"
	"github.com/nodebake/bake/bake/source/fetch"
)

func testNow() time.Time { return time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC) }

// web is what mirrors serve, by URL, and what was asked of them.
type web struct {
	files map[string][]byte
	asked []string
}

func (w *web) Get(ctx context.Context, urls []string, limit int64, accept func(string, []byte) error) ([]byte, error) {
	e := &fetch.UnreachableError{Name: urls[0]}
	for _, u := range urls {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		w.asked = append(w.asked, u)
		b, ok := w.files[u]
		err := errors.New("404")
		switch {
		case ok && int64(len(b)) > limit:
			err = fetch.ErrTooLarge
		case ok && accept == nil:
			return b, nil
		case ok:
			if err = accept(u, b); err == nil {
				return b, nil
			}
		}
		e.Tried = append(e.Tried, fetch.Attempt{URL: u, Err: err})
	}
	return nil, e
}

// publisher signs archives as Debian does.
type publisher struct{ *debiantest.Publisher }

func newPublisher(t *testing.T) *publisher {
	t.Helper()
	return &publisher{debiantest.NewPublisher(t, testNow().AddDate(-1, 0, 0))}
}

// suite is one suite to publish; zero fields have their defaults.
type suite struct {
	archive, name, label, codename string
	age                            time.Duration
	forever                        bool   // without Valid-Until
	packages                       string // stanzas
}

// pkg is a stanza of a package; its digest is that of its name and version.
func pkg(name, version, fields string) string {
	if fields != "" {
		fields += "\n"
	}
	sum := sha256.Sum256([]byte(name + version))
	return fmt.Sprintf("Package: %s\nVersion: %s\nArchitecture: amd64\nFilename: pool/main/%s/%s_%s_amd64.deb\nSize: 1000\nSHA256: %x\n%s\n", name, version, name, name, version, sum, fields)
}

func (p *publisher) publish(w *web, base string, s suite) {
	p.Publish(debiantest.Suite{
		Archive: s.archive, Name: s.name, Label: s.label, Codename: s.codename, Date: testNow().Add(-s.age), Forever: s.forever, ByHash: true,
		Packages: map[string][]byte{"amd64": []byte(s.packages)},
	}, func(path string, content []byte) { w.files[base+path] = content })
}

// trixie publishes a small release.
func (p *publisher) trixie(w *web, base string) {
	p.publish(w, base, suite{archive: "debian", name: "trixie", packages: pkg("base-files", "13", "Essential: yes\nPre-Depends: awk") +
		pkg("mawk", "1.3", "Provides: awk") + pkg("curl", "8.0", "Depends: libcurl4 (= 8.0)") + pkg("libcurl4", "8.0", "") + pkg("unused", "1", "")})
	p.publish(w, base, suite{archive: "debian", name: "trixie-updates", packages: pkg("tzdata", "2026f", "")})
	p.publish(w, base, suite{archive: "debian-security", name: "trixie-security", packages: pkg("curl", "8.0+deb13u1", "Depends: libcurl4 (= 8.0+deb13u1)") + pkg("libcurl4", "8.0+deb13u1", "")})
}

func newWeb() *web { return &web{files: make(map[string][]byte)} }

func testConfig(t *testing.T, p *publisher, w *web, mirrors ...string) Config {
	t.Helper()
	list, err := Mirrors(mirrors, nil)
	if err != nil {
		t.Fatal(err)
	}
	return Config{
		Suite: "trixie", Arch: arch.AMD64, Packages: refs("curl", "tzdata"), List: "worker list",
		Mirrors: list, Getter: w, Now: testNow(), Keyring: p.Keyring,
	}
}

func refs(names ...string) []manifest.PackageRef {
	var list []manifest.PackageRef
	for _, n := range names {
		name, suite, _ := strings.Cut(n, "/")
		list = append(list, manifest.PackageRef{Name: name, Suite: suite})
	}
	return list
}

func locked(archive, suite, name, version string) manifest.LockedPackage {
	return manifest.LockedPackage{
		Name: name, Version: version, Arch: "amd64", Suite: suite, Archive: archive,
		Path: fmt.Sprintf("pool/main/%s/%s_%s_amd64.deb", name, name, version), Size: 1000,
		SHA256: manifest.SHA256(sha256.Sum256([]byte(name + version))),
	}
}

func TestResolve(t *testing.T) {
	p, w := newPublisher(t), newWeb()
	const base = "http://mirror.example"
	p.trixie(w, base)
	p.publish(w, base, suite{archive: "debian", name: "trixie-backports", label: "Debian Backports", packages: pkg("socat", "2~bpo13+1", "Depends: libcurl4")})
	cfg := testConfig(t, p, w, base)
	cfg.Packages = append(cfg.Packages, refs("socat/trixie-backports")...)
	cfg.Extra = refs("unused", "curl", "socat/trixie-backports", "curl/trixie")
	got, err := Resolve(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	want := &manifest.LockedArch{
		Request: cfg.Request(),
		Packages: []manifest.LockedPackage{
			locked("debian", "trixie", "base-files", "13"),
			locked("debian-security", "trixie-security", "curl", "8.0+deb13u1"),
			locked("debian-security", "trixie-security", "libcurl4", "8.0+deb13u1"),
			locked("debian", "trixie", "mawk", "1.3"),
			locked("debian", "trixie-backports", "socat", "2~bpo13+1"),
			locked("debian", "trixie-updates", "tzdata", "2026f"),
		},
		Extra: []manifest.LockedPackage{
			locked("debian-security", "trixie-security", "curl", "8.0+deb13u1"),
			locked("debian", "trixie-backports", "socat", "2~bpo13+1"),
			locked("debian", "trixie", "unused", "1"),
		},
	}
	for _, s := range []struct{ archive, suite string }{
		{"debian", "trixie"}, {"debian", "trixie-backports"}, {"debian", "trixie-updates"}, {"debian-security", "trixie-security"},
	} {
		content := w.files[base+"/"+s.archive+"/dists/"+s.suite+"/InRelease"]
		want.Releases = append(want.Releases, manifest.LockedRelease{Archive: s.archive, Suite: s.suite, Date: testNow(), SHA256: manifest.SHA256(sha256.Sum256(content))})
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Resolve (-want +got):\n%s", diff)
	}
	for _, u := range w.asked {
		if !strings.HasSuffix(u, "/InRelease") && !strings.Contains(u, "/by-hash/") {
			t.Errorf("asked for %s; want indices by their digest", u)
		}
	}
}

// TestRequest is the same for lists in another order, and another for other lists.
func TestRequest(t *testing.T) {
	base := Config{Suite: "trixie", Arch: arch.AMD64, Packages: refs("curl", "tzdata"), Extra: refs("unused", "curl/bookworm")}
	want := base.Request()
	same := base
	same.Packages = []manifest.PackageRef{{Name: "tzdata", Suite: "trixie"}, {Name: "curl", Pos: manifest.Pos{File: "v.yaml", Line: 1}}, {Name: "curl"}}
	same.List, same.Now = "other list", testNow()
	if got := same.Request(); got != want {
		t.Errorf("Request of the same lists = %s; want %s", got, want)
	}
	for name, change := range map[string]func(*Config){
		"suite":         func(c *Config) { c.Suite = "forky" },
		"architecture":  func(c *Config) { c.Arch = arch.ARM64 },
		"package":       func(c *Config) { c.Packages = refs("curl") },
		"suite of one":  func(c *Config) { c.Packages = refs("curl", "tzdata/forky") },
		"extra":         func(c *Config) { c.Extra = refs("unused") },
		"image":         func(c *Config) { c.Images = []Image{{Name: "web", Packages: refs("curl")}} },
		"another extra": func(c *Config) { c.Packages, c.Extra = refs("curl", "tzdata", "unused"), refs("curl/bookworm") },
	} {
		other := base
		change(&other)
		if got := other.Request(); got == want {
			t.Errorf("%s: Request = %s, as without the change", name, got)
		}
	}
	if want := manifest.Digest("sha256:bdc350a003b8ccaa0fc2ebe387be6509f9196c73d730cfb97942033e007437c2"); base.Request() != want {
		t.Errorf("Request without images = %s; want %s, or locks without images become stale", base.Request(), want)
	}
	a, b := Image{Name: "a", Packages: refs("curl", "web")}, Image{Name: "b", Packages: refs("web")}
	base.Images = []Image{a, b}
	same.Images = []Image{b, {Name: "a", Key: "images.a.packages", Packages: refs("web/trixie", "curl")}}
	if got := same.Request(); got != base.Request() {
		t.Errorf("Request of the same images = %s; want %s", got, base.Request())
	}
	same.Images = []Image{{Name: "b", Packages: a.Packages}, {Name: "a", Packages: b.Packages}}
	if got := same.Request(); got == base.Request() {
		t.Errorf("Request of images that have each other's packages = %s, as before", got)
	}
}

// TestResolveImages has images of packages that the root filesystem has too, or not.
func TestResolveImages(t *testing.T) {
	const base = "http://mirror.example"
	p, w := newPublisher(t), newWeb()
	p.trixie(w, base)
	p.publish(w, base, suite{archive: "debian", name: "trixie-backports", label: "Debian Backports", packages: pkg("socat", "2~bpo13+1", "Depends: libcurl4")})
	p.publish(w, base, suite{archive: "debian", name: "sid", packages: pkg("curl", "9", "Depends: libcurl4") + pkg("libcurl4", "9", "") + pkg("old", "1", "Conflicts: curl")})
	cfg := testConfig(t, p, w, base)
	cfg.Packages = refs("tzdata")
	cfg.Images = []Image{
		{Name: "web", Packages: refs("curl")},
		{Name: "relay", Packages: refs("socat/trixie-backports", "unused")},
		{Name: "new", Packages: refs("curl/sid")},
		{Name: "clock", Packages: refs("tzdata")},
	}
	curl, libcurl := locked("debian-security", "trixie-security", "curl", "8.0+deb13u1"), locked("debian-security", "trixie-security", "libcurl4", "8.0+deb13u1")
	got, err := Resolve(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]manifest.LockedPackage{
		"web":   {curl, libcurl},
		"relay": {libcurl, locked("debian", "trixie-backports", "socat", "2~bpo13+1"), locked("debian", "trixie", "unused", "1")},
		// All of its packages are of sid, and so is what they need.
		"new":   {locked("debian", "sid", "curl", "9"), locked("debian", "sid", "libcurl4", "9")},
		"clock": {locked("debian", "trixie-updates", "tzdata", "2026f")},
	}
	if diff := cmp.Diff(want, got.Images); diff != "" {
		t.Errorf("Images (-want +got):\n%s", diff)
	}
	if n := len(got.Packages); n != 3 { // base-files, mawk, tzdata
		t.Errorf("the root filesystem has %d packages; want 3, as without images", n)
	}
	if n := len(got.Releases); n != 5 {
		t.Errorf("the lock names %d Release files; want 5", n)
	}

	// What the root filesystem keeps is what an image takes as well, and an image
	// keeps its own.
	p.publish(w, base, suite{archive: "debian-security", name: "trixie-security", packages: pkg("curl", "8.0+deb13u2", "Depends: libcurl4") + pkg("libcurl4", "8.0+deb13u2", "")})
	cfg.Packages = refs("tzdata", "libcurl4")
	before := &manifest.LockedArch{
		Packages: []manifest.LockedPackage{locked("debian", "trixie", "libcurl4", "8.0")},
		Images:   map[string][]manifest.LockedPackage{"relay": {libcurl}},
	}
	control := func(_ context.Context, p manifest.LockedPackage) ([]byte, error) {
		if p.SHA256 != libcurl.SHA256 {
			t.Errorf("asked for the control file of %s %s, which an index lists", p.Name, p.Version)
		}
		return []byte("Package: libcurl4\nVersion: 8.0+deb13u1\nArchitecture: amd64\n"), nil
	}
	cfg.Locked = &Locked{LockedArch: before, Control: control}
	var why []string
	cfg.Explain = func(image string, p manifest.LockedPackage, because, instead string) {
		if p.Name == "libcurl4" {
			why = append(why, fmt.Sprintf("%s: %s: %s: %s", image, p.Version, because, instead))
		}
	}
	if _, err := Resolve(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	cfg.Locked.Upgrade = []string{"libcurl4"}
	if _, err := Resolve(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{
		": 8.0: worker list asks for it: ", "web: 8.0: curl needs it: ", "relay: 8.0+deb13u1: socat needs it: ", "new: 9: curl needs it: ",
		": 8.0+deb13u2: worker list asks for it: --upgrade", "web: 8.0+deb13u2: curl needs it: ", "relay: 8.0+deb13u2: socat needs it: --upgrade", "new: 9: curl needs it: ",
	}, why); diff != "" {
		t.Errorf("libcurl4 with why (-want +got):\n%s", diff)
	}
}

func TestResolveImagesErrors(t *testing.T) {
	const base = "http://mirror.example"
	p, w := newPublisher(t), newWeb()
	p.trixie(w, base)
	p.publish(w, base, suite{archive: "debian", name: "trixie", packages: pkg("base-files", "13", "Essential: yes") + pkg("a", "1", "Conflicts: b") + pkg("b", "1", "") + pkg("c", "1", "Depends: d (>= 2)") + pkg("d", "1", "")})
	at := manifest.Pos{File: "v.yaml", Line: 7, Column: 5}
	for _, test := range []struct {
		packages []string
		want     string
	}{
		{[]string{"a", "b"}, "v.yaml:7:5: images.web.packages: v.yaml:8 -> a: a 1 has Conflicts: b, and b 1 is chosen: v.yaml:9 -> b (name other packages)"},
		{[]string{"c"}, "v.yaml:7:5: images.web.packages: v.yaml:8 -> c -> d (>= 2): Depends of c 1: of d there is 1 in trixie (name other packages)"},
		{[]string{"b", "nginx"}, "v.yaml:9:3: images.web.packages[1]: there is no package nginx in trixie, trixie-updates, trixie-security (correct the name, or name another suite by NAME/SUITE)"},
	} {
		cfg := testConfig(t, p, w, base)
		image := Image{Name: "web", Pos: at, Key: "images.web.packages"}
		for i, ref := range refs(test.packages...) {
			ref.Pos, ref.Key = manifest.Pos{File: "v.yaml", Line: 8 + i, Column: 3}, fmt.Sprintf("images.web.packages[%d]", i)
			image.Packages = append(image.Packages, ref)
		}
		cfg.Packages, cfg.Images = nil, []Image{image}
		_, err := Resolve(t.Context(), cfg)
		if err == nil || err.Error() != test.want {
			t.Errorf("Resolve of image of %q: error is\n%v\nwant\n%s", test.packages, err, test.want)
		}
		if _, ok := errors.AsType[*manifest.InputError](err); !ok {
			t.Errorf("error is a %T; want an InputError", err)
		}
	}
}

func TestResolveMirrors(t *testing.T) {
	const a, b = "http://a.example", "http://b.example"
	release := a + "/debian/dists/trixie/InRelease"
	tests := []struct {
		name   string
		change func(*publisher, *web)
		want   string // of the error; "": the second mirror serves
	}{
		{"first is not there", func(_ *publisher, w *web) { delete(w.files, release) }, ""},
		{"first is a portal", func(_ *publisher, w *web) { w.files[release] = []byte("<html>") }, ""},
		{"first is tampered with", func(_ *publisher, w *web) {
			w.files[release] = bytes.Replace(w.files[release], []byte("some-alias"), []byte("evil-alias"), 1)
		}, ""},
		{"first is stale", func(p *publisher, w *web) {
			p.publish(w, a, suite{archive: "debian", name: "trixie", age: 8 * 24 * time.Hour, packages: pkg("curl", "1", "")})
		}, ""},
		{"first serves another suite", func(p *publisher, w *web) {
			p.publish(w, a, suite{archive: "debian", name: "trixie", codename: "bookworm", packages: pkg("curl", "1", "")})
		}, ""},
		{"first has no indices", func(_ *publisher, w *web) {
			for u := range w.files {
				if strings.HasPrefix(u, a) && strings.Contains(u, "Packages") || strings.Contains(u, a+"/debian/dists/trixie/main/binary-amd64/by-hash") {
					delete(w.files, u)
				}
			}
		}, ""},
		{"first has another index", func(_ *publisher, w *web) {
			for u := range w.files {
				if strings.HasPrefix(u, a) && strings.Contains(u, "binary-amd64") {
					w.files[u] = []byte("not what was signed")
				}
			}
		}, ""},
		{"no by-hash", func(_ *publisher, w *web) {
			for u := range w.files {
				if strings.Contains(u, "by-hash") {
					delete(w.files, u)
				}
			}
		}, ""},
		{"neither has a Release", func(_ *publisher, w *web) {
			delete(w.files, release)
			delete(w.files, strings.Replace(release, a, b, 1))
		}, b + "/debian/dists/trixie/InRelease is unavailable: 404"},
		{"neither has the index", func(_ *publisher, w *web) {
			for u := range w.files {
				if strings.Contains(u, "/trixie/main/") {
					delete(w.files, u)
				}
			}
		}, b + "/debian/dists/trixie/main/binary-amd64/Packages.gz is unavailable: 404"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p, w := newPublisher(t), newWeb()
			p.trixie(w, a)
			p.trixie(w, b)
			test.change(p, w)
			got, err := Resolve(t.Context(), testConfig(t, p, w, a, b))
			if test.want != "" {
				if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), "loading trixie of debian") {
					t.Errorf("Resolve: error is %v; want %q", err, test.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if len(got.Packages) != 5 {
				t.Errorf("Resolve = %d packages; want 5", len(got.Packages))
			}
		})
	}
}

// TestResolveUpdating has mirrors whose InRelease is new and whose other files
// are old.
func TestResolveUpdating(t *testing.T) {
	const a, b = "http://a.example", "http://b.example"
	// half replaces trixie's InRelease at base by one that lists other packages.
	half := func(p *publisher, w *web, base, more string) {
		whole := maps.Clone(w.files)
		p.publish(w, base, suite{archive: "debian", name: "trixie", age: -30 * time.Minute, packages: pkg("curl", "9.0", "") + more})
		signed := w.files[base+"/debian/dists/trixie/InRelease"]
		w.files = whole
		w.files[base+"/debian/dists/trixie/InRelease"] = signed
	}
	updating := func(base string) string {
		return base + "/debian/dists/trixie/InRelease is of 2026-11-22 12:30 UTC, and main/binary-amd64/Packages.gz is not the one that it lists: " +
			"the mirror is being updated (try again in a few minutes) or damaged (give another by --debian-mirror)"
	}
	for _, test := range []struct {
		name    string
		mirrors []string
		change  func(*publisher, *web)
		want    string // of the error; "": the whole mirror serves
	}{
		{"smaller index", []string{a, b}, func(p *publisher, w *web) { half(p, w, a, "") }, ""},
		{"larger index", []string{a, b}, func(p *publisher, w *web) {
			half(p, w, a, strings.Repeat(pkg("x", "1", "")+pkg("y", "2", ""), 3)+pkg("z", "1", ""))
		}, ""},
		{"the new index is elsewhere", []string{a, b}, func(p *publisher, w *web) {
			half(p, w, a, "")
			p.publish(w, b, suite{archive: "debian", name: "trixie", age: -30 * time.Minute, packages: pkg("curl", "9.0", "") + pkg("tzdata", "1", "") + pkg("base-files", "13", "Essential: yes")})
		}, ""},
		{"no other mirror", []string{a}, func(p *publisher, w *web) { half(p, w, a, "") }, "loading trixie of debian: " + updating(a)},
		{"both", []string{a, b}, func(p *publisher, w *web) {
			half(p, w, a, "")
			half(p, w, b, "Package: x\n")
		}, "loading trixie of debian: " + updating(a) + "\n" + updating(b)},
		{"both with the same InRelease", []string{a, b}, func(p *publisher, w *web) {
			half(p, w, a, "")
			w.files[b+"/debian/dists/trixie/InRelease"] = w.files[a+"/debian/dists/trixie/InRelease"]
		}, "loading trixie of debian: " + updating(a)},
	} {
		t.Run(test.name, func(t *testing.T) {
			p, w := newPublisher(t), newWeb()
			p.trixie(w, a)
			p.trixie(w, b)
			test.change(p, w)
			cfg := testConfig(t, p, w, test.mirrors...)
			cfg.Packages, cfg.Now = refs("tzdata"), testNow().Add(time.Hour)
			_, err := Resolve(t.Context(), cfg)
			got := ""
			if err != nil {
				got = err.Error()
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("Resolve: error (-want +got):\n%s", diff)
			}
		})
	}
}

// TestResolveOlder has mirrors whose Release is older than one that was locked,
// or just old.
func TestResolveOlder(t *testing.T) {
	const a, b = "http://a.example", "http://b.example"
	const release = a + "/debian/dists/trixie/InRelease"
	known := func(archive, suite string, age time.Duration) []Known {
		return []Known{{manifest.LockedRelease{Archive: archive, Suite: suite, Date: testNow().Add(-age)}, "worker.lock"}}
	}
	old := func(days int) func(p *publisher, w *web) {
		return func(p *publisher, w *web) {
			p.publish(w, a, suite{archive: "debian", name: "trixie", age: time.Duration(days) * 24 * time.Hour, forever: true, packages: pkg("tzdata", "1", "")})
		}
	}
	refusal := release + ": the Release file of trixie is of 2026-11-22 11:00:00 UTC, older than that of 2026-11-22 12:00:00 UTC in worker.lock: " +
		"the mirror is behind (wait, or give another by --debian-mirror) or hides updates; --allow-older takes it"
	for _, test := range []struct {
		name    string
		mirrors []string
		change  func(*publisher, *web)
		known   []Known
		err     string
		notes   []string
	}{
		{"same age", []string{a}, nil, known("debian", "trixie", time.Hour), "", nil},
		{"older", []string{a}, nil, known("debian", "trixie", 0), "loading trixie of debian: " + refusal, nil},
		{"older, of another suite", []string{a}, nil, known("debian", "trixie-updates", 0), "", nil},
		{"older, of another archive", []string{a}, nil, known("debian-security", "trixie", 0), "", nil},
		{"older, and the second mirror is not", []string{a, b}, func(p *publisher, w *web) { p.trixie(w, b) }, known("debian", "trixie", 0), "", nil},
		{"100 days", []string{a}, old(100), nil, "", nil},
		{"101 days", []string{a}, old(101), nil, "", []string{
			release + " is of 2026-08-13, 101 days ago, and does not say how long it holds: Debian publishes trixie again every two months or so; compare with another mirror (--debian-mirror)"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			p, w := newPublisher(t), newWeb()
			p.trixie(w, a)
			p.publish(w, a, suite{archive: "debian", name: "trixie", age: time.Hour, packages: pkg("tzdata", "1", "")})
			if test.change != nil {
				test.change(p, w)
			}
			cfg := testConfig(t, p, w, test.mirrors...)
			sink := &progresstest.Recorder{}
			cfg.Packages, cfg.Known, cfg.Progress = refs("tzdata"), test.known, sink
			_, err := Resolve(t.Context(), cfg)
			got := ""
			if err != nil {
				got = err.Error()
			}
			if got != test.err {
				t.Errorf("Resolve: error is %q; want %q", got, test.err)
			}
			if diff := cmp.Diff(test.notes, sink.Notes()); diff != "" {
				t.Errorf("notes (-want +got):\n%s", diff)
			}
		})
	}
}

func TestResolveErrors(t *testing.T) {
	const base = "http://mirror.example"
	p, w := newPublisher(t), newWeb()
	p.trixie(w, base)
	p.publish(w, base, suite{archive: "debian", name: "bad-syntax", packages: pkg("a", "1", "") + "Package: b\nVersion: 1\n"})

	t.Run("expired", func(t *testing.T) {
		cfg := testConfig(t, p, w, base)
		cfg.Now = testNow().AddDate(0, 0, 8)
		_, err := Resolve(t.Context(), cfg)
		if _, ok := errors.AsType[*ExpiredError](err); !ok || !strings.Contains(err.Error(), "2026-11-29") || !strings.Contains(err.Error(), "clock") {
			t.Errorf("error is %v; want an ExpiredError with date and remedy", err)
		}
	})
	t.Run("not Debian's key", func(t *testing.T) {
		cfg := testConfig(t, p, w, base)
		cfg.Keyring = nil
		if _, err := Resolve(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "none of its signatures is good") {
			t.Errorf("error is %v", err)
		}
	})
	t.Run("no mirror", func(t *testing.T) {
		cfg := testConfig(t, p, w)
		_, err := Resolve(t.Context(), cfg)
		if _, ok := errors.AsType[*NoMirrorError](err); !ok || !strings.Contains(err.Error(), "--debian-mirror") {
			t.Errorf("error is %v; want a NoMirrorError that names the flag", err)
		}
	})
	t.Run("no mirror of security", func(t *testing.T) {
		cfg := testConfig(t, p, w, "debian="+base+"/debian")
		_, err := Resolve(t.Context(), cfg)
		if none, ok := errors.AsType[*NoMirrorError](err); !ok || none.Archive != "debian-security" {
			t.Errorf("error is %v; want a NoMirrorError", err)
		}
	})
	t.Run("architecture", func(t *testing.T) {
		cfg := testConfig(t, p, w, base)
		cfg.Arch = "riscv64"
		if _, err := Resolve(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "trixie has no architecture riscv64") {
			t.Errorf("error is %v", err)
		}
	})
	t.Run("unsolvable", func(t *testing.T) {
		cfg := testConfig(t, p, w, base)
		cfg.Packages = refs("curl", "nginx")
		_, err := Resolve(t.Context(), cfg)
		if _, ok := errors.AsType[*UnsolvableError](err); !ok || !strings.Contains(err.Error(), "worker list: there is no package nginx in trixie, trixie-updates, trixie-security") {
			t.Errorf("error is %v; want an UnsolvableError", err)
		}
	})
	t.Run("extra", func(t *testing.T) {
		cfg := testConfig(t, p, w, base)
		cfg.Extra = refs("nginx")
		if _, err := Resolve(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "extra packages: there is no package nginx") {
			t.Errorf("error is %v", err)
		}
	})
	t.Run("syntax", func(t *testing.T) {
		cfg := testConfig(t, p, w, base)
		cfg.Suite, cfg.Packages = "bad-syntax", refs("a")
		sink := &progresstest.Recorder{}
		cfg.Progress = sink
		if _, err := Resolve(t.Context(), cfg); err != nil {
			t.Errorf("a malformed package that nobody wants: error is %v", err)
		}
		if diff := cmp.Diff([]string{`bad-syntax: package b 1 is malformed and left out: line 8: field Architecture: "" in an index of amd64`}, sink.Notes()); diff != "" {
			t.Errorf("notes (-want +got):\n%s", diff)
		}
		cfg.Packages = refs("a", "b")
		_, err := Resolve(t.Context(), cfg)
		if want := "resolving packages of bad-syntax for amd64: worker list: package b 1 is malformed in the index of bad-syntax: " +
			`line 8: field Architecture: "" in an index of amd64 (take the package off the list, or another mirror, until its archive mends it)`; err == nil || err.Error() != want {
			t.Errorf("a malformed package that is wanted: error is %v; want %s", err, want)
		}
	})
	t.Run("interrupted", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := Resolve(ctx, testConfig(t, p, w, base)); !errors.Is(err, context.Canceled) {
			t.Errorf("error is %v; want %v", err, context.Canceled)
		}
	})
}

func TestOutdated(t *testing.T) {
	const base = "http://mirror.example"
	p, w := newPublisher(t), newWeb()
	p.publish(w, base, suite{archive: "debian", name: "trixie", packages: pkg("same", "1", "") + pkg("point", "2", "") + pkg("both", "2", "") + pkg("behind", "3", "") + pkg("newer", "1", "")})
	p.publish(w, base, suite{archive: "debian", name: "trixie-updates", packages: pkg("tzdata", "2026f", "")})
	p.publish(w, base, suite{archive: "debian-security", name: "trixie-security", packages: pkg("both", "2", "") + pkg("curl", "2", "") + pkg("behind", "2", "")})
	lock := &manifest.LockedArch{
		Packages: []manifest.LockedPackage{
			locked("debian", "trixie", "behind", "1"),
			locked("debian", "trixie", "both", "1"),
			locked("debian-security", "trixie-security", "curl", "1"),
			locked("debian", "trixie", "gone", "1"),
			locked("debian", "trixie", "newer", "2"),
			locked("debian", "trixie", "point", "1"),
			locked("debian", "trixie", "same", "1"),
		},
		Extra: []manifest.LockedPackage{locked("debian", "trixie", "tzdata", "2026a")},
		Images: map[string][]manifest.LockedPackage{
			"web": {locked("debian", "trixie", "curl", "1"), locked("debian", "trixie", "point", "1.5"), locked("debian", "trixie", "same", "1")},
		},
	}
	lock.Images["web"][0] = lock.Packages[2] // said once
	got, err := Outdated(t.Context(), testConfig(t, p, w, base), lock)
	if err != nil {
		t.Fatal(err)
	}
	want := []Update{
		{lock.Packages[0], "3", "debian", "trixie", true},
		{lock.Packages[1], "2", "debian-security", "trixie-security", true},
		{lock.Packages[2], "2", "debian-security", "trixie-security", true},
		{lock.Packages[5], "2", "debian", "trixie", false},
		{lock.Extra[0], "2026f", "debian", "trixie-updates", false},
		{lock.Images["web"][1], "2", "debian", "trixie", false},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Outdated (-want +got):\n%s", diff)
	}
	malformed := newWeb()
	p.trixie(malformed, base)
	p.publish(malformed, base, suite{archive: "debian-security", name: "trixie-security", packages: pkg("x", "1", "Provides: y (>= 1)") + pkg("curl", "3", "Provides: y (>= 1)")})
	if _, err := Outdated(t.Context(), testConfig(t, p, malformed, base), lock); err == nil || !strings.Contains(err.Error(), "updates of package curl: version 3 is malformed in the index of trixie-security: line 9: field Provides") {
		t.Errorf("Outdated with a malformed update: error is %v", err)
	}
	lock.Packages[0].Version = "not a version"
	if _, err := Outdated(t.Context(), testConfig(t, p, w, base), lock); err == nil || !strings.Contains(err.Error(), "locked package behind") {
		t.Errorf("Outdated of a broken lock: error is %v", err)
	}
}

func TestRequests(t *testing.T) {
	list, err := Mirrors([]string{"debian=http://a.example/debian", "debian=http://b.example/debian"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	p := locked("debian", "trixie", "curl", "8.0")
	got, err := Requests(list, []manifest.LockedPackage{p}, false)
	if err != nil {
		t.Fatal(err)
	}
	want := []fetch.Request{{
		Name: "curl 8.0",
		URLs: []string{"http://a.example/debian/" + p.Path, "http://b.example/debian/" + p.Path},
		Sums: []manifest.Digest{p.SHA256}, Size: 1000, Own: true,
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Requests (-want +got):\n%s", diff)
	}
	_, err = Requests(list, []manifest.LockedPackage{locked("debian-security", "trixie-security", "curl", "8.0")}, false)
	if _, ok := errors.AsType[*NoMirrorError](err); !ok || !strings.Contains(err.Error(), "package curl") {
		t.Errorf("Requests without a mirror: error is %v", err)
	}
}

func TestSources(t *testing.T) {
	tests := []struct {
		suite string
		want  []source
	}{
		{"trixie", []source{{"debian", "trixie"}, {"debian", "trixie-updates"}, {"debian-security", "trixie-security"}}},
		{"sid", []source{{"debian", "sid"}}},
		{"trixie-backports", []source{{"debian", "trixie-backports"}}},
	}
	for _, test := range tests {
		if diff := cmp.Diff(test.want, sources(test.suite), cmp.AllowUnexported(source{})); diff != "" {
			t.Errorf("sources(%q) (-want +got):\n%s", test.suite, diff)
		}
	}
}

func TestSameSuite(t *testing.T) {
	tests := []struct {
		locked, wanted string
		want           bool
	}{
		{"bullseye", "bullseye", true}, {"bullseye-security", "bullseye", true}, {"bullseye-updates", "bullseye", true},
		{"trixie-backports", "trixie", false}, {"bookworm-security", "bullseye", false},
	}
	for _, test := range tests {
		if got := SameSuite(test.locked, test.wanted); got != test.want {
			t.Errorf("SameSuite(%q, %q) = %t; want %t", test.locked, test.wanted, got, test.want)
		}
	}
}
