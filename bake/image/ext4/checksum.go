package ext4

import "hash/crc32"

// crc32c continues seed over data the way the kernel does: without the
// inversions at both ends that package crc32 makes (checksums.rst). Start with crcStart.
func crc32c(seed uint32, data []byte) uint32 {
	// MakeTable keeps the Castagnoli table itself, this only looks it up.
	return ^crc32.Update(^seed, crc32.MakeTable(crc32.Castagnoli), data)
}

const crcStart = ^uint32(0)

// crc32c32 continues seed over one little-endian word. Every inode needs two of these;
// crc32.Update would move the word to the heap.
func crc32c32(seed, word uint32) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli)
	for range 4 {
		seed = table[byte(seed^word)] ^ seed>>8
		word >>= 8
	}
	return seed
}

// inodeSeed is what checksums of everything that belongs to an inode start from.
func inodeSeed(fsSeed, ino, generation uint32) uint32 {
	return crc32c32(crc32c32(fsSeed, ino), generation)
}

// crcExcept continues seed over data with the bytes of the fields at offsets,
// each of width bytes, taken as zero: a structure's own checksum.
func crcExcept(seed uint32, data []byte, width int, offsets ...int) uint32 {
	var zero [4]byte
	at := 0
	for _, offset := range offsets {
		seed = crc32c(seed, data[at:offset])
		seed = crc32c(seed, zero[:width])
		at = offset + width
	}
	return crc32c(seed, data[at:])
}
