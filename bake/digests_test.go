package bake_test

import (
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/bake"
	"github.com/nodebake/bake/bake/baketest"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/mirrorsync"
	"github.com/nodebake/bake/bake/source"
	"github.com/nodebake/bake/bake/source/mirror"
	"github.com/nodebake/bake/bake/source/oci/ocitest"
)

// nextKubelet is where the release of kubelet v1.30.1 is.
const nextKubelet = "/releases/v1.30.1/amd64/kubelet"

// bump moves kubelet to v1.30.1 and leaves its digest.
func bump(w *baketest.World) {
	w.Edit("versions.yaml", "  kubelet:\n    version: v1.30.0\n", "  kubelet:\n    version: v1.30.1\n")
	w.Edit("versions.yaml", "      path: example.com/kubelet\n", "      path: example.com/kubelet\n      version: v1.30.0\n")
	w.Lock()
}

// bumped is the error of bump, with why.
func bumped(w *baketest.World, why string) string {
	return w.Versions + ":14:9: components.kubelet.release.sha256.amd64: it is the digest of kubelet v1.30.0 amd64 from " + w.URL + baketest.KubeletRelease +
		", and " + w.URL + nextKubelet + " " + why + " (replace it by the digest that the project published for v1.30.1)"
}

// TestVersionWithoutDigest bakes a version that was changed without its digest:
// the bytes are at hand, and they are of another version.
func TestVersionWithoutDigest(t *testing.T) {
	t.Parallel()
	w := lockedWorld(t)
	warm := w.Config()
	w.Image(warm)
	mirrored := mirrorConfig(t, w)
	makeMirror(t, mirrored)
	restore := w.Snapshot()
	for _, test := range []struct {
		name   string
		change func(t *testing.T, c *bake.Config)
		want   string // the error; "": there is none
	}{
		{"no such release", func(*testing.T, *bake.Config) {}, bumped(w, "is unavailable: 404 Not Found")},
		{"release forced", func(_ *testing.T, c *bake.Config) { c.Origin = source.FromRelease }, bumped(w, "is unavailable: 404 Not Found")},
		{"out of order", func(*testing.T, *bake.Config) {
			w.Fault(nextKubelet, func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusForbidden) })
		}, bumped(w, "is unavailable: 403 Forbidden")},
		{"another file", func(*testing.T, *bake.Config) { w.Serve(nextKubelet, []byte("another")) }, bumped(w, "is "+string(sum([]byte("another"))))},
		{"without packs and files", func(t *testing.T, c *bake.Config) {
			remove(t, filepath.Join(c.Cache, "packs"))
			remove(t, filepath.Join(c.Cache, "files"))
		}, bumped(w, "is unavailable: 404 Not Found")},
		{"empty store, and a mirror", func(t *testing.T, c *bake.Config) {
			remove(t, c.Cache)
			c.OfflineMirror = mirrored.To
		}, bumped(w, "is unavailable: 404 Not Found")},
		{"empty store, and nothing but a mirror", func(t *testing.T, c *bake.Config) {
			remove(t, c.Cache)
			c.OfflineMirror, c.Offline = mirrored.To, true
		}, bumped(w, "is unavailable: nothing but the mirror "+mirrored.To+" may be asked (--offline)")},
		{"the release is that file", func(*testing.T, *bake.Config) { w.Serve(nextKubelet, w.Kubelet) }, ""},
		{"empty store, a mirror, and the release is that file", func(t *testing.T, c *bake.Config) {
			remove(t, c.Cache)
			c.OfflineMirror = mirrored.To
			w.Serve(nextKubelet, w.Kubelet)
		}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			defer restore()
			bump(w)
			c := w.Config()
			copyTree(t, warm.Cache, c.Cache)
			c.BuildMissing = true
			test.change(t, &c)
			w.Gets()
			result, err := baketest.Image(t.Context(), c)
			if test.want != "" {
				if err == nil || err.Error() != test.want {
					t.Errorf("Image() = %v; want %s", err, test.want)
				}
				wantError(t, err, "input")
				wantNothing(t, c)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]string{nextKubelet}, w.Gets()); diff != "" {
				t.Errorf("fetched (-want +got):\n%s", diff)
			}
			// It is known from now on.
			w.Remove(nextKubelet)
			c.OfflineMirror = ""
			again, err := baketest.Image(t.Context(), c)
			if err != nil || again.SHA256 != result.SHA256 {
				t.Errorf("baking again = %+v, %v; want %s", again, err, result.SHA256)
			}
			if got := w.Gets(); len(got) > 0 {
				t.Errorf("baking again fetched %q; want nothing", got)
			}
		})
	}
}

