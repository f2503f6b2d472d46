// Package inspect opens finished images and says what is in them.
//
// [Open] takes a NAME.tar.gz or a raw disk apart with the readers of package
// image: archive, partition table, EFI system partition, root filesystem.
// [Image.Record] reads from the image itself what `bake image` recorded beside
// it. What is wrong with an image is said by package lint.
//
// It starts no program, needs no root and writes nothing but a temporary disk.
package inspect

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/nodebake/bake/bake/arch"
	"github.com/nodebake/bake/bake/image/archive"
	"github.com/nodebake/bake/bake/image/ext4"
	"github.com/nodebake/bake/bake/image/fat"
	"github.com/nodebake/bake/bake/image/gpt"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/record"
)

// The formats that Open tells apart by content.
const (
	TarGz = "tar.gz"
	Raw   = "raw"
)

// Image is an opened image. Close it after use.
type Image struct {
	Path   string
	Format string      // TarGz or Raw
	Source *os.File    // what was at Path when it was opened, to be read by ReadAt; nil in tests
	Disk   io.ReaderAt // may be read by several goroutines
	Size   int64       // of the disk, bytes
	Arch   arch.Arch
	Table  *gpt.Table
	ESP    *fat.Volume
	Root   *ext4.FS

	// Of an archive that is damaged, see [OpenFile].
	Fault error // why it could be read up to a place only; nil: it is whole
	Have  int64 // bytes of the disk that were there; Size where Fault is behind them or nil

	unpacked *os.File // the temporary disk of an archive
	remove   bool     // whether it has a name

	fragments *ext4.FS // of the root, opened by Fragment

	info   os.FileInfo // of Source when it was opened
	length int64
	sum    *[sha256.Size]byte // once it is known

	Files         *Files // of Root
	Boot          BootFiles
	LoaderEntries []LoaderEntry
	Kernels       []*Kernel // of entries
}

// faults are the reasons why parts of an image could not be opened. A part
// that lies in another one that could not be opened has none of its own.
type Faults struct {
	Archive error
	Table   error
	ESP     error
	Root    error
}

func (f *Faults) join() error { return errors.Join(f.Archive, f.Table, f.ESP, f.Root) }

// NotImageError says that a file cannot be read as an image: it is not there,
// is something else, or is damaged.
type NotImageError struct {
	Path string
	Err  error
}

func (e *NotImageError) Error() string { return fmt.Sprintf("opening the image %s: %v", e.Path, e.Err) }

func (e *NotImageError) Unwrap() error { return e.Err }

// Open opens the image at path. What is wrong with the image is a
// [NotImageError]. The disk of a tar.gz is unpacked, without its zeroes, to a
// temporary file in tmpDir, which must exist.
func Open(ctx context.Context, path, tmpDir string) (*Image, error) {
	m, faults, err := OpenPartly(ctx, path, tmpDir)
	if err != nil {
		return nil, err
	}
	if err := faults.join(); err != nil {
		m.Close()
		return nil, &NotImageError{path, err}
	}
	return m, nil
}

// open opens as much as there is. It fails where there is no image at all.
func OpenPartly(ctx context.Context, path, tmpDir string) (*Image, *Faults, error) {
	m, err := OpenFile(path)
	if err != nil {
		return nil, nil, err
	}
	if err := m.unpack(ctx, tmpDir); err != nil {
		m.Close()
		return nil, nil, err
	}
	if m.Fault != nil {
		return m, &Faults{Archive: m.Fault}, nil
	}
	return m, m.OpenDisk(), nil
}

var errNotRegular = errors.New("it is not a regular file")

// OpenFile opens the image at path and reads nothing but its first bytes. Until
// [Image.Unpack] it can be asked for its digest alone, by [Image.File]. The path
// is never opened again: whoever replaces the file meanwhile changes nothing.
func OpenFile(path string) (*Image, error) {
	f, err := openRegular(path)
	if err != nil {
		return nil, &NotImageError{path, err}
	}
	m := &Image{Path: path, Source: f}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errNotRegular
	}
	if err == nil {
		m.info, m.length = info, info.Size()
		m.Format, err = sniff(f)
	}
	if err != nil {
		f.Close()
		return nil, &NotImageError{path, err}
	}
	return m, nil
}

