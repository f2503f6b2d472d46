//go:build system

package image

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/package-url/packageurl-go"

	"github.com/nodebake/bake/test/filetest"
)

// document is what these tests read of an SPDX document, without SPDX's library.
type document struct {
	Packages []struct {
		SPDXID  string `json:"SPDXID"`
		Name    string `json:"name"`
		Version string `json:"versionInfo"`

		ExternalRefs []struct {
			Locator string `json:"referenceLocator"`
		} `json:"externalRefs"`
	} `json:"packages"`
	Relationships []struct {
		From string `json:"spdxElementId"`
		Kind string `json:"relationshipType"`
		To   string `json:"relatedSpdxElement"`
	} `json:"relationships"`
}

func parseSBOM(t *testing.T, text []byte) *document {
	t.Helper()
	b := new(document)
	if err := json.Unmarshal(text, b); err != nil {
		t.Fatal(err)
	}
	return b
}

// part is a package with its package URL.
type part struct {
	name, version string
	url           packageurl.PackageURL
}

// parts returns what from is related to and has a package URL of one type.
func (b *document) parts(t *testing.T, from, kind, purlType string) []part {
	t.Helper()
	related := map[string]bool{}
	for _, r := range b.Relationships {
		if r.From == from && r.Kind == kind {
			related[r.To] = true
		}
	}
	var parts []part
	for _, p := range b.Packages {
		if !related[p.SPDXID] {
			continue
		}
		for _, ref := range p.ExternalRefs {
			u, err := packageurl.FromString(ref.Locator)
			if err != nil {
				t.Fatalf("%s: %v", ref.Locator, err)
			}
			if u.Type == purlType {
				parts = append(parts, part{p.Name, p.Version, u})
			}
		}
	}
	return parts
}

// debian returns the Debian packages that the image contains, as dpkg-query
// lists them.
func (b *document) debian(t *testing.T) []string {
	t.Helper()
	var lines []string
	for _, p := range b.parts(t, "SPDXRef-Image", "CONTAINS", "deb") {
		if p.url.Name != p.name || p.url.Version != p.version {
			t.Errorf("%s %s is called %s", p.name, p.version, p.url.ToString())
		}
		lines = append(lines, fmt.Sprintf("%s %s %s", p.url.Name, p.url.Version, p.url.Qualifiers.Map()["arch"]))
	}
	slices.Sort(lines)
	return lines
}

// modules returns the Go modules that are linked into from.
func (b *document) modules(t *testing.T, from string) []string {
	t.Helper()
	var lines []string
	for _, p := range b.parts(t, from, "STATIC_LINK", "golang") {
		// Package URLs of Go are in lower case (purl-spec, golang).
		if got := strings.TrimPrefix(p.url.Namespace+"/"+p.url.Name, "/"); got != strings.ToLower(p.name) || p.url.Version != p.version {
			t.Errorf("%s %s is called %s", p.name, p.version, p.url.ToString())
		}
		lines = append(lines, strings.TrimSpace(p.name+" "+p.version))
	}
	slices.Sort(lines)
	return slices.Compact(lines)
}

// dump copies a file of the root filesystem out of it, by debugfs.
func dump(t *testing.T, s *subject, name string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), path.Base(name))
	out := run(t, "debugfs", "-R", fmt.Sprintf("dump %q %q", name, to), s.root)
	if info, err := os.Stat(to); err != nil || info.Size() == 0 {
		t.Fatalf("debugfs gives nothing for %s: %v: %s", name, err, out)
	}
	return to
}

