package mirrorsync_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/bake/arch"
	"github.com/nodebake/bake/bake/baketest"
	"github.com/nodebake/bake/bake/manifest/manifesttest"
	"github.com/nodebake/bake/bake/mirrorsync"
	"github.com/nodebake/bake/bake/progress/progresstest"
	"github.com/nodebake/bake/bake/source/mirror"
	"github.com/nodebake/bake/bake/source/oci/ocitest"
	"github.com/nodebake/bake/test/filetest"
)

func readIndex(t *testing.T, dir string) *mirror.Index {
	t.Helper()
	x, err := mirror.ParseIndex(filetest.Read(t, filepath.Join(dir, "mirror.json")))
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// entry returns the entry called name.
func entry(t *testing.T, x *mirror.Index, name string) mirror.Entry {
	t.Helper()
	i := slices.IndexFunc(x.Entries, func(e mirror.Entry) bool { return e.Name == name })
	if i < 0 {
		t.Fatalf("the mirror has no %s", name)
	}
	return x.Entries[i]
}

// blob is the file of an entry.
func blob(dir string, e mirror.Entry) string {
	return filepath.Join(dir, "blobs", "sha256", e.SHA256.Hex())
}

// web serves a directory as any web server does, but for faults.
type web struct {
	URL string

	mu     sync.Mutex
	faults map[string]http.HandlerFunc // by path
}

func serve(t *testing.T, dir string) *web {
	t.Helper()
	s := &web{faults: map[string]http.HandlerFunc{}}
	files := http.FileServer(http.Dir(dir))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		fault := s.faults[r.URL.Path]
		s.mu.Unlock()
		if fault != nil {
			fault(w, r)
			return
		}
		files.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	s.URL = server.URL
	return s
}

// TestMirror mirrors a world, ends it, and bakes from what is left.
func TestMirror(t *testing.T) {
	t.Parallel()
	w, want := baketest.NewWithImages(t)
	c := w.MirrorConfig()
	r := baketest.Mirror(t, c)
	x := readIndex(t, c.To)
	kinds := map[mirror.Kind]int{}
	var paths []string
	for _, e := range x.Entries {
		kinds[e.Kind]++
		if e.Kind == mirror.Archive || e.Kind == mirror.Versions || e.Kind == mirror.Lock {
			paths = append(paths, e.Path)
		}
	}
	if diff := cmp.Diff(map[mirror.Kind]int{
		mirror.Versions: 1, mirror.Lock: 1, mirror.Definition: 4, mirror.Release: 2, mirror.Archive: 6, mirror.Package: 10,
		mirror.Image: 9, // an index, and a manifest, a configuration and two layers of each image
	}, kinds); diff != "" {
		t.Errorf("entries of the mirror (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{
		"tiny/versions.yaml", "tiny/versions.lock",
		"debian-security/dists/trixie-security/InRelease", "debian-security/dists/trixie-security/main/binary-amd64/Packages.gz",
		"debian/dists/trixie-updates/InRelease", "debian/dists/trixie-updates/main/binary-amd64/Packages.gz",
		"debian/dists/trixie/InRelease", "debian/dists/trixie/main/binary-amd64/Packages.gz",
	}, paths); diff != "" {
		t.Errorf("inputs and indices of the mirror (-want +got):\n%s", diff)
	}
	blobs := filetest.Names(t, filepath.Join(c.To, "blobs", "sha256"))
	if r.Files != len(blobs) || r.Added.Files != len(blobs) || r.Entries != len(x.Entries) || len(r.Missing) > 0 {
		t.Errorf("Mirror() = %+v; want %d entries, and %d files, all added", r, len(x.Entries), len(blobs))
	}
	report, err := mirrorsync.Check(t.Context(), c.To, 2, nil)
	if err != nil || report.Files != len(blobs) || len(report.Extra) > 0 {
		t.Errorf("CheckMirror() = %+v, %v; want %d files and no problem", report, err, len(blobs))
	}

	// Nothing new: nobody is asked, even by who has nothing in his store.
	w.Gets()
	w.Registry.Got()
	again := c
	again.Cache = filepath.Join(t.TempDir(), "cache")
	before := stamps(t, c.To)
	begun := time.Now()
	r = baketest.Mirror(t, again)
	if took := time.Since(begun); took > 2*time.Second {
		t.Errorf("mirroring what is there took %v; want less than 2 s", took)
	}
	if r.Added.Files > 0 || r.Removed.Files > 0 {
		t.Errorf("mirroring what is there = %+v; want nothing done", r)
	}
	if got := append(w.Gets(), w.Registry.Got()...); len(got) > 0 {
		t.Errorf("mirroring what is there asked for %q; want nothing", got)
	}
	if diff := cmp.Diff(before, stamps(t, c.To)); diff != "" {
		t.Errorf("mirroring what is there changed files (-before +after):\n%s", diff)
	}

	// A mirror is tried first.
	b := w.Config()
	b.OfflineMirror = c.To
	if got := w.Image(b).SHA256; got != want {
		t.Errorf("the image by way of a mirror is %s; want %s", got, want)
	}
	if got := append(w.Gets(), w.Registry.Got()...); len(got) > 0 {
		t.Errorf("baking with a complete mirror asked others for %q; want nothing", got)
	}

	// The world ends.
	w.Shutdown()
	for name, location := range map[string]string{"a directory": c.To, "a server": serve(t, c.To).URL} {
		b := w.Offline(location)
		if got := w.Image(b).SHA256; got != want {
			t.Errorf("the image from %s is %s; want %s", name, got, want)
		}
	}
}

// stamps returns when each file below dir was written.
func stamps(t *testing.T, dir string) map[string]time.Time {
	t.Helper()
	times := map[string]time.Time{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == ".lock" {
			return err
		}
		info, err := d.Info()
		if err == nil {
			times[path] = info.ModTime()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return times
}

// TestMirrorSources leaves a release and an image out that are unavailable, and
// bakes them from source.
func TestMirrorSources(t *testing.T) {
	t.Parallel()
	w, _ := baketest.NewWithImages(t)
	w.Remove(baketest.KubeletRelease)
	gone := ocitest.Manifest("pause", w.ImageDigest("pause"))
	w.Registry.Fault(gone, http.NotFound)
	online := w.Config()
	online.BuildMissing = true
	want := w.Image(online).SHA256

	c := w.MirrorConfig()
	_, err := mirrorsync.Run(t.Context(), c)
	baketest.WantError(t, err, "failed", "component kubelet v1.30.0: its release is unavailable at "+w.URL+baketest.KubeletRelease+": 404 Not Found; "+
		"with --sources its module example.com/kubelet v1.30.0 does in its place", "image pause ", "with --sources bake's program pause does in its place")
	if _, err := os.Stat(filepath.Join(c.To, "mirror.json")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a mirror that could not be made has an index: %v", err)
	}

	c.Sources = true
	r := baketest.Mirror(t, c)
	var missing []string
	for _, m := range r.Missing {
		missing = append(missing, m.Name+" "+m.Else)
	}
	if diff := cmp.Diff([]string{"kubelet v1.30.0 amd64 its module example.com/kubelet v1.30.0", w.Registry.Host + "/pause:3.10 amd64 bake's program pause"}, missing); diff != "" {
		t.Errorf("what is missing (-want +got):\n%s", diff)
	}
	x := readIndex(t, c.To)
	if !x.Sets[0].Sources {
		t.Error("the set is not marked to have sources")
	}
	for _, name := range []string{"tiny/modules/kubelet/go.mod", "tiny/modules/kubelet/go.sum"} {
		entry(t, x, name)
	}
	if n := len(x.Find(mirror.Module, "example.com/kubelet/@v/v1.30.0.zip")); n != 1 {
		t.Errorf("the mirror has %d zips of the module; want 1", n)
	}

	// Without its program nothing does in place of a release.
	containerd := w.File(baketest.ContainerdRelease)
	w.Remove(baketest.ContainerdRelease)
	other := w.MirrorConfig()
	other.Sources = true
	_, err = mirrorsync.Run(t.Context(), other)
	baketest.WantError(t, err, "failed", "component containerd 2.0.0: its release is unavailable at "+w.URL+baketest.ContainerdRelease+": 404 Not Found; nothing does in its place")
	w.Serve(baketest.ContainerdRelease, containerd)

	w.BreakProxy()
	w.Shutdown()
	b := w.Offline(c.To)
	b.BuildMissing = true
	if got := w.Image(b).SHA256; got != want {
		t.Errorf("the image from source is %s; want %s", got, want)
	}

	// What is not allowed is not done.
	b = w.Offline(c.To)
	_, err = baketest.Image(t.Context(), b)
	baketest.WantError(t, err, "failed", "component kubelet v1.30.0: ", "is not in the mirror "+c.To, "--build-missing would build it from")
	baketest.WantNothing(t, b)
}

// TestMirrorFails has nothing that is wrong become part of a mirror, and leaves
// the one that is there.
func TestMirrorFails(t *testing.T) {
	t.Parallel()
	w, _ := baketest.NewWithImages(t)
	restore := w.Snapshot()
	pool := w.Package("tool").Pool()
	for _, test := range []struct {
		name   string
		change func(*mirrorsync.Config)
		kind   string
		want   []string
	}{
		{"package that mirrors have dropped", func(*mirrorsync.Config) { w.Remove(pool) }, "superseded", []string{"tool 1.0 is unavailable", "locked packages that are unavailable: 1"}},
		{"package that is another", func(*mirrorsync.Config) { w.Serve(pool, w.File(w.Package("libtool0").Pool())) }, "failed", []string{"tool 1.0", pool}},
		{"release that lies", func(*mirrorsync.Config) { w.Serve(baketest.KubeletRelease, []byte("x")) }, "failed",
			[]string{"kubelet v1.30.0 from " + w.URL + baketest.KubeletRelease + " is sha256:"}},
		{"index without a signature", func(*mirrorsync.Config) { w.Serve("/debian/dists/trixie/InRelease", []byte("x")) }, "failed",
			[]string{"finding the index of trixie of debian, from which the lock was made: ", "does not start with an OpenPGP clearsigned message"}},
		{"stale lock", func(*mirrorsync.Config) {
			w.Edit("versions.yaml", "suite: trixie\n  kernel", "suite: trixie\n  packages: [shell]\n  kernel")
		}, "stale", []string{"versions.lock is stale: "}},
		{"no lock", func(*mirrorsync.Config) { os.Remove(w.LockFile()) }, "input", []string{"there is no lock "}},
		{"architecture that the lock lacks", func(c *mirrorsync.Config) { c.Archs = []arch.Arch{arch.AMD64, arch.ARM64} }, "input", []string{"nothing for arm64"}},
		{"no architecture", func(c *mirrorsync.Config) { c.Archs = nil }, "input", []string{"a mirror is for at least one architecture"}},
		{"two sets of one name", func(c *mirrorsync.Config) { c.Sets = append(c.Sets, c.Sets[0]) }, "input", []string{"would both be set tiny of the mirror"}},
		{"set that is not there", func(c *mirrorsync.Config) { c.Drop = []string{"other"} }, "input", []string{"has no set other to drop (it has: none)"}},
		{"set that goes and comes", func(c *mirrorsync.Config) { c.Drop = []string{"tiny"} }, "input", []string{"set tiny is to be dropped and to be mirrored"}},
		{"something else in the directory", func(c *mirrorsync.Config) {
			filetest.Mkdir(t, filepath.Join(c.To, "photos"))
		}, "failed", []string{"it is no mirror, and has photos in it"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			defer restore()
			c := w.MirrorConfig()
			test.change(&c)
			_, err := mirrorsync.Run(t.Context(), c)
			baketest.WantError(t, err, test.kind, test.want...)
			if _, err := os.Stat(filepath.Join(c.To, "mirror.json")); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the mirror has an index: %v", err)
			}
		})
	}
}

// TestMirrorNewerIndex mirrors when the index that the lock was made from is
// gone.
func TestMirrorNewerIndex(t *testing.T) {
	t.Parallel()
	w, _ := baketest.NewWithImages(t)
	w.Package("tool").Version = "1.1"
	w.Now = w.Now.AddDate(0, 1, 0)
	w.Publish()
	c := w.MirrorConfig()
	var sink progresstest.Recorder
	c.Progress = &sink
	baketest.Mirror(t, c)
	entry(t, readIndex(t, c.To), "trixie InRelease, newer than the lock: of 2026-12-22")
	want := "the index of trixie that mirrors have is newer than " + w.LockFile() + " and does not list 1 of its packages: tool 1.0 (newer ones, run: bake lock --versions " + w.Versions + " --upgrade tool)"
	if notes := sink.Notes(); !slices.Contains(notes, want) {
		t.Errorf("notes are %q; want %q", notes, want)
	}
	if got := baketest.Mirror(t, c); got.Added.Files > 0 {
		t.Errorf("mirroring again = %+v; want nothing added", got)
	}
	w.Image(w.Offline(c.To))
}

// TestMirrorVersionWithoutDigest brings a mirror to a version that was changed
// without its digest.
func TestMirrorVersionWithoutDigest(t *testing.T) {
	t.Parallel()
	w := baketest.NewLocked(t)
	c := w.MirrorConfig()
	c.Sources = true
	baketest.Mirror(t, c)
	w.Bump()
	for _, cache := range []string{c.Cache, filepath.Join(t.TempDir(), "empty")} {
		c.Cache = cache
		_, err := mirrorsync.Run(t.Context(), c)
		if want := w.BumpError("is unavailable: 404 Not Found"); err == nil || err.Error() != want {
			t.Errorf("Mirror() = %v; want %s", err, want)
		}
		baketest.WantError(t, err, "input")
		w.Serve(baketest.NextKubelet, []byte("another"))
		_, err = mirrorsync.Run(t.Context(), c)
		if want := w.BumpError("is " + string(manifesttest.Digest("another"))); err == nil || err.Error() != want {
			t.Errorf("Mirror() = %v; want %s", err, want)
		}
		w.Remove(baketest.NextKubelet)
	}
	w.Serve(baketest.NextKubelet, w.Kubelet)
	baketest.Mirror(t, c)
	x := readIndex(t, c.To)
	if e := x.Find(mirror.Release, w.URL+baketest.NextKubelet); len(e) != 1 || e[0].SHA256 != manifesttest.Digest(w.Kubelet) || e[0].Name != "kubelet v1.30.1 amd64" {
		t.Errorf("the mirror has %+v at the new URL; want kubelet v1.30.1 amd64 with %s", e, manifesttest.Digest(w.Kubelet))
	}
	if e := x.Find(mirror.Release, w.URL+baketest.KubeletRelease); len(e) > 0 {
		t.Errorf("the mirror has %+v still", e)
	}
	w.Shutdown()
	w.Image(w.Offline(c.To))
}

// otherSet writes and locks a versions file that has almost everything in common
// with the world's.
func otherSet(t *testing.T, w *baketest.World) mirrorsync.Set {
	t.Helper()
	path := filepath.Join(w.Dir, "other.yaml")
	filetest.Write(t, path, bytes.Replace(filetest.Read(t, w.Versions), []byte("panic=10"), []byte("panic=20"), 1))
	c := w.LockConfig(w.Config())
	c.Versions = path
	if _, err := baketest.Lock(t.Context(), c, arch.AMD64); err != nil {
		t.Fatal(err)
	}
	return mirrorsync.Set{Name: "other", Versions: path}
}

// TestTwoSets mirrors two sets that share most, one after the other, and drops
// one.
func TestTwoSets(t *testing.T) {
	t.Parallel()
	w, want := baketest.NewWithImages(t)
	c := w.MirrorConfig()
	first := baketest.Mirror(t, c)

	other := otherSet(t, w)
	w.Gets()
	c.Sets = []mirrorsync.Set{other}
	both := baketest.Mirror(t, c)
	if both.Added.Files != 1 || both.Files != first.Files+1 || len(both.Sets) != 2 {
		t.Errorf("mirroring another set = %+v; want its versions file added to the %d files of the first", both, first.Files)
	}
	var transferred []string
	for _, p := range w.Gets() {
		if path.Ext(p) == ".deb" || strings.HasPrefix(p, "/releases/") {
			transferred = append(transferred, p)
		}
	}
	if len(transferred) > 0 {
		t.Errorf("mirroring another set transferred %q, which the first has", transferred)
	}

	// Without Prune the files stay, and are found to be extra.
	c.Sets, c.Drop = nil, []string{"other"}
	if r := baketest.Mirror(t, c); len(r.Sets) != 1 || r.Removed.Files != 0 {
		t.Errorf("dropping a set = %+v; want the first left, and no file removed", r)
	}
	if report, err := mirrorsync.Check(t.Context(), c.To, 1, nil); err != nil || len(report.Extra) != 1 {
		t.Errorf("CheckMirror() = %+v, %v; want 1 extra file", report, err)
	}
	c.Drop, c.Prune = nil, true
	if r := baketest.Mirror(t, c); r.Removed.Files != 1 || r.Files != first.Files {
		t.Errorf("pruning = %+v; want 1 file removed", r)
	}
	if report, err := mirrorsync.Check(t.Context(), c.To, 1, nil); err != nil || len(report.Extra) != 0 {
		t.Errorf("CheckMirror() after pruning = %+v, %v; want no extra files", report, err)
	}
	w.Shutdown()
	if got := w.Image(w.Offline(c.To)).SHA256; got != want {
		t.Errorf("the image from the pruned mirror is %s; want %s", got, want)
	}
	b := w.Offline(c.To)
	b.Versions = other.Versions
	w.Image(b) // all but the inputs is shared
}

// hasFileOf reports whether a file below dir has size bytes.
func hasFileOf(dir string, size int) bool {
	found := false
	filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			info, err := d.Info()
			found = found || err == nil && info.Size() == int64(size)
		}
		return nil
	})
	return found
}

