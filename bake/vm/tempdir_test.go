package vm

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTempDirsOfTheDeadAreRemoved(t *testing.T) {
	t.Parallel()
	parent, elsewhere := t.TempDir(), t.TempDir()
	make := func() *TempDir {
		d, err := makeTempDir(parent)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(d.Path, "disk.raw"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		return d
	}
	alive, dead, done := make(), make(), make()
	if err := done.Remove(); err != nil {
		t.Fatal(err)
	}
	// Not ours: one without a lock (yet), and a link.
	if err := os.Mkdir(filepath.Join(parent, tempPrefix+"other"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{lockFile, "kept"} {
		if err := os.WriteFile(filepath.Join(elsewhere, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(elsewhere, filepath.Join(parent, tempPrefix+"link")); err != nil {
		t.Skip(err)
	}
	if err := dead.lock.Close(); err != nil { // as the kernel does
		t.Fatal(err)
	}
	last := make()
	left := map[string]bool{}
	entries, err := os.ReadDir(parent)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		left[e.Name()] = true
	}
	want := map[string]bool{filepath.Base(alive.Path): true, filepath.Base(last.Path): true, tempPrefix + "other": true, tempPrefix + "link": true}
	if diff := cmp.Diff(want, left); diff != "" {
		t.Errorf("the directory differs (-want +got):\n%s", diff)
	}
	if _, err := os.Stat(filepath.Join(elsewhere, "kept")); err != nil {
		t.Errorf("where the link leads to: %v", err)
	}
	if info, err := os.Stat(alive.Path); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("a directory's mode is %v, %v; want that of its user alone", info.Mode(), err)
	}
}
