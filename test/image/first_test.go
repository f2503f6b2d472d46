//go:build system

package image

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/nodebake/bake/test/filetest"
	"github.com/nodebake/bake/test/walk"
)

// elsewhere is how commands begin that TestRun of test/qemu runs.
const elsewhere = "bin/bake run "

// TestFirstImage does what docs/first-image.md says, in its order. Digests,
// versions of packages and counts may be others by now.
func TestFirstImage(t *testing.T) {
	text := filetest.Read(t, filepath.Join(root, "docs/first-image.md"))
	dir := t.TempDir()
	run(t, "sh", "-ec", `cd "$1" && cp -r --parents manifests images bin/bake "$2"`, "sh", root, dir)
	commands := walk.Parse(string(text))
	if len(commands) < 20 {
		t.Fatalf("docs/first-image.md has %d commands; want 20 and more", len(commands))
	}
	shell := walk.Start(t, dir, os.Environ())
	for _, step := range commands {
		if !strings.HasPrefix(step.Command, elsewhere) {
			shell.Do(step, likely)
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
