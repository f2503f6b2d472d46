package archive

import (
	"bufio"
	"compress/gzip" // as fast as the library that writes, and not the same code
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/nodebake/bake/bake/gce"
)

const (
	// maxPadding is how many zero bytes may follow the two zero blocks. GNU tar
	// pads to its record size, which is 10 KiB unless asked otherwise.
	maxPadding = 1 << 20
)

// Reader reads the disk out of a tar.gz from beginning to end. It accepts one
// gzip member with one regular old-GNU tar member called disk.raw, its padding,
// and nothing else. It keeps less than 1 MiB in memory whatever the input
// claims.
type Reader struct {
	in   counter
	src  *bufio.Reader // of in
	gzip *gzip.Reader
	size int64 // of the disk
	left int64 // bytes of the disk not yet read
	err  error // what Read returns once left is 0

	head    []byte // that peek has read and Read has not
	headErr error  // that ended it
}

// counter counts what is read. Another goroutine may ask how much that is.
type counter struct {
	r io.Reader
	n atomic.Int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n.Add(int64(n))
	return n, err
}

// NewReader reads the headers of the tar.gz in r.
func NewReader(r io.Reader) (*Reader, error) {
	// gzip reads no further than its member's end where it is given an
	// io.ByteReader.
	d := &Reader{in: counter{r: r}}
	d.src = bufio.NewReaderSize(&d.in, 256<<10)
	gz, err := gzip.NewReader(d.src)
	if err != nil {
		return nil, fmt.Errorf("reading the gzip header: %w", noEOF(err))
	}
	gz.Multistream(false)
	block := make([]byte, blockSize)
	if _, err := io.ReadFull(gz, block); err != nil {
		return nil, fmt.Errorf("reading the tar header: %w", noEOF(err))
	}
	size, err := parseHeader(block)
	if err != nil {
		return nil, err
	}
	if size > gce.MaxImageSize {
		return nil, fmt.Errorf("%s claims to have %d bytes; Compute Engine imports at most %d", DiskName, size, int64(gce.MaxImageSize))
	}
	d.gzip, d.size, d.left = gz, size, size
	return d, nil
}

// peek returns the first n bytes of the disk, before Read was called: fewer where
// there are no more or reading fails, which Read will say.
func (r *Reader) peek(n int) []byte {
	head := make([]byte, n)
	var at int
	for at < n && r.left > 0 && r.headErr == nil {
		var m int
		m, r.headErr = r.read(head[at:])
		at += m
	}
	r.head = head[:at]
	return r.head
}

// Size returns the length of the disk in bytes, as the tar header states it.
func (r *Reader) Size() int64 { return r.size }

// Read implements io.Reader. It returns io.EOF only after everything behind
// the disk was checked as well: the padding, the end of the tar archive,
// gzip's CRC-32 and length, and that nothing follows.
func (r *Reader) Read(p []byte) (int, error) {
	switch {
	case len(r.head) > 0:
		n := copy(p, r.head)
		r.head = r.head[n:]
		return n, nil
	case r.headErr != nil:
		return 0, r.headErr
	}
	return r.read(p)
}

func (r *Reader) read(p []byte) (int, error) {
	if r.left == 0 {
		if r.err == nil {
			r.err = r.finish()
		}
		return 0, r.err
	}
	if int64(len(p)) > r.left {
		p = p[:r.left]
	}
	n, err := r.gzip.Read(p)
	r.left -= int64(n)
	if err == nil || err == io.EOF && r.left == 0 {
		return n, nil // a second EOF comes in finish, as a missing end of the archive
	}
	return n, fmt.Errorf("reading %s at %d of %d bytes: %w", DiskName, r.size-r.left, r.size, noEOF(err))
}

// finish checks what follows the disk. It returns io.EOF if all is well.
func (r *Reader) finish() error {
	if n, err := r.zeroes((blockSize - r.size%blockSize) % blockSize); err != nil {
		return fmt.Errorf("reading the padding of %s: %w", DiskName, noEOF(err))
	} else if n >= 0 {
		return fmt.Errorf("the padding of %s is not zero", DiskName)
	}
	if n, err := r.zeroes(2 * blockSize); err != nil {
		return fmt.Errorf("reading the two zero blocks that end a tar archive: %w", noEOF(err))
	} else if n >= 0 {
		return fmt.Errorf("a second tar member follows %s", DiskName)
	}
	n, err := r.zeroes(maxPadding + 1)
	switch {
	case n >= 0:
		return fmt.Errorf("%d bytes after the end of the tar archive comes one that is not zero", n)
	case err == nil:
		return fmt.Errorf("more than %d zero bytes follow the end of the tar archive", maxPadding)
	case err != io.EOF:
		return fmt.Errorf("reading the end of the gzip member: %w", err)
	}
	switch next, err := r.src.Peek(2); {
	case len(next) == 2 && next[0] == 0x1f && next[1] == 0x8b:
		return errors.New("a second gzip member follows the first")
	case len(next) > 0:
		return errors.New("garbage follows the gzip member")
	case err != io.EOF:
		return fmt.Errorf("reading past the gzip member: %w", err)
	}
	return io.EOF
}

// zeroes reads n bytes that should be zero. It returns the offset among them
// of the first that is not, or -1; an early end is io.EOF.
func (r *Reader) zeroes(n int64) (int64, error) {
	var buf [4096]byte
	for at := int64(0); at < n; {
		m, err := r.gzip.Read(buf[:min(n-at, int64(len(buf)))])
		for i, c := range buf[:m] {
			if c != 0 {
				return at + int64(i), nil
			}
		}
		at += int64(m)
		if err != nil && at < n {
			return -1, err
		}
	}
	return -1, nil
}

// noEOF makes an early end of the input an error of its own.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
