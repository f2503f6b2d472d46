package mirror

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/nodebake/bake/bake/arch"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/progress"
	"github.com/nodebake/bake/test/filetest"
	"github.com/nodebake/bake/test/must"
)

// addPlain adds an image that has no index around it.
func (w *world) addPlain(ref string, seed int64) OCIImage {
	image := testImage("arm64", seed)
	for _, b := range [][]byte{must.Get(image.RawManifest()), must.Get(image.RawConfigFile())} {
		w.add(Image, ref, ref, b, "kubernetes-1.36")
	}
	for _, layer := range must.Get(image.Layers()) {
		w.add(Image, ref, ref, must.Get(io.ReadAll(must.Get(layer.Compressed()))), "kubernetes-1.36")
	}
	d := must.Get(partial.Descriptor(image))
	return OCIImage{Reference: ref, MediaType: string(d.MediaType), Digest: manifest.Digest(d.Digest.String()), Size: d.Size, Arch: arch.ARM64}
}

func platform(d v1.Descriptor) string {
	if d.Platform == nil {
		return ""
	}
	return " " + d.Platform.String()
}

// TestOCILayout has go-containerregistry read and validate the images.
func TestOCILayout(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := newWorld()
	other := w.images[0]
	other.Arch = arch.ARM64 // the same index for another architecture
	w.images = append(w.images, other, w.addPlain("registry.example.com/coredns:1", 1))
	w.write(t, dir)
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatalf("go-containerregistry reads the layout: %v", err)
	}
	if err := validate.Index(index); err != nil {
		t.Errorf("go-containerregistry validates the layout: %v", err)
	}
	list := must.Get(index.IndexManifest())
	var got []string
	for _, d := range list.Manifests {
		got = append(got, d.Annotations[refName]+" "+d.Digest.String()+" "+string(d.MediaType)+platform(d))
	}
	want := []string{
		"registry.example.com/coredns:1 " + string(w.images[2].Digest) + " " + string(types.DockerManifestSchema2) + " linux/arm64",
		"registry.example.com/pause:3.10 " + string(w.images[0].Digest) + " " + string(types.OCIImageIndex),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("images (-want +got):\n%s", diff)
	}
	pause := must.Get(index.ImageIndex(list.Manifests[1].Digest))
	for _, d := range must.Get(pause.IndexManifest()).Manifests {
		image := must.Get(pause.Image(d.Digest))
		if err := validate.Image(image); err != nil {
			t.Errorf("validating the image for %v: %v", d.Platform, err)
		}
	}

	// The validator refuses what is broken, and Check says the same.
	layer := must.Get(must.Get(index.Image(list.Manifests[0].Digest)).Layers())[0]
	file := filepath.Join(dir, "blobs", "sha256", must.Get(layer.Digest()).Hex)
	b := must.Get(os.ReadFile(file))
	b[len(b)/2] ^= 1
	filetest.Write(t, file, b)
	if err := validate.Index(must.Get(layout.ImageIndexFromPath(dir))); err == nil {
		t.Error("go-containerregistry validates a layout with an altered layer")
	}
	if r := must.Get(Check(t.Context(), dir, 1, progress.Discard{})); r.Err() == nil || !strings.Contains(r.Err().Error(), "coredns") {
		t.Errorf("Check of an altered layer = %v; want the image's name in it", r.Err())
	}
}

func TestCheckOCI(t *testing.T) {
	t.Parallel()
	w := newWorld()
	x := w.index.clone()
	x.sort()
	good := string(must.Get(encodeOCI(x, w.images)))
	if err := checkOCIIndex(x, []byte(good)); err != nil {
		t.Errorf("checkOCIIndex = %v", err)
	}
	for _, test := range []struct{ from, to, want string }{
		{good, "", "EOF"},
		{`"sha256:` + w.images[0].Digest.Hex(), `"sha512:` + sumL + sumL, "which mirror.json does not"},
		{w.images[0].Digest.Hex(), "../../x", "hash"},
		{w.images[0].Digest.Hex(), sumL, "which mirror.json does not"},
		{"pause:3.10", "pause:3.9", `image "registry.example.com/pause:3.9"`},
		{good, `{"schemaVersion": 2, "manifests": []}`, `it does not name image "registry.example.com/pause:3.10"`},
	} {
		text := strings.ReplaceAll(good, test.from, test.to)
		if err := checkOCIIndex(x, []byte(text)); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("checkOCIIndex with %q for %q = %v; want an error with %q", test.to, test.from, err, test.want)
		}
	}
	for text, want := range map[string]string{"": "JSON", "{}": `want "1.0.0"`, `{"imageLayoutVersion":"2.0.0"}`: `"2.0.0"`} {
		if err := checkOCILayout([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("checkOCILayout(%q) = %v; want an error with %q", text, err, want)
		}
	}
	if err := checkOCILayout([]byte(ociLayout)); err != nil {
		t.Errorf("checkOCILayout = %v", err)
	}
}

// TestImages reads back what a mirror names.
func TestImages(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	m := must.Get(Create(dir))
	if images, err := m.Images(); len(images) > 0 || err != nil {
		t.Errorf("Images of a new mirror = %v, %v; want none", images, err)
	}
	m.Close()
	w := newWorld()
	w.images[0].Arch = "" // an index is of all architectures
	w.write(t, dir)
	m = must.Get(Create(dir))
	if diff := cmp.Diff(w.images, must.Get(m.Images())); diff != "" {
		t.Errorf("Images (-want +got):\n%s", diff)
	}
	m.Close()

	// An index.json of a commit that did not come to its end.
	before := must.Get(os.ReadFile(filepath.Join(dir, indexFile)))
	w.images = append(w.images, w.addPlain("registry.example.com/coredns:1", 1))
	w.write(t, dir)
	try(t, os.WriteFile(filepath.Join(dir, indexFile), before, 0o644))
	m = must.Get(Create(dir))
	if diff := cmp.Diff(w.images[:1], must.Get(m.Images())); diff != "" {
		t.Errorf("Images after an interrupted commit (-want +got):\n%s", diff)
	}
	m.Close()
	try(t, os.WriteFile(filepath.Join(dir, ociIndexFile), []byte("<html>"), 0o644))
	m = must.Get(Create(dir))
	defer m.Close()
	if _, err := m.Images(); err == nil || !strings.Contains(err.Error(), "remove it and make the mirror again") {
		t.Errorf("Images of a broken index.json = %v; want an error with the remedy", err)
	}
}
