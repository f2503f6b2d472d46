// Package deb unpacks binary packages of Debian (deb(5), format 2.0) into packs.
//
// A .deb is an ar archive of three members: debian-binary, control.tar and
// data.tar, the latter two compressed by gzip, xz, zstd, bzip2 (data only) or
// not at all. In the pack the control files come first, as regular files below
// DEBIAN/, which is how dpkg-deb -R lays them out; then the members of data.tar
// in their order, under clean relative paths.
//
// Everything that a package of Debian's archive never has is an error rather
// than something to work around: device nodes, paths that are absolute or leave
// the root, a file below a symbolic link of the same package, members given
// twice, owners without a fixed number, content that its own md5sums belie,
// members of ar beside the three, and anything after the end.
//
// The package runs no script, knows neither dpkg's database nor conffiles, and
// verifies no signature: the caller knows the file by its digest.
package deb

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/nodebake/bake/bake/source/debian/ar"
	"github.com/nodebake/bake/bake/tree"
)

// Format names the layout of the packs that [Unpack] makes. It changes when
// the same .deb would give another pack, so that kept ones are not used.
const Format = "deb/1"

// limits bound what a .deb may make of itself. The zero value is not usable.
type limits struct {
	control int64 // decompressed control.tar, bytes
	data    int64 // decompressed data.tar and the sizes that it declares, bytes
	entries int   // members of data.tar
}

// defaults leave room above Debian's largest: 3.5 GB installed (0ad-data) and
// 140,000 files are in packages that no node image takes.
func defaults() limits {
	return limits{control: 64 << 20, data: 4 << 30, entries: 1 << 18}
}

// Unpack adds the content of the .deb of size bytes in r to w, and returns its
// control file. After an error w must be thrown away.
//
// It takes no context: it ends soon after a Read of r fails.
func Unpack(r io.Reader, size int64, w *tree.PackWriter) (*Control, error) {
	return unpack(r, size, w, defaults())
}

func unpack(r io.Reader, size int64, w *tree.PackWriter, max limits) (*Control, error) {
	counted := &counter{r: r}
	archive, err := ar.NewReader(counted)
	if err != nil {
		return nil, err
	}
	if err := checkFormat(archive); err != nil {
		return nil, err
	}
	var c *Control
	err = member(archive, "control.tar", max.control, func(r io.Reader) error {
		files, err := readControlTar(r)
		if err != nil {
			return err
		}
		c, err = addControl(files, w)
		return err
	})
	if err != nil {
		return nil, err
	}
	err = member(archive, "data.tar", max.data, func(r io.Reader) error {
		return addData(r, c.md5sums, max, w)
	})
	if err != nil {
		return nil, err
	}
	switch h, err := archive.Next(); {
	case err == nil:
		return nil, fmt.Errorf("member %s after data.tar", h.Name)
	case err != io.EOF:
		return nil, fmt.Errorf("after data.tar: %w", err)
	}
	if counted.n != size {
		return nil, fmt.Errorf("it has %d bytes, want %d", counted.n, size)
	}
	return c, nil
}

// checkFormat reads the member that every .deb starts with.
func checkFormat(archive *ar.Reader) error {
	const want = "2.0\n"
	h, err := archive.Next()
	if err != nil {
		return fmt.Errorf("reading debian-binary: %w", noEOF(err))
	}
	if h.Name != "debian-binary" || h.Size != int64(len(want)) {
		return fmt.Errorf("first member is %s of %d bytes, want debian-binary of %d", h.Name, h.Size, len(want))
	}
	var b [len(want)]byte
	if _, err := io.ReadFull(archive, b[:]); err != nil {
		return fmt.Errorf("reading debian-binary: %w", err)
	}
	if string(b[:]) != want {
		return fmt.Errorf("debian-binary says %q, want %q", b[:], want)
	}
	return nil
}

// member goes to the next member, which must be name with a suffix that says
// how it is compressed, and passes its content to use. What use leaves must be
// zeroes: the padding of a tar.
func member(archive *ar.Reader, name string, limit int64, use func(io.Reader) error) error {
	h, err := archive.Next()
	if err != nil {
		return fmt.Errorf("reading %s: %w", name, noEOF(err))
	}
	suffix, ok := strings.CutPrefix(h.Name, name)
	if !ok {
		return fmt.Errorf("member %s where %s is due", h.Name, name)
	}
	d, err := newDecompressed(archive, suffix, limit)
	if err != nil {
		return fmt.Errorf("reading %s: %w", h.Name, err)
	}
	defer d.Close()
	if err := use(d); err != nil {
		return fmt.Errorf("reading %s: %w", h.Name, err)
	}
	if err := drainZeroes(d); err != nil {
		return fmt.Errorf("reading the end of %s: %w", h.Name, err)
	}
	return nil
}

func drainZeroes(r io.Reader) error {
	buf := make([]byte, 32<<10)
	for {
		n, err := r.Read(buf)
		if len(bytes.Trim(buf[:n], "\x00")) > 0 {
			return errors.New("there is content after the end of the tar")
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// counter counts the bytes that are read.
type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// noEOF makes of an end of file the error that it is inside of a structure.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
