package bake

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/nodebake/bake/bake/image/archive"
	"github.com/nodebake/bake/bake/image/extent"
	"github.com/nodebake/bake/bake/inspect"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/progress"
	"github.com/nodebake/bake/bake/record"
	"github.com/nodebake/bake/bake/sbom/slsa"
	"github.com/nodebake/bake/bake/tree"
)

// VerifyConfig says which image to make again, and with what.
type VerifyConfig struct {
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

	// Config is what it is made with: Units, Cache, mirrors and so on. Versions,
	// Lock, Arch, Origin, Origins, Out and Format come from the image, as does the
	// image definition: Definition is that of Versions where it names none. Sign is
	// not used.
	Config Config
}

// VerifyResult says whether an image is what its inputs make.
type VerifyResult struct {
	Image     string       `json:"image"` // path
	SHA256    manifest.Sum `json:"sha256"`
	Size      int64        `json:"size"`      // bytes
	Rebuilt   bool         `json:"rebuilt"`   // it was made again
	Identical bool         `json:"identical"` // every byte is what was made

	// NotVouched says why the image was not made again, and Contradictions in what
	// it is not as it says of itself. Both are empty where it was made again.
	NotVouched     string   `json:"notVouched,omitempty"`
	Contradictions []string `json:"contradictions,omitempty"`

	Signature *Signature `json:"signature,omitempty"` // nil where no key was given

	Difference *Difference     `json:"difference,omitempty"` // the first one; nil where Identical
	Changes    []record.Change `json:"changes,omitempty"`    // Old as it was made again, New as the image is; at most maxChanges
	More       int             `json:"more,omitempty"`       // changes beside those
}

// maxChanges bounds how many changes a result lists.
const maxChanges = 20

