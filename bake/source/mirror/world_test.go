package mirror

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	mathrand "math/rand"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/random"

	"github.com/nodebake/bake/bake/arch"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/manifest/manifesttest"
	"github.com/nodebake/bake/test/filetest"
	"github.com/nodebake/bake/test/must"
)

// world is what a mirror of a test is made of.
type world struct {
	index  *Index
	images []OCIImage
	blobs  map[manifest.Digest][]byte
}

func (w *world) add(kind Kind, name, path string, content []byte, sets ...string) manifest.Digest {
	sum := manifesttest.Digest(content)
	w.index.Entries = append(w.index.Entries, Entry{
		Kind: kind, Name: name, Path: path, SHA256: sum, Size: int64(len(content)), Sets: sets,
	})
	w.blobs[sum] = content
	return sum
}

// set adds a set with its files, which names of others' sets may share.
func (w *world) set(name string, sources bool) {
	w.index.Sets = append(w.index.Sets, Set{
		Name: name, Archs: []arch.Arch{arch.AMD64}, Sources: sources,
		Versions: w.add(Versions, name+" versions", name+"/versions.yaml", []byte("versions: "+name+"\n"), name),
		Lock:     w.add(Lock, name+" lock", name+"/versions.lock.yaml", []byte("lock: "+name+"\n"), name),
	})
}

// newWorld returns two sets that share packages, with an image in an index.
func newWorld() *world {
	w := &world{index: &Index{Schema: Schema}, blobs: map[manifest.Digest][]byte{}}
	w.set("kubernetes-1.36", true)
	w.set("kthw-1.21", false)
	w.add(Release, "kubelet v1.36.3 amd64", "https://dl.example.com/v1.36.3/kubelet", filetest.Noise("1", 300_000), "kubernetes-1.36")
	w.add(Release, "runc v1.0.0 amd64", "https://dl.example.com/runc", filetest.Noise("2", 300_000), "kthw-1.21")
	w.add(Package, "bash 5.2 amd64", "debian/pool/main/b/bash/bash_5.2_amd64.deb", filetest.Noise("3", 70_001), "kubernetes-1.36", "kthw-1.21")
	w.add(Archive, "trixie InRelease", "debian/dists/trixie/InRelease", []byte("Origin: Debian\n"), "kubernetes-1.36")
	w.add(Module, "golang.org/x/sys v0.1.0", "golang.org/x/sys/@v/v0.1.0.mod", nil, "kubernetes-1.36")
	w.index.Entries[4].SHA512 = manifesttest.Digest512(filetest.Noise("1", 300_000))
	image := testImage("amd64", 2)
	w.addImage("registry.example.com/pause:3.10", mutate.AppendManifests(empty.Index, mutate.IndexAddendum{
		Add: image, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "amd64"}},
	}), image)
	return w
}

// testImage is an image of one layer, the same in every run.
func testImage(arch string, seed int64) v1.Image {
	image := must.Get(random.Image(5000, 1, random.WithSource(mathrand.NewSource(seed))))
	config := must.Get(image.ConfigFile()).DeepCopy()
	config.OS, config.Architecture = "linux", arch
	return must.Get(mutate.ConfigFile(image, config))
}

func (w *world) addImage(ref string, index v1.ImageIndex, image v1.Image) {
	set := "kubernetes-1.36"
	blob := func(b []byte) { w.add(Image, ref, ref, b, set) }
	raw := must.Get(index.RawManifest())
	blob(raw)
	blob(must.Get(image.RawManifest()))
	blob(must.Get(image.RawConfigFile()))
	for i, layer := range must.Get(image.Layers()) {
		w.add(Image, fmt.Sprint(ref, " layer ", i), ref, must.Get(io.ReadAll(must.Get(layer.Compressed()))), set)
	}
	d := must.Get(partial.Descriptor(index))
	w.images = append(w.images, OCIImage{
		Reference: ref, MediaType: string(d.MediaType), Digest: manifest.Digest(d.Digest.String()), Size: d.Size, Arch: arch.AMD64,
	})
}

// write makes a mirror of w in dir.
func (w *world) write(t testing.TB, dir string) {
	t.Helper()
	if err := w.writeTo(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
}

func (w *world) writeTo(ctx context.Context, dir string) error {
	m, err := Create(dir)
	if err != nil {
		return err
	}
	defer m.Close()
	for _, e := range w.index.Entries {
		if m.Has(e.SHA256, e.Size) {
			continue
		}
		if err := m.Add(ctx, e.SHA256, e.Size, bytes.NewReader(w.blobs[e.SHA256])); err != nil {
			return err
		}
	}
	return m.Commit(ctx, w.index, w.images)
}

// entry returns the entry called name.
func (w *world) entry(t testing.TB, name string) Entry {
	t.Helper()
	for _, e := range w.index.Entries {
		if e.Name == name {
			return e
		}
	}
	t.Fatalf("BUG: no entry is called %q", name)
	return Entry{}
}

func blobFile(dir string, e Entry) string {
	return filepath.Join(dir, filepath.FromSlash(blobPath(e.SHA256)))
}

// files lists all files of dir with their content's digest.
func files(t testing.TB, dir string) map[string]manifest.Digest {
	t.Helper()
	list := map[string]manifest.Digest{}
	err := fs.WalkDir(os.DirFS(dir), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(filepath.Join(dir, path))
		list[path] = manifesttest.Digest(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// wantNoTemps fails where a writer left something half.
func wantNoTemps(t testing.TB, dir string) {
	t.Helper()
	for name := range files(t, dir) {
		if strings.HasPrefix(name, tmpPrefix) {
			t.Errorf("%s is left over", name)
		}
	}
}

// fromWeb gets a small file as fetch.Fetcher.Get does.
func fromWeb(ctx context.Context, url string, limit int64) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("status %s", resp.Status)
	}
	return io.ReadAll(io.LimitReader(resp.Body, limit))
}
