package bake_test

import (
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/bake"
	"github.com/nodebake/bake/bake/baketest"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/manifest/manifesttest"
	"github.com/nodebake/bake/bake/mirrorsync"
	"github.com/nodebake/bake/bake/progress/progresstest"
	"github.com/nodebake/bake/bake/source"
	"github.com/nodebake/bake/bake/source/oci/ocitest"
	"github.com/nodebake/bake/test/filetest"
)

// TestVersionWithoutDigest bakes a version that was changed without its digest:
// the bytes are at hand, and they are of another version.
func TestVersionWithoutDigest(t *testing.T) {
	t.Parallel()
	w := baketest.NewLocked(t)
	warm := w.Config()
	w.Image(warm)
	mirrored := w.MirrorConfig()
	baketest.Mirror(t, mirrored)
	restore := w.Snapshot()
	for _, test := range []struct {
		name   string
		change func(t *testing.T, c *bake.Config)
		want   string // the error; "": there is none
	}{
		{"no such release", func(*testing.T, *bake.Config) {}, w.BumpError("is unavailable: 404 Not Found")},
		{"release forced", func(_ *testing.T, c *bake.Config) { c.Origin = source.FromRelease }, w.BumpError("is unavailable: 404 Not Found")},
		{"out of order", func(*testing.T, *bake.Config) {
			w.Fault(baketest.NextKubelet, func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusForbidden) })
		}, w.BumpError("is unavailable: 403 Forbidden")},
		{"another file", func(*testing.T, *bake.Config) { w.Serve(baketest.NextKubelet, []byte("another")) }, w.BumpError("is " + string(manifesttest.Digest("another")))},
		{"without packs and files", func(t *testing.T, c *bake.Config) {
			filetest.Remove(t, filepath.Join(c.Cache, "packs"))
			filetest.Remove(t, filepath.Join(c.Cache, "files"))
		}, w.BumpError("is unavailable: 404 Not Found")},
		{"empty store, and a mirror", func(t *testing.T, c *bake.Config) {
			filetest.Remove(t, c.Cache)
			c.OfflineMirror = mirrored.To
		}, w.BumpError("is unavailable: 404 Not Found")},
		{"empty store, and nothing but a mirror", func(t *testing.T, c *bake.Config) {
			filetest.Remove(t, c.Cache)
			c.OfflineMirror, c.Offline = mirrored.To, true
		}, w.BumpError("is unavailable: nothing but the mirror " + mirrored.To + " may be asked (--offline)")},
		{"the release is that file", func(*testing.T, *bake.Config) { w.Serve(baketest.NextKubelet, w.Kubelet) }, ""},
		{"empty store, a mirror, and the release is that file", func(t *testing.T, c *bake.Config) {
			filetest.Remove(t, c.Cache)
			c.OfflineMirror = mirrored.To
			w.Serve(baketest.NextKubelet, w.Kubelet)
		}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			defer restore()
			w.Bump()
			c := w.Config()
			filetest.Copy(t, warm.Cache, c.Cache)
			c.BuildMissing = true
			test.change(t, &c)
			w.Gets()
			result, err := baketest.Image(t.Context(), c)
			if test.want != "" {
				if err == nil || err.Error() != test.want {
					t.Errorf("Image() = %v; want %s", err, test.want)
				}
				baketest.WantError(t, err, "input")
				baketest.WantNothing(t, c)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]string{baketest.NextKubelet}, w.Gets()); diff != "" {
				t.Errorf("fetched (-want +got):\n%s", diff)
			}
			// It is known from now on.
			w.Remove(baketest.NextKubelet)
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
	w, want := baketest.NewBaked(t)
	warm := w.Config()
	w.Image(warm)
	filetest.Remove(t, filepath.Join(warm.Cache, "values"))
	restore := w.Snapshot()
	old := func(t *testing.T) (bake.Config, *progresstest.Recorder) {
		c, sink := w.Config(), &progresstest.Recorder{}
		filetest.Copy(t, warm.Cache, c.Cache)
		c.Progress = sink
		w.Gets()
		return c, sink
	}

	// The releases are asked for once.
	c, _ := old(t)
	baketest.WantImage(t, c, w.Image(c), want)
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
	baketest.WantError(t, err, "failed", "component kubelet v1.30.0: its release is unavailable at "+w.URL+baketest.KubeletRelease+": 404 Not Found; --build-missing would build it")
	c.BuildMissing = true
	w.Image(c)
	if got := baketest.ReadRecord(t, c).Components[0].Origin; got != "source" {
		t.Errorf("kubelet is from %s; want source", got)
	}
	restore()

	// Who has no network is not kept from what he has.
	w.Shutdown()
	c, sink := old(t)
	baketest.WantImage(t, c, w.Image(c), want)
	notes := strings.Join(sink.Notes(), "\n")
	for _, part := range []string{"taken from the store by digest alone, since it does not know where an older bake got it and the URL can't be asked (", "): kubelet v1.30.0 amd64, containerd 2.0.0 amd64"} {
		if !strings.Contains(notes, part) {
			t.Errorf("notes lack %q:\n%s", part, notes)
		}
	}
}

// TestTagWithoutDigest changes an image's tag and leaves its digest.
func TestTagWithoutDigest(t *testing.T) {
	t.Parallel()
	w, _ := baketest.NewWithImages(t)
	host := w.Registry.Host
	c := w.MirrorConfig()
	baketest.Mirror(t, c)
	digest := w.ImageDigest("pause")
	w.Edit("versions.yaml", "/pause:3.10\n", "/pause:3.11\n")
	w.Lock()
	line := 1 + slices.Index(strings.Split(string(filetest.Read(t, w.Versions)), "\n"), "    digest: "+string(digest))
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
		baketest.WantError(t, err, "input")
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
	fails(image, host+"/pause:3.11 is "+string(manifesttest.Digest("{}")))
	if _, err := mirrorsync.Run(t.Context(), c); baketest.Kind(err) != "input" {
		t.Errorf("Mirror() = %v; want the error of Image()", err)
	}

	// The registry has it under both tags; asked for once.
	w.Registry.Fault(tag, func(rw http.ResponseWriter, r *http.Request) {
		r.URL.Path = ocitest.Manifest("pause", digest)
		w.Registry.Pass(rw, r)
	})
	w.Image(image)
	w.Registry.Got()
	filetest.Remove(t, image.Out)
	w.Image(image)
	if got := w.Registry.Got(); len(got) > 0 {
		t.Errorf("baking again asked the registry for %q; want nothing", got)
	}
}
