//go:build system

package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nodebake/bake/bake/dns"
	"github.com/nodebake/bake/bake/node"
)

// object is one of the API's.
type object = map[string]any

// paperNodes are nodes that are objects alone: a goroutine says what their kubelets
// would say, of themselves and of the pods that the scheduler gives them.
type paperNodes struct {
	t       *testing.T
	cluster *Cluster
	image   string // that they have; pods with another don't get theirs

	mu        sync.Mutex
	ready     map[string]bool
	addresses map[string]string // of pods, by their names; of run alone
}

func (n *paperNodes) send(ctx context.Context, method, path string, body any) {
	data, err := json.Marshal(body)
	if err != nil {
		n.t.Error(err)
		return
	}
	request, err := http.NewRequestWithContext(ctx, method, n.cluster.LocalURL()+path, bytes.NewReader(data))
	if err != nil {
		n.t.Error(err)
		return
	}
	request.Header.Set("Content-Type", "application/json")
	if method == http.MethodPatch {
		request.Header.Set("Content-Type", "application/strategic-merge-patch+json")
	}
	response, err := n.cluster.Client().Do(request)
	if err != nil {
		if ctx.Err() == nil {
			n.t.Error(err)
		}
		return
	}
	defer response.Body.Close()
	if answer, _ := io.ReadAll(response.Body); response.StatusCode >= 300 && response.StatusCode != http.StatusNotFound && response.StatusCode != http.StatusConflict {
		n.t.Errorf("%s %s = %s: %s", method, path, response.Status, answer)
	}
}

// set makes a node Ready, or not, and adds it where it is not there.
func (n *paperNodes) set(name string, ready bool) {
	n.t.Helper()
	n.mu.Lock()
	_, there := n.ready[name]
	n.ready[name] = ready
	n.mu.Unlock()
	if !there {
		n.send(n.t.Context(), http.MethodPost, "/api/v1/nodes", object{"kind": "Node", "apiVersion": "v1", "metadata": object{"name": name, "labels": object{"kubernetes.io/os": "linux", "kubernetes.io/hostname": name}}})
	}
	n.say(n.t.Context())
}

// run says again and again how nodes and pods are.
func (n *paperNodes) run(ctx context.Context) {
	for ctx.Err() == nil {
		n.say(ctx)
		n.pods(ctx)
		select {
		case <-ctx.Done():
		case <-time.After(300 * time.Millisecond):
		}
	}
}

func (n *paperNodes) say(ctx context.Context) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for name, ready := range n.ready {
		status, reason := "True", "KubeletReady"
		if !ready {
			status, reason = "False", "KubeletNotReady"
		}
		now := time.Now().UTC().Format(time.RFC3339)
		n.send(ctx, http.MethodPatch, "/api/v1/nodes/"+name+"/status", object{"status": object{
			"capacity": object{"cpu": "2", "memory": "2Gi", "pods": "110"}, "allocatable": object{"cpu": "2", "memory": "2Gi", "pods": "110"},
			"conditions": []object{{"type": "Ready", "status": status, "reason": reason, "message": "paper", "lastHeartbeatTime": now}},
			"images":     []object{{"names": []string{n.image}, "sizeBytes": 1}}, "nodeInfo": object{"kubeletVersion": "v1.36.3"},
		}})
	}
}

