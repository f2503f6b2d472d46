package archive

import (
	"bytes"
	"compress/flate"
	"hash/crc32"
	"io"
	"testing"
)

func TestCombineCRC(t *testing.T) {
	b := text(7, 300_000)
	for _, cut := range []int{0, 1, 7, 255, 256, 65536, 100_003, len(b) - 1, len(b)} {
		got := combineCRC(crc32.ChecksumIEEE(b[:cut]), crc32.ChecksumIEEE(b[cut:]), int64(len(b)-cut))
		if want := crc32.ChecksumIEEE(b); got != want {
			t.Errorf("combineCRC of parts cut at %d = %08x; want %08x", cut, got, want)
		}
	}
}

func TestZeroesCRC(t *testing.T) {
	for _, n := range []int64{0, 1, 2, 511, 4096, 1<<20 + 3} {
		if got, want := zeroesCRC(n), crc32.ChecksumIEEE(make([]byte, n)); got != want {
			t.Errorf("zeroesCRC(%d) = %08x; want %08x", n, got, want)
		}
	}
	// The sum for a length too long to hash here follows from halves.
	const n = 20 << 30
	if got, want := zeroesCRC(n), combineCRC(zeroesCRC(n/2-1), zeroesCRC(n/2+1), n/2+1); got != want {
		t.Errorf("zeroesCRC(%d) = %08x; want %08x", int64(n), got, want)
	}
}

func TestDeflateZeroes(t *testing.T) {
	var lengths []int64
	for n := int64(1); n < 3*maxMatch; n++ { // every rest, with no, one and two whole matches
		lengths = append(lengths, n)
	}
	for n := int64(1032 * 9); n < 1032*9+2*maxMatch; n++ { // every alignment of the fill
		lengths = append(lengths, n)
	}
	lengths = append(lengths, 4096, gapSize, 1<<20, 5<<20+511, 64<<20)
	for _, n := range lengths {
		run := deflateZeroes(n)
		var b bytes.Buffer
		b.Write(run.head)
		b.Write(make([]byte, run.fill))
		b.Write(run.tail)
		if !bytes.HasSuffix(b.Bytes(), []byte{0, 0, 0xff, 0xff}) {
			t.Fatalf("deflateZeroes(%d) does not end in a sync flush: % x", n, run.tail)
		}
		// Half a per mille above the 2 bits per 258 bytes that deflate needs, and
		// what the header and the sync flush take.
		if limit := n/1032 + n/1032/2000 + 32; int64(b.Len()) > limit {
			t.Errorf("deflateZeroes(%d) has %d bytes; want at most %d", n, b.Len(), limit)
		}
		b.Write(emptyFinalBlock[:])
		got, err := io.Copy(allZero{t}, flate.NewReader(&b))
		if err != nil || got != n {
			t.Fatalf("deflateZeroes(%d) inflates to %d zeroes, %v", n, got, err)
		}
		if b.Len() != 0 {
			t.Fatalf("deflateZeroes(%d): %d bytes follow the final block", n, b.Len())
		}
	}
}

// allZero is a writer that fails on any other byte.
type allZero struct{ t *testing.T }

func (w allZero) Write(b []byte) (int, error) {
	if len(bytes.Trim(b, "\x00")) > 0 {
		w.t.Fatal("not all zeroes")
	}
	return len(b), nil
}
