package manifest

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// readSample reads one of everything that the decoding layer can read.
type sample struct {
	Name    string
	Note    string
	Kind    string
	Deep    bool
	Count   int64
	Size    int64
	Mode    uint16
	Words   []string
	Things  map[string]string
	Missing string
}

func readSample(data string) (sample, error) {
	var s sample
	doc, top := parseYAML("f.yaml", []byte(data))
	s.Name = top.required("name").text()
	s.Note = top.optional("note").anyText()
	s.Kind = top.optional("kind").oneOf("release", "module")
	s.Count = top.optional("count").integer(1, 9)
	s.Size = top.optional("size").integer(1, math.MaxInt64)
	s.Mode = top.optional("mode").mode()
	s.Words = top.optional("words").texts()
	s.Deep = top.optional("outer").mapping().required("inner").mapping().required("deep").boolean()
	for _, thing := range top.optional("things").mapping().entries() {
		if s.Things == nil {
			s.Things = map[string]string{}
		}
		s.Things[thing.name] = thing.text()
	}
	return s, doc.err()
}

func TestYAMLReadsEverything(t *testing.T) {
	got, err := readSample(`# a comment
name: "1.10"
note: |
  two
  lines
kind: module
count: 3
size: 9223372036854775807
mode: 0755
words: [a, b c]
outer: {inner: {deep: true}}
things:
  one: x
  two: "y"
`)
	if err != nil {
		t.Fatal(err)
	}
	want := sample{
		Name: "1.10", Note: "two\nlines\n", Kind: "module", Deep: true, Count: 3, Size: math.MaxInt64, Mode: 0o755,
		Words: []string{"a", "b c"}, Things: map[string]string{"one": "x", "two": "y"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("read sample (-want +got):\n%s", diff)
	}
}

func TestYAMLErrors(t *testing.T) {
	for _, test := range []struct {
		name, data, want string
	}{
		{"empty", "", "f.yaml:1:1: file is empty"},
		{"only a comment", "# nothing\n", "f.yaml:1:1: file is empty"},
		{"only a marker", "---\n", "f.yaml:1:1: file is empty"},
		{"null", "~\n", "f.yaml:1:1: file is empty"},
		{"not a mapping", "- a\n", "f.yaml:1:1: want a mapping, found a list"},
		{"not UTF-8", "name: \xff\n", "f.yaml:1:1: file is not UTF-8"},
		{"too large", "name: " + strings.Repeat("x", maxFileSize), "f.yaml:1:1: file has 1048582 bytes, more than the 1048576 that are read"},
		{"two documents", "name: a\n---\nname: b\n", "f.yaml:2:1: a second YAML document starts here (a file holds one)"},
		{"syntax", "name: a\nkind: [b\n", "f.yaml:2:1: not YAML: did not find expected ',' or ']'"},
		{"syntax to the end", "name: [a", "f.yaml:2:1: not YAML: did not find expected ',' or ']'"},
		{"syntax of a key", "name: a\nouter:\n  inner: {}\n deep: a\n", "f.yaml:4:1: not YAML: did not find expected key"},
		{"tabs", "outer:\n\tinner: 1\n", "f.yaml:2:1: not YAML: found character that cannot start any token"},
		{"missing", "kind: module\n", "f.yaml:1:1: name: missing (add it)"},
		{"missing deep down", "name: a\nouter:\n  inner: {}\n", "f.yaml:3:3: outer.inner.deep: missing (add it)"},
		{"unknown", "name: a\ncolour: b\n", "f.yaml:2:1: colour: unknown key (known here: count, kind, mode, name, note, outer, size, things, words)"},
		{"near miss", "name: a\nouter:\n  inner: {dep: true}\n", "f.yaml:3:3: outer.inner.deep: missing (add it)\nf.yaml:3:11: outer.inner.dep: unknown key (did you mean \"deep\"?)"},
		{"swapped letters", "name: a\nkidn: module\n", "f.yaml:2:1: kidn: unknown key (did you mean \"kind\"?)"},
		{"duplicate", "name: a\nkind: module\nname: b\n", "f.yaml:3:1: name: duplicate key, first on line 1 (remove one)"},
		{"duplicate in flow style", "name: a\nthings: {x: a, x: b}\n", "f.yaml:2:16: things.x: duplicate key, first on line 2 (remove one)"},
		{"number for text", "name: 1.10\n", "f.yaml:1:7: name: want text, found the number 1.10 (put it in quotes)"},
		{"truth value for text", "name: true\n", "f.yaml:1:7: name: want text, found the truth value true (put it in quotes)"},
		{"date for text", "name: 2026-11-05\n", "f.yaml:1:7: name: want text, found the date 2026-11-05 (put it in quotes)"},
		{"nothing for text", "name:\n", "f.yaml:1:6: name: want text, found nothing"},
		{"empty text", "name: ''\n", "f.yaml:1:7: name: empty (write a value, or remove the key)"},
		{"control character", `name: "a\nb"`, "f.yaml:1:7: name: text has a line break or another control character (write it on one line)"},
		{"list for text", "name: [a]\n", "f.yaml:1:7: name: want text, found a list"},
		{"text for list", "name: a\nwords: b\n", "f.yaml:2:8: words: want a list, found \"b\""},
		{"number in list", "name: a\nwords:\n  - b\n  - 7\n", "f.yaml:4:5: words[1]: want text, found the number 7 (put it in quotes)"},
		{"list for mapping", "name: a\nouter: []\n", "f.yaml:2:8: outer: want a mapping, found a list"},
		{"nothing for mapping", "name: a\nouter:\n", "f.yaml:2:7: outer: want a mapping, found nothing"},
		{"unknown choice", "name: a\nkind: banana\n", "f.yaml:2:7: kind: \"banana\" is not known (choose from: release, module)"},
		{"near choice", "name: a\nkind: modul\n", "f.yaml:2:7: kind: \"modul\" is not known (did you mean \"module\"?)"},
		{"not a truth value", "name: a\nouter: {inner: {deep: yes}}\n", "f.yaml:2:23: outer.inner.deep: want true or false, found \"yes\""},
		{"not a number", "name: a\ncount: many\n", "f.yaml:2:8: count: want a whole decimal number, found \"many\""},
		{"octal number", "name: a\ncount: 0o7\n", "f.yaml:2:8: count: want a whole decimal number, found the number 0o7"},
		{"number too large", "name: a\ncount: 10\n", "f.yaml:2:8: count: 10 is out of range (1 to 9)"},
		{"number too small", "name: a\nsize: 0\n", "f.yaml:2:7: size: 0 is out of range (at least 1)"},
		{"decimal mode", "name: a\nmode: 493\n", "f.yaml:2:7: mode: want a mode of four octal digits such as 0755, found the number 493"},
		{"short mode", "name: a\nmode: 755\n", "f.yaml:2:7: mode: want a mode of four octal digits such as 0755, found the number 755"},
		{"long text", "name: a\nwords: " + strings.Repeat("é", 50) + "\n", "f.yaml:2:8: words: want a list, found \"" + strings.Repeat("é", 40) + "...\""},
		{"anchor and alias", "name: &n a\nkind: *n\n", "f.yaml:1:7: name: anchor &n is not allowed (write the value out where it is used)\nf.yaml:2:7: kind: alias *n is not allowed (write the value out)"},
		{"unknown alias", "name: *n\n", "f.yaml:1:1: not YAML: unknown anchor 'n' referenced"},
		{"merge key", "name: a\n<<: {kind: module}\n", "f.yaml:2:1: <<: merge key is not allowed (write the keys out)"},
		{"tag", "name: !!str 1.10\n", "f.yaml:1:7: name: tag !!str is not allowed (remove it)"},
		{"own tag", "words: [!env HOME]\n", "f.yaml:1:9: words[0]: tag !env is not allowed (remove it)"},
		{"tag with a line break", "words: [!a%0Ab HOME]\n", "f.yaml:1:9: words[0]: tag \"!a\\nb\" is not allowed (remove it)"},
		{"key with a line break", "name: a\nouter: {inner: {deep: true}, \"a\\nb\": c}\n", "f.yaml:2:30: outer.\"a\\nb\": unknown key (known here: inner)"},
		{"mapping as key", "name: a\nouter:\n  {a: b}: c\n", "f.yaml:3:3: outer: a key must be text"},
		{"several at once", "nam: a\ncount: 0\nmode: x\n", "f.yaml:1:1: name: missing (add it)\nf.yaml:1:1: nam: unknown key (did you mean \"name\"?)\nf.yaml:2:8: count: 0 is out of range (1 to 9)\nf.yaml:3:7: mode: want a mode of four octal digits such as 0755, found \"x\""},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := readSample(test.data)
			if got := text(err); got != test.want {
				t.Errorf("readSample(%.60q):\n got %s\nwant %s", test.data, got, test.want)
			}
			if _, ok := errors.AsType[*InputError](err); err != nil && !ok {
				t.Errorf("errors.As(%v, *InputError) = false; want true", err)
			}
		})
	}
}