// TestMirrorInterrupted ends a run in the middle of a download. The next one
// transfers only the rest.
func TestMirrorInterrupted(t *testing.T) {
	t.Parallel()
	w, want := baketest.NewWithImages(t)
	c := w.MirrorConfig()
	pool := w.Package("tool").Pool()
	deb := w.File(pool)
	ctx, cancel := context.WithCancelCause(t.Context())
	stopped := errors.New("stopped")
	half := make(chan bool)
	w.Fault(pool, func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Length", fmt.Sprint(len(deb)))
		rw.Header().Set("ETag", `"deb"`)
		if r.Method == http.MethodHead {
			return
		}
		rw.Write(deb[:len(deb)/2])
		rw.(http.Flusher).Flush()
		close(half)
		<-r.Context().Done()
	})
	go func() {
		<-half
		// The half, and what is under way beside it, may arrive.
		for range 1000 {
			if entries, _ := os.ReadDir(filepath.Join(c.To, "blobs", "sha256")); len(entries) >= 10 && hasFileOf(c.Cache, len(deb)/2) {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		cancel(stopped)
	}()
	w.Gets()
	if _, err := mirrorsync.Run(ctx, c); !errors.Is(err, stopped) {
		t.Fatalf("Mirror() = %v; want %v", err, stopped)
	}
	before := w.Gets()
	if _, err := os.Stat(filepath.Join(c.To, "mirror.json")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the interrupted run left an index: %v", err)
	}
	kept := filetest.Names(t, filepath.Join(c.To, "blobs", "sha256"))
	if len(kept) < 10 {
		t.Errorf("the interrupted run left %d files; want at least 10", len(kept))
	}
	resumed := make(chan string, 10)
	w.Fault(pool, func(rw http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			resumed <- r.Header.Get("Range")
		}
		rw.Header().Set("ETag", `"deb"`)
		http.ServeContent(rw, r, "", time.Time{}, strings.NewReader(string(deb)))
	})
	r := baketest.Mirror(t, c)
	w.Fault(pool, nil)
	for _, p := range w.Gets() {
		if slices.Contains(before, p) && p != pool && strings.HasSuffix(p, ".deb") && slices.Contains(kept, manifesttest.Digest(w.File(p)).Hex()) {
			t.Errorf("the second run asks for %s again, which has arrived", p)
		}
	}
	if got, want := <-resumed, fmt.Sprintf("bytes=%d-", len(deb)/2); got != want {
		t.Errorf("the package that was interrupted is asked for with Range %q; want %q", got, want)
	}
	if r.Added.Files != r.Files-len(kept) {
		t.Errorf("the second run added %d files; want %d, since %d of %d were there", r.Added.Files, r.Files-len(kept), len(kept), r.Files)
	}
	if r := baketest.Mirror(t, c); r.Added.Files > 0 || len(w.Gets()) > 0 {
		t.Errorf("the third run = %+v; want nothing added and nothing asked for", r)
	}
	w.Shutdown()
	if got := w.Image(w.Offline(c.To)).SHA256; got != want {
		t.Errorf("the image from the mirror is %s; want %s", got, want)
	}
}
