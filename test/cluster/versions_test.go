package cluster

import (
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/nodebake/bake/bake/manifest"
)

// TestVersions keeps the current control plane the worker's own: the same
// version built in the same way.
func TestVersions(t *testing.T) {
	manifests := filepath.Join("..", "..", "manifests")
	kubelet, err := component(filepath.Join(manifests, "versions.yaml"), "kubelet")
	if err != nil {
		t.Fatal(err)
	}
	want := *kubelet.Module
	want.Dir = filepath.Base(want.Dir) // of manifests/modules, where the other file is
	for _, name := range []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler"} {
		c, err := component(filepath.Join(manifests, "modules", versionsFile(Current)), name)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, *c.Module, cmpopts.IgnoreFields(manifest.Module{}, "Programs", "Pos")); diff != "" {
			t.Errorf("%s is not built as the kubelet is (-kubelet +%s):\n%s", name, name, diff)
		}
		if c.Version != kubelet.Version {
			t.Errorf("%s has the version %s, the kubelet %s", name, c.Version, kubelet.Version)
		}
	}
}
