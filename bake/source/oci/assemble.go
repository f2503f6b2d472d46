package oci

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"maps"
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
	Programs []Program `json:"programs"`         // the first is the entry point, unless there is another; the last may be their licenses

	Files       *tree.Tree  `json:"-"`                     // in a layer below that of the programs; nil: there is none
	Entrypoint  []string    `json:"entrypoint,omitempty"`  // nil: the first program, where there is one
	Command     []string    `json:"command,omitempty"`     //
	Environment []string    `json:"environment,omitempty"` // "NAME=VALUE"
	Base        *Descriptor `json:"base,omitempty"`        // of the layer of Files, which Assemble fills in
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
// given those by its pod. An image with Files has them in a layer of their own below,
// which other images with the same files share.
//
// The layers are not compressed, so that their digests follow from the files alone,
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

// baseFormat is part of the key of every layer of files.
const baseFormat = "layer of files 1"

// The files of an assembled image's packs.
const (
	manifestFile = "manifest"
	configFile   = "config"
	layerFile    = "layer"
)

func assemble(ctx context.Context, packs Packs, r Recipe) (*Image, error) {
	if len(r.Programs) == 0 && r.Files == nil {
		return nil, fmt.Errorf("BUG: it has no programs and no files")
	}
	image := &Image{}
	if r.Files != nil {
		base, err := packs.Pack(ctx, filesKey(r.Files), "files of image "+r.Name, func(ctx context.Context, w *tree.PackWriter) error {
			return addLayer(w, func(out io.Writer) error { return writeFiles(ctx, r.Files, out) })
		})
		if err != nil {
			return nil, err
		}
		if len(base.Entries) != 1 {
			return nil, fmt.Errorf("BUG: the pack of its files has %d entries", len(base.Entries))
		}
		layer := layerBlob(base.Entries[0])
		r.Base = &layer.Descriptor
		image.Layers = append(image.Layers, layer.Descriptor)
		image.Blobs = append(image.Blobs, layer)
	}
	key, err := r.key()
	if err != nil {
		return nil, err
	}
	pack, err := packs.Pack(ctx, key, "image "+r.Name+" "+r.Version, r.write)
	if err != nil {
		return nil, err
	}
	var blobs []Blob
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
			d = layerBlob(e).Descriptor
			image.Layers = append(image.Layers, d)
		}
		blobs = append(blobs, Blob{Descriptor: d, Content: e})
	}
	if len(blobs) < 2 || blobs[0].Descriptor != image.Manifest || image.Config.Size == 0 {
		return nil, fmt.Errorf("BUG: its pack has %d files", len(blobs))
	}
	blobs[0].Children = append([]Descriptor{image.Config}, image.Layers...)
	image.Blobs = append(blobs, image.Blobs...)
	return image, nil
}

// layerBlob is the blob of a layer.
func layerBlob(e tree.Entry) Blob {
	return Blob{Descriptor: Descriptor{MediaType: string(types.OCIUncompressedLayer), Digest: manifest.SHA256(e.SHA256), Size: e.Size}, Content: e}
}

