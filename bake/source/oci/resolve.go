package oci

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/nodebake/bake/bake/arch"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/progress"
	"github.com/nodebake/bake/bake/source/fetch"
	"github.com/nodebake/bake/bake/tree"
)

// Config is what a Puller works with.
type Config struct {
	Packs    Packs
	Fetcher  *fetch.Fetcher
	Keychain authn.Keychain // credentials for registries; nil: anonymous. authn.DefaultKeychain reads docker's configuration and the environment
	Insecure []string       // registries that may speak http, "HOST" or "HOST:PORT", beside those of this machine
	Progress progress.Sink
}

// Puller brings images. Its methods may be called from several goroutines.
type Puller struct{ Config }

// New returns a Puller for c.
func New(c Config) *Puller {
	if c.Progress == nil {
		c.Progress = progress.Discard{}
	}
	return &Puller{c}
}

// Resolved is an image of which all is known but its layers, and whose layers are
// in the store or is available.
type Resolved struct {
	image manifest.ContainerImage
	repo  *repository
	made  Image             // without its layers' blobs
	diffs []manifest.Digest // of the layers, unpacked
}

// Requests are the downloads of layers that the store lacks.
func (r *Resolved) Requests(p *Puller) []fetch.Request {
	var out []fetch.Request
	seen := map[manifest.Digest]bool{}
	for i, layer := range r.made.Layers {
		if !seen[layer.Digest] && !p.Packs.HasPack(layerKey(layer, r.diffs[i])) {
			out = append(out, r.layerRequest(i))
		}
		seen[layer.Digest] = true
	}
	return out
}

func (r *Resolved) layerRequest(i int) fetch.Request {
	who := fmt.Sprintf("image %s: layer %d of %d", r.image.Name, i+1, len(r.made.Layers))
	return r.repo.request(who, "blobs", r.made.Layers[i])
}

// Resolve finds out what image consists of for arch. What it must read for that,
// some kilobytes, is in the store afterwards; layers that the store lacks have
// been asked for. Where the store has all, nobody is asked.
//
// A *fetch.UnreachableError is somewhere in the error where the image can't be
// had, and only there: not where something was had that is wrong.
func (p *Puller) Resolve(ctx context.Context, image manifest.ContainerImage, arch arch.Arch) (*Resolved, error) {
	repo, err := p.repository(image.Reference)
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", image.Name, err)
	}
	r := &Resolved{image: image, repo: repo}
	if err = p.resolve(ctx, r, arch); err == nil {
		err = repo.preflight(ctx, r.Requests(p))
	}
	if err != nil {
		return nil, fmt.Errorf("image %s %s: %w", image.Name, image.Reference, repo.explain(image, err))
	}
	return r, nil
}

// preflight asks for what would be fetched.
func (r *repository) preflight(ctx context.Context, requests []fetch.Request) error {
	err := r.fetcher.Preflight(ctx, requests)
	// A file of the wrong size is available: it is not the one.
	if wrong := (*fetch.DigestError)(nil); errors.As(err, &wrong) {
		return wrong
	}
	return err
}

// resolve reads target, manifest and configuration.
func (p *Puller) resolve(ctx context.Context, r *Resolved, arch arch.Arch) error {
	target := Descriptor{Digest: r.image.Digest}
	blob, data, err := p.metadata(ctx, r, "manifests", "manifest or index", target)
	if err != nil {
		return err
	}
	index, m, err := parseTarget(data, arch)
	if err != nil {
		return fmt.Errorf("%s: %w", target.Digest, err)
	}
	blob.Size = int64(len(data))
	if index != nil {
		blob.MediaType, blob.Children = index.mediaType, []Descriptor{index.manifest}
		r.made.Target, r.made.Blobs = blob.Descriptor, []Blob{blob}
		if blob, data, err = p.metadata(ctx, r, "manifests", "manifest", index.manifest); err != nil {
			return err
		}
		if _, m, err = parseTarget(data, arch); err == nil && (m == nil || m.mediaType != index.manifest.MediaType) {
			err = fmt.Errorf("it is no %s, as the index says", index.manifest.MediaType)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", index.manifest.Digest, err)
		}
	} else {
		blob.MediaType = m.mediaType
		r.made.Target = blob.Descriptor
	}
	blob.Children = append([]Descriptor{m.config}, m.layers...)
	r.made.Manifest, r.made.Config, r.made.Layers = blob.Descriptor, m.config, m.layers
	config, data, err := p.metadata(ctx, r, "blobs", "configuration", m.config)
	if err != nil {
		return err
	}
	r.made.Blobs = append(r.made.Blobs, blob, config)
	if r.diffs, err = parseConfig(data, arch, len(m.layers)); err != nil {
		return fmt.Errorf("%s: %w", m.config.Digest, err)
	}
	return nil
}

