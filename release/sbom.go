package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/spdx/tools-golang/spdx/v2/common"
	"github.com/spdx/tools-golang/spdx/v2/v2_3"

	"github.com/nodebake/bake/bake/sbom/purl"
)

// sbom returns the SPDX document of p: itself, the modules and the standard
// library that are linked, and the same of what it embeds. Nothing but p and
// created decides its bytes.
func (p *program) sbom(created time.Time) ([]byte, error) {
	b := builder{doc: &v2_3.Document{
		SPDXVersion: v2_3.Version, DataLicense: v2_3.DataLicense, SPDXIdentifier: "DOCUMENT", DocumentName: p.name,
		DocumentNamespace: fmt.Sprintf("https://%s/releases/%s-%x", p.info.Main.Path, p.name, p.sha256),
		CreationInfo: &v2_3.CreationInfo{
			Creators: []common.Creator{{CreatorType: "Tool", Creator: "bake-release"}},
			Created:  created.Format(time.RFC3339),
		},
	}}
	own := b.program(p, p.info.Main)
	b.relate("DOCUMENT", common.TypeRelationshipDescribe, own)
	for _, e := range p.embedded {
		// These are of the same module, and do not say in which version.
		b.relate(own, common.TypeRelationshipContains, b.program(e, p.info.Main))
	}
	slices.SortFunc(b.doc.Packages, func(x, y *v2_3.Package) int {
		return strings.Compare(string(x.PackageSPDXIdentifier), string(y.PackageSPDXIdentifier))
	})
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	err := encoder.Encode(b.doc)
	return out.Bytes(), err
}

// builder makes a document. Its relationships are in the order of programs and
// their build information.
type builder struct{ doc *v2_3.Document }

// program adds p, which is of module, and what is linked into it.
func (b *builder) program(p *program, module debug.Module) common.ElementID {
	own := b.add(id("Program", p.name), p.name, module.Version, purl.Module(module.Path, module.Version))
	own.PrimaryPackagePurpose = "APPLICATION"
	own.PackageFileName = p.name
	own.PackageLicenseDeclared = "Apache-2.0"
	own.PackageChecksums = []common.Checksum{{Algorithm: common.SHA256, Value: fmt.Sprintf("%x", p.sha256)}}
	for _, m := range p.info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		b.relate(own.PackageSPDXIdentifier, common.TypeRelationshipStaticLink, b.module(m))
	}
	version := purl.ToolchainVersion(p.info.GoVersion)
	library := b.add(id("Go", "stdlib", version), "stdlib", version, purl.Toolchain(p.info.GoVersion))
	library.PackageLicenseDeclared = "BSD-3-Clause"
	b.relate(own.PackageSPDXIdentifier, common.TypeRelationshipStaticLink, library.PackageSPDXIdentifier)
	return own.PackageSPDXIdentifier
}

func (b *builder) module(m *debug.Module) common.ElementID {
	p := b.add(id("Go", m.Path, m.Version), m.Path, m.Version, purl.Module(m.Path, m.Version))
	if m.Sum != "" {
		p.PackageComment = "go.sum: " + m.Sum // no checksum of SPDX's, which are of files
	}
	return p.PackageSPDXIdentifier
}

// add returns the package called id, which it adds where it is new.
func (b *builder) add(id common.ElementID, name, version, purl string) *v2_3.Package {
	for _, p := range b.doc.Packages {
		if p.PackageSPDXIdentifier == id {
			return p
		}
	}
	p := &v2_3.Package{
		PackageSPDXIdentifier: id, PackageName: name, PackageVersion: version, PrimaryPackagePurpose: "LIBRARY",
		PackageDownloadLocation: "NOASSERTION", PackageLicenseConcluded: "NOASSERTION", PackageLicenseDeclared: "NOASSERTION", PackageCopyrightText: "NOASSERTION",
		PackageExternalReferences: []*v2_3.PackageExternalReference{{Category: common.CategoryPackageManager, RefType: common.TypePackageManagerPURL, Locator: purl}},
	}
	b.doc.Packages = append(b.doc.Packages, p)
	return p
}

func (b *builder) relate(from common.ElementID, kind string, to common.ElementID) {
	b.doc.Relationships = append(b.doc.Relationships, &v2_3.Relationship{
		RefA: common.DocElementID{ElementRefID: from}, RefB: common.DocElementID{ElementRefID: to}, Relationship: kind,
	})
}

// id returns an identifier of SPDX's letters, which is of parts alone.
func id(kind string, parts ...string) common.ElementID {
	text := strings.Join(parts, "-")
	plain := regexp.MustCompile(`[^A-Za-z0-9.-]`).ReplaceAllString(text, "-")
	if plain != text {
		plain += fmt.Sprintf("-%x", sha256.Sum256([]byte(text)))[:9]
	}
	return common.ElementID(kind + "-" + plain)
}
