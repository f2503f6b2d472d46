// Package decompress reads gzip, xz, zstd and bzip2 streams that may have been
// made to harm: what comes out, how much that is for what went in, and the memory
// that a stream can make its reader keep, its dictionary or window, are limited
// before they are spent. It is the only place where packages, releases, indices
// and kernel modules are decompressed.
//
// Streams that follow each other are one, as gzip(1), xz(1) and zstd(1) have it.
// Everything is read to the end of the input and every checksum is verified; what
// follows that is no stream is an error. Errors begin with the name of the format.
//
// The package knows no archives and no files. Limits: of xz filters LZMA2 alone;
// of zstd no dictionaries that come from elsewhere.
package decompress

import (
	"bufio"
	"compress/bzip2"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// The memory that a stream may ask for: what `xz -9` and `zstd --ultra -22` do.
const (
	MaxXZDict     = 64 << 20  // bytes
	MaxZstdWindow = 128 << 20 // bytes
)

// Format is what compresses a stream.
type Format string

// The formats.
const (
	None  Format = ""
	Gzip  Format = "gzip"
	XZ    Format = "xz"
	Zstd  Format = "zstd"
	Bzip2 Format = "bzip2"
)

// Detect tells the format by the first bytes of a stream: RFC 1952, section
// 2.3.1; The .xz File Format 1.2.1, section 2.1.1.1; RFC 8878, section 3.1.1. It
// does not know bzip2, whose first bytes are text.
func Detect(head []byte) Format {
	for f, magic := range map[Format]string{Gzip: "\x1f\x8b", XZ: xzMagic, Zstd: "\x28\xb5\x2f\xfd"} {
		if strings.HasPrefix(string(head), magic) {
			return f
		}
	}
	return None
}

// Limits say when a stream is refused.
type Limits struct {
	Bytes int64 // the most that may come out
	Ratio int64 // the most bytes out for each byte in; 0: any
	Free  int64 // bytes out before Ratio counts
}

// LimitError says that more comes out of a stream than may.
type LimitError struct {
	Limits
	In, Out int64 // bytes so far
}

func (e *LimitError) Error() string {
	if e.Out > e.Bytes {
		return fmt.Sprintf("it decompresses to more than %d bytes", e.Bytes)
	}
	return fmt.Sprintf("it decompresses to more than %d times its size: %d bytes so far, from %d", e.Ratio, e.Out, e.In)
}

// ErrFollowed says that something else follows a stream.
var ErrFollowed = errors.New("its stream is followed by something else")

// ErrCutOff says that a stream ends too early. It is not io.EOF, which would read
// as a good end.
var ErrCutOff = fmt.Errorf("it is cut off: %w", io.ErrUnexpectedEOF)

// Reader reads what a stream decompresses to.
type Reader struct {
	format Format
	limits Limits
	in     *counter
	r      io.Reader
	out    int64
	err    error // what Read returns from now on
	close  func()
}

// NewReader reads the stream in r. Whoever calls it calls Close.
func NewReader(r io.Reader, f Format, l Limits) (*Reader, error) {
	d := &Reader{format: f, limits: l, in: &counter{r: r}, close: func() {}}
	buf := bufio.NewReaderSize(d.in, 64<<10)
	var err error
	switch f {
	case None:
		d.r = buf
	case Gzip:
		d.r, err = gzip.NewReader(buf)
	case XZ:
		d.r, err = newXZ(buf)
	case Zstd:
		var z *zstd.Decoder
		z, err = zstd.NewReader(buf, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(MaxZstdWindow), zstd.WithDecoderLowmem(true))
		if err == nil {
			d.r, d.close = z, z.Close
		}
	case Bzip2:
		d.r = bzip2.NewReader(buf)
	default:
		err = errors.New("it is no format that is known")
	}
	if err != nil {
		return nil, d.explain(err)
	}
	return d, nil
}

// Read implements io.Reader. A *LimitError comes in place of the bytes that were
// too many.
func (d *Reader) Read(p []byte) (int, error) {
	if d.err != nil {
		return 0, d.err
	}
	n, err := d.r.Read(p)
	d.out += int64(n)
	if l := d.limits; d.out > l.Bytes || l.Ratio > 0 && d.out > l.Free && d.out/l.Ratio > d.in.n {
		d.err = &LimitError{Limits: l, In: d.in.n, Out: d.out}
		return 0, d.err
	}
	if err == io.EOF {
		d.err = err
	} else if err != nil {
		d.err = d.explain(err)
	}
	return n, d.err
}

// Out returns how many bytes have come out.
func (d *Reader) Out() int64 { return d.out }

// Close ends the reading. It does not close the input.
func (d *Reader) Close() { d.close() }

func (d *Reader) explain(err error) error {
	switch {
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		err = ErrCutOff
	case d.out > 0 && (errors.Is(err, gzip.ErrHeader) || errors.Is(err, zstd.ErrMagicMismatch)):
		err = ErrFollowed
	}
	if d.format == None || strings.HasPrefix(err.Error(), string(d.format)+": ") { // of the library
		return err
	}
	return fmt.Errorf("%s: %w", d.format, err)
}

// counter counts what is read.
type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}
