package source

import (
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/source/oci"
)

// Image is a container image and how it came to be.
type Image struct {
	manifest.ContainerImage
	*oci.Image
	Origin    Origin // FromRelease: as the registry has it; FromSource: assembled here
	Ref       string // what it is called in the node's containerd: Reference, or a name of our own where it was assembled
	From      string // "registry.k8s.io/pause@sha256:...", module@version, "bake's program pause"
	Toolchain string // FromSource: what built it
}
