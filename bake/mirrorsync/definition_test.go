package mirrorsync_test

import (
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/bake/baketest"
	"github.com/nodebake/bake/bake/mirrorsync"
	"github.com/nodebake/bake/bake/source/mirror"
	"github.com/nodebake/bake/test/filetest"
)

// TestMirrorDefinition brings a set whose definition lies beside the directory of
// its versions file, as in a checkout of this project, and bakes from what comes
// out of the mirror.
func TestMirrorDefinition(t *testing.T) {
	t.Parallel()
	w, _ := baketest.NewBaked(t)
	w.Checkout()
	w.Lock()
	want := w.Image(w.Config()).SHA256
	c := w.MirrorConfig()
	c.Sets[0].Versions, c.Sets[0].Dir = w.Versions, filepath.Dir(w.Versions)
	c.Sources = true
	baketest.Mirror(t, c)
	if r := baketest.Mirror(t, c); r.Added.Files > 0 {
		t.Errorf("mirroring what is there = %+v; want nothing added", r)
	}
	x := readIndex(t, c.To)
	var paths []string
	for _, e := range x.Entries {
		if slices.Contains([]mirror.Kind{mirror.Versions, mirror.Lock, mirror.Definition}, e.Kind) {
			paths = append(paths, string(e.Kind)+" "+e.Path)
		}
	}
	if diff := cmp.Diff([]string{
		"versions tiny/manifests/modules/kubelet/go.mod", "versions tiny/manifests/modules/kubelet/go.sum", "versions tiny/manifests/versions.yaml",
		"lock tiny/manifests/versions.lock",
		"definition tiny/images/worker/configure.yaml", "definition tiny/images/worker/files/etc/tiny.secret",
		"definition tiny/images/worker/files/etc/tool.conf", "definition tiny/images/worker/image.yaml",
	}, paths); diff != "" {
		t.Errorf("inputs in the mirror (-want +got):\n%s", diff)
	}
	filetest.Remove(t, w.Definition())
	w.Shutdown()
	to := t.TempDir()
	if _, err := mirrorsync.Extract(t.Context(), c.To, to); err != nil {
		t.Fatal(err)
	}
	b := w.Offline(c.To)
	b.Versions = filepath.Join(to, "tiny", "manifests", "versions.yaml")
	if got := w.Image(b).SHA256; got != want {
		t.Errorf("the image of what was in the mirror is %s; want %s", got, want)
	}
}

// TestMirrorDefinitionPaths has names on the way to a definition that no mirror
// takes.
func TestMirrorDefinitionPaths(t *testing.T) {
	t.Parallel()
	w, _ := baketest.NewBaked(t)
	w.Checkout()
	w.Lock()
	for dir, want := range map[string]string{
		`/a/b\c`: w.Versions + ` can't be a set of the mirror: the path "tiny/b\\c/versions.yaml" is no path below a directory`,
		"/":      w.Versions + `:59:1: definition: "../images/worker" leads above the root of the filesystem`,
	} {
		c := w.MirrorConfig()
		c.Sets[0].Dir = dir
		_, err := mirrorsync.Run(t.Context(), c)
		baketest.WantError(t, err, "input", want)
	}
}
