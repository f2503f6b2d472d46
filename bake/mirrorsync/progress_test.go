package mirrorsync_test

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nodebake/bake/bake/baketest"
	"github.com/nodebake/bake/bake/progress/progresstest"
)

// TestMirrorProgress mirrors two sets that have most in common, at once: as many
// tasks are announced as there are.
func TestMirrorProgress(t *testing.T) {
	t.Parallel()
	w, _ := baketest.NewWithImages(t)
	c := w.MirrorConfig()
	c.Sets = append(c.Sets, otherSet(t, w))
	c.Cache = filepath.Join(t.TempDir(), "empty")
	var sink progresstest.Recorder
	c.Progress = &sink
	baketest.Mirror(t, c)
	notes := sink.Notes()
	var tasks []string
	for _, line := range sink.Lines() {
		// How many indices must be asked for is not known before.
		if !slices.Contains(notes, line) && !strings.HasPrefix(line, "fetch trixie") {
			tasks = append(tasks, line)
		}
	}
	if sink.Expected != len(tasks) {
		t.Errorf("%d tasks were announced; want %d:\n%s", sink.Expected, len(tasks), strings.Join(tasks, "\n"))
	}
}
