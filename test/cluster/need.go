package cluster

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nodebake/bake/bake/controlplane"
	"github.com/nodebake/bake/bake/progress"
	"github.com/nodebake/bake/bake/source"
	"github.com/nodebake/bake/bake/source/store"
)

// Version names a control plane by its versions file.
type Version string

// The control planes that can be started.
const (
	Current Version = "controlplane.yaml"      // of the Kubernetes version in manifests/versions.yaml
	Old     Version = "controlplane-1.24.yaml" // for workers of manifests/kthw-1.21.yaml: the oldest that can be built
)

// Need brings a control plane's programs to a test, by way of the user's caches,
// and says how builds go on. Where it can't, the test is skipped; in CI it fails.
// root is the project's directory, seen from the test's.
func Need(t testing.TB, version Version, root string) *controlplane.Programs {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	started := time.Now()
	display := progress.New(progress.Config{W: os.Stderr, Now: time.Now})
	defer display.Close()
	cache = filepath.Join(cache, "bake")
	find := controlplane.Find{
		Versions: filepath.Join(root, "manifests", "modules", string(version)), Origin: source.FromSource,
		Options: source.Options{Cache: cache, Env: os.Environ(), Progress: display},
		Dir:     filepath.Join(cache, store.ProgramsDir),
	}
	p, err := find.Programs(t.Context())
	if err == nil && p.Kubectl == "" {
		// The current one: tests ask nothing of it that an old API server doesn't know.
		find.Versions = filepath.Join(filepath.Dir(find.Versions), string(Current))
		var paths map[string]string
		if paths, err = find.Components(t.Context(), "kubectl"); err == nil {
			p.Kubectl = paths["kubectl"]
		}
	}
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skipf("no control plane: %v", err)
	}
	t.Logf("the programs of %s were there after %s", p.Version, time.Since(started).Round(time.Millisecond))
	return p
}
