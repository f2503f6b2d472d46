package bake_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nodebake/bake/bake"
	"github.com/nodebake/bake/bake/baketest"
	"github.com/nodebake/bake/bake/manifest/manifesttest"
	"github.com/nodebake/bake/bake/progress/progresstest"
	"github.com/nodebake/bake/test/filetest"
	"github.com/nodebake/bake/test/must"
)

// TestDamage flips a bit in each kind of thing that one bake leaves for the
// next, which must not show in what that one makes.
func TestDamage(t *testing.T) {
	t.Parallel()
	w, want := baketest.NewBaked(t)
	whole := w.Config()
	w.Image(whole)
	for _, test := range []struct {
		name   string
		damage func(t *testing.T, c bake.Config)
		notes  []string // that the bake must give; nil: it gives none
	}{
		{"download of a package", func(t *testing.T, c bake.Config) {
			filetest.Remove(t, filepath.Join(c.Cache, "packs"))
			flipAll(t, c, "files/sha256/*/*")
		}, []string{"tool 1.0: ", " was damaged, fetching it again", "kubelet v1.30.0: "}},
		{"partial download", func(t *testing.T, c bake.Config) {
			filetest.Remove(t, filepath.Join(c.Cache, "packs"))
			filetest.Remove(t, filepath.Join(c.Cache, "files"))
			deb := w.File(w.Package("tool").Pool())
			begun := bytes.Clone(deb[:len(deb)/2])
			begun[1000] ^= 1
			name := filepath.Join(c.Cache, "partial", strings.Replace(string(manifesttest.Digest(deb)), ":", "-", 1))
			filetest.Write(t, name, begun)
		}, []string{"tool 1.0: ", "; starting again from its beginning"}},
		{"indices of packs", func(t *testing.T, c bake.Config) { flipAll(t, c, "packs/*/*/index") }, nil},
		{"compressed ranges", func(t *testing.T, c bake.Config) {
			for _, path := range values(t, c, "") {
				filetest.Flip(t, path)
			}
		}, nil},
		{"kept digest of the image", func(t *testing.T, c bake.Config) {
			for _, path := range values(t, c, `"sha256"`) {
				filetest.Flip(t, path)
			}
		}, nil},

		// What is compressed already is not read again: its digest says what it
		// was made of. So the damage stays, until somebody reads.
		{"content of packs that are compressed", func(t *testing.T, c bake.Config) {
			for _, path := range baketest.PackData(t, c.Cache, w.PackKey("tool"), "release 1") {
				filetest.FlipAt(t, path, -1)
			}
		}, nil},
		{"content of a package that is read for the layout", func(t *testing.T, c bake.Config) {
			for _, path := range baketest.PackData(t, c.Cache, w.PackKey("base-passwd")) {
				filetest.Flip(t, path)
			}
		}, []string{"package base-passwd: bytes from 0 on have SHA-256 ", ": rebuilding it"}},
		{"content of packs", func(t *testing.T, c bake.Config) {
			filetest.Remove(t, filepath.Join(c.Cache, "values"))
			for _, path := range baketest.PackData(t, c.Cache, w.PackKey("tool"), w.PackKey("linux-image-"+baketest.KernelVersion), "release 1", "from 2 deb/1", "derived initramfs", "derived dpkg database", "derived control files") {
				filetest.Flip(t, path)
			}
		}, []string{"package tool: bytes from ", "package linux-image-6.12.1-amd64: bytes from ", "component kubelet: bytes from ",
			"component containerd: bytes from ", "component kube-proxy: bytes from ", "derived initramfs ", "derived control files "}},
		{"content of a package that is taken apart for a component", func(t *testing.T, c bake.Config) {
			for _, data := range baketest.PackData(t, c.Cache, "from 2 deb/1") {
				filetest.Remove(t, filepath.Dir(data))
			}
			for _, path := range baketest.PackData(t, c.Cache, w.PackKey("kube-proxy-amd64")) {
				filetest.Flip(t, path)
			}
		}, []string{"package kube-proxy-amd64: bytes from "}},
		{"packs that are cut off", func(t *testing.T, c bake.Config) {
			for _, path := range baketest.PackData(t, c.Cache, "deb/1", "release 1", "derived") {
				must.Do(os.Truncate(path, 0))
			}
		}, nil},

		{"image", func(t *testing.T, c bake.Config) {
			filetest.Copy(t, whole.Out, c.Out)
			filetest.Flip(t, filepath.Join(c.Out, baketest.ImageName))
		}, nil},
		{"image, cut off", func(t *testing.T, c bake.Config) {
			filetest.Copy(t, whole.Out, c.Out)
			must.Do(os.Truncate(filepath.Join(c.Out, baketest.ImageName), 100))
		}, nil},
		{"record", func(t *testing.T, c bake.Config) {
			filetest.Copy(t, whole.Out, c.Out)
			filetest.Flip(t, filepath.Join(c.Out, baketest.RecordName))
		}, []string{"is there already, with the right digest"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := w.Config()
			filetest.Copy(t, whole.Cache, c.Cache)
			test.damage(t, c)
			var sink progresstest.Recorder
			c.Progress = &sink
			result, err := baketest.Image(t.Context(), c)
			if err != nil {
				t.Fatal(err)
			}
			baketest.WantImage(t, c, result, want)
			said := strings.Join(sink.Notes(), "\n")
			for _, part := range test.notes {
				if !strings.Contains(said, part) {
					t.Errorf("notes lack %q:\n%s", part, said)
				}
			}
			if test.notes == nil && said != "" {
				t.Errorf("notes = %s; want none", said)
			}
			// Repaired for good.
			c.Out = filepath.Join(t.TempDir(), "again")
			baketest.WantImage(t, c, w.Image(c), want)
			if said := sink.Notes(); len(said) > 0 {
				t.Errorf("notes of the bake after it = %q; want none", said)
			}
		})
	}
}

