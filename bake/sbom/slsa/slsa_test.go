package slsa_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	intoto "github.com/in-toto/attestation/go/v1"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/record"
	"github.com/nodebake/bake/bake/sbom"
	"github.com/nodebake/bake/bake/sbom/slsa"
	"github.com/nodebake/bake/test/filetest"
)

func sum(digit string) manifest.Digest { return manifest.Digest("sha256:" + strings.Repeat(digit, 64)) }

func contents() *sbom.Contents {
	sys := record.GoModule{Path: "golang.org/x/sys", Version: "v0.49.0", Sum: "h1:" + strings.Repeat("A", 43) + "="}
	runc := record.GoModule{Path: "github.com/opencontainers/runc", Version: "v1.4.3", Sum: "h1:" + strings.Repeat("B", 42) + "A="}
	deb := func(name, digit string) manifest.LockedPackage {
		return manifest.LockedPackage{Name: name, Version: "1", Arch: "amd64", Suite: "trixie", SHA256: sum(digit)}
	}
	containerd := deb("containerd", "4")
	return &sbom.Contents{
		Epoch: 1700000000,
		Record: &record.Record{
			Name: "worker", Arch: "amd64",
			Inputs: record.Inputs{
				Versions: sum("a"), Lock: sum("b"), Definition: sum("c"), Units: sum("d"),
				Programs: map[string]manifest.Digest{"init": sum("f"), "firstboot": sum("e")}, Modules: map[string]manifest.Digest{"modules/runc/go.sum": sum("1")},
			},
			Components: []record.Component{
				{Name: "runc", Version: "v1.4.3", Origin: "source", From: "github.com/opencontainers/runc@v1.4.3", Toolchain: "go1.26.8, cc (Debian) 12.2.0, GNU ld 2.40"},
				{Name: "crictl", Version: "v1.36.0", Origin: "release", From: "https://example.com/crictl.tar.gz"},
				{Name: "containerd", Version: "1", Origin: "package", From: "containerd 1"},
			},
			Images: []record.ContainerImage{
				{Name: "pause", Reference: "registry.k8s.io/pause:3.10.2", Origin: "release", From: "registry.k8s.io/pause@" + string(sum("5")), Digest: sum("5")},
				{Name: "own", Reference: "bake.invalid/own:1", Origin: "source", From: "bake's program own", Digest: sum("9")},
				{Name: "web", Reference: "bake.local/web:1", Origin: "source", From: "Debian packages", Digest: sum("8")},
			},
		},
		Packages: []manifest.LockedPackage{deb("bash", "2"), deb("libseccomp-dev", "3")},
		Components: []sbom.BuildInfo{
			{Module: &runc, Linked: []manifest.LockedPackage{deb("libseccomp-dev", "3")}, Tools: []sbom.Tool{
				{Name: "golang.org/toolchain", Module: record.GoModule{Path: "golang.org/toolchain", Version: "v0.0.1-go1.26.8.linux-amd64", Sum: sys.Sum}},
				{Name: "cmd/link", Module: record.GoModule{Path: "cmd/link", Version: "1.26.8"}, SHA256: sum("6")},
				{Name: "cc (Debian) 12.2.0", SHA256: sum("7")}, {Name: "GNU ld 2.40", SHA256: sum("8")},
			}, Programs: []*record.GoProgram{{Toolchain: "go1.26.8", Deps: []record.GoModule{sys, runc}}}},
			{Sums: []manifest.Digest{sum("f"), manifest.Digest("sha512:" + strings.Repeat("f", 128))}, Programs: []*record.GoProgram{{Toolchain: "go1.25.1", Deps: []record.GoModule{sys}}}},
			{Package: &containerd},
		},
		Images: []sbom.BuildInfo{{}, {}, {Packages: []manifest.LockedPackage{deb("bash", "2"), deb("nginx", "5")}}},
	}
}

func subjects() []slsa.Subject {
	return []slsa.Subject{{Name: "worker.tar.gz", SHA256: sum("1")}, {Name: "worker.json", SHA256: sum("2")}}
}

