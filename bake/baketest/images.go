package baketest

import (
	"fmt"
	"runtime"
	"slices"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/source/oci/ocitest"
	"github.com/nodebake/bake/test/filetest"
)

// NewWithImages returns a world with container images and its lock made, and the
// digest of its image.
func NewWithImages(t testing.TB) (*World, manifest.Digest) {
	t.Helper()
	w := New(t)
	w.AddImages()
	w.Lock()
	return w, w.Image(w.Config()).SHA256
}

// NewAssembling returns a world with container images, both of which can be
// assembled, and its lock made.
func NewAssembling(t testing.TB) *World {
	t.Helper()
	w := New(t)
	w.AddImages()
	w.Edit("versions.yaml", "library/dns:v1\n", "library/dns:v1\n"+w.Module("/usr/bin/dns"))
	w.Lock()
	return w
}

// Module is the entry of the versions file that builds the module's program to
// path.
func (w *World) Module(path string) string {
	return "    module:\n      path: example.com/kubelet\n      version: v1.30.0\n      toolchain: " + runtime.Version() + "\n      dir: modules/kubelet\n" +
		"      programs:\n        - package: example.com/kubelet/cmd/kubelet\n          path: " + path + "\n"
}

// ImageDigest is what the versions file says of an image.
func (w *World) ImageDigest(name string) manifest.Digest {
	w.t.Helper()
	v, err := manifest.ParseVersions(w.Versions, filetest.Read(w.t, w.Versions))
	if err != nil {
		w.t.Fatal(err)
	}
	i := slices.IndexFunc(v.Images, func(i manifest.ContainerImage) bool { return i.Name == name })
	return v.Images[i].Digest
}

// AddImages starts a registry and adds its images to the versions file: pause,
// an index whose image bake has a program for, and dns, a manifest. They share a
// layer.
func (w *World) AddImages() {
	w.t.Helper()
	w.Registry = ocitest.New(w.t)
	base := ocitest.Layer(types.OCILayer, "base", string(filetest.Noise("base", 200_000)))
	pause := ocitest.Image("amd64", base, ocitest.Layer(types.OCILayer, "pause", string(filetest.Noise("pause", 20_000))))
	other := ocitest.Image("arm64", ocitest.Layer(types.OCILayer, "pause", string(filetest.Noise("pause for arm64", 20_000))))
	dns := ocitest.Image("amd64", base, ocitest.Layer(types.OCIUncompressedLayer, "dns", string(filetest.Noise("dns", 300_000))))
	w.images = fmt.Sprintf(`images:
  pause:
    reference: %s/pause:3.10
    digest: %s
    sandbox: true
    program: pause
  dns:
    reference: %[1]s/library/dns:v1
    digest: %[3]s
`, w.Registry.Host, w.Registry.Push("pause", "3.10", ocitest.Index(map[string]v1.Image{"linux/amd64": pause, "linux/arm64": other})),
		w.Registry.Push("library/dns", "v1", dns))
	w.WriteVersions()
}
