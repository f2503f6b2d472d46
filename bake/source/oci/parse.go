package oci

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/nodebake/bake/bake/arch"
	"github.com/nodebake/bake/bake/manifest"
)

const (
	// maxMetadata bounds an index, a manifest or a configuration in bytes. It is
	// what registries have to take at least (OCI distribution specification 1.1,
	// "Pushing Manifests").
	maxMetadata = 4 << 20
	// maxLayer bounds a layer, as it is stored and unpacked, in bytes.
	maxLayer = 16 << 30
)

// parsedIndex is what an index says of one architecture.
type parsedIndex struct {
	mediaType string
	manifest  Descriptor
}

// parsedManifest is what a manifest says.
type parsedManifest struct {
	mediaType string
	config    Descriptor
	layers    []Descriptor
}

// parseTarget reads what a reference names. One of its results is nil.
func parseTarget(data []byte, arch arch.Arch) (*parsedIndex, *parsedManifest, error) {
	kind, err := kindOf(data)
	switch {
	case err != nil:
		return nil, nil, err
	case kind.IsIndex():
		i, err := parseIndex(data, kind, arch)
		return i, nil, err
	}
	m, err := parseManifest(data, kind)
	return nil, m, err
}

// kindOf says what a manifest or index is, by what it says and what it holds:
// the header that a registry sends with it is covered by no digest.
func kindOf(data []byte) (types.MediaType, error) {
	var head struct {
		SchemaVersion int             `json:"schemaVersion"`
		MediaType     types.MediaType `json:"mediaType"`
		Manifests     json.RawMessage `json:"manifests"`
		Config        json.RawMessage `json:"config"`
		Layers        json.RawMessage `json:"layers"`
		FSLayers      json.RawMessage `json:"fsLayers"`
	}
	if err := decode(data, &head); err != nil {
		return "", fmt.Errorf("it is neither a manifest nor an index: %w", err)
	}
	index, image := head.Manifests != nil, head.Layers != nil || head.Config != nil
	switch {
	case head.SchemaVersion == 1 || head.FSLayers != nil:
		return "", errors.New("it is a manifest of Docker's schema 1, whose layers no digest of an image covers (push it with a newer docker, and take that one's digest)")
	case head.SchemaVersion != 2:
		return "", fmt.Errorf("it has schemaVersion %d; want 2", head.SchemaVersion)
	case index && image:
		// Who reads it as one sees another image than who reads it as the other
		// (CVE-2021-41190).
		return "", errors.New("it can be read both as an index and as a manifest")
	case !index && !image:
		return "", errors.New("it has neither manifests nor layers: it is no container image")
	case head.MediaType == "" && index:
		return types.OCIImageIndex, nil
	case head.MediaType == "":
		return types.OCIManifestSchema1, nil
	case index != head.MediaType.IsIndex() || image != head.MediaType.IsImage():
		return "", fmt.Errorf("it says that it is of type %q, and has the form of another", head.MediaType)
	}
	return head.MediaType, nil
}

// decode reads one JSON value and nothing after it.
func decode(data []byte, to any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	if err := d.Decode(to); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("something follows the end of the JSON")
	}
	return nil
}

func parseIndex(data []byte, kind types.MediaType, arch arch.Arch) (*parsedIndex, error) {
	var index v1.IndexManifest
	if err := decode(data, &index); err != nil {
		return nil, fmt.Errorf("reading the index: %w", err)
	}
	var has []string
	seen := map[string]bool{}
	for _, d := range index.Manifests {
		if d.Platform == nil {
			continue
		}
		if !fits(d.Platform.OS, d.Platform.Architecture, d.Platform.Variant, arch) {
			if p := d.Platform.String(); d.Platform.OS != "unknown" && !seen[p] { // not builders' attestations
				has, seen[p] = append(has, p), true
			}
			continue
		}
		if !d.MediaType.IsImage() {
			return nil, fmt.Errorf("what the index has for linux/%s is of type %q; want a manifest", arch, d.MediaType)
		}
		m, err := describe(d, maxMetadata)
		if err != nil {
			return nil, fmt.Errorf("the index's manifest for linux/%s: %w", arch, err)
		}
		return &parsedIndex{string(kind), m}, nil
	}
	const most = 20 // that are named
	if more := len(has) - most; more > 0 {
		has = append(has[:most], fmt.Sprintf("and %d more", more))
	}
	if len(has) == 0 {
		return nil, fmt.Errorf("the index has nothing for linux/%s: it names no platform", arch)
	}
	return nil, fmt.Errorf("the index has nothing for linux/%s, only for %s", arch, strings.Join(has, ", "))
}

