package bake_test

import (
	"bytes"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/bake/baketest"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/record"
	"github.com/nodebake/bake/bake/source"
	"github.com/nodebake/bake/bake/source/fetch"
	"github.com/nodebake/bake/test/filetest"
)

// TestOrigin bakes with kubelet from its release and from its module.
func TestOrigin(t *testing.T) {
	t.Parallel()
	w, fromRelease := baketest.NewBaked(t)
	restore := w.Snapshot()
	c := w.Config()
	digests := map[string]manifest.Digest{"release": fromRelease}
	for _, test := range []struct {
		name         string
		gone         bool // the release
		origin       source.Origin
		buildMissing bool
		fresh        bool // another store
		want         string
	}{
		{"reachable", false, "", false, false, "release"},
		{"reachable, building allowed", false, "", true, false, "release"},
		{"release forced", false, source.FromRelease, true, false, "release"},
		{"gone, building allowed", true, "", true, true, "source"},
		{"still gone, and built already", true, "", true, false, "source"},
		// From here on both are in one store.
		{"back again", false, "", true, false, "release"},
		{"gone, but in the store", true, "", true, false, "release"},
	} {
		t.Run(test.name, func(t *testing.T) {
			defer restore()
			if test.fresh {
				c = w.Config()
			}
			if test.gone {
				w.Remove(baketest.KubeletRelease)
			}
			c := c
			c.Origin, c.BuildMissing, c.Out = test.origin, test.buildMissing, filepath.Join(t.TempDir(), "out")
			result := w.Image(c)
			if digests[test.want] == "" {
				digests[test.want] = result.SHA256
			}
			baketest.WantImage(t, c, result, digests[test.want])
			rec := baketest.ReadRecord(t, c)
			want := []record.Component{
				{Name: "kubelet", Version: "v1.30.0", Origin: "release", From: w.URL + baketest.KubeletRelease},
				{Name: "containerd", Version: "2.0.0", Origin: "release", From: w.URL + baketest.ContainerdRelease},
				{Name: "kube-proxy", Version: "v1.30.0", Origin: "package", From: "kube-proxy-amd64 1.30.0"},
				{Name: "runc", Version: "1.2.0", Origin: "package", From: "kube-proxy-amd64 1.30.0"},
				{Name: "cni-plugins", Version: "1.6.0", Origin: "package", From: "kube-proxy-amd64 1.30.0"},
			}
			if test.want == "source" {
				want[0].Origin, want[0].From, want[0].Toolchain = "source", "example.com/kubelet@v1.30.0", runtime.Version()
			}
			for i := range rec.Components {
				rec.Components[i].Files = nil
			}
			if diff := cmp.Diff(want, rec.Components); diff != "" {
				t.Errorf("components in the record (-want +got):\n%s", diff)
			}
		})
	}
	if digests["source"] == digests["release"] {
		t.Error("images of both origins have one digest; want that it tells them apart")
	}

	t.Run("damaged after it was built", func(t *testing.T) {
		c := c
		c.Origin, c.Out = "", filepath.Join(t.TempDir(), "out")
		w.Remove(baketest.KubeletRelease)
		defer restore()
		filetest.Remove(t, filepath.Join(c.Cache, "values"))
		filetest.Remove(t, filepath.Join(c.Cache, "files"))
		for _, path := range baketest.PackData(t, c.Cache, "release 1", "gomod") {
			filetest.Flip(t, path)
		}
		c.BuildMissing = true
		result, err := baketest.Image(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		baketest.WantImage(t, c, result, digests["source"])
	})
}

// TestDoubt answers for kubelet's release, and then for a package, in ways that
// do not say whether it is gone. Only what is gone is built.
func TestDoubt(t *testing.T) {
	t.Parallel()
	w := baketest.NewLocked(t)
	restore := w.Snapshot()
	built := source.Missing{
		Name: "component kubelet v1.30.0", Reason: "its release is unavailable at " + w.URL + baketest.KubeletRelease + ": 404 Not Found", Else: "example.com/kubelet v1.30.0",
		Causes: []fetch.Cause{{What: "404 Not Found", Host: strings.TrimPrefix(w.URL, "http://")}},
	}
	status := func(code int) http.HandlerFunc {
		return func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(code) }
	}
	onHead := func(code int, file []byte) http.HandlerFunc {
		return func(rw http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodHead {
				rw.WriteHeader(code)
				return
			}
			http.ServeContent(rw, r, "", time.Time{}, bytes.NewReader(file))
		}
	}
	var asked atomic.Int64
	pool := w.Package("tool").Pool()
	for _, test := range []struct {
		name   string
		path   string
		answer http.HandlerFunc
		named  []string
		want   []string         // of the error; nil: there is none
		built  []source.Missing // in the result
	}{
		{"404, named", baketest.KubeletRelease, status(404), []string{"containerd", "kubelet"}, nil, []source.Missing{built}},
		{"404, others named", baketest.KubeletRelease, status(404), []string{"containerd"}, []string{"404 Not Found; --build-missing=kubelet would build it from example.com/kubelet v1.30.0"}, nil},
		{"nothing of that name", baketest.KubeletRelease, nil, []string{"kublet"}, []string{w.Versions + ` has no component and no image "kublet" to build where it is missing (it has: kubelet, containerd, kube-proxy, runc, cni-plugins)`}, nil},
		{"403", baketest.KubeletRelease, status(403), nil, []string{"403 Forbidden; this does not say that it is gone, so nothing is built in its place"}, nil},
		{"500", baketest.KubeletRelease, status(500), nil, []string{"500 Internal Server Error; this does not say that it is gone, so nothing is built in its place"}, nil},
		{"HEAD 404", baketest.KubeletRelease, onHead(404, w.Kubelet), nil, nil, nil},
		{"busy for two seconds", baketest.KubeletRelease, func(rw http.ResponseWriter, r *http.Request) {
			if asked.Add(1) < 4 { // HEAD, and GET twice
				rw.Header().Set("Retry-After", "1")
				rw.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			http.ServeContent(rw, r, "", time.Time{}, bytes.NewReader(w.Kubelet))
		}, nil, nil, nil},
		{"HEAD 403 of a package", pool, onHead(403, w.File(pool)), nil, nil, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			defer restore()
			if test.answer != nil {
				w.Fault(test.path, test.answer)
			}
			c := w.Config()
			c.BuildMissing, c.BuildNamed = true, test.named
			result, err := baketest.Image(t.Context(), c)
			if test.want != nil {
				kind := "failed"
				if test.answer == nil {
					kind = "input"
				}
				baketest.WantError(t, err, kind, test.want...)
				baketest.WantNothing(t, c)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.built, result.Missing); diff != "" {
				t.Errorf("missing (-want +got):\n%s", diff)
			}
			want := "release"
			if test.built != nil {
				want = "source"
			}
			if got := baketest.ReadRecord(t, c).Components[0].Origin; got != want {
				t.Errorf("kubelet is from %s; want %s", got, want)
			}
		})
	}
}

