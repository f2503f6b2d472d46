package bake_test

import (
	"fmt"
	"net/http"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/bake/arch"
	"github.com/nodebake/bake/bake/baketest"
	"github.com/nodebake/bake/bake/embedded"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/manifest/manifesttest"
	"github.com/nodebake/bake/bake/record"
	"github.com/nodebake/bake/bake/source"
	"github.com/nodebake/bake/bake/source/fetch"
	"github.com/nodebake/bake/test/filetest"
)

// preloaded returns the blobs of containerd's content store that a record has.
func preloaded(rec *record.Record) map[string]bool {
	found := map[string]bool{}
	for _, f := range rec.Files {
		if digest, ok := strings.CutPrefix(f.Path, "/var/lib/containerd/io.containerd.content.v1.content/blobs/sha256/"); ok {
			found["sha256:"+digest] = digest == f.SHA256
		}
	}
	return found
}

// wantBlobs fails unless the image's content store has what its images consist
// of, and nothing else.
func wantBlobs(t *testing.T, rec *record.Record) {
	t.Helper()
	want := map[string]bool{}
	for _, image := range rec.Images {
		for _, sum := range append([]manifest.Digest{image.Digest, image.Manifest, image.Config}, image.Layers...) {
			want[string(sum)] = true
		}
	}
	if diff := cmp.Diff(want, preloaded(rec)); diff != "" {
		t.Errorf("blobs in the image (-want +got):\n%s", diff)
	}
}

// TestContainerImages bakes with images from a registry and, where that is gone,
// assembled.
func TestContainerImages(t *testing.T) {
	t.Parallel()
	w := baketest.NewAssembling(t)
	c := w.Config()
	result := w.Image(c)
	baketest.WantImage(t, c, result, result.SHA256)
	rec := baketest.ReadRecord(t, c)
	wantBlobs(t, rec)
	host := w.Registry.Host
	brief := func(images []record.ContainerImage) (out []string) {
		for _, i := range images {
			out = append(out, fmt.Sprintf("%s %s %s %s", i.Origin, i.Reference, i.From, i.Toolchain))
		}
		return out
	}
	dns := rec.Images[1].Digest
	if diff := cmp.Diff([]string{
		fmt.Sprintf("release %s/pause:3.10 %s/pause@%s ", host, host, rec.Images[0].Digest),
		fmt.Sprintf("release %s/library/dns:v1 %s/library/dns@%s ", host, host, dns),
	}, brief(rec.Images)); diff != "" {
		t.Errorf("images in the record (-want +got):\n%s", diff)
	}
	if got, want := rec.Node.SandboxImage, host+"/pause:3.10"; got != want {
		t.Errorf("the sandbox image is %s; want %s", got, want)
	}
	if rec.Images[0].Layers[0] != rec.Images[1].Layers[0] {
		t.Errorf("the images share no layer")
	}
	if _, ok := rec.Inputs.Programs["pause"]; ok {
		t.Error("bake's program pause is among the inputs of an image that does not have it")
	}

	// A bit that flips in the store is found, and what has it is brought again.
	damaged := c
	damaged.Out = filepath.Join(t.TempDir(), "out")
	filetest.Remove(t, filepath.Join(c.Cache, "values"))
	for _, path := range baketest.PackData(t, c.Cache, "oci blob 1") {
		filetest.Flip(t, path)
	}
	w.Registry.Got()
	again := w.Image(damaged)
	baketest.WantImage(t, damaged, again, result.SHA256)
	if got := w.Registry.Got(); got != nil {
		t.Errorf("the registry was asked for what the store has: %q", got)
	}

	w.Registry.Close()
	again = w.Image(c)
	baketest.WantImage(t, c, again, result.SHA256)

	// A fresh store has none of them.
	c = w.Config()
	_, err := baketest.Image(t.Context(), c)
	baketest.WantError(t, err, "failed", "2 container images are unavailable: connection refused at "+host+"; --build-missing would assemble them: pause, dns")
	baketest.WantNothing(t, c)

	c.Origin, c.BuildMissing = source.FromRelease, true
	_, err = baketest.Image(t.Context(), c)
	baketest.WantError(t, err, "failed", "2 container images are unavailable: connection refused at "+host+": pause, dns")
	baketest.WantNothing(t, c)

	c.Origin = ""
	result = w.Image(c)
	baketest.WantImage(t, c, result, result.SHA256)
	for i, want := range []source.Missing{
		{Name: "image pause " + host + "/pause:3.10", Else: "bake's program pause"},
		{Name: "image dns " + host + "/library/dns:v1", Else: "example.com/kubelet v1.30.0"},
	} {
		got := result.Missing[i]
		if reason := "manifest or index is unavailable at http://" + host + "/v2/"; !strings.HasPrefix(got.Reason, reason) {
			t.Errorf("the reason is %q; want it to begin with %q", got.Reason, reason)
		}
		want.Causes = []fetch.Cause{{What: "connection refused", Host: host, Down: true}}
		got.Reason = ""
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("missing (-want +got):\n%s", diff)
		}
	}
	rec = baketest.ReadRecord(t, c)
	wantBlobs(t, rec)
	if diff := cmp.Diff([]string{
		"source bake.invalid/pause:3.10 bake's program pause ",
		"source bake.invalid/dns:v1 example.com/kubelet@v1.30.0 " + runtime.Version(),
	}, brief(rec.Images)); diff != "" {
		t.Errorf("images in the record (-want +got):\n%s", diff)
	}
	if got, want := rec.Node.SandboxImage, "bake.invalid/pause:3.10"; got != want {
		t.Errorf("the sandbox image is %s; want %s", got, want)
	}
	if rec.Images[1].Digest == dns {
		t.Error("the assembled image has the digest of upstream's")
	}
	program, err := embedded.Programs{}.Program("pause", arch.AMD64)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := rec.Inputs.Programs["pause"], manifesttest.Digest(program); got != want {
		t.Errorf("bake's program pause is among the inputs with %q; want %s", got, want)
	}

	// The same in another store, and when it is damaged.
	other := w.Config()
	other.Origins.Images = map[string]source.Origin{"pause": source.FromSource, "dns": source.FromSource}
	baketest.WantImage(t, other, w.Image(other), result.SHA256)
	filetest.Remove(t, filepath.Join(other.Cache, "values"))
	for _, path := range baketest.PackData(t, other.Cache, "assembled image 2", "gomod") {
		filetest.Flip(t, path)
	}
	baketest.WantImage(t, other, w.Image(other), result.SHA256)
}

