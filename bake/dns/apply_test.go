package dns

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/bake/kubectl"
)

// fake is a cluster as kubectl shows it. What is asked again and again changes from
// one answer to the next, and stays at the last.
type fake struct {
	t        *testing.T
	version  string
	nodes    [][]nodeObject
	services string
	existing string
	pods     [][]string
	events   string
	logs     string
	fails    map[string]string // what is said on standard error, by the beginning of a command
	failures int               // how often a get of nodes fails first
	calls    []string
	applied  string
	deleted  string
	after    func(call string)
}

func next[T any](list *[]T) T {
	first := (*list)[0]
	if len(*list) > 1 {
		*list = (*list)[1:]
	}
	return first
}

func (f *fake) Run(ctx context.Context, input []byte, args ...string) ([]byte, error) {
	call := strings.Join(args, " ")
	if len(f.calls) == 0 || f.calls[len(f.calls)-1] != call {
		f.calls = append(f.calls, call)
	}
	if f.after != nil {
		f.after(call)
	}
	if err := ctx.Err(); err != nil {
		return nil, &kubectl.Error{Args: args, Err: err}
	}
	for command, stderr := range f.fails {
		if strings.HasPrefix(call, command) {
			return nil, &kubectl.Error{Args: args, Stderr: stderr, Err: errors.New("exit status 1")}
		}
	}
	return f.answer(call, string(input))
}

func (f *fake) answer(call, input string) ([]byte, error) {
	list := func(items ...string) ([]byte, error) {
		return []byte(`{"kind": "List", "items": [` + strings.Join(items, ",") + `]}`), nil
	}
	switch {
	case call == "version -o json":
		return fmt.Appendf(nil, `{"clientVersion": {"gitVersion": %q}, "serverVersion": {"gitVersion": "v1.36.3"}}`, f.version), nil
	case call == "get nodes -o json":
		if f.failures > 0 {
			f.failures--
			return nil, &kubectl.Error{Args: []string{"get", "nodes"}, Stderr: "The connection to the server was refused", Err: errors.New("exit status 1")}
		}
		text, err := json.Marshal(map[string]any{"kind": "List", "items": next(&f.nodes)})
		return text, err
	case strings.HasPrefix(call, "get -f -"):
		return []byte(f.existing), nil
	case strings.HasPrefix(call, "get services"):
		return list(f.services)
	case strings.HasPrefix(call, "get servicecidrs"):
		return []byte("10.32.0.0/24"), nil
	case strings.HasPrefix(call, "apply --dry-run=server"):
		return []byte("service/kube-dns created (server dry run)\n"), nil
	case strings.HasPrefix(call, "apply"):
		f.applied = input
		return []byte("service/kube-dns created\nserviceaccount/coredns unchanged\n"), nil
	case strings.HasPrefix(call, "get deployment"):
		available := 0
		for _, p := range f.pods[0] {
			available += strings.Count(p, `"type": "Ready", "status": "True"`)
		}
		return fmt.Appendf(nil, `{"kind": "Deployment", "metadata": {"name": "coredns"}, "spec": {"replicas": 2}, "status": {"replicas": 2, "updatedReplicas": 2, "availableReplicas": %d}}`, available), nil
	case strings.HasPrefix(call, "get pods"):
		return list(next(&f.pods)...)
	case strings.HasPrefix(call, "get events"):
		return list(f.events)
	case strings.HasPrefix(call, "logs"):
		return []byte(f.logs), nil
	case strings.HasPrefix(call, "delete"):
		f.deleted = input
		return []byte("deployment.apps \"coredns\" deleted\n"), nil
	}
	f.t.Errorf("kubectl %s is not known", call)
	return nil, errors.New("unknown")
}

