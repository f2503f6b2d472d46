package depmod

import "encoding/binary"

// superFastHash is Paul Hsieh's hash function, by which kmod orders its hash
// tables (kmod, shared/hash.c; http://www.azillionmonkeys.com/qed/hash.html).
func superFastHash(key string) uint32 {
	data := []byte(key)
	h := uint32(len(data))
	for ; len(data) >= 4; data = data[4:] {
		h += uint32(binary.LittleEndian.Uint16(data))
		t := uint32(binary.LittleEndian.Uint16(data[2:]))<<11 ^ h
		h = h<<16 ^ t
		h += h >> 11
	}
	switch len(data) {
	case 3:
		h += uint32(binary.LittleEndian.Uint16(data))
		h ^= h << 16
		h ^= uint32(int32(int8(data[2])) << 18)
		h += h >> 11
	case 2:
		h += uint32(binary.LittleEndian.Uint16(data))
		h ^= h << 11
		h += h >> 17
	case 1:
		h += uint32(int32(int8(data[0])))
		h ^= h << 10
		h += h >> 1
	}
	h ^= h << 3
	h += h >> 5
	h ^= h << 4
	h += h >> 17
	h ^= h << 25
	h += h >> 6
	return h
}
