// Package oci brings container images: from a registry or a mirror by digest, or
// assembled from a program where neither can be reached.
//
// An image is a handful of blobs, each known by its SHA-256: perhaps an index
// over architectures, a manifest, a configuration and layers (OCI image
// specification 1.1, and Docker's schema 2, which it comes from). Each becomes
// a pack of its own with one file, so that images share layers. A [Puller] finds
// in the first seconds what an image consists of and whether it is available
// ([Puller.Resolve]), and brings it later ([Puller.Pull]).
//
// Blobs are fetched as releases are, by package release: from its mirror before
// the registry, verified while they come, resumed where the registry can do so.
// The registry's part is to say who asks: see registry.go. go-containerregistry
// does the tokens, and reads the user's docker configuration if a program gives
// it its keychain.
//
// Limits. Only single images for Linux are taken, with gzipped or plain layers:
// containerd before 1.5 can't unpack zstd, and versions files may name one. Schema
// 1, layers that may not be distributed, nested indices and artifacts that are no
// images are refused. Registries speak TLS, but for those on this machine and those
// that [Config] names, which may speak plain HTTP; passwords go over TLS or stay on
// this machine. Signatures of images are not looked at: the digest in the versions
// file is what is trusted.
package oci

import (
	"context"

	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/tree"
)

// Descriptor names one blob (OCI image specification, "Content Descriptors").
type Descriptor struct {
	MediaType string
	Digest    manifest.Digest // SHA-256
	Size      int64           // bytes
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

// Packs keeps blobs. The store is one.
type Packs interface {
	HasPack(key string) bool
	Pack(ctx context.Context, key, name string, make func(context.Context, *tree.PackWriter) error) (*tree.Pack, error)
}