// filesKey identifies the layer of files.
func filesKey(files *tree.Tree) string {
	h := sha256.New()
	for _, e := range files.Entries {
		fmt.Fprintf(h, "%q %s %o %d %d %q %s\n", e.Path, e.Type, e.Perm, e.UID, e.GID, e.Link, e.SHA256)
		for _, name := range slices.Sorted(maps.Keys(e.Xattrs)) {
			fmt.Fprintf(h, "%q %x\n", name, e.Xattrs[name])
		}
	}
	return fmt.Sprintf("%s %x", baseFormat, h.Sum(nil))
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

// write adds manifest, configuration and the programs' layer, if any, to w, in this
// order.
func (r *Recipe) write(ctx context.Context, w *tree.PackWriter) error {
	var layers []v1.Descriptor
	if r.Base != nil {
		layers = append(layers, v1Descriptor(types.OCIUncompressedLayer, *r.Base))
	}
	programs := func(out io.Writer) error { return r.writeLayer(ctx, out) }
	if len(r.Programs) > 0 {
		// Digest and length of the layer are in front of it: it is written twice.
		layer, err := measure(programs)
		if err != nil {
			return err
		}
		layers = append(layers, v1Descriptor(types.OCIUncompressedLayer, layer))
	}
	config, err := json.Marshal(r.config(layers))
	if err != nil {
		return err
	}
	made, err := json.Marshal(&v1.Manifest{
		SchemaVersion: 2,
		MediaType:     types.OCIManifestSchema1,
		Config: v1.Descriptor{MediaType: types.OCIConfigJSON, Size: int64(len(config)),
			Digest: v1.Hash{Algorithm: "sha256", Hex: fmt.Sprintf("%x", sha256.Sum256(config))}},
		Layers: layers,
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
	if len(r.Programs) == 0 {
		return nil
	}
	return addLayer(w, programs)
}

// measure returns digest and size of what write writes.
func measure(write func(io.Writer) error) (Descriptor, error) {
	h := sha256.New()
	var size byteCount
	err := write(io.MultiWriter(h, &size))
	return Descriptor{Digest: manifest.SHA256(tree.Digest(h.Sum(nil))), Size: int64(size)}, err
}

func v1Descriptor(mediaType types.MediaType, d Descriptor) v1.Descriptor {
	algorithm, hex, _ := strings.Cut(string(d.Digest), ":")
	return v1.Descriptor{MediaType: mediaType, Size: d.Size, Digest: v1.Hash{Algorithm: algorithm, Hex: hex}}
}

// addLayer adds the layer that write writes, each time the same.
func addLayer(w *tree.PackWriter, write func(io.Writer) error) error {
	d, err := measure(write)
	if err != nil {
		return err
	}
	reader, writer := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		writer.CloseWithError(write(writer))
	}()
	err = w.Add(tree.Entry{Path: layerFile, Type: tree.File, Perm: 0o644, Size: d.Size}, reader)
	reader.Close()
	<-done
	return err
}

// writeFiles writes a layer of files. Its root directory is not among them, and hard
// links come last: each stands behind its file.
func writeFiles(ctx context.Context, files *tree.Tree, w io.Writer) error {
	t := tar.NewWriter(w)
	entries := slices.Clone(files.Entries)
	slices.SortStableFunc(entries, func(a, b tree.Entry) int {
		return map[bool]int{true: 1}[a.Type == tree.Hardlink] - map[bool]int{true: 1}[b.Type == tree.Hardlink]
	})
	for _, e := range entries {
		if e.Path == "." {
			continue
		}
		h := &tar.Header{Name: e.Path, Mode: int64(e.Perm), Uid: int(e.UID), Gid: int(e.GID), ModTime: time.Unix(0, 0)}
		switch e.Type {
		case tree.File:
			h.Typeflag, h.Size = tar.TypeReg, e.Size
		case tree.Dir:
			h.Typeflag, h.Name = tar.TypeDir, e.Path+"/"
		case tree.Symlink:
			h.Typeflag, h.Linkname = tar.TypeSymlink, e.Link
		case tree.Hardlink:
			h.Typeflag, h.Linkname = tar.TypeLink, e.Link
		default:
			return fmt.Errorf("BUG: a layer can't have /%s, a %s", e.Path, e.Type)
		}
		for name, value := range e.Xattrs {
			if h.PAXRecords == nil {
				h.PAXRecords = map[string]string{}
			}
			h.PAXRecords["SCHILY.xattr."+name] = string(value)
		}
		if err := t.WriteHeader(h); err != nil {
			return fmt.Errorf("/%s: %w", e.Path, err)
		}
		if e.Type != tree.File {
			continue
		}
		if _, err := io.Copy(t, contextReader{ctx, e.Content()}); err != nil {
			return fmt.Errorf("/%s: %w", e.Path, err)
		}
	}
	return t.Close()
}

// byteCount is an io.Writer that counts.
type byteCount int64

func (n *byteCount) Write(b []byte) (int, error) {
	*n += byteCount(len(b))
	return len(b), nil
}

// config is the image's configuration (OCI image specification, "Image
// Configuration").
func (r *Recipe) config(layers []v1.Descriptor) *v1.ConfigFile {
	epoch := v1.Time{Time: time.Unix(0, 0).UTC()}
	labels := map[string]string{
		"org.opencontainers.image.title":   r.Name,
		"org.opencontainers.image.version": r.Version,
	}
	if r.Source != "" {
		labels["org.opencontainers.image.source"] = r.Source
	}
	entrypoint := r.Entrypoint
	if len(entrypoint) == 0 && len(r.Programs) > 0 {
		entrypoint = []string{r.Programs[0].Path}
	}
	environment := r.Environment
	if !slices.ContainsFunc(environment, func(kv string) bool { return strings.HasPrefix(kv, "PATH=") }) {
		environment = append([]string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, environment...)
	}
	var diffIDs []v1.Hash
	var history []v1.History
	for _, layer := range layers {
		diffIDs = append(diffIDs, layer.Digest) // it is not compressed
		history = append(history, v1.History{Created: epoch, CreatedBy: "bake"})
	}
	return &v1.ConfigFile{
		OS: "linux", Architecture: string(r.Arch), Variant: r.Arch.Facts().OCIVariant, Created: epoch,
		RootFS:  v1.RootFS{Type: "layers", DiffIDs: diffIDs},
		History: history,
		Config: v1.Config{
			Entrypoint: entrypoint,
			Cmd:        r.Command,
			Env:        environment,
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
		// A directory of the layer below stays as it is there.
		if below := r.below(m.name); below != nil {
			if m.program != nil || below.Type != tree.Dir {
				return fmt.Errorf("BUG: /%s is a %s of the layer below", m.name, below.Type)
			}
			h.Mode, h.Uid, h.Gid = int64(below.Perm), int(below.UID), int(below.GID)
		}
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

// below returns the entry of Files that a member of the programs' layer has the path
// of, or nil.
func (r *Recipe) below(member string) *tree.Entry {
	if r.Files == nil {
		return nil
	}
	return r.Files.Lookup(strings.TrimSuffix(member, "/"))
}