func newFake(t *testing.T) *fake {
	const image = "bake.invalid/coredns:v1.14.2"
	podReady2 := strings.NewReplacer("coredns-1", "coredns-2", "worker-0", "worker-1", "10.200.0.2", "10.200.1.2").Replace(podReady)
	return &fake{
		t: t, version: "v1.36.3", nodes: [][]nodeObject{nodesOf("worker-0 v1.36.3 True "+image, "worker-1 v1.36.3 True "+image)},
		services: `{"metadata": {"name": "kubernetes", "namespace": "default"}, "spec": {"clusterIP": "10.32.0.1"}}`,
		pods:     [][]string{{strings.ReplaceAll(podReady, `"i"`, `"`+image+`"`), podReady2}},
	}
}

func (f *fake) config() Config {
	a := addon(Release{})
	a.Image, a.Replicas = "", 2
	return Config{Kubectl: f, Addon: a, Timeout: time.Minute, Every: time.Millisecond}
}

func TestApply(t *testing.T) {
	t.Parallel()
	both := []Replica{{"coredns-1", "worker-0", "10.200.0.2"}, {"coredns-2", "worker-1", "10.200.1.2"}}
	apply := []string{
		"version -o json", "get nodes -o json", "get -f - --ignore-not-found -o json", "get services --all-namespaces -o json", "apply --dry-run=server -f -",
		"get nodes -o json", "apply -f -", "get deployment coredns -n kube-system -o json", "get pods -n kube-system -l k8s-app=kube-dns -o json",
		"get events -n kube-system --field-selector=involvedObject.kind=Pod,type=Warning -o json",
	}
	for _, test := range []struct {
		name   string
		change func(f *fake, c *Config)
		want   Result
		calls  []string // nil: whatever
	}{
		{"all well", func(*fake, *Config) {}, Result{Replicas: both}, apply},
		{"a node that is late", func(f *fake, _ *Config) {
			ready := f.nodes[0]
			f.nodes = [][]nodeObject{ready[:1], nodesOf("worker-0 v1.36.3 True", "worker-1 v1.36.3 False"), ready}
		}, Result{Replicas: both, Notes: []string{}}, nil},
		{"nodes that are expected", func(f *fake, c *Config) {
			c.Nodes = 3
			f.nodes = [][]nodeObject{{}, {}, f.nodes[0][:1], f.nodes[0]}
		}, Result{Replicas: both}, nil},
		{"a server that is gone for a moment", func(f *fake, _ *Config) {
			f.after = func(call string) {
				if strings.HasPrefix(call, "apply --dry-run") {
					f.failures = 3
				}
			}
		}, Result{Replicas: both}, nil},
		{"one node, and an old kubectl", func(f *fake, _ *Config) {
			f.version = "v1.32.4-dispatcher"
			f.nodes[0] = f.nodes[0][:1]
			f.pods = [][]string{{podReady, strings.ReplaceAll(podStarts, "worker-1", "worker-0")}, {podReady, strings.ReplaceAll(podReady, "coredns-1", "coredns-2")}}
		}, Result{Replicas: []Replica{{"coredns-1", "worker-0", "10.200.0.2"}, {"coredns-2", "worker-0", "10.200.0.2"}}, Notes: []string{
			"kubectl is of Kubernetes 1.32 and the API server of 1.36, more than a minor version apart (--kubectl names another)",
			"all replicas are on worker-0: when it stops, no name is found (with more nodes: kubectl -n kube-system rollout restart deployment coredns)",
		}}, nil},
		{"images that nodes name late", func(f *fake, c *Config) {
			silent := nodesOf("worker-0 v1.36.3 True", "worker-1 v1.36.3 True")
			f.nodes, c.OnNodes = [][]nodeObject{silent, silent, f.nodes[0]}, true
		}, Result{Replicas: both}, nil},
		{"an image that one lacks", func(_ *fake, c *Config) { c.Addon.Image = "x/coredns:1" }, Result{Image: "x/coredns:1", Replicas: both, Notes: []string{"the image x/coredns:1 is not on worker-0, worker-1, which pulls it where a replica comes there"}}, nil},
	} {
		f := newFake(t)
		c := f.config()
		test.change(f, &c)
		got, err := Apply(t.Context(), c)
		if err != nil {
			t.Errorf("%s: Apply = %v", test.name, err)
			continue
		}
		test.want.Version, test.want.Changes = "1.14.2", []string{"service/kube-dns created"}
		if test.want.Image == "" {
			test.want.Image = "bake.invalid/coredns:v1.14.2"
		}
		if len(test.want.Notes) == 0 {
			test.want.Notes = nil
		}
		if diff := cmp.Diff(&test.want, got); diff != "" {
			t.Errorf("%s: Apply (-want +got):\n%s", test.name, diff)
		}
		if test.calls != nil {
			if diff := cmp.Diff(test.calls, f.calls); diff != "" {
				t.Errorf("%s: kubectl is called (-want +got):\n%s", test.name, diff)
			}
		}
		if !strings.Contains(f.applied, "image: "+test.want.Image+"\n") {
			t.Errorf("%s: applied is\n%s", test.name, f.applied)
		}
	}
}

