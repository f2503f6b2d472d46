package dns

import (
	"errors"
	"io"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/nodebake/bake/bake/kubectl"
)

func addon(r Release) Addon {
	return Addon{Release: r, Image: "bake.invalid/coredns:x", ClusterIP: netip.MustParseAddr("10.96.0.10"), Domain: "k8s.example.com", Replicas: 3}
}

// documents reads YAML of several documents.
func documents(t *testing.T, text string) []map[string]any {
	t.Helper()
	var all []map[string]any
	for decoder := yaml.NewDecoder(strings.NewReader(text)); ; {
		var object map[string]any
		err := decoder.Decode(&object)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, object)
	}
}

// TestYAML wants the values where they belong, and in both releases objects of the
// same names with the label by which they are deleted.
func TestYAML(t *testing.T) {
	t.Parallel()
	for _, r := range []Release{Guide(), Current()} {
		text, err := addon(r).YAML()
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, o := range documents(t, text) {
			meta := o["metadata"].(map[string]any)
			namespace, _ := meta["namespace"].(string)
			names = append(names, strings.Join([]string{o["kind"].(string), namespace, meta["name"].(string)}, " "))
			if got := meta["labels"].(map[string]any)[ownerLabel]; got != owner {
				t.Errorf("CoreDNS %s: %s has the label %v; want %s", r.Version, names[len(names)-1], got, owner)
			}
		}
		want := []string{
			"ServiceAccount kube-system coredns", "ClusterRole  system:coredns", "ClusterRoleBinding  system:coredns",
			"ConfigMap kube-system coredns", "Deployment kube-system coredns", "Service kube-system kube-dns",
		}
		if diff := cmp.Diff(want, names); diff != "" {
			t.Errorf("CoreDNS %s: objects (-want +got):\n%s", r.Version, diff)
		}
		for line, n := range map[string]int{
			"clusterIP: 10.96.0.10": 1, "image: bake.invalid/coredns:x": 1, "replicas: 3": 1,
			"kubernetes k8s.example.com in-addr.arpa ip6.arpa {": 1, "resources: [endpointslices]": 1, "forward . /etc/resolv.conf {": strings.Count(r.Version, "1.14"),
			"disable success k8s.example.com": strings.Count(r.Version, "1.14"), "lameduck 5s": strings.Count(r.Version, "1.14"), "type: RuntimeDefault": strings.Count(r.Version, "1.14"), "podAntiAffinity:": strings.Count(r.Version, "1.14"),
		} {
			if got := strings.Count(text, line); got != n {
				t.Errorf("CoreDNS %s: there is %q %d times; want %d", r.Version, line, got, n)
			}
		}
		if strings.Contains(text, "{{") || strings.Contains(text, "<no value>") {
			t.Errorf("CoreDNS %s: something was not filled in:\n%s", r.Version, text)
		}
	}
}

func TestFor(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{"v1.21.0": "1.8.3", "v1.24.17": "1.8.3", "v1.25.0-rc.1": "1.14.2", "1.36": "1.14.2", "v2.0.1": "1.14.2", "v0.9": "1.8.3"} {
		v, err := kubectl.ParseVersion(text)
		if got := For(v); err != nil || got.Version != want {
			t.Errorf("For(%s) = %s, %v; want %s", text, got.Version, err, want)
		}
	}
}

