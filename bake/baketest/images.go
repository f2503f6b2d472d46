package baketest

import (
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/nodebake/bake/bake/source/oci/ocitest"
)

// AddImages starts a registry and adds its images to the versions file: pause,
// an index whose image bake has a program for, and dns, a manifest. They share a
// layer.
func (w *World) AddImages() {
	w.t.Helper()
	w.Registry = ocitest.New(w.t)
	base := ocitest.Layer(types.OCILayer, "base", string(noise("base", 200_000)))
	pause := ocitest.Image("amd64", base, ocitest.Layer(types.OCILayer, "pause", string(noise("pause", 20_000))))
	other := ocitest.Image("arm64", ocitest.Layer(types.OCILayer, "pause", string(noise("pause for arm64", 20_000))))
	dns := ocitest.Image("amd64", base, ocitest.Layer(types.OCIUncompressedLayer, "dns", string(noise("dns", 300_000))))
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
