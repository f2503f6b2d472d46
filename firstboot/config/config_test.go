package config_test

import (
	"errors"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/firstboot/config"
	"github.com/nodebake/bake/firstboot/metadata"
	"github.com/nodebake/bake/test/filetest"
)

// TestErrors wants one precise line for everything that can be wrong.
func TestErrors(t *testing.T) {
	t.Parallel()
	made := credentials(t)
	set := func(pairs ...string) map[string]string {
		extra := map[string]string{}
		for i := 0; i < len(pairs); i += 2 {
			extra[pairs[i]] = pairs[i+1]
		}
		return extra
	}
	nic := func(nic metadata.NetworkInterface) func(*config.Input) {
		return func(in *config.Input) {
			in.Metadata.Instance.NetworkInterfaces = []metadata.NetworkInterface{nic}
		}
	}
	host := func(name string) func(*config.Input) {
		return func(in *config.Input) { in.Metadata.Instance.Hostname = name }
	}
	project := func(key, value string) func(*config.Input) {
		return func(in *config.Input) { in.Metadata.Project.Attributes = map[string]string{key: value} }
	}
	const pods = "; right would be: 10.200.0.0/24"
	for _, test := range []struct {
		name  string
		extra map[string]string
		edit  func(*config.Input)
		want  string // of the error, after "metadata key "; a * stands for anything
	}{
		{"no host name", nil, host(""), "instance/hostname (the instance's name, which is set when it is created): is empty; *"},
		{"empty first label", nil, host(".example"), `instance/hostname (*): the first label of ".example" is empty, so it can't be a node's name; *`},
		{"64 characters", nil, host(strings.Repeat("a", 64) + ".example"), `instance/hostname (*): the first label of "a*" has 64 characters, and a node's name has at most 63; *`},
		{"capital letters", nil, host("Worker-0.example"), `instance/hostname (*): the first label of "Worker-0.example" has capital letters, so it can't be a node's name; right would be: worker-0.us-west1-c.c.example.internal, *`},
		{"underscore", nil, host("worker_0"), `instance/hostname (*): the first label of "worker_0" has a character other than a-z, 0-9 and the hyphen, *`},
		{"hyphen", nil, host("worker-.example"), `instance/hostname (*): the first label of "worker-.example" begins or ends with a hyphen, *`},

		{"no pod-cidr", set("pod-cidr", remove), nil, "pod-cidr: is missing, and the instance's first network interface has no alias IP range to take in its place" + pods},
		{"no interface", set("pod-cidr", remove), func(in *config.Input) { in.Metadata.Instance.NetworkInterfaces = nil }, "pod-cidr: is missing, *"},
		{"misspelt", set("pod-cidr", remove, "Pod_CIDR", "x", "ssh-keys", "y"), nil, "pod-cidr: is missing, and *; there is Pod_CIDR: did you mean pod-cidr?" + pods},
		{"two misspelt", set("pod-cidr", remove, "podcidr", "x"), project("pod-cird", "y"), "pod-cidr: is missing, and *; there is pod-cird: did you mean pod-cidr?; there is podcidr: did you mean pod-cidr?" + pods},
		{"two alias ranges", set("pod-cidr", remove), nic(metadata.NetworkInterface{IPAliases: []string{"10.200.1.0/24", "10.200.2.0/24"}}),
			"pod-cidr: is missing, and the instance's first network interface has 2 alias IP ranges (10.200.1.0/24, 10.200.2.0/24), of which one could be meant: set pod-cidr to it" + pods},
		{"alias without address", set("pod-cidr", remove), nic(metadata.NetworkInterface{IPAliases: []string{"/24"}}),
			`instance/network-interfaces/0/ip-aliases/0 (taken because pod-cidr is missing): "/24" has a size and no address` + pods},
		{"alias of one address", set("pod-cidr", remove), nic(metadata.NetworkInterface{IPAliases: []string{"10.200.1.7"}}), `instance/network-interfaces/0/ip-aliases/0 (*): "10.200.1.7" is a single address and no range` + pods},
		{"alias outside", set("pod-cidr", remove), nic(metadata.NetworkInterface{IPAliases: []string{"10.128.4.0/24"}}),
			"instance/network-interfaces/0/ip-aliases/0 (*): 10.128.4.0/24 is not within cluster-cidr, 10.200.0.0/16, which is the default; set cluster-cidr to the range that all pods of the cluster are in"},
		{"empty", set("pod-cidr", " \n"), nil, "pod-cidr (instance attribute): is empty" + pods},
		{"empty in the project", set("pod-cidr", remove), project("pod-cidr", ""), "pod-cidr (project attribute): is empty" + pods},
		{"not masked", set("pod-cidr", "10.200.0.5/24"), nil, `pod-cidr (instance attribute): "10.200.0.5/24" is an address in a range; a range is named by its first address; right would be: 10.200.0.0/24`},
		{"no range", set("pod-cidr", "pods"), nil, `pod-cidr (instance attribute): "pods" is no range of IPv4 addresses` + pods},
		{"IPv6", set("pod-cidr", "fd00::/64"), nil, `pod-cidr (instance attribute): "fd00::/64" is IPv6; workers give pods IPv4 addresses only` + pods},
		{"IPv4 in IPv6", set("pod-cidr", "::ffff:10.200.0.0/120"), nil, `pod-cidr (instance attribute): "::ffff:10.200.0.0/120" is *` + pods},
		{"one IPv6", set("pod-cidr", "fd00::1"), nil, `pod-cidr (instance attribute): "fd00::1" is IPv6; *` + pods},
		{"too small", set("pod-cidr", "10.200.0.0/29"), nil, `pod-cidr (instance attribute): "10.200.0.0/29" is a /29; it can be /16 to /28` + pods},
		{"too large", set("pod-cidr", "10.0.0.0/8", "cluster-cidr", "10.0.0.0/8"), nil, `pod-cidr (instance attribute): "10.0.0.0/8" is a /8; it can be /16 to /28` + pods},
		{"link-local", set("pod-cidr", "169.254.0.0/24", "cluster-cidr", "169.0.0.0/8"), nil, `pod-cidr (instance attribute): "169.254.0.0/24" is set aside for other purposes (*)` + pods},
		{"loopback", set("cluster-cidr", "127.0.0.0/8"), nil, `cluster-cidr (instance attribute): "127.0.0.0/8" is set aside*; right would be: 10.200.0.0/16`},
		{"outside", set("cluster-cidr", "10.201.0.0/16"), nil, "pod-cidr (instance attribute): 10.200.0.0/24 is not within cluster-cidr, 10.201.0.0/16"},
		{"wider than the cluster's", set("cluster-cidr", "10.200.0.0/25"), nil, "pod-cidr (instance attribute): 10.200.0.0/24 is not within cluster-cidr, 10.200.0.0/25"},
		{"the node's own address", nil, nic(metadata.NetworkInterface{IP: "10.200.0.9"}), "pod-cidr (instance attribute): 10.200.0.0/24 holds the instance's own address, 10.200.0.9: pods need a range of their own" + pods},
		{"cluster-cidr not masked", set("cluster-cidr", "10.200.0.0/12"), nil, `cluster-cidr (instance attribute): "10.200.0.0/12" is an address in a range; *; right would be: 10.192.0.0/12`},
		{"cluster-cidr of the project", nil, project("cluster-cidr", "x"), `cluster-cidr (project attribute): "x" is no range of IPv4 addresses; right would be: 10.200.0.0/16`},

		{"DNS by name", set("cluster-dns", "kube-dns"), nil, `cluster-dns (instance attribute): "kube-dns" is no IP address; right would be: 10.32.0.10`},
		{"DNS by IPv6", set("cluster-dns", "fd00::a"), nil, `cluster-dns (instance attribute): "fd00::a" is IPv6; *`},
		{"DNS on loopback", set("cluster-dns", "127.0.0.53"), nil, `cluster-dns (instance attribute): "127.0.0.53" is no address that a DNS service can have; *`},
		{"DNS in a pod", set("cluster-dns", "10.200.0.10"), nil, "cluster-dns (instance attribute): 10.200.0.10 is in this node's pod range, 10.200.0.0/24; *"},
		{"domain with a dot", set("cluster-domain", "cluster.local."), nil, `cluster-domain (instance attribute): "cluster.local." ends in a dot; right would be: cluster.local`},
		{"domain with an empty label", set("cluster-domain", "cluster..local"), nil, `cluster-domain (instance attribute): "cluster..local" is no DNS name: label 2 is empty; *`},
		{"a token for a domain", set("cluster-domain", "07401b.f395accd246ae52d"), nil, "cluster-domain (instance attribute): has the form of a bootstrap token, which belongs in bootstrap-kubeconfig; right would be: cluster.local"},
		{"a password for a domain", set("cluster-domain", "Eoc4xaith7ohShoo"), nil, "cluster-domain (instance attribute): a value of 16 characters is no DNS name: label 1 has capital letters; *"},
		{"domain that would be YAML", set("cluster-domain", "x\ny: z"), nil, `cluster-domain (instance attribute): a value of 6 characters is no DNS name: label 1 has a character other than a-z, 0-9 and the hyphen; *`},
		{"domain in capitals", set("cluster-domain", "Cluster.local"), nil, `cluster-domain (instance attribute): "Cluster.local" is no DNS name: label 1 has capital letters; *`},
		{"long label", set("cluster-domain", strings.Repeat("a", 64)), nil, `cluster-domain (instance attribute): "a*" is no DNS name: label 1 has 64 characters, and 63 are allowed; *`},
		{"long domain", set("cluster-domain", strings.Repeat("a.", 127)+"a"), nil, "cluster-domain (instance attribute): has 255 characters, and a domain has at most 253; *"},

		{"MTU of letters", set("mtu", "jumbo"), nil, `mtu (instance attribute): "jumbo" is no number of bytes; right would be: 1460`},
		{"a token for an MTU", set("mtu", "07401b.f395accd246ae52d"), nil, `mtu (instance attribute): a value of 23 characters is no number of bytes; right would be: 1460`},
		{"negative MTU", set("mtu", "-1460"), nil, `mtu (instance attribute): "-1460" is no number of bytes; *`},
		{"endless MTU", set("mtu", strings.Repeat("9", 40)), nil, `mtu (instance attribute): "9*" is no number of bytes; *`},
		{"small MTU", set("mtu", "575"), nil, "mtu (instance attribute): 575 is not between 576 and 8896; *"},
		{"large MTU", set("mtu", "9000"), nil, "mtu (instance attribute): 9000 is not between 576 and 8896; *"},
		{"MTU above the network's", set("mtu", "1500"), nil, "mtu (instance attribute): 1500 is more than the 1460 that the instance's network carries; right would be: 1460"},
		{"MTU of the network", nil, nic(metadata.NetworkInterface{MTU: 65535}), "instance/network-interfaces/0/mtu (from the instance's network): 65535 is not between 576 and 8896; *"},

		{"no CA", set("kubernetes-ca", remove, "kubernetes-ca-cert", "x"), nil, "kubernetes-ca: is missing; there is kubernetes-ca-cert: did you mean kubernetes-ca?; right would be: the text of a PEM file *"},
		{"no kube-proxy-kubeconfig", set("kube-proxy-kubeconfig", remove), nil, "kube-proxy-kubeconfig: is missing; right would be: the text of a kubeconfig *"},
		{"no credentials", set("kubelet-certificate", remove, "kubelet-key", remove, "kubelet-kubeconfig", remove), nil,
			"kubelet-certificate: is missing, as are kubelet-key and kubelet-kubeconfig; a node needs these three, or bootstrap-kubeconfig in their place; *"},
		{"misspelt bootstrap", set("kubelet-certificate", remove, "kubelet-key", remove, "kubelet-kubeconfig", remove, "bootstrap_kubeconfig", "x"), nil,
			"kubelet-certificate: is missing, *; there is bootstrap_kubeconfig: did you mean bootstrap-kubeconfig?; *"},
		{"no certificate", set("kubelet-certificate", remove, "kubelet-cert", "x"), nil,
			"kubelet-certificate: is missing, while kubelet-key and kubelet-kubeconfig are given; kubelet-certificate, kubelet-key and kubelet-kubeconfig go together; there is kubelet-cert: did you mean kubelet-certificate?; *"},
		{"only the key", set("kubelet-certificate", remove, "kubelet-kubeconfig", remove), nil, "kubelet-certificate: is missing, while kubelet-key is given; *"},
		{"no key", set("kubelet-key", remove), nil, "kubelet-key: is missing, while kubelet-certificate and kubelet-kubeconfig are given; *"},
		{"no kubeconfig", set("kubelet-kubeconfig", remove), nil, "kubelet-kubeconfig: is missing, while kubelet-certificate and kubelet-key are given; *"},
		{"two ways", set("bootstrap-kubeconfig", made["bootstrap-kubeconfig"]), nil,
			"bootstrap-kubeconfig (instance attribute): kubelet-certificate, kubelet-key and kubelet-kubeconfig are given as well; *: remove one of the two"},
		{"empty key", set("kubelet-key", "\n"), nil, "kubelet-key (instance attribute): is empty; *"},
		{"plain and secret", set("kubelet-key-secret", "projects/p/secrets/s/versions/1"), nil, "kubelet-key (instance attribute): kubelet-key-secret is given as well; remove one of the two"},
		{"empty secret", set("kubelet-key", remove, "kubelet-key-secret", "projects/p/secrets/s/versions/1"), func(in *config.Input) { in.Secrets = map[string]string{"kubelet-key": " "} },
			"kubelet-key (secret projects/p/secrets/s/versions/1): is empty; *"},
		{"secret not fetched", set("kubelet-key", remove, "kubelet-key-secret", "projects/p/secrets/s/versions/1"), nil, "kubelet-key-secret (instance attribute): BUG: *"},
		{"CIDR in a secret", set("pod-cidr", remove, "pod-cidr-secret", "projects/p/secrets/s/versions/1"), func(in *config.Input) { in.Secrets = map[string]string{"pod-cidr": "precious"} },
			"pod-cidr (secret projects/p/secrets/s/versions/1): a value of 8 characters is no range of IPv4 addresses" + pods},
		{"a token as CIDR", set("pod-cidr", "07401b.f395accd246ae52d"), nil, "pod-cidr (instance attribute): a value of 23 characters is no range of IPv4 addresses" + pods},
		{"a token as a zone", set("pod-cidr", "fe80::1%07401b.f395accd246ae52d"), nil, "pod-cidr (instance attribute): a value of 31 characters is IPv6; *"},
		{"a token as DNS", set("cluster-dns", "07401b.f395accd246ae52d"), nil, "cluster-dns (instance attribute): a value of 23 characters is no IP address; *"},
		{"a key as CIDR", set("pod-cidr", made["kubelet-key"]), nil, "pod-cidr (instance attribute): a value of * characters is no range of IPv4 addresses" + pods},

		// What pki finds is its own tests' matter: here it has to come through.
		{"CA that is none", set("kubernetes-ca", "-----"), nil, "kubernetes-ca (instance attribute): *"},
		{"another host", nil, host("worker-1.example"), "kubelet-certificate (instance attribute): *worker-0*"},
		{"key of a secret", set("kubelet-key", remove, "kubelet-key-secret", "projects/p/secrets/s/versions/1"),
			func(in *config.Input) { in.Secrets = map[string]string{"kubelet-key": credentials(t)["kubelet-key"]} }, "kubelet-key (secret projects/p/secrets/s/versions/1): *"},
	} {
		in := input(attributes(made, test.extra))
		if test.edit != nil {
			test.edit(&in)
		}
		_, err := config.New(in)
		if _, ok := errors.AsType[*config.ValueError](err); !ok {
			t.Errorf("%s: New = %v; want a ValueError", test.name, err)
			continue
		}
		if !wildcard("metadata key "+test.want, err.Error()) {
			t.Errorf("%s: New = %v\nwant metadata key %s", test.name, err, test.want)
		}
		for key, value := range made {
			if strings.Contains(key, "key") && strings.Contains(err.Error(), value[40:80]) {
				t.Errorf("%s: the error quotes %s", test.name, key)
			}
		}
		if strings.ContainsAny(err.Error(), "\r\n") {
			t.Errorf("%s: the error has several lines", test.name)
		}
	}
}

