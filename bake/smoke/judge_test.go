package smoke

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
)

// at returns the place with a number, as the guide's workers are.
func at(i int) place {
	return place{
		node:   node{name: fmt.Sprintf("worker-%d", i), version: "v1.36.3", internal: netip.MustParseAddr(fmt.Sprintf("10.240.0.2%d", i)), images: []string{"bake.invalid/nginx:1"}},
		pod:    pod{name: fmt.Sprintf("nginx-%c", 'a'+i), node: fmt.Sprintf("worker-%d", i), ip: netip.MustParseAddr(fmt.Sprintf("10.200.%d.5", i)), ready: true},
		number: i,
	}
}

// text is a finding as tests compare it.
func text(f finding) string {
	if f.passed {
		return "passed: " + f.detail
	}
	return "failed: " + f.detail + " | " + f.cause + " | " + strings.Join(f.next, " ; ")
}

// remote is what kubectl says where a program in a pod failed.
func remote(code int, stderr string) output {
	return output{code: code, stderr: fmt.Sprintf("%s\ncommand terminated with exit code %d\n", stderr, code)}
}

func refused(stderr string) output { return output{code: 1, stderr: stderr + "\n"} }

func printed(stdout string) output { return output{stdout: stdout} }

const (
	kubectlLog = "E1127 11:17:28.720609    4251 memcache.go:265] \"Unhandled Error\" err=\"couldn't get current server API group list\"\n"
	lookNode   = "gcloud compute ssh worker-1 --command 'sudo journalctl -u kubelet -n 50'"
)

// nslookup is what busybox 1.37 prints: of each domain that has no such name, and of
// the one that has it.
func nslookup(name, address string) string {
	return "Server:\t\t10.32.0.10\nAddress:\t10.32.0.10:53\n\n** server can't find kubernetes.cluster.local: NXDOMAIN\n\nName:\t" + name + "\nAddress: " + address + "\n\n"
}

