package spdx_test

import (
	"bytes"
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/github/go-spdx/v2/spdxexp"
	"github.com/google/go-cmp/cmp"
	"github.com/package-url/packageurl-go"
	spdxjson "github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdx/v2/common"
	"github.com/spdx/tools-golang/spdx/v2/v2_3"
	"github.com/spdx/tools-golang/spdxlib"

	"github.com/nodebake/bake/bake/license"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/record"
	"github.com/nodebake/bake/bake/sbom"
	"github.com/nodebake/bake/bake/sbom/spdx"
)

func sum(digit string) manifest.Digest { return manifest.Digest("sha256:" + strings.Repeat(digit, 64)) }

// contents have one of everything.
func contents() *sbom.Contents {
	sys := record.GoModule{Path: "golang.org/x/sys", Version: "v0.49.0", Sum: "h1:c3lz"}
	kubernetes := record.GoModule{Path: "k8s.io/kubernetes", Version: "v1.36.3", Sum: "h1:azhz"}
	deb := func(name, version, suite, digit string) manifest.LockedPackage {
		return manifest.LockedPackage{Name: name, Version: version, Arch: "amd64", Suite: suite, Archive: "debian", Path: "pool/main/" + name + "_1.deb", SHA256: sum(digit)}
	}
	runc := deb("libseccomp-dev", "2.6.0-2", "trixie", "3")
	containerd := deb("containerd", "1.4.13~ds1", "bullseye", "4")
	return &sbom.Contents{
		Epoch: 1700000000,
		Record: &record.Record{
			Name: "k8s-worker-v1-36-3-amd64", Arch: "amd64",
			Inputs: record.Inputs{Versions: sum("a"), Lock: sum("b"), Definition: sum("c"), Units: sum("d"), Programs: map[string]manifest.Digest{"firstboot": sum("e")}},
			Components: []record.Component{
				{Name: "kubelet", Version: "v1.36.3", Origin: "source", From: "k8s.io/kubernetes@v1.36.3", Toolchain: "go1.26.8", Files: []record.Program{{Path: "/usr/local/bin/kubelet", SHA256: sum("1").Hex()}}},
				{Name: "crictl", Version: "v1.36.0", Origin: "release", From: "https://example.com/crictl.tar.gz"},
				{Name: "containerd", Version: "1.4.13", Origin: "package", From: "containerd 1.4.13~ds1"},
			},
			Images: []record.ContainerImage{
				{Name: "pause", Reference: "registry.k8s.io/pause:3.10.2", Origin: "release", From: "registry.k8s.io/pause@" + string(sum("5")), Digest: sum("5"), Manifest: sum("6"), Config: sum("7"), Layers: []manifest.Digest{sum("8")}},
				{Name: "coredns", Reference: "bake.invalid/coredns:v1.14.2", Origin: "source", From: "github.com/coredns/coredns@v1.14.2", Toolchain: "go1.26.8", Digest: sum("9"), Manifest: sum("9"), Config: sum("7"), Layers: []manifest.Digest{sum("0")}},
				{Name: "web", Reference: "bake.local/web:1", Origin: "source", From: "Debian packages", Digest: sum("4"), Manifest: sum("4"), Config: sum("7"), Layers: []manifest.Digest{sum("0")}},
			},
		},
		Licenses: map[manifest.Digest]license.License{
			sum("2"): {Expression: "GPL-3.0-or-later WITH GCC-exception-3.1 AND LicenseRef-Debian-public-domain", Refs: []license.Ref{{ID: "LicenseRef-Debian-public-domain", Name: "public-domain"}}},
			sum("0"): {Expression: "MIT"}, // of no package that is here
		},
		Modules:  map[record.GoModule]license.License{sys: {Expression: "BSD-3-Clause"}, kubernetes: {Expression: "Apache-2.0"}},
		Packages: []manifest.LockedPackage{deb("libstdc++6", "14.2.0-19", "trixie-security", "2"), deb("libstdc--6", "14.2.0-19", "trixie", "2")},
		Components: []sbom.BuildInfo{
			{Module: &kubernetes, Linked: []manifest.LockedPackage{runc}, Programs: []*record.GoProgram{{Path: "/usr/local/bin/kubelet", Toolchain: "go1.26.8", Main: record.GoModule{Path: "example.com/main"}, Deps: []record.GoModule{sys, kubernetes}}}},
			{Sums: []manifest.Digest{sum("f"), manifest.Digest("sha512:" + strings.Repeat("f", 128))}, Programs: []*record.GoProgram{{Path: "/usr/local/bin/crictl", Toolchain: "go1.25.1 X:boringcrypto", Deps: []record.GoModule{sys}}}},
			{Package: &containerd},
		},
		Images: []sbom.BuildInfo{{}, {Module: &record.GoModule{Path: "github.com/coredns/coredns", Version: "v1.14.2"}, Programs: []*record.GoProgram{{Path: "/coredns", Toolchain: "go1.26.8", Deps: []record.GoModule{sys}}}}, {Packages: []manifest.LockedPackage{
			deb("libstdc++6", "14.2.0-19", "trixie-security", "2"), deb("web", "1.26", "trixie", "6"), // one is in the OS as well
		}}},
		Programs: []*record.GoProgram{{Path: "/firstboot", Toolchain: "go1.26.8", Main: record.GoModule{Path: "github.com/nodebake/bake"}, Deps: []record.GoModule{sys}}},
	}
}

