// Package spdx writes what is in an image as SPDX 2.3 in JSON.
//
// The image is the package that the document describes. It contains every
// Debian package, every component, every container image and bake's own
// programs; these are linked statically with the Go modules and Debian packages
// that were compiled into them, which is read from the programs themselves, and
// named by package URLs.
//
// Licenses are declared where somebody declares them: a Debian package in a
// machine-readable copyright file, a module that bake built something of in its
// license files (see package license), Go of its standard library, and we of our
// programs. Releases, and modules that are in them, say none that is looked into. Nothing is concluded. What is not said is NOASSERTION (clauses 7.13, 7.15).
//
// It is a function of the image's inputs: its time is that of the image, its
// namespace derives from what it says, and everything is sorted.
//
// Limits. Files are not listed (filesAnalyzed is false): the record beside the
// image has every one. Container images from a registry are named by their
// digests and not taken apart, nor are programs that other languages than Go
// left. Go programs in Debian packages belong to these.
//
// Source: SPDX specification 2.3 (spdx.github.io/spdx-spec/v2.3).
package spdx

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdx/v2/common"
	"github.com/spdx/tools-golang/spdx/v2/v2_3"

	"github.com/nodebake/bake/bake/record"
	"github.com/nodebake/bake/bake/sbom"
	"github.com/nodebake/bake/bake/sbom/purl"
)

// unknown is what stands where nothing is asserted (clause 7.7).
const unknown = "NOASSERTION"

// rootID is the image.
const rootID = "Image"

// Write writes the document of b. It has the image's file where the record has.
func Write(w io.Writer, b *sbom.Contents) error {
	e, err := Encode(b)
	if err != nil {
		return err
	}
	return e.Write(w, b.Record.File)
}

// Encoded is a document, but for its name and the image's file.
type Encoded struct {
	text []byte
	root *v2_3.Package // without the file
	head []byte        // what text has of root
}

// Encode makes the document of b. That takes nearly all the time of writing it,
// and what is inside of an image and what is beside it differ in the file alone.
func Encode(b *sbom.Contents) (*Encoded, error) {
	d, err := document(b)
	if err != nil {
		return nil, err
	}
	d.DocumentNamespace = unnamed
	e := &Encoded{root: d.Packages[0]}
	if e.text, err = encode(d); err != nil {
		return nil, err
	}
	e.head, err = encodePackage(e.root)
	return e, err
}

// Write writes the document, with the image's file where there is one.
func (e *Encoded) Write(w io.Writer, file *record.File) error {
	text := e.text
	if file != nil {
		root := *e.root
		root.PackageFileName = file.Name
		root.PackageChecksums = []common.Checksum{{Algorithm: common.SHA256, Value: file.SHA256.Hex()}}
		head, err := encodePackage(&root)
		if err != nil {
			return err
		}
		if text, err = replaceOnce(text, e.head, head); err != nil {
			return err
		}
	}
	// The name is of these very contents: two documents that differ in anything
	// have different ones, as clause 6.5 asks.
	named, err := replaceOnce(text, []byte(unnamed), []byte("urn:uuid:"+uuid(sha256.Sum256(text))))
	if err != nil {
		return err
	}
	_, err = w.Write(named)
	return err
}

func replaceOnce(text, old, new []byte) ([]byte, error) {
	if n := bytes.Count(text, old); n != 1 {
		return nil, fmt.Errorf("BUG: %q stands in the document %d times", old, n)
	}
	return bytes.Replace(text, old, new, 1), nil
}

// encodePackage returns what encode writes of a package.
func encodePackage(p *v2_3.Package) ([]byte, error) {
	text, err := encode(&v2_3.Document{SPDXVersion: v2_3.Version, DataLicense: v2_3.DataLicense, Packages: []*v2_3.Package{p}})
	if err != nil {
		return nil, err
	}
	_, after, found := bytes.Cut(text, []byte("\n \"packages\": [\n"))
	one, _, ended := bytes.Cut(after, []byte("\n ]"))
	if !found || !ended {
		return nil, fmt.Errorf("BUG: no package in %s", text)
	}
	return one, nil
}

