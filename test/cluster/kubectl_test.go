package cluster

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPendingServing(t *testing.T) {
	t.Parallel()
	const list = `{"items": [
		{"metadata": {"name": "yes"}, "spec": {"signerName": "kubernetes.io/kubelet-serving", "username": "system:node:worker-0", "groups": ["system:nodes", "system:authenticated"]}},
		{"metadata": {"name": "decided"}, "spec": {"signerName": "kubernetes.io/kubelet-serving", "username": "system:node:worker-0", "groups": ["system:nodes"]}, "status": {"conditions": [{"type": "Denied"}]}},
		{"metadata": {"name": "another's"}, "spec": {"signerName": "kubernetes.io/kubelet-serving", "username": "system:node:worker-1", "groups": ["system:nodes"]}},
		{"metadata": {"name": "client"}, "spec": {"signerName": "kubernetes.io/kube-apiserver-client-kubelet", "username": "system:node:worker-0", "groups": ["system:nodes"]}},
		{"metadata": {"name": "no node"}, "spec": {"signerName": "kubernetes.io/kubelet-serving", "username": "system:node:worker-0", "groups": ["system:authenticated"]}}
	]}`
	got, err := pendingServing([]byte(list), "worker-0")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"yes"}, got); diff != "" {
		t.Errorf("pendingServing (-want +got):\n%s", diff)
	}
}
