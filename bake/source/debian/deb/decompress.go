package deb

import (
	"bufio"
	"compress/bzip2"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// maxWindow bounds in bytes what a stream may make its reader keep: twice what
// xz -9 and zstd -22 use.
const maxWindow = 128 << 20

// What counts as a bomb: more than freeOutput bytes, of which each byte of
// input gave more than maxRatio. Text that repeats itself stays well below.
const (
	freeOutput = 64 << 20
	maxRatio   = 500
)

// decompressed reads a member's content within its limits.
type decompressed struct {
	r     io.Reader
	in    *counter
	buf   *bufio.Reader // of in
	out   int64
	limit int64 // bytes
	close func()
}

// decompress returns the content of r, compressed as the suffix of its name
// says.
func decompress(r io.Reader, suffix string, limit int64) (*decompressed, error) {
	d := &decompressed{in: &counter{r: r}, limit: limit, close: func() {}}
	d.buf = bufio.NewReaderSize(d.in, 64<<10)
	var err error
	switch suffix {
	case "":
		d.r = d.buf
	case ".gz":
		d.r, err = gzip.NewReader(d.buf)
	case ".xz":
		if err = checkDictionary(d.buf); err == nil {
			d.r, err = xz.NewReader(d.buf)
		}
	case ".zst":
		var z *zstd.Decoder
		z, err = zstd.NewReader(d.buf, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderLowmem(true))
		if err == nil {
			d.r, d.close = z, z.Close
		}
	case ".bz2":
		d.r = bzip2.NewReader(d.buf)
	default:
		err = fmt.Errorf("compression %q is not supported", suffix)
	}
	if err != nil {
		return nil, noEOF(err)
	}
	return d, nil
}

// checkDictionary refuses an xz stream whose first block asks for a dictionary
// beyond maxWindow, because the library allocates what is asked for. The .xz
// File Format 1.2.1, sections 2.1.1, 3.1 and 5.3.1: 12 bytes of stream header;
// the size and the flags of the block; the sizes that the flags announce,
// each of up to 9 bytes with the high bit set on all but the last; then
// filter ID 0x21, length 1 and the size of the dictionary.
func checkDictionary(in *bufio.Reader) error {
	head, err := in.Peek(12 + 2 + 9 + 9 + 3)
	if err != nil && err != io.EOF {
		return err
	}
	if len(head) < 14 {
		return nil // the library says what is wrong
	}
	flags, rest := head[13], head[14:]
	for _, announced := range []bool{flags&0x40 != 0, flags&0x80 != 0} {
		if !announced {
			continue
		}
		for len(rest) > 1 && rest[0]&0x80 != 0 {
			rest = rest[1:]
		}
		if len(rest) > 0 {
			rest = rest[1:]
		}
	}
	if len(rest) < 3 || rest[0] != 0x21 || rest[1] != 1 {
		return nil
	}
	bits := rest[2] & 0x3f
	if size := (2 | uint64(bits&1)) << (bits/2 + 11); size > maxWindow {
		return fmt.Errorf("xz: it needs a dictionary of %d bytes, at most %d are allowed", size, maxWindow)
	}
	return nil
}

func (d *decompressed) Read(p []byte) (int, error) {
	n, err := d.r.Read(p)
	d.out += int64(n)
	switch {
	case d.out > d.limit:
		return 0, fmt.Errorf("it decompresses to more than %d bytes", d.limit)
	case d.out > freeOutput && d.out/maxRatio > d.in.n:
		return 0, fmt.Errorf("it decompresses to more than %d times its size", maxRatio)
	case err != nil && err != io.EOF && errors.Is(err, io.EOF):
		err = io.ErrUnexpectedEOF // a wrapped end of input is not the end of output
	}
	return n, err
}
