package bake

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"

	"github.com/nodebake/bake/bake/inputs"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/record"
	"github.com/nodebake/bake/bake/source"
	"github.com/nodebake/bake/bake/tree"
)

// embeddedDefinition is what the record calls the definition that is built in.
const embeddedDefinition = "embedded"

// recordedInputs returns the files of the image that hold what it was made
// from, for `bake verify` to make it again. What the record has digests of and
// every bake brings itself (units and embedded programs) is not among them.
func (b *Baker) recordedInputs(rec *record.Record, parts *source.Parts) ([]tree.Entry, error) {
	modules, err := b.modules(parts)
	if err != nil {
		return nil, err
	}
	files := []tree.Entry{
		file(path.Join(record.InputsDir, record.VersionsName), 0o644, b.inputs.VersionsText),
		file(path.Join(record.InputsDir, record.LockName), 0o644, b.inputs.LockText),
	}
	for _, name := range slices.Sorted(maps.Keys(b.inputs.Definition.Files)) {
		files = append(files, file(path.Join(record.InputsDir, record.DefinitionName, name), 0o644, b.inputs.Definition.Files[name]))
	}
	for _, name := range slices.Sorted(maps.Keys(modules)) {
		// A build may take minutes, in which somebody may have edited.
		if got := manifest.SHA256(sha256.Sum256(modules[name])); got != rec.Inputs.Modules[name] {
			return nil, &manifest.ArgumentError{Err: fmt.Errorf("%s changed while the image was made", filepath.Join(filepath.Dir(b.config.Versions), name))}
		}
		files = append(files, file(path.Join(record.InputsDir, name), 0o644, modules[name]))
	}
	return files, nil
}

// modules returns the files that pin what was built from source, by their
// paths beside the versions file: "modules/kubernetes/go.sum".
func (b *Baker) modules(parts *source.Parts) (map[string][]byte, error) {
	out := map[string][]byte{}
	fsys := os.DirFS(filepath.Dir(b.config.Versions))
	add := func(origin source.Origin, m *manifest.Module) error {
		if origin != source.FromSource || m == nil {
			return nil
		}
		for _, name := range []string{path.Join(m.Dir, "go.mod"), path.Join(m.Dir, "go.sum")} {
			data, err := fs.ReadFile(fsys, name)
			if err != nil {
				return fmt.Errorf("reading what pins module %s: %w", m.Path, err)
			}
			out[name] = data
		}
		return nil
	}
	for _, c := range parts.Components {
		if err := add(c.Origin, c.Module); err != nil {
			return nil, err
		}
	}
	for _, image := range parts.Images {
		if err := add(image.Origin, image.Module); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// inputSums returns the digests of everything that an image of parts is made
// from.
func (b *Baker) inputSums(lock *manifest.Lock, parts *source.Parts) (record.Inputs, error) {
	in := record.Inputs{
		Versions: b.inputs.Set.Sum, Lock: lock.Sum, Definition: b.inputs.Definition.Sum,
		DefinitionFrom: cmp.Or(b.inputs.Set.Definition, embeddedDefinition), DefinitionFiles: map[string]manifest.Digest{},
		Programs: map[string]manifest.Digest{},
	}
	for name, content := range b.inputs.Definition.Files {
		in.DefinitionFiles[name] = manifest.SHA256(sha256.Sum256(content))
	}
	var err error
	if in.Units, err = inputs.SumFiles(b.config.Units); err != nil {
		return in, fmt.Errorf("reading units: %w", err)
	}
	programs := []string{"firstboot", "init"}
	for _, image := range parts.Images {
		if image.Origin == source.FromSource && image.Program != "" {
			programs = append(programs, image.Program)
		}
	}
	for _, name := range programs {
		program, err := b.programs.program(name)
		if err != nil {
			return in, err
		}
		in.Programs[name] = manifest.SHA256(program.SHA256)
	}
	modules, err := b.modules(parts)
	if err != nil {
		return in, err
	}
	for name, data := range modules {
		if in.Modules == nil {
			in.Modules = map[string]manifest.Digest{}
		}
		in.Modules[name] = manifest.SHA256(sha256.Sum256(data))
	}
	return in, nil
}
