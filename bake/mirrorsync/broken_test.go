package mirrorsync_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nodebake/bake/bake"
	"github.com/nodebake/bake/bake/baketest"
	"github.com/nodebake/bake/bake/mirrorsync"
	"github.com/nodebake/bake/bake/source/mirror"
	"github.com/nodebake/bake/test/filetest"
	"github.com/nodebake/bake/test/must"
)

// TestBrokenMirror breaks one thing of a mirror at a time. The bake must name the
// entry, keep nothing of it, write nothing, and succeed once the mirror is whole.
func TestBrokenMirror(t *testing.T) {
	t.Parallel()
	w, want := baketest.NewWithImages(t)
	c := w.MirrorConfig()
	baketest.Mirror(t, c)
	x := readIndex(t, c.To)
	tool, kubelet := entry(t, x, "tool 1.0 amd64"), entry(t, x, "kubelet v1.30.0 amd64")
	layer := entry(t, x, "dns v1 amd64: layer 2 of 2")
	w.Lock() // made at the same moment, it is the same
	staleIndex := filetest.Read(t, filepath.Join(staleMirror(t, w), "mirror.json"))

	for _, test := range []struct {
		name  string
		entry mirror.Entry // that is broken
		dir   func(dir string)
		web   func(s *web, path string) // in place of dir
		want  []string
	}{
		{"missing file", tool, func(dir string) { os.Remove(blob(dir, tool)) }, nil, []string{"tool 1.0", "no such file or directory"}},
		{"altered byte", tool, func(dir string) {
			filetest.Flip(t, blob(dir, tool))
		}, nil, []string{"tool 1.0", "is sha256:", "want " + string(tool.SHA256)}},
		{"swapped files", tool, func(dir string) {
			a, b := filetest.Read(t, blob(dir, tool)), filetest.Read(t, blob(dir, kubelet))
			filetest.Write(t, blob(dir, tool), b)
			filetest.Write(t, blob(dir, kubelet), a)
		}, nil, []string{"tool 1.0", fmt.Sprintf("it is %d bytes, want %d bytes", kubelet.Size, tool.Size)}},
		{"half-copied layer", layer, func(dir string) {
			filetest.Write(t, blob(dir, layer), filetest.Read(t, blob(dir, layer))[:layer.Size/2])
		}, nil, []string{"image dns: layer 2 of 2"}},
		{"link out of the directory", tool, func(dir string) {
			outside := filepath.Join(t.TempDir(), "outside")
			filetest.Write(t, outside, filetest.Read(t, blob(dir, tool)))
			os.Remove(blob(dir, tool))
			filetest.Link(t, outside, blob(dir, tool))
		}, nil, []string{"tool 1.0", "it is a symbolic link"}},
		{"blobs elsewhere", tool, func(dir string) {
			outside := filepath.Join(t.TempDir(), "sha256")
			must.Do(os.Rename(filepath.Join(dir, "blobs", "sha256"), outside))
			filetest.Link(t, outside, filepath.Join(dir, "blobs", "sha256"))
		}, nil, []string{"tool 1.0", "leads out of the mirror"}},
		{"stale index", mirror.Entry{}, func(dir string) { filetest.Write(t, filepath.Join(dir, "mirror.json"), staleIndex) }, nil,
			[]string{"tool 1.0", "was made for other locks than " + w.LockFile(), "run: bake mirror --versions " + w.Versions + " --output "}},
		{"index that was edited", mirror.Entry{}, func(dir string) {
			filetest.Write(t, filepath.Join(dir, "mirror.json"), []byte(strings.Replace(string(filetest.Read(t, filepath.Join(dir, "mirror.json"))), `"schema": 1`, `"schema": 1, "x": 1`, 1)))
		}, nil, []string{"opening the mirror ", "mirror.json"}},
		{"no index", mirror.Entry{}, func(dir string) { os.Remove(filepath.Join(dir, "mirror.json")) }, nil, []string{"it has no mirror.json"}},

		{"server that lacks a file", tool, nil, func(s *web, path string) { s.faults[path] = http.NotFound }, []string{"tool 1.0", "404 Not Found"}},
		{"server that alters a byte", layer, nil, func(s *web, path string) {
			content := filetest.Read(t, blob(c.To, layer))
			content[0] ^= 1
			s.faults[path] = func(w http.ResponseWriter, _ *http.Request) { w.Write(content) }
		}, []string{"image dns: layer 2 of 2", "want " + string(layer.SHA256)}},
		{"server that announces more than it sends", kubelet, nil, func(s *web, path string) {
			content := filetest.Read(t, blob(c.To, kubelet))
			s.faults[path] = func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Length", fmt.Sprint(len(content)+1))
				w.Write(content)
			}
		}, []string{"kubelet v1.30.0", "the connection ended after"}},
		{"server that sends more than there is", tool, nil, func(s *web, path string) {
			content := append(filetest.Read(t, blob(c.To, tool)), 0)
			s.faults[path] = func(w http.ResponseWriter, _ *http.Request) { w.Write(content) }
		}, []string{"tool 1.0", fmt.Sprintf("want %d bytes", tool.Size)}},
		{"server that hangs", tool, nil, func(s *web, path string) {
			s.faults[path] = func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
		}, []string{"tool 1.0", "not a byte came for 5s"}},
		{"server that sends one elsewhere", tool, nil, func(s *web, path string) {
			s.faults[path] = func(rw http.ResponseWriter, r *http.Request) {
				http.Redirect(rw, r, w.URL+w.Package("tool").Pool(), http.StatusFound)
			}
		}, []string{"tool 1.0", "it redirects to", "which is not followed"}},
		{"server without an index", mirror.Entry{}, nil, func(s *web, _ string) { s.faults["/mirror.json"] = http.NotFound },
			[]string{"must serve the directory that `bake mirror` made", "404 Not Found"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "mirror")
			filetest.Copy(t, c.To, dir)
			b := w.Offline(dir)
			whole := func() { b.OfflineMirror = c.To }
			if test.web != nil {
				s := serve(t, dir)
				test.web(s, "/blobs/sha256/"+test.entry.SHA256.Hex())
				b.OfflineMirror = s.URL
			} else {
				test.dir(dir)
			}
			_, err := baketest.Image(t.Context(), b)
			baketest.WantError(t, err, "failed", test.want...)
			baketest.WantNothing(t, b)
			if hex := test.entry.SHA256.Hex(); hex != "" {
				if _, err := os.Stat(filepath.Join(b.Cache, "files", "sha256", hex[:2], hex)); err == nil {
					t.Errorf("the store keeps %s", test.entry.Name)
				}
			}
			whole()
			if got := w.Image(b).SHA256; got != want {
				t.Errorf("the image from the whole mirror is %s; want %s", got, want)
			}
		})
	}
}

