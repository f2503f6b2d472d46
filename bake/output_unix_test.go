//go:build unix

package bake_test

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nodebake/bake/bake/baketest"
	"github.com/nodebake/bake/test/filetest"
)

// TestOutputInTheWay bakes where something is that is no file, with a store that
// has everything.
func TestOutputInTheWay(t *testing.T) {
	t.Parallel()
	w := baketest.NewLocked(t)
	c := w.Config()
	filetest.Mkdir(t, c.Out)
	for _, test := range []struct {
		name, kind string
		make       func(path string) error
	}{
		{"tiny-v1-30-0-amd64.tar.gz", "FIFO", func(p string) error { return unix.Mkfifo(p, 0o644) }},
		{"tiny-v1-30-0-amd64.json", "directory", func(p string) error { return os.Mkdir(p, 0o755) }},
		{"tiny-v1-30-0-amd64.spdx.json", "device", func(p string) error { return os.Symlink("/dev/null", p) }},
	} {
		p := filepath.Join(c.Out, test.name)
		if err := test.make(p); err != nil {
			t.Fatal(err)
		}
		_, err := baketest.Image(t.Context(), c)
		if want := "writing " + p + ": a " + test.kind + " is there (remove it, or give another directory by --output)"; err == nil || err.Error() != want {
			t.Errorf("Image() = %v; want %s", err, want)
		}
		if err := os.Remove(p); err != nil {
			t.Fatal(err)
		}
	}
}