// goVersion returns what the go command finds in programs: modules with their
// versions, and the standard library's.
func goVersion(t *testing.T, programs ...string) []string {
	t.Helper()
	found := map[string]bool{}
	for _, program := range programs {
		if err := os.Chmod(program, 0o755); err != nil { // go looks at programs only
			t.Fatal(err)
		}
		last := ""
		for i, line := range strings.Split(strings.TrimSpace(run(t, "go", "version", "-m", program)), "\n") {
			fields := strings.Fields(strings.Replace(line, "\t(devel)", "", 1)) // a version that is none
			switch {
			case len(fields) == 0: // some flags of builds have several lines
			case i == 0:
				found["stdlib "+strings.TrimPrefix(fields[1], "go")] = true
			case fields[0] == "=>":
				delete(found, last)
				fallthrough
			case fields[0] == "mod" || fields[0] == "dep":
				last = strings.Join(fields[1:min(3, len(fields))], " ")
				found[last] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// TestSBOMIsWhatDpkgSays compares the SBOMs with dpkg's database in the image, which
// dpkg-query reads.
func TestSBOMIsWhatDpkgSays(t *testing.T) {
	s := theImage(t)
	dir := filepath.Dir(dump(t, s, "/var/lib/dpkg/status"))
	out := run(t, "dpkg-query", "--admindir="+dir, "-W", "-f", "${Package} ${Version} ${Architecture}\n")
	installed := strings.Split(strings.TrimSpace(out), "\n")
	slices.Sort(installed)
	if len(installed) < 100 {
		t.Fatalf("dpkg-query finds %d packages; want those of a worker", len(installed))
	}
	for where, text := range documents(t, s) {
		b := parseSBOM(t, text)
		if diff := cmp.Diff(installed, b.debian(t)); diff != "" {
			t.Errorf("packages %s (-dpkg-query +SBOM):\n%s", where, diff)
		}
		// The comparison looks: in both directions.
		for i, p := range b.Packages {
			if p.Name != "bash" {
				continue
			}
			broken := parseSBOM(t, text)
			broken.Packages = slices.Delete(broken.Packages, i, i+1)
			if cmp.Diff(installed, broken.debian(t)) == "" {
				t.Errorf("without bash the SBOM %s is that of dpkg-query too", where)
			}
			without := slices.DeleteFunc(slices.Clone(installed), func(line string) bool { return strings.HasPrefix(line, "bash ") })
			if len(without) == len(installed) || cmp.Diff(without, b.debian(t)) == "" {
				t.Error("where dpkg-query does not know bash, the SBOM with it is the same")
			}
		}
	}
}

// documents returns the documents beside and inside the image.
func documents(t *testing.T, s *subject) map[string][]byte {
	t.Helper()
	beside := filetest.Read(t, strings.TrimSuffix(s.archive, ".tar.gz")+".spdx.json")
	inside := filetest.Read(t, dump(t, s, "/usr/lib/bake/sbom.spdx.json"))
	return map[string][]byte{"beside": beside, "inside": inside}
}

// TestEmbeddedSBOMIsTheOneBeside compares the two documents: beside, the image has
// a name and a digest, and the document is another one.
func TestEmbeddedSBOMIsTheOneBeside(t *testing.T) {
	s := theImage(t)
	bills := documents(t, s)
	documents := map[string]map[string]any{}
	for where, text := range bills {
		var d map[string]any
		if err := json.Unmarshal(text, &d); err != nil {
			t.Fatal(err)
		}
		documents[where] = d
	}
	image := documents["beside"]["packages"].([]any)[0].(map[string]any)
	want := []any{map[string]any{"algorithm": "SHA256", "checksumValue": strings.Fields(run(t, "sha256sum", s.archive))[0]}}
	if diff := cmp.Diff(want, image["checksums"]); diff != "" || image["packageFileName"] != filepath.Base(s.archive) {
		t.Errorf("the image beside is called %v; its digest (-want +got):\n%s", image["packageFileName"], diff)
	}
	if cmp.Diff(documents["beside"], documents["inside"]) == "" {
		t.Error("the documents are equal; want one with the image's digest and one without")
	}
	delete(image, "checksums")
	delete(image, "packageFileName")
	documents["beside"]["documentNamespace"] = documents["inside"]["documentNamespace"]
	if diff := cmp.Diff(documents["beside"], documents["inside"]); diff != "" {
		t.Errorf("bills (-beside +inside):\n%s", diff)
	}
}

// TestSBOMIsWhatGoSays holds the modules of every component, of firstboot and of
// assembled container images to what the go command finds in the programs that
// are in the image.
func TestSBOMIsWhatGoSays(t *testing.T) {
	s := theImage(t)
	b := parseSBOM(t, documents(t, s)["inside"])
	programs := map[string][]string{"SPDXRef-Embedded-firstboot": {dump(t, s, "/usr/lib/bake/firstboot")}}
	for _, c := range s.record.Components {
		for _, f := range c.Files {
			if program := dump(t, s, f.Path); strings.HasPrefix(string(head(t, program, 4)), "\x7fELF") {
				programs["SPDXRef-Component-"+c.Name] = append(programs["SPDXRef-Component-"+c.Name], program)
			}
		}
	}
	for _, c := range s.record.Images {
		if c.Origin == "source" {
			programs["SPDXRef-ContainerImage-"+c.Name] = unpackLayers(t, s, c.Layers[0].Hex())
		}
	}
	total := 0
	for _, id := range slices.Sorted(maps.Keys(programs)) {
		want := goVersion(t, programs[id]...)
		got := b.modules(t, id)
		if id == "SPDXRef-Embedded-firstboot" { // the document's package is the main module
			want = slices.DeleteFunc(want, func(m string) bool { return m == "github.com/nodebake/bake" })
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("modules of %s (-go version -m, +SBOM):\n%s", id, diff)
		}
		if len(got) > 0 && cmp.Diff(want, got[1:]) == "" {
			t.Errorf("modules of %s are the same without one of them", id)
		}
		total += len(got)
	}
	if total < 100 {
		t.Errorf("%d modules were compared; want those of kubelet alone to be more", total)
	}
}

func head(t *testing.T, name string, n int) []byte {
	t.Helper()
	f := filetest.Open(t, name)
	b := make([]byte, n)
	if _, err := f.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	return b
}

// unpackLayers returns the files of a layer, taken out of containerd's content
// store.
func unpackLayers(t *testing.T, s *subject, digest string) []string {
	t.Helper()
	layer := dump(t, s, "/var/lib/containerd/io.containerd.content.v1.content/blobs/sha256/"+digest)
	dir := t.TempDir()
	run(t, "tar", "-xf", layer, "-C", dir)
	var files []string
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		files = append(files, filepath.Join(dir, e.Name()))
	}
	return files
}
