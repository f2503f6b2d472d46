package deb

import (
	"fmt"
	"io"

	"github.com/nodebake/bake/bake/decompress"
)

// What counts as a bomb: more than freeOutput bytes, of which each byte of
// input gave more than maxRatio. Text that repeats itself stays well below.
const (
	freeOutput = 64 << 20
	maxRatio   = 500
)

// newDecompressed returns the content of r, compressed as the suffix of its name
// says, of at most limit bytes.
func newDecompressed(r io.Reader, suffix string, limit int64) (*decompress.Reader, error) {
	formats := map[string]decompress.Format{
		"": decompress.None, ".gz": decompress.Gzip, ".xz": decompress.XZ, ".zst": decompress.Zstd, ".bz2": decompress.Bzip2,
	}
	f, known := formats[suffix]
	if !known {
		return nil, fmt.Errorf("compression %q is not supported", suffix)
	}
	return decompress.NewReader(r, f, decompress.Limits{Bytes: limit, Ratio: maxRatio, Free: freeOutput})
}
