package oci

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/nodebake/bake/bake/arch"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/tree"
)

// Recipe is all that decides the bytes of an assembled image.
type Recipe struct {
	Name     string    `json:"name"`             // "coredns": for people, and the label title
	Version  string    `json:"version"`          // "v1.14.2": a label
	Source   string    `json:"source,omitempty"` // a label: where the programs' source is; "": none
	Arch     arch.Arch `json:"arch"`             //
	User     string    `json:"user,omitempty"`   // "UID:GID"; "": root
	Programs []Program `json:"programs"`         // the first is the entry point; the last may be their licenses
}

// Program is a file of an assembled image.
type Program struct {
	Path    string     `json:"path"` // absolute
	Content tree.Entry `json:"-"`    // a File
}

// assembleFormat is part of every key: images assembled by other rules have
// another.
const assembleFormat = "assembled image 2"

// Reference is the name of an image that was assembled, never an upstream's:
// .invalid is nobody's (RFC 2606).
func Reference(name, tag string) string { return "bake.invalid/" + name + ":" + tag }

// Assemble makes an image of programs, as ko does: one layer with them, the licenses of what they are built of and their
// directories, owned by root and of the year 1970. Nothing else is in it, no
// shell and no CA certificates; a program that calls other hosts by TLS must be
// given those by its pod.
//
// The layer is not compressed, so that its digest follows from the programs alone,
// whatever a compressor's next version does. It would be slower, too: CoreDNS
// 1.14.2, 74 MB, takes 3.0 s of a processor to compress and 0.4 s to unpack for the
// first pod. What is lost are 51 MB on a worker's disk; the archive that ships
// compresses everything anyway.
func Assemble(ctx context.Context, packs Packs, r Recipe) (*Image, error) {
	image, err := assemble(ctx, packs, r)
	if err != nil {
		return nil, fmt.Errorf("assembling image %s: %w", r.Name, err)
	}
	return image, nil
}

// The files of an assembled image's pack.
const (
	manifestFile = "manifest"
	configFile   = "config"
	layerFile    = "layer"
)

func assemble(ctx context.Context, packs Packs, r Recipe) (*Image, error) {
	if len(r.Programs) == 0 {
		return nil, fmt.Errorf("BUG: it has no programs")
	}
	key, err := r.key()
	if err != nil {
		return nil, err
	}
	pack, err := packs.Pack(ctx, key, "image "+r.Name+" "+r.Version, r.write)
	if err != nil {
		return nil, err
	}
	image := &Image{}
	for _, e := range pack.Entries {
		d := Descriptor{Digest: manifest.SHA256(e.SHA256), Size: e.Size}
		switch e.Path {
		case manifestFile:
			d.MediaType = string(types.OCIManifestSchema1)
			image.Target, image.Manifest = d, d
		case configFile:
			d.MediaType = string(types.OCIConfigJSON)
			image.Config = d
		case layerFile:
			d.MediaType = string(types.OCIUncompressedLayer)
			image.Layers = []Descriptor{d}
		}
		image.Blobs = append(image.Blobs, Blob{Descriptor: d, Content: e})
	}
	if len(image.Blobs) != 3 || len(image.Layers) != 1 {
		return nil, fmt.Errorf("BUG: its pack has %d files", len(image.Blobs))
	}
	image.Blobs[0].Children = []Descriptor{image.Config, image.Layers[0]}
	return image, nil
}

func (r *Recipe) key() (string, error) {
	key, err := json.Marshal(r)
	if err != nil {
		return "", err
	}
	text := assembleFormat + "\n" + string(key)
	for _, p := range r.Programs {
		text += fmt.Sprintf("\n%s %o", p.Content.SHA256, p.Content.Perm)
	}
	return text, nil
}

