package bake

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/nodebake/bake/bake/image/archive"
	"github.com/nodebake/bake/bake/inputs"
	"github.com/nodebake/bake/bake/manifest"
)

// output is where an image goes.
type output struct {
	name   string // "k8s-worker-v1-36-3-amd64"
	given  bool   // the name is not the one that the inputs give
	image  string // path of the image
	record string // path of the record

	spdx       string // path of the SBOM
	provenance string // path of the statement how it was made
	bundle     string // path of the signature of that statement

	// before is what was at the image's place when the bake began; nil: nothing.
	before fs.FileInfo
	// present waits for the digest of that file. Reading it takes as long as
	// planning the new one, so both are done at once.
	present func() archive.Digest
}

// imageName returns the name that the image gets, and whether it is one that the
// inputs alone don't give it.
func (b *Baker) imageName(lock *manifest.Lock) (name string, given bool, err error) {
	values := manifest.NameValues{Version: b.version(), Arch: b.config.Arch, Lock: lock.Sum}
	if values.Inputs, err = b.knownInputs(lock); err != nil {
		return "", false, err
	}
	own, err := b.ownName(values)
	if b.config.Name == "" {
		return own, false, err
	}
	if name, err = manifest.ImageName(b.config.Name, values); err != nil {
		return "", false, &manifest.ArgumentError{Err: fmt.Errorf("--name: %w", err)}
	}
	return name, name != own, nil
}

// knownInputs is a digest over all that an image is made of, but for where its
// parts will come from.
func (b *Baker) knownInputs(lock *manifest.Lock) (manifest.Digest, error) {
	units, err := inputs.SumFiles(b.config.Units)
	if err != nil {
		return "", fmt.Errorf("reading units: %w", err)
	}
	sums := []manifest.Digest{b.inputs.Set.Sum, lock.Sum, b.inputs.Definition.Sum, units}
	for _, name := range []string{"firstboot", "init"} {
		program, err := b.programs.program(name)
		if err != nil {
			return "", err
		}
		sums = append(sums, manifest.SHA256(program.SHA256))
	}
	h := sha256.New()
	for _, sum := range sums {
		fmt.Fprintln(h, sum)
	}
	return manifest.SHA256([sha256.Size]byte(h.Sum(nil))), nil
}

// ownName names the image as the versions file says, or else after the
// definition and the kubelet's version.
func (b *Baker) ownName(values manifest.NameValues) (string, error) {
	if b.inputs.Set.Name != "" {
		name, err := manifest.ImageName(b.inputs.Set.Name, values)
		if err != nil {
			return "", fmt.Errorf("BUG: %s: %w", b.config.Versions, err) // it was checked when it was read
		}
		return name, nil
	}
	if values.Version == "" {
		return "", &manifest.ArgumentError{Err: fmt.Errorf("%s: there is no component %s, whose version names the image (give a name by name: there, or by --name)", b.config.Versions, namingComponent)}
	}
	name, err := manifest.ImageName(manifest.DefaultName(b.inputs.Definition.Name), values)
	if err != nil {
		return "", &manifest.ArgumentError{Err: fmt.Errorf("%w; it begins with the definition's name (give another by name: in %s, or by --name)", err, b.config.Versions)}
	}
	return name, nil
}

// prepareOutput names the image, and proves that its directory can be written
// before anything slow begins.
func (b *Baker) prepareOutput(lock *manifest.Lock) (output, error) {
	name, given, err := b.imageName(lock)
	if err != nil {
		return output{}, err
	}
	if err := os.MkdirAll(b.config.Out, 0o777); err != nil {
		return output{}, fmt.Errorf("making the output directory: %w (give another by --output)", err)
	}
	probe, err := os.CreateTemp(b.config.Out, ".bake-*")
	if err != nil {
		return output{}, fmt.Errorf("writing to the output directory: %w (give another by --output)", err)
	}
	probe.Close()
	os.Remove(probe.Name())
	out := output{
		name:   name,
		given:  given,
		image:  filepath.Join(b.config.Out, name+"."+string(b.config.Format)),
		record: filepath.Join(b.config.Out, name+".json"),

		spdx:       filepath.Join(b.config.Out, name+".spdx.json"),
		provenance: filepath.Join(b.config.Out, name+".provenance.json"),
		bundle:     filepath.Join(b.config.Out, name+".sigstore.json"),
	}
	if err := out.free(); err != nil {
		return output{}, err
	}
	if out.before, err = os.Stat(out.image); err == nil {
		present := make(chan archive.Digest, 1)
		go func() { present <- measure(out.image) }()
		out.present = sync.OnceValue(func() archive.Digest { return <-present })
	} else {
		out.present = func() archive.Digest { return archive.Digest{} }
	}
	return out, nil
}

// free fails where something is in the way that is no file: a directory can't be
// replaced, and whoever opens a FIFO to see whether it is the image waits.
func (o output) free() error {
	for _, path := range []string{o.image, o.record, o.spdx, o.provenance, o.bundle} {
		info, err := os.Stat(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return fmt.Errorf("looking at what is there: %w (give another directory by --output)", err)
		case !info.Mode().IsRegular():
			return fmt.Errorf("writing %s: a %s is there (remove it, or give another directory by --output)", path, kindOf(info.Mode()))
		}
	}
	return nil
}

func kindOf(mode fs.FileMode) string {
	switch mode.Type() {
	case fs.ModeDir:
		return "directory"
	case fs.ModeNamedPipe:
		return "FIFO"
	case fs.ModeSocket:
		return "socket"
	}
	return "device"
}

// namingComponent is the component whose version is the image's.
const namingComponent = "kubelet"
