package ext4

import (
	"encoding/binary"
	"math/bits"

	"github.com/nodebake/bake/bake/image/ext4/internal/format"
)

// nameHash computes the hash by which a directory's index orders names: the
// first three rounds of MD4, each over half as many words ("half MD4"), of the
// name in pieces of 32 bytes. Bytes are taken as unsigned, as the superblock's
// flag says (directory.rst, "Hash Tree Directories"; fs/ext4/hash.c defines it).
type nameHash [4]uint32

// newNameHash starts from the superblock's seed, or MD4's own initial state where the
// seed is zero.
func newNameHash(seed [16]byte) nameHash {
	if seed == ([16]byte{}) {
		return nameHash{0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476}
	}
	var h nameHash
	for i := range h {
		h[i] = binary.LittleEndian.Uint32(seed[4*i:])
	}
	return h
}

// sum returns the hash of name. Its lowest bit is clear: the index uses it to mark
// that names of one hash go on in the next block.
func (h nameHash) sum(name string) uint32 {
	for len(name) > 0 {
		piece := name[:min(len(name), 32)]
		h.round(hashWords(piece, len(name)))
		name = name[len(piece):]
	}
	sum := h[1] &^ 1
	if sum == format.DXHashEOF {
		sum -= 2
	}
	return sum
}

// hashWords makes eight words of up to 32 bytes, big end first. What lacks is
// filled with the number of bytes that were left of the name.
func hashWords(piece string, left int) (words [8]uint32) {
	pad := uint32(left&0xff) * 0x01010101
	for i := range words {
		word := pad
		for j := 4 * i; j < min(4*i+4, len(piece)); j++ {
			word = word<<8 | uint32(piece[j])
		}
		words[i] = word
	}
	return words
}

// halfMD4 is each round's additive constant, the order in which it takes the
// words, and its rotations.
type halfMD4 struct {
	add    uint32
	order  [8]int
	rotate [4]int
}

func (h *nameHash) round(words [8]uint32) {
	steps := [3]halfMD4{
		{0, [8]int{0, 1, 2, 3, 4, 5, 6, 7}, [4]int{3, 7, 11, 19}},
		{0x5a827999, [8]int{1, 3, 5, 7, 0, 2, 4, 6}, [4]int{3, 5, 9, 13}},
		{0x6ed9eba1, [8]int{3, 7, 2, 6, 1, 5, 0, 4}, [4]int{3, 9, 11, 15}},
	}
	a, b, c, d := h[0], h[1], h[2], h[3]
	for i := range steps {
		s := &steps[i]
		for j, word := range s.order {
			var f uint32
			switch i {
			case 0:
				f = d ^ (b & (c ^ d)) // choose
			case 1:
				f = b&c | b&d | c&d // majority
			case 2:
				f = b ^ c ^ d // parity
			}
			sum := bits.RotateLeft32(a+f+words[word]+s.add, s.rotate[j%4])
			a, b, c, d = d, sum, b, c
		}
	}
	h[0] += a
	h[1] += b
	h[2] += c
	h[3] += d
}
