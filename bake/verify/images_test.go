package verify_test

import (
	"strings"
	"testing"

	"github.com/nodebake/bake/bake"
	"github.com/nodebake/bake/bake/baketest"
)

// TestVerifyContainerImages makes images again that have container images, from
// a registry and assembled.
func TestVerifyContainerImages(t *testing.T) {
	t.Parallel()
	w := baketest.NewAssembling(t)
	c := w.Config()
	c.Format = bake.Raw
	released := w.Image(c)
	record := baketest.ReadRecord(t, c)
	baketest.WantSame(t, w.Config(), released)

	raw := newDisk(t, released)
	layer := "/var/lib/containerd/io.containerd.content.v1.content/blobs/sha256/" + strings.TrimPrefix(string(record.Images[0].Layers[1]), "sha256:")
	at := raw.content(layer, 5000)
	_, _, undo := raw.flip(at)
	result, err := baketest.Verify(t, c, released.Path)
	if err != nil {
		t.Fatal(err)
	}
	if d := result.Difference; d == nil || d.Path != layer || d.Offset != 5000 || d.DiskOffset != at {
		t.Errorf("difference is %+v; want one in %s at 5000", d, layer)
	}
	undo()

	// Assembled from now on, and so also where the registry is back.
	w.Registry.Close()
	c = w.Config()
	c.BuildMissing = true
	assembled := w.Image(c)
	record = baketest.ReadRecord(t, c)
	if record.Inputs.Programs["pause"] == "" || record.Inputs.Modules["modules/kubelet/go.sum"] == "" {
		t.Errorf("inputs are %+v; want pause and the module of dns among them", record.Inputs)
	}
	baketest.WantSame(t, w.Config(), assembled)
	_, err = baketest.Verify(t, w.Config(), released.Path)
	baketest.WantError(t, err, "failed", "2 container images are unavailable: connection refused at "+w.Registry.Host+": pause, dns")
}
