package verify

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"

	"github.com/nodebake/bake/bake/inputs"
	"github.com/nodebake/bake/bake/inspect"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/record"
)

// A versions file is code, and that of an image was written by whoever made the
// image. It is fetched and built from only if the user vouches for it. This file
// has the decision, and what is done without.

// vouchers are what can vouch for the inputs of an image.
type vouchers struct {
	signed bool             // they are in what the owner of the user's key signed
	given  map[string]input // the user's own, by the names that inside.files has; nil: none were given
	trust  bool             // the user says so
}

// input is a file of the user's.
type input struct {
	path string
	sum  manifest.Digest
}

// vouch returns nil if an image may be rebuilt from inputs, the digests of
// files by their names. Files that the user gave must be the image's, whatever
// else vouches for them.
func (v vouchers) vouch(inputs map[string]manifest.Digest) error {
	names := slices.Sorted(maps.Keys(inputs))
	if i := slices.Index(names, record.VersionsName); i >= 0 { // what is most likely another comes first
		names = slices.Insert(slices.Delete(names, i, i+1), 0, record.VersionsName)
	}
	for _, name := range names {
		if own, ok := v.given[name]; ok && own.sum != inputs[name] {
			return fmt.Errorf("%s is %s, and the image was made from %s", own.path, own.sum, inputs[name])
		}
	}
	if v.signed || v.given != nil || v.trust {
		return nil
	}
	return errors.New("nothing says that they are harmless (give --key that signed them, --versions that you know, or --trust-inputs)")
}

// vouchers returns those that c names, for an image that has names as inputs.
func (c *Config) vouchers(signature *Signature, in *embeddedInputs) (vouchers, error) {
	v := vouchers{signed: signature != nil && signature.Valid, trust: c.TrustInputs}
	if c.Versions == "" {
		return v, nil
	}
	v.given = map[string]input{}
	if err := c.vouchDefinition(&v, in); err != nil {
		return v, err
	}
	for name := range in.files {
		file := filepath.Join(filepath.Dir(c.Versions), filepath.FromSlash(name))
		switch name {
		case record.VersionsName:
			file = c.Versions
		case record.LockName:
			file = manifest.LockFile(c.Versions)
		}
		data, err := os.ReadFile(file)
		if name != record.VersionsName && errors.Is(err, fs.ErrNotExist) {
			continue // he gave a versions file alone
		}
		if err != nil {
			return v, &manifest.ArgumentError{Err: fmt.Errorf("reading what vouches for the image's inputs: %w", err)}
		}
		v.given[name] = input{file, manifest.SHA256(sha256.Sum256(data))}
	}
	return v, nil
}

// vouchDefinition adds the definition of the user's versions file to what he
// gave, where that file is the image's: if it is not, that is what is wrong.
func (c *Config) vouchDefinition(v *vouchers, in *embeddedInputs) error {
	data, err := os.ReadFile(c.Versions)
	if err != nil {
		return &manifest.ArgumentError{Err: fmt.Errorf("reading what vouches for the image's inputs: %w", err)}
	}
	if manifest.SHA256(sha256.Sum256(data)) != in.record.Inputs.Versions {
		return nil
	}
	versions, err := manifest.ParseVersions(c.Versions, data)
	if err != nil {
		return err
	}
	dir := versions.DefinitionDir()
	if _, err := os.Stat(dir); dir != "" && errors.Is(err, fs.ErrNotExist) {
		return nil // he gave a versions file alone
	}
	d, err := inputs.ReadDefinition(inputs.Files{Definition: c.Definition}, versions)
	if err != nil {
		return fmt.Errorf("reading what vouches for the image's inputs: %w", err)
	}
	v.given[record.DefinitionName] = input{cmp.Or(dir, "this bake's built-in image definition"), d.Sum}
	return nil
}

// sums returns the digests of the image's inputs.
func (in *embeddedInputs) sums() map[string]manifest.Digest {
	out := map[string]manifest.Digest{record.DefinitionName: in.definition.Sum}
	for name, data := range in.files {
		out[name] = manifest.SHA256(sha256.Sum256(data))
	}
	return out
}

// look does what needs no build and no URL of the image's: it reads all that is
// in the image and holds it against the record and against what this bake brings.
// A contradiction is no error.
func (r *Result) look(ctx context.Context, m *inspect.Image, in *embeddedInputs, c *Config) error {
	versions, err := manifest.ParseVersions("/"+path.Join(record.InputsDir, record.VersionsName)+" in "+in.path, in.files[record.VersionsName])
	if err != nil {
		return err
	}
	lock, err := manifest.ParseLock("/"+path.Join(record.InputsDir, record.LockName)+" in "+in.path, in.files[record.LockName])
	if err != nil {
		return err
	}
	held := inputs.Inputs{Files: inputs.Files{Arch: in.record.Arch}, Set: versions, Definition: in.definition}
	if held.Stale(lock) != nil {
		r.Contradictions = append(r.Contradictions, lock.File+" was made for other packages than its versions file and image definition ask for")
	}
	if m.Fault != nil {
		r.Contradictions = append(r.Contradictions, m.Fault.Error())
		return nil
	}
	if err := m.OpenParts(); err != nil {
		r.Contradictions = append(r.Contradictions, err.Error())
		return nil
	}
	record, err := m.Record(ctx, c.Jobs)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	} else if err != nil {
		r.Contradictions = append(r.Contradictions, err.Error())
		return nil
	}
	found, err := m.Contradictions(record)
	if err != nil {
		found = append(found, err.Error())
	}
	units, err := lookAtUnits(m, c.Units)
	if err != nil {
		return err
	}
	r.Contradictions = append(append(r.Contradictions, found...), units...)
	return nil
}

// lookAtUnits says which of this bake's units the image has otherwise.
func lookAtUnits(m *inspect.Image, units fs.FS) (found []string, err error) {
	entries, err := fs.ReadDir(units, ".")
	if err != nil {
		return nil, fmt.Errorf("reading units: %w", err)
	}
	for _, e := range entries {
		if path.Ext(e.Name()) != ".service" {
			continue
		}
		want, err := fs.ReadFile(units, e.Name())
		if err != nil {
			return nil, fmt.Errorf("reading units: %w", err)
		}
		file := path.Join("/etc/systemd/system", e.Name())
		content, err := m.ReadFile(file)
		var got []byte
		if err == nil {
			got, err = io.ReadAll(io.LimitReader(content, int64(len(want))+1))
		}
		if err != nil {
			found = append(found, fmt.Sprintf("reading %s: %v", file, err))
		} else if string(got) != string(want) {
			found = append(found, fmt.Sprintf("%s is not this bake's", file))
		}
	}
	return found, nil
}
