// Package verify rebuilds an image from what it records, and compares every byte. It
// also verifies the signature beside an image.
//
// A versions file is code: whether one that came out of an image may be fetched and
// built from is decided in trust.go.
package verify

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/nodebake/bake/bake"
	"github.com/nodebake/bake/bake/gce"
	"github.com/nodebake/bake/bake/image/archive"
	"github.com/nodebake/bake/bake/image/extent"
	"github.com/nodebake/bake/bake/inputs"
	"github.com/nodebake/bake/bake/inspect"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/progress"
	"github.com/nodebake/bake/bake/record"
	"github.com/nodebake/bake/bake/sbom/slsa"
	"github.com/nodebake/bake/bake/source"
	"github.com/nodebake/bake/bake/tree"
)

// Config says which image to rebuild, and with what. Image, TmpDir, Units and Cache are
// required.
type Config struct {
	Image  string // NAME.tar.gz or a raw disk
	TmpDir string // for what is unpacked; it must exist

	// Key is the public key (PEM) whose owner must have signed the image's
	// provenance; nil: nobody. It is verified before anything else. Bundle is the
	// signature's file; "": NAME.sigstore.json beside the image. Files must have the
	// names under which they were signed.
	Key           []byte
	Bundle        string
	SignatureOnly bool // make nothing again

	// Without a signature, what the image was made from is fetched and built again
	// only if the user vouches for it. Versions is a versions file of his, "" for
	// none: it, and the lock, the modules and the image definition that belong to it as
	// far as they are there, must be the image's. TrustInputs takes the image's as they
	// are.
	Versions    string
	TrustInputs bool

	source.Options
	Units      fs.FS // systemd units of bake's own, which the image must have been built with
	Definition fs.FS // the image definition of Versions where it names none: images/worker
}

// Result says whether an image is what its inputs make.
type Result struct {
	Image     string          `json:"image"` // path
	SHA256    manifest.Digest `json:"sha256"`
	Size      int64           `json:"size"`      // bytes
	Rebuilt   bool            `json:"rebuilt"`   // it was rebuilt
	Identical bool            `json:"identical"` // every byte is what was made

	// NotVouched says why the image was not rebuilt, and Contradictions in what
	// it is not as it says of itself. Both are empty where it was rebuilt.
	NotVouched     string   `json:"notVouched,omitempty"`
	Contradictions []string `json:"contradictions,omitempty"`

	Signature *Signature `json:"signature,omitempty"` // nil where no key was given

	Difference *Difference     `json:"difference,omitempty"` // the first one; nil where Identical
	Changes    []record.Change `json:"changes,omitempty"`    // Old as rebuilt, New as the image is; at most maxChanges
	More       int             `json:"more,omitempty"`       // changes beside those
}

// maxChanges bounds how many changes a result lists.
const maxChanges = 20

// Difference is the first place at which an image is not what was rebuilt.
type Difference struct {
	Partition  string `json:"partition"`      // its name; "" outside of all; "archive": the disk is the same
	Path       string `json:"path,omitempty"` // absolute, of the file or directory that the place belongs to; "" where it is none's
	Offset     int64  `json:"offset"`         // in the file's content; else in the partition, on the disk or in the archive; -1: not known
	DiskOffset int64  `json:"diskOffset"`     // bytes from the beginning of the disk; -1: none
	What       string `json:"what"`           // "content", "inode 12", "free space", "partition table", or a sentence
	Want       string `json:"want,omitempty"` // up to 16 bytes from there on, hexadecimal, as rebuilt
	Got        string `json:"got,omitempty"`  // the same of the image
}

// String is one line: "root: /etc/hosts: content differs at 12 (...)".
func (d *Difference) String() string {
	where := d.Partition
	if where == "" {
		where = "disk"
	}
	if d.Path != "" {
		where += ": " + d.Path
	}
	text := where + ": " + d.What
	if d.Offset >= 0 {
		text += fmt.Sprintf(": differs at %d", d.Offset)
	}
	if d.DiskOffset >= 0 && d.DiskOffset != d.Offset {
		text += fmt.Sprintf(" (%d of the disk)", d.DiskOffset)
	}
	if d.Want != "" || d.Got != "" {
		text += fmt.Sprintf(": want %s, it has %s", orNothing(d.Want), orNothing(d.Got))
	}
	return text
}

func orNothing(s string) string {
	if s == "" {
		return "nothing"
	}
	return s
}

