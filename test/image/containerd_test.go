//go:build system

package image

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"math/rand"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/nodebake/bake/bake/image/containerd"
	"github.com/nodebake/bake/bake/image/containerd/containerdtest"
	"github.com/nodebake/bake/test/archivetest"
	"github.com/nodebake/bake/test/filetest"
	"github.com/nodebake/bake/test/goprogram"
	"github.com/nodebake/bake/test/need"
)

// These tests start the image's own containerd on a store that was prepared as
// an image's is, and on the image's own.

// TestContainerdTakesTheStore is about what package containerd writes.
func TestContainerdTakesTheStore(t *testing.T) { takesTheStore(t, theImage(t)) }

// TestContainerdHasTheImages is about what is in the image.
func TestContainerdHasTheImages(t *testing.T) { hasTheImages(t, theImage(t)) }

// TestOldContainerd is both with the guide's set: containerd 1.4.
func TestOldContainerd(t *testing.T) {
	t.Run("takes the store", func(t *testing.T) { takesTheStore(t, theGuidesImage(t)) })
	t.Run("has the images", func(t *testing.T) { hasTheImages(t, theGuidesImage(t)) })
}

// greeting is what the program in the made-up images prints.
const greeting = "hello from a preloaded image"

// madeUp are three images: app and other share a layer, app and pause have the
// static program, app and pause are named by indices that name an image for
// another architecture too, which is not there.
type madeUp struct{ pause, app, other containerd.ContainerImage }

func (m madeUp) all() []containerd.ContainerImage {
	return []containerd.ContainerImage{m.pause, m.app, m.other}
}

func makeUp(t *testing.T) madeUp {
	t.Helper()
	shared, err := random.Layer(100_000, types.DockerLayer, random.WithSource(rand.NewSource(1)))
	if err != nil {
		t.Fatal(err)
	}
	program := programLayer(t)
	other, err := containerdtest.FromImage("registry.example.com/other:1", imageOf(t, nil, shared))
	if err != nil {
		t.Fatal(err)
	}
	pause := fromIndex(t, "bake.invalid/pause:3", imageOf(t, []string{"/program", "stay"}, program))
	pause.Pinned = true
	return madeUp{pause: pause, app: fromIndex(t, "registry.example.com:5000/dns/app:1", imageOf(t, []string{"/program"}, shared, program)), other: other}
}

// programLayer is a layer with a static program. With an argument it stays.
func programLayer(t *testing.T) v1.Layer {
	t.Helper()
	dir := t.TempDir()
	text := fmt.Sprintf(`package main
import ("fmt"; "os"; "time")
func main() { fmt.Println(%q); if len(os.Args) > 1 { time.Sleep(time.Hour) } }
`, greeting)
	filetest.Write(t, filepath.Join(dir, "main.go"), text)
	program := filetest.Read(t, goprogram.Build(t, "program", dir, runtime.GOARCH, "-ldflags=-s -w", "main.go"))
	archive := archivetest.Tar(archivetest.Member{Header: tar.Header{Name: "program", Mode: 0o755, Typeflag: tar.TypeReg}, Content: string(program)})
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(archive)), nil })
	if err != nil {
		t.Fatal(err)
	}
	return layer
}

func imageOf(t *testing.T, entrypoint []string, layers ...v1.Layer) v1.Image {
	t.Helper()
	image, err := mutate.AppendLayers(empty.Image, layers...)
	if err != nil {
		t.Fatal(err)
	}
	file, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	file = file.DeepCopy()
	file.OS, file.Architecture, file.Config.Entrypoint = "linux", "amd64", entrypoint
	if image, err = mutate.ConfigFile(image, file); err != nil {
		t.Fatal(err)
	}
	return image
}

