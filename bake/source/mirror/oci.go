package mirror

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/nodebake/bake/bake/manifest"
)

// ociLayout is the content of oci-layout (OCI image layout specification 1.1,
// "oci-layout file").
const ociLayout = `{"imageLayoutVersion":"1.0.0"}` + "\n"

// refName is the annotation that names an image of a layout (OCI image
// specification 1.1, "Pre-Defined Annotation Keys").
const refName = "org.opencontainers.image.ref.name"

// encodeOCI returns the index.json of an OCI layout with images, each of which
// must be an entry of x. A reference that stands for one index in the images of
// several architectures is there once.
func encodeOCI(x *Index, images []OCIImage) ([]byte, error) {
	known := map[manifest.Digest]int64{}
	for _, e := range x.Entries {
		if e.Kind == Image {
			known[e.SHA256] = e.Size
		}
	}
	list := v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{}}
	images = slices.Clone(images)
	slices.SortFunc(images, func(a, b OCIImage) int {
		return cmp.Or(cmp.Compare(a.Reference, b.Reference), cmp.Compare(a.Digest, b.Digest), cmp.Compare(a.Arch, b.Arch))
	})
	images = slices.CompactFunc(images, func(a, b OCIImage) bool { return a.Reference == b.Reference && a.Digest == b.Digest })
	for _, image := range images {
		media := types.MediaType(image.MediaType)
		size, ok := known[image.Digest]
		switch {
		case !ok || size != image.Size:
			return nil, fmt.Errorf("%s (%s, %d bytes) is no entry of the index", image.Reference, image.Digest, image.Size)
		case !media.IsIndex() && !media.IsImage():
			return nil, fmt.Errorf("%s: media type %q is neither an index's nor a manifest's", image.Reference, image.MediaType)
		}
		d := v1.Descriptor{
			MediaType:   media,
			Digest:      v1.Hash{Algorithm: image.Digest.Algorithm(), Hex: image.Digest.Hex()},
			Size:        image.Size,
			Annotations: map[string]string{refName: image.Reference},
		}
		if media.IsImage() && image.Arch != "" {
			d.Platform = &v1.Platform{OS: "linux", Architecture: string(image.Arch)}
		}
		list.Manifests = append(list.Manifests, d)
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetIndent("", "  ")
	if err := enc.Encode(list); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// checkOCILayout says what is wrong with oci-layout.
func checkOCILayout(layout []byte) error {
	var version struct {
		Version string `json:"imageLayoutVersion"`
	}
	if err := json.Unmarshal(layout, &version); err != nil {
		return err
	}
	if version.Version != "1.0.0" {
		return fmt.Errorf("its imageLayoutVersion is %q; want %q", version.Version, "1.0.0")
	}
	return nil
}

// checkOCIIndex says where index.json contradicts x.
func checkOCIIndex(x *Index, index []byte) error {
	type image struct {
		ref string
		sum manifest.Digest
	}
	known, refs := map[image]int64{}, map[string]bool{}
	for _, e := range x.Entries {
		if e.Kind == Image {
			known[image{e.Path, e.SHA256}], refs[e.Path] = e.Size, false
		}
	}
	list, err := v1.ParseIndexManifest(bytes.NewReader(index))
	if err != nil {
		return err
	}
	var errs []error
	for _, d := range list.Manifests {
		ref := d.Annotations[refName]
		size, ok := known[image{ref, manifest.Digest(d.Digest.String())}]
		if !ok || size != d.Size {
			errs = append(errs, fmt.Errorf("it names image %q (%s, %d bytes), which %s does not", ref, d.Digest, d.Size, indexFile))
			continue
		}
		refs[ref] = true
	}
	for _, e := range x.Entries {
		if found, isRef := refs[e.Path]; e.Kind == Image && isRef && !found {
			errs = append(errs, fmt.Errorf("it does not name image %q, which %s does", e.Path, indexFile))
			refs[e.Path] = true // once
		}
	}
	return errors.Join(errs...)
}