// Run rebuilds an image from what it holds about its inputs and compares
// all of it, if somebody vouches for these (see trust.go); else it is held
// against its record. That it differs, or that its signature is wrong, is no
// error. An image without the signature that is asked for is not looked at any
// further. Inputs that this bake does not have, such as other units, are an [manifest.ArgumentError].
//
// The image's file is opened once: what was hashed and signed is what is
// compared. Nothing is written but the store and, of an archive, the disk that
// is in it, to a temporary file.
func Run(ctx context.Context, c Config) (*Result, error) {
	if c.Progress == nil {
		c.Progress = progress.Discard{}
	}
	if c.Jobs == 0 {
		c.Jobs = 1
	}
	m, err := inspect.OpenFile(c.Image)
	if err != nil {
		return nil, &manifest.ArgumentError{Err: err}
	}
	defer m.Close()
	result := &Result{Image: c.Image}
	var signed slsa.Inputs
	if c.Key != nil {
		result.Signature, signed, err = verifySignature(ctx, m, c)
		if err != nil || !result.Signature.Valid {
			return result, err
		}
	}
	progress.Phase(c.Progress, "read")
	progress.Expect(c.Progress, 1)
	shown := c.Progress.Start("read", filepath.Base(c.Image), 0)
	in, err := c.read(ctx, m)
	if err != nil {
		shown.End("failed")
		return nil, err
	}
	file, err := m.File(ctx)
	if err != nil {
		shown.End("failed")
		return nil, err
	}
	shown.End("done")
	progress.Phase(c.Progress, "")
	result.SHA256, result.Size = file.SHA256, file.Size
	if s := result.Signature; s != nil {
		if s.hold(signed, in); !s.Valid {
			return result, nil
		}
	}
	if err := m.Unchanged(); err != nil {
		return nil, err
	}
	if c.SignatureOnly {
		return result, nil
	}
	if in.altered != nil {
		result.Difference = in.altered
		return result, nil
	}
	if err := in.known(c.Units, c.Programs); err != nil {
		return nil, err
	}
	v, err := c.vouchers(result.Signature, in)
	if err != nil {
		return nil, err
	}
	if why := v.vouch(in.sums()); why != nil {
		result.NotVouched = why.Error()
		err = result.look(ctx, m, in, &c)
	} else {
		err = result.rebuild(ctx, m, in, &c)
	}
	if err != nil {
		return nil, err
	}
	return result, m.Unchanged()
}

// read reads from m what it was made from.
func (c *Config) read(ctx context.Context, m *inspect.Image) (*embeddedInputs, error) {
	if err := m.Unpack(ctx, c.TmpDir); err != nil {
		if _, ok := errors.AsType[*inspect.NotImageError](err); ok {
			return nil, &manifest.ArgumentError{Err: err}
		}
		return nil, err
	}
	return readInside(m)
}

// rebuild makes the image m again from in and compares.
func (r *Result) rebuild(ctx context.Context, m *inspect.Image, in *embeddedInputs, c *Config) error {
	dir, err := os.MkdirTemp(c.TmpDir, "bake-verify-")
	if err != nil {
		return fmt.Errorf("making a directory for the image's inputs: %w", err)
	}
	defer os.RemoveAll(dir)
	if err := in.write(dir); err != nil {
		return fmt.Errorf("writing the image's inputs: %w", err)
	}
	// Who baked may have given a name. It has no placeholders.
	if err := gce.CheckImageName(in.record.Name); err != nil {
		return &manifest.ArgumentError{Err: fmt.Errorf("the record in %s: %w", c.Image, err)}
	}
	config := bake.Config{
		Files: inputs.Files{
			Versions: filepath.Join(dir, record.VersionsName), Lock: filepath.Join(dir, record.LockName),
			Arch: in.record.Arch, Embedded: in.definition,
		},
		Options: c.Options, Choice: source.Choice{Origins: in.origins()}, Units: c.Units,
		Name: in.record.Name, Format: bake.Format(m.Format),
	}
	config.Confined = true
	b, err := bake.New(config)
	if err != nil {
		return fmt.Errorf("reading the inputs that %s holds: %w", c.Image, err)
	}
	defer b.Close()
	err = b.Rebuild(ctx, func(built *bake.Composed) error {
		progress.Phase(c.Progress, "compare")
		r.Rebuilt = true
		var err error
		if r.Difference, err = c.difference(ctx, b.Store(), m, built, r); err != nil {
			return err
		}
		r.Identical = r.Difference == nil
		if !r.Identical && r.Difference.DiskOffset >= 0 {
			r.changes(ctx, m, in.record, built, c.Jobs)
		}
		progress.Phase(c.Progress, "")
		return nil
	})
	if _, ok := errors.AsType[*manifest.StaleError](err); ok {
		return &manifest.ArgumentError{Err: fmt.Errorf("%s: the lock that it holds was made for other packages than its versions file and image definition ask for", m.Path)}
	}
	return err
}

