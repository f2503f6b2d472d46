// Package manifests has no code: it checks that the committed versions files,
// image definition and locks fit each other.
package manifests

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/nodebake/bake/bake/arch"
	"github.com/nodebake/bake/bake/inputs"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/images/worker"
	"github.com/nodebake/bake/test/must"
)

func TestCommittedLocksAreNotStale(t *testing.T) {
	files := must.Get(filepath.Glob("*.yaml"))
	if len(files) < 2 {
		t.Fatalf("found versions files %v; want at least two", files)
	}
	files = append(files, filepath.Join("..", "test", "kthw", "versions.yaml"), filepath.Join("..", "test", "smoke", "versions.yaml"))
	for _, file := range files {
		data, err := os.ReadFile(manifest.LockFile(file))
		if err != nil {
			t.Error(err)
			continue
		}
		lock, err := manifest.ParseLock(manifest.LockFile(file), data)
		if err != nil {
			t.Error(err)
			continue
		}
		for _, arch := range []arch.Arch{arch.AMD64, arch.ARM64} {
			if _, err := lock.For(arch); err != nil {
				t.Error(err)
				continue
			}
			in, err := inputs.Read(inputs.Files{Versions: file, Definition: worker.FS(), Arch: arch})
			if err != nil {
				t.Error(err)
				continue
			}
			if err := in.Stale(lock); err != nil {
				t.Error(err)
			}
		}
	}
}