// TestYAMLBillionLaughs reads nine levels of nine aliases, which would be
// 387 million strings.
func TestYAMLBillionLaughs(t *testing.T) {
	var b strings.Builder
	b.WriteString("a0: &a0 ha\n")
	for level := range 9 {
		here, below := string(rune('1'+level)), string(rune('0'+level))
		b.WriteString("a" + here + ": &a" + here + " [" + strings.TrimSuffix(strings.Repeat("*a"+below+", ", 9), ", ") + "]\n")
	}
	_, err := readSample(b.String())
	want := "f.yaml:1:5: a0: anchor &a0 is not allowed (write the value out where it is used)\n"
	if !strings.HasPrefix(text(err), want) {
		t.Errorf("readSample(billion laughs) = %.200v; want prefix %q", err, want)
	}
}

// TestYAMLManyErrors reads a file that is something else altogether.
func TestYAMLManyErrors(t *testing.T) {
	var b strings.Builder
	for i := range 100 {
		fmt.Fprintf(&b, "key%d: value\n", i)
	}
	_, err := readSample(b.String())
	lines := strings.Split(text(err), "\n")
	if want := "f.yaml: and 81 more"; len(lines) != maxProblems+1 || lines[maxProblems] != want {
		t.Errorf("readSample(100 unknown keys) = %d lines, the last %q; want %d, the last %q", len(lines), lines[len(lines)-1], maxProblems+1, want)
	}
}

func TestNearest(t *testing.T) {
	known := []string{"module", "package", "path", "release"}
	for _, test := range []struct{ word, want string }{
		{"relase", "release"},
		{"rlsease", "release"},
		{"Module", "module"},
		{"pacakge", "package"},
		{"pth", "path"},
		{"ptah", "path"},
		{"x", ""},
		{"", ""},
		{"version", ""},
		{strings.Repeat("release", 100), ""},
	} {
		if got := nearest(test.word, known); got != test.want {
			t.Errorf("nearest(%q) = %q; want %q", test.word, got, test.want)
		}
	}
}

// text is an error's message, or "".
func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