// pods runs those that have a node, and lets go of those that are deleted.
func (n *paperNodes) pods(ctx context.Context) {
	data, err := n.cluster.Get(ctx, "/api/v1/pods")
	if err != nil {
		return // the cluster stops
	}
	var list struct {
		Items []struct {
			Metadata struct{ Name, Namespace, DeletionTimestamp string }
			Spec     struct {
				NodeName   string
				Containers []struct{ Name, Image string }
			}
		}
	}
	if err := json.Unmarshal(data, &list); err != nil {
		n.t.Error(err)
		return
	}
	for _, p := range list.Items {
		if n.addresses[p.Metadata.Name] == "" {
			n.addresses[p.Metadata.Name] = fmt.Sprintf("10.200.0.%d", len(n.addresses)+2)
		}
		ip := n.addresses[p.Metadata.Name]
		path := "/api/v1/namespaces/" + p.Metadata.Namespace + "/pods/" + p.Metadata.Name
		switch container := p.Spec.Containers[0]; {
		case p.Metadata.DeletionTimestamp != "":
			n.send(ctx, http.MethodDelete, path, object{"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0})
		case p.Spec.NodeName == "":
		case container.Image != n.image:
			n.send(ctx, http.MethodPatch, path+"/status", object{"status": object{"phase": "Pending", "containerStatuses": []object{{
				"name": container.Name, "image": container.Image, "imageID": "", "ready": false, "restartCount": 0,
				"state": object{"waiting": object{"reason": "ImagePullBackOff", "message": "Back-off pulling image"}},
			}}}})
		default:
			n.send(ctx, http.MethodPatch, path+"/status", object{"status": object{
				"phase": "Running", "podIP": ip, "podIPs": []object{{"ip": ip}},
				"conditions": []object{{"type": "Ready", "status": "True"}, {"type": "ContainersReady", "status": "True"}},
				"containerStatuses": []object{{
					"name": container.Name, "image": container.Image, "imageID": "x", "ready": true, "restartCount": 0, "state": object{"running": object{}},
				}},
			}})
		}
	}
}

// TestDNS applies the add-on to a real API server, with real controllers and a real
// scheduler; no pod of it runs.
func TestDNS(t *testing.T) {
	p := Need(t, Current, "../..")
	ca, err := node.NewCA(node.CAConfig{Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	c, err := Start(t.Context(), Config{Programs: p, CA: ca, Now: time.Now(), Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Stop()
	run := newCommands(t, p.Kubectl)
	run.env = append(run.env, "KUBECONFIG="+c.AdminKubeconfig())
	bake := func(args ...string) (stdout, stderr string, err error) {
		return run.run(t, run.bake, append([]string{"dns"}, append(args, "--kubectl", p.Kubectl)...)...)
	}
	refused := func(want string, args ...string) {
		t.Helper()
		_, stderr, err := bake(append(args, "--quiet")...)
		if !regexp.MustCompile(`^bake: `+want+`\n$`).MatchString(stderr) || err == nil {
			t.Errorf("bake dns %s: %v: %s; want %s", strings.Join(args, " "), err, stderr, want)
		}
		if got := run.must(t, p.Kubectl, "-n", "kube-system", "get", "deployments,services,configmaps", "-o", "name"); strings.Contains(got, "dns") {
			t.Errorf("after bake dns %s there is %s", strings.Join(args, " "), got)
		}
	}
	nodes := &paperNodes{t: t, cluster: c, image: "bake.invalid/coredns:v1.14.2", ready: map[string]bool{}, addresses: map[string]string{}}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() { nodes.run(ctx) })

	refused(`no node has joined the cluster, and nothing can run there \(kubectl get nodes; --nodes waits for some\)`, "apply")
	nodes.set("worker-0", true)
	nodes.set("worker-1", false)
	refused(`--cluster-ip 10.96.0.10 is out of the range of services, 10.32.0.0/24 \(give one of it, and tell kubelets the same: bake node --cluster-dns\)`, "apply", "--cluster-ip", "10.96.0.10")
	refused(`--cluster-ip 10.32.0.1: the service default/kubernetes has this address \(give another, and tell kubelets the same: bake node --cluster-dns\)`, "apply", "--cluster-ip", "10.32.0.1")
	refused(`waiting for 2 Ready nodes: 20s are over: 1 of 2 have joined and are Ready; worker-1 is not Ready: KubeletNotReady: paper`, "apply", "--timeout", "20s")
	viewer(t, c, run)
	refused(`kubectl get nodes: Error from server \(Forbidden\): nodes is forbidden: User "viewer" cannot list resource "nodes" in API group "" at the cluster scope`, "apply", "--kubeconfig", "viewer.kubeconfig")

	// It waits for the second node, and the scheduler puts a replica on each.
	late := time.AfterFunc(3*time.Second, func() { nodes.set("worker-1", true) })
	defer late.Stop()
	stdout, stderr, err := bake("apply")
	if err != nil || strings.Contains(stderr, "note") {
		t.Fatalf("bake dns apply: %v: %s", err, stderr)
	}
	for _, want := range []string{"service/kube-dns created", "deployment.apps/coredns created", " on worker-0, 10.200.0.", " on worker-1, 10.200.0."} {
		if !strings.Contains(stdout, want) {
			t.Errorf("bake dns apply prints\n%s\nwant %s", stdout, want)
		}
	}
	if got := run.must(t, p.Kubectl, "-n", "kube-system", "get", "service", "kube-dns", "-o", "jsonpath={.spec.clusterIP}"); got != "10.32.0.10" {
		t.Errorf("kube-dns has the address %s; want 10.32.0.10", got)
	}
	if stdout, stderr, err := bake("apply", "--quiet"); err != nil || stderr != "" || strings.Contains(stdout, "/") {
		t.Errorf("bake dns apply again = %s, %v: %s; want that nothing changes", stdout, err, stderr)
	}
	_, stderr, err = bake("apply", "--quiet", "--cluster-ip", "10.32.0.11")
	if want := "bake: --cluster-ip 10.32.0.11: the service kube-dns has the address 10.32.0.10, and a service keeps its address (`bake dns delete` first)\n"; err == nil || stderr != want {
		t.Errorf("bake dns apply with another address: %v: %s; want %s", err, stderr, want)
	}

	// An image that is nowhere, and the way back.
	_, stderr, err = bake("apply", "--quiet", "--image", "nowhere.invalid/coredns:1")
	if want := regexp.MustCompile(`^bake: coredns-\S+ on worker-[01]: its image is not there and can't be pulled: Back-off pulling image \(--image names one that the nodes have\)\n$`); err == nil || !want.MatchString(stderr) {
		t.Errorf("bake dns apply --image: %v: %s; want %s", err, stderr, want)
	}
	if stdout, stderr, err := bake("apply", "--quiet"); err != nil || !strings.Contains(stdout, "deployment.apps/coredns configured") {
		t.Errorf("bake dns apply with the right image = %s, %v: %s", stdout, err, stderr)
	}

	stdout, stderr, err = bake("delete", "--quiet")
	if err != nil || strings.Count(stdout, " deleted") != 6 {
		t.Errorf("bake dns delete = %s, %v: %s; want 6 objects", stdout, err, stderr)
	}
	if left := run.must(t, p.Kubectl, "get", "deployments,services,configmaps,serviceaccounts,clusterroles,clusterrolebindings,pods", "-A", "-l", "app.kubernetes.io/managed-by=bake", "-o", "name"); left != "" {
		t.Errorf("after bake dns delete there is %s", left)
	}
	if stdout, stderr, err := bake("delete", "--quiet"); err != nil || stdout != "" || stderr != "note: nothing that bake applied is there\n" {
		t.Errorf("bake dns delete again = %s, %v: %s", stdout, err, stderr)
	}
	run.must(t, p.Kubectl, "-n", "kube-system", "create", "deployment", "coredns", "--image", "x", "--replicas", "0")
	_, stderr, err = bake("apply", "--quiet")
	if want := "bake: another DNS add-on is there, somebody else's, without the label app.kubernetes.io/managed-by=bake: deployment coredns in kube-system (delete it first)\n"; err == nil || stderr != want {
		t.Errorf("bake dns apply beside another's: %v: %s; want %s", err, stderr, want)
	}
	if stdout, stderr, err := bake("delete", "--quiet"); err != nil || stdout != "" || !strings.Contains(stderr, "which stays: somebody else's") {
		t.Errorf("bake dns delete beside another's = %s, %v: %s", stdout, err, stderr)
	}
	if err := c.Err(); err != nil {
		t.Error(err)
	}
}

// viewer makes a kubeconfig of a user who may do nothing.
func viewer(t *testing.T, c *Cluster, run *commands) {
	t.Helper()
	cert, key, err := c.config.CA.Issue(node.IssueConfig{CommonName: "viewer", Client: true, Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"viewer.pem": cert, "viewer-key.pem": key} {
		if err := os.WriteFile(filepath.Join(run.dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run.must(t, run.bake, "kubeconfig", "create", "--server", c.LocalURL(), "--ca-dir", c.config.Dir, "--client-certificate", "viewer.pem", "--client-key", "viewer-key.pem",
		"--user", "viewer", "--output", "viewer.kubeconfig")
}

// TestOldDNS has the oldest API server that can be built take the guide's objects.
func TestOldDNS(t *testing.T) {
	p := Need(t, Old, "../..")
	ca, err := node.NewCA(node.CAConfig{Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	c, err := Start(t.Context(), Config{Programs: p, CA: ca, Now: time.Now(), Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Stop()
	text, err := dns.Addon{
		Release: dns.Guide(), Image: dns.Guide().Image, ClusterIP: netip.MustParseAddr(dns.DefaultClusterIP), Domain: dns.DefaultDomain, Replicas: dns.DefaultReplicas,
	}.YAML()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.kubectl(t.Context(), strings.NewReader(text), "apply", "--dry-run=server", "-f", "-")
	if err != nil || strings.Count(out, " created (server dry run)") != 6 {
		t.Errorf("the API server says %s, %v; want that it takes 6 objects", out, err)
	}
}