// write adds manifest, configuration and layer to w, in this order.
func (r *Recipe) write(ctx context.Context, w *tree.PackWriter) error {
	h := sha256.New()
	var size byteCount
	// Digest and length of the layer are in front of it: it is written twice.
	if err := r.writeLayer(ctx, io.MultiWriter(h, &size)); err != nil {
		return err
	}
	layer := v1.Hash{Algorithm: "sha256", Hex: fmt.Sprintf("%x", h.Sum(nil))}
	config, err := json.Marshal(r.config(layer))
	if err != nil {
		return err
	}
	made, err := json.Marshal(&v1.Manifest{
		SchemaVersion: 2,
		MediaType:     types.OCIManifestSchema1,
		Config: v1.Descriptor{MediaType: types.OCIConfigJSON, Size: int64(len(config)),
			Digest: v1.Hash{Algorithm: "sha256", Hex: fmt.Sprintf("%x", sha256.Sum256(config))}},
		Layers: []v1.Descriptor{{MediaType: types.OCIUncompressedLayer, Size: int64(size), Digest: layer}},
	})
	if err != nil {
		return err
	}
	for _, f := range []struct {
		name    string
		content []byte
	}{{manifestFile, made}, {configFile, config}} {
		err := w.Add(tree.Entry{Path: f.name, Type: tree.File, Perm: 0o644, Size: int64(len(f.content))}, bytes.NewReader(f.content))
		if err != nil {
			return err
		}
	}
	reader, writer := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		writer.CloseWithError(r.writeLayer(ctx, writer))
	}()
	err = w.Add(tree.Entry{Path: layerFile, Type: tree.File, Perm: 0o644, Size: int64(size)}, reader)
	reader.Close()
	<-done
	return err
}

// byteCount is an io.Writer that counts.
type byteCount int64

func (n *byteCount) Write(b []byte) (int, error) {
	*n += byteCount(len(b))
	return len(b), nil
}

// config is the image's configuration (OCI image specification, "Image
// Configuration").
func (r *Recipe) config(layer v1.Hash) *v1.ConfigFile {
	epoch := v1.Time{Time: time.Unix(0, 0).UTC()}
	labels := map[string]string{
		"org.opencontainers.image.title":   r.Name,
		"org.opencontainers.image.version": r.Version,
	}
	if r.Source != "" {
		labels["org.opencontainers.image.source"] = r.Source
	}
	return &v1.ConfigFile{
		OS: "linux", Architecture: string(r.Arch), Variant: r.Arch.Facts().OCIVariant, Created: epoch,
		RootFS:  v1.RootFS{Type: "layers", DiffIDs: []v1.Hash{layer}},
		History: []v1.History{{Created: epoch, CreatedBy: "bake"}},
		Config: v1.Config{
			Entrypoint: []string{r.Programs[0].Path},
			Env:        []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
			WorkingDir: "/",
			User:       r.User,
			Labels:     labels,
		},
	}
}

// writeLayer writes the layer: a tar of the programs and the directories above
// them, sorted.
func (r *Recipe) writeLayer(ctx context.Context, w io.Writer) error {
	type member struct {
		name    string
		program *Program // nil: a directory
	}
	var members []member
	seen := map[string]*Program{}
	for i := range r.Programs {
		p := &r.Programs[i]
		name := strings.TrimPrefix(p.Path, "/")
		if err := tree.ValidPath(name); err != nil || name == "." || p.Content.Type != tree.File {
			return fmt.Errorf("%s can't be a program's path", p.Path)
		}
		if _, twice := seen[name]; twice {
			return fmt.Errorf("%s is there twice", p.Path)
		}
		seen[name] = p
		members = append(members, member{name, p})
		for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
			above, known := seen[dir]
			if above != nil {
				return fmt.Errorf("%s is a program and a directory", above.Path)
			}
			if !known {
				members = append(members, member{dir + "/", nil})
			}
			seen[dir] = nil
		}
	}
	slices.SortFunc(members, func(a, b member) int { return strings.Compare(a.name, b.name) })
	t := tar.NewWriter(w)
	for _, m := range members {
		h := &tar.Header{Typeflag: tar.TypeDir, Name: m.name, Mode: 0o755, ModTime: time.Unix(0, 0)}
		if m.program != nil {
			h.Typeflag, h.Size, h.Mode = tar.TypeReg, m.program.Content.Size, int64(m.program.Content.Perm)
		}
		if err := t.WriteHeader(h); err != nil {
			return err
		}
		if m.program == nil {
			continue
		}
		if _, err := io.Copy(t, contextReader{ctx, m.program.Content.Content()}); err != nil {
			return fmt.Errorf("%s: %w", m.program.Path, err)
		}
	}
	return t.Close()
}