func dnsPods(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile("../../cmd/bake/testdata/smoke/dns.json")
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func nodesJSON(items ...string) output {
	return printed(`{"items":[` + strings.Join(items, ",") + `]}`)
}

func nodeJSON(name, address, ready, version string) string {
	return fmt.Sprintf(`{"metadata":{"name":%q},"status":{"conditions":[{"type":"Ready",%s}],"addresses":[{"type":"InternalIP","address":%q}],"nodeInfo":{"kubeletVersion":%q}}}`, name, ready, address, version)
}

const isReady = `"status":"True"`

// TestJudges holds what is said of outputs, right ones and those of each fault.
// The access errors of kubectl are recorded from 1.36.3, busybox's wget and httpd
// from 1.35; what kubelets and nslookup say is written by hand.
func TestJudges(t *testing.T) {
	t.Parallel()
	ranges := judgeRange(at(0))
	pair := pairCheck("ns", at(0), at(1)).judge
	service := serviceCheck("ns", "", at(0), at(1), "10.32.0.101").judge
	replica := replicaCheck("ns", at(0), pod{name: "coredns-b", node: "worker-1", ip: netip.MustParseAddr("10.200.1.2")}, "kubernetes.default.svc.cluster.local", "10.32.0.1").judge
	name := func(o output) finding { return judgeAnswer(o, "nginx-0", "10.32.0.100") }
	guard := metadataCheck("ns", at(1)).judge
	exec := execCheck("ns", at(1)).judge
	api := serviceAddressCheck("ns", at(1), "10.32.0.1").judge
	logs := judgeLogs(at(1))
	forward := func(o output) finding { return judgeForward(at(1), o) }
	rollout := judgeRollout("ns", []node{at(0).node, at(1).node})
	images := judgeImages([]place{at(0), at(1)}, "bake.invalid/nginx:1", "busybox")
	here := func(inside Status) func(output) finding {
		return hereCheck(at(1), netip.MustParseAddr("203.0.113.21"), 30081, inside).judge
	}
	kubeProxy := "gcloud compute ssh worker-0 --command 'sudo journalctl -u kube-proxy -n 20'"
	for _, test := range []struct {
		name  string
		judge func(output) finding
		out   output
		want  string
	}{
		{"ready", judgeReady, nodesJSON(nodeJSON("worker-10", "10.240.0.30", isReady, "v1.36.3"), nodeJSON("worker-9", "10.240.0.29", isReady, "v1.36.3")),
			"passed: 2 Ready: worker-9, worker-10"},
		{"a dead worker", judgeReady, nodesJSON(nodeJSON("worker-1", "10.240.0.21", `"status":"Unknown","reason":"NodeStatusUnknown","message":"Kubelet stopped posting node status."`, "v1.36.3")),
			"failed: worker-1 is not Ready: NodeStatusUnknown: Kubelet stopped posting node status. | the machine is off, or its kubelet ended, or does not reach the API server | kubectl describe node worker-1"},
		{"a worker without pod-cidr", judgeReady, nodesJSON(nodeJSON("worker-1", "10.240.0.21", `"status":"False","reason":"KubeletNotReady","message":"container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady message:Network plugin returns error: cni plugin not initialized"`, "v1.36.3")),
			"failed: worker-1 is not Ready: KubeletNotReady: container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady message:Network plugin returns error: cni plugin not initialized | containerd finds no network configuration in /etc/cni/net.d: the worker had no pod-cidr | kubectl describe node worker-1"},
		{"versions", judgeVersions("v1.36.3"), nodesJSON(nodeJSON("a", "10.0.0.1", isReady, "v1.36.3"), nodeJSON("b", "10.0.0.2", isReady, "v1.35.1")),
			"failed: kubelets of versions v1.35.1, v1.36.3 | the workers were booted from different images | kubectl get nodes -o wide"},
		{"the guide's kubelet and the control plane of 1.24", judgeVersions("v1.24.17"), nodesJSON(nodeJSON("a", "10.0.0.1", isReady, "v1.21.0")), "passed: v1.21.0, the API server v1.24.17"},
		{"a kubelet that is newer", judgeVersions("v1.35.0"), nodesJSON(nodeJSON("a", "10.0.0.1", isReady, "v1.36.3")),
			"failed: a has v1.36.3, the API server v1.35.0 | a kubelet must not be newer than the API server, nor more than three minor versions older | kubectl get nodes -o wide"},
		{"one address twice", judgeAddresses, nodesJSON(nodeJSON("a", "10.0.0.1", isReady, ""), nodeJSON("b", "10.0.0.1", isReady, "")),
			"failed: a and b both have 10.0.0.1 | two workers were given one address, or one machine has registered twice | kubectl get nodes -o wide ; kubectl delete node NAME"},
		{"no JSON", judgeAddresses, printed("hello"), "failed: reading nodes: invalid character 'h' looking for beginning of value | kubectl printed something else | kubectl version"},

		{"service address", api, remote(1, "wget: server returned error: HTTP/1.0 400 Bad Request"), "passed: 10.32.0.1 answers"},
		{"service address without kube-proxy", api, remote(143, "Terminated"), "failed: 10.32.0.1 does not answer: no answer in time | kube-proxy on worker-1 does not run, or the node, by whose address pods leave it, does not reach the API server | kubectl -n default get endpoints kubernetes ; gcloud compute ssh worker-1 --command 'sudo journalctl -u kube-proxy -n 20'"},

		{"secret", judgeSecret, printed("bXlkYXRh"), "passed: the value came back"},
		{"another secret", judgeSecret, printed("eW91cmRhdGE="), "failed: the value that came back is another | the API server serves a stale or foreign etcd | kubectl get --raw '/readyz?verbose'"},

		{"exec", exec, printed("from bake smoke\n"), "passed: its input came back"},
		{"exec without input", exec, printed(""), `failed: cat gave "" for its input | the stream to worker-1 loses data | kubectl -n ns describe pod nginx-b`},
		{"exec without role", exec, refused("error: unable to upgrade connection: Forbidden (user=kubernetes, verb=create, resource=nodes, subresource=proxy)"),
			"failed: error: unable to upgrade connection: Forbidden (user=kubernetes, verb=create, resource=nodes, subresource=proxy) | the API server can't use the kubelet of worker-1: user kubernetes has no role for it (the guide's system:kube-apiserver-to-kubelet) | kubectl create clusterrolebinding system:kube-apiserver --clusterrole system:kubelet-api-admin --user kubernetes"},
		{"exec by a certificate for another host", exec, refused(`error: Internal error occurred: error sending request: Post "https://10.240.0.21:10250/exec/ns/nginx-b/busybox?command=true": tls: failed to verify certificate: x509: certificate is valid for 10.240.0.99, not 10.240.0.21`),
			`failed: error: Internal error occurred: error sending request: Post "https://10.240.0.21:10250/exec/ns/nginx-b/busybox?command=true": tls: failed to verify certificate: x509: certificate is valid for 10.240.0.99, not 10.240.0.21 | the API server can't use the kubelet of worker-1: its serving certificate is for another host | bake node worker-1 --ip 10.240.0.21 ...`},
		{"logs where no kubelet listens", logs, refused(`Error from server: Get "https://10.240.0.21:10250/containerLogs/ns/nginx-b/nginx": dial tcp 10.240.0.21:10250: connect: connection refused`),
			`failed: Error from server: Get "https://10.240.0.21:10250/containerLogs/ns/nginx-b/nginx": dial tcp 10.240.0.21:10250: connect: connection refused | the API server can't use the kubelet of worker-1: nothing listens there, or the machine is gone | kubectl describe node worker-1 ; ` + lookNode},
		{"logs", logs, printed("10.0.0.1 - - \"GET / HTTP/1.1\" 200\n127.0.0.1 - - \"HEAD / HTTP/1.1\" 200 0\n"), `passed: 127.0.0.1 - - "HEAD / HTTP/1.1" 200 0`},
		{"no logs", logs, printed(""), "failed: no line about the request that came by port-forward | nginx logs to files in its image, or nothing came to it | kubectl get pods -A -o wide"},
		{"port-forward", forward, printed("HTTP/1.1 200 OK\nServer: nginx/1.26.3\n"), "passed: HTTP/1.1 200 OK, Server: nginx/1.26.3"},
		{"port-forward to another server", forward, printed("HTTP/1.1 404 Not Found\nServer: x\n"), "failed: nginx on worker-1 answers HTTP/1.1 404 Not Found | nginx has no page to give, or another server answers | kubectl get pods -A -o wide"},
		{"port-forward without a port", forward, refused("Unable to listen on port 0: ...\nerror: unable to listen on any of the requested ports: [{0 80}]"), "failed: error: unable to listen on any of the requested ports: [{0 80}] | no port of 127.0.0.1 is free | ss -ltn"},

		{"no pods", rollout, printed(`{"items":[]}`), "failed: 0 of 2 pods | kube-controller-manager does not run, or may not make pods | kubectl -n ns get events"},
		{"unschedulable", rollout, printed(`{"items":[{"metadata":{"name":"p"},"status":{"conditions":[{"type":"PodScheduled","status":"False","reason":"Unschedulable","message":"0/2 nodes are available: 2 Insufficient cpu."}]}}]}`),
			"failed: pod p on no node: Unschedulable: 0/2 nodes are available: 2 Insufficient cpu. | the scheduler finds no place for it | kubectl -n ns describe pod p"},
		{"images", images, printed(`{"items":[{"reason":"Pulled","message":"Container image \"bake.invalid/nginx:1\" already present on machine","involvedObject":{"name":"nginx-a"}},{"reason":"Pulled","message":"Successfully pulled image \"busybox\" in 2s","involvedObject":{"name":"nginx-a"}}]}`), "passed: pulled: busybox on worker-0"},
		{"an image that was there", images, printed(`{"items":[{"reason":"Pulled","message":"Successfully pulled image \"bake.invalid/nginx:1\" in 2s","involvedObject":{"name":"nginx-b"}}]}`),
			"failed: worker-1 pulled bake.invalid/nginx:1, which it has | the image's content is not whole there, or a policy wants it pulled | kubectl get node worker-1 -o jsonpath='{.status.images}'"},

		{"range", ranges, printed("default via 10.200.0.1 dev eth0 \n10.200.0.0/24 dev eth0 scope link  src 10.200.0.5 \n"), "passed: 10.200.0.0/24"},
		{"range of another network", ranges, printed("default via 169.254.1.1 dev eth0 \n"), "passed: 10.200.0.5, by a route of its own"},
		{"pair", pair, printed("[::ffff:10.240.0.20]\n" + mebibyteSum() + "  -\n"), "passed: 1 MiB, seen as 10.240.0.20, the node's"},
		{"pair without masquerading", pair, printed("10.200.0.5\n" + mebibyteSum() + "  -\n"), "passed: 1 MiB, seen as 10.200.0.5, the pod's own"},
		{"pair behind something", pair, printed("10.240.0.1\n" + mebibyteSum() + "  -\n"), "failed: 1 MiB came, and it is seen as 10.240.0.1 | something translates addresses: want 10.200.0.5, the pod's, or 10.240.0.20, the node's | kubectl get pods -A -o wide"},
		{"pair with too large packets", pair, output{code: 143, stdout: "[::ffff:10.240.0.20]\n", stderr: "command terminated with exit code 143\n"},
			"failed: 10.200.1.5: a short answer came, 1 MiB did not | the path takes only small packets: the MTU of the pods is larger than the network's (bake node --mtu) | gcloud compute networks describe kubernetes-the-hard-way --format 'value(mtu)'"},
		{"pair that is dropped", pair, remote(143, "Terminated"), "failed: 10.200.1.5: no answer in time |  | "},
		{"pair with another server", pair, remote(1, "wget: server returned error: HTTP/1.1 404 Not Found"),
			"failed: 10.200.1.5: server returned error: HTTP/1.1 404 Not Found | the pod is reached, and busybox there is of another kind: on worker-1 its httpd does not do what it must (--busybox-image names another) | kubectl get pods -A -o wide"},
		{"service of another server", service, remote(1, "wget: server returned error: HTTP/1.1 404 Not Found"),
			"failed: 10.32.0.101, the Service of a pod on worker-1: server returned error: HTTP/1.1 404 Not Found | the pod is reached, and busybox there is of another kind: on worker-1 its httpd does not do what it must (--busybox-image names another) | kubectl get pods -A -o wide"},
		{"service", service, printed("10.240.0.20\n" + mebibyteSum() + "  -\n"), "passed: 10.32.0.101 gives 1 MiB of worker-1"},
		{"service that is refused", service, remote(1, "wget: can't connect to remote host (10.32.0.101): Connection refused"), "failed: 10.32.0.101, the Service of a pod on worker-1: connection refused | kube-proxy on worker-0 does not keep up with services | " + kubeProxy},

		{"replica", replica, printed(nslookup("kubernetes.default.svc.cluster.local", "10.32.0.1")), "passed: 10.32.0.1, 10.200.1.2"},
		{"replica that is silent", replica, remote(1, ";; connection timed out; no servers could be reached"),
			"failed: the replica on worker-1 (10.200.1.2): kubernetes.default.svc.cluster.local: no answer | pods of worker-0 don't reach those of worker-1 | bake smoke --kubeconfig FILE --only pods"},
		{"short name, with which busybox exits with 1", inPod(at(0), name), output{code: 1, stdout: nslookup("nginx-0.ns.svc.cluster.local", "10.32.0.100"), stderr: "command terminated with exit code 1\n"}, "passed: nginx-0 is 10.32.0.100"},
		{"short name of busybox 1.28", name, printed("Server:    10.32.0.10\nAddress 1: 10.32.0.10 kube-dns.kube-system.svc.cluster.local\n\nName:      nginx-0\nAddress 1: 10.32.0.100 nginx-0.ns.svc.cluster.local\n"), "passed: nginx-0 is 10.32.0.100"},
		{"a name that is unknown", inPod(at(0), name), remote(1, "** server can't find nginx-0: NXDOMAIN"), "failed: nginx-0 is unknown | CoreDNS serves another domain, or does not see services | kubectl -n kube-system get configmap coredns -o yaml"},
		{"a name with another address", name, printed(nslookup("nginx-0", "198.51.100.7")), "failed: nginx-0 is 198.51.100.7: want 10.32.0.100 | another server answers, or a name outside has hidden the cluster's | kubectl -n kube-system get configmap coredns -o yaml"},
		{"the server's address is no answer", func(o output) finding { return judgeAnswer(o, "x", "10.32.0.10") }, printed("Server:\t\t10.32.0.10\nAddress:\t10.32.0.10:53\n\n"), "failed: x is unknown | CoreDNS serves another domain, or does not see services | kubectl -n kube-system get configmap coredns -o yaml"},
		{"replicas", judgeReplicas(2), printed(dnsPods(t)), "passed: coredns-a on worker-0, coredns-b on worker-1"},
		{"replicas on one node", judgeReplicas(2), printed(strings.ReplaceAll(dnsPods(t), "worker-1", "worker-0")), "passed: coredns-a on worker-0, coredns-b on worker-0: all on one node, with which DNS would end"},
		{"no replica", judgeReplicas(2), printed(`{"items":[]}`), "failed: there is none | the DNS add-on is not installed | bake dns apply --kubeconfig FILE"},

		{"metadata is refused", guard, remote(1, "wget: can't connect to remote host (169.254.169.254): Connection refused"), "passed: 169.254.169.254: connection refused"},
		{"metadata is dropped", guard, remote(143, "Terminated"), "passed: 169.254.169.254: no answer in time"},
		{"metadata without guard", guard, printed("3141592653589793238"),
			"failed: a pod on worker-1 reads metadata: the node's keys, and tokens of its service account | the metadata guard is not loaded there | gcloud compute ssh worker-1 --command 'sudo systemctl restart worker-nftables; sudo nft list table inet metadata-guard'"},
		{"metadata that asks for a header", guard, remote(1, "wget: server returned error: HTTP/1.1 403 Forbidden"),
			"failed: a pod on worker-1 reads metadata: the node's keys, and tokens of its service account | the metadata guard is not loaded there | gcloud compute ssh worker-1 --command 'sudo systemctl restart worker-nftables; sudo nft list table inet metadata-guard'"},
		{"metadata, where exec fails", guard, refused("error: Internal error occurred: error sending request: dial tcp 10.240.0.21:10250: i/o timeout"),
			"failed: error: Internal error occurred: error sending request: dial tcp 10.240.0.21:10250: i/o timeout | the API server can't use the kubelet of worker-1: its port 10250 is not reached: a firewall, or the machine is gone | kubectl describe node worker-1 ; gcloud compute firewall-rules create kubernetes-the-hard-way-allow-internal --allow=tcp,udp,icmp --network kubernetes-the-hard-way --source-ranges 10.240.0.0/24,10.200.0.0/16"},

		{"node port", here(Passed), printed("HTTP/1.1 200 OK\nServer: nginx\n"), "passed: HTTP/1.1 200 OK, Server: nginx"},
		{"node port that is closed from here", here(Passed), output{err: fmt.Errorf("no answer within 15s")},
			"failed: 203.0.113.21:30081: no answer within 15s | it answers pods, so it is closed from here: a firewall rule is missing | gcloud compute firewall-rules create kubernetes-the-hard-way-allow-nginx-service --allow=tcp:30081 --network kubernetes-the-hard-way"},
		{"node port that is closed to pods too", here(Failed), output{err: fmt.Errorf("no answer within 15s")},
			"failed: 203.0.113.21:30081: no answer within 15s | it does not answer pods either: see above | gcloud compute ssh worker-1 --command 'sudo systemctl status kube-proxy'"},
		{"node port that is refused", here(Passed), output{err: fmt.Errorf("dial tcp 203.0.113.21:30081: connect: connection refused")},
			"failed: 203.0.113.21:30081: dial tcp 203.0.113.21:30081: connect: connection refused | it answers pods: from here 203.0.113.21 is another machine, or something on the way refuses | gcloud compute instances describe worker-1 --format 'value(networkInterfaces[0].accessConfigs[0].natIP)'"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if got := text(test.judge(test.out)); got != test.want {
				t.Errorf("judged:\n%s\nwant:\n%s", got, test.want)
			}
		})
	}
}

