package bake_test

import (
	"bytes"
	"crypto/sha256"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nodebake/bake/bake"
	"github.com/nodebake/bake/bake/baketest"
	"github.com/nodebake/bake/bake/manifest"
)

// TestDamage flips a bit in each kind of thing that one bake leaves for the
// next, which must not show in what that one makes.
func TestDamage(t *testing.T) {
	t.Parallel()
	w, want := newWorld(t)
	whole := w.Config()
	w.Image(whole)
	for _, test := range []struct {
		name   string
		damage func(t *testing.T, c bake.Config)
		notes  []string // that the bake must give; nil: it gives none
	}{
		{"download of a package", func(t *testing.T, c bake.Config) {
			remove(t, filepath.Join(c.Cache, "packs"))
			flipAll(t, c, "files/sha256/*/*")
		}, []string{"tool 1.0: ", " was damaged, fetching it again", "kubelet v1.30.0: "}},
		{"partial download", func(t *testing.T, c bake.Config) {
			remove(t, filepath.Join(c.Cache, "packs"))
			remove(t, filepath.Join(c.Cache, "files"))
			deb := w.File(w.Package("tool").Pool())
			begun := bytes.Clone(deb[:len(deb)/2])
			begun[1000] ^= 1
			name := filepath.Join(c.Cache, "partial", strings.Replace(string(sum(deb)), ":", "-", 1))
			if err := os.WriteFile(name, begun, 0o644); err != nil {
				t.Fatal(err)
			}
		}, []string{"tool 1.0: ", "; starting again from its beginning"}},
		{"indices of packs", func(t *testing.T, c bake.Config) { flipAll(t, c, "packs/*/*/index") }, nil},
		{"compressed ranges", func(t *testing.T, c bake.Config) {
			for _, path := range values(t, c, "") {
				flip(t, path)
			}
		}, nil},
		{"kept digest of the image", func(t *testing.T, c bake.Config) {
			for _, path := range values(t, c, `"sha256"`) {
				flip(t, path)
			}
		}, nil},

		// What is compressed already is not read again: its digest says what it
		// was made of. So the damage stays, until somebody reads.
		{"content of packs that are compressed", func(t *testing.T, c bake.Config) {
			for _, path := range packData(t, c.Cache, packKey(w, "tool"), "release 1") {
				flipLast(t, path)
			}
		}, nil},
		{"content of a package that is read for the layout", func(t *testing.T, c bake.Config) {
			for _, path := range packData(t, c.Cache, packKey(w, "base-passwd")) {
				flip(t, path)
			}
		}, []string{"package base-passwd: bytes from 0 on have SHA-256 ", ": rebuilding it"}},
		{"content of packs", func(t *testing.T, c bake.Config) {
			remove(t, filepath.Join(c.Cache, "values"))
			for _, path := range packData(t, c.Cache, packKey(w, "tool"), packKey(w, "linux-image-"+baketest.KernelVersion), "release 1", "from 2 deb/1", "derived initramfs", "derived dpkg database", "derived control files") {
				flip(t, path)
			}
		}, []string{"package tool: bytes from ", "package linux-image-6.12.1-amd64: bytes from ", "component kubelet: bytes from ",
			"component containerd: bytes from ", "component kube-proxy: bytes from ", "derived initramfs ", "derived control files "}},
		{"content of a package that is taken apart for a component", func(t *testing.T, c bake.Config) {
			for _, data := range packData(t, c.Cache, "from 2 deb/1") {
				remove(t, filepath.Dir(data))
			}
			for _, path := range packData(t, c.Cache, packKey(w, "kube-proxy-amd64")) {
				flip(t, path)
			}
		}, []string{"package kube-proxy-amd64: bytes from "}},
		{"packs that are cut off", func(t *testing.T, c bake.Config) {
			for _, path := range packData(t, c.Cache, "deb/1", "release 1", "derived") {
				if err := os.Truncate(path, 0); err != nil {
					t.Fatal(err)
				}
			}
		}, nil},

		{"image", func(t *testing.T, c bake.Config) {
			copyTree(t, whole.Out, c.Out)
			flip(t, filepath.Join(c.Out, imageName))
		}, nil},
		{"image, cut off", func(t *testing.T, c bake.Config) {
			copyTree(t, whole.Out, c.Out)
			if err := os.Truncate(filepath.Join(c.Out, imageName), 100); err != nil {
				t.Fatal(err)
			}
		}, nil},
		{"record", func(t *testing.T, c bake.Config) {
			copyTree(t, whole.Out, c.Out)
			flip(t, filepath.Join(c.Out, recordName))
		}, []string{"is there already, with the right digest"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := w.Config()
			copyTree(t, whole.Cache, c.Cache)
			test.damage(t, c)
			var sink recorder
			c.Progress = &sink
			result, err := baketest.Image(t.Context(), c)
			if err != nil {
				t.Fatal(err)
			}
			wantImage(t, c, result, want)
			said := strings.Join(sink.notes(), "\n")
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
			wantImage(t, c, w.Image(c), want)
			if said := sink.notes(); len(said) > 0 {
				t.Errorf("notes of the bake after it = %q; want none", said)
			}
		})
	}
}

