// Package slsa writes what an image was made from as an in-toto statement with
// SLSA provenance, and reads of such a statement what it says about inputs.
//
// The statement says nothing of when, where and by whom an image was made: it is
// a function of the inputs, as the image is, so that everyone who bakes them
// again gets the same statement. Its parameters are described in docs/sbom.md,
// which the build type names.
//
// Sources: in-toto attestation framework, statement v1
// (in-toto.io/Statement/v1); SLSA provenance v1 (slsa.dev/spec/v1.0/provenance).
package slsa

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	provenance "github.com/in-toto/attestation/go/predicates/provenance/v1"
	intoto "github.com/in-toto/attestation/go/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/record"
	"github.com/nodebake/bake/bake/sbom"
	"github.com/nodebake/bake/bake/sbom/purl"
)

// What statements are of.
const (
	PredicateType = "https://slsa.dev/provenance/v1"
	BuildType     = "https://github.com/nodebake/bake/blob/main/docs/sbom.md#build-type-v1"
	BuilderID     = "https://github.com/nodebake/bake"
)

// The names of dependencies that [Read] looks for.
const (
	versionsFile = "versions file"
	lock         = "lock"
)

// Subject is a file that the statement is about.
type Subject struct {
	Name   string
	SHA256 manifest.Digest
}

// Statement returns the JSON of the statement about subjects, which were made
// as b says. The format of the image is among the parameters where the record
// has it.
func Statement(b *sbom.Contents, subjects []Subject) ([]byte, error) {
	predicate, err := predicate(b)
	if err != nil {
		return nil, err
	}
	if err := predicate.Validate(); err != nil {
		return nil, fmt.Errorf("BUG: the provenance is not valid: %w", err)
	}
	asStruct := &structpb.Struct{}
	if err := convert(predicate, asStruct); err != nil {
		return nil, fmt.Errorf("BUG: %w", err)
	}
	s := &intoto.Statement{Type: intoto.StatementTypeUri, PredicateType: PredicateType, Predicate: asStruct}
	for _, subject := range subjects {
		s.Subject = append(s.Subject, &intoto.ResourceDescriptor{Name: subject.Name, Digest: digests(subject.SHA256)})
	}
	if err := s.Validate(); err != nil {
		return nil, fmt.Errorf("BUG: the statement is not valid: %w", err)
	}
	return canonical(s)
}

// convert turns one message into another of the same JSON.
func convert(from, to proto.Message) error {
	text, err := protojson.Marshal(from)
	if err == nil {
		err = protojson.Unmarshal(text, to)
	}
	if err != nil {
		return fmt.Errorf("converting a %T: %w", from, err)
	}
	return nil
}

// canonical writes m in the one form that it has here: protojson deliberately
// changes its spaces from build to build, and has no order for maps.
func canonical(m proto.Message) ([]byte, error) {
	text, err := protojson.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("writing a statement: %w", err)
	}
	var value any
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	if err := dec.Decode(&value); err != nil {
		return nil, fmt.Errorf("BUG: reading protojson: %w", err)
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", " ")
	if err := enc.Encode(value); err != nil { // with the keys of objects sorted
		return nil, fmt.Errorf("writing a statement: %w", err)
	}
	return out.Bytes(), nil
}

func predicate(b *sbom.Contents) (*provenance.Provenance, error) {
	m := b.Record
	if len(b.Components) != len(m.Components) || len(b.Images) != len(m.Images) {
		return nil, fmt.Errorf("BUG: the contents are about %d components and %d images, the record about %d and %d", len(b.Components), len(b.Images), len(m.Components), len(m.Images))
	}
	components, images := map[string]any{}, map[string]any{}
	for _, c := range m.Components {
		components[c.Name] = c.Origin
	}
	for _, c := range m.Images {
		images[c.Name] = c.Origin
	}
	parameters := map[string]any{
		"arch":         string(m.Arch),
		"versionsFile": string(m.Inputs.Versions),
		"origins":      map[string]any{"components": components, "images": images},
	}
	if b.NameOverridden {
		parameters["name"] = m.Name
	}
	if m.File != nil {
		parameters["format"] = m.File.Format
	}
	external, err := structpb.NewStruct(parameters)
	if err != nil {
		return nil, fmt.Errorf("BUG: writing parameters: %w", err)
	}
	internal, err := structpb.NewStruct(map[string]any{"name": m.Name, "epoch": b.Epoch})
	if err != nil {
		return nil, fmt.Errorf("BUG: writing parameters: %w", err)
	}
	return &provenance.Provenance{
		BuildDefinition: &provenance.BuildDefinition{
			BuildType: BuildType, ExternalParameters: external, InternalParameters: internal,
			ResolvedDependencies: dependencies(b),
		},
		RunDetails: &provenance.RunDetails{Builder: &provenance.Builder{Id: BuilderID}},
	}, nil
}

