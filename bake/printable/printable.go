// Package printable shows text that others wrote: names of files and packages,
// targets of links, fields of records, answers of servers, the console of a
// machine. On a terminal such text can do more than be read: clear the screen,
// write lines that look like ours, turn the order of letters around.
//
// Text becomes printable where it leaves for people, and once: each line of
// results, progress and errors in cmd/bake and bake/progress goes through
// [String] as a whole, before its line break is added, so that a line stays one
// line whatever stands in it. Errors and results hold text as it is. JSON and
// files that are asked for by name are data for programs, and left alone.
//
// It does not hide letters that look like others, and it does not shorten.
package printable

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// String writes what a terminal would not show as a character of its own as Go
// does: "\n", "\x1b", "\u202e", and a byte that is no UTF-8 as "\xff". So are
// control characters, format characters (Unicode's Cf, such as overrides of the
// direction and spaces without width), line and paragraph separators, what is
// private or not assigned, and all spaces but U+0020.
//
// No two texts give the same: a backslash is doubled where what follows would
// make it look like one of these; elsewhere, as in the names of systemd's units, it
// stays as it is.
func String(s string) string {
	if isPlain(s) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == '\\':
			b.WriteByte('\\')
			if ambiguous(s[i+1:]) {
				b.WriteByte('\\')
			}
		case !escaped(r, size):
			b.WriteString(s[i : i+size])
		default:
			escape(&b, r, size, s[i])
		}
		i += size
	}
	return b.String()
}

// isPlain reports whether s has printable ASCII alone, without a backslash.
func isPlain(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' || s[i] == '\\' {
			return false
		}
	}
	return true
}

// escaped reports whether a character, in UTF-8 of size bytes, is shown as an
// escape.
func escaped(r rune, size int) bool {
	return r == utf8.RuneError && size == 1 || !unicode.IsPrint(r)
}

func escape(b *strings.Builder, r rune, size int, first byte) {
	const hex = "0123456789abcdef"
	switch {
	case r == utf8.RuneError && size == 1, r < utf8.RuneSelf && r != '\n' && r != '\r' && r != '\t':
		b.WriteString(`\x`)
		b.WriteByte(hex[first>>4])
		b.WriteByte(hex[first&15])
	default: // \n, \r, \t, \u00a0, \U000e0001
		quoted := strconv.QuoteRuneToASCII(r)
		b.WriteString(quoted[1 : len(quoted)-1])
	}
}

// ambiguous reports whether a backslash before rest would be read as the
// beginning of an escape.
func ambiguous(rest string) bool {
	if rest == "" {
		return false
	}
	if r, size := utf8.DecodeRuneInString(rest); r == '\\' || escaped(r, size) {
		return true
	}
	switch rest[0] {
	case 'n', 'r', 't':
		return true
	case 'x':
		n, ok := digits(rest, 2)
		return ok && (n < ' ' || n > '~')
	case 'u':
		n, ok := digits(rest, 4)
		return ok && !unicode.IsPrint(rune(n))
	case 'U':
		n, ok := digits(rest, 8)
		return ok && (n > unicode.MaxRune || !unicode.IsPrint(rune(n)))
	}
	return false
}

// digits reads n hexadecimal digits behind a letter.
func digits(s string, n int) (uint64, bool) {
	if len(s) < 1+n {
		return 0, false
	}
	value, err := strconv.ParseUint(s[1:1+n], 16, 32)
	return value, err == nil
}