// wildcard matches text with a pattern in which * stands for anything.
func wildcard(pattern, text string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == text
	}
	rest, ok := strings.CutPrefix(text, parts[0])
	for _, part := range parts[1 : len(parts)-1] {
		i := strings.Index(rest, part)
		if i < 0 {
			return false
		}
		rest = rest[i+len(part):]
	}
	return ok && strings.HasSuffix(rest, parts[len(parts)-1])
}

func TestClock(t *testing.T) {
	t.Parallel()
	in := input(attributes(credentials(t), nil))
	in.Now = time.Date(1970, 1, 1, 0, 1, 0, 0, time.UTC)
	_, err := config.New(in)
	if wrong, ok := errors.AsType[*config.ValueError](err); !ok || !wrong.Clock {
		t.Errorf("New in 1970 = %v; want an error that passes with the clock", err)
	}
}

// TestValues has what is right, in forms that are easily taken for wrong.
func TestValues(t *testing.T) {
	t.Parallel()
	made := credentials(t)
	in := input(attributes(made, map[string]string{
		"pod-cidr": " 10.200.0.0/28\n", "cluster-dns": "169.254.20.10\n", "cluster-domain": "local\r\n", "mtu": "576 ",
		"podcidrs": "ours is there", "cluster_dns": "ours too", "Cluster_Domain": "x", "cluster-name": "somebody else's", "MTUs": "",
	}))
	in.Metadata.Instance.Hostname = "worker-0."
	n, err := config.New(in)
	if err != nil {
		t.Fatal(err)
	}
	want := []any{"worker-0", netip.MustParsePrefix("10.200.0.0/28"), netip.MustParseAddr("169.254.20.10"), "local", 576, 0}
	got := []any{n.Name, n.PodCIDR, n.ClusterDNS, n.ClusterDomain, n.MTU, len(n.Warnings)}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Errorf("New (-want +got):\n%s", diff)
	}
	// Without the real one a misspelt key is worth a line.
	delete(in.Metadata.Instance.Attributes, "cluster-dns")
	if n, err = config.New(in); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"metadata key cluster_dns means nothing here: did you mean cluster-dns?"}, n.Warnings); diff != "" {
		t.Errorf("Warnings (-want +got):\n%s", diff)
	}
	// An interface that says nothing of its MTU has Compute Engine's default.
	delete(in.Metadata.Instance.Attributes, "mtu")
	in.Metadata.Instance.NetworkInterfaces = nil
	if n, err = config.New(in); err != nil || n.MTU != 1460 {
		t.Errorf("New without an interface: MTU %v, %v; want 1460", n, err)
	}
}