func statement(t *testing.T, b *sbom.Contents) []byte {
	t.Helper()
	text, err := slsa.Statement(b, subjects())
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestStatement reads a statement as in-toto's library does, and as any JSON.
func TestStatement(t *testing.T) {
	t.Parallel()
	b := contents()
	b.Record.File = &record.File{Format: "tar.gz"}
	text := statement(t, b)
	var read intoto.Statement
	if err := protojson.Unmarshal(text, &read); err != nil {
		t.Fatal(err)
	}
	if err := read.Validate(); err != nil {
		t.Error(err)
	}
	var plain struct {
		Type          string `json:"_type"`
		PredicateType string
		Subject       []struct {
			Name   string
			Digest map[string]string
		}
		Predicate struct {
			BuildDefinition struct {
				BuildType                              string
				ExternalParameters, InternalParameters map[string]any
				ResolvedDependencies                   []struct {
					Name, URI string
					Digest    map[string]string
				}
			}
			RunDetails map[string]any
		}
	}
	if err := json.Unmarshal(text, &plain); err != nil {
		t.Fatal(err)
	}
	d := plain.Predicate.BuildDefinition
	if plain.Type != "https://in-toto.io/Statement/v1" || plain.PredicateType != "https://slsa.dev/provenance/v1" || d.BuildType != slsa.BuildType ||
		len(plain.Subject) != 2 || plain.Subject[0].Name != "worker.tar.gz" || plain.Subject[0].Digest["sha256"] != sum("1").Hex() {
		t.Errorf("statement is\n%s", text)
	}
	for _, test := range []struct{ got, want any }{
		{d.ExternalParameters, map[string]any{
			"arch": "amd64", "format": "tar.gz", "versionsFile": string(sum("a")),
			"origins": map[string]any{
				"components": map[string]any{"runc": "source", "crictl": "release", "containerd": "package"},
				"images":     map[string]any{"pause": "release", "own": "source", "web": "source"},
			},
		}},
		{d.InternalParameters, map[string]any{"name": "worker", "epoch": 1.7e9}},
		{plain.Predicate.RunDetails, map[string]any{"builder": map[string]any{"id": slsa.BuilderID}}},
	} {
		if diff := cmp.Diff(test.want, test.got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
	var got []string
	for _, r := range d.ResolvedDependencies {
		line := r.Name + " " + r.URI
		for _, algorithm := range []string{"sha256", "sha512", "dirHash"} {
			if digest := r.Digest[algorithm]; digest != "" {
				line += " " + algorithm + ":" + digest[:2]
			}
		}
		got = append(got, line)
	}
	if diff := cmp.Diff([]string{
		"versions file  sha256:aa", "lock  sha256:bb", "image definition  sha256:cc", "units  sha256:dd",
		"bake's program firstboot  sha256:ee", "bake's program init  sha256:ff", "modules/runc/go.sum  sha256:11",
		"bash 1 pkg:deb/debian/bash@1?arch=amd64&distro=debian-13 sha256:22",
		"libseccomp-dev 1 pkg:deb/debian/libseccomp-dev@1?arch=amd64&distro=debian-13 sha256:33",
		"github.com/opencontainers/runc v1.4.3 pkg:golang/github.com/opencontainers/runc@v1.4.3 dirHash:04",
		"go1.26.8 pkg:golang/stdlib@1.26.8", "cc (Debian) 12.2.0 pkg:generic/gcc@12.2.0 sha256:77", "GNU ld 2.40 pkg:generic/ld@2.40 sha256:88",
		"golang.org/toolchain v0.0.1-go1.26.8.linux-amd64 pkg:golang/golang.org/toolchain@v0.0.1-go1.26.8.linux-amd64 dirHash:00",
		"cmd/link 1.26.8 pkg:golang/cmd/link@1.26.8 sha256:66",
		"golang.org/x/sys v0.49.0 pkg:golang/golang.org/x/sys@v0.49.0 dirHash:00",
		"crictl v1.36.0 https://example.com/crictl.tar.gz sha256:ff sha512:ff",
		"containerd 1 pkg:deb/debian/containerd@1?arch=amd64&distro=debian-13 sha256:44",
		"pause pkg:oci/pause@" + string(sum("5")) + "?arch=amd64&repository_url=registry.k8s.io%2Fpause&tag=3.10.2 sha256:55",
		"nginx 1 pkg:deb/debian/nginx@1?arch=amd64&distro=debian-13 sha256:55", // and not bash, which is there already
	}, got); diff != "" {
		t.Errorf("dependencies (-want +got):\n%s", diff)
	}
}

// TestSameBytes writes a statement again: its bytes are those, though protojson
// promises none.
func TestSameBytes(t *testing.T) {
	t.Parallel()
	first := statement(t, contents())
	if diff := cmp.Diff(string(first), string(statement(t, contents()))); diff != "" {
		t.Errorf("the same statement again (-first +second):\n%s", diff)
	}
	if !slices.Equal(first[:14], []byte("{\n \"_type\": \"h")) {
		t.Errorf("the statement begins with %q; want its keys sorted and one space before them", first[:14])
	}
	// What is inside decides the image's digest, and must not differ from host to host.
	other := contents()
	other.Components[0].Tools = nil
	if diff := cmp.Diff(string(first), string(statement(t, other))); diff != "" {
		t.Errorf("the statement inside, of another host (-first +second):\n%s", diff)
	}
	for given, want := range map[bool]string{false: "", true: "worker"} {
		other.NameOverridden = given
		var s struct {
			Predicate struct {
				BuildDefinition struct{ ExternalParameters struct{ Name string } }
			}
		}
		if err := json.Unmarshal(statement(t, other), &s); err != nil || s.Predicate.BuildDefinition.ExternalParameters.Name != want {
			t.Errorf("the name among the parameters is %q, %v; want %q", s.Predicate.BuildDefinition.ExternalParameters.Name, err, want)
		}
	}
	// Inside of the image nobody knows what it is packed in.
	if strings.Contains(string(first), `"format"`) {
		t.Error("a statement of an image without a file has a format")
	}
}

// TestStatementRefuses shows what can't be a statement.
func TestStatementRefuses(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		subjects []slsa.Subject
		change   func(*sbom.Contents)
	}{
		"no subjects":                {nil, func(*sbom.Contents) {}},
		"subject without a digest":   {[]slsa.Subject{{Name: "x"}}, func(*sbom.Contents) {}},
		"digest that is none":        {[]slsa.Subject{{Name: "x", SHA256: "sha256:00"}}, func(*sbom.Contents) {}},
		"contents of another record": {subjects(), func(b *sbom.Contents) { b.Components = nil }},
	} {
		b := contents()
		test.change(b)
		if got, err := slsa.Statement(b, test.subjects); err == nil {
			t.Errorf("%s: Statement = %s; want an error", name, got)
		}
	}
}

// TestBuildTypeIsDocumented holds the build type to the heading that it names.
func TestBuildTypeIsDocumented(t *testing.T) {
	t.Parallel()
	text := filetest.Read(t, "../../../docs/sbom.md")
	if !strings.HasSuffix(slsa.BuildType, "/docs/sbom.md#build-type-v1") || !strings.Contains(string(text), "\n## Build type v1\n") {
		t.Errorf("docs/sbom.md has no heading for %s", slsa.BuildType)
	}
}
