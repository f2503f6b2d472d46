package slsa

import (
	"fmt"

	provenance "github.com/in-toto/attestation/go/predicates/provenance/v1"
	intoto "github.com/in-toto/attestation/go/v1"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/nodebake/bake/bake/manifest"
)

// Inputs are what an image was made from, as far as a person edits it.
type Inputs struct{ Versions, Lock manifest.Digest }

// OtherError says that a statement is not one that [Statement] writes. It
// quotes the statement as it is.
type OtherError struct{ What string } // "is of type \"x\""

func (e *OtherError) Error() string { return "the statement " + e.What }

// Read returns what a statement of [Statement] says about inputs. Whatever else
// people state in this form is an [OtherError]: a result of tests, a review that
// found faults, the provenance of something else.
func Read(statement []byte) (Inputs, error) {
	var s intoto.Statement
	if err := protojson.Unmarshal(statement, &s); err != nil {
		return Inputs{}, fmt.Errorf("reading the statement: %w", err)
	}
	if s.GetType() != intoto.StatementTypeUri || s.GetPredicateType() != PredicateType {
		return Inputs{}, &OtherError{`is of type "` + s.GetPredicateType() + `"`}
	}
	// What another build type states need not be a predicate that this library
	// knows in full.
	definition := s.GetPredicate().GetFields()["buildDefinition"].GetStructValue().GetFields()
	if got := definition["buildType"].GetStringValue(); got != BuildType {
		return Inputs{}, &OtherError{`has build type "` + got + `"`}
	}
	var p provenance.Provenance
	if err := convert(s.GetPredicate(), &p); err != nil {
		return Inputs{}, fmt.Errorf("reading the statement: its provenance: %w", err)
	}
	var in Inputs
	var err error
	if in.Versions, err = dependency(&p, versionsFile); err != nil {
		return Inputs{}, err
	}
	if in.Lock, err = dependency(&p, lock); err != nil {
		return Inputs{}, err
	}
	parameter := p.GetBuildDefinition().GetExternalParameters().GetFields()["versionsFile"].GetStringValue()
	if parameter != string(in.Versions) {
		return Inputs{}, fmt.Errorf("reading the statement: the versions file is %q among the parameters and %s among the dependencies", parameter, in.Versions)
	}
	return in, nil
}

// dependency returns the digest of the one dependency of that name. A container
// image may be called so too; it has a URI.
func dependency(p *provenance.Provenance, name string) (manifest.Digest, error) {
	var found manifest.Digest
	for _, d := range p.GetBuildDefinition().GetResolvedDependencies() {
		if d.GetName() != name || d.GetUri() != "" {
			continue
		}
		if found != "" {
			return "", fmt.Errorf("reading the statement: two dependencies are called %s", name)
		}
		var err error
		if found, err = manifest.ParseDigest("sha256:" + d.GetDigest()["sha256"]); err != nil {
			return "", fmt.Errorf("reading the statement: dependency %s: %w", name, err)
		}
	}
	if found == "" {
		return "", fmt.Errorf("reading the statement: no dependency is called %s", name)
	}
	return found, nil
}
