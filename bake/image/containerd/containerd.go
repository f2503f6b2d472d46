// Package containerd lays container images out as containerd stores them, so
// that it has them when it starts for the first time: the content store's blobs,
// and the database in which it keeps what they are.
//
// What is written is what a pull by containerd's CRI plugin leaves behind
// (internal/cri/server/images/image_pull.go, core/images/handlers.go,
// core/remotes/docker/handler.go of v2.3.4), with one difference: layers are not
// unpacked. The plugin lists such images all the same (CheckImages in
// internal/cri/server/images/check.go; loadImages in pkg/server/restart.go of
// github.com/containerd/cri for 1.4), and unpacks one when its first container is
// made (WithNewSnapshot in internal/cri/opts/container.go, pkg/containerd/opts
// for 1.4). That fits every snapshotter, and a layer is on the disk once until
// somebody needs it.
//
// The database is of schema v1, version 3 (core/metadata/buckets.go and db.go),
// which containerd 1.2 to 1.7 have and 2.x migrates from. containerd makes
// everything else when it starts.
//
// Limits: one namespace, k8s.io, which is the CRI plugin's. Images have tags and
// SHA-256 digests. containerd keeps the database in the machine's byte order;
// this one is little-endian, as every architecture is that we bake for. Nothing
// here looks into a blob: who fills in a [ContainerImage] says what refers to what.
package containerd

import (
	"crypto/sha256"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/tree"
)

// Where containerd keeps what is written here, and the directories' modes, as
// containerd 1.4.13 and 2.3.4 make them.
const (
	Root        = "var/lib/containerd"
	contentRoot = Root + "/io.containerd.content.v1.content"
	blobRoot    = contentRoot + "/blobs/sha256"
	boltRoot    = Root + "/io.containerd.metadata.v1.bolt"
	database    = boltRoot + "/meta.db"
)

// origin is who brings the entries.
const origin = "container images"

// Descriptor names one blob.
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

// ContainerImage is one image under one name.
type ContainerImage struct {
	Reference string     // "registry.k8s.io/pause:3.10.2"
	Target    Descriptor // what it names: an index or a manifest
	Config    Descriptor // of the image for the node's architecture
	Blobs     []Blob     // all that Target refers to, itself included, each once
	Pinned    bool       // the kubelet's image garbage collection leaves it alone
}

// Plan returns the files below var/lib/containerd that hold images, none where
// there are no images. epoch, in seconds since 1970, is when they seem to have
// been pulled. Blobs that images share are there once. The error names the image
// and the blob.
func Plan(images []ContainerImage, epoch int64) ([]tree.Entry, error) {
	if len(images) == 0 {
		return nil, nil
	}
	names := map[string]bool{}
	for _, image := range images {
		if names[image.Reference] {
			return nil, fmt.Errorf("container image %s is there twice (remove one)", image.Reference)
		}
		names[image.Reference] = true
		if err := image.check(); err != nil {
			return nil, fmt.Errorf("container image %s: %w", image.Reference, err)
		}
	}
	contents := merge(images)
	entries := []tree.Entry{
		directory(Root, 0o700),
		directory(contentRoot, 0o755),
		directory(path.Dir(blobRoot), 0o755),
		directory(blobRoot, 0o755),
		directory(boltRoot, 0o711),
	}
	for digest, b := range contents {
		// Owner, mode and time are those of what containerd writes, not of the pack.
		entries = append(entries, tree.Entry{
			Path: path.Join(blobRoot, digest.Hex()), Type: tree.File, Perm: 0o444,
			Size: b.Content.Size, SHA256: b.Content.SHA256, Offset: b.Content.Offset, Blob: b.Content.Blob,
			Owner: origin,
		})
	}
	meta := writeBolt(metadata(images, contents, epoch))
	entries = append(entries, tree.Entry{
		Path: database, Type: tree.File, Perm: 0o644, Size: int64(len(meta)), SHA256: sha256.Sum256(meta),
		Blob: tree.Bytes("containerd's meta.db", meta), Owner: origin,
	})
	slices.SortFunc(entries, func(a, b tree.Entry) int { return tree.ComparePaths(a.Path, b.Path) })
	return entries, nil
}