// TestAccessProblem holds what is said of a kubeconfig. The outputs are those of
// kubectl 1.36.3.
func TestAccessProblem(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ stderr, want string }{
		{kubectlLog + "The connection to the server 127.0.0.1:1 was refused - did you specify the right host or port?",
			"nothing listens at 127.0.0.1:1, its API server's address (is the control plane running?)"},
		{"Unable to connect to the server: tls: failed to verify certificate: x509: certificate signed by unknown authority",
			"the API server's certificate is not by the CA in it (take the CA of this cluster: bake kubeconfig create --ca-dir)"},
		{"Unable to connect to the server: tls: failed to verify certificate: x509: certificate is valid for 127.0.0.1, 10.240.0.1, not 192.0.2.1",
			"the API server's certificate is not for this address (certificate is valid for 127.0.0.1, 10.240.0.1, not 192.0.2.1): take an address that it names, or issue another"},
		{"Unable to connect to the server: dial tcp: lookup nosuch.invalid on 192.0.2.53:53: no such host",
			"its server's name has no address (nosuch.invalid on 192.0.2.53:53: no such host)"},
		{"error: You must be logged in to the server (the server has asked for the client to provide credentials)",
			"the API server does not know its user (bake kubeconfig create makes one that it knows)"},
		{"error: EOF", "it has no credentials (bake kubeconfig create makes them)"},
		{`Error from server (Forbidden): nodes is forbidden: User "nobody" cannot list resource "nodes" in API group "" at the cluster scope`,
			`its user may not do this (nodes is forbidden: User "nobody" cannot list resource "nodes" in API group "" at the cluster scope): the smoke test needs an administrator`},
		{`error: error loading config file "broken": yaml: line 1: did not find expected node content`, "it is no kubeconfig: yaml: line 1: did not find expected node content"},
		{"Error in configuration: context was not found for specified context: nope", "its current context is not in it (kubectl config use-context names another)"},
		{"error: current-context must exist in order to minify", "it has no current context (kubectl config use-context names one)"},
		{"Unable to connect to the server: dial tcp 192.0.2.1:6443: i/o timeout", "the API server does not answer: dial tcp 192.0.2.1:6443: i/o timeout"},
		{"", "exit code 1, and nothing said"},
	} {
		if got := accessProblem(output{code: 1, stderr: test.stderr}); got != test.want {
			t.Errorf("accessProblem(%q) = %q; want %q", test.stderr, got, test.want)
		}
	}
}