func write(t *testing.T, b *sbom.Contents) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := spdx.Write(&out, b); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func read(t *testing.T, text []byte) *v2_3.Document {
	t.Helper()
	d, err := spdxjson.Read(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// name is what a relationship's end is called in a test.
func name(d *v2_3.Document, id common.ElementID) string {
	for _, p := range d.Packages {
		if p.PackageSPDXIdentifier == id {
			return strings.TrimSpace(p.PackageName + " " + p.PackageVersion)
		}
	}
	return string(id)
}

// TestWrite reads a document with tools-golang and holds what it finds to the
// contents.
func TestWrite(t *testing.T) {
	t.Parallel()
	text := write(t, contents())
	d := read(t, text)
	if err := spdxlib.ValidateDocument(d); err != nil {
		t.Error(err)
	}
	if d.SPDXVersion != "SPDX-2.3" || d.DataLicense != "CC0-1.0" || d.CreationInfo.Created != "2023-11-14T22:13:20Z" {
		t.Errorf("document is %s, %s, created %s; want SPDX-2.3, CC0-1.0, 2023-11-14T22:13:20Z", d.SPDXVersion, d.DataLicense, d.CreationInfo.Created)
	}
	if want := regexp.MustCompile(`^urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`); !want.MatchString(d.DocumentNamespace) {
		t.Errorf("namespace is %s; want a UUID of version 8", d.DocumentNamespace)
	}
	var relationships, urls []string
	for _, r := range d.Relationships {
		relationships = append(relationships, name(d, r.RefA.ElementRefID)+" "+r.Relationship+" "+name(d, r.RefB.ElementRefID))
	}
	for _, p := range d.Packages {
		if p.FilesAnalyzed {
			t.Errorf("%s says that its files were analyzed", p.PackageName)
		}
		if !regexp.MustCompile(`^[A-Za-z0-9.-]+$`).MatchString(string(p.PackageSPDXIdentifier)) {
			t.Errorf("%s has the identifier %s", p.PackageName, p.PackageSPDXIdentifier)
		}
		for _, r := range p.PackageExternalReferences {
			if _, err := packageurl.FromString(r.Locator); err != nil || r.RefType != "purl" || r.Category != "PACKAGE-MANAGER" {
				t.Errorf("%s: %s %s %s: %v", p.PackageName, r.Category, r.RefType, r.Locator, err)
			}
			urls = append(urls, r.Locator)
		}
	}
	slices.Sort(relationships)
	slices.Sort(urls)
	image := "k8s-worker-v1-36-3-amd64 v1.36.3"
	if diff := cmp.Diff([]string{
		"DOCUMENT DESCRIBES " + image,
		"containerd 1.4.13 GENERATED_FROM containerd 1.4.13~ds1",
		"coredns v1.14.2 STATIC_LINK golang.org/x/sys v0.49.0",
		"coredns v1.14.2 STATIC_LINK stdlib 1.26.8",
		"crictl v1.36.0 STATIC_LINK golang.org/x/sys v0.49.0",
		"crictl v1.36.0 STATIC_LINK stdlib 1.25.1",
		"firstboot STATIC_LINK golang.org/x/sys v0.49.0",
		"firstboot STATIC_LINK stdlib 1.26.8",
		image + " CONTAINS containerd 1.4.13",
		image + " CONTAINS coredns v1.14.2",
		image + " CONTAINS crictl v1.36.0",
		image + " CONTAINS firstboot",
		image + " CONTAINS kubelet v1.36.3",
		image + " CONTAINS libstdc++6 14.2.0-19",
		image + " CONTAINS libstdc--6 14.2.0-19",
		image + " CONTAINS pause 3.10.2",
		image + " CONTAINS web 1",
		"kubelet v1.36.3 STATIC_LINK example.com/main",
		"kubelet v1.36.3 STATIC_LINK golang.org/x/sys v0.49.0",
		"kubelet v1.36.3 STATIC_LINK k8s.io/kubernetes v1.36.3",
		"kubelet v1.36.3 STATIC_LINK libseccomp-dev 2.6.0-2",
		"kubelet v1.36.3 STATIC_LINK stdlib 1.26.8",
		"web 1 CONTAINS libstdc++6 14.2.0-19",
		"web 1 CONTAINS web 1.26",
	}, relationships); diff != "" {
		t.Errorf("relationships (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{
		"pkg:deb/debian/containerd@1.4.13~ds1?arch=amd64&distro=debian-11",
		"pkg:deb/debian/libseccomp-dev@2.6.0-2?arch=amd64&distro=debian-13",
		"pkg:deb/debian/libstdc%2B%2B6@14.2.0-19?arch=amd64&distro=debian-13",
		"pkg:deb/debian/libstdc--6@14.2.0-19?arch=amd64&distro=debian-13",
		"pkg:deb/debian/web@1.26?arch=amd64&distro=debian-13",
		"pkg:generic/crictl@v1.36.0?checksum=" + string(sum("f")) + "%2Csha512:" + strings.Repeat("f", 128) + "&download_url=https:%2F%2Fexample.com%2Fcrictl.tar.gz",
		"pkg:golang/example.com/main",
		"pkg:golang/github.com/nodebake/bake",
		"pkg:golang/golang.org/x/sys@v0.49.0",
		"pkg:golang/k8s.io/kubernetes@v1.36.3",
		"pkg:golang/k8s.io/kubernetes@v1.36.3",
		"pkg:golang/stdlib@1.25.1",
		"pkg:golang/stdlib@1.26.8",
		"pkg:oci/coredns@" + string(sum("9")) + "?arch=amd64&repository_url=bake.invalid%2Fcoredns&tag=v1.14.2",
		"pkg:oci/pause@" + string(sum("5")) + "?arch=amd64&repository_url=registry.k8s.io%2Fpause&tag=3.10.2",
		"pkg:oci/web@" + string(sum("4")) + "?arch=amd64&repository_url=bake.local%2Fweb&tag=1",
	}, urls); diff != "" {
		t.Errorf("package URLs (-want +got):\n%s", diff)
	}
}

// TestLicenses reads what is declared, and has an expression parser that is not
// ours check it.
func TestLicenses(t *testing.T) {
	t.Parallel()
	text := write(t, contents())
	d := read(t, text)
	got := map[string]string{}
	for _, p := range d.Packages {
		got[name(d, p.PackageSPDXIdentifier)] = p.PackageLicenseDeclared
		if ok, _ := spdxexp.ValidateLicenses([]string{p.PackageLicenseDeclared}); !ok && p.PackageLicenseDeclared != "" {
			t.Errorf("%s declares %q, which is no expression of SPDX's", p.PackageName, p.PackageLicenseDeclared)
		}
		if p.PackageLicenseConcluded != "" {
			t.Errorf("%s has the conclusion %q; want none", p.PackageName, p.PackageLicenseConcluded)
		}
	}
	gcc := "GPL-3.0-or-later WITH GCC-exception-3.1 AND LicenseRef-Debian-public-domain"
	want := map[string]string{
		"firstboot": "Apache-2.0", "libstdc++6 14.2.0-19": gcc, "libstdc--6 14.2.0-19": gcc, "stdlib 1.25.1": "BSD-3-Clause", "stdlib 1.26.8": "BSD-3-Clause",
		"golang.org/x/sys v0.49.0": "BSD-3-Clause", "k8s.io/kubernetes v1.36.3": "Apache-2.0", "kubelet v1.36.3": "Apache-2.0",
	}
	for _, other := range []string{"k8s-worker-v1-36-3-amd64 v1.36.3", "crictl v1.36.0", "containerd 1.4.13", "containerd 1.4.13~ds1", "pause 3.10.2",
		"coredns v1.14.2", "libseccomp-dev 2.6.0-2", "example.com/main", "web 1", "web 1.26"} {
		want[other] = ""
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("declared licenses (-want +got):\n%s", diff)
	}
	if len(d.OtherLicenses) != 1 || d.OtherLicenses[0].LicenseIdentifier != "LicenseRef-Debian-public-domain" || d.OtherLicenses[0].LicenseName != "public-domain" ||
		d.OtherLicenses[0].ExtractedText != `The text is in the copyright file of each Debian package that refers to it (/usr/share/doc/PACKAGE/copyright), under "License: public-domain".` {
		t.Errorf("other licenses are %+v; want the one that is referred to", d.OtherLicenses)
	}
	if !bytes.Contains(text, []byte(`"hasExtractedLicensingInfos": [`)) {
		t.Error("the other licenses don't stand where SPDX has them")
	}
}

// TestFileIsPutIn writes a document with the image's file, which must be what
// encoding it with the file gives.
func TestFileIsPutIn(t *testing.T) {
	t.Parallel()
	b := contents()
	b.Record.File = &record.File{Name: "x.tar.gz", SHA256: sum("1")}
	text := write(t, b)
	d := read(t, text)
	if p := d.Packages[0]; p.PackageFileName != "x.tar.gz" || len(p.PackageChecksums) != 1 || p.PackageChecksums[0].Value != sum("1").Hex() {
		t.Errorf("the image is %+v; want its file", p)
	}
	var again bytes.Buffer
	if err := spdxjson.Write(d, &again, spdxjson.Indent(" "), spdxjson.EscapeHTML(false)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(again.String(), string(text)); diff != "" {
		t.Errorf("the document (-as it is encoded +as it is written):\n%s", diff)
	}
}

// TestSameBytes writes the same contents again, in another order, and then others.
func TestSameBytes(t *testing.T) {
	t.Parallel()
	first := write(t, contents())
	other := contents()
	slices.Reverse(other.Packages)
	slices.Reverse(other.Components[0].Programs[0].Deps)
	if diff := cmp.Diff(string(first), string(write(t, other))); diff != "" {
		t.Errorf("the same contents again (-first +second):\n%s", diff)
	}
	namespaces := map[string]string{read(t, first).DocumentNamespace: "the first"}
	for what, change := range map[string]func(b *sbom.Contents){
		"the file":           func(b *sbom.Contents) { b.Record.File = &record.File{Name: "x.tar.gz", SHA256: sum("1")} },
		"a package":          func(b *sbom.Contents) { b.Packages = b.Packages[1:] },
		"a package's bytes":  func(b *sbom.Contents) { b.Packages[1].SHA256 = sum("0") },
		"an image's package": func(b *sbom.Contents) { b.Images[2].Packages = b.Images[2].Packages[:1] },
		"an input":           func(b *sbom.Contents) { b.Record.Inputs.Lock = sum("0") },
		"the epoch":          func(b *sbom.Contents) { b.Epoch++ },
	} {
		b := contents()
		change(b)
		ns := read(t, write(t, b)).DocumentNamespace
		if before, ok := namespaces[ns]; ok {
			t.Errorf("with other %s the namespace is that of %s, %s", what, before, ns)
		}
		namespaces[ns] = what
	}
}

// TestChecksRefuse shows what the tests above rely on something broken.
func TestChecksRefuse(t *testing.T) {
	t.Parallel()
	text := write(t, contents())
	for name, change := range map[string]func(string) string{
		"cut short":    func(s string) string { return s[:len(s)/2] },
		"no version":   func(s string) string { return strings.Replace(s, "spdxVersion", "version", 1) },
		"bad identity": func(s string) string { return strings.Replace(s, `"SPDXID": "SPDXRef-Image"`, `"SPDXID": "Image"`, 1) },
		"an end that is nowhere": func(s string) string {
			return strings.Replace(s, `"relatedSpdxElement": "SPDXRef-Image"`, `"relatedSpdxElement": "SPDXRef-Nothing"`, 1)
		},
	} {
		broken := change(string(text))
		if broken == string(text) {
			t.Fatalf("%s: nothing changed", name)
		}
		d, err := spdxjson.Read(strings.NewReader(broken))
		if err == nil {
			err = spdxlib.ValidateDocument(d)
		}
		if err == nil {
			t.Errorf("%s: it is taken", name)
		}
	}
	// Without the library: what is written is plain JSON with SPDX's names.
	var plain struct {
		Packages []struct{ SPDXID, Name, DownloadLocation string }
	}
	if err := json.Unmarshal(text, &plain); err != nil || plain.Packages[0].SPDXID != "SPDXRef-Image" || plain.Packages[0].DownloadLocation != "NOASSERTION" {
		t.Errorf("the first package is %+v, %v; want the image", plain.Packages[0], err)
	}
	b := contents()
	b.Components = b.Components[1:]
	if err := spdx.Write(new(bytes.Buffer), b); err == nil {
		t.Error("Write takes contents that are not of its record")
	}
}

// TestContents reads back what a document says the image contains.
func TestContents(t *testing.T) {
	t.Parallel()
	b := contents()
	for _, p := range b.Packages {
		b.Record.Packages = append(b.Record.Packages, record.Package{Name: p.Name, Version: p.Version, SHA256: p.SHA256})
	}
	got, err := spdx.Contents("x", bytes.NewReader(write(t, b)))
	if err != nil {
		t.Fatal(err)
	}
	want := spdx.Expected(b.Record)
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" || len(got) != 8 {
		t.Errorf("Contents (-of the record +got):\n%s", diff)
	}
	if _, err := spdx.Contents("x.json", strings.NewReader("{}")); err == nil || !strings.Contains(err.Error(), "x.json") {
		t.Errorf("Contents of nothing = %v; want an error that names it", err)
	}
}
