package fetch

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"

	"github.com/nodebake/bake/bake/decompress"
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

// decompressed reads an archive, whatever compresses it, within the limits.
// Its errors say what is wrong with the stream.
type decompressed struct {
	*decompress.Reader
	done   func() error // why to stop, if so
	err    error        // of the stream
	zeroes int64        // at the end of what was read so far
}

// newDecompressed tells by the first bytes of r what compresses it.
func newDecompressed(ctx context.Context, r io.Reader) (*decompressed, error) {
	in := bufio.NewReader(r)
	head, err := in.Peek(16)
	if err != nil && err != io.EOF {
		return nil, err
	}
	d := &decompressed{done: func() error { return context.Cause(ctx) }}
	d.Reader, err = decompress.NewReader(in, decompress.Detect(head), decompress.Limits{Bytes: maxUnpacked, Ratio: maxRatio, Free: freeOutput})
	return d, err
}

func (d *decompressed) Read(b []byte) (int, error) {
	if err := d.done(); err != nil {
		return 0, err
	}
	n, err := d.Reader.Read(b)
	if tail := len(bytes.TrimRight(b[:n], "\x00")); tail == 0 {
		d.zeroes += int64(n)
	} else {
		d.zeroes = int64(n - tail)
	}
	if err != nil && err != io.EOF {
		d.err = err
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
		return decompress.ErrCutOff
	}
	return err
}
