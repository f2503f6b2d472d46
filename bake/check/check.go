// Package check opens finished images and says what is in them and what is
// wrong with them.
//
// [Open] takes a NAME.tar.gz or a raw disk apart with the readers of package
// image: archive, partition table, EFI system partition, root file system.
// [Image.Record] reads from the image itself what `bake image` recorded beside
// it. [Lint] holds an image against [Rules]: what Compute Engine, systemd and
// this project ask of an image.
//
// It starts no program, needs no root and writes nothing but a temporary disk.
// It does not boot images, verify signatures of boot loaders, or check what
// only a running machine shows; test/qemu does.
package check

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/nodebake/bake/bake/bom"
	"github.com/nodebake/bake/bake/image/archive"
	"github.com/nodebake/bake/bake/image/ext4"
	"github.com/nodebake/bake/bake/image/fat"
	"github.com/nodebake/bake/bake/image/gpt"
	"github.com/nodebake/bake/bake/manifest"
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
	Disk   io.ReaderAt // may be read by several goroutines
	Size   int64       // of the disk, bytes
	Arch   manifest.Arch
	Table  *gpt.Table
	ESP    *fat.Volume
	Root   *ext4.FS

	// Of an archive that is damaged, see [OpenDisk].
	Fault error // why it could be read up to a place only; nil: it is whole
	Have  int64 // bytes of the disk that were there; Size where Fault is behind them or nil

	file   *os.File // what Disk reads; nil in tests
	remove bool     // whether file has a name that is temporary

	fragments *ext4.FS // of the root, opened by Fragment

	sum    *[sha256.Size]byte
	length int64 // of the file at Path

	files   *files // of Root
	esp     esp
	entries []loaderEntry
	kernels []*kernel // of entries
}

// faults are the reasons why parts of an image could not be opened. A part
// that lies in another one that could not be opened has none of its own.
type faults struct {
	archive error
	table   error
	esp     error
	root    error
}

func (f *faults) join() error { return errors.Join(f.archive, f.table, f.esp, f.root) }

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
	m, faults, err := open(ctx, path, tmpDir)
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
func open(ctx context.Context, path, tmpDir string) (*Image, *faults, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, &NotImageError{path, err}
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("it is not a regular file")
	}
	var format string
	if err == nil {
		format, err = sniff(f)
	}
	if err != nil {
		f.Close()
		return nil, nil, &NotImageError{path, err}
	}
	m := &Image{Path: path, Format: format, length: info.Size()}
	if format == Raw {
		m.file, m.Disk, m.Size, m.Have = f, f, info.Size(), info.Size()
		return m, m.openDisk(), nil
	}
	defer f.Close()
	unpacked, err := m.unpack(ctx, f, tmpDir)
	if err != nil {
		m.Close()
		return nil, nil, fmt.Errorf("unpacking %s: %w", path, err)
	}
	if unpacked != nil {
		return m, &faults{archive: unpacked}, nil
	}
	return m, m.openDisk(), nil
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

// unpack unpacks the disk of the archive in f and takes the archive's digest on
// the way. The first error is about the archive, the second about this machine.
func (m *Image) unpack(ctx context.Context, f *os.File, dir string) (fault, err error) {
	disk, err := os.CreateTemp(dir, "bake-disk-*.raw")
	if err != nil {
		return nil, fmt.Errorf("making a temporary disk: %w", err)
	}
	m.file, m.Disk = disk, disk
	m.remove = os.Remove(disk.Name()) != nil // refused on Windows while it is open
	sum := sha256.New()
	in := &countingReader{r: io.TeeReader(f, sum)}
	m.Size, fault = archive.Unpack(ctx, in, disk)
	m.Have = m.Size
	var partial *archive.PartialError
	if errors.As(fault, &partial) {
		m.Size, m.Have = partial.Size, partial.Have
	}
	var pathError *os.PathError
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case errors.As(fault, &pathError): // of the temporary disk, or reading f
		return nil, fault
	case fault != nil:
		return fault, nil
	case in.n != m.length:
		return nil, fmt.Errorf("it changed while it was read: %d bytes, then %d", m.length, in.n)
	}
	m.sum = (*[sha256.Size]byte)(sum.Sum(nil))
	return nil, nil
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
func (m *Image) openDisk() *faults {
	var f faults
	if m.Table, f.table = gpt.Read(m.Disk, m.Size); f.table != nil {
		// The rest is looked at all the same where one copy is good.
		var err error
		if m.Table, err = gpt.ReadAny(m.Disk, m.Size); err != nil {
			return &f
		}
	}
	if f.esp = m.openESP(); f.esp != nil {
		f.esp = fmt.Errorf("EFI system partition: %w", f.esp)
	}
	if f.root = m.openRoot(); f.root != nil {
		f.root = fmt.Errorf("root partition: %w", f.root)
	}
	if m.ESP != nil && m.files != nil {
		for i := range m.entries {
			m.kernels = append(m.kernels, readKernel(m.files, m.esp, &m.entries[i]))
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
	m.esp = esp{m.ESP.FS()}
	m.entries, err = m.esp.loaderEntries()
	return err
}

func (m *Image) openRoot() error {
	p, err := m.partition("a root", func(t gpt.GUID) bool { _, ok := rootArch(t); return ok })
	if err != nil {
		return err
	}
	m.Arch, _ = rootArch(p.Type)
	root, err := ext4.Open(m.part(p))
	if err != nil {
		return err
	}
	files, err := readFiles(root)
	if err != nil {
		return err
	}
	m.Root, m.files = root, files
	return nil
}

// rootArch returns the architecture of a type of root partitions.
func rootArch(t gpt.GUID) (manifest.Arch, bool) {
	for _, arch := range []manifest.Arch{manifest.AMD64, manifest.ARM64} {
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

// Close drops the temporary disk.
func (m *Image) Close() error {
	if m.file == nil {
		return nil
	}
	err := m.file.Close()
	if m.remove {
		err = errors.Join(err, os.Remove(m.file.Name()))
	}
	return err
}

// File describes the file that was opened. The digest of a raw disk is taken
// now, that of an archive was when it was opened.
func (m *Image) File(ctx context.Context) (*bom.File, error) {
	if m.sum == nil {
		sum := sha256.New()
		buf := make([]byte, 1<<20)
		for at := int64(0); at < m.Size; {
			if err := context.Cause(ctx); err != nil {
				return nil, err
			}
			n, err := m.Disk.ReadAt(buf[:min(int64(len(buf)), m.Size-at)], at)
			if n == 0 && err != nil {
				return nil, fmt.Errorf("reading %s: %w", m.Path, err)
			}
			sum.Write(buf[:n])
			at += int64(n)
		}
		m.sum = (*[sha256.Size]byte)(sum.Sum(nil))
	}
	return &bom.File{Name: filepath.Base(m.Path), Format: m.Format, Size: m.length, SHA256: manifest.SHA256(*m.sum)}, nil
}
