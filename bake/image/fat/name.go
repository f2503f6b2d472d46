package fat

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// shortName is an 8.3 name as a directory record holds it.
type shortName [11]byte

// shortPunctuation are the characters beside letters and digits that an 8.3
// name may have (fatgen103, "Short Directory Entries").
const shortPunctuation = "$%'-_@~`!(){}^#&"

// checkName says why name cannot be the name of a file, or nil.
func checkName(name string) error {
	switch {
	case !utf8.ValidString(name):
		return errors.New("its name is not UTF-8")
	case strings.ContainsAny(name, `"*/:<>?\|`) || strings.ContainsFunc(name, func(r rune) bool { return r < 0x20 || r == 0x7f }):
		return errors.New("its name has a character that FAT does not allow")
	case strings.HasSuffix(name, ".") || strings.HasSuffix(name, " ") || strings.HasPrefix(name, " "):
		return errors.New("its name ends with a dot, or starts or ends with a space")
	case len(utf16.Encode([]rune(name))) > nameUnits:
		return fmt.Errorf("its name is longer than %d UTF-16 units", nameUnits)
	}
	return nil
}

// exactShort returns name as an 8.3 name, and whether that loses nothing, so
// that no long name is needed.
func exactShort(name string) (shortName, bool) {
	base, ext, dot := strings.Cut(name, ".")
	if base == "" || len(base) > 8 || len(ext) > 3 || dot && ext == "" {
		return shortName{}, false
	}
	for _, r := range base + ext {
		if !isShort(r) {
			return shortName{}, false
		}
	}
	return makeShort(base, ext), true
}

func isShort(r rune) bool {
	return r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune(shortPunctuation, r)
}

func makeShort(base, ext string) shortName {
	var s shortName
	for i := range s {
		s[i] = ' '
	}
	copy(s[:8], base)
	copy(s[8:], ext)
	return s
}

// alias makes the 8.3 name that stands in for a long name: fatgen103's basis
// name with the lowest numeric tail that taken does not hold. The tail is always
// there, so that an alias never takes a name that another file has by right.
func alias(name string, taken map[shortName]bool) (shortName, error) {
	name = strings.TrimLeft(name, ".")
	base, ext := name, ""
	if dot := strings.LastIndexByte(name, '.'); dot >= 0 {
		base, ext = name[:dot], name[dot+1:]
	}
	base, ext = basis(base), basis(ext)
	ext = ext[:min(len(ext), 3)]
	if base == "" {
		base = "_"
	}
	for n := 1; n <= 999999; n++ {
		tail := fmt.Sprintf("~%d", n)
		s := makeShort(base[:min(len(base), 8-len(tail))]+tail, ext)
		if !taken[s] {
			return s, nil
		}
	}
	return shortName{}, fmt.Errorf("no 8.3 alias is left for %q", name)
}

// basis upper-cases s, drops spaces and dots and replaces what an 8.3 name
// cannot have.
func basis(s string) string {
	return strings.Map(func(r rune) rune {
		switch r = toUpper(r); {
		case r == ' ' || r == '.':
			return -1
		case isShort(r):
			return r
		}
		return '_'
	}, s)
}

func toUpper(r rune) rune {
	if r >= 'a' && r <= 'z' {
		return r - 'a' + 'A'
	}
	return r
}

// checksum ties long records to their short one (fatgen103, ChkSum).
func (s shortName) checksum() uint8 {
	var sum uint8
	for _, c := range s {
		sum = sum>>1 + sum<<7 + c
	}
	return sum
}

// String returns the name with its dot.
func (s shortName) String() string {
	base, ext := strings.TrimRight(string(s[:8]), " "), strings.TrimRight(string(s[8:]), " ")
	if ext == "" {
		return base
	}
	return base + "." + ext
}

// inCase returns the name in the case that a record's NTRes bits say: Windows and
// Linux keep a name such as "grub.cfg" so, without long records. Plan does not.
func (s shortName) inCase(bits uint8) string {
	base, ext, dot := strings.Cut(s.String(), ".")
	if bits&caseLowerBase != 0 {
		base = strings.ToLower(base)
	}
	if bits&caseLowerExt != 0 {
		ext = strings.ToLower(ext)
	}
	if !dot {
		return base
	}
	return base + "." + ext
}

// longRecords encodes name as the long records that precede the record of
// short.
func longRecords(name string, short shortName) []longEntry {
	units := utf16.Encode([]rune(name))
	n := (len(units) + unitsPerRecord - 1) / unitsPerRecord
	// What follows the name in its last record is one NUL and then 0xffff;
	// a name that fills the record has neither.
	if len(units) < n*unitsPerRecord {
		units = append(units, 0)
	}
	for len(units) < n*unitsPerRecord {
		units = append(units, 0xffff)
	}
	records := make([]longEntry, n)
	for i := range records {
		part := units[i*unitsPerRecord:]
		e := longEntry{Order: uint8(i + 1), Attr: attrLong, Checksum: short.checksum()}
		copy(e.Name1[:], part[0:5])
		copy(e.Name2[:], part[5:11])
		copy(e.Name3[:], part[11:13])
		if i == n-1 {
			e.Order |= lastLong
		}
		records[n-1-i] = e
	}
	return records
}
