package bake

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

	"github.com/nodebake/bake/bake/bom"
	"github.com/nodebake/bake/bake/check"
	"github.com/nodebake/bake/bake/guest"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/source"
)

// inside is what an image holds about what it was made from.
type inside struct {
	path    string
	record  *bom.Image
	files   map[string][]byte // by their paths below inputsDir
	altered *Difference       // an input that is not what the record says
}

// readInside reads the record and the inputs that m holds, which can be done
// while other parts of m are damaged.
func readInside(m *check.Image) (*inside, error) {
	in := &inside{path: m.Path, files: map[string][]byte{}}
	read := func(name string) ([]byte, error) {
		data, err := m.Fragment(name)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, &InputError{fmt.Errorf("%s holds no /%s: without it nothing says what it was made from (was it made by bake, and by one that has `bake verify`?)", m.Path, name)}
		}
		if err != nil {
			return nil, fmt.Errorf("reading /%s in %s: %w; nothing else says what it was made from", name, m.Path, errors.Join(err, m.Fault))
		}
		return data, nil
	}
	data, err := read(recordPath)
	if err != nil {
		return nil, err
	}
	if in.record, err = bom.Read("/"+recordPath+" in "+m.Path, bytes.NewReader(data)); err != nil {
		if m.Fault != nil {
			return nil, in.cutOff(recordPath, m.Fault)
		}
		return nil, err
	}
	sums := maps.Clone(in.record.Inputs.Modules)
	if sums == nil {
		sums = map[string]manifest.Sum{}
	}
	sums[versionsName], sums[lockName] = in.record.Inputs.Versions, in.record.Inputs.Lock
	for _, name := range slices.Sorted(maps.Keys(sums)) {
		if err := manifest.CheckLocalPath(name); err != nil {
			return nil, fmt.Errorf("reading /%s in %s: its module file %w", recordPath, m.Path, err)
		}
		if in.files[name], err = read(path.Join(inputsDir, name)); err != nil {
			return nil, err
		}
		if got := manifest.SHA256(sha256.Sum256(in.files[name])); got != sums[name] && m.Fault != nil {
			return nil, in.cutOff(path.Join(inputsDir, name), m.Fault)
		} else if got != sums[name] && in.altered == nil {
			in.altered = &Difference{
				Partition: "root", Path: "/" + path.Join(inputsDir, name), Offset: -1, DiskOffset: -1,
				What: fmt.Sprintf("the file has %s, /%s says %s: one of the two was changed", got, recordPath, sums[name]),
			}
		}
	}
	return in, nil
}

// cutOff is the error for a file that an archive does not hold to its end.
func (in *inside) cutOff(name string, fault error) error {
	return fmt.Errorf("reading /%s in %s: it is not there to its end: %w; nothing else says what it was made from", name, in.path, fault)
}

// known requires that this bake has the inputs that the image does not hold.
func (in *inside) known(definition, unitFiles fs.FS) error {
	var wrong []error
	differs := func(what, remedy string, got, want manifest.Sum) {
		if got != want {
			wrong = append(wrong, fmt.Errorf("%s: it was made with %s %s, this bake has %s (%s)", in.path, what, want, got, remedy))
		}
	}
	d, err := manifest.ParseDefinition(definition)
	if err != nil {
		return err
	}
	const sameBake = "use the bake that made the image"
	differs("image definition", sameBake+", or give the definition by --definition", d.Sum, in.record.Inputs.Definition)
	sum, err := sumFiles(unitFiles)
	if err != nil {
		return fmt.Errorf("reading units: %w", err)
	}
	differs("units", sameBake, sum, in.record.Inputs.Units)
	for _, name := range slices.Sorted(maps.Keys(in.record.Inputs.Guest)) {
		program, err := guest.Program(name, in.record.Arch)
		if err != nil {
			wrong = append(wrong, err)
			continue
		}
		differs("guest program "+name, sameBake, manifest.SHA256(sha256.Sum256(program)), in.record.Inputs.Guest[name])
	}
	if len(wrong) > 0 {
		return &InputError{errors.Join(wrong...)}
	}
	return nil
}

// origins are where the image's parts came from.
func (in *inside) origins() source.Origins {
	o := source.Origins{Components: map[string]source.Origin{}, Images: map[string]source.Origin{}}
	for _, c := range in.record.Components {
		o.Components[c.Name] = source.Origin(c.Origin)
	}
	for _, image := range in.record.Images {
		o.Images[image.Name] = source.Origin(image.Origin)
	}
	return o
}

// write puts the inputs into dir as they were beside the versions file.
func (in *inside) write(dir string) error {
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