// sniff tells the format of an image by its first bytes: gzip's magic (RFC
// 1952 section 2.3.1), or the signature of a boot record or of a partition
// table's header (UEFI 2.10, tables 5.1 and 5.5), one of which also a damaged
// disk has.
func sniff(r io.ReaderAt) (string, error) {
	start := make([]byte, 520)
	n, err := r.ReadAt(start, 0)
	if err != nil && err != io.EOF {
		return "", err
	}
	start = start[:n]
	switch {
	case n >= 2 && start[0] == 0x1f && start[1] == 0x8b:
		return TarGz, nil
	case n == 520 && (start[510] == 0x55 && start[511] == 0xaa || string(start[512:]) == "EFI PART"):
		return Raw, nil
	}
	return "", errors.New("it is neither a tar.gz nor a disk with a partition table")
}

// unpack sets Disk: the file itself, or what is unpacked of an archive. What is
// wrong with the archive becomes Fault; an error is about this machine.
func (m *Image) unpack(ctx context.Context, tmpDir string) error {
	if m.Format == Raw {
		m.Disk, m.Size, m.Have = m.Source, m.length, m.length
		return nil
	}
	if err := m.unpackArchive(ctx, tmpDir); err != nil {
		return fmt.Errorf("unpacking %s: %w", m.Path, err)
	}
	return nil
}

// unpackArchive takes the archive's digest on the way, also where only a part of
// it can be unpacked: what was hashed is what was unpacked.
//
// A file was chosen over memory and over an index into the compressed stream:
// checkers look everywhere (both GPTs, the ESP, metadata in every block group,
// and files), gzip's own checksum wants one whole pass in any case, an index
// would hold 32 KiB of window per entry for archives that others made, and
// outside checkers want a file. The kernel keeps as much of it in memory as it
// finds good.
func (m *Image) unpackArchive(ctx context.Context, dir string) error {
	disk, err := os.CreateTemp(dir, "bake-disk-*.raw")
	if err != nil {
		return fmt.Errorf("making a temporary disk: %w", err)
	}
	m.unpacked, m.Disk = disk, disk
	m.remove = os.Remove(disk.Name()) != nil // refused on Windows while it is open
	sum := sha256.New()
	in := &countingReader{r: io.TeeReader(&ctxReader{ctx, io.NewSectionReader(m.Source, 0, m.length+1)}, sum)}
	size, fault := archive.Unpack(ctx, in, disk)
	m.Size, m.Have = size, size
	if partial, ok := errors.AsType[*archive.PartialError](fault); ok {
		m.Size, m.Have = partial.Size, partial.Have
	}
	var pathError *os.PathError
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.As(fault, &pathError): // of the temporary disk, or reading the file
		return fault
	}
	m.Fault = fault
	if fault != nil && m.Size == 0 {
		return nil // it may be anything, of any size
	}
	if _, err := io.CopyBuffer(io.Discard, struct{ io.Reader }{in}, make([]byte, 1<<20)); err != nil {
		return err
	}
	got := [sha256.Size]byte(sum.Sum(nil))
	if in.n != m.length || m.sum != nil && *m.sum != got {
		return errChanged
	}
	m.sum = &got
	return nil
}

// errChanged says that somebody wrote to the image meanwhile.
var errChanged = errors.New("it changed while it was read")

// Unchanged fails where the image's file is not what it was when it was opened.
// Of a raw disk, which is read where it lies, only this says that what was
// hashed is what was looked at.
func (m *Image) Unchanged() error {
	info, err := m.Source.Stat()
	if err == nil && (info.Size() != m.info.Size() || !info.ModTime().Equal(m.info.ModTime())) {
		err = errChanged
	}
	if err != nil {
		return fmt.Errorf("reading %s: %w", m.Path, err)
	}
	return nil
}

