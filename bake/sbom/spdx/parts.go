package spdx

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/spdx/tools-golang/spdx/v2/common"
	"github.com/spdx/tools-golang/spdx/v2/v2_3"

	"github.com/nodebake/bake/bake/license"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/record"
	"github.com/nodebake/bake/bake/sbom"
	"github.com/nodebake/bake/bake/sbom/purl"
)

// component adds a component and what is linked into its programs.
func (d *builder) component(c record.Component, made sbom.BuildInfo) {
	p := d.add(id("Component", c.Name), c.Name, c.Version)
	p.PrimaryPackagePurpose = "APPLICATION"
	switch {
	case made.Module != nil:
		p.PackageSourceInfo = fmt.Sprintf("built by bake from %s with %s", c.From, c.Toolchain)
		setURL(p, purl.Module(made.Module.Path, made.Module.Version))
		p.PackageComment = goSum(made.Module.Sum)
		d.license(p, d.contents.Modules[*made.Module])
	case made.Package != nil:
		p.PackageSourceInfo = "taken out of the Debian package " + c.From
		d.relate(p.PackageSPDXIdentifier, common.TypeRelationshipGeneratedFrom, d.debian(*made.Package))
	default:
		p.PackageDownloadLocation = c.From
		p.PackageFileName = path.Base(c.From)
		p.PackageChecksums = checksums(made.Sums)
		setURL(p, purl.Release(c.Name, c.Version, c.From, made.Sums))
	}
	var files []string
	for _, f := range c.Files {
		files = append(files, fmt.Sprintf("%s sha256:%s", f.Path, f.SHA256))
	}
	p.PackageDescription = strings.Join(files, "\n")
	d.relate(rootID, common.TypeRelationshipContains, p.PackageSPDXIdentifier)
	for _, l := range made.Linked {
		d.relate(p.PackageSPDXIdentifier, common.TypeRelationshipStaticLink, d.debian(l))
	}
	d.link(p.PackageSPDXIdentifier, made.Programs)
}

// image adds a container image, and where it was assembled here what is linked
// into its programs.
func (d *builder) image(c record.ContainerImage, made sbom.BuildInfo) {
	p := d.add(id("ContainerImage", c.Name), c.Name, "")
	p.PackageVersion = tag(c.Reference)
	p.PrimaryPackagePurpose = "CONTAINER"
	p.PackageSourceInfo = "from the registry: " + c.From
	if c.Origin != "release" {
		p.PackageSourceInfo = "assembled by bake from " + c.From
		if c.Toolchain != "" {
			p.PackageSourceInfo += " with " + c.Toolchain
		}
	}
	// Of what the digest in the package URL is: the index or the manifest.
	p.PackageChecksums = checksums([]manifest.Digest{c.Digest})
	lines := []string{"manifest " + string(c.Manifest), "config " + string(c.Config)}
	for _, layer := range c.Layers {
		lines = append(lines, "layer "+string(layer))
	}
	p.PackageDescription = strings.Join(lines, "\n")
	setURL(p, purl.Image(c.Reference, c.Digest, d.contents.Record.Arch))
	d.relate(rootID, common.TypeRelationshipContains, p.PackageSPDXIdentifier)
	for _, l := range made.Packages {
		d.relate(p.PackageSPDXIdentifier, common.TypeRelationshipContains, d.debian(l))
	}
	d.link(p.PackageSPDXIdentifier, made.Programs)
}

// debian adds a Debian package, once, and returns its identifier.
func (d *builder) debian(l manifest.LockedPackage) common.ElementID {
	p := d.add(id("Debian", l.Name, l.Version, l.Arch), l.Name, l.Version)
	p.PackageFileName = path.Base(l.Path)
	p.PackageSourceInfo = fmt.Sprintf("%s of %s, suite %s", l.Path, l.Archive, l.Suite)
	p.PackageSupplier = &common.Supplier{SupplierType: "Organization", Supplier: "Debian"}
	p.PackageChecksums = checksums([]manifest.Digest{l.SHA256})
	setURL(p, purl.Debian(l.Name, l.Version, l.Arch, l.Suite))
	d.license(p, d.contents.Licenses[l.SHA256])
	return p.PackageSPDXIdentifier
}

// license declares what is said about p's licenses, if anything is.
func (d *builder) license(p *v2_3.Package, says license.License) {
	if says.Expression == "" {
		return
	}
	p.PackageLicenseDeclared = says.Expression
	for _, r := range says.Refs {
		d.refs[r.ID] = r.Name
	}
}