// TestDamageBeyondRepair damages what can't be fetched again.
func TestDamageBeyondRepair(t *testing.T) {
	t.Parallel()
	w, want := newWorld(t)
	restore := w.Snapshot()
	for _, test := range []struct {
		name   string
		damage func(t *testing.T, c bake.Config)
		kind   string
		want   []string
	}{
		{"package that mirrors have dropped", func(t *testing.T, c bake.Config) {
			remove(t, filepath.Join(c.Cache, "files"))
			flip(t, packData(t, c.Cache, packKey(w, "tool"))[0])
			w.Remove(w.Package("tool").Pool())
		}, "superseded", []string{"tool 1.0 is unavailable", "404 Not Found", "run: bake lock --versions "}},
		{"release that is gone", func(t *testing.T, c bake.Config) {
			remove(t, filepath.Join(c.Cache, "files"))
			remove(t, filepath.Join(c.Cache, "values"))
			for _, path := range packData(t, c.Cache, "release 1") {
				flip(t, path)
			}
			w.Remove(baketest.ContainerdRelease)
		}, "failed", []string{"component containerd 2.0.0: its release is unavailable at " + w.URL, "404 Not Found; there is no module to build it from ("}},
		{"package that mirrors have in another form", func(t *testing.T, c bake.Config) {
			remove(t, filepath.Join(c.Cache, "files"))
			flip(t, packData(t, c.Cache, packKey(w, "tool"))[0])
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
			wantError(t, err, test.kind, test.want...)
			wantNothing(t, c)
			restore()
			wantImage(t, c, w.Image(c), want)
		})
	}
}

// packKey is what the key of a package's pack has in it.
func packKey(w *baketest.World, name string) string {
	return "deb/1 " + string(sum(w.File(w.Package(name).Pool())))
}

// packData returns the data files of the packs in the store whose key has one
// of keys in it, but for those without content.
func packData(t *testing.T, cache string, keys ...string) []string {
	t.Helper()
	var found []string
	for _, key := range keys {
		n := len(found)
		for _, index := range glob(t, filepath.Join(cache, "packs", "*", "*", "index")) {
			data := filepath.Join(filepath.Dir(index), "data")
			info, err := os.Stat(data)
			if err != nil {
				t.Fatal(err)
			}
			if bytes.Contains(read(t, index)[:200], []byte(key)) && info.Size() > 0 {
				found = append(found, data)
			}
		}
		if len(found) == n {
			t.Fatalf("the store has no pack with key %q", key)
		}
	}
	return found
}

// values returns the values in the store that have text in them.
func values(t *testing.T, c bake.Config, text string) []string {
	t.Helper()
	var found []string
	for _, path := range glob(t, filepath.Join(c.Cache, "values", "*", "*")) {
		if bytes.Contains(read(t, path), []byte(text)) {
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
		flip(t, path)
	}
}

func glob(t *testing.T, pattern string) []string {
	t.Helper()
	paths, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

// flip changes one bit in the middle of a file, flipLast in its last block,
// where the zeroes are that fill it up.
func flip(t *testing.T, path string)     { flipAt(t, path, func(size int) int { return size / 2 }) }
func flipLast(t *testing.T, path string) { flipAt(t, path, func(size int) int { return size - 1 }) }

func flipAt(t *testing.T, path string, at func(size int) int) {
	t.Helper()
	content := read(t, path)
	content[at(len(content))] ^= 0x10
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
}

func copyTree(t *testing.T, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

func sum(content []byte) manifest.Digest { return manifest.SHA256(sha256.Sum256(content)) }
