package controlplane

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParseNode(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, json string
		want       Node
	}{
		{"new", `{"metadata": {"name": "worker-0", "creationTimestamp": "2026-11-01T10:00:00Z"}}`,
			Node{Name: "worker-0", Registered: time.Date(2026, 11, 1, 10, 0, 0, 0, time.UTC), Message: "its kubelet has not reported yet"}},
		{"not ready", `{"metadata": {"name": "worker-0"}, "status": {"conditions": [
			{"type": "MemoryPressure", "status": "False", "reason": "KubeletHasSufficientMemory"},
			{"type": "Ready", "status": "False", "reason": "KubeletNotReady", "message": "cni plugin not initialized"}]}}`,
			Node{Name: "worker-0", Message: "KubeletNotReady: cni plugin not initialized"}},
		{"ready", `{"metadata": {"name": "worker-0"}, "spec": {"podCIDR": "10.200.0.0/24"}, "status": {
			"nodeInfo": {"bootID": "b", "kubeletVersion": "v1.36.3"},
			"conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "kubelet is posting ready status"}]}}`,
			Node{Name: "worker-0", Ready: true, Message: "KubeletReady: kubelet is posting ready status", BootID: "b", KubeletVersion: "v1.36.3", PodCIDR: "10.200.0.0/24"}},
		{"unknown", `{"metadata": {"name": "worker-0"}, "status": {"conditions": [{"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown", "message": "Kubelet stopped posting node status."}]}}`,
			Node{Name: "worker-0", Message: "NodeStatusUnknown: Kubelet stopped posting node status."}},
	} {
		got, err := ParseNode([]byte(test.json))
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
	}
}

func FuzzParseNode(f *testing.F) {
	f.Add([]byte(`{"metadata": {"name": "worker-0", "creationTimestamp": "2026-11-01T10:00:00Z"}}`))
	f.Add([]byte(`{"status": {"conditions": [{"type": "Ready", "status": "True"}]}}`))
	f.Add([]byte(`{`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if n, err := ParseNode(data); err != nil && n != (Node{}) {
			t.Errorf("ParseNode(%q) = %+v and %v", data, n, err)
		}
	})
}
