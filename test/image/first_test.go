//go:build system

package image

import (
	"errors"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nodebake/bake/test/filetest"
)

// step is a command of docs/first-image.md, with what it prints.
type step struct {
	command string
	codes   []int // of which it exits with one
	prints  []string
}

// steps reads the commands of a document: lines that begin with "$ " in an
// indented block, each followed by lines that it prints, among others.
func steps(text string) []step {
	exits := regexp.MustCompile(` +# exits with (\d+)(?: or (\d+))?$`)
	var all []step
	shown := false // the line before is of a command
	for line := range strings.Lines(text) {
		line, indented := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "    ")
		command, begins := strings.CutPrefix(line, "$ ")
		switch {
		case indented && begins:
			s := step{command: exits.ReplaceAllString(command, ""), codes: []int{0}}
			if m := exits.FindStringSubmatch(command); m != nil {
				s.codes = nil
				for _, digits := range m[1:] {
					if code, err := strconv.Atoi(digits); err == nil {
						s.codes = append(s.codes, code)
					}
				}
			}
			all, shown = append(all, s), true
		case indented && shown:
			last := &all[len(all)-1]
			last.prints = append(last.prints, line)
		default:
			shown = false
		}
	}
	return all
}

// elsewhere is how commands begin that TestRun of test/qemu runs.
const elsewhere = "bin/bake run "

// TestFirstImage does what docs/first-image.md says, in its order. Digests,
// versions of packages and counts may be others by now.
func TestFirstImage(t *testing.T) {
	text := filetest.Read(t, filepath.Join(root, "docs/first-image.md"))
	dir := t.TempDir()
	run(t, "sh", "-ec", `cd "$1" && cp -r --parents manifests images bin/bake "$2"`, "sh", root, dir)
	walk := steps(string(text))
	if len(walk) < 20 {
		t.Fatalf("docs/first-image.md has %d commands; want 20 and more", len(walk))
	}
	for _, s := range walk {
		if strings.HasPrefix(s.command, elsewhere) {
			continue
		}
		from := time.Now()
		cmd := exec.CommandContext(t.Context(), "bash", "-c", s.command)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		code := 0
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			code = exit.ExitCode()
		} else if err != nil {
			t.Fatal(err)
		}
		t.Logf("%5.1f s  %s", time.Since(from).Seconds(), s.command)
		if !slices.Contains(s.codes, code) {
			t.Fatalf("%s exits with %d; want %v:\n%s", s.command, code, s.codes, out)
		}
		rest := likely(string(out))
		for _, want := range s.prints {
			_, after, found := strings.Cut(rest, likely(want))
			if !found {
				t.Errorf("%s prints\n%s\nwhere docs/first-image.md has\n%s", s.command, out, want)
				break
			}
			rest = after
		}
	}
}

// likely is text without what may differ from one day to another: digests,
// versions of packages, and numbers.
func likely(text string) string {
	text = regexp.MustCompile(`sha256:[0-9a-f]{12,64}`).ReplaceAllString(text, "sha256:0")
	text = regexp.MustCompile(`(package|amd64: \+) (\S+) \S+`).ReplaceAllString(text, "$1 $2 0")
	return regexp.MustCompile(`\d+`).ReplaceAllString(text, "0")
}
