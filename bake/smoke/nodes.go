package smoke

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/nodebake/bake/bake/kubectl"
	"github.com/nodebake/bake/bake/manifest"
)

// checkCount says that there are fewer nodes than there must be.
func checkCount(kubeconfig string, nodes []node, want int) error {
	if len(nodes) > 0 && len(nodes) >= want {
		return nil
	}
	names := "none"
	if len(nodes) > 0 {
		names = nodeNames(nodes)
	}
	if want == 0 {
		return &manifest.ArgumentError{Err: fmt.Errorf("%s: the cluster has no node (boot a worker: bake node makes its metadata)", kubeconfig)}
	}
	return &manifest.ArgumentError{Err: fmt.Errorf("%s: the cluster has %d of %d nodes: %s (boot what is missing, or lower --nodes)", kubeconfig, len(nodes), want, names)}
}

// checkNames says which of the nodes that were named is not there.
func checkNames(nodes []node, addresses map[string]netip.Addr) error {
	for _, name := range slices.Sorted(maps.Keys(addresses)) {
		if !slices.ContainsFunc(nodes, func(n node) bool { return n.name == name }) {
			return &manifest.ArgumentError{Err: fmt.Errorf("--node-address %s: there is no such node, only %s", name, nodeNames(nodes))}
		}
	}
	return nil
}

func nodeNames(nodes []node) string {
	var names []string
	for _, n := range nodes {
		names = append(names, n.name)
	}
	return strings.Join(names, ", ")
}

// nodesStep judges what the preflight read.
func (r *run) nodesStep() {
	get := kubectlCall("get", "nodes", "-o", "json")
	for _, c := range []check{
		{name: "ready", call: get, judge: judgeReady},
		{name: "version", call: get, judge: judgeVersions(r.report.Version)},
		{name: "addresses", call: get, judge: judgeAddresses},
	} {
		o := outcome{check: c, finding: c.judge(output{stdout: r.all}), status: Failed, took: r.allTook}
		if o.passed {
			o.status = Passed
		}
		r.add(Nodes, o)
	}
}

// ofNodes judges `kubectl get nodes -o json`.
func ofNodes(o output, judge func([]node) finding) finding {
	if !o.ok() {
		return kubectlFault(o)
	}
	nodes, err := parseNodes(o.stdout)
	if err != nil {
		return failed(err.Error(), "kubectl printed something else", "kubectl version")
	}
	return judge(nodes)
}

func judgeReady(o output) finding {
	return ofNodes(o, func(nodes []node) finding {
		var not, next []string
		var why string
		for _, n := range nodes {
			if n.notReady != "" {
				not = append(not, n.name+" is not Ready: "+n.notReady)
				next = append(next, "kubectl describe node "+n.name)
				why = n.notReady
			}
		}
		if len(not) == 0 {
			return passed("%d Ready: %s", len(nodes), nodeNames(nodes))
		}
		return failed(strings.Join(not, "; "), whyNotReady(why), next...)
	})
}

func whyNotReady(why string) string {
	switch {
	case strings.Contains(why, "stopped posting node status"):
		return "the machine is off, or its kubelet ended, or does not reach the API server"
	case strings.Contains(why, "cni"), strings.Contains(why, "NetworkPluginNotReady"):
		return "containerd finds no network configuration in /etc/cni/net.d: the worker had no pod-cidr"
	}
	return "its kubelet says so"
}

// judgeVersions wants kubelets of one version that the API server supports: not
// newer, and at most three minor versions older
// (kubernetes.io/releases/version-skew-policy).
func judgeVersions(server string) func(output) finding {
	return func(o output) finding {
		return ofNodes(o, func(nodes []node) finding {
			var versions []string
			for _, n := range nodes {
				if !slices.Contains(versions, n.version) {
					versions = append(versions, n.version)
				}
				node, nodeErr := kubectl.ParseVersion(n.version)
				api, apiErr := kubectl.ParseVersion(server)
				if nodeErr == nil && apiErr == nil && (node.Minor > api.Minor || api.Minor-node.Minor > 3) {
					return failed(fmt.Sprintf("%s has %s, the API server %s", n.name, n.version, server),
						"a kubelet must not be newer than the API server, nor more than three minor versions older", "kubectl get nodes -o wide")
				}
			}
			if len(versions) > 1 {
				slices.Sort(versions)
				return failed("kubelets of versions "+strings.Join(versions, ", "), "the workers were booted from different images", "kubectl get nodes -o wide")
			}
			return passed("%s, the API server %s", versions[0], server)
		})
	}
}

func judgeAddresses(o output) finding {
	return ofNodes(o, func(nodes []node) finding {
		of := map[netip.Addr]string{}
		var texts []string
		for _, n := range nodes {
			if !n.internal.IsValid() {
				return failed(n.name+" has no internal IPv4 address", "its kubelet has not found one", "kubectl describe node "+n.name)
			}
			if other := of[n.internal]; other != "" {
				return failed(fmt.Sprintf("%s and %s both have %s", other, n.name, n.internal), "two workers were given one address, or one machine has registered twice",
					"kubectl get nodes -o wide", "kubectl delete node NAME")
			}
			of[n.internal] = n.name
			texts = append(texts, n.internal.String())
		}
		return passed("%s", strings.Join(texts, ", "))
	})
}

// findAPI reads the address of the API server's Service.
func (r *run) findAPI(ctx context.Context) {
	out := r.call(ctx, kubectlCall("-n", "default", "get", "service", "kubernetes", "-o", "jsonpath={.spec.clusterIP}"), 0)
	r.api = strings.TrimSpace(out.stdout)
	if !out.ok() {
		r.noAPI = "the service kubernetes is unknown: " + out.said()
	}
}

// serviceAddressStep asks for the API server by its Service from every node.
func (r *run) serviceAddressStep(ctx context.Context) {
	r.noteBroken(r.askAll(ctx, Nodes, r.serviceAddressChecks()...))
}

func (r *run) serviceAddressChecks() []check {
	var checks []check
	for _, p := range r.places {
		c := serviceAddressCheck(r.Namespace, p, r.api)
		c.skip = or(r.broken[p.name], r.noAPI)
		checks = append(checks, c)
	}
	return checks
}

// serviceAddressCheck asks for the API server. What answers there speaks TLS, and
// says to a request without that it is a wrong one.
func serviceAddressCheck(namespace string, p place, address string) check {
	return check{
		name:  "service address from " + p.name,
		call:  fetch(namespace, p, "http://"+address+":443/", 10),
		tries: 2,
		judge: inPod(p, func(o output) finding {
			if reached(o) {
				return passed("%s answers", address)
			}
			return failed(address+" does not answer: "+wgetSaid(o),
				"kube-proxy on "+p.name+" does not run, or the node, by whose address pods leave it, does not reach the API server",
				"kubectl -n default get endpoints kubernetes",
				"gcloud compute ssh "+p.name+" --command 'sudo journalctl -u kube-proxy -n 20'")
		}),
	}
}