// dependencies lists everything that an image is made of: bake's inputs, then
// packages, components with their toolchains and modules, container images.
// Each is there once.
func dependencies(b *sbom.Contents) []*intoto.ResourceDescriptor {
	l := list{beside: b.Record.File != nil}
	in := b.Record.Inputs
	l.add(versionsFile, "", digests(in.Versions))
	l.add(lock, "", digests(in.Lock))
	l.add("image definition", "", digests(in.Definition))
	l.add("units", "", digests(in.Units))
	for _, name := range slices.Sorted(maps.Keys(in.Programs)) {
		l.add("bake's program "+name, "", digests(in.Programs[name]))
	}
	for _, name := range slices.Sorted(maps.Keys(in.Modules)) {
		l.add(name, "", digests(in.Modules[name]))
	}
	for _, p := range b.Packages {
		l.debian(p)
	}
	for i, c := range b.Record.Components {
		l.made(c.Name+" "+c.Version, c.From, c.Origin, c.Toolchain, b.Components[i])
	}
	for i, c := range b.Record.Images {
		if c.Origin == "release" {
			l.add(c.Name, purl.Image(c.Reference, c.Digest, b.Record.Arch), digests(c.Digest))
			continue
		}
		l.made(c.Name, c.From, c.Origin, c.Toolchain, b.Images[i])
		for _, p := range b.Images[i].Packages {
			l.debian(p)
		}
	}
	return l.all
}

type list struct {
	all  []*intoto.ResourceDescriptor
	seen map[string]bool

	// beside is for the statement beside the image, which may say what differs
	// from host to host. The one inside decides the image's digest.
	beside bool
}

// add appends what has not been there.
func (l *list) add(name, uri string, digest map[string]string) {
	key := fmt.Sprint(name, "\x00", uri, "\x00", digest)
	if l.seen[key] {
		return
	}
	if l.seen == nil {
		l.seen = map[string]bool{}
	}
	l.seen[key] = true
	l.all = append(l.all, &intoto.ResourceDescriptor{Name: name, Uri: uri, Digest: digest})
}

func (l *list) debian(p manifest.LockedPackage) {
	l.add(p.Name+" "+p.Version, purl.Debian(p.Name, p.Version, p.Arch, p.Suite), digests(p.SHA256))
}

// made appends what a component or an assembled image was made of.
func (l *list) made(name, from, origin, toolchain string, made sbom.BuildInfo) {
	switch {
	case made.Package != nil:
		l.debian(*made.Package)
	case origin == "release":
		l.add(name, from, digests(made.Sums...))
	case made.Module != nil:
		l.module(*made.Module)
		l.tools(toolchain, made.Tools)
		for _, p := range made.Linked {
			l.debian(p)
		}
		for _, p := range made.Programs {
			for _, m := range p.Deps {
				l.module(m)
			}
		}
	}
}

// tools appends what built a component: the Go toolchain, known by its version,
// and with cgo the compiler and the linker, which are the host's, by what they call
// themselves. Beside the image they have the digests of what the host has.
func (l *list) tools(toolchain string, have []sbom.Tool) {
	for i, tool := range strings.Split(toolchain, ", ") {
		uri := purl.Tool(tool)
		if i == 0 {
			uri = purl.Toolchain(tool)
		}
		var digest map[string]string
		for _, h := range have {
			if h.Name == tool && h.SHA256 != "" && l.beside {
				digest = digests(h.SHA256)
			}
		}
		l.add(tool, uri, digest)
	}
	for _, h := range have {
		switch {
		case !l.beside || h.Module.Path == "":
		case h.Module.Sum != "":
			l.module(h.Module)
		case h.SHA256 != "":
			l.add(h.Module.Path+" "+h.Module.Version, purl.Module(h.Module.Path, h.Module.Version), digests(h.SHA256))
		}
	}
}

// module appends a module with its digest, which in-toto calls dirHash: the
// SHA-256 of golang.org/x/mod/sumdb/dirhash.
func (l *list) module(m record.GoModule) {
	var digest map[string]string
	if text, ok := strings.CutPrefix(m.Sum, "h1:"); ok {
		if sum, err := base64.StdEncoding.DecodeString(text); err == nil {
			digest = map[string]string{string(intoto.AlgorithmDirHash): hex.EncodeToString(sum)}
		}
	}
	l.add(strings.TrimSpace(m.Path+" "+m.Version), purl.Module(m.Path, m.Version), digest)
}

// digests writes sums as in-toto does (spec/v1/digest_set.md).
func digests(sums ...manifest.Digest) map[string]string {
	out := map[string]string{}
	for _, s := range sums {
		if s != "" {
			out[s.Algorithm()] = s.Hex()
		}
	}
	return out
}
