// Package containerdtest makes images for tests of what containerd is given, and
// lays files out for a real one.
package containerdtest

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/nodebake/bake/bake/image/containerd"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/tree"
)

// described is a manifest or an index.
type described interface {
	MediaType() (types.MediaType, error)
	RawManifest() ([]byte, error)
}

// FromImage returns image under a name.
func FromImage(reference string, image v1.Image) (containerd.ContainerImage, error) {
	out := containerd.ContainerImage{Reference: reference}
	target, err := add(&out, image)
	if err != nil {
		return out, err
	}
	out.Target = target
	return out, addImage(&out, image)
}

// FromIndex returns those images of index under a name that platform names: the
// index itself tells of all.
func FromIndex(reference string, index v1.ImageIndex, platform v1.Platform) (containerd.ContainerImage, error) {
	out := containerd.ContainerImage{Reference: reference}
	target, err := add(&out, index)
	if err != nil {
		return out, err
	}
	out.Target = target
	m, err := index.IndexManifest()
	if err != nil {
		return out, err
	}
	for _, d := range m.Manifests {
		if d.Platform == nil || !d.Platform.Satisfies(platform) {
			continue
		}
		image, err := index.Image(d.Digest)
		if err != nil {
			return out, err
		}
		child, err := add(&out, image)
		if err != nil {
			return out, err
		}
		out.Blobs[0].Children = append(out.Blobs[0].Children, child)
		if err := addImage(&out, image); err != nil {
			return out, err
		}
	}
	return out, nil
}

// add adds a manifest or an index to out's blobs.
func add(out *containerd.ContainerImage, of described) (containerd.Descriptor, error) {
	kind, err := of.MediaType()
	if err != nil {
		return containerd.Descriptor{}, err
	}
	raw, err := of.RawManifest()
	if err != nil {
		return containerd.Descriptor{}, err
	}
	return addBlob(out, kind, raw), nil
}

// addImage adds what the manifest that was added last refers to.
func addImage(out *containerd.ContainerImage, image v1.Image) error {
	at := len(out.Blobs) - 1
	m, err := image.Manifest()
	if err != nil {
		return err
	}
	config, err := image.RawConfigFile()
	if err != nil {
		return err
	}
	out.Config = addBlob(out, m.Config.MediaType, config)
	children := []containerd.Descriptor{out.Config}
	layers, err := image.Layers()
	if err != nil {
		return err
	}
	for i, layer := range layers {
		content, err := layer.Compressed()
		if err != nil {
			return err
		}
		data, err := io.ReadAll(content)
		content.Close()
		if err != nil {
			return err
		}
		children = append(children, addBlob(out, m.Layers[i].MediaType, data))
	}
	out.Blobs[at].Children = children
	return nil
}

// addBlob adds a blob where out doesn't have it yet.
func addBlob(out *containerd.ContainerImage, kind types.MediaType, data []byte) containerd.Descriptor {
	sum := sha256.Sum256(data)
	d := containerd.Descriptor{MediaType: string(kind), Digest: manifest.SHA256(sum), Size: int64(len(data))}
	for _, b := range out.Blobs {
		if b.Digest == d.Digest {
			return d
		}
	}
	out.Blobs = append(out.Blobs, containerd.Blob{Descriptor: d, Content: tree.Entry{
		Path: "blob", Type: tree.File, Perm: 0o600, Size: d.Size, SHA256: sum, Blob: tree.Bytes(string(d.Digest), data),
	}})
	return d
}

// Write lays entries out below dir. Owners and times it leaves as they come.
func Write(dir string, entries []tree.Entry) error {
	for _, e := range entries {
		path := filepath.Join(dir, filepath.FromSlash(e.Path))
		switch e.Type {
		case tree.Dir:
			if err := os.MkdirAll(path, 0o700); err != nil {
				return err
			}
		case tree.File:
			var content bytes.Buffer
			if _, err := io.Copy(&content, e.Content()); err != nil {
				return err
			}
			if err := os.WriteFile(path, content.Bytes(), 0o600); err != nil {
				return err
			}
		default:
			return fmt.Errorf("laying out %s: type %s", e.Path, e.Type)
		}
		if err := os.Chmod(path, os.FileMode(e.Perm)); err != nil {
			return err
		}
	}
	return nil
}