// staleMirror returns a mirror that was made before a package changed.
func staleMirror(t *testing.T, w *baketest.World) string {
	t.Helper()
	other := baketest.New(t)
	other.Package("tool").Version = "0.9"
	other.Publish()
	other.Lock()
	c := other.MirrorConfig()
	baketest.Mirror(t, c)
	return c.To
}

// TestBrokenMirrorIsNoObstacle bakes online with a mirror that is broken: others
// have what it has not.
func TestBrokenMirrorIsNoObstacle(t *testing.T) {
	t.Parallel()
	w, want := baketest.NewWithImages(t)
	c := w.MirrorConfig()
	baketest.Mirror(t, c)
	x := readIndex(t, c.To)
	os.Remove(blob(c.To, entry(t, x, "tool 1.0 amd64")))
	layer := blob(c.To, entry(t, x, "dns v1 amd64: layer 2 of 2"))
	filetest.FlipAt(t, layer, 0)
	b := w.Config()
	b.OfflineMirror = c.To
	if got := w.Image(b).SHA256; got != want {
		t.Errorf("the image by way of a broken mirror is %s; want %s", got, want)
	}
	// What is not as it should be is found, and made good.
	if report, err := mirrorsync.Check(t.Context(), c.To, 0, nil); err == nil || len(report.Problems) != 2 {
		t.Errorf("CheckMirror() = %+v, %v; want two problems", report, err)
	}
	os.Remove(layer)
	if r := baketest.Mirror(t, c); r.Added.Files != 2 {
		t.Errorf("mirroring again = %+v; want two files added", r)
	}
	if _, err := mirrorsync.Check(t.Context(), c.To, 0, nil); err != nil {
		t.Errorf("CheckMirror() = %v; want no problem", err)
	}
}

// TestOfflineNeedsMirror refuses what can't be.
func TestOfflineNeedsMirror(t *testing.T) {
	t.Parallel()
	w := baketest.New(t)
	c := w.Config()
	c.Offline = true
	_, err := bake.New(c)
	baketest.WantError(t, err, "input", "offline, everything comes from a mirror, and none was given")
}
