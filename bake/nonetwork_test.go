package bake_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/bake/baketest"
)

// TestNoNetwork bakes where nothing can be reached and nothing is there: the error
// has a line for each kind of part, not for each file.
func TestNoNetwork(t *testing.T) {
	t.Parallel()
	w := baketest.New(t)
	dead := unreachable(t)
	host := strings.TrimPrefix(dead, "http://")
	w.Edit("versions.yaml", w.URL+"/releases/{version}/{arch}/kubelet", dead+"/kubelet")
	w.Edit("versions.yaml", w.URL+"/releases/containerd-", dead+"/containerd-")
	w.Lock()
	c := w.Config()
	c.DebianMirrors, c.Cache = []string{dead}, filepath.Join(t.TempDir(), "cache")
	_, err := baketest.Image(t.Context(), c)
	if err == nil {
		t.Fatal("Image without a network = nil; want an error")
	}
	lines := strings.Split(err.Error(), "\n")
	names := strings.SplitAfter(lines[len(lines)-1], host+": ")
	lines[len(lines)-1] = names[0]
	want := []string{
		"component kubelet v1.30.0: its release is unavailable at " + dead + "/kubelet: dial tcp " + host + ": connect: connection refused; --build-missing would build it from example.com/kubelet v1.30.0",
		"component containerd 2.0.0: its release is unavailable at " + dead + "/containerd-2.0.0-amd64.tar.gz: dial tcp " + host + ": connect: connection refused; there is no module to build it from (" + w.Versions + ":26:3)",
		"10 files are unavailable: connection refused at " + host + ": ",
	}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Errorf("error (-want +got):\n%s", diff)
	}
}