// TestExplainCoreDNS holds what is read from CoreDNS's log.
func TestExplainCoreDNS(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ log, want string }{
		{`E1127 11:00:00.000000       1 reflector.go:138] pkg/mod/k8s.io/client-go@v0.20.2/tools/cache/reflector.go:167: Failed to watch *v1beta1.EndpointSlice: failed to list *v1beta1.EndpointSlice: endpointslices.discovery.k8s.io is forbidden: User "system:serviceaccount:kube-system:coredns" cannot list resource "endpointslices" in API group "discovery.k8s.io" at the cluster scope`,
			"CoreDNS may not list endpointslices: its ClusterRole system:coredns is of an older add-on"},
		{`services is forbidden: User "system:serviceaccount:kube-system:coredns" cannot list resource "services"`, "CoreDNS may not list what it needs: its ClusterRole system:coredns, or the binding, is missing"},
		{`[FATAL] plugin/loop: Loop (127.0.0.1:55953 -> :1053) detected for zone ".", see https://coredns.io/plugins/loop#troubleshooting.`, "CoreDNS forwards to itself: kubelet's resolvConf names systemd-resolved's stub, 127.0.0.53"},
		{`Get "https://10.32.0.1:443/api/v1/services?limit=500": dial tcp 10.32.0.1:443: i/o timeout`, "CoreDNS does not reach the API server by its Service address"},
		{"CoreDNS-1.14.2", ""},
	} {
		if got, _ := explainCoreDNS(test.log); got != test.want {
			t.Errorf("explainCoreDNS(%q) = %q; want %q", test.log, got, test.want)
		}
	}
}

