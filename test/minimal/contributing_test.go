package minimal

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/nodebake/bake/test/filetest"
)

// TestTableOfContributing requires that every path in the table of what to change
// where is there.
func TestTableOfContributing(t *testing.T) {
	text := filetest.Read(t, filepath.Join(tree, "CONTRIBUTING.md"))
	rows := 0
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "| ") {
			continue
		}
		rows++
		for _, m := range regexp.MustCompile("`([\\w.*-]+/[\\w./*-]*)`").FindAllStringSubmatch(line, -1) {
			found, err := filepath.Glob(filepath.Join(tree, m[1]))
			if err != nil || len(found) == 0 {
				t.Errorf("CONTRIBUTING.md names %s, which is not there", m[1])
			}
		}
	}
	if rows < 12 {
		t.Errorf("the table has %d rows; want 12 and more", rows)
	}
}
