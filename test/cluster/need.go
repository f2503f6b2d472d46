package cluster

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nodebake/bake/bake/progress"
)

// Need brings a control plane's programs to a test, by way of the user's caches,
// and says how builds go on. Where it can't, the test is skipped; in CI it fails.
// root is the project's directory, seen from the test's.
func Need(t testing.TB, version Version, root string) *Programs {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	started := time.Now()
	display := progress.New(progress.Config{W: os.Stderr, Now: time.Now})
	defer display.Close()
	p, err := Find{
		Version: version, Root: root, Store: filepath.Join(cache, "bake"), Dir: filepath.Join(cache, "bake-test"),
		Env: os.Environ(), Progress: display,
	}.Programs(t.Context())
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skipf("no control plane: %v", err)
	}
	t.Logf("the programs of %s were there after %s", p.Version, time.Since(started).Round(time.Millisecond))
	return p
}
