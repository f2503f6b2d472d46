package node_test

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/bake/gce"
	"github.com/nodebake/bake/bake/node"
	"github.com/nodebake/bake/firstboot/config"
	"github.com/nodebake/bake/firstboot/metadata"
	"github.com/nodebake/bake/firstboot/pki"
	"github.com/nodebake/bake/test/must"
	"github.com/nodebake/bake/test/need"
)

var now = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

func newCA(t testing.TB) *node.CA {
	t.Helper()
	ca, err := node.NewCA(node.CAConfig{Now: now})
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func worker(ca *node.CA) node.Config {
	return node.Config{
		Name:    "worker-0",
		Server:  "https://10.240.0.10:6443",
		IP:      netip.MustParseAddr("10.240.0.20"),
		PodCIDR: netip.MustParsePrefix("10.200.0.0/24"),
		CA:      ca,
		Now:     now,
	}
}

func parse(t testing.TB, certPEM []byte) *x509.Certificate {
	t.Helper()
	b, rest := pem.Decode(certPEM)
	if b == nil || len(rest) > 0 {
		t.Fatalf("not one PEM block: %q", certPEM)
	}
	cert, err := x509.ParseCertificate(b.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func TestNew(t *testing.T) {
	t.Parallel()
	own := []string{"kube-proxy-kubeconfig", "kubelet-certificate", "kubelet-key", "kubelet-kubeconfig", "kubernetes-ca", "pod-cidr"}
	for _, test := range []struct {
		name   string
		change func(*node.Config)
		keys   []string
		sans   []string
	}{
		{"the guide's", func(*node.Config) {}, own, []string{"worker-0", "10.240.0.20"}},
		{"RSA", func(c *node.Config) { c.KeyType = node.RSA }, own, []string{"worker-0", "10.240.0.20"}},
		{"a host name", func(c *node.Config) { c.Hostname = "node7.example.com." }, own, []string{"node7", "node7.example.com", "worker-0", "10.240.0.20"}},
		{"the longest host name", func(c *node.Config) { c.Hostname = strings.Repeat("n", 63) + ".example.com" }, own,
			[]string{strings.Repeat("n", 63), strings.Repeat("n", 63) + ".example.com", "worker-0", "10.240.0.20"}},
		{"more names", func(c *node.Config) {
			c.Names = append([]string{"Alias.example.com.", "worker-0"}, gce.InstanceNames("worker-0", "us-west1-c", "example")...)
			c.IPs = []netip.Addr{netip.MustParseAddr("203.0.113.20"), c.IP, netip.MustParseAddr("2001:db8::20")}
		}, own, []string{"worker-0", "alias.example.com", "worker-0.us-west1-c.c.example.internal", "worker-0.c.example.internal", "10.240.0.20", "203.0.113.20", "2001:db8::20"}},
		{"a bootstrap token", func(c *node.Config) { c.BootstrapToken = "07401b.f395accd246ae52d" },
			[]string{"bootstrap-kubeconfig", "kube-proxy-kubeconfig", "kubernetes-ca", "pod-cidr"}, nil},
		{"everything optional", func(c *node.Config) {
			c.PodCIDR, c.ClusterCIDR = netip.MustParsePrefix("10.8.1.0/24"), netip.MustParsePrefix("10.8.0.0/16")
			c.ClusterDNS, c.ClusterDomain, c.MTU = netip.MustParseAddr("10.96.0.10"), "k8s.example.com.", 8896
		}, append([]string{"cluster-cidr", "cluster-dns", "cluster-domain"}, "kube-proxy-kubeconfig", "kubelet-certificate", "kubelet-key", "kubelet-kubeconfig", "kubernetes-ca", "mtu", "pod-cidr"),
			[]string{"worker-0", "10.240.0.20"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := worker(newCA(t))
			test.change(&c)
			values, err := node.New(c)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.keys, slices.Sorted(maps.Keys(values))); diff != "" {
				t.Errorf("keys (-want +got):\n%s", diff)
			}
			configure(t, c, values, nil)
			if test.sans == nil {
				return
			}
			cert := parse(t, values["kubelet-certificate"])
			sans := slices.Clone(cert.DNSNames)
			for _, ip := range cert.IPAddresses {
				sans = append(sans, ip.String())
			}
			if diff := cmp.Diff(test.sans, sans); diff != "" {
				t.Errorf("names (-want +got):\n%s", diff)
			}
			opensslVerify(t, c, values)
		})
	}
}

// configure has firstboot make a worker of values, for both sets of components.
func configure(t *testing.T, c node.Config, values map[string][]byte, secrets map[string][]byte) {
	t.Helper()
	attributes, contents := map[string]string{}, map[string]string{}
	for key, value := range values {
		attributes[key] = string(value)
	}
	for key, value := range secrets {
		contents[key] = string(value)
	}
	host := strings.TrimSuffix(c.Hostname, ".")
	if host == "" {
		host = "worker-0.us-west1-c.c.example.internal"
	}
	m := &metadata.Metadata{Instance: metadata.Instance{Name: "worker-0", Hostname: host, Attributes: attributes,
		NetworkInterfaces: []metadata.NetworkInterface{{IP: "10.240.0.20", MTU: 8896}}}}
	wanted, err := config.Secrets(m)
	if err != nil || len(wanted) != len(secrets) {
		t.Errorf("config.Secrets = %v, %v; want %d secrets", wanted, err, len(secrets))
	}
	for _, components := range []map[string]string{
		{"kubelet": "v1.36.3", "containerd": "v2.3.4", "cni-plugins": "v1.9.1"},
		{"kubelet": "v1.21.0", "containerd": "v1.4.4", "cni-plugins": "v0.9.1"},
	} {
		_, err := config.New(config.Input{
			Metadata: m,
			Secrets:  contents,
			Image:    config.Image{Components: components, Node: config.NodeDefaults{RuntimeType: "io.containerd.runc.v2", CgroupDriver: "systemd"}},
			Now:      c.Now, Memory: 4 << 30, CPUs: 2,
		})
		if err != nil {
			t.Errorf("config.New for kubelet %s = %v; want a node", components["kubelet"], err)
		}
	}
}

func opensslVerify(t *testing.T, c node.Config, values map[string][]byte) {
	t.Helper()
	openssl := need.Program(t, "openssl", "openssl")
	dir := t.TempDir()
	for key, value := range values {
		if err := os.WriteFile(filepath.Join(dir, key), value, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, purpose := range []string{"sslserver", "sslclient"} {
		cmd := exec.CommandContext(t.Context(), openssl, "verify", "-x509_strict", "-no-CApath", "-no-CAstore", "-CAfile", "kubernetes-ca", "-attime", strconv.FormatInt(now.Unix(), 10),
			"-purpose", purpose, "-verify_hostname", c.Host(), "-verify_ip", "10.240.0.20", "kubelet-certificate")
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("openssl verify -purpose %s: %v: %s", purpose, err, out)
		}
	}
	public := func(args ...string) string {
		cmd := exec.CommandContext(t.Context(), openssl, args...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("openssl %q: %v: %s", args, err, out)
		}
		return string(out)
	}
	if a, b := public("x509", "-in", "kubelet-certificate", "-noout", "-pubkey"), public("pkey", "-in", "kubelet-key", "-pubout"); a != b {
		t.Errorf("the certificate's public key is\n%s and the key's\n%s", a, b)
	}
}

func TestUseSecrets(t *testing.T) {
	t.Parallel()
	for _, token := range []string{"", "07401b.f395accd246ae52d"} {
		c := worker(newCA(t))
		c.BootstrapToken = token
		values, err := node.New(c)
		if err != nil {
			t.Fatal(err)
		}
		public, secrets := node.UseSecrets(values, "worker-0", "example")
		for key := range secrets {
			if got, want := strings.TrimSpace(string(public[key+"-secret"])), "projects/example/secrets/worker-0-"+key+"/versions/latest"; got != want {
				t.Errorf("%s-secret = %q; want %q", key, got, want)
			}
		}
		for key, value := range public {
			if strings.Contains(string(value), "PRIVATE KEY") || strings.Contains(string(value), "client-key-data") || token != "" && strings.Contains(string(value), token) {
				t.Errorf("%s holds a secret", key)
			}
		}
		if len(public) != len(values) || len(secrets) == 0 {
			t.Errorf("%d values and %d secrets of %d values", len(public), len(secrets), len(values))
		}
		configure(t, c, public, secrets)
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	ca := newCA(t)
	for _, test := range []struct {
		name   string
		change func(*node.Config)
		field  string
		want   string
	}{
		{"capitals", func(c *node.Config) { c.Name = "Worker-0" }, "name", `"Worker-0" can't be an instance's name`},
		{"an FQDN", func(c *node.Config) { c.Name = "worker-0.example.com" }, "name", "can't be an instance's name"},
		{"64 characters", func(c *node.Config) { c.Name = strings.Repeat("a", 64) }, "name", "up to 63"},
		{"a label of 64", func(c *node.Config) { c.Hostname = strings.Repeat("a", 64) + ".example.com" }, "hostname", "a label of 64 characters; 63 is the most"},
		{"a long host name", func(c *node.Config) { c.Hostname = strings.Repeat("a.", 127) + "b" }, "hostname", "255 characters"},
		{"two dots", func(c *node.Config) { c.Hostname = "worker-0.." }, "hostname", "is not a host name"},
		{"capitals in a host name", func(c *node.Config) { c.Hostname = "Worker-0.example.com" }, "hostname", "capital letters"},
		{"a space", func(c *node.Config) { c.Names = []string{"a b"} }, "san", `"a b" is not a host name`},
		{"an underscore", func(c *node.Config) { c.Names = []string{"worker_0"} }, "san", "is not a host name"},
		{"http", func(c *node.Config) { c.Server = "http://10.240.0.10:6443" }, "server", "is not an https URL"},
		{"loopback", func(c *node.Config) { c.Server = "https://127.0.0.1:6443" }, "server", "is the worker itself"},
		{"no address", func(c *node.Config) { c.IP = netip.Addr{} }, "ip", "can't be"},
		{"a loopback address", func(c *node.Config) { c.IP = netip.MustParseAddr("127.0.0.1") }, "ip", "can't be"},
		{"an IPv6 address", func(c *node.Config) { c.IP = netip.MustParseAddr("fd20::5") }, "ip", "fd20::5 is IPv6; a worker's node and pods have IPv4 addresses only"},
		{"no pod range", func(c *node.Config) { c.PodCIDR = netip.Prefix{} }, "pod-cidr", "is missing"},
		{"a pod range with host bits", func(c *node.Config) { c.PodCIDR = netip.MustParsePrefix("10.200.0.1/24") }, "pod-cidr", "10.200.0.0/24"},
		{"a pod range outside of the cluster's", func(c *node.Config) { c.PodCIDR = netip.MustParsePrefix("10.8.0.0/24") }, "pod-cidr", "10.200.0.0/16"},
		{"a service in the pod range", func(c *node.Config) { c.ClusterDNS = netip.MustParseAddr("10.200.0.10") }, "cluster-dns", "10.200.0.0/24"},
		{"an MTU", func(c *node.Config) { c.MTU = 100 }, "mtu", "100"},
		{"a key type", func(c *node.Config) { c.KeyType = "dsa" }, "key-type", "want ecdsa or rsa"},
		{"a validity", func(c *node.Config) { c.Validity = -time.Hour }, "validity", "ends before it begins"},
		{"a token", func(c *node.Config) { c.BootstrapToken = "a b" }, "bootstrap-token", "no token has"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := worker(ca)
			test.change(&c)
			_, err := node.New(c)
			if wrong, ok := errors.AsType[*node.InputError](err); !ok || wrong.Field != test.field || !strings.Contains(err.Error(), test.want) {
				t.Errorf("New = %v; want an InputError for %s with %q", err, test.field, test.want)
			}
		})
	}
}

// TestRenewedCA has the expired certificate of a CA before the present one.
func TestRenewedCA(t *testing.T) {
	t.Parallel()
	present := newCA(t)
	key, err := pki.ParsePrivateKey(present.KeyPEM())
	if err != nil {
		t.Fatal(err)
	}
	old := *present.Certificate()
	old.NotBefore, old.NotAfter = old.NotBefore.AddDate(-5, 0, 0), old.NotBefore.AddDate(0, 0, -1)
	der := must.Get(x509.CreateCertificate(rand.Reader, &old, &old, key.Public(), key))
	both := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), present.CertificatePEM()...)
	ca, err := node.LoadCA(both, present.KeyPEM())
	if err != nil {
		t.Fatal(err)
	}
	c := worker(ca)
	c.Now = ca.Certificate().NotBefore.Add(time.Hour)
	values, err := node.New(c)
	if err != nil {
		t.Fatal(err)
	}
	if warnings, err := node.Warnings(c, values); len(warnings) > 0 || err != nil {
		t.Errorf("Warnings = %q, %v; want none", warnings, err)
	}
	c.ClusterDNS = netip.MustParseAddr("10.200.99.10")
	if values, err = node.New(c); err != nil {
		t.Fatal(err)
	}
	if warnings, err := node.Warnings(c, values); len(warnings) != 1 || !strings.HasPrefix(warnings[0], "cluster-dns, 10.200.99.10, is in cluster-cidr") || err != nil {
		t.Errorf("Warnings = %q, %v; want one about cluster-dns", warnings, err)
	}
}

// TestCAsOfOthers loads CAs as openssl writes them.
func TestCAsOfOthers(t *testing.T) {
	t.Parallel()
	openssl := need.Program(t, "openssl", "openssl")
	for _, test := range []struct {
		name string
		key  []string
		want string // in the key's PEM
	}{
		{"RSA in PKCS#1, as cfssl writes the guide's", []string{"genrsa", "-traditional", "-out", "ca-key.pem", "2048"}, "BEGIN RSA PRIVATE KEY"},
		{"RSA in PKCS#8", []string{"genrsa", "-out", "ca-key.pem", "2048"}, "BEGIN PRIVATE KEY"},
		{"EC in SEC 1", []string{"ecparam", "-genkey", "-name", "prime256v1", "-out", "ca-key.pem"}, "BEGIN EC PRIVATE KEY"},
		{"EC in PKCS#8", []string{"genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384", "-out", "ca-key.pem"}, "BEGIN PRIVATE KEY"},
		{"Ed25519", []string{"genpkey", "-algorithm", "ED25519", "-out", "ca-key.pem"}, "BEGIN PRIVATE KEY"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			for _, args := range [][]string{test.key, {"req", "-x509", "-new", "-key", "ca-key.pem", "-subj", "/CN=Kubernetes", "-days", "30", "-out", "ca.pem"}} {
				cmd := exec.CommandContext(t.Context(), openssl, args...)
				cmd.Dir = dir
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Fatalf("openssl %q: %v: %s", args, err, out)
				}
			}
			if key, err := os.ReadFile(filepath.Join(dir, "ca-key.pem")); err != nil || !strings.Contains(string(key), test.want) {
				t.Fatalf("the key is not what the test wants: %v", err)
			}
			ca, err := node.ReadCA(dir)
			if err != nil {
				t.Fatal(err)
			}
			c := worker(ca)
			c.Now = ca.Certificate().NotBefore.Add(time.Hour)
			values, err := node.New(c)
			if err != nil {
				t.Fatal(err)
			}
			cert := parse(t, values["kubelet-certificate"])
			if !cert.NotAfter.Equal(ca.Certificate().NotAfter) || !c.NotAfter().Equal(cert.NotAfter) {
				t.Errorf("the certificate ends at %s, NotAfter is %s; want them to end with the CA at %s", cert.NotAfter, c.NotAfter(), ca.Certificate().NotAfter)
			}
		})
	}
}

