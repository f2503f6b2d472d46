package release

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// What an archive may decompress to. The largest artifact of our sets,
// kubernetes-node of 1.21, has 0.3 GB and unpacks to 1.3 GB; executables
// compress to between a fifth and a third. A gzip bomb of zeroes has a ratio
// of 1000, one of xz or zstd far more.
const (
	maxUnpacked = 4 << 30  // bytes
	maxRatio    = 200      // bytes out for each byte in
	freeOutput  = 16 << 20 // bytes out before the ratio counts
)

// maxWindow bounds the memory that a compressed stream may ask of its reader:
// that of `xz -9` and, doubled, of `zstd --ultra -22`.
const (
	maxXZDict     = 64 << 20  // bytes
	maxZstdWindow = 128 << 20 // bytes
)

// The first bytes of compressed streams: RFC 1952, section 2.3.1; The .xz File
// Format 1.2.1, section 2.1.1.1; RFC 8878, section 3.1.1.
const (
	gzipMagic = "\x1f\x8b"
	xzMagic   = "\xfd7zXZ\x00"
	zstdMagic = "\x28\xb5\x2f\xfd"
)

// errBomb says that an archive is larger than anything we unpack.
var errBomb = errors.New("it decompresses to far more than a release has")

// decompressed reads an archive, whatever compresses it, within the limits.
// Its errors say what is wrong with the stream.
type decompressed struct {
	done   func() error // why to stop, if so
	err    error        // of the stream
	in     *counter
	r      io.Reader
	out    int64
	format string // "gzip", "xz", "zstd", or "" for none
	close  func()
	zeroes int64 // at the end of what was read so far
}

// decompress tells by the first bytes of r what compresses it.
func decompress(ctx context.Context, r io.Reader) (*decompressed, error) {
	d := &decompressed{done: func() error { return context.Cause(ctx) }, in: &counter{r: r}, close: func() {}}
	in := bufio.NewReaderSize(d.in, 64<<10)
	head, err := in.Peek(32)
	if err != nil && err != io.EOF {
		return nil, err
	}
	switch {
	case strings.HasPrefix(string(head), gzipMagic):
		d.format = "gzip"
		d.r, err = gzip.NewReader(in)
	case strings.HasPrefix(string(head), xzMagic):
		d.format = "xz"
		if err := checkXZ(head); err != nil {
			return nil, err
		}
		d.r, err = xz.NewReader(in)
	case strings.HasPrefix(string(head), zstdMagic):
		d.format = "zstd"
		var z *zstd.Decoder
		z, err = zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxZstdWindow), zstd.WithDecoderLowmem(true))
		if err == nil {
			d.r, d.close = z, z.Close
		}
	default:
		d.r, err = in, nil
	}
	if err != nil {
		return nil, d.explain(err)
	}
	return d, nil
}

// checkXZ refuses a dictionary that would take too much memory: the library
// allocates what the header of the first block asks for. The .xz File Format
// 1.2.1, sections 2.1.1, 3.1 and 5.3.1: 12 bytes of stream header, then size
// and flags of the block, the sizes that the flags announce, then filter ID
// 0x21, the length 1 and the dictionary's size.
func checkXZ(head []byte) error {
	const lzma2, sizes = 0x21, 0xc0
	if len(head) < 17 || head[13]&sizes != 0 || head[14] != lzma2 || head[15] != 1 {
		return nil // the library reads it or says what is wrong
	}
	bits := head[16] & 0x3f
	// 40 stands for one byte less than this formula gives.
	if size := (2 | uint64(bits&1)) << (bits/2 + 11); size > maxXZDict {
		return fmt.Errorf("xz: it needs a dictionary of %d MiB, at most %d are allowed", size>>20, maxXZDict>>20)
	}
	return nil
}

func (d *decompressed) Read(b []byte) (int, error) {
	if err := d.done(); err != nil {
		return 0, err
	}
	n, err := d.r.Read(b)
	d.out += int64(n)
	if d.out > maxUnpacked || d.out > freeOutput && d.out/maxRatio > d.in.n {
		d.err = fmt.Errorf("%w: %d bytes so far, from %d", errBomb, d.out, d.in.n)
		return 0, d.err
	}
	if tail := len(bytes.TrimRight(b[:n], "\x00")); tail == 0 {
		d.zeroes += int64(n)
	} else {
		d.zeroes = int64(n - tail)
	}
	if err != nil && err != io.EOF {
		d.err = d.explain(err)
		err = d.err
	}
	return n, err
}

// tarError returns what is wrong where reading the archive in d ends with err:
// the stream, or else the archive itself.
func (d *decompressed) tarError(err error) error {
	switch {
	case d.err != nil:
		return d.err
	case errors.Is(err, io.ErrUnexpectedEOF):
		return errCutOff
	}
	return err
}

var errCutOff = fmt.Errorf("it is cut off: %w", io.ErrUnexpectedEOF)

func (d *decompressed) explain(err error) error {
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF):
		return errCutOff
	case d.out > 0 && (errors.Is(err, gzip.ErrHeader) || errors.Is(err, zstd.ErrMagicMismatch)):
		return fmt.Errorf("its %s stream is followed by something else", d.format)
	case d.format != "":
		return fmt.Errorf("%s: %w", d.format, err)
	}
	return err
}

// counter counts what is read.
type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n += int64(n)
	return n, err
}
