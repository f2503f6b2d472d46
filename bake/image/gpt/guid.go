package gpt

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

// GUID is a UUID with its bytes in the order in which it is written (RFC 9562,
// section 4), not in the mixed order of the disk.
type GUID [16]byte

// String returns g in lower case, as Linux's PARTUUID has it.
func (g GUID) String() string {
	h := hex.EncodeToString(g[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// IsZero reports whether g is the nil UUID, which marks an unused entry.
func (g GUID) IsZero() bool { return g == GUID{} }

// ParseGUID reads the form 8-4-4-4-12 in either case.
func ParseGUID(s string) (GUID, error) {
	var g GUID
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return g, fmt.Errorf("%q is not a GUID (want the form 01234567-89ab-cdef-0123-456789abcdef)", s)
	}
	if _, err := hex.Decode(g[:], []byte(s[:8]+s[9:13]+s[14:18]+s[19:23]+s[24:])); err != nil {
		return GUID{}, fmt.Errorf("%q is not a GUID: %w", s, err)
	}
	return g, nil
}

// Derive makes a GUID out of a seed and a name that says what it is for, so
// that equal plans have equal GUIDs and different ones have not. It is a
// version 8 UUID, made of SHA-256 as RFC 9562, appendix B.2 shows: the first 16
// bytes of SHA-256(seed || 0x00 || name) with version and variant set.
func Derive(seed []byte, name string) GUID {
	h := sha256.New()
	h.Write(seed)
	h.Write([]byte{0})
	h.Write([]byte(name))
	var g GUID
	copy(g[:], h.Sum(nil))
	g[6] = g[6]&0x0f | 0x80
	g[8] = g[8]&0x3f | 0x80
	return g
}

// swapped converts between written order and the order of the disk, either way.
func (g GUID) swapped() [16]byte {
	return [16]byte{
		g[3], g[2], g[1], g[0], g[5], g[4], g[7], g[6],
		g[8], g[9], g[10], g[11], g[12], g[13], g[14], g[15],
	}
}

// FromDisk converts a GUID in the byte order of the disk and of EFI variables.
func FromDisk(b [16]byte) GUID { return GUID(GUID(b).swapped()) }

// Partition types. The root types are those of the Discoverable Partitions
// Specification (UAPI.2), by which systemd-repart and systemd-gpt-auto-generator
// know the root filesystem of an architecture.
const (
	typeESP       = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b" // UEFI 2.10, table 5.7
	typeRootAMD64 = "4f68bce3-e8cd-4db1-96e7-fbcaf984b709"
	typeRootARM64 = "b921b045-1df0-41c3-af44-4c6f280d3fae"
)

// ESPType returns the type of an EFI system partition.
func ESPType() GUID { return mustGUID(typeESP) }

// RootType returns the type of a root partition for arch, in Go's and Debian's
// name ("amd64", "arm64"), and whether there is one.
func RootType(arch string) (GUID, bool) {
	switch arch {
	case "amd64":
		return mustGUID(typeRootAMD64), true
	case "arm64":
		return mustGUID(typeRootARM64), true
	}
	return GUID{}, false
}

// TypeName names the types that this package knows, and writes out others.
func TypeName(t GUID) string {
	switch t.String() {
	case typeESP:
		return "esp"
	case typeRootAMD64:
		return "root-x86-64"
	case typeRootARM64:
		return "root-arm64"
	}
	return t.String()
}

func mustGUID(s string) GUID {
	g, err := ParseGUID(s)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return g
}