// unnamed stands for a document's name until it is known.
const unnamed = "urn:uuid:00000000-0000-0000-0000-000000000000"

func encode(d *v2_3.Document) ([]byte, error) {
	var out bytes.Buffer
	if err := json.Write(d, &out, json.Indent(" "), json.EscapeHTML(false)); err != nil {
		return nil, fmt.Errorf("writing SPDX: %w", err)
	}
	return out.Bytes(), nil
}

// uuid makes a version 8 UUID of a digest (RFC 9562, appendix B.2).
func uuid(sum [sha256.Size]byte) string {
	sum[6] = sum[6]&0x0f | 0x80
	sum[8] = sum[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", sum[:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16])
}

// builder collects packages and relationships.
type builder struct {
	contents *sbom.Contents
	doc      *v2_3.Document
	packages map[common.ElementID]*v2_3.Package
	related  map[relation]bool
	refs     map[string]string // names of licenses that SPDX has no identifier for, by their references
}

type relation struct {
	from, to common.ElementID
	kind     string
}

func document(b *sbom.Contents) (*v2_3.Document, error) {
	m := b.Record
	if len(b.Components) != len(m.Components) || len(b.Images) != len(m.Images) {
		return nil, fmt.Errorf("BUG: the contents are about %d components and %d images, the record about %d and %d", len(b.Components), len(b.Images), len(m.Components), len(m.Images))
	}
	d := &builder{
		contents: b, packages: map[common.ElementID]*v2_3.Package{}, related: map[relation]bool{}, refs: map[string]string{},
		doc: &v2_3.Document{
			SPDXVersion: v2_3.Version, DataLicense: v2_3.DataLicense, SPDXIdentifier: "DOCUMENT", DocumentName: m.Name,
			CreationInfo: &v2_3.CreationInfo{
				// Without a version: the same inputs give the same document.
				Creators: []common.Creator{{CreatorType: "Tool", Creator: "bake"}},
				Created:  time.Unix(b.Epoch, 0).UTC().Format(time.RFC3339),
			},
		},
	}
	d.root()
	for _, p := range b.Packages {
		d.relate(rootID, common.TypeRelationshipContains, d.debian(p))
	}
	for i, c := range m.Components {
		d.component(c, b.Components[i])
	}
	for i, c := range m.Images {
		d.image(c, b.Images[i])
	}
	for _, p := range b.Programs {
		d.embedded(p)
	}
	return d.finish(), nil
}

// root adds the image.
func (d *builder) root() {
	m := d.contents.Record
	p := d.add(rootID, m.Name, version(m))
	p.PrimaryPackagePurpose = "OPERATING_SYSTEM" // so in SPDX's JSON schema; clause 7.24 has a hyphen
	p.PackageComment = "Inputs: " + inputs(m.Inputs)
	d.relate("DOCUMENT", common.TypeRelationshipDescribe, rootID)
}

// version is the image's: that of kubelet, which names it.
func version(m *record.Record) string {
	for _, c := range m.Components {
		if c.Name == "kubelet" {
			return c.Version
		}
	}
	return ""
}

func inputs(in record.Inputs) string {
	return fmt.Sprintf("versions file %s, lock %s, definition %s, units %s", in.Versions, in.Lock, in.Definition, in.Units)
}

// embedded adds a program of bake's own.
func (d *builder) embedded(p *record.GoProgram) {
	name := p.Path[strings.LastIndexByte(p.Path, '/')+1:]
	own := d.add(id("Embedded", name), name, p.Main.Version)
	own.PrimaryPackagePurpose = "APPLICATION"
	own.PackageSummary = "A program of bake's own"
	own.PackageLicenseDeclared = "Apache-2.0"
	if sum, ok := d.contents.Record.Inputs.Programs[name]; ok {
		own.PackageChecksums = []common.Checksum{{Algorithm: common.SHA256, Value: sum.Hex()}}
	}
	setURL(own, purl.Module(p.Main.Path, p.Main.Version))
	d.relate(rootID, common.TypeRelationshipContains, own.PackageSPDXIdentifier)
	d.link(own.PackageSPDXIdentifier, []*record.GoProgram{{Toolchain: p.Toolchain, Deps: p.Deps}})
}
