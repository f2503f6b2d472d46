package oci

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"slices"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/nodebake/bake/bake/decompress"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/progress"
)

// unpackParallel is how many layers of an image are verified at once. Most have
// one that counts.
const unpackParallel = 2

// Pull brings the layers of r.
func (p *Puller) Pull(ctx context.Context, r *Resolved) (*Image, error) {
	image := r.made
	image.Blobs = slices.Clone(image.Blobs)
	requests := r.Requests(p)
	progress.Expect(p.Progress, len(requests)) // each is verified; fetching announces itself
	var verified atomic.Int64
	err := r.repo.fetcher.Fetch(ctx, requests)
	if err == nil {
		err = p.layers(ctx, r, &image, &verified)
	}
	// Another image may have brought layers that both have.
	progress.Expect(p.Progress, int(verified.Load())-len(requests))
	if err != nil {
		return nil, fmt.Errorf("image %s %s: %w", r.image.Name, r.image.Reference, r.repo.explain(r.image, err))
	}
	return &image, nil
}

// layers adds the blobs of r's layers to image, and counts those that it verifies.
func (p *Puller) layers(ctx context.Context, r *Resolved, image *Image, verified *atomic.Int64) error {
	blobs := make([]Blob, len(image.Layers))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(unpackParallel)
	for i, layer := range image.Layers {
		group.Go(func() error {
			req := r.layerRequest(i)
			pack, err := p.pack(ctx, r, req, layerKey(layer, r.diffs[i]), "layer", func(file io.Reader) (err error) {
				verified.Add(1)
				task := p.Progress.Start("verify", req.Name, layer.Size)
				defer func() {
					if err != nil {
						task.End("failed")
					} else {
						task.End("done")
					}
				}()
				counted := io.TeeReader(contextReader{ctx, file}, writerFunc(func(b []byte) { task.Add(int64(len(b))) }))
				return checkUnpacked(counted, layer, r.diffs[i])
			})
			if err == nil {
				blobs[i] = Blob{Descriptor: layer, Content: pack.Entries[0]}
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	seen := map[manifest.Digest]bool{}
	for _, b := range blobs {
		if !seen[b.Digest] {
			image.Blobs = append(image.Blobs, b)
		}
		seen[b.Digest] = true
	}
	return nil
}

// writerFunc is a function as an io.Writer.
type writerFunc func([]byte)

func (f writerFunc) Write(b []byte) (int, error) {
	f(b)
	return len(b), nil
}

// checkUnpacked unpacks a layer and compares what comes out with the digest that
// the configuration has for it. A node where they differ refuses the image when
// the first pod asks for it, which is late.
func checkUnpacked(layer io.Reader, d Descriptor, want manifest.Digest) error {
	limit := int64(maxLayer)
	format := decompress.None
	if zipped(d.MediaType) {
		format = decompress.Gzip
	}
	content, err := decompress.NewReader(layer, format, decompress.Limits{Bytes: limit + 1})
	if err != nil {
		return fmt.Errorf("unpacking it: %w", err)
	}
	defer content.Close()
	h := sha256.New()
	n, err := io.Copy(h, io.LimitReader(content, limit+1))
	if err != nil {
		return fmt.Errorf("unpacking it: %w", err)
	}
	if n > limit {
		return fmt.Errorf("it unpacks to more than %d bytes", limit)
	}
	if got := manifest.SHA256([sha256.Size]byte(h.Sum(nil))); got != want {
		return fmt.Errorf("it unpacks to %s, and the image's configuration says %s: no node would take it", got, want)
	}
	return nil
}
