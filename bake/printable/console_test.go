package printable_test

import (
	"bytes"
	"regexp"
	"strings"
	"testing"
	"unicode"

	"github.com/nodebake/bake/bake/printable"
)

func TestConsole(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"worker-0 login: \r\n":                       "worker-0 login: \r\n",
		"größe 🙂\t\b \b\a":                           "größe 🙂\t\b \b\a",
		"\x1b[1;32mOK\x1b[0m \x1b[K\x1b[2C":          "\x1b[1;32mOK\x1b[0m \x1b[K\x1b[2C",
		"\x1b[2J\x1b[01;01H\x1b[=3hBdsDxe":           "BdsDxe", // firmware
		"a\x1b[1A\x1b[2Kb":                           "a\x1b[2Kb",
		"a\x1b]0;title\x07b\x1b]52;c;eA==\x1b\\c":    "abc",
		"a\x1bPq#0\x1b\\b\x1b_x\x1b\\c\x1b(Bd\x1b7e": "abcde",
		"a\x1b[6n\x1b[cb\x1bcd":                      "abd",
		"a\x1b]0;never ended\nb":                     "a\nb",
		"a\x1b[31\nb":                                "a\nb",
		"a\x1b[" + strings.Repeat("1;", 50) + "mb":   "ab",
		"\u009b2J\u0085\x9b":                         `\u009b2J\u0085\x9b`,
		"\u202eabc\u2028":                            `\u202eabc\u2028`,
		`C:\new\x1b`:                                 `C:\new\x1b`, // a line is shown, not quoted
		"\xc3(":                                      `\xc3(`,
	} {
		for _, size := range []int{1, 3, len(in)} { // as it may arrive
			var out bytes.Buffer
			c := printable.NewConsole(&out)
			for rest := []byte(in); len(rest) > 0; rest = rest[min(size, len(rest)):] {
				if _, err := c.Write(rest[:min(size, len(rest))]); err != nil {
					t.Fatal(err)
				}
			}
			if got := out.String(); got != want {
				t.Errorf("Console of %q, %d bytes at a time, shows %q; want %q", in, size, got, want)
			}
		}
	}
}

// FuzzConsole lets nothing through but text, line ends and sequences that stay
// in their line.
func FuzzConsole(f *testing.F) {
	harmless := regexp.MustCompile("\x1b\\[[0-9;]*[mKCDGP@]")
	f.Add("\x1b[2J\x1b]0;x\x07\x1b[1mbold\u009b")
	f.Add("\x1b\x1b[\x1b]\x1b\\\xe2\x80")
	f.Fuzz(func(t *testing.T, s string) {
		var out bytes.Buffer
		if _, err := printable.NewConsole(&out).Write([]byte(s)); err != nil {
			t.Fatal(err)
		}
		left := harmless.ReplaceAllString(out.String(), "")
		if strings.ContainsFunc(left, func(r rune) bool { return !unicode.IsPrint(r) && !strings.ContainsRune("\n\r\t\b\a", r) }) {
			t.Errorf("Console of %q shows %q", s, out.String())
		}
	})
}
