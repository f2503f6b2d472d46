// Package inputs reads what a person gives to be baked: the versions file, its lock
// and the image definition that it names. Each is kept as it was read as well, for
// the image to carry, and known by its digest.
//
// It does not resolve packages (see package lock) and fetches nothing.
package inputs

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"

	"github.com/nodebake/bake/bake/arch"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/source/debian"
)

// Files says which inputs are read. Versions, Definition and Arch are required.
type Files struct {
	Versions   string    // the versions file
	Lock       string    // its lock; beside it where empty (see manifest.LockFile)
	Definition fs.FS     // the image definition of a versions file that names none: images/worker
	Arch       arch.Arch //

	// Embedded is the image definition of inputs that came out of an image, whatever
	// the versions file names; nil: they are the user's.
	Embedded *manifest.Definition
}

// Inputs are what the files hold.
type Inputs struct {
	Files
	Set        *manifest.Versions
	Definition *manifest.Definition

	VersionsText []byte
	LockText     []byte // once ReadLock has read it
}

// Read reads all but the lock. The error is or joins a [manifest.InputError] or a
// [manifest.ArgumentError] where a person can correct it.
func Read(f Files) (*Inputs, error) {
	if f.Lock == "" {
		f.Lock = manifest.LockFile(f.Versions)
	}
	data, err := os.ReadFile(f.Versions)
	if err != nil {
		return nil, &manifest.ArgumentError{Err: fmt.Errorf("reading the versions file: %w", err)}
	}
	in := &Inputs{Files: f, VersionsText: data}
	if in.Set, err = manifest.ParseVersions(f.Versions, data); err != nil {
		return nil, err
	}
	if in.Definition, err = ReadDefinition(f, in.Set); err != nil {
		return nil, err
	}
	return in, in.Set.Require(required(in.Definition))
}

// ReadDefinition reads the image definition that v names, or else the one of f.
func ReadDefinition(f Files, v *manifest.Versions) (*manifest.Definition, error) {
	if f.Embedded != nil {
		return f.Embedded, nil
	}
	dir, fsys := "built-in images/worker", f.Definition
	if v.Definition != "" {
		dir = v.DefinitionDir()
		info, err := os.Stat(dir)
		problem := ""
		switch {
		case errors.Is(err, fs.ErrNotExist):
			problem = "there is no directory " + dir
		case err != nil:
			problem = err.Error()
		case !info.IsDir():
			problem = dir + " is no directory"
		}
		if problem != "" {
			return nil, &manifest.InputError{Pos: v.DefinitionPos, Key: "definition", Problem: problem + " (correct the path, or remove the key: without it the built-in definition is used)"}
		}
		fsys = os.DirFS(dir)
	}
	d, err := manifest.ParseDefinition(dir, fsys)
	if _, ok := errors.AsType[*manifest.InputError](err); err != nil && !ok {
		return nil, &manifest.ArgumentError{Err: err}
	}
	return d, err
}

// ReadLock reads the lock and requires that it fits the other inputs.
func (in *Inputs) ReadLock() (*manifest.Lock, *manifest.LockedArch, error) {
	lock, locked, err := in.ReadAnyLock()
	if err != nil {
		return nil, nil, err
	}
	return lock, locked, in.Stale(lock)
}

// ReadAnyLock reads the lock, stale or not, and requires that it has a part for the
// architecture.
func (in *Inputs) ReadAnyLock() (*manifest.Lock, *manifest.LockedArch, error) {
	lock, data, err := readLock(in.Lock)
	if errors.Is(err, fs.ErrNotExist) {
		err = &manifest.ArgumentError{Err: fmt.Errorf("there is no lock %s (run: %s)", in.Lock, in.LockCommand())}
	} else if _, ok := errors.AsType[*manifest.InputError](err); ok && in.LockCommand() != "" {
		err = fmt.Errorf("%w\nnobody edits a lock (run: %s)", err, in.LockCommand())
	}
	if err != nil {
		return nil, nil, err
	}
	in.LockText = data
	locked, err := lock.For(in.Arch)
	if err != nil {
		arches := string(in.Arch)
		for _, arch := range slices.Sorted(maps.Keys(lock.Archs)) {
			arches = string(arch) + "," + arches
		}
		return nil, nil, fmt.Errorf("%w (run: %s)", err, manifest.LockCommand(in.Files.Versions, in.Lock, "--arch", arches))
	}
	return lock, locked, nil
}

// ReadLockFile reads a lock, whatever it is of.
func ReadLockFile(path string) (*manifest.Lock, error) {
	lock, _, err := readLock(path)
	return lock, err
}

func readLock(path string) (*manifest.Lock, []byte, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, &manifest.ArgumentError{Err: fmt.Errorf("reading the lock: %w", err)}
	}
	lock, err := manifest.ParseLock(path, data)
	return lock, data, err
}

// LockCommand is the command that makes the lock; "" where it is an image's.
func (in *Inputs) LockCommand() string {
	if in.Embedded != nil {
		return ""
	}
	return manifest.LockCommand(in.Versions, in.Lock)
}

// Stale returns a [manifest.StaleError] unless lock has for the architecture what
// the inputs ask for.
func (in *Inputs) Stale(lock *manifest.Lock) error {
	config, err := in.Packages(in.Arch)
	if err != nil {
		return err
	}
	var wanted []string
	asked := slices.Concat(config.Packages, config.Extra)
	for _, image := range config.Images {
		asked = append(asked, image.Packages...)
	}
	for _, ref := range asked {
		wanted = append(wanted, ref.Name)
	}
	return lock.Stale(in.Set, in.Arch, config.Request(), wanted)
}

// Packages says which packages the inputs ask for, for arch. How they are had is
// for the caller to add.
func (in *Inputs) Packages(arch arch.Arch) (debian.Config, error) {
	asked, err := in.RequestedPackages(arch)
	if err != nil {
		return debian.Config{}, err
	}
	var extra []manifest.PackageRef
	for _, c := range in.Set.Components {
		refs, err := c.ExtraPackages(arch)
		if err != nil {
			return debian.Config{}, err
		}
		extra = append(extra, refs...)
	}
	var images []debian.Image
	for _, c := range in.Set.Images {
		if c.Packages == nil {
			continue
		}
		refs, err := c.PackagesFor(arch)
		if err != nil {
			return debian.Config{}, err
		}
		images = append(images, debian.Image{Name: c.Name, Packages: refs, Pos: c.PackagesPos, Key: "images." + c.Name + ".packages"})
	}
	return debian.Config{
		Suite: in.Set.OS.Suite, Arch: arch, Packages: asked, Extra: extra, Images: images,
		List: "image definition " + in.Definition.Name,
	}, nil
}

// RequestedPackages returns the OS packages that are asked for, those that they need
// not included.
func (in *Inputs) RequestedPackages(arch arch.Arch) ([]manifest.PackageRef, error) {
	definition, err := in.Definition.PackagesFor(arch, in.Set.OS.Suite)
	if err != nil {
		return nil, err
	}
	versions, err := in.Set.OS.PackagesFor(arch)
	return slices.Concat(definition, versions), err
}

// SumFiles returns the digest of all files of fsys, by path and content.
func SumFiles(fsys fs.FS) (manifest.Digest, error) {
	h := sha256.New()
	err := fs.WalkDir(fsys, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := fs.ReadFile(fsys, path)
		if err != nil {
			return err
		}
		fmt.Fprintf(h, "%q %d\n", path, len(content))
		h.Write(content)
		return nil
	})
	return manifest.SHA256([sha256.Size]byte(h.Sum(nil))), err
}
