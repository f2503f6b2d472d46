//go:build system

package qemu

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	bakecluster "github.com/nodebake/bake/bake/cluster"
	"github.com/nodebake/bake/test/cluster"
	"github.com/nodebake/bake/test/filetest"
	"github.com/nodebake/bake/test/must"
	"github.com/nodebake/bake/test/walk"
)

// TestGuide does what docs/guide.md does in QEMU: three workers of the image with
// the smoke test's images, kubeconfigs, routes, DNS, the smoke test, and the end.
func TestGuide(t *testing.T) {
	theHost(t)
	cluster.Need(t, cluster.Current, root)
	here := must.Get(filepath.Abs(root))
	dir, state, tmp := t.TempDir(), t.TempDir(), t.TempDir()
	for _, name := range []string{"bin", "manifests", "out"} {
		if err := os.Symlink(filepath.Join(here, name), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	clusters := filepath.Join(state, "bake", "clusters")
	env := append(os.Environ(), "XDG_STATE_HOME="+state, "TMPDIR="+tmp)
	t.Cleanup(func() {
		if bakecluster.Exists(clusters, "bake") {
			if _, err := bakecluster.Logs(context.Background(), clusters, "bake", filepath.Join(here, "out", "qemu", "TestGuide.logs")); err != nil {
				t.Log(err)
			}
			if _, code := walk.Start(t, dir, env).Run("bin/bake cluster delete"); code != 0 {
				t.Errorf("bake cluster delete exits with %d", code)
			}
		}
	})
	commands := walk.Parse(string(filetest.Read(t, filepath.Join(root, "docs/guide.md"))))
	if len(commands) < 15 {
		t.Fatalf("docs/guide.md has %d commands in QEMU; want 15 and more", len(commands))
	}
	shell := walk.Start(t, dir, env)
	for _, step := range commands {
		out := shell.Do(step, oneSpace)
		if strings.HasPrefix(step.Command, "bin/bake smoke ") {
			save(t, "smoke", out)
			t.Log(out)
		}
	}
	for _, place := range []string{clusters, tmp} {
		if left, err := os.ReadDir(place); err != nil || len(left) > 0 {
			t.Errorf("left in %s: %v, %v", place, left, err)
		}
	}
}

// oneSpace is text with one space where columns have more.
func oneSpace(text string) string { return regexp.MustCompile(` +`).ReplaceAllString(text, " ") }