// TestContainerImagesWrong bakes with images that are available and are wrong: no
// image is assembled in their place.
func TestContainerImagesWrong(t *testing.T) {
	t.Parallel()
	w := baketest.NewAssembling(t)
	restore := w.Snapshot()
	c := w.Config()
	c.BuildMissing = true
	w.Edit("versions.yaml", "program: pause", "program: pause\n  gone:\n    reference: "+w.Registry.Host+"/gone:v1\n    digest: sha256:"+strings.Repeat("0", 64))
	w.Remove(baketest.ContainerdRelease)
	w.Lock()
	_, err := baketest.Image(t.Context(), c)
	baketest.WantError(t, err, "failed", "component containerd 2.0.0: its release is unavailable",
		"image gone "+w.Registry.Host+"/gone:v1: ", "404 Not Found", "; there is no module and no program to assemble it from ("+w.Versions+":")
	baketest.WantNothing(t, c)
	restore()

	w.Registry.Basic("user", "password")
	_, err = baketest.Image(t.Context(), w.Config())
	baketest.WantError(t, err, "failed", "401 Unauthorized", "run `docker login "+w.Registry.Host+"`")
	w.Registry.Basic("", "") // nobody
	restore()

	other := baketest.NewAssembling(t)
	for _, line := range w.Registry.Got() {
		if path, ok := strings.CutPrefix(line, "HEAD "); ok && strings.Contains(path, "/manifests/") {
			other.Registry.Fault(path, func(rw http.ResponseWriter, r *http.Request) { fmt.Fprint(rw, `{"schemaVersion":2}`) })
		}
	}
	c = other.Config()
	c.BuildMissing = true
	_, err = baketest.Image(t.Context(), c)
	baketest.WantError(t, err, "failed", "want sha256:", "nothing was kept")
	baketest.WantNothing(t, c)

	c.Origin, c.BuildMissing = source.FromSource, false
	other.Edit("versions.yaml", "    program: pause\n", "")
	other.Lock()
	_, err = baketest.Image(t.Context(), c)
	baketest.WantError(t, err, "failed", "image pause has neither a module nor a program that it could be assembled from (add one, or leave --origin source out)")
	baketest.WantNothing(t, c)
}

// addWeb adds container images, and packages for one: web is started by what its
// dependency libweb has.
func addWeb(w *baketest.World) {
	w.AddImages()
	w.Packages = append(w.Packages,
		&baketest.Package{Name: "web", Version: "2.0", Fields: "Depends: libweb\n", Files: []baketest.File{
			{Path: "usr/sbin/web", Mode: 0o755, Content: "#!/bin/run-web\n" + string(filetest.Noise("web", 50_000))},
			{Path: "usr/share/doc/web/README", Content: "read me"}, {Path: "usr/share/doc/web/copyright", Content: "it is free"},
		}},
		&baketest.Package{Name: "libweb", Version: "1.0", Files: []baketest.File{{Path: "usr/bin/run-web", Mode: 0o755, Content: "loader"}}})
	w.Publish()
}