func TestAddonCheck(t *testing.T) {
	t.Parallel()
	good := addon(Current())
	for _, image := range []string{"", "coredns", "coredns:v1.14.2", "registry.k8s.io/coredns/coredns:v1.14.2", "localhost:5000/a/b_c--d:x", "a/b@sha256:" + strings.Repeat("0", 64)} {
		a := good
		a.Image = image
		if err := a.Check(); err != nil {
			t.Errorf("Check() with the image %q = %v", image, err)
		}
	}
	for _, test := range []struct {
		change func(*Addon)
		want   string
	}{
		{func(a *Addon) { a.ClusterIP = netip.Addr{} }, "cluster-ip: is missing (want an address like 10.32.0.10)"},
		{func(a *Addon) { a.ClusterIP = netip.MustParseAddr("fd00::1") }, `cluster-ip: "fd00::1" is IPv6; workers give pods IPv4 addresses only; right would be: 10.32.0.10`},
		{func(a *Addon) { a.ClusterIP = netip.MustParseAddr("127.0.0.1") }, `cluster-ip: "127.0.0.1" is no address that a DNS service can have; right would be: 10.32.0.10`},
		{func(a *Addon) { a.Domain = "" }, `domain: "" is no domain (want one like cluster.local)`},
		{func(a *Addon) { a.Domain = "a}\nb" }, `domain: a value of 4 characters is no DNS name: label 1 has a character other than a-z, 0-9 and the hyphen; right would be: cluster.local`},
		{func(a *Addon) { a.Replicas = 0 }, "replicas: 0: want 1 to 100"},
		{func(a *Addon) { a.Image = "x\nhostNetwork: true" }, `image: "x\nhostNetwork: true" is no image (want one like registry.k8s.io/coredns/coredns:v1.14.2)`},
		{func(a *Addon) { a.Image = "Upper" }, `image: "Upper" is no image (want one like registry.k8s.io/coredns/coredns:v1.14.2)`},
	} {
		a := good
		test.change(&a)
		if err := a.Check(); err == nil || err.Error() != test.want {
			t.Errorf("Check() = %v; want %s", err, test.want)
		}
	}
}

// nodesOf reads "NAME VERSION READY IMAGE...".
func nodesOf(texts ...string) []nodeObject {
	var all []nodeObject
	for _, text := range texts {
		f := strings.Fields(text)
		var n nodeObject
		n.Metadata.Name, n.Status.NodeInfo.KubeletVersion = f[0], f[1]
		n.Status.Conditions = []condition{{Type: "MemoryPressure", Status: "False"}, {Type: "Ready", Status: f[2], Reason: "KubeletNotReady", Message: "no network\nplugin"}}
		for _, name := range f[3:] {
			n.Status.Images = append(n.Status.Images, struct {
				Names []string `json:"names"`
			}{[]string{name + "@sha256:0", name}})
		}
		all = append(all, n)
	}
	return all
}

func TestChoose(t *testing.T) {
	t.Parallel()
	const ours, theirs, old = "bake.invalid/coredns:v1.14.2", "registry.k8s.io/coredns/coredns:v1.14.2", "docker.io/coredns/coredns:1.8.3"
	for _, test := range []struct {
		name    string
		nodes   []nodeObject
		version string
		image   string
		lack    []string
	}{
		{"all have it", nodesOf("a v1.36.3 True "+ours, "b v1.36.3 True x/y:1 "+ours), "1.14.2", ours, nil},
		{"most have it", nodesOf("a v1.36.3 True "+theirs, "b v1.36.3 True "+ours, "c v1.36.3 True "+ours), "1.14.2", ours, []string{"a"}},
		{"as many have one as the other", nodesOf("a v1.36.3 True "+theirs, "b v1.36.3 True "+ours), "1.14.2", ours, []string{"a"}},
		{"none has it", nodesOf("b v1.36.3 True coredns:v1.13.0", "a v1.36.3 True a/coredns-helper:v1.14.2"), "1.14.2", theirs, []string{"a", "b"}},
		{"the oldest counts", nodesOf("a v1.36.3 True "+ours, "b v1.21.14 True "+old), "1.8.3", old, []string{"a"}},
	} {
		r, err := choose(test.nodes)
		if err != nil {
			t.Fatal(err)
		}
		image, lack := chooseImage(r, test.nodes)
		if r.Version != test.version || image != test.image || !slices.Equal(lack, test.lack) {
			t.Errorf("%s: choose = %s, %s, lacking on %q; want %s, %s, %q", test.name, r.Version, image, lack, test.version, test.image, test.lack)
		}
	}
	if _, err := choose(nodesOf("a unknown True")); err == nil || err.Error() != `node a: "unknown" is no version of Kubernetes` {
		t.Errorf("choose = %v", err)
	}
	if _, err := choose(nil); !errors.Is(err, errNoNodes) {
		t.Errorf("choose = %v; want %v", err, errNoNodes)
	}
}

