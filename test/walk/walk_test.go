package walk

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	const document = `Say it:

    $ bake one
    its first line
    [more]

    not a command's
    $ bake two   # exits with 4
    $ bake three  # exits with 0 or 4

No command: $ bake four
`
	want := []Step{
		{Command: "bake one", Codes: []int{0}, Prints: []string{"its first line", "[more]"}},
		{Command: "bake two", Codes: []int{4}},
		{Command: "bake three", Codes: []int{0, 4}},
	}
	if diff := cmp.Diff(want, Parse(document)); diff != "" {
		t.Errorf("Parse (-want +got):\n%s", diff)
	}
}

// TestRun runs commands one after the other in one shell.
func TestRun(t *testing.T) {
	s := Start(t, t.TempDir(), []string{"PATH=" + os.Getenv("PATH")})
	for _, test := range []struct {
		command string
		out     string
		code    int
	}{
		{`A='it is'; export B="$A set"`, "", 0},
		{"echo $B", "it is set\n", 0},
		{"printf 'no newline'; echo error >&2", "no newlineerror\n", 0},
		{"sh -c 'exit 4'", "", 4},
		{"cat", "", 0},
		{"false | true", "", 0},
	} {
		if out, code := s.Run(test.command); out != test.out || code != test.code {
			t.Errorf("Run(%s) = %q, %d; want %q, %d", test.command, out, code, test.out, test.code)
		}
	}
}

// recorder is a test that only notes what fails.
type recorder struct {
	testing.TB
	errors, fatals int
}

func (r *recorder) Helper()               {}
func (r *recorder) Logf(string, ...any)   {}
func (r *recorder) Errorf(string, ...any) { r.errors++ }
func (r *recorder) Fatalf(string, ...any) { r.fatals++ }

func TestDo(t *testing.T) {
	s := Start(t, t.TempDir(), []string{"PATH=" + os.Getenv("PATH")})
	for _, test := range []struct {
		step           Step
		errors, fatals int
	}{
		{Step{"printf 'a\\nb\\nC\\n'", []int{0}, []string{"a", "c"}}, 0, 0},
		{Step{"printf 'a\\nb\\n'", []int{0}, []string{"b", "a"}}, 1, 0},
		{Step{"false", []int{1}, nil}, 0, 0},
		{Step{"false", []int{0, 4}, nil}, 0, 1},
	} {
		r := &recorder{TB: t}
		(&Shell{r, s.stdin, s.out}).Do(test.step, strings.ToLower)
		if r.errors != test.errors || r.fatals != test.fatals {
			t.Errorf("Do(%v) has %d errors and %d fatal ones; want %d, %d", test.step, r.errors, r.fatals, test.errors, test.fatals)
		}
	}
}