// TestImagesOfPackages bakes with an image of packages that the OS lacks, and one
// that has a module's program as well: neither is asked of a registry, their
// packages are not the OS's, and record, SBOM and provenance have them.
func TestImagesOfPackages(t *testing.T) {
	t.Parallel()
	w := baketest.New(t)
	addWeb(w)
	plain := w.Config()
	w.Lock()
	before := w.Image(plain)
	w.Edit("versions.yaml", "  dns:\n", `  web:
    reference: bake.local/web:2
    packages: [web, base-passwd]
    entrypoint: [/usr/sbin/web]
    user: 33:33
    environment: {PORT: "8080"}
    paths: [{path: /var/log/web.log, link: /dev/stdout}]
  tool:
    reference: bake.local/tool:1
    packages: [web, base-passwd]
`+w.Module("/usr/bin/extra")+"  dns:\n")
	w.Lock()
	c := w.Config()
	c.BuildMissing = true
	result := w.Image(c)
	baketest.WantImage(t, c, result, result.SHA256)
	rec := baketest.ReadRecord(t, c)
	wantBlobs(t, rec)
	var got []string
	for _, image := range rec.Images[1:3] {
		var names []string
		for _, p := range image.Packages {
			names = append(names, p.Name+" "+p.Version)
		}
		got = append(got, fmt.Sprintf("%s %s %s %d: %s", image.Origin, image.Reference, image.From, len(image.Layers), strings.Join(names, ", ")))
	}
	if diff := cmp.Diff([]string{
		"source bake.local/web:2 Debian packages 1: base-passwd 3.6, libweb 1.0, web 2.0",
		"source bake.local/tool:1 example.com/kubelet@v1.30.0 2: base-passwd 3.6, libweb 1.0, web 2.0",
	}, got); diff != "" {
		t.Errorf("images in the record (-want +got):\n%s", diff)
	}
	if web, old := len(rec.Packages), len(baketest.ReadRecord(t, plain).Packages); web != old || before.SHA256 == result.SHA256 {
		t.Errorf("the OS has %d packages with the images, and %d without; want no more, in another image", web, old)
	}
	for _, path := range []string{result.Provenance, result.SPDX} {
		if text := string(filetest.Read(t, path)); !strings.Contains(text, "pkg:deb/debian/libweb@1.0") {
			t.Errorf("%s lacks libweb, which the image web is made of", filepath.Base(path))
		}
	}
	// The same in another store.
	other := w.Config()
	other.BuildMissing = true
	baketest.WantImage(t, other, w.Image(other), result.SHA256)

	// And from a mirror, where there is nothing else.
	m := w.MirrorConfig()
	m.Sources = true
	baketest.Mirror(t, m)
	w.Shutdown()
	offline := w.Offline(m.To)
	offline.BuildMissing = true
	baketest.WantImage(t, offline, w.Image(offline), result.SHA256)
}

// TestImagesOfPackagesWrong bakes with images of packages whose mistakes only the
// packages' files show: each is said in one line at its place, and nothing is written.
func TestImagesOfPackagesWrong(t *testing.T) {
	t.Parallel()
	w := baketest.New(t)
	addWeb(w)
	w.Packages = append(w.Packages,
		&baketest.Package{Name: "other", Version: "1.0", Files: []baketest.File{
			{Path: "usr/sbin/web", Mode: 0o755, Content: "other"},
			{Path: "usr/sbin/script", Mode: 0o755, Content: "#!/bin/sh\n"},
		}})
	w.Publish()
	restore := w.Snapshot()
	for _, test := range []struct{ name, image, want string }{
		{"conflicting packages", "    packages: [web, other]\n", "images.web.packages: /usr/sbin/web comes from both package other and package web (name other packages)"},
		{"no such program", "    packages: [web]\n    command: [wob]\n", "images.web.command: wob is no program of the image (name one of its packages' by its path, or add the package that has it)"},
		{"script without its shell", "    packages: [other]\n    entrypoint: [/sbin/script]\n",
			"images.web: /usr/sbin/script: /bin/sh is needed to start it and is no program of the image (add the package that has it to its packages)"},
		{"link where a file is", "    packages: [web]\n    paths: [{path: /sbin/web, link: /x}]\n", "images.web.paths[0]: package web has a file at /sbin/web (remove this entry, or the package)"},
		{"program where a file is", "    packages: [web]\n" + w.Module("/sbin/web"), "images.web.module.programs: /sbin/web: package web has a file there (choose another path)"},
	} {
		w.Edit("versions.yaml", "  dns:\n", "  web:\n    reference: bake.local/web:2\n"+test.image+"  dns:\n")
		w.Lock()
		c := w.Config()
		c.BuildMissing = true
		_, err := baketest.Image(t.Context(), c)
		baketest.WantError(t, err, "input", w.Versions+":", test.want)
		if err != nil && strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: the error has several lines:\n%v", test.name, err)
		}
		baketest.WantNothing(t, c)
		restore()
	}
}
