package controlplane

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/nodebake/bake/bake/manifest"
)

// TestVersions keeps the current control plane the worker's own: the same
// version built in the same way.
func TestVersions(t *testing.T) {
	manifests := filepath.Join("..", "..", "manifests")
	worker, err := readVersions(filepath.Join(manifests, "versions.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	ours, err := readVersions(filepath.Join(manifests, "modules", "controlplane.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	kubelet := worker.Component("kubelet")
	want := *kubelet.Module
	want.Dir = filepath.Base(want.Dir) // of manifests/modules, where the other file is
	for _, name := range []string{kubeAPIServer, kubeControllerManager, kubeScheduler, kubectl} {
		c := ours.Component(name)
		if c == nil {
			t.Fatalf("the control plane's versions file has no %s", name)
		}
		if diff := cmp.Diff(want, *c.Module, cmpopts.IgnoreFields(manifest.Module{}, "Programs", "Pos")); diff != "" {
			t.Errorf("%s is not built as the kubelet is (-kubelet +%s):\n%s", name, name, diff)
		}
		if c.Version != kubelet.Version {
			t.Errorf("%s has the version %s, the kubelet %s", name, c.Version, kubelet.Version)
		}
	}
}

func TestVersion(t *testing.T) {
	t.Parallel()
	modules := filepath.Join("..", "..", "manifests", "modules")
	for _, test := range []struct{ file, want, err string }{
		{filepath.Join(modules, "controlplane-1.24.yaml"), "v1.24.17", ""},
		{filepath.Join(modules, "..", "kthw-1.21.yaml"), "", "components.kube-apiserver: missing (a control plane has an API server: add it)"},
		{"absent.yaml", "", "reading the control plane's versions file: open absent.yaml: "},
	} {
		got, err := Version(test.file)
		if got != test.want || (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
			t.Errorf("Version(%s) = %q, %v; want %q and an error with %q", test.file, got, err, test.want, test.err)
		}
	}
}
