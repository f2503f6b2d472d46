package source

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/bake/arch"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/source/store"
	"github.com/nodebake/bake/test/must"
)

// TestNeedsAllThatIsRequired lists a set with one of everything, for a mirror with and
// without sources.
func TestNeedsAllThatIsRequired(t *testing.T) {
	digest := func(c string) manifest.Digest { return manifest.Digest("sha256:" + strings.Repeat(c, 64)) }
	locked := func(name, suite, sum string) manifest.LockedPackage {
		return manifest.LockedPackage{Name: name, Version: "1", Arch: "amd64", Suite: suite, Archive: "debian", Path: "pool/" + name, SHA256: digest(sum)}
	}
	section := &manifest.LockedArch{
		Packages: []manifest.LockedPackage{locked("bash", "trixie", "1"), locked("libc6-dev", "trixie", "2")},
		Extra:    []manifest.LockedPackage{locked("bash", "trixie", "1"), locked("libc6-dev", "trixie", "2"), locked("libseccomp-dev", "trixie", "3"), locked("runc", "bookworm", "4"), locked("runc", "trixie-security", "5")},
		Images:   map[string][]manifest.LockedPackage{"web": {locked("bash", "trixie", "1"), locked("nginx", "trixie", "7")}},
	}
	list := func(text string) []manifest.Listed { return []manifest.Listed{{Text: text}} }
	v := &manifest.Versions{
		Components: []manifest.Component{
			{Name: "shell", Version: "1", Package: &manifest.Package{Name: "bash", Suite: "trixie"}},
			{Name: "runc", Version: "1", Package: &manifest.Package{Name: "runc", Suite: "trixie"}},
			{
				Name: "linked", Version: "v2", Release: &manifest.Release{URL: "http://example.com/{arch}", SHA256: map[arch.Arch]manifest.Digest{arch.AMD64: digest("6")}},
				Module: &manifest.Module{CGO: &manifest.CGO{Packages: append(list("libseccomp-dev"), list("libc6-dev")...)}},
			},
		},
		Images: []manifest.ContainerImage{{Name: "pod", Reference: "registry.invalid/pod:v3", Module: &manifest.Module{}}, {Name: "web", Reference: "bake.local/web:1", Packages: list("nginx")}},
	}
	required, err := Require(v, section, arch.AMD64, "bake lock")
	if err != nil {
		t.Fatal(err)
	}
	var targets []string
	for _, target := range required.Targets {
		targets = append(targets, fmt.Sprintf("%s %s %t", target.Name, target.Version, target.Image))
	}
	if diff := cmp.Diff([]string{"linked v2 false", "pod v3 true"}, targets); diff != "" {
		t.Errorf("targets (-want +got):\n%s", diff)
	}
	st := must.Get(store.Open(t.TempDir()))
	defer st.Close()
	for sources, want := range map[bool]string{
		false: "linked v2 amd64; bash 1 amd64, libc6-dev 1 amd64, runc 1 amd64, nginx 1 amd64",
		true:  "linked v2 amd64; bash 1 amd64, libc6-dev 1 amd64, runc 1 amd64, libseccomp-dev 1 amd64, nginx 1 amd64",
	} {
		releases, packages, err := New(Config{Arch: arch.AMD64, Store: st}).Needs(required, sources)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, n := range packages {
			names = append(names, n.Entry.Name)
		}
		if got := releases[0].Entry.Name + "; " + strings.Join(names, ", "); len(releases) != 1 || got != want {
			t.Errorf("Needs with sources %t = %s; want %s", sources, got, want)
		}
	}

	section.Extra, section.Images = section.Extra[:1], nil
	_, err = Require(v, section, arch.AMD64, "bake lock")
	for _, want := range []string{
		"component runc: package runc/trixie is not in the lock, which was edited (run: bake lock)",
		"image web: its packages are not in the lock, which was edited (run: bake lock)",
		"component linked: package libseccomp-dev is not in the lock, which was edited (run: bake lock)",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Require of an edited lock = %v; want %s", err, want)
		}
	}
}