// TestDamageBeyondRepair damages what can't be fetched again.
func TestDamageBeyondRepair(t *testing.T) {
	t.Parallel()
	w, want := baketest.NewBaked(t)
	restore := w.Snapshot()
	for _, test := range []struct {
		name   string
		damage func(t *testing.T, c bake.Config)
		kind   string
		want   []string
	}{
		{"package that mirrors have dropped", func(t *testing.T, c bake.Config) {
			filetest.Remove(t, filepath.Join(c.Cache, "files"))
			filetest.Flip(t, baketest.PackData(t, c.Cache, w.PackKey("tool"))[0])
			w.Remove(w.Package("tool").Pool())
		}, "superseded", []string{"tool 1.0 is unavailable", "404 Not Found", "run: bake lock --versions "}},
		{"release that is gone", func(t *testing.T, c bake.Config) {
			filetest.Remove(t, filepath.Join(c.Cache, "files"))
			filetest.Remove(t, filepath.Join(c.Cache, "values"))
			for _, path := range baketest.PackData(t, c.Cache, "release 1") {
				filetest.Flip(t, path)
			}
			w.Remove(baketest.ContainerdRelease)
		}, "failed", []string{"component containerd 2.0.0: its release is unavailable at " + w.URL, "404 Not Found; there is no module to build it from ("}},
		{"package that mirrors have in another form", func(t *testing.T, c bake.Config) {
			filetest.Remove(t, filepath.Join(c.Cache, "files"))
			filetest.Flip(t, baketest.PackData(t, c.Cache, w.PackKey("tool"))[0])
			deb := bytes.Clone(w.File(w.Package("tool").Pool()))
			deb[len(deb)-1] ^= 1
			w.Serve(w.Package("tool").Pool(), deb)
		}, "failed", []string{"tool 1.0 from " + w.URL, ", want sha256:", "nothing was kept"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			defer restore()
			c := w.Config()
			w.Image(c)
			c.Out = filepath.Join(t.TempDir(), "out")
			test.damage(t, c)
			_, err := baketest.Image(t.Context(), c)
			baketest.WantError(t, err, test.kind, test.want...)
			baketest.WantNothing(t, c)
			restore()
			baketest.WantImage(t, c, w.Image(c), want)
		})
	}
}

// values returns the values in the store that have text in them.
func values(t *testing.T, c bake.Config, text string) []string {
	t.Helper()
	var found []string
	for _, path := range glob(t, filepath.Join(c.Cache, "values", "*", "*")) {
		if bytes.Contains(filetest.Read(t, path), []byte(text)) {
			found = append(found, path)
		}
	}
	if len(found) == 0 {
		t.Fatalf("the store has no value with %q", text)
	}
	return found
}

func flipAll(t *testing.T, c bake.Config, pattern string) {
	t.Helper()
	paths := glob(t, filepath.Join(c.Cache, filepath.FromSlash(pattern)))
	if len(paths) == 0 {
		t.Fatalf("the store has no %s", pattern)
	}
	for _, path := range paths {
		filetest.Flip(t, path)
	}
}

// glob returns what matches.
func glob(t *testing.T, pattern string) []string {
	t.Helper()
	paths := must.Get(filepath.Glob(pattern))
	return paths
}
