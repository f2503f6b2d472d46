// Package containerd lays container images out as containerd stores them, so
// that it has them when it starts for the first time.
package containerd

import (
	"errors"

	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/tree"
)

// Descriptor names one blob.
type Descriptor struct {
	MediaType string
	Digest    manifest.Sum // SHA-256
	Size      int64        // bytes
}

// Blob is a blob of an image: an index, a manifest, a configuration or a layer.
type Blob struct {
	Descriptor
	Content  tree.Entry   // a File whose content is exactly the blob
	Children []Descriptor // index and manifest: what it refers to and the image holds, in its order
}

// Image is one image under one name.
type Image struct {
	Reference string     // "registry.k8s.io/pause:3.10.2"
	Target    Descriptor // what it names: an index or a manifest
	Config    Descriptor // of the image for the node's architecture
	Blobs     []Blob     // all that Target refers to, itself included, each once
	Pinned    bool       // the kubelet's image garbage collection leaves it alone
}

// Plan returns the files below /var/lib/containerd that hold images. epoch, in
// seconds since 1970, is when they seem to have been pulled.
func Plan(images []Image, epoch int64) ([]tree.Entry, error) {
	if len(images) == 0 {
		return nil, nil
	}
	return nil, errors.New("BUG: not done")
}