// TestOriginForced forces an origin that not every component has.
func TestOriginForced(t *testing.T) {
	t.Parallel()
	w := baketest.NewLocked(t)
	c := w.Config()
	c.Origin = source.FromSource
	_, err := baketest.Image(t.Context(), c)
	baketest.WantError(t, err, "failed", w.Versions+":26:3: component containerd has no module that it could be built from (add one, or leave --origin source out)")
	baketest.WantNothing(t, c)

	c.Origin, c.BuildMissing = source.FromRelease, true
	w.Remove(baketest.KubeletRelease)
	_, err = baketest.Image(t.Context(), c)
	baketest.WantError(t, err, "failed", "component kubelet v1.30.0: its release is unavailable at "+w.URL+baketest.KubeletRelease+": 404 Not Found")
	baketest.WantNothing(t, c)

	// With a module for each, nobody asks for a release.
	w.Edit("versions.yaml", "    version: 2.0.0\n", "    version: 2.0.0\n    reports: {version: v1.30.0, reason: it is of another module}\n")
	w.Edit("versions.yaml", "          path: /bin/\n", "          path: /bin/\n"+w.Module("/bin/containerd"))
	w.Lock()
	c.Origin, c.BuildMissing = source.FromSource, false
	w.Gets()
	w.Image(c)
	for _, component := range baketest.ReadRecord(t, c).Components {
		want := "source"
		if strings.HasPrefix(component.From, "kube-proxy-amd64 ") {
			want = "package" // it has no choice
		}
		if component.Origin != want {
			t.Errorf("%s is from %s; want %s", component.Name, component.Origin, want)
		}
	}
	if got := w.Gets(); slices.Contains(got, baketest.ContainerdRelease) {
		t.Error("the release of containerd was fetched")
	}

	for text, want := range map[string]source.Origin{"": "", "release": source.FromRelease, "source": source.FromSource} {
		if got, err := source.ParseOrigin(text); got != want || err != nil {
			t.Errorf("ParseOrigin(%q) = %q, %v; want %q", text, got, err, want)
		}
	}
	if _, err := source.ParseOrigin("package"); err == nil {
		t.Error("ParseOrigin(package) = nil; it cannot be forced")
	}
}

// TestCompilerPackages wants what a component is compiled against to be asked for
// before anything slow, and only where it must be compiled. The C compiler is a
// script, since nothing gets to it.
func TestCompilerPackages(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("the compiler is a shell script")
	}
	w := baketest.New(t)
	w.Packages = append(w.Packages, &baketest.Package{Name: "libtoy-amd64-dev", Version: "1.0"})
	w.Publish()
	w.Edit("versions.yaml", "      stamp:\n", "      cgo:\n        packages: ['libtoy-{arch}-dev/trixie']\n      stamp:\n")
	w.Lock()
	tools := t.TempDir()
	for name, script := range map[string]string{
		"cc": `case $1 in --version) echo toy 1;; -print-prog-name=ld) echo ld;; -dumpmachine) echo x86_64-linux-gnu;; *) exit 1;; esac`,
		"ld": `echo toy 2`,
	} {
		filetest.Script(t, filepath.Join(tools, name), "#!/bin/sh\n"+script+"\n")
	}
	w.Remove(w.Package("libtoy-amd64-dev").Pool())
	c := w.Config()
	c.Env = append(c.Env, "PATH="+tools+string(filepath.ListSeparator)+os.Getenv("PATH"))
	want := w.Image(c) // from the release

	w.Remove(baketest.KubeletRelease)
	c = w.Config()
	c.Env = append(c.Env, "PATH="+tools+string(filepath.ListSeparator)+os.Getenv("PATH"))
	c.BuildMissing = true
	w.Gets()
	_, err := baketest.Image(t.Context(), c)
	baketest.WantError(t, err, "superseded", "libtoy-amd64-dev 1.0 is unavailable", "404 Not Found")
	baketest.WantNothing(t, c)
	if got := w.Gets(); len(got) > 0 {
		t.Errorf("the bake fetched %q before it gave up; want nothing", got)
	}
	w.WriteVersions() // serves the release again
	w.Edit("versions.yaml", "      stamp:\n", "      cgo:\n        packages: ['libtoy-{arch}-dev/trixie']\n      stamp:\n")
	baketest.WantImage(t, c, w.Image(c), want.SHA256)
}