func TestReadCA(t *testing.T) {
	t.Parallel()
	ca, other := newCA(t), newCA(t)
	leaf, leafKey, err := ca.Issue(node.IssueConfig{CommonName: "leaf", Client: true, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	old, err := node.NewCA(node.CAConfig{Now: now.AddDate(-11, 0, 0)})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name  string
		files map[string][]byte
		want  string // in the error; empty: none
	}{
		{"the guide's names", map[string][]byte{"ca.pem": ca.CertificatePEM(), "ca-key.pem": ca.KeyPEM()}, ""},
		{"kubeadm's names", map[string][]byte{"ca.crt": ca.CertificatePEM(), "ca.key": ca.KeyPEM()}, ""},
		{"a bundle", map[string][]byte{"ca.pem": append(slices.Clone(old.CertificatePEM()), ca.CertificatePEM()...), "ca-key.pem": ca.KeyPEM()}, ""},
		{"nothing", nil, "no CA in "},
		{"no key", map[string][]byte{"ca.pem": ca.CertificatePEM()}, "ca-key.pem: "},
		{"another's key", map[string][]byte{"ca.pem": ca.CertificatePEM(), "ca-key.pem": other.KeyPEM()}, "belongs to none of its certificates"},
		{"no CA", map[string][]byte{"ca.pem": leaf, "ca-key.pem": leafKey}, "is not a CA's"},
		{"swapped", map[string][]byte{"ca.pem": ca.KeyPEM(), "ca-key.pem": ca.CertificatePEM()}, "ca.pem"},
		{"expired", map[string][]byte{"ca.pem": old.CertificatePEM(), "ca-key.pem": old.KeyPEM()}, "expired at 2025-10-29"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			for name, content := range test.files {
				if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			loaded, err := node.ReadCA(dir)
			if err == nil {
				_, err = node.New(worker(loaded))
			}
			switch {
			case test.want == "" && err != nil:
				t.Errorf("ReadCA and New = %v; want no error", err)
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "BEGIN")):
				t.Errorf("ReadCA and New = %v; want an error with %q", err, test.want)
			}
		})
	}
}

