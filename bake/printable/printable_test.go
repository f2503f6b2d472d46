package printable_test

import (
	"strconv"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/nodebake/bake/bake/printable"
)

func TestString(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"":                                 "",
		"/usr/bin/kubelet":                 "/usr/bin/kubelet",
		"/größe/日本語/🙂":                     "/größe/日本語/🙂",
		"a\x1b[2J\x1b[Hmade again":         `a\x1b[2J\x1b[Hmade again`,
		"a\nb\r\tc\x00\x7f\a":              `a\nb\r\tc\x00\x7f\x07`,
		"\u0085\u009b2J":                   `\u0085\u009b2J`, // C1: a line break, and CSI in one character
		"\x85\x9b":                         `\x85\x9b`,       // the same bytes, which are no UTF-8
		"\u202egpj.exe\u202c\u2066\u2069":  `\u202egpj.exe\u202c\u2066\u2069`,
		"a\u2028b\u2029c":                  `a\u2028b\u2029c`,
		"a\u200b\u200d\u00ad\ufeff\u2060b": `a\u200b\u200d\u00ad\ufeff\u2060b`,
		"a\u00a0b\u3000c":                  `a\u00a0b\u3000c`,
		"\U000e0041":                       `\U000e0041`, // a tag, which shows nothing
		"\ue000":                           `\ue000`,     // for private use
		"\xff\xfe":                         `\xff\xfe`,
		"\xed\xa0\x80":                     `\xed\xa0\x80`, // half of a surrogate pair
		"\ufffd":                           "\ufffd",       // itself, not a byte that is no UTF-8
		`dev-disk-by\x2dlabel.device`:      `dev-disk-by\x2dlabel.device`,
		`C:\dir`:                           `C:\dir`,
		`a\x1b`:                            `a\\x1b`,
		`a\\x1b`:                           `a\\\\x1b`,
		`a\nb`:                             `a\\nb`,
		"a\\\nb":                           `a\\\nb`,
		`a\u202e`:                          `a\\u202e`,
		`a\U000e0041`:                      `a\\U000e0041`,
		`a\`:                               `a\`,
	} {
		if got := printable.String(in); got != want {
			t.Errorf("String(%q) = %s; want %s", in, got, want)
		}
	}
}

// read turns what String wrote back.
func read(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); {
		if s[i] != '\\' {
			b.WriteByte(s[i])
			i++
			continue
		}
		rest, n := s[i+1:], 0
		switch {
		case strings.HasPrefix(rest, `\`):
			b.WriteByte('\\')
			i += 2
			continue
		case strings.HasPrefix(rest, "n"), strings.HasPrefix(rest, "r"), strings.HasPrefix(rest, "t"):
			b.WriteString(map[byte]string{'n': "\n", 'r': "\r", 't': "\t"}[rest[0]])
			i += 2
			continue
		case strings.HasPrefix(rest, "x"):
			n = 2
		case strings.HasPrefix(rest, "u"):
			n = 4
		case strings.HasPrefix(rest, "U"):
			n = 8
		}
		value, err := uint64(0), error(strconv.ErrSyntax)
		if n > 0 && len(rest) > n {
			value, err = strconv.ParseUint(rest[1:1+n], 16, 32)
		}
		switch {
		case err == nil && n == 2 && (value < ' ' || value > '~'):
			b.WriteByte(byte(value))
		case err == nil && n > 2 && value <= unicode.MaxRune && !unicode.IsPrint(rune(value)):
			b.WriteRune(rune(value))
		default:
			b.WriteByte('\\')
			n = -1
		}
		i += n + 2
	}
	return b.String()
}

// FuzzString holds what String writes to its promise: it can be shown, and
// nothing else gives it.
func FuzzString(f *testing.F) {
	for _, s := range []string{"plain", "a\x1b[2J", "\\\\x1b\\", "\\\n", "\xff\u202e\\u202e", "\U000e0041\\U000e0041", "\\xff\\x41\\u0041", "\\U00110000", "\\ud800"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := printable.String(s)
		if !utf8.ValidString(got) || strings.ContainsFunc(got, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("String(%q) = %q; want printable characters alone", s, got)
		}
		if back := read(got); back != s {
			t.Errorf("String(%q) = %q, which is also of %q", s, got, back)
		}
	})
}
