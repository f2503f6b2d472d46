package verify

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/nodebake/bake/bake/inspect"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/record"
	"github.com/nodebake/bake/bake/sbom/slsa"
	"github.com/nodebake/bake/bake/sign"
)

// Signature says whether an image is the one whose provenance was signed.
type Signature struct {
	Bundle string   `json:"bundle"`          // path
	Valid  bool     `json:"valid"`           //
	Error  string   `json:"error,omitempty"` // why it is not
	Files  []string `json:"files,omitempty"` // names of those that are as they were signed

	// OtherStatement says that the key's owner did sign what is in the bundle, and
	// that this is no provenance of the image.
	OtherStatement bool `json:"otherStatement,omitempty"`
}

// verifySignature holds the file of m, and what `bake image` writes beside it as
// far as that is there, against a signature by the owner of c.Key. That the
// signature is wrong or missing is no error. Nothing that m holds is read; what
// the statement says about its inputs is for [Signature.hold].
func verifySignature(ctx context.Context, m *inspect.Image, c Config) (*Signature, slsa.Inputs, error) {
	name, ok := strings.CutSuffix(m.Path, "."+inspect.TarGz)
	if !ok {
		name = strings.TrimSuffix(m.Path, "."+inspect.Raw)
	}
	bundle := c.Bundle
	if bundle == "" {
		bundle = name + ".sigstore.json"
	}
	s := &Signature{Bundle: bundle}
	none := slsa.Inputs{}
	text, err := os.ReadFile(bundle)
	if errors.Is(err, fs.ErrNotExist) {
		s.Error = "there is no signature " + bundle + " (--bundle names another file)"
		return s, none, nil
	}
	if err != nil {
		return nil, none, &manifest.ArgumentError{Err: fmt.Errorf("reading the signature: %w", err)}
	}
	file, err := m.File(ctx)
	if err != nil {
		return nil, none, fmt.Errorf("reading what was signed: %w", err)
	}
	sums := map[string]manifest.Digest{file.Name: file.SHA256}
	files := []string{file.Name}
	for _, path := range []string{name + ".json", name + ".spdx.json"} {
		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, none, &manifest.ArgumentError{Err: fmt.Errorf("reading what was signed: %w", err)}
		}
		sums[filepath.Base(path)] = manifest.SHA256(sha256.Sum256(data))
		files = append(files, filepath.Base(path))
	}
	statement, err := sign.Verify(text, c.Key, sums)
	var in slsa.Inputs
	if statement != nil {
		// What it is comes before what it is about.
		var readErr error
		if in, readErr = slsa.Read(statement); readErr != nil {
			s.refuse(readErr)
			return s, none, nil
		}
	}
	if err != nil {
		s.Error = err.Error()
		return s, none, nil
	}
	s.Valid, s.Files = true, files
	return s, in, nil
}

// hold takes back what was said of a signature whose statement names other
// inputs than the image holds.
func (s *Signature) hold(signed slsa.Inputs, in *embeddedInputs) {
	for _, input := range []struct {
		what, name string
		signed     manifest.Digest
	}{{"versions file", record.VersionsName, signed.Versions}, {"lock", record.LockName, signed.Lock}} {
		if got := manifest.SHA256(sha256.Sum256(in.files[input.name])); got != input.signed {
			s.refuse(&slsa.OtherError{What: fmt.Sprintf("says that the %s is %s, and the image holds %s", input.what, input.signed, got)})
			return
		}
	}
}

// refuse says that what was signed is not what a signature of an image is about.
func (s *Signature) refuse(err error) {
	s.Valid, s.Files, s.OtherStatement = false, nil, true
	s.Error = err.Error()
	if other, ok := errors.AsType[*slsa.OtherError](err); ok {
		s.Error = "the signed statement " + other.What
	}
	s.Error += ": it is not provenance of this image (want what `bake image --sign` writes)"
}
