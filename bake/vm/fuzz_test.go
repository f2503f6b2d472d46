package vm

import (
	"io"
	"strings"
	"testing"
	"time"
)

// FuzzConsole writes the same text at once and byte by byte.
func FuzzConsole(f *testing.F) {
	for _, seed := range []string{
		"", "\n", "login: ", "BdsDxe: starting\r\n\x1b[2J\nEFI stub\r\n", "[\x1b[0;32m  OK  \x1b[0m]\n", "\x1b]0;title\n\x07", "\x1b", "a\xff\n\x1b[",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		at := func() time.Time { return time.Unix(0, 0) }
		whole, parts := newConsole(at, nil), newConsole(at, nil)
		io.WriteString(whole, text)
		for i := range len(text) {
			io.WriteString(parts, text[i:i+1])
		}
		a, b := whole.Lines(), parts.Lines()
		if len(a) != len(b) || whole.String() != text || parts.String() != text {
			t.Fatalf("%q: %d lines at once, %d byte by byte", text, len(a), len(b))
		}
		for i := range a {
			if a[i] != b[i] {
				t.Errorf("%q: line %d is %q at once, %q byte by byte", text, i, a[i], b[i])
			}
			if strings.Contains(a[i].Text, "\n") {
				t.Errorf("%q: line %d is %q", text, i, a[i])
			}
		}
	})
}