// link adds the modules of programs and Go's standard library, and says that
// they are linked into the package called from.
func (d *builder) link(from common.ElementID, programs []*record.GoProgram) {
	for _, program := range programs {
		for _, m := range program.Modules() {
			d.relate(from, common.TypeRelationshipStaticLink, d.module(m))
		}
		version := purl.ToolchainVersion(program.Toolchain)
		p := d.add(id("Go", "stdlib", version), "stdlib", version)
		p.PrimaryPackagePurpose = "LIBRARY"
		p.PackageSummary = "Go's standard library"
		p.PackageLicenseDeclared = "BSD-3-Clause"
		setURL(p, purl.Toolchain(program.Toolchain))
		d.relate(from, common.TypeRelationshipStaticLink, p.PackageSPDXIdentifier)
	}
}

// module adds a Go module, once, and returns its identifier.
func (d *builder) module(m record.GoModule) common.ElementID {
	p := d.add(id("Go", m.Path, m.Version, m.Sum), m.Path, m.Version)
	p.PrimaryPackagePurpose = "LIBRARY"
	p.PackageComment = goSum(m.Sum)
	setURL(p, purl.Module(m.Path, m.Version))
	d.license(p, d.contents.Modules[m])
	return p.PackageSPDXIdentifier
}

// goSum says a module's digest. It is no checksum of SPDX's, which are of files:
// it is one over the module's list of files.
func goSum(sum string) string {
	if sum == "" {
		return ""
	}
	return "go.sum: " + sum
}

func checksums(sums []manifest.Digest) []common.Checksum {
	var out []common.Checksum
	for _, s := range sums {
		if s == "" {
			continue
		}
		algorithm := common.SHA256
		if s.Algorithm() == "sha512" {
			algorithm = common.SHA512
		}
		out = append(out, common.Checksum{Algorithm: algorithm, Value: s.Hex()})
	}
	slices.SortFunc(out, func(a, b common.Checksum) int { return strings.Compare(string(a.Algorithm), string(b.Algorithm)) })
	return out
}

// add returns the package called id, which it makes where there is none.
func (d *builder) add(id common.ElementID, name, version string) *v2_3.Package {
	p := d.packages[id]
	if p == nil {
		p = &v2_3.Package{
			PackageSPDXIdentifier: id, PackageName: name, PackageVersion: version,
			PackageDownloadLocation: unknown, IsFilesAnalyzedTagPresent: true,
		}
		d.packages[id] = p
	}
	return p
}

// setURL sets the package URL of p.
func setURL(p *v2_3.Package, purl string) {
	p.PackageExternalReferences = []*v2_3.PackageExternalReference{{
		Category: common.CategoryPackageManager, RefType: common.TypePackageManagerPURL, Locator: purl,
	}}
}

func (d *builder) relate(from common.ElementID, kind string, to common.ElementID) {
	d.related[relation{from, to, kind}] = true
}

// finish puts everything into the document, sorted; the image comes first.
func (d *builder) finish() *v2_3.Document {
	for _, id := range slices.Sorted(maps.Keys(d.packages)) {
		if id != rootID {
			d.doc.Packages = append(d.doc.Packages, d.packages[id])
		}
	}
	d.doc.Packages = append([]*v2_3.Package{d.packages[rootID]}, d.doc.Packages...)
	for _, id := range slices.Sorted(maps.Keys(d.refs)) {
		d.doc.OtherLicenses = append(d.doc.OtherLicenses, &v2_3.OtherLicense{
			LicenseIdentifier: id, LicenseName: d.refs[id],
			ExtractedText: "The text is in the copyright file of each Debian package that refers to it (/usr/share/doc/PACKAGE/copyright), under \"License: " + d.refs[id] + "\".",
		})
	}
	related := slices.SortedFunc(maps.Keys(d.related), func(a, b relation) int {
		return cmp.Or(strings.Compare(string(a.from), string(b.from)), strings.Compare(a.kind, b.kind), strings.Compare(string(a.to), string(b.to)))
	})
	for _, r := range related {
		d.doc.Relationships = append(d.doc.Relationships, &v2_3.Relationship{
			RefA: common.MakeDocElementID("", string(r.from)), RefB: common.MakeDocElementID("", string(r.to)), Relationship: r.kind,
		})
	}
	return d.doc
}

// id makes an identifier, which has letters, digits, dots and hyphens (clause
// 7.2), of the first two parts. What it can't say, a digest of all tells apart.
func id(kind string, parts ...string) common.ElementID {
	text := kind + "-" + strings.Join(parts[:min(2, len(parts))], "-")
	clean := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '-' {
			return r
		}
		return '-'
	}, text)
	if len(parts) > 1 || clean != text {
		clean += fmt.Sprintf("-%x", sha256.Sum256(fmt.Appendf(nil, "%q", parts)))[:13]
	}
	return common.ElementID(clean)
}
