package mirror

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/nodebake/bake/bake/arch"
	"github.com/nodebake/bake/bake/manifest"
)

// Images returns the container images that the mirror names already, as Commit
// was given them: none where it is new. What a Commit that was interrupted left
// in index.json, and mirror.json does not know, is left out.
func (w *Writer) Images() ([]OCIImage, error) {
	content, err := readLimited(w.root, ociIndexFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, w.creating(err)
	}
	list, err := v1.ParseIndexManifest(bytes.NewReader(content))
	if err != nil {
		return nil, w.creating(fmt.Errorf("reading %s: %w; remove it and make the mirror again", ociIndexFile, err))
	}
	known := map[manifest.Digest]int64{}
	for _, e := range w.Index().Entries {
		if e.Kind == Image {
			known[e.SHA256] = e.Size
		}
	}
	var images []OCIImage
	for _, d := range list.Manifests {
		image := OCIImage{
			Reference: d.Annotations[refName], MediaType: string(d.MediaType),
			Digest: manifest.Digest(d.Digest.String()), Size: d.Size,
		}
		if d.Platform != nil {
			image.Arch = arch.Arch(d.Platform.Architecture)
		}
		if size, ok := known[image.Digest]; ok && size == image.Size {
			images = append(images, image)
		}
	}
	return images, nil
}
