package bake

import (
	"github.com/nodebake/bake/bake/image/containerd"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/record"
	"github.com/nodebake/bake/bake/source"
)

// preloaded turns container images into what the image's containerd gets.
func preloaded(images []source.ContainerImage) []containerd.ContainerImage {
	var out []containerd.ContainerImage
	for _, image := range images {
		c := containerd.ContainerImage{
			Reference: image.Ref, Target: containerd.Descriptor(image.Target), Config: containerd.Descriptor(image.Config),
			Pinned: image.Sandbox,
		}
		for _, b := range image.Blobs {
			blob := containerd.Blob{Descriptor: containerd.Descriptor(b.Descriptor), Content: b.Content}
			for _, child := range b.Children {
				blob.Children = append(blob.Children, containerd.Descriptor(child))
			}
			c.Blobs = append(c.Blobs, blob)
		}
		out = append(out, c)
	}
	return out
}

// recordImages returns what the record says of container images, and the name
// of the one that is every pod's sandbox.
func recordImages(images []source.ContainerImage) (out []record.ContainerImage, sandbox string) {
	for _, image := range images {
		c := record.ContainerImage{
			Name: image.Name, Reference: image.Ref, Origin: string(image.Origin), From: image.From, Toolchain: image.Toolchain,
			Digest: image.Target.Digest, Manifest: image.Manifest.Digest, Config: image.Config.Digest, Layers: []manifest.Digest{},
		}
		for _, layer := range image.Layers {
			c.Layers = append(c.Layers, layer.Digest)
		}
		for _, b := range image.Blobs {
			c.Size += b.Size
		}
		var packages []manifest.LockedPackage
		for _, p := range image.Debs {
			packages = append(packages, p.LockedPackage)
		}
		if len(packages) > 0 {
			c.Packages = record.Packages(packages)
		}
		if image.Sandbox {
			sandbox = image.Ref
		}
		out = append(out, c)
	}
	return out, sandbox
}
