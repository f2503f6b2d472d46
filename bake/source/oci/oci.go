// Package oci brings container images: from a registry by digest, from a mirror,
// or assembled from a program where neither can be reached.
package oci

import (
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/tree"
)

// Descriptor names one blob (OCI image specification, "Content Descriptors").
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

// Image is a container image for one architecture, with all its blobs.
type Image struct {
	Target   Descriptor   // what the reference names: an index or a manifest
	Manifest Descriptor   // for the architecture; may be Target
	Config   Descriptor   //
	Layers   []Descriptor // the lowest first
	Blobs    []Blob       // of all of these, Target first, each once
}