// TestRangeWarnings has ranges that other nodes have as well.
func TestRangeWarnings(t *testing.T) {
	t.Parallel()
	in := input(attributes(credentials(t), map[string]string{"cluster-dns": "10.200.7.10"}))
	in.Metadata.Project.Attributes = map[string]string{"pod-cidr": in.Metadata.Instance.Attributes["pod-cidr"]}
	delete(in.Metadata.Instance.Attributes, "pod-cidr")
	n, err := config.New(in)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"metadata key pod-cidr is the project's, so every node gives its pods the same addresses: set it for each instance",
		"cluster-dns, 10.200.7.10, is in cluster-cidr, 10.200.0.0/16, whose addresses are pods': a service has one from the range that the API server gives to services",
	}
	if diff := cmp.Diff(want, n.Warnings); diff != "" {
		t.Errorf("Warnings (-want +got):\n%s", diff)
	}
}

func TestInputIsComplete(t *testing.T) {
	t.Parallel()
	for _, edit := range []func(*config.Input){
		func(in *config.Input) { in.Metadata = nil },
		func(in *config.Input) { in.Memory = 0 },
		func(in *config.Input) { in.CPUs = 0 },
		func(in *config.Input) { in.Image = config.Image{} },
	} {
		in := input(attributes(credentials(t), nil))
		edit(&in)
		var wrong *config.ValueError
		if _, err := config.New(in); err == nil || errors.As(err, &wrong) {
			t.Errorf("New of an incomplete input = %v; want an error that blames no metadata", err)
		}
	}
}

