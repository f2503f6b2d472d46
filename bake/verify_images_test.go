package bake_test

import (
	"strings"
	"testing"

	"github.com/nodebake/bake/bake"
)

// TestVerifyContainerImages makes images again that have container images, from
// a registry and assembled.
func TestVerifyContainerImages(t *testing.T) {
	t.Parallel()
	w := newImagesWorld(t)
	c := w.Config()
	c.Format = bake.Raw
	released := w.Image(c)
	record := readRecord(t, c)
	wantSame(t, inspected(w.Config()), released)

	raw := newDisk(t, released.Path, record)
	layer := "/var/lib/containerd/io.containerd.content.v1.content/blobs/sha256/" + strings.TrimPrefix(string(record.Images[0].Layers[1]), "sha256:")
	at := raw.content(layer, 5000)
	before := raw.read(at, 1)
	raw.write(at, []byte{before[0] ^ 1})
	result, err := verifyImage(t, inspected(c), released.Path)
	if err != nil {
		t.Fatal(err)
	}
	if d := result.Difference; d == nil || d.Path != layer || d.Offset != 5000 || d.DiskOffset != at {
		t.Errorf("difference is %+v; want one in %s at 5000", d, layer)
	}
	raw.write(at, before)

	// Assembled from now on, and so also where the registry is back.
	w.Registry.Close()
	c = w.Config()
	c.BuildMissing = true
	assembled := w.Image(c)
	record = readRecord(t, c)
	if record.Inputs.Programs["pause"] == "" || record.Inputs.Modules["modules/kubelet/go.sum"] == "" {
		t.Errorf("inputs are %+v; want pause and the module of dns among them", record.Inputs)
	}
	wantSame(t, inspected(w.Config()), assembled)
	_, err = verifyImage(t, inspected(w.Config()), released.Path)
	wantError(t, err, "failed", "2 container images are unavailable: connection refused at "+w.Registry.Host+": pause, dns")
}