// metadata brings a small blob and reads it. The size of d is 0 where it is not
// known.
func (p *Puller) metadata(ctx context.Context, r *Resolved, kind, what string, d Descriptor) (Blob, []byte, error) {
	req := r.repo.request(fmt.Sprintf("image %s: %s", r.image.Name, what), kind, d)
	key := blobKey(d)
	if !p.Packs.HasPack(key) {
		// Preflight gives up in seconds where fetching is patient.
		if err := r.repo.preflight(ctx, []fetch.Request{req}); err != nil {
			return Blob{}, nil, err
		}
		if err := r.repo.fetcher.Fetch(ctx, []fetch.Request{req}); err != nil {
			return Blob{}, nil, err
		}
	}
	pack, err := p.pack(ctx, r, req, key, "metadata", nil)
	if err != nil {
		return Blob{}, nil, err
	}
	content := pack.Entries[0]
	if content.Size > maxMetadata || d.Size > 0 && content.Size != d.Size {
		return Blob{}, nil, fmt.Errorf("%s has %d bytes; want %d, and at most %d", d.Digest, content.Size, d.Size, maxMetadata)
	}
	data, err := io.ReadAll(content.Content())
	if err != nil {
		return Blob{}, nil, err
	}
	return Blob{Descriptor: d, Content: content}, data, nil
}

// pack returns the pack of a blob, from the store or else by fetching it. check,
// where there is one, sees the blob before it is kept.
func (p *Puller) pack(ctx context.Context, r *Resolved, req fetch.Request, key, path string, check func(io.Reader) error) (*tree.Pack, error) {
	var failed error // the cause, without the store's words around it
	pack, err := p.Packs.Pack(ctx, key, "image blob "+string(req.Sums[0]), func(ctx context.Context, w *tree.PackWriter) error {
		failed = func() error {
			file, err := r.repo.fetcher.Open(ctx, req)
			if err != nil {
				return err
			}
			defer file.Close()
			info, err := file.Stat()
			if err != nil {
				return err
			}
			// Open vouches for the digest, and for the size only where it fetched.
			if req.Size > 0 && info.Size() != req.Size || path == "metadata" && info.Size() > maxMetadata {
				return fmt.Errorf("%s: it has %d bytes, and its descriptor says %d", req.Name, info.Size(), req.Size)
			}
			if check != nil {
				if err := check(file); err != nil {
					return fmt.Errorf("%s (%s): %w", req.Name, req.Sums[0], err)
				}
				if _, err := file.Seek(0, io.SeekStart); err != nil {
					return err
				}
			}
			return w.Add(tree.Entry{Path: path, Type: tree.File, Perm: 0o644, Size: info.Size()}, contextReader{ctx, file})
		}()
		return failed
	})
	if failed != nil {
		err = failed
	}
	return pack, err
}

// packFormat is part of every key: packs made by other rules have another.
const packFormat = "oci blob 1"

func blobKey(d Descriptor) string { return packFormat + "\n" + string(d.Digest) }

// layerKey names a layer by its unpacked digest too: that pack is kept only once
// the two were found to belong together.
func layerKey(d Descriptor, diff manifest.Digest) string {
	return blobKey(d) + "\nunpacked " + string(diff)
}

// contextReader reads until a context is done.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(b []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.r.Read(b)
}