func TestSecrets(t *testing.T) {
	t.Parallel()
	const right = "projects/example.com:p-1/secrets/worker-0_key/versions/latest"
	for _, test := range []struct {
		instance, project map[string]string
		want              map[string]string
		err               string
	}{
		{nil, nil, map[string]string{}, ""},
		{map[string]string{"kubelet-key-secret": right + "\n", "other-secret": "x"}, nil, map[string]string{"kubelet-key": right}, ""},
		{nil, map[string]string{"kubelet-key-secret": right}, map[string]string{"kubelet-key": right}, ""},
		// What the instance has counts, in whichever form.
		{map[string]string{"kubelet-key": "x"}, map[string]string{"kubelet-key-secret": "wrong"}, map[string]string{}, ""},
		{map[string]string{"kubelet-key-secret": right}, map[string]string{"kubelet-key": "x", "kubelet-key-secret": "y"}, map[string]string{"kubelet-key": right}, ""},
		{nil, map[string]string{"mtu": "1", "mtu-secret": right}, nil, "metadata key mtu (project attribute): mtu-secret is given as well; remove one of the two"},
		{map[string]string{"kubelet-key-secret": ""}, nil, nil, "metadata key kubelet-key-secret (instance attribute): is empty; right would be: projects/example/secrets/kubelet-key/versions/1"},
		{map[string]string{"kubelet-key-secret": "worker-0-key"}, nil, nil, "metadata key kubelet-key-secret (instance attribute): a value of 12 characters does not name a secret's version; *"},
		{map[string]string{"kubelet-key-secret": "projects/p/secrets/s"}, nil, nil, `*: "projects/p/secrets/s" does not name a secret's version; *`},
		{map[string]string{"kubelet-key-secret": "projects/p/locations/l/secrets/s/versions/1"}, nil, nil, `*: "projects/p/locations/l/secrets/s/versions/1" does not name a secret's version; *`},
		{map[string]string{"kubelet-key-secret": "projects/p/secrets/../versions/1"}, nil, nil, `*: ".." can't be part of it; *`},
		{map[string]string{"kubelet-key-secret": "projects/p/secrets/s/versions/1?x"}, nil, nil, `*: "1?x" can't be part of it; *`},
		{map[string]string{"kubelet-key-secret": "projects//secrets/s/versions/1"}, nil, nil, `*: "" can't be part of it; *`},
	} {
		m := &metadata.Metadata{Instance: metadata.Instance{Attributes: test.instance}, Project: metadata.Project{Attributes: test.project}}
		got, err := config.Secrets(m)
		switch {
		case test.err == "" && err != nil:
			t.Errorf("Secrets(%v, %v) = %v", test.instance, test.project, err)
		case test.err != "" && (err == nil || !wildcard(test.err, err.Error())):
			t.Errorf("Secrets(%v, %v) = %v; want %s", test.instance, test.project, err, test.err)
		case !maps.Equal(got, test.want):
			t.Errorf("Secrets(%v, %v) = %v; want %v", test.instance, test.project, got, test.want)
		}
	}
}

