package verify

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"

	"github.com/nodebake/bake/bake/embedded"
	"github.com/nodebake/bake/bake/inputs"
	"github.com/nodebake/bake/bake/inspect"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/record"
	"github.com/nodebake/bake/bake/source"
)

// embeddedInputs are what an image holds about what it was made from.
type embeddedInputs struct {
	path    string
	record  *record.Record
	files   map[string][]byte // by their paths below record.InputsDir, but for the definition's
	altered *Difference       // an input that is not what the record says

	definition *manifest.Definition // nil where something is altered, or the image has none
}

// readInside reads the record and the inputs that m holds, which can be done
// while other parts of m are damaged.
func readInside(m *inspect.Image) (*embeddedInputs, error) {
	in := &embeddedInputs{path: m.Path, files: map[string][]byte{}}
	read := func(name string) ([]byte, error) {
		data, err := m.Fragment(name)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, &manifest.ArgumentError{Err: fmt.Errorf("%s holds no /%s: without it nothing says what it was made from (was it made by bake, and by one that has `bake verify`?)", m.Path, name)}
		}
		if err != nil {
			return nil, fmt.Errorf("reading /%s in %s: %w; nothing else says what it was made from", name, m.Path, errors.Join(err, m.Fault))
		}
		return data, nil
	}
	data, err := read(record.Path)
	if err != nil {
		return nil, err
	}
	if in.record, err = record.Read("/"+record.Path+" in "+m.Path, bytes.NewReader(data)); err != nil {
		if m.Fault != nil {
			return nil, in.cutOff(record.Path, m.Fault)
		}
		return nil, err
	}
	sums := maps.Clone(in.record.Inputs.Modules)
	if sums == nil {
		sums = map[string]manifest.Digest{}
	}
	sums[record.VersionsName], sums[record.LockName] = in.record.Inputs.Versions, in.record.Inputs.Lock
	hold := func(name string, want manifest.Digest) ([]byte, error) {
		data, err := read(name)
		if err != nil {
			return nil, err
		}
		if got := manifest.SHA256(sha256.Sum256(data)); got != want && m.Fault != nil {
			return nil, in.cutOff(name, m.Fault)
		} else if got != want && in.altered == nil {
			in.altered = &Difference{
				Partition: "root", Path: "/" + name, Offset: -1, DiskOffset: -1,
				What: fmt.Sprintf("the file has %s, /%s says %s: one of the two was changed", got, record.Path, want),
			}
		}
		return data, nil
	}
	for _, name := range slices.Sorted(maps.Keys(sums)) {
		if err := manifest.CheckLocalPath(name); err != nil {
			return nil, fmt.Errorf("reading /%s in %s: its module file %w", record.Path, m.Path, err)
		}
		if in.files[name], err = hold(path.Join(record.InputsDir, name), sums[name]); err != nil {
			return nil, err
		}
	}
	return in, in.readDefinition(hold)
}

// readDefinition reads the image definition by hold, which reads a file of the
// image and holds it against a digest. It is as foreign as the rest: nothing of
// it is written anywhere, its files are few and small, and their names are the
// image's alone.
func (in *embeddedInputs) readDefinition(hold func(name string, want manifest.Digest) ([]byte, error)) error {
	sums := in.record.Inputs.DefinitionFiles
	if len(sums) == 0 {
		return nil // see known
	}
	dir := path.Join(record.InputsDir, record.DefinitionName)
	files := map[string][]byte{}
	total := 0
	for _, name := range slices.Sorted(maps.Keys(sums)) {
		if !fs.ValidPath(name) || name == "." {
			return fmt.Errorf("reading /%s in %s: %q is no path of a file of an image definition", record.Path, in.path, name)
		}
		var err error
		if files[name], err = hold(path.Join(dir, name), sums[name]); err != nil {
			return err
		}
		if total += len(files[name]); total > manifest.MaxDefinitionSize {
			return fmt.Errorf("reading /%s in %s: it has more than %d bytes", dir, in.path, manifest.MaxDefinitionSize)
		}
	}
	if in.altered != nil {
		return nil // it is looked at no further
	}
	d, err := manifest.ParseDefinitionFiles(in.path+": /"+dir, files)
	if err != nil {
		return fmt.Errorf("reading what the image was made from: %w", err)
	}
	if want := in.record.Inputs.Definition; d.Sum != want {
		in.altered = &Difference{
			Partition: "root", Path: "/" + dir, Offset: -1, DiskOffset: -1,
			What: fmt.Sprintf("the image definition is %s, /%s says %s: one of the two was changed", d.Sum, record.Path, want),
		}
		return nil
	}
	in.definition = d
	return nil
}

// cutOff is the error for a file that an archive does not hold to its end.
func (in *embeddedInputs) cutOff(name string, fault error) error {
	return fmt.Errorf("reading /%s in %s: it is not there to its end: %w; nothing else says what it was made from", name, in.path, fault)
}

// known requires that the image holds its definition, and that this bake has the
// inputs that an image does not hold.
func (in *embeddedInputs) known(unitFiles fs.FS, programs embedded.Programs) error {
	var wrong []error
	differs := func(what string, got, want manifest.Digest) {
		if got != want {
			wrong = append(wrong, fmt.Errorf("%s: it was made with %s %s, this bake has %s (use the bake that made the image)", in.path, what, want, got))
		}
	}
	if in.definition == nil {
		wrong = append(wrong, fmt.Errorf("%s: /%s names no files of an image definition: an older bake made it (use that one)", in.path, record.Path))
	}
	sum, err := inputs.SumFiles(unitFiles)
	if err != nil {
		return fmt.Errorf("reading units: %w", err)
	}
	differs("units", sum, in.record.Inputs.Units)
	for _, name := range slices.Sorted(maps.Keys(in.record.Inputs.Programs)) {
		program, err := programs.Program(name, in.record.Arch)
		if err != nil {
			wrong = append(wrong, err)
			continue
		}
		differs("embedded program "+name, manifest.SHA256(sha256.Sum256(program)), in.record.Inputs.Programs[name])
	}
	if len(wrong) > 0 {
		return &manifest.ArgumentError{Err: errors.Join(wrong...)}
	}
	return nil
}

// origins are where the image's parts came from.
func (in *embeddedInputs) origins() source.Origins {
	o := source.Origins{Components: map[string]source.Origin{}, Images: map[string]source.Origin{}}
	for _, c := range in.record.Components {
		o.Components[c.Name] = source.Origin(c.Origin)
	}
	for _, image := range in.record.Images {
		o.Images[image.Name] = source.Origin(image.Origin)
	}
	return o
}

// write puts the inputs into dir as they were beside the versions file. The
// definition stays in memory.
func (in *embeddedInputs) write(dir string) error {
	for name, data := range in.files {
		file := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o777); err != nil {
			return err
		}
		if err := os.WriteFile(file, data, 0o666); err != nil {
			return err
		}
	}
	return nil
}