// TestApplyFails wants nothing to be applied where something is wrong before, and
// the cause where it is wrong afterwards.
func TestApplyFails(t *testing.T) {
	t.Parallel()
	const invalid = `The Service "kube-dns" is invalid: spec.clusterIPs: Invalid value: ["10.96.0.10"]: failed to allocate IP 10.96.0.10: the provided network does not match the current range` + "\n"
	foreign := `{"kind": "List", "items": [{"kind": "Deployment", "metadata": {"name": "coredns", "namespace": "kube-system", "labels": {"k8s-app": "kube-dns"}}}, {"kind": "ClusterRole", "metadata": {"name": "system:coredns"}}]}`
	for _, test := range []struct {
		name    string
		change  func(f *fake, c *Config)
		want    string
		applied bool
	}{
		{"no server", func(f *fake, _ *Config) {
			f.fails = map[string]string{"version": "E1127 10:00:00.000000  1 memcache.go:265] couldn't get\nThe connection to the server 127.0.0.1:1 was refused - did you specify the right host or port?\n"}
		}, "kubectl version: The connection to the server 127.0.0.1:1 was refused - did you specify the right host or port?", false},
		{"no rights", func(f *fake, _ *Config) {
			f.fails = map[string]string{"get nodes": "Error from server (Forbidden): nodes is forbidden: User \"viewer\" cannot list resource \"nodes\" in API group \"\" at the cluster scope\n"}
		}, `kubectl get nodes: Error from server (Forbidden): nodes is forbidden: User "viewer" cannot list resource "nodes" in API group "" at the cluster scope`, false},
		{"no nodes", func(f *fake, _ *Config) { f.nodes = [][]nodeObject{{}} }, "no node has joined the cluster, and nothing can run there (kubectl get nodes; --nodes waits for some)", false},
		{"no nodes in time", func(f *fake, c *Config) { f.nodes, c.Nodes, c.Timeout = [][]nodeObject{{}}, 1, 300*time.Millisecond }, "waiting for a node: 300ms are over: none has joined the cluster", false},
		{"a node that is not Ready in time", func(f *fake, c *Config) {
			f.nodes, c.Timeout = [][]nodeObject{nodesOf("worker-0 v1.36.3 True", "worker-1 v1.36.3 False")}, 300*time.Millisecond
		}, "waiting for 2 Ready nodes: 300ms are over: 1 of 2 have joined and are Ready; worker-1 is not Ready: KubeletNotReady: no network plugin", false},
		{"somebody else's", func(f *fake, _ *Config) { f.existing = foreign },
			"another DNS add-on is there, somebody else's, without the label app.kubernetes.io/managed-by=bake: deployment coredns in kube-system, clusterrole system:coredns (delete it first)", false},
		{"an address that is taken", func(f *fake, _ *Config) { f.services = strings.ReplaceAll(f.services, "10.32.0.1", "10.96.0.10") },
			"--cluster-ip 10.96.0.10: the service default/kubernetes has this address (give another, and tell kubelets the same: bake node --cluster-dns)", false},
		{"an address out of range", func(f *fake, _ *Config) { f.fails = map[string]string{"apply --dry-run": invalid} },
			"--cluster-ip 10.96.0.10 is out of the range of services, 10.32.0.0/24 (give one of it, and tell kubelets the same: bake node --cluster-dns)", false},
		{"no right to apply", func(f *fake, _ *Config) {
			f.fails = map[string]string{"apply --dry-run": "Error from server (Forbidden): error when creating \"STDIN\": x\nError from server (Forbidden): error when creating \"STDIN\": y\n"}
		}, `kubectl apply: Error from server (Forbidden): error when creating "STDIN": x (and 1 more)`, false},
		{"a server that stays away", func(f *fake, _ *Config) {
			f.after = func(call string) {
				if strings.HasPrefix(call, "apply --dry-run") {
					f.failures = 100
				}
			}
		}, "kubectl get nodes: The connection to the server was refused", false},

		{"no image on nodes", func(f *fake, c *Config) {
			f.nodes, c.OnNodes = [][]nodeObject{nodesOf("worker-0 v1.36.3 True x/pause:3", "worker-1 v1.36.3 True x/pause:3")}, true
		},
			"no node has an image of CoreDNS", false},
		{"a server that fails while nodes are asked for images", func(f *fake, c *Config) { f.failures, c.OnNodes = 100, true }, "kubectl get nodes: The connection to the server was refused", false},

		{"an image that is nowhere", func(f *fake, c *Config) {
			c.Addon.Image, f.pods, f.events = "i", [][]string{{podReady, podPulls}, {podReady, podBackOff}}, event("Failed", `Failed to pull image "i": no such host`)
		}, `coredns-2 on worker-1: its image is not there and can't be pulled: Failed to pull image "i": no such host (--image names one that the nodes have)`, true},
		{"a loop", func(f *fake, _ *Config) {
			f.pods, f.logs = [][]string{{podReady, podEnded}, {podReady, podCrashes}, {podReady, strings.Replace(podCrashes, `"restartCount": 2`, `"restartCount": 3`, 1)}}, "[FATAL] plugin/loop: Loop (127.0.0.1:1 -> :53) detected for zone \".\"\n"
		}, "coredns-2 on worker-1 ends again and again; it asks itself: kubelet's resolvConf there leads back to the node's own resolver (want /run/systemd/resolve/resolv.conf)", true},
		{"no way to the API server", func(f *fake, c *Config) {
			f.pods, f.logs, c.Timeout = [][]string{{podReady, podRuns}}, "dial tcp 10.32.0.1:443: i/o timeout\n", 300*time.Millisecond
		}, "waiting for CoreDNS: 300ms are over: 1 of 2 replicas are available; coredns-2 on worker-1 runs and is not ready; from its node pods don't reach the API server at 10.32.0.1:443: is kube-proxy running there, and is the API server's address right (kubectl get endpoints kubernetes)?", true},
		{"no way to its log", func(f *fake, c *Config) {
			f.pods, f.fails, c.Timeout = [][]string{{podReady, podRuns}}, map[string]string{"logs": "Error from server: Get \"https://10.240.0.21:10250/\": x509\n"}, 300*time.Millisecond
		}, `waiting for CoreDNS: 300ms are over: 1 of 2 replicas are available; coredns-2 on worker-1 runs and is not ready; its log can't be read: kubectl logs: Error from server: Get "https://10.240.0.21:10250/": x509`, true},
		{"no room", func(f *fake, c *Config) {
			f.pods, c.Timeout = [][]string{{podReady, podNowhere}}, 300*time.Millisecond
		}, "waiting for CoreDNS: 300ms are over: 1 of 2 replicas are available; coredns-2 is on no node: 0/1 nodes are available: 1 node(s) had untolerated taint(s).", true},
	} {
		f := newFake(t)
		c := f.config()
		test.change(f, &c)
		_, err := Apply(t.Context(), c)
		if err == nil || err.Error() != test.want {
			t.Errorf("%s: Apply = %v; want %s", test.name, err, test.want)
		}
		if (f.applied != "") != test.applied {
			t.Errorf("%s: the objects were applied: %t; want %t", test.name, f.applied != "", test.applied)
		}
	}
}