// FuzzNew wants no value to break out of the files that it is written to.
func FuzzNew(f *testing.F) {
	f.Add("worker-0.example.", "10.200.0.0/24", "10.200.0.0/16", "10.32.0.10", "cluster.local", "1460")
	f.Add("w", "/24", "10.0.0.0/8", "fd00::a", "x\ny: z", "-1")
	f.Add("", "10.200.0.5/24", "", "", "a..b", "99999999999999999999")
	made := credentials(f)
	f.Fuzz(func(t *testing.T, host, pods, cluster, dns, domain, mtu string) {
		in := input(map[string]string{
			"pod-cidr": pods, "cluster-cidr": cluster, "cluster-dns": dns, "cluster-domain": domain, "mtu": mtu,
			"kubernetes-ca": made["kubernetes-ca"], "kube-proxy-kubeconfig": made["kube-proxy-kubeconfig"], "bootstrap-kubeconfig": made["bootstrap-kubeconfig"],
		})
		in.Metadata.Instance.Hostname = host
		n, err := config.New(in)
		if err != nil {
			if wrong, ok := errors.AsType[*config.ValueError](err); !ok || wrong.Key == "" || wrong.Problem == "" {
				t.Errorf("New = %v", err)
			}
			return
		}
		same := input(attributes(made, map[string]string{"bootstrap-kubeconfig": made["bootstrap-kubeconfig"], "kubelet-certificate": remove, "kubelet-key": remove, "kubelet-kubeconfig": remove}))
		plain, err := config.New(same)
		if err != nil {
			t.Fatal(err)
		}
		for i, file := range n.Files() {
			got, want := strings.Count(string(file.Content), "\n"), strings.Count(string(plain.Files()[i].Content), "\n")
			if got != want {
				t.Errorf("%s has %d lines where others have %d:\n%s", file.Path, got, want, file.Content)
			}
		}
	})
}

// TestDocumented wants every key in docs/metadata.md.
func TestDocumented(t *testing.T) {
	t.Parallel()
	doc := filetest.Read(t, "../../docs/metadata.md")
	for _, key := range config.Keys() {
		if !strings.Contains(string(doc), "| `"+key+"` |") {
			t.Errorf("docs/metadata.md has no row for %s", key)
		}
	}
	if !slices.IsSorted(config.Keys()) {
		t.Errorf("Keys() = %v; want them sorted", config.Keys())
	}
}