// fits reports whether containerd on every machine of arch runs what is for a
// platform.
func fits(os, architecture, variant string, arch arch.Arch) bool {
	return os == "linux" && architecture == string(arch) && (variant == "" || variant == arch.Facts().OCIBaseline)
}

func parseManifest(data []byte, kind types.MediaType) (*parsedManifest, error) {
	var m v1.Manifest
	if err := decode(data, &m); err != nil {
		return nil, fmt.Errorf("reading the manifest: %w", err)
	}
	if t := m.Config.MediaType; t != types.OCIConfigJSON && t != types.DockerConfigJSON {
		return nil, fmt.Errorf("its configuration is of type %q: it is no container image", t)
	}
	if len(m.Layers) == 0 {
		return nil, errors.New("the manifest has no layers")
	}
	out := &parsedManifest{mediaType: string(kind)}
	var err error
	if out.config, err = describe(m.Config, maxMetadata); err != nil {
		return nil, fmt.Errorf("the manifest's configuration: %w", err)
	}
	for i, d := range m.Layers {
		layer, err := describe(d, maxLayer)
		if err == nil {
			err = checkLayer(d.MediaType)
		}
		if err != nil {
			return nil, fmt.Errorf("layer %d of %d: %w", i+1, len(m.Layers), err)
		}
		out.layers = append(out.layers, layer)
	}
	return out, nil
}

func checkLayer(t types.MediaType) error {
	switch t {
	case types.OCILayer, types.DockerLayer, types.OCIUncompressedLayer, types.DockerUncompressedLayer:
		return nil
	case types.OCIRestrictedLayer, types.OCIUncompressedRestrictedLayer, types.DockerForeignLayer:
		return fmt.Errorf("it is of type %q: it may not be distributed, so that no registry has it", t)
	case types.OCILayerZStd:
		return errors.New("it is compressed with zstd, which containerd before 1.5 can't unpack (push the image with gzip)")
	}
	return fmt.Errorf("it is of the unknown type %q", t)
}

// zipped reports whether a layer of a type that checkLayer takes is compressed.
func zipped(mediaType string) bool {
	t := types.MediaType(mediaType)
	return t == types.OCILayer || t == types.DockerLayer
}

// describe checks a descriptor. v1.Hash takes nothing but whole digests.
func describe(d v1.Descriptor, limit int64) (Descriptor, error) {
	sum, err := manifest.ParseDigest(d.Digest.String())
	if err != nil {
		return Descriptor{}, err
	}
	if sum.Algorithm() != "sha256" {
		return Descriptor{}, fmt.Errorf("%s: content is named by SHA-256", sum)
	}
	if d.Size <= 0 || d.Size > limit {
		return Descriptor{}, fmt.Errorf("%s has %d bytes; want 1 to %d", sum, d.Size, limit)
	}
	return Descriptor{string(d.MediaType), sum, d.Size}, nil
}

// parseConfig checks that a configuration is for arch, and returns the digests
// of its layers once they are unpacked.
func parseConfig(data []byte, arch arch.Arch, layers int) ([]manifest.Digest, error) {
	var c v1.ConfigFile
	if err := decode(data, &c); err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	if !fits(c.OS, c.Architecture, c.Variant, arch) {
		return nil, fmt.Errorf("the image is for %s; want linux/%s", c.Platform(), arch)
	}
	if c.RootFS.Type != "layers" || len(c.RootFS.DiffIDs) != layers {
		return nil, fmt.Errorf("the configuration has %d %s and the manifest %d layers", len(c.RootFS.DiffIDs), c.RootFS.Type, layers)
	}
	var diffs []manifest.Digest
	for _, d := range c.RootFS.DiffIDs {
		sum, err := manifest.ParseDigest(d.String())
		if err != nil {
			return nil, fmt.Errorf("reading the configuration: %w", err)
		}
		diffs = append(diffs, sum)
	}
	return diffs, nil
}
