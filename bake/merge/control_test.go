package merge

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestControlStatus(t *testing.T) {
	c, err := ParseControl([]byte("Package: x\nVersion: 1\nX-Other: o\nHomepage: h\nDescription: d\n more\n .\n end\nEssential: yes\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := "Package: x\nEssential: yes\nStatus: install ok installed\nVersion: 1\nConffiles:\n /etc/x 0\nDescription: d\n more\n .\n end\nX-Other: o\nHomepage: h\n"
	if diff := cmp.Diff(want, c.Status([]string{" /etc/x 0"})); diff != "" {
		t.Errorf("status (-want +got):\n%s", diff)
	}
	for _, text := range []string{" x\n", "x\n", "A: 1\na: 2\n", "A: 1\n\nB: 2\n"} {
		if _, err := ParseControl([]byte(text)); err == nil {
			t.Errorf("ParseControl(%q) = nil; want an error", text)
		}
	}
}

func FuzzParseControl(f *testing.F) {
	f.Add([]byte("Package: x\nDescription: d\n more\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := ParseControl(text)
		if err != nil {
			return
		}
		again, err := ParseControl([]byte(c.Status(nil)))
		if err == nil && len(again) != len(c)+1 && c.Get("Status") == "" && len(c) > 0 {
			t.Errorf("%d fields become %d", len(c), len(again))
		}
	})
}