// difference returns the first place at which m is not what was built, or nil.
func (c *Config) difference(ctx context.Context, cache archive.Cache, m *inspect.Image, built *bake.Composed, result *Result) (*Difference, error) {
	options := archive.Options{Epoch: 0, Workers: c.Jobs, Cache: cache, Progress: c.Progress}
	if m.Format == inspect.TarGz {
		// The digest of this plan's archive may be known from when it was made.
		if before, ok := archive.Lookup(&built.List, options); ok && manifest.SHA256(before.SHA256) == result.SHA256 && before.Size == result.Size {
			shown := c.Progress.Start("compare", filepath.Base(m.Path), 0)
			shown.End("cached")
			return nil, nil
		}
	}
	at, err := c.firstDifference(ctx, m, &built.List)
	if err != nil {
		return nil, err
	}
	if at >= 0 {
		return locate(m, &built.List, at)
	}
	if m.Format != inspect.TarGz {
		return nil, nil
	}
	progress.Expect(c.Progress, 1)
	d, made, err := compareArchive(ctx, m, &built.List, options)
	if err != nil || d != nil {
		return d, err
	}
	if err := archive.Remember(&built.List, options, archive.Digest{Size: made.Size, SHA256: made.SHA256}); err != nil {
		c.Progress.Note("the digest of %s could not be kept for next time: %v", m.Path, err)
	}
	return nil, nil
}

// locate describes the difference at an offset of the disk.
func locate(m *inspect.Image, want *extent.List, at int64) (*Difference, error) {
	d := &Difference{DiskOffset: at, Want: hexAt(want.Reader(), at, want.Size), Got: hexAt(m.Disk, at, m.Have)}
	place, err := inspect.Locate(want.Reader(), want.Size, at)
	var corrupt *tree.CorruptError
	switch {
	case errors.As(err, &corrupt):
		return nil, err // it is rebuilt
	case err != nil:
		return nil, fmt.Errorf("BUG: finding what lies at %d of the planned disk: %w", at, err)
	}
	d.Partition, d.Path, d.Offset, d.What = place.Partition, place.Path, place.Offset, place.What
	switch {
	case at >= want.Size:
		d.What = fmt.Sprintf("the disk has %d bytes, want %d", m.Size, want.Size)
	case at >= m.Have && m.Fault != nil:
		d.What += ", and everything behind it, is missing: " + m.Fault.Error()
	case at >= m.Have:
		d.What += fmt.Sprintf(", and everything behind it, is missing: the disk has %d bytes, want %d", m.Have, want.Size)
	}
	return d, nil
}

// hexAt returns up to 16 bytes of r, which has size bytes.
func hexAt(r io.ReaderAt, at, size int64) string {
	buf := make([]byte, max(0, min(16, size-at)))
	n, err := r.ReadAt(buf, at)
	if err != nil && err != io.EOF {
		return ""
	}
	return hex.EncodeToString(buf[:n])
}

// asRead returns files as they are read from a filesystem, where all names of
// a file have one mode and owner.
func asRead(files []record.Entry) []record.Entry {
	files = slices.Clone(files)
	first := map[string]*record.Entry{}
	for i := range files {
		first[files[i].Path] = &files[i]
	}
	for i := range files {
		e := &files[i]
		if e.Type != tree.Hardlink {
			continue
		}
		if f := first["/"+e.Link]; f != nil {
			e.Mode, e.UID, e.GID, e.Xattrs = f.Mode, f.UID, f.GID, nil
		}
	}
	return files
}

// changes lists in what the image differs, as far as it can be read: what it
// says of itself, and its files.
func (r *Result) changes(ctx context.Context, m *inspect.Image, inside *record.Record, built *bake.Composed, jobs int) {
	want, got := *built.Record, *inside
	want.Disk, want.File, want.Files = record.Disk{}, nil, nil
	// Inside the image arguments that the disk brings, such as root=, are missing.
	want.KernelArguments = inside.KernelArguments
	if m.Fault == nil && m.OpenParts() == nil {
		if whole, err := m.Record(ctx, jobs); err == nil {
			got = *whole
			want = *built.Record
			want.Files = asRead(want.Files)
			got.File = nil
		}
	}
	changes := record.Diff(&want, &got)
	if len(changes) > maxChanges {
		r.More = len(changes) - maxChanges
		changes = changes[:maxChanges]
	}
	r.Changes = changes
}
