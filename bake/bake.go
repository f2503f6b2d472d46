// Package bake builds Compute Engine images, in a few steps that can be read from
// top to bottom:
//
//	plan     read the versions file, its lock and the definition; decide where
//	         each part comes from, and that it is available       (inputs, source)
//	fetch    bring the parts into the store, unpacked             (source)
//	compose  lay out the root filesystem and the disk            (image)
//	write    stream the disk to what ships, and record it         (image/archive, record)
//
// The digest of what is written is a function of the versions file, the lock,
// the definition, the units, the embedded programs, the image's name and the origin
// of each component and container image. Package verify takes the first three steps
// from what an image records, and compares.
package bake

import (
	"context"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/nodebake/bake/bake/inputs"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/progress"
	"github.com/nodebake/bake/bake/sign"
	"github.com/nodebake/bake/bake/source"
	"github.com/nodebake/bake/bake/source/store"
)

// Config says what to make, of what, and with what. Files, Units, Cache and Out are
// required.
type Config struct {
	inputs.Files
	source.Options
	source.Choice
	Units fs.FS // systemd units of bake's own

	Out    string // directory that the image goes to
	Name   string // of the image, a template (see manifest.ImageName); "": the versions file's, or the definition's
	Format Format // TarGz where empty
	Force  bool   // replace another image of that name in Out

	Sign         string                 // file of the private key that signs what is made; "": nothing is signed
	SignPassword func() ([]byte, error) // of that key, asked only where it is encrypted; nil: there is none
}

// Format is the form of an image.
type Format string

// The formats.
const (
	TarGz Format = "tar.gz" // what Compute Engine imports
	Raw   Format = "raw"    // a sparse disk
)

// ParseFormat reads a format's name.
func ParseFormat(s string) (Format, error) {
	switch f := Format(s); f {
	case TarGz, Raw:
		return f, nil
	}
	return "", fmt.Errorf("format %q is unknown: want %s or %s", s, TarGz, Raw)
}

// Baker makes an image from one configuration.
type Baker struct {
	config   Config
	inputs   *inputs.Inputs
	access   *source.Access
	key      *sign.Key // nil: nothing is signed
	programs embeddedPrograms
}

// New reads and checks the inputs, and opens the store. Close it after use.
func New(c Config) (*Baker, error) {
	if c.Format == "" {
		c.Format = TarGz
	}
	in, err := inputs.Read(c.Files)
	if err != nil {
		return nil, err
	}
	c.Files = in.Files
	key, err := readKey(c.Sign, c.SignPassword)
	if err != nil {
		return nil, err
	}
	access, err := source.Open(c.Options)
	if err != nil {
		return nil, err
	}
	c.Options = access.Options
	return &Baker{config: c, inputs: in, access: access, key: key, programs: embeddedPrograms{arch: c.Arch, programs: c.Programs}}, nil
}

// Close releases the store.
func (b *Baker) Close() error { return b.access.Close() }

// checkNamed requires that there is what BuildNamed names.
func (b *Baker) checkNamed() error {
	var have []string
	for _, c := range b.inputs.Set.Components {
		have = append(have, c.Name)
	}
	for _, i := range b.inputs.Set.Images {
		have = append(have, i.Name)
	}
	for _, name := range b.config.BuildNamed {
		if !slices.Contains(have, name) {
			return &manifest.ArgumentError{Err: fmt.Errorf("%s has no component and no image %q to build where it is missing (it has: %s)", b.config.Versions, name, strings.Join(have, ", "))}
		}
	}
	return nil
}

// epoch is the time of everything that an image holds and that has no older
// time of its own: when the newest of the locked indices was published, in
// seconds since 1970.
func epoch(locked *manifest.LockedArch) int64 {
	var newest time.Time
	for _, r := range locked.Releases {
		if r.Date.After(newest) {
			newest = r.Date
		}
	}
	return newest.Unix()
}

// Image makes the image and its record.
func (b *Baker) Image(ctx context.Context) (*Result, error) {
	if err := b.checkNamed(); err != nil {
		return nil, err
	}
	lock, locked, err := b.inputs.ReadLock()
	if err != nil {
		return nil, err
	}
	out, err := b.prepareOutput(lock)
	if err != nil {
		return nil, err
	}
	if err := b.mayBegin(out, lock); err != nil {
		return nil, err
	}
	go b.programs.prepare()
	var result *Result
	err = b.build(ctx, lock, locked, out.name, out.given, func(c *Composed) error {
		progress.Phase(b.config.Progress, "write")
		result, err = b.write(ctx, c, out)
		return err
	})
	if err != nil {
		return nil, err
	}
	progress.Phase(b.config.Progress, "")
	return result, nil
}

// Rebuild composes the image in memory and calls use with it, for another one to be
// compared with. use is called again where it finds that the store is corrupt.
func (b *Baker) Rebuild(ctx context.Context, use func(c *Composed) error) error {
	lock, locked, err := b.inputs.ReadLock()
	if err != nil {
		return err
	}
	name, given, err := b.imageName(lock)
	if err != nil {
		return err
	}
	return b.build(ctx, lock, locked, name, given, use)
}

// Store keeps what was made before.
func (b *Baker) Store() *store.Store { return b.access.Store }

// build plans, fetches, composes and calls use.
func (b *Baker) build(ctx context.Context, lock *manifest.Lock, locked *manifest.LockedArch, name string, given bool, use func(c *Composed) error) error {
	sources, err := b.access.Source(ctx, b.config.Versions, b.inputs.LockCommand(), b.config.Arch, b.config.Choice)
	if err != nil {
		return err
	}
	return sources.Retry(func() error {
		c, err := b.assemble(ctx, sources, lock, locked, name, given)
		if err != nil {
			return err
		}
		return use(c)
	})
}

// assemble plans, fetches and composes. What is still to be done is one task.
func (b *Baker) assemble(ctx context.Context, sources *source.Source, lock *manifest.Lock, locked *manifest.LockedArch, name string, given bool) (*Composed, error) {
	progress.Phase(b.config.Progress, "plan")
	plan, err := sources.Plan(ctx, b.inputs.Set, locked)
	if err != nil {
		return nil, b.explainMirror(err, lock)
	}
	progress.Phase(b.config.Progress, "fetch")
	progress.Expect(b.config.Progress, 1) // writing the image
	parts, err := sources.Fetch(ctx, plan)
	if err != nil {
		return nil, b.explainMirror(err, lock)
	}
	progress.Phase(b.config.Progress, "compose")
	c, err := b.compose(ctx, sources, parts, lock, locked, name, given)
	if err != nil {
		return nil, err
	}
	c.missing = parts.Missing
	return c, nil
}
