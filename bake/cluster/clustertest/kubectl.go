package clustertest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Names of files in the directory of the control plane.
const (
	NoCoreDNS  = "no-coredns"  // nodes have no image of it
	DNSPending = "dns-pending" // its replicas are never ready
)

// kubectl knows what is asked to apply the DNS add-on, to two nodes that have its
// image. It is ready at once.
func kubectl() {
	dir := filepath.Dir(option("kubeconfig"))
	is := func(name string) bool {
		_, err := os.Stat(filepath.Join(dir, name))
		return err == nil
	}
	image, ready := "bake.invalid/coredns:v1.14.2", "True"
	if is(NoCoreDNS) {
		image = "bake.invalid/pause:3.10"
	}
	if is(DNSPending) {
		ready = "False"
	}
	list := func(items ...string) { fmt.Printf(`{"kind": "List", "items": [%s]}`, strings.Join(items, ",")) }
	node := func(name string) string {
		return fmt.Sprintf(`{"metadata": {"name": %q}, "status": {"conditions": [{"type": "Ready", "status": "True"}], "images": [{"names": [%q]}], "nodeInfo": {"kubeletVersion": "v1.36.3"}}}`, name, image)
	}
	pod := func(name, node, ip string) string {
		return fmt.Sprintf(`{"metadata": {"name": %q}, "spec": {"nodeName": %q, "containers": [{"image": %q}]}, "status": {"podIP": %q, "conditions": [{"type": "Ready", "status": %q}], "containerStatuses": [{"ready": true, "state": {}}]}}`, name, node, image, ip, ready)
	}
	var args []string
	for _, arg := range os.Args[1:] {
		if !strings.HasPrefix(arg, "--kubeconfig=") && !strings.HasPrefix(arg, "--cache-dir=") && !strings.HasPrefix(arg, "--request-timeout=") {
			args = append(args, arg)
		}
	}
	switch call := strings.Join(args, " "); {
	case call == "version -o json":
		fmt.Print(`{"clientVersion": {"gitVersion": "v1.36.3"}, "serverVersion": {"gitVersion": "v1.36.3"}}`)
	case call == "get nodes -o json":
		list(node("worker-0"), node("worker-1"))
	case strings.HasPrefix(call, "get -f -"):
	case strings.HasPrefix(call, "get services"), strings.HasPrefix(call, "get events"):
		list()
	case strings.HasPrefix(call, "apply"):
		fmt.Println("service/kube-dns created")
	case strings.HasPrefix(call, "get deployment"):
		available := 2
		if is(DNSPending) {
			available = 0
		}
		fmt.Printf(`{"kind": "Deployment", "metadata": {"name": "coredns"}, "spec": {"replicas": 2}, "status": {"replicas": 2, "updatedReplicas": 2, "availableReplicas": %d}}`, available)
	case strings.HasPrefix(call, "get pods"):
		list(pod("coredns-1", "worker-0", "10.200.0.2"), pod("coredns-2", "worker-1", "10.200.1.2"))
	case strings.HasPrefix(call, "logs"):
		fmt.Println(`[INFO] plugin/kubernetes: Get "https://10.32.0.1:443/version": dial tcp 10.32.0.1:443: i/o timeout`)
	default:
		fatal(fmt.Errorf("error: what is this: %s", call))
	}
}