func directory(path string, perm uint16) tree.Entry {
	return tree.Entry{Path: path, Type: tree.Dir, Perm: perm, Owner: origin}
}

// check says what of an image containerd would not take, or would remove.
func (image ContainerImage) check() error {
	if _, _, err := splitReference(image.Reference); err != nil {
		return err
	}
	blobs := map[manifest.Digest]Blob{}
	for _, b := range image.Blobs {
		if err := b.check(); err != nil {
			return err
		}
		if _, twice := blobs[b.Digest]; twice {
			return fmt.Errorf("blob %s is there twice", b.Digest)
		}
		blobs[b.Digest] = b
	}
	for _, d := range []Descriptor{image.Target, image.Config} {
		if b, ok := blobs[d.Digest]; !ok || b.Descriptor != d {
			return fmt.Errorf("blob %s, %s of %d bytes, is not among its blobs", d.Digest, d.MediaType, d.Size)
		}
	}
	// What nothing refers to, containerd's garbage collection removes.
	referred := map[manifest.Digest]bool{image.Target.Digest: true}
	for todo := []manifest.Digest{image.Target.Digest}; len(todo) > 0; todo = todo[1:] {
		for _, child := range blobs[todo[0]].Children {
			if b, ok := blobs[child.Digest]; !ok || b.Size != child.Size {
				return fmt.Errorf("blob %s, to which %s refers with %d bytes, is not among its blobs", child.Digest, todo[0], child.Size)
			}
			if !referred[child.Digest] {
				referred[child.Digest] = true
				todo = append(todo, child.Digest)
			}
		}
	}
	for _, b := range image.Blobs {
		if !referred[b.Digest] {
			return fmt.Errorf("nothing refers to blob %s", b.Digest)
		}
	}
	return nil
}

func (b Blob) check() error {
	if sum, err := manifest.ParseDigest(string(b.Digest)); err != nil || sum.Algorithm() != "sha256" {
		return fmt.Errorf("blob %q has no SHA-256", b.Digest)
	}
	switch {
	case b.MediaType == "":
		return fmt.Errorf("blob %s has no media type", b.Digest)
	case b.Content.Type != tree.File || b.Content.Size != b.Size:
		return fmt.Errorf("blob %s has %d bytes; its content is a %s of %d", b.Digest, b.Size, b.Content.Type, b.Content.Size)
	case manifest.SHA256(b.Content.SHA256) != b.Digest:
		return fmt.Errorf("blob %s has content of digest %s", b.Digest, manifest.SHA256(b.Content.SHA256))
	}
	return nil
}

// splitReference splits HOST/REPOSITORY:TAG into the host with the repository,
// and the tag. It takes only what the CRI plugin doesn't write differently: the
// plugin looks images up by the names that it would give them
// (distribution/reference.ParseDockerRef).
func splitReference(reference string) (locator, tag string, err error) {
	colon := strings.LastIndexByte(reference, ':')
	host, repository, ok := strings.Cut(reference[:max(colon, 0)], "/")
	tag = reference[colon+1:]
	switch {
	case strings.Contains(reference, "@"):
		return "", "", fmt.Errorf("reference %q has a digest; the name of an image in containerd has a tag", reference)
	case colon < 0 || tag == "" || strings.Contains(tag, "/") || !ok || repository == "" || host == "":
		return "", "", fmt.Errorf("reference %q is not HOST/REPOSITORY:TAG", reference)
	case !strings.ContainsAny(host, ".:") && host != "localhost":
		return "", "", fmt.Errorf("reference %q begins with no host; write docker.io/%s", reference, reference)
	case host == "index.docker.io" || host == "docker.io" && !strings.Contains(repository, "/"):
		return "", "", fmt.Errorf("reference %q: containerd looks for docker.io/NAMESPACE/NAME:TAG, where the namespace is library for images without one", reference)
	}
	return host + "/" + repository, tag, nil
}