func fromIndex(t *testing.T, reference string, image v1.Image) containerd.ContainerImage {
	t.Helper()
	elsewhere, err := random.Image(100, 1)
	if err != nil {
		t.Fatal(err)
	}
	amd64 := v1.Platform{OS: "linux", Architecture: "amd64"}
	index := mutate.AppendManifests(empty.Index,
		mutate.IndexAddendum{Add: elsewhere, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "s390x"}}},
		mutate.IndexAddendum{Add: image, Descriptor: v1.Descriptor{Platform: &amd64}},
	)
	out, err := containerdtest.FromIndex(reference, index, amd64)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func digests(images ...containerd.ContainerImage) []string {
	var out []string
	for _, image := range images {
		for _, b := range image.Blobs {
			out = append(out, string(b.Digest))
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// takesTheStore has a containerd start for the first time with made-up images.
func takesTheStore(t *testing.T, s *subject) {
	images := makeUp(t)
	layOut := func(t *testing.T) *daemon {
		t.Helper()
		entries, err := containerd.Plan(images.all(), 1_700_000_000)
		if err != nil {
			t.Fatal(err)
		}
		d := newDaemon(t, s, images.pause.Reference)
		if err := containerdtest.Write(d.dir, entries); err != nil {
			t.Fatal(err)
		}
		return d
	}
	t.Run("listed and complete", func(t *testing.T) {
		d := layOut(t)
		d.start()
		if diff := cmp.Diff(digests(images.all()...), d.content()); diff != "" {
			t.Errorf("content (-planned +listed):\n%s", diff)
		}
		d.readsContent()
		for _, image := range images.all() {
			d.isComplete(image.Reference)
		}
		d.criLists(criImages(images.all()...))
		d.runs(images.app.Reference)
		d.runsPod(images.app.Reference)
		// The second start finds a database that this version has written to.
		d.stop()
		d.start()
		d.isComplete(images.app.Reference)
		d.runs(images.app.Reference)
	})
	t.Run("garbage collection", func(t *testing.T) {
		d := layOut(t)
		d.start()
		d.remove(images.other)
		if diff := cmp.Diff(digests(images.pause, images.app), d.content()); diff != "" {
			t.Errorf("content after one image was removed (-want +got):\n%s", diff)
		}
		d.isComplete(images.app.Reference)
		d.isComplete(images.pause.Reference)
		d.runs(images.app.Reference)
		// That the collector ran is seen by what it takes.
		d.remove(images.app)
		if diff := cmp.Diff(digests(images.pause), d.content()); diff != "" {
			t.Errorf("content after two images were removed (-want +got):\n%s", diff)
		}
	})
	t.Run("an altered layer", func(t *testing.T) {
		d := layOut(t)
		layer := images.app.Blobs[len(images.app.Blobs)-1]
		d.alter(layer.Digest.Hex(), func(data []byte) []byte { data[len(data)/2] ^= 1; return data })
		d.start()
		if out, err := d.run(images.app.Reference); err == nil {
			t.Errorf("a container of an image with an altered layer ran: %s", out)
		}
	})
	t.Run("a missing file", func(t *testing.T) {
		d := layOut(t)
		layer := images.app.Blobs[len(images.app.Blobs)-1]
		d.alter(layer.Digest.Hex(), func([]byte) []byte { return nil })
		d.start()
		if out, err := d.run(images.app.Reference); err == nil {
			t.Errorf("a container of an image without a layer's file ran: %s", out)
		}
	})
	t.Run("a layer that the database lacks", func(t *testing.T) {
		d := layOut(t)
		d.start()
		layer := images.app.Blobs[len(images.app.Blobs)-1]
		d.ctr("content", "rm", string(layer.Digest))
		if line := d.checkLine(images.app.Reference); !strings.Contains(line, " incomplete (") {
			t.Errorf("ctr images check says %q of an image without a layer; want incomplete", line)
		}
	})
}

// hasTheImages starts a containerd with the store that is in its image.
func hasTheImages(t *testing.T, s *subject) {
	if len(s.record.Images) == 0 {
		need.Missing(t, "%s holds no container images: bake it with a versions file that has images", filepath.Base(s.archive))
	}
	d := newDaemon(t, s, s.record.Node.SandboxImage)
	parent := filepath.Join(d.dir, "var/lib")
	filetest.Mkdir(t, parent)
	run(t, "debugfs", "-R", "rdump /"+containerd.Root+" "+parent, s.root)
	d.start()
	var want []criImage
	var blobs []string
	for _, image := range s.record.Images {
		locator := image.Reference[:strings.LastIndexByte(image.Reference, ':')]
		want = append(want, criImage{
			ID: string(image.Config), RepoTags: []string{image.Reference}, RepoDigests: []string{locator + "@" + string(image.Digest)},
			Pinned: image.Reference == s.record.Node.SandboxImage,
		})
		blobs = append(blobs, string(image.Digest), string(image.Manifest), string(image.Config))
		for _, layer := range image.Layers {
			blobs = append(blobs, string(layer))
		}
		d.isComplete(image.Reference)
	}
	slices.Sort(blobs)
	// There may be attestations beside these.
	got := d.content()
	for _, digest := range slices.Compact(blobs) {
		if !slices.Contains(got, digest) {
			t.Errorf("containerd has no %s, which is in the image's record", digest)
		}
	}
	d.readsContent()
	d.criLists(want)
	for i, image := range s.record.Images {
		// Making a container unpacks the layers.
		d.ctr("containers", "create", "--snapshotter", "native", image.Reference, fmt.Sprint("test-", i))
	}
	if sandbox := s.record.Node.SandboxImage; sandbox != "" {
		d.runsPod("")
	}
}
