package spdx

import (
	"fmt"
	"io"
	"strings"

	"github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdx/v2/common"

	"github.com/nodebake/bake/bake/record"
)

// Contents returns what a document that Write wrote says the image contains, in
// the order of the document: "Debian bash 5.2-1 sha256:...", "Component kubelet
// v1.36.3", "ContainerImage pause 3.10.2 sha256:...". name is for errors.
func Contents(name string, r io.Reader) ([]string, error) {
	d, err := json.Read(r)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	contained := map[common.ElementID]bool{}
	for _, r := range d.Relationships {
		if r.RefA.ElementRefID == rootID && r.Relationship == common.TypeRelationshipContains {
			contained[r.RefB.ElementRefID] = true
		}
	}
	var out []string
	for _, p := range d.Packages {
		kind, _, _ := strings.Cut(string(p.PackageSPDXIdentifier), "-")
		if !contained[p.PackageSPDXIdentifier] || kind == "Embedded" {
			continue
		}
		line := kind + " " + p.PackageName + " " + p.PackageVersion
		if kind != "Component" && len(p.PackageChecksums) == 1 {
			line += " sha256:" + p.PackageChecksums[0].Value
		}
		out = append(out, line)
	}
	return out, nil
}

// Expected returns what Contents of a document about m must be, sorted otherwise.
func Expected(m *record.Record) []string {
	var out []string
	for _, p := range m.Packages {
		out = append(out, strings.TrimSpace(fmt.Sprintf("Debian %s %s %s", p.Name, p.Version, p.SHA256)))
	}
	for _, c := range m.Components {
		out = append(out, "Component "+c.Name+" "+c.Version)
	}
	for _, c := range m.Images {
		out = append(out, fmt.Sprintf("ContainerImage %s %s %s", c.Name, tag(c.Reference), c.Digest))
	}
	return out
}

// tag returns the tag of an image's reference.
func tag(reference string) string { return reference[strings.LastIndexByte(reference, ':')+1:] }
