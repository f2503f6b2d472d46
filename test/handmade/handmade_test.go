package handmade

import (
	"maps"
	"testing"
)

func TestProgramPath(t *testing.T) {
	for path, want := range map[string]string{
		"usr/bin/containerd":              "bin/containerd",
		"usr/bin/containerd-shim-runc-v2": "bin/containerd-shim-runc-v2",
		"usr/bin/ctr":                     "bin/ctr",
		"usr/local/bin/kubelet":           "kubelet",
		"opt/cni/bin/bridge":              "cni/bridge",
		"usr/bin/cat":                     "",
	} {
		if got, _ := programPath(path); got != want {
			t.Errorf("programPath(%s) = %q; want %q", path, got, want)
		}
	}
}

func TestBuildNamesWhatIsMissing(t *testing.T) {
	node := map[string]string{}
	for _, key := range nodeKeys() {
		node[key] = "x"
	}
	for _, key := range nodeKeys() {
		without := maps.Clone(node)
		delete(without, key)
		_, err := Build(t.Context(), Config{Node: without})
		if want := "making a worker by hand: no " + key; err == nil || err.Error() != want {
			t.Errorf("Build without %s = %v; want %q", key, err, want)
		}
	}
}