// TestApplyInterrupted ends Apply at each of its calls.
func TestApplyInterrupted(t *testing.T) {
	t.Parallel()
	whole := newFake(t)
	if _, err := Apply(t.Context(), whole.config()); err != nil {
		t.Fatal(err)
	}
	for i := range whole.calls {
		ctx, cancel := context.WithCancel(t.Context())
		f := newFake(t)
		n := 0
		f.after = func(string) {
			if n++; n > i {
				cancel()
			}
		}
		if _, err := Apply(ctx, f.config()); !errors.Is(err, context.Canceled) {
			t.Errorf("interrupted at kubectl %s: Apply = %v; want that it is canceled", whole.calls[i], err)
		}
		cancel()
		if applied := slices.Contains(whole.calls[:i], "apply -f -"); (f.applied != "") != applied {
			t.Errorf("interrupted at kubectl %s: the objects were applied: %t; want %t", whole.calls[i], f.applied != "", applied)
		}
	}
}

func TestResolve(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	a, err := Resolve(t.Context(), f, f.config().Addon)
	if err != nil || a.Version != "1.14.2" || a.Image != "bake.invalid/coredns:v1.14.2" {
		t.Errorf("Resolve = %s, %s, %v", a.Version, a.Image, err)
	}
	f.calls = nil
	if again, err := Resolve(t.Context(), f, a); err != nil || again != a || len(f.calls) > 0 {
		t.Errorf("Resolve of what is known = %v, %v, after %q", again, err, f.calls)
	}
}