// ctxReader reads until ctx is done.
type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *ctxReader) Read(p []byte) (int, error) {
	if err := context.Cause(c.ctx); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

type countingReader struct {
	r io.Reader
	n int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// openDisk opens what m.Disk holds, as far as it can be.
func (m *Image) OpenDisk() *Faults {
	var f Faults
	if m.Table, f.Table = gpt.Read(m.Disk, m.Size); f.Table != nil {
		// The rest is looked at all the same where one copy is good.
		var err error
		if m.Table, err = gpt.ReadAny(m.Disk, m.Size); err != nil {
			return &f
		}
	}
	if f.ESP = m.openESP(); f.ESP != nil {
		f.ESP = fmt.Errorf("EFI system partition: %w", f.ESP)
	}
	if f.Root = m.openRoot(); f.Root != nil {
		f.Root = fmt.Errorf("root partition: %w", f.Root)
	}
	if m.ESP != nil && m.Files != nil {
		for i := range m.LoaderEntries {
			m.Kernels = append(m.Kernels, readKernel(m.Files, m.Boot, &m.LoaderEntries[i]))
		}
	}
	return &f
}

func (m *Image) openESP() error {
	p, err := m.partition("an EFI system", func(t gpt.GUID) bool { return t == gpt.ESPType() })
	if err != nil {
		return err
	}
	if m.ESP, err = fat.Open(m.part(p), p.Length); err != nil {
		return err
	}
	m.Boot = BootFiles{m.ESP.FS()}
	m.LoaderEntries, err = m.Boot.loaderEntries()
	return err
}

func (m *Image) openRoot() error {
	p, err := m.RootPartition()
	if err != nil {
		return err
	}
	m.Arch, _ = RootArch(p.Type)
	root, err := ext4.Open(m.part(p))
	if err != nil {
		return err
	}
	files, err := readFiles(root)
	if err != nil {
		return err
	}
	m.Root, m.Files = root, files
	return nil
}

// RootPartition returns the root filesystem's partition.
func (m *Image) RootPartition() (*gpt.Partition, error) {
	return m.partition("a root", func(t gpt.GUID) bool { _, ok := RootArch(t); return ok })
}

// RootArch returns the architecture of a type of root partitions.
func RootArch(t gpt.GUID) (arch.Arch, bool) {
	for _, arch := range arch.All() {
		if root, ok := gpt.RootType(string(arch)); ok && root == t {
			return arch, true
		}
	}
	return "", false
}

// partition returns the only partition whose type is wanted.
func (m *Image) partition(what string, wanted func(gpt.GUID) bool) (*gpt.Partition, error) {
	var found *gpt.Partition
	for i := range m.Table.Partitions {
		p := &m.Table.Partitions[i]
		switch {
		case !wanted(p.Type):
		case found != nil:
			return nil, fmt.Errorf("partitions %d and %d both have the type of %s partition", found.Number, p.Number, what)
		default:
			found = p
		}
	}
	if found == nil {
		return nil, fmt.Errorf("no partition has the type of %s partition", what)
	}
	return found, nil
}

func (m *Image) part(p *gpt.Partition) io.ReaderAt {
	return io.NewSectionReader(m.Disk, p.Start, p.Length)
}

// Close closes the file and drops the temporary disk.
func (m *Image) Close() error {
	var err error
	if m.Source != nil {
		err = m.Source.Close()
	}
	if m.unpacked != nil {
		err = errors.Join(err, m.unpacked.Close())
	}
	if m.remove {
		err = errors.Join(err, os.Remove(m.unpacked.Name()))
	}
	return err
}

// Hashed reports whether the digest of the file is known already: unpacking an
// archive gives it.
func (m *Image) Hashed() bool { return m.sum != nil }

// File describes the file that was opened, whose digest is taken now if it was
// not before.
func (m *Image) File(ctx context.Context) (*record.File, error) {
	if m.sum == nil {
		sum := sha256.New()
		in := &ctxReader{ctx, io.NewSectionReader(m.Source, 0, m.length)}
		n, err := io.CopyBuffer(sum, struct{ io.Reader }{in}, make([]byte, 1<<20))
		if err == nil && n != m.length {
			err = errChanged
		}
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", m.Path, err)
		}
		m.sum = (*[sha256.Size]byte)(sum.Sum(nil))
	}
	return &record.File{Name: filepath.Base(m.Path), Format: m.Format, Size: m.length, SHA256: manifest.SHA256(*m.sum)}, nil
}
