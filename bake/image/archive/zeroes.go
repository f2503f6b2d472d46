package archive

import (
	"fmt"
	"math/bits"
)

// zeroRun is the compressed form of a run of zeroes: one dynamic Huffman block
// (RFC 1951 section 3.2.7) and a sync flush. The block is a literal zero
// followed by matches of 258 bytes at distance 1. Their length code and their
// distance code are one bit each, both 0, so that four matches are a zero byte
// and all but the ends of the block need no encoder: a gibibyte is 1,040,448
// bytes of output, which is as small as deflate can make it, at the speed of
// copying.
type zeroRun struct {
	head []byte
	fill int64 // zero bytes between head and tail
	tail []byte
}

// Symbols and lengths of RFC 1951 section 3.2.5.
const (
	endOfBlock  = 256
	maxMatch    = 258
	maxMatchSym = 285
)

// deflateZeroes returns the compressed form of n > 0 zeroes.
func deflateZeroes(n int64) zeroRun {
	if n <= 0 {
		panic(fmt.Sprintf("BUG: a run of %d zeroes", n))
	}
	matches, rest := (n-1)/maxMatch, int((n-1)%maxMatch)

	// The literal/length code: the long match has one bit. Codes are canonical
	// (section 3.2.2), so that the long match, the only one of length 1, is 0.
	type code struct{ symbol, bits, length int }
	codes := []code{{0, 0b10, 2}, {endOfBlock, 0b11, 2}, {maxMatchSym, 0b0, 1}}
	restSym, restExtra, restExtraBits := 0, 0, 0
	if rest >= 3 {
		restSym, restExtra, restExtraBits = lengthSymbol(rest)
		codes = []code{{0, 0b10, 2}, {endOfBlock, 0b110, 3}, {restSym, 0b111, 3}, {maxMatchSym, 0b0, 1}}
	}

	var w bitWriter
	w.bits(0, 1)    // BFINAL
	w.bits(2, 2)    // BTYPE: dynamic Huffman codes
	w.bits(29, 5)   // HLIT: 286 literal/length codes
	w.bits(0, 5)    // HDIST: 1 distance code
	w.bits(18-4, 4) // HCLEN: 18 of the code length codes below
	// The order is 16 17 18 0 8 7 9 6 10 5 11 4 12 3 13 2 14 1. With these
	// lengths the canonical codes are 1: 00, 18: 01, 0: 100, 2: 101, 3: 110, 17: 111.
	for _, length := range []int{0, 3, 2, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 3, 0, 2} {
		w.bits(uint64(length), 3)
	}
	lengthCodes := [...]code{1: {1, 0b00, 2}, 2: {2, 0b101, 3}, 3: {3, 0b110, 3}}
	next := 0
	for _, c := range codes {
		w.noCodes(c.symbol - next)
		w.code(lengthCodes[c.length].bits, lengthCodes[c.length].length)
		next = c.symbol + 1
	}
	w.code(lengthCodes[1].bits, lengthCodes[1].length) // distance 1

	w.code(0b10, 2) // the literal
	// From here on 2·matches zero bits.
	zeroBits := 2 * matches
	if n := min(zeroBits, int64(w.free())); n > 0 {
		w.bits(0, int(n))
		zeroBits -= n
	}
	run := zeroRun{head: w.whole(), fill: zeroBits / 8}
	w.bits(0, int(zeroBits%8))

	switch {
	case rest >= 3:
		w.code(0b111, 3)
		w.bits(uint64(restExtra), restExtraBits)
		w.bits(0, 1) // distance 1
		w.code(0b110, 3)
	default:
		for range rest {
			w.code(0b10, 2)
		}
		w.code(0b11, 2)
	}
	// The sync flush: an empty stored block.
	w.bits(0, 3)
	w.bits(0, w.free())
	run.tail = append(w.whole(), 0, 0, 0xff, 0xff)
	return run
}

// lengthSymbol returns the symbol for a match of n bytes, 3 <= n < 258, with
// the value and number of its extra bits (RFC 1951 section 3.2.5).
func lengthSymbol(n int) (symbol, extra, extraBits int) {
	if n <= 10 {
		return 254 + n, 0, 0
	}
	n -= 3
	extraBits = bits.Len(uint(n)) - 3
	return 257 + 4*extraBits + n>>extraBits, n & (1<<extraBits - 1), extraBits
}

// bitWriter packs bits into bytes, the first bit lowest (RFC 1951 section
// 3.1.1).
type bitWriter struct {
	out []byte
	acc uint64
	n   int // bits in acc, less than 8 between calls
}

// bits appends the low n bits of v, lowest first. n is at most 32.
func (w *bitWriter) bits(v uint64, n int) {
	w.acc |= v << w.n
	w.n += n
	for w.n >= 8 {
		w.out = append(w.out, byte(w.acc))
		w.acc >>= 8
		w.n -= 8
	}
}

// code appends a Huffman code of n bits, highest bit first.
func (w *bitWriter) code(v, n int) {
	w.bits(bits.Reverse64(uint64(v))>>(64-n), n)
}

// noCodes appends n code lengths of 0, by the symbols 18, 17 and 0 of the code
// that deflateZeroes sets up.
func (w *bitWriter) noCodes(n int) {
	for n >= 11 {
		run := min(n, 138)
		w.code(0b01, 2)
		w.bits(uint64(run-11), 7)
		n -= run
	}
	if n >= 3 {
		w.code(0b111, 3)
		w.bits(uint64(n-3), 3)
		n = 0
	}
	for range n {
		w.code(0b100, 3)
	}
}

// free returns how many bits the byte under construction can still take.
func (w *bitWriter) free() int { return (8 - w.n) % 8 }

// whole returns the finished bytes and forgets them.
func (w *bitWriter) whole() []byte {
	out := w.out
	w.out = nil
	return out
}