func TestDelete(t *testing.T) {
	t.Parallel()
	const ours = `{"kind": "Deployment", "apiVersion": "apps/v1", "metadata": {"name": "coredns", "namespace": "kube-system", "labels": {"app.kubernetes.io/managed-by": "bake"}}}`
	const theirs = `{"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "coredns", "namespace": "kube-system"}}`
	const note = "there is something else, which stays: somebody else's, without the label app.kubernetes.io/managed-by=bake: configmap coredns in kube-system"
	removed := []string{`deployment.apps "coredns" deleted`}
	for _, test := range []struct {
		name     string
		existing string
		want     Result
		deleted  string
	}{
		{"ours", `{"kind": "List", "items": [` + ours + `]}`, Result{Changes: removed}, ours},
		{"one object alone", ours, Result{Changes: removed}, ours},
		{"nothing", "", Result{}, ""},
		{"somebody else's", `{"kind": "List", "items": [` + theirs + `]}`, Result{Notes: []string{note}}, ""},
		{"some of both", `{"kind": "List", "items": [` + ours + "," + theirs + `]}`, Result{Changes: removed, Notes: []string{note}}, ours},
	} {
		f := newFake(t)
		f.existing, f.pods = test.existing, [][]string{{podReady}, {}}
		got, err := Delete(t.Context(), f.config())
		if diff := cmp.Diff(&test.want, got); diff != "" || err != nil {
			t.Errorf("%s: Delete: %v (-want +got):\n%s", test.name, err, diff)
		}
		want := ""
		if test.deleted != "" {
			want = `{"apiVersion":"v1","items":[` + strings.ReplaceAll(strings.ReplaceAll(test.deleted, ": ", ":"), ", ", ",") + `],"kind":"List"}`
		}
		if diff := cmp.Diff(want, f.deleted); diff != "" {
			t.Errorf("%s: deleted (-want +got):\n%s", test.name, diff)
		}
	}
	interrupted, cancel := context.WithCancel(t.Context())
	f := newFake(t)
	f.existing = ours
	f.after = func(call string) {
		if strings.HasPrefix(call, "get pods") {
			cancel()
		}
	}
	if _, err := Delete(interrupted, f.config()); !errors.Is(err, context.Canceled) {
		t.Errorf("Delete, interrupted while pods are looked at = %v; want that it is canceled", err)
	}
	f = newFake(t)
	f.existing = ours
	c := f.config()
	c.Timeout = 300 * time.Millisecond
	if _, err := Delete(t.Context(), c); err == nil || err.Error() != "waiting for the end of CoreDNS's pods: 300ms are over: 2 are there" {
		t.Errorf("Delete = %v; want that pods stay", err)
	}
}