func TestCheckAddress(t *testing.T) {
	t.Parallel()
	services, err := parseList[serviceObject]([]byte(`{"kind": "ServiceList", "items": [
{"metadata": {"name": "kubernetes", "namespace": "default"}, "spec": {"clusterIP": "10.32.0.1"}},
{"metadata": {"name": "kube-dns", "namespace": "kube-system"}, "spec": {"clusterIP": "10.32.0.10"}},
{"metadata": {"name": "kube-dns", "namespace": "other"}, "spec": {"clusterIP": "None"}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	for ip, want := range map[string]string{
		"10.32.0.10": "",
		"10.32.0.1":  "--cluster-ip 10.32.0.1: the service default/kubernetes has this address (give another, and tell kubelets the same: bake node --cluster-dns)",
		"10.32.0.11": "--cluster-ip 10.32.0.11: the service kube-dns has the address 10.32.0.10, and a service keeps its address (`bake dns delete` first)",
	} {
		got := ""
		if err := checkAddress(netip.MustParseAddr(ip), services); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("checkAddress(%s) = %q; want %q", ip, got, want)
		}
	}
}

func TestExplainRefusal(t *testing.T) {
	t.Parallel()
	ip := netip.MustParseAddr("10.96.0.10")
	failed := func(stderr string) error {
		return &kubectl.Error{Args: []string{"apply"}, Stderr: stderr, Err: errors.New("exit status 1")}
	}
	const invalid = `The Service "kube-dns" is invalid: spec.clusterIPs: Invalid value: ["10.96.0.10"]: failed to allocate IP 10.96.0.10: `
	const remedy = "tell kubelets the same: bake node --cluster-dns)"
	for _, test := range []struct{ stderr, ranges, want string }{
		{invalid + "the provided IP (10.96.0.10) is not in the valid range. The range of valid IPs is 10.32.0.0/24\n", "", "--cluster-ip 10.96.0.10 is out of the range of services, 10.32.0.0/24 (give one of it, and " + remedy},
		{invalid + "the provided network does not match the current range\n", "10.32.0.0/24", "--cluster-ip 10.96.0.10 is out of the range of services, 10.32.0.0/24 (give one of it, and " + remedy},
		{invalid + "the provided network does not match the current range\n", "", "--cluster-ip 10.96.0.10 is out of the range of services (--service-cluster-ip-range of the API server; " + remedy},
		{invalid + "provided IP is already allocated\n", "", "--cluster-ip 10.96.0.10 is another service's (give another, and " + remedy},
		{"Error from server (Forbidden): no", "", "kubectl apply: Error from server (Forbidden): no"},
	} {
		err := explainRefusal(ip, test.ranges, failed(test.stderr))
		if err.Error() != test.want {
			t.Errorf("explainRefusal(%s) = %v; want %s", test.stderr, err, test.want)
		}
		if _, ok := errors.AsType[*InputError](err); ok != strings.HasPrefix(test.want, "--cluster-ip") {
			t.Errorf("explainRefusal(%s) is a %T", test.stderr, err)
		}
	}
}

func TestParseList(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int{
		"": 0, "\n": 0, `{"kind": "List", "items": []}`: 0, `{"kind": "PodList"}`: 0, `{"kind": "Deployment", "metadata": {"name": "x"}}`: 1, `{"kind": "List", "items": [{}, {}]}`: 2,
	} {
		if got, err := parseList[object]([]byte(text)); err != nil || len(got) != want {
			t.Errorf("parseList(%s) = %v, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"x", `{"items": 1}`, `{"items": [1]}`} {
		if _, err := parseList[object]([]byte(text)); err == nil {
			t.Errorf("parseList(%s) fails not", text)
		}
	}
}

func FuzzParseList(f *testing.F) {
	f.Add([]byte(`{"kind": "PodList", "items": [{"metadata": {"name": "x"}, "status": {"containerStatuses": [{"state": {"waiting": {"reason": "ImagePullBackOff"}}}]}}]}`))
	f.Fuzz(func(_ *testing.T, data []byte) {
		pods, _ := parseList[podObject](data)
		events, _ := parseList[eventObject](data)
		s := snapshot{pods: pods, events: events}
		s.state()
		s.failed("x")
		s.crashes(nil)
		s.stuck()
		together(s.replicas())
		if nodes, err := parseList[nodeObject](data); err == nil {
			for _, n := range nodes {
				n.why()
			}
		}
	})
}