// TestUnknownDigest bakes from a store that does not know what it has, as those
// of older bakes.
func TestUnknownDigest(t *testing.T) {
	t.Parallel()
	w, want := newWorld(t)
	warm := w.Config()
	w.Image(warm)
	remove(t, filepath.Join(warm.Cache, "values"))
	restore := w.Snapshot()
	old := func(t *testing.T) (bake.Config, *recorder) {
		c, sink := w.Config(), &recorder{}
		copyTree(t, warm.Cache, c.Cache)
		c.Progress = sink
		w.Gets()
		return c, sink
	}

	// The releases are asked for once.
	c, _ := old(t)
	wantImage(t, c, w.Image(c), want)
	if diff := cmp.Diff([]string{baketest.ContainerdRelease, baketest.KubeletRelease}, w.Gets()); diff != "" {
		t.Errorf("fetched by a store that knows nothing (-want +got):\n%s", diff)
	}
	w.Image(c)
	if got := w.Gets(); len(got) > 0 {
		t.Errorf("fetched the second time: %q; want nothing", got)
	}

	// A server that has lost one decides as for an empty store.
	w.Remove(baketest.KubeletRelease)
	c, _ = old(t)
	_, err := baketest.Image(t.Context(), c)
	wantError(t, err, "failed", "component kubelet v1.30.0: its release is unavailable at "+w.URL+baketest.KubeletRelease+": 404 Not Found; --build-missing would build it")
	c.BuildMissing = true
	w.Image(c)
	if got := readRecord(t, c).Components[0].Origin; got != "source" {
		t.Errorf("kubelet is from %s; want source", got)
	}
	restore()

	// Who has no network is not kept from what he has.
	w.Shutdown()
	c, sink := old(t)
	wantImage(t, c, w.Image(c), want)
	notes := strings.Join(sink.notes(), "\n")
	for _, part := range []string{"taken from the store by digest alone, since it does not know where an older bake got it and the URL can't be asked (", "): kubelet v1.30.0 amd64, containerd 2.0.0 amd64"} {
		if !strings.Contains(notes, part) {
			t.Errorf("notes lack %q:\n%s", part, notes)
		}
	}
}

// TestMirrorVersionWithoutDigest brings a mirror to a version that was changed
// without its digest.
func TestMirrorVersionWithoutDigest(t *testing.T) {
	t.Parallel()
	w := lockedWorld(t)
	c := mirrorConfig(t, w)
	c.Sources = true
	makeMirror(t, c)
	bump(w)
	for _, cache := range []string{c.Cache, filepath.Join(t.TempDir(), "empty")} {
		c.Cache = cache
		_, err := mirrorsync.Run(t.Context(), c)
		if want := bumped(w, "is unavailable: 404 Not Found"); err == nil || err.Error() != want {
			t.Errorf("Mirror() = %v; want %s", err, want)
		}
		wantError(t, err, "input")
		w.Serve(nextKubelet, []byte("another"))
		_, err = mirrorsync.Run(t.Context(), c)
		if want := bumped(w, "is "+string(sum([]byte("another")))); err == nil || err.Error() != want {
			t.Errorf("Mirror() = %v; want %s", err, want)
		}
		w.Remove(nextKubelet)
	}
	w.Serve(nextKubelet, w.Kubelet)
	makeMirror(t, c)
	x := readIndex(t, c.To)
	if e := x.Find(mirror.Release, w.URL+nextKubelet); len(e) != 1 || e[0].SHA256 != sum(w.Kubelet) || e[0].Name != "kubelet v1.30.1 amd64" {
		t.Errorf("the mirror has %+v at the new URL; want kubelet v1.30.1 amd64 with %s", e, sum(w.Kubelet))
	}
	if e := x.Find(mirror.Release, w.URL+baketest.KubeletRelease); len(e) > 0 {
		t.Errorf("the mirror has %+v still", e)
	}
	w.Shutdown()
	w.Image(offline(w, c.To))
}

// TestTagWithoutDigest changes an image's tag and leaves its digest.
func TestTagWithoutDigest(t *testing.T) {
	t.Parallel()
	w, _ := worldWithImages(t)
	host := w.Registry.Host
	c := mirrorConfig(t, w)
	makeMirror(t, c)
	digest := manifestDigest(t, w, "pause")
	w.Edit("versions.yaml", "/pause:3.10\n", "/pause:3.11\n")
	w.Lock()
	line := 1 + slices.Index(strings.Split(string(read(t, w.Versions)), "\n"), "    digest: "+string(digest))
	at := manifest.Pos{File: w.Versions, Line: line, Column: 5}.String()
	tag := ocitest.Manifest("pause", "3.11")
	fails := func(c bake.Config, why string) {
		t.Helper()
		c.BuildMissing = true
		want := at + ": images.pause.digest: it is the digest of " + host + "/pause:3.10, and " + why + " (replace it by the digest that the project published for 3.11)"
		_, err := baketest.Image(t.Context(), c)
		if err == nil || err.Error() != want {
			t.Errorf("Image() = %v; want %s", err, want)
		}
		wantError(t, err, "input")
	}
	image := w.Config()
	image.Cache = c.Cache
	unknown := "what " + host + "/pause:3.11 is can't be asked: 404 Not Found"
	w.Registry.Fault(tag, func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusNotFound) })
	fails(image, unknown)
	image.Cache = filepath.Join(t.TempDir(), "empty")
	image.OfflineMirror = c.To
	fails(image, unknown)
	image.Offline = true
	fails(image, "what "+host+"/pause:3.11 is can't be asked: it is not asked, since nothing but the mirror may be (--offline)")
	image.Offline, image.OfflineMirror = false, ""
	image.Cache = c.Cache
	w.Registry.Serve("pause", []byte("{}"))
	w.Registry.Fault(tag, func(rw http.ResponseWriter, _ *http.Request) { rw.Write([]byte("{}")) })
	fails(image, host+"/pause:3.11 is "+string(sum([]byte("{}"))))
	if _, err := mirrorsync.Run(t.Context(), c); kind(err) != "input" {
		t.Errorf("Mirror() = %v; want the error of Image()", err)
	}

	// The registry has it under both tags; asked for once.
	w.Registry.Fault(tag, func(rw http.ResponseWriter, r *http.Request) {
		r.URL.Path = ocitest.Manifest("pause", digest)
		w.Registry.Pass(rw, r)
	})
	w.Image(image)
	w.Registry.Got()
	if err := os.RemoveAll(image.Out); err != nil {
		t.Fatal(err)
	}
	w.Image(image)
	if got := w.Registry.Got(); len(got) > 0 {
		t.Errorf("baking again asked the registry for %q; want nothing", got)
	}
}
