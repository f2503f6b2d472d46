package minimal

import (
	"bytes"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/nodebake/bake/test/filetest"
)

// workflow is what a forge's workflow may say here; another key is an error.
type workflow struct {
	Name        string
	On          map[string]any
	Permissions map[string]string
	Concurrency map[string]any
	Jobs        map[string]struct {
		RunsOn    string         `yaml:"runs-on"`
		Timeout   int            `yaml:"timeout-minutes"`
		Container map[string]any `yaml:"container"`
		Defaults  map[string]any
		Steps     []struct {
			Name, Uses, Run string
			With            map[string]string
		}
	}
}

// TestWorkflow requires that a forge runs what people do, may only read, and
// runs no action that somebody can change.
func TestWorkflow(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(tree, ".github/workflows/*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("found %v, %v; want a workflow", files, err)
	}
	var runs []string
	for _, file := range files {
		data := filetest.Read(t, file)
		var w workflow
		decoder := yaml.NewDecoder(bytes.NewReader(data))
		decoder.KnownFields(true)
		if err := decoder.Decode(&w); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if len(w.Permissions) != 1 || w.Permissions["contents"] != "read" {
			t.Errorf("%s has the permissions %v; want contents: read", file, w.Permissions)
		}
		for name, job := range w.Jobs {
			if job.Timeout == 0 || job.Timeout > 90 {
				t.Errorf("%s: job %s may take %d minutes; want 1 to 90", file, name, job.Timeout)
			}
			for _, step := range job.Steps {
				if step.Uses != "" && !regexp.MustCompile(`^[\w./-]+@[0-9a-f]{40}$`).MatchString(step.Uses) {
					t.Errorf("%s: %s is not pinned by a commit", file, step.Uses)
				}
				runs = append(runs, strings.TrimSpace(step.Run))
			}
		}
	}
	for _, want := range []string{"make lint", "make test"} {
		if !slices.Contains(runs, want) {
			t.Errorf("no workflow runs %s", want)
		}
	}
}
