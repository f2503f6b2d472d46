package baketest

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/nodebake/bake/bake/manifest/manifesttest"
	"github.com/nodebake/bake/test/filetest"
)

// PackKey is what the key of a package's pack has in it.
func (w *World) PackKey(name string) string {
	return "deb/1 " + string(manifesttest.Digest(w.File(w.Package(name).Pool())))
}

// PackData returns the data files of the packs in a store whose key has one of
// keys in it, but for those without content.
func PackData(t testing.TB, cache string, keys ...string) []string {
	t.Helper()
	indices, err := filepath.Glob(filepath.Join(cache, "packs", "*", "*", "index"))
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, key := range keys {
		n := len(found)
		for _, index := range indices {
			data := filepath.Join(filepath.Dir(index), "data")
			info, err := os.Stat(data)
			if err != nil {
				t.Fatal(err)
			}
			if bytes.Contains(filetest.Read(t, index)[:200], []byte(key)) && info.Size() > 0 {
				found = append(found, data)
			}
		}
		if len(found) == n {
			t.Fatalf("the store has no pack with key %q", key)
		}
	}
	return found
}
