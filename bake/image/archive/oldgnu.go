package archive

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// The old GNU header (tar's manual, "Basic Tar Format", struct
// oldgnu_header). Numbers are octal digits that end in a NUL; a size that does
// not fit is base-256: the top bit of the first byte set, then a big-endian
// number.
const (
	blockSize  = 512
	recordSize = 20 * blockSize // GNU tar pads an archive to a whole number of these

	nameAt, nameLen   = 0, 100
	modeAt, modeLen   = 100, 8
	uidAt, uidLen     = 108, 8
	gidAt, gidLen     = 116, 8
	sizeAt, sizeLen   = 124, 12
	mtimeAt, mtimeLen = 136, 12
	sumAt, sumLen     = 148, 8
	typeAt            = 156
	magicAt           = 257

	oldGNUMagic = "ustar  \x00" // magic and version

	maxOctal12 = 1<<33 - 1 // eleven octal digits
)

// header returns the header of a regular file of mode 0644 that belongs to
// root by number, as GNU tar --format=oldgnu --numeric-owner writes it.
func header(name string, size, mtime int64) ([]byte, error) {
	switch {
	case name == "" || len(name) >= nameLen || strings.ContainsAny(name, "/\x00"):
		return nil, fmt.Errorf("%q cannot be the member's name: want a file name of 1 to %d bytes", name, nameLen-1)
	case mtime < 0 || mtime > maxOctal12:
		return nil, fmt.Errorf("epoch %d cannot be the member's time: want 0 to %d seconds since 1970", mtime, int64(maxOctal12))
	case size < 0:
		return nil, fmt.Errorf("BUG: the member has %d bytes", size)
	}
	b := make([]byte, blockSize)
	copy(b[nameAt:], name)
	putOctal(b[modeAt:modeAt+modeLen], 0o644)
	putOctal(b[uidAt:uidAt+uidLen], 0)
	putOctal(b[gidAt:gidAt+gidLen], 0)
	if size <= maxOctal12 {
		putOctal(b[sizeAt:sizeAt+sizeLen], size)
	} else {
		b[sizeAt] = 0x80
		binary.BigEndian.PutUint64(b[sizeAt+sizeLen-8:], uint64(size))
	}
	putOctal(b[mtimeAt:mtimeAt+mtimeLen], mtime)
	b[typeAt] = '0'
	copy(b[magicAt:], oldGNUMagic)
	// The checksum is six digits, NUL, space.
	putOctal(b[sumAt:sumAt+sumLen-1], checksum(b))
	b[sumAt+sumLen-1] = ' '
	return b, nil
}

// putOctal fills b with the digits of v, leading zeroes and a NUL.
func putOctal(b []byte, v int64) {
	copy(b, fmt.Sprintf("%0*o", len(b)-1, v))
}

// checksum adds the bytes of header b, its checksum field counted as spaces.
func checksum(b []byte) int64 {
	sum := int64(sumLen * ' ')
	for i, c := range b {
		if i < sumAt || i >= sumAt+sumLen {
			sum += int64(c)
		}
	}
	return sum
}

// parseHeader returns the size of the member that header b announces. Any
// member but a regular old-GNU one called disk.raw is an error.
func parseHeader(b []byte) (size int64, err error) {
	if sum, err := parseNumber(b[sumAt : sumAt+sumLen]); err != nil || sum != checksum(b) {
		return 0, errors.New("not a tar archive: the first header's checksum is wrong")
	}
	if magic := string(b[magicAt : magicAt+len(oldGNUMagic)]); magic != oldGNUMagic {
		return 0, fmt.Errorf("the tar header has magic %q, want %q: Compute Engine imports the old GNU format (tar --format=oldgnu)", magic, oldGNUMagic)
	}
	name, _, _ := bytes.Cut(b[nameAt:nameAt+nameLen], []byte{0})
	if string(name) != DiskName {
		return 0, fmt.Errorf("the tar member is called %q, want %q", name, DiskName)
	}
	switch t := b[typeAt]; t {
	case '0', 0:
	case 'S':
		return 0, fmt.Errorf("%s is a sparse tar member (type S), want a regular one: pack it without tar's -S", DiskName)
	default:
		return 0, fmt.Errorf("%s is a tar member of type %q, want a regular file", DiskName, t)
	}
	if size, err = parseNumber(b[sizeAt : sizeAt+sizeLen]); err != nil {
		return 0, fmt.Errorf("reading the size of %s: %w", DiskName, err)
	}
	return size, nil
}

// parseNumber reads a number field: octal digits with spaces or NULs around
// them, or base-256.
func parseNumber(b []byte) (int64, error) {
	if b[0]&0x80 == 0 {
		digits := strings.Trim(string(b), " \x00")
		n, err := strconv.ParseUint(digits, 8, 63)
		if err != nil {
			return 0, fmt.Errorf("%q is not an octal number", digits)
		}
		return int64(n), nil
	}
	n := int64(b[0] & 0x7f) // 0x40 is the sign: rejected as too large with more bytes, or checked here
	if n&0x40 != 0 {
		return 0, fmt.Errorf("% x is a negative number", b)
	}
	for _, c := range b[1:] {
		if n >= 1<<55 {
			return 0, fmt.Errorf("% x is a number of more than 63 bits", b)
		}
		n = n<<8 | int64(c)
	}
	return n, nil
}
