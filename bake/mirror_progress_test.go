package bake_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nodebake/bake/bake/arch"
	"github.com/nodebake/bake/bake/baketest"
	"github.com/nodebake/bake/bake/mirrorsync"
)

// TestMirrorProgress mirrors two sets that have most in common, at once: as many
// tasks are announced as there are.
func TestMirrorProgress(t *testing.T) {
	t.Parallel()
	w, _ := worldWithImages(t)
	other := filepath.Join(w.Dir, "other.yaml")
	text := strings.Replace(string(read(t, w.Versions)), "panic=10", "panic=20", 1)
	if err := os.WriteFile(other, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	own := w.LockConfig(w.Config())
	own.Versions = other
	if _, err := baketest.Lock(t.Context(), own, arch.AMD64); err != nil {
		t.Fatal(err)
	}
	c := mirrorConfig(t, w)
	c.Sets = append(c.Sets, mirrorsync.Set{Name: "other", Versions: other})
	c.Cache = filepath.Join(t.TempDir(), "empty")
	var sink recorder
	c.Progress = &sink
	makeMirror(t, c)
	notes := sink.notes()
	var tasks []string
	for _, line := range sink.lines() {
		// How many indices must be asked for is not known before.
		if !slices.Contains(notes, line) && !strings.HasPrefix(line, "fetch trixie") {
			tasks = append(tasks, line)
		}
	}
	if sink.expected != len(tasks) {
		t.Errorf("%d tasks were announced; want %d:\n%s", sink.expected, len(tasks), strings.Join(tasks, "\n"))
	}
}