// TestExplainPair has three nodes, of which some pairs fail.
func TestExplainPair(t *testing.T) {
	t.Parallel()
	places := []place{at(0), at(1), at(2)}
	const createRoute1 = "gcloud compute routes create kubernetes-route-10-200-1-0-24 --network kubernetes-the-hard-way --next-hop-address 10.240.0.21 --destination-range 10.200.1.0/24"
	for _, test := range []struct {
		name   string
		fails  func(path) bool
		nodes  bool // the other node itself is reached
		of     path
		want   string
		wantTo string // in a next command
	}{
		{"no route, with pods seen as their nodes", func(p path) bool { return p.to == "worker-1" }, true, path{"worker-0", "worker-1"},
			"no route leads 10.200.1.0/24 to 10.240.0.21, worker-1, or it must not forward (it was made without --can-ip-forward)", createRoute1},
		{"no route", func(p path) bool { return p.to == "worker-1" || p.from == "worker-1" }, true, path{"worker-0", "worker-1"},
			"no route leads 10.200.1.0/24 to 10.240.0.21, worker-1, or it must not forward (it was made without --can-ip-forward)", createRoute1},
		{"no route for answers", func(p path) bool { return p.to == "worker-1" || p.from == "worker-1" }, true, path{"worker-1", "worker-0"},
			"no route leads 10.200.1.0/24 to 10.240.0.21, worker-1, so that answers are lost, or it must not forward (it was made without --can-ip-forward)", createRoute1},
		{"no route at all", func(path) bool { return true }, true, path{"worker-0", "worker-1"},
			"no route leads 10.200.1.0/24 to 10.240.0.21, worker-1 or no route leads 10.200.0.0/24 to 10.240.0.20, worker-0, or it must not forward (it was made without --can-ip-forward)",
			strings.NewReplacer("-1-", "-0-", ".21", ".20", "200.1", "200.0").Replace(createRoute1)},
		{"no firewall rule", func(path) bool { return true }, false, path{"worker-2", "worker-0"},
			"a firewall: the guide's rule allow-internal lets nodes and pods reach each other",
			"gcloud compute firewall-rules create kubernetes-the-hard-way-allow-internal --allow=tcp,udp,icmp --network kubernetes-the-hard-way --source-ranges 10.240.0.0/24,10.200.0.0/16"},
		{"one direction alone", func(p path) bool { return p == path{"worker-2", "worker-0"} }, true, path{"worker-2", "worker-0"},
			"other nodes' pods reach pods of worker-0: something on worker-2 keeps its own from it", "gcloud compute ssh worker-2 --command 'sudo nft list ruleset; ip route'"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var paths []path
			var outcomes []outcome
			reached := map[path]bool{}
			for _, from := range places {
				for _, to := range places {
					p := path{from.name, to.name}
					if from.name == to.name {
						continue
					}
					status := Passed
					if test.fails(p) {
						status, reached[p] = Failed, test.nodes
					}
					paths, outcomes = append(paths, p), append(outcomes, outcome{status: status})
				}
			}
			f := explainPair("10.200.1.5: no answer in time", test.of, paths, outcomes, places, reached)
			if f.passed || f.cause != test.want || f.next[len(f.next)-1] != test.wantTo {
				t.Errorf("explained: %s\nwant: %s | %s", text(f), test.want, test.wantTo)
			}
		})
	}
}