func TestIssue(t *testing.T) {
	t.Parallel()
	ca := newCA(t)
	certPEM, keyPEM, err := ca.Issue(node.IssueConfig{
		CommonName: "kubernetes", DNSNames: []string{"kubernetes.default.svc"}, IPs: []netip.Addr{netip.MustParseAddr("10.32.0.1")},
		Server: true, KeyType: node.RSA, Validity: time.Hour, Now: now,
	})
	if err != nil {
		t.Fatal(err)
	}
	cert := parse(t, certPEM)
	key, err := pki.ParsePrivateKey(keyPEM)
	if err != nil || !pki.KeyMatches(cert, key) {
		t.Errorf("the key does not match: %v", err)
	}
	if got, want := cert.NotAfter, now.Add(time.Hour); !got.Equal(want) {
		t.Errorf("NotAfter = %s; want %s", got, want)
	}
	if diff := cmp.Diff([]x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, cert.ExtKeyUsage); diff != "" {
		t.Errorf("usages (-want +got):\n%s", diff)
	}
	if cert.KeyUsage != x509.KeyUsageDigitalSignature|x509.KeyUsageKeyEncipherment || cert.IsCA {
		t.Errorf("KeyUsage = %b, IsCA = %v", cert.KeyUsage, cert.IsCA)
	}
	if cert.SerialNumber.BitLen() < 32 {
		t.Errorf("the serial number %d is not random", cert.SerialNumber)
	}
	if _, _, err := ca.Issue(node.IssueConfig{CommonName: "late", Now: now.AddDate(11, 0, 0)}); err == nil || !strings.Contains(err.Error(), "expired") {
		t.Errorf("Issue by an expired CA = %v; want an error", err)
	}
}
