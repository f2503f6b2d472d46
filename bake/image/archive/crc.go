package archive

import "hash/crc32"

// The CRC-32 of a concatenation follows from those of its parts: with
// polynomials over GF(2) modulo that of RFC 1952 section 8,
//
//	crc(A B) = crc(A) · x^(8·len(B)) + crc(B)
//
// See M. Adler's account of crc32_combine in zlib
// (https://stackoverflow.com/a/23126768). Polynomials are in the reflected
// order of crc32.IEEE: the top bit is the coefficient of x^0.

// combineCRC returns the CRC-32 of A B from those of A and B and B's length in
// bytes.
func combineCRC(a, b uint32, lengthB int64) uint32 {
	return multiply(a, shift(lengthB)) ^ b
}

// zeroesCRC returns the CRC-32 of n zero bytes. They only multiply the
// register, which starts as all ones and is inverted at the end.
func zeroesCRC(n int64) uint32 {
	return ^multiply(0xffffffff, shift(n))
}

// shift returns x^(8n), by squaring.
func shift(n int64) uint32 {
	result, power := uint32(1)<<31, uint32(1)<<(31-8)
	for ; n > 0; n >>= 1 {
		if n&1 != 0 {
			result = multiply(result, power)
		}
		power = multiply(power, power)
	}
	return result
}

// multiply returns a · b.
func multiply(a, b uint32) uint32 {
	var product uint32
	for ; a != 0; a <<= 1 {
		if a&(1<<31) != 0 {
			product ^= b
		}
		// b · x: what leaves at x^32 comes back as the polynomial's remainder.
		carry := b & 1
		b >>= 1
		if carry != 0 {
			b ^= crc32.IEEE
		}
	}
	return product
}