func TestOverlap(t *testing.T) {
	t.Parallel()
	a, b := at(0), at(1)
	prefixes := func(x, y string) map[string]netip.Prefix {
		return map[string]netip.Prefix{a.name: netip.MustParsePrefix(x), b.name: netip.MustParsePrefix(y)}
	}
	if got := overlap(a, b, prefixes("10.200.0.0/24", "10.200.1.0/24")); got != "" {
		t.Errorf("overlap of two ranges = %q; want none", got)
	}
	if got, want := overlap(a, b, prefixes("10.200.0.0/24", "10.200.0.0/24")), "10.200.0.0/24 of worker-0 and 10.200.0.0/24 of worker-1 overlap"; got != want {
		t.Errorf("overlap of one range = %q; want %q", got, want)
	}
	b.pod.ip = a.pod.ip
	if got, want := overlap(a, b, nil), "pods of worker-0 and worker-1 both have 10.200.0.5"; got != want {
		t.Errorf("overlap of one address = %q; want %q", got, want)
	}
}

func TestChooseImage(t *testing.T) {
	t.Parallel()
	nodes := func(lists ...string) []node {
		var all []node
		for _, list := range lists {
			all = append(all, node{images: strings.Fields(list)})
		}
		return all
	}
	for _, test := range []struct {
		nodes []node
		want  string
	}{
		{nodes("bake.invalid/nginx:1 bake.invalid/pause:3", "bake.invalid/nginx:1"), "bake.invalid/nginx:1"},
		{nodes("docker.io/library/nginx:9 bake.invalid/nginx:1"), "bake.invalid/nginx:1"},
		{nodes("bake.invalid/nginx:1 bake.invalid/nginx:2", "bake.invalid/nginx:1 bake.invalid/nginx:2"), "bake.invalid/nginx:2"},
		{nodes("bake.invalid/nginx:1", ""), guideNginx},
		{nodes("bake.invalid/nginx@sha256:00 bake.invalid/mynginx:1 host:5000/nginx"), guideNginx},
	} {
		if got := chooseImage(test.nodes, "nginx", guideNginx); got != test.want {
			t.Errorf("chooseImage(%v) = %s; want %s", test.nodes, got, test.want)
		}
	}
}

func TestFullName(t *testing.T) {
	t.Parallel()
	for image, want := range map[string]string{
		"nginx": "docker.io/library/nginx:latest", "nginx:1": "docker.io/library/nginx:1", "a/nginx:1": "docker.io/a/nginx:1",
		"bake.invalid/nginx:1": "bake.invalid/nginx:1", "localhost:5000/nginx": "localhost:5000/nginx:latest",
	} {
		if got := fullName(image); got != want {
			t.Errorf("fullName(%s) = %s; want %s", image, got, want)
		}
	}
}

// TestGuidesFirewallLine has docs/guide.md show the line that a closed node port
// leads to.
func TestGuidesFirewallLine(t *testing.T) {
	guide, err := os.ReadFile("../../docs/guide.md")
	if err != nil {
		t.Fatal(err)
	}
	if want := "    " + firewallCommand("allow-nginx-service", "tcp:NODE_PORT", "") + "\n"; !strings.Contains(string(guide), want) {
		t.Errorf("docs/guide.md lacks the line\n%s", want)
	}
}
