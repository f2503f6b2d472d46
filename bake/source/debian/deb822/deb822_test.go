package deb822

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func readAll(d *Reader) ([]Stanza, error) {
	var all []Stanza
	for {
		s, err := d.Next()
		if err == io.EOF {
			return all, nil
		}
		if err != nil {
			return all, err
		}
		all = append(all, s)
	}
}

func TestReader(t *testing.T) {
	long := strings.Repeat("x", 200<<10) // more than the buffer
	tests := []struct {
		name     string
		text     string
		keep     []string
		comments bool
		want     []Stanza
	}{
		{"empty", "", nil, false, nil},
		{"blank lines only", "\n\n\n", nil, false, nil},
		{"two stanzas", "A: 1\nB: 2\n\n\nA: 3\n", nil, false, []Stanza{
			{1, []Field{{"A", "1"}, {"B", "2"}}},
			{5, []Field{{"A", "3"}}},
		}},
		{"no line feed at the end", "A: 1", nil, false, []Stanza{{1, []Field{{"A", "1"}}}}},
		{"empty value", "A:\nB:  \n", nil, false, []Stanza{{1, []Field{{"A", ""}, {"B", ""}}}}},
		{"blanks around", "A: \t1 2 \t\n", nil, false, []Stanza{{1, []Field{{"A", "1 2"}}}}},
		{"colons in the value", "A:b:c\n", nil, false, []Stanza{{1, []Field{{"A", "b:c"}}}}},
		{"continued", "A: 1,\n 2,\n\t3 \nB: 4\n", nil, false, []Stanza{{1, []Field{{"A", "1,\n2,\n3"}, {"B", "4"}}}}},
		{"continued from an empty line", "A:\n one\n .\n two\n", nil, false, []Stanza{{1, []Field{{"A", "\none\n.\ntwo"}}}}},
		{"kept in any case", "PACKAGE: x\nSkip: y\n more\nVersion: 1\n", []string{"Package", "version"}, false,
			[]Stanza{{1, []Field{{"PACKAGE", "x"}, {"Version", "1"}}}}},
		{"nothing kept", "A: 1\n\nB: 2\n", []string{"C"}, false, []Stanza{{1, nil}, {3, nil}}},
		{"comments", "# a\nA: 1\n# b\n 2\n\n#c\n", nil, true, []Stanza{{2, []Field{{"A", "1\n2"}}}}},
		{"a long line", "A: " + long + "\nB: 1\n", nil, false, []Stanza{{1, []Field{{"A", long}, {"B", "1"}}}}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			d := NewReader(strings.NewReader(test.text), test.keep...)
			d.Comments = test.comments
			got, err := readAll(d)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("stanzas of %q (-want +got):\n%s", test.name, diff)
			}
		})
	}
}

func TestReaderErrors(t *testing.T) {
	tests := []struct {
		name, text string
		line       int
		want       string
	}{
		{"no colon", "A: 1\nB\n", 2, "no colon"},
		{"no name", ": 1\n", 1, "no field name"},
		{"blank in the name", "A b: 1\n", 1, "no field name"},
		{"hyphen first", "-A: 1\n", 1, "no field name"},
		{"comment where there are none", "# A: 1\n", 1, "no field name"},
		{"not ASCII", "Ä: 1\n", 1, "no field name"},
		{"name too long", strings.Repeat("a", 65) + ": 1\n", 1, "no field name"},
		{"blanks only", "A: 1\n \t\nB: 2\n", 2, "blanks only"},
		{"continuation of nothing", "\n x\n", 2, "before any field"},
		{"twice", "A: 1\nB: 2\na: 3\n", 3, "twice"},
		{"NUL", "A: 1\nB: \x00\n", 2, "NUL"},
		{"line too long", "A: 1\nB: " + strings.Repeat("x", MaxLine) + "\n", 2, "longer than"},
		{"endless line", strings.Repeat("x", MaxLine+2), 1, "longer than"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := readAll(NewReader(strings.NewReader(test.text)))
			var syntax *SyntaxError
			if !errors.As(err, &syntax) {
				t.Fatalf("error is %v; want a SyntaxError", err)
			}
			if syntax.Line != test.line || !strings.Contains(syntax.Msg, test.want) {
				t.Errorf("error is %v; want line %d and %q", err, test.line, test.want)
			}
		})
	}
}

func TestReaderReportsReadErrors(t *testing.T) {
	broken := errors.New("the disk is broken")
	r := io.MultiReader(strings.NewReader("A: 1\nB: 2"), errReader{broken})
	if _, err := readAll(NewReader(r)); !errors.Is(err, broken) {
		t.Errorf("error is %v; want %v", err, broken)
	}
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }

// FuzzReader checks that what was read, written again, reads the same.
func FuzzReader(f *testing.F) {
	f.Add("Package: bash\nDepends: libc6 (>= 2.38),\n libtinfo6\nDescription: GNU\n .\n more\n\nPackage: dash\n")
	f.Add("# comment\nTypes: deb\n")
	f.Add("A:\n b\n\tc")
	f.Fuzz(func(t *testing.T, text string) {
		first, err := readAll(NewReader(strings.NewReader(text)))
		if err != nil {
			return
		}
		var again strings.Builder
		for _, s := range first {
			for _, f := range s.Fields {
				again.WriteString(f.Name + ": " + strings.ReplaceAll(f.Value, "\n", "\n ") + "\n")
			}
			again.WriteString("\n")
		}
		second, err := readAll(NewReader(strings.NewReader(again.String())))
		if err != nil {
			t.Fatalf("reading %q again: %v", again.String(), err)
		}
		for i := range first {
			first[i].Line = 0
		}
		for i := range second {
			second[i].Line = 0
		}
		if diff := cmp.Diff(first, second); diff != "" {
			t.Errorf("stanzas of %q (-first +second):\n%s", text, diff)
		}
	})
}