// Difference is the first place at which an image is not what was made again.
type Difference struct {
	Partition  string `json:"partition"`      // its name; "" outside of all; "archive": the disk is the same
	Path       string `json:"path,omitempty"` // absolute, of the file or directory that the place belongs to; "" where it is none's
	Offset     int64  `json:"offset"`         // in the file's content; else in the partition, on the disk or in the archive; -1: not known
	DiskOffset int64  `json:"diskOffset"`     // bytes from the beginning of the disk; -1: none
	What       string `json:"what"`           // "content", "inode 12", "free space", "partition table", or a sentence
	Want       string `json:"want,omitempty"` // up to 16 bytes from there on, hexadecimal, as they were made again
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

// Verify makes an image again from what it holds about its inputs and compares
// all of it, if somebody vouches for these (see verify_trust.go); else it is held
// against its record. That it differs, or that its signature is wrong, is no
// error. An image without the signature that is asked for is not looked at any
// further. Inputs that this bake does not have, such as other units, are an [manifest.ArgumentError].
//
// The image's file is opened once: what was hashed and signed is what is
// compared. Nothing is written but the store and, of an archive, the disk that
// is in it, to a temporary file.
func Verify(ctx context.Context, c VerifyConfig) (*VerifyResult, error) {
	if c.Config.Progress == nil {
		c.Config.Progress = progress.Discard{}
	}
	m, err := inspect.OpenFile(c.Image)
	if err != nil {
		return nil, &manifest.ArgumentError{Err: err}
	}
	defer m.Close()
	result := &VerifyResult{Image: c.Image}
	var signed slsa.Inputs
	if c.Key != nil {
		result.Signature, signed, err = verifySignature(ctx, m, c)
		if err != nil || !result.Signature.Valid {
			return result, err
		}
	}
	progress.Phase(c.Config.Progress, "read")
	progress.Expect(c.Config.Progress, 1)
	shown := c.Config.Progress.Start("read", filepath.Base(c.Image), 0)
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
	progress.Phase(c.Config.Progress, "")
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
	if err := in.known(c.Config.Units, c.Config.Programs); err != nil {
		return nil, err
	}
	v, err := c.vouchers(result.Signature, in)
	if err != nil {
		return nil, err
	}
	if why := v.vouch(in.sums()); why != nil {
		result.NotVouched = why.Error()
		err = result.look(ctx, m, in, &c.Config)
	} else {
		err = result.rebuild(ctx, m, in, &c)
	}
	if err != nil {
		return nil, err
	}
	return result, m.Unchanged()
}

// read reads from m what it was made from.
func (c *VerifyConfig) read(ctx context.Context, m *inspect.Image) (*inside, error) {
	if err := m.Unpack(ctx, c.TmpDir); err != nil {
		var notImage *inspect.NotImageError
		if errors.As(err, &notImage) {
			return nil, &manifest.ArgumentError{Err: err}
		}
		return nil, err
	}
	return readInside(m)
}

// rebuild makes the image m again from in and compares.
func (r *VerifyResult) rebuild(ctx context.Context, m *inspect.Image, in *inside, c *VerifyConfig) error {
	dir, err := os.MkdirTemp(c.TmpDir, "bake-verify-")
	if err != nil {
		return fmt.Errorf("making a directory for the image's inputs: %w", err)
	}
	defer os.RemoveAll(dir)
	if err := in.write(dir); err != nil {
		return fmt.Errorf("writing the image's inputs: %w", err)
	}
	config := c.Config
	config.Versions, config.Lock = filepath.Join(dir, record.VersionsName), filepath.Join(dir, record.LockName)
	config.Arch, config.Format = in.record.Arch, Format(m.Format)
	config.Origin, config.Origins, config.Out, config.Sign = "", in.origins(), "", ""
	// Who baked may have given a name. It has no placeholders.
	if err := manifest.CheckImageName(in.record.Name); err != nil {
		return &manifest.ArgumentError{Err: fmt.Errorf("the record in %s: %w", c.Image, err)}
	}
	config.Name, config.Confined, config.inside = in.record.Name, true, in.definition
	b, err := New(config)
	if err != nil {
		return fmt.Errorf("reading the inputs that %s holds: %w", c.Image, err)
	}
	defer b.Close()
	return b.verify(ctx, m, in.record, r)
}

// verify makes the image of b again and compares m with it.
func (b *Baker) verify(ctx context.Context, m *inspect.Image, inside *record.Image, result *VerifyResult) error {
	lock, locked, err := b.readLock()
	if stale := (*manifest.StaleError)(nil); errors.As(err, &stale) {
		return &manifest.ArgumentError{Err: fmt.Errorf("%s: the lock that it holds was made for other packages than its versions file and image definition ask for", m.Path)}
	}
	if err != nil {
		return err
	}
	name, given, err := b.imageName(lock)
	if err != nil {
		return err
	}
	sources, err := b.newSource(ctx, locked)
	if err != nil {
		return err
	}
	return b.mending(sources, func() error {
		c, err := b.assemble(ctx, sources, lock, locked, name, given)
		if err != nil {
			return err
		}
		progress.Phase(b.config.Progress, "compare")
		result.Rebuilt = true
		if result.Difference, err = b.difference(ctx, m, c, result); err != nil {
			return err
		}
		result.Identical = result.Difference == nil
		if !result.Identical && result.Difference.DiskOffset >= 0 {
			result.changes(ctx, m, inside, c, b.config.Jobs)
		}
		progress.Phase(b.config.Progress, "")
		return nil
	})
}

// difference returns the first place at which m is not c, or nil.
func (b *Baker) difference(ctx context.Context, m *inspect.Image, c *composed, result *VerifyResult) (*Difference, error) {
	options := archive.Options{Epoch: 0, Workers: b.config.Jobs, Cache: b.store, Progress: b.config.Progress}
	key := planKey(archive.PlanDigest(&c.List, options))
	if m.Format == inspect.TarGz {
		// The digest of this plan's archive may be known from when it was made.
		var before known
		value, ok := b.store.Get(key)
		if ok && json.Unmarshal(value, &before) == nil && manifest.SHA256(before.SHA256) == result.SHA256 && before.Size == result.Size {
			shown := b.config.Progress.Start("compare", filepath.Base(m.Path), 0)
			shown.End("cached")
			return nil, nil
		}
	}
	at, err := b.firstDifference(ctx, m, &c.List)
	if err != nil {
		return nil, err
	}
	if at >= 0 {
		return locate(m, &c.List, at)
	}
	if m.Format != inspect.TarGz {
		return nil, nil
	}
	progress.Expect(b.config.Progress, 1)
	d, made, err := compareArchive(ctx, m, &c.List, options)
	if err != nil || d != nil {
		return d, err
	}
	b.keep(key, known{made.Size, made.SHA256}, output{image: m.Path})
	return nil, nil
}

// locate describes the difference at an offset of the disk.
func locate(m *inspect.Image, want *extent.List, at int64) (*Difference, error) {
	d := &Difference{DiskOffset: at, Want: hexAt(want.Reader(), at, want.Size), Got: hexAt(m.Disk, at, m.Have)}
	place, err := inspect.Locate(want.Reader(), want.Size, at)
	var corrupt *tree.CorruptError
	switch {
	case errors.As(err, &corrupt):
		return nil, err // it is made again
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

// asRead returns files as they are read from a file system, where all names of
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
func (r *VerifyResult) changes(ctx context.Context, m *inspect.Image, inside *record.Image, c *composed, jobs int) {
	want, got := *c.record, *inside
	want.Disk, want.File, want.Files = record.Disk{}, nil, nil
	// Inside the image arguments that the disk brings, such as root=, are missing.
	want.KernelArguments = inside.KernelArguments
	if m.Fault == nil && m.OpenParts() == nil {
		if whole, err := m.Record(ctx, jobs); err == nil {
			got = *whole
			want = *c.record
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
