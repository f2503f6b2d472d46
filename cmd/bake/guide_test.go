package main

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nodebake/bake/test/filetest"
)

// TestGuidesRoutes has the gcloud lines about routes in docs/guide.md: those that
// make them are what `bake routes` prints for the guide's workers, and those that
// list them are what it reads, as its help says.
func TestGuidesRoutes(t *testing.T) {
	t.Parallel()
	p := newProgram(t)
	var dirs []string
	ca := "--ca-dir ca --new-ca"
	for i := range 3 {
		worker := fmt.Sprintf("worker-%d", i)
		p.succeed(t, fmt.Sprintf("bake node %s --server https://203.0.113.1:6443 %s --ip 10.240.0.2%d --pod-cidr 10.200.%d.0/24 --output %s", worker, ca, i, i, worker))
		dirs, ca = append(dirs, worker), "--ca-dir ca"
	}
	var known bytes.Buffer
	known.WriteString(p.succeed(t, "bake routes create "+strings.Join(dirs, " ")))
	for _, command := range []string{"create", "list", "delete"} {
		known.WriteString(strings.ReplaceAll(p.succeed(t, "bake routes "+command+" --help"), "worker-*", strings.Join(dirs, " ")))
	}
	found := 0
	for line := range strings.Lines(string(filetest.Read(t, filepath.Join("..", "..", "docs", "guide.md")))) {
		command, indented := strings.CutPrefix(strings.TrimSpace(line), "gcloud compute routes ")
		if !indented {
			continue
		}
		found++
		command = "gcloud compute routes " + strings.TrimSuffix(command, " | sh")
		if !strings.Contains(known.String(), command+"\n") {
			t.Errorf("docs/guide.md has a line that bake prints nowhere:\n%s\nbake prints\n%s", command, &known)
		}
	}
	if found < 3 {
		t.Errorf("docs/guide.md has %d gcloud lines about routes; want 3 and more", found)
	}
}
