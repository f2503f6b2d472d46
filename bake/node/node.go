// Package node makes a worker's metadata on the operator's machine: what
// firstboot wants under each metadata key, with a certificate and key for the
// node that the cluster's CA signed. Everything that it makes is checked as the
// worker will check it.
//
// It makes credentials in two of firstboot's three ways, and what the third,
// Secret Manager, holds (see UseSecrets): certificates as in the guide, or a
// bootstrap token with which kubelet asks the cluster for its certificates. It
// talks to no cluster and to no cloud, and it makes no token: the API server must
// know the token, and must have the role bindings that Kubernetes comes with.
package node

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nodebake/bake/bake/gce"
	"github.com/nodebake/bake/firstboot/config"
	"github.com/nodebake/bake/firstboot/metadata"
)

// keys are all of them.
func keys() []string {
	return []string{config.KeyPodCIDR, config.KeyCA, config.KeyKubeletCertificate, config.KeyKubeletKey, config.KeyKubeletKubeconfig, config.KeyProxyKubeconfig,
		config.KeyBootstrapKubeconfig, config.KeyClusterCIDR, config.KeyClusterDNS, config.KeyClusterDomain, config.KeyMTU}
}

// secretKeys are those whose values let their reader act as the node.
func secretKeys() []string {
	return []string{config.KeyKubeletKey, config.KeyKubeletKubeconfig, config.KeyProxyKubeconfig, config.KeyBootstrapKubeconfig}
}

// Config describes one worker.
type Config struct {
	Name     string // the instance's name: worker-0
	Hostname string // its host name where it is not what Compute Engine gives it: worker-0.example.com
	Server   string // URL of the API server as the worker reaches it
	IP       netip.Addr
	PodCIDR  netip.Prefix

	CA *CA

	// Names and IPs are further names and addresses that the certificate is
	// valid for. The host's name, its first label and IP always are.
	Names []string
	IPs   []netip.Addr

	// BootstrapToken, if it is set, makes a bootstrap-kubeconfig in place of the
	// node's certificate, key and kubeconfig.
	BootstrapToken string

	KeyType  KeyType       // default: ECDSA
	Validity time.Duration // default: DefaultValidity

	// Written only if they are set; firstboot has defaults.
	ClusterCIDR   netip.Prefix
	ClusterDNS    netip.Addr
	ClusterDomain string
	MTU           int

	Now time.Time
}

// Host returns the name that the node registers under: the first label of its
// host name.
func (c Config) Host() string {
	host, _, _ := strings.Cut(c.fqdn(), ".")
	return host
}

func (c Config) fqdn() string {
	if c.Hostname != "" {
		return trimDot(c.Hostname)
	}
	return c.Name
}

// trimDot takes the root's dot off a name: DNS takes names with it, certificates
// don't.
func trimDot(name string) string { return strings.TrimSuffix(name, ".") }

// NotAfter returns when the certificates expire.
func (c Config) NotAfter() time.Time {
	return earlier(c.Now.Add(cmp.Or(c.Validity, DefaultValidity)), c.CA.cert.NotAfter)
}

// New makes the worker's metadata: the value of each key.
func New(c Config) (map[string][]byte, error) {
	if c.CA == nil || c.Now.IsZero() {
		return nil, errors.New("making a worker's metadata: BUG: CA or Now is not set")
	}
	if err := c.Check(); err != nil {
		return nil, err
	}
	fail := func(err error) (map[string][]byte, error) {
		return nil, fmt.Errorf("making the metadata of %s: %w", c.Name, err)
	}
	host := c.Host()
	ca := c.CA.CertificatePEM()
	values := c.network()
	values[config.KeyCA] = ca

	// kube-proxy's identity is the same on every node, and each gets a key of its own.
	certificate, key, err := c.CA.Issue(IssueConfig{
		CommonName:    "system:kube-proxy",
		Organizations: []string{"system:node-proxier"},
		Client:        true,
		KeyType:       c.KeyType, Validity: c.Validity, Now: c.Now,
	})
	if err != nil {
		return fail(err)
	}
	proxy := Kubeconfig{Server: c.Server, CA: ca, User: "system:kube-proxy", Certificate: certificate, Key: key}
	if values[config.KeyProxyKubeconfig], err = proxy.Encode(); err != nil {
		return fail(err)
	}

	if c.BootstrapToken != "" {
		bootstrap := Kubeconfig{Server: c.Server, CA: ca, User: "kubelet-bootstrap", Token: c.BootstrapToken}
		if values[config.KeyBootstrapKubeconfig], err = bootstrap.Encode(); err != nil {
			return fail(err)
		}
	} else {
		names, ips := c.names()
		certificate, key, err := c.CA.Issue(IssueConfig{
			CommonName:    "system:node:" + host,
			Organizations: []string{"system:nodes"},
			DNSNames:      names,
			IPs:           ips,
			Client:        true,
			Server:        true,
			KeyType:       c.KeyType, Validity: c.Validity, Now: c.Now,
		})
		if err != nil {
			return fail(err)
		}
		values[config.KeyKubeletCertificate], values[config.KeyKubeletKey] = certificate, key
		kubelet := Kubeconfig{Server: c.Server, CA: ca, User: "system:node:" + host, Certificate: certificate, Key: key}
		if values[config.KeyKubeletKubeconfig], err = kubelet.Encode(); err != nil {
			return fail(err)
		}
	}
	if _, err := check(c, values); err != nil {
		return nil, err
	}
	return values, nil
}

// network returns the values that are about addresses and names, as far as they
// are set.
func (c Config) network() map[string][]byte {
	values := map[string][]byte{}
	if c.PodCIDR.IsValid() {
		values[config.KeyPodCIDR] = line(c.PodCIDR.String())
	}
	if c.ClusterCIDR.IsValid() {
		values[config.KeyClusterCIDR] = line(c.ClusterCIDR.String())
	}
	if c.ClusterDNS.IsValid() {
		values[config.KeyClusterDNS] = line(c.ClusterDNS.String())
	}
	if c.ClusterDomain != "" {
		values[config.KeyClusterDomain] = line(trimDot(c.ClusterDomain))
	}
	if c.MTU != 0 {
		values[config.KeyMTU] = line(strconv.Itoa(c.MTU))
	}
	return values
}

// Warnings returns what the worker will log about values that New made.
func Warnings(c Config, values map[string][]byte) ([]string, error) { return check(c, values) }

// check has the worker's own code check values, as it will on the worker.
func check(c Config, values map[string][]byte) ([]string, error) {
	attributes := map[string]string{}
	for key, value := range values {
		attributes[key] = string(value)
	}
	n, err := config.New(config.Input{
		Metadata: &metadata.Metadata{Instance: metadata.Instance{
			Name:       c.Name,
			Hostname:   c.fqdn(),
			Attributes: attributes,
			// The network's MTU is not known here.
			NetworkInterfaces: []metadata.NetworkInterface{{IP: c.IP.String(), MTU: max(c.MTU, gce.MTU)}},
		}},
		// What is checked here is the same for every image and machine.
		Image:  config.Image{Components: map[string]string{"kubelet": "v1.36.3", "containerd": "v2.3.4", "cni-plugins": "v1.9.1"}, Node: config.NodeDefaults{RuntimeType: "io.containerd.runc.v2", CgroupDriver: "systemd"}},
		Now:    c.Now,
		Memory: 4 << 30,
		CPUs:   2,
	})
	var wrong *config.ValueError
	switch {
	case err == nil:
		return n.Warnings, nil
	case !errors.As(err, &wrong):
		return nil, err
	}
	problem := errors.New(wrong.Problem)
	if wrong.Example != "" {
		problem = fmt.Errorf("%w; right would be: %s", problem, wrong.Example)
	}
	return nil, &InputError{wrong.Key, problem}
}

func line(value string) []byte { return []byte(value + "\n") }

// names returns what the certificate is valid for, each once and in order.
func (c Config) names() ([]string, []netip.Addr) {
	names := []string{c.Host()}
	for _, name := range append([]string{c.fqdn(), c.Name}, c.Names...) {
		if name = strings.ToLower(trimDot(name)); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	ips := []netip.Addr{c.IP.Unmap()}
	for _, ip := range c.IPs {
		if ip = ip.Unmap(); !slices.Contains(ips, ip) {
			ips = append(ips, ip)
		}
	}
	return names, ips
}

// Keys returns the keys of values in order.
func Keys(values map[string][]byte) []string {
	var names []string
	for _, key := range keys() {
		for _, name := range []string{key, key + config.SecretSuffix} {
			if _, ok := values[name]; ok {
				names = append(names, name)
			}
		}
	}
	if len(names) != len(values) {
		panic("BUG: a metadata key that is not listed")
	}
	return names
}

// UseSecrets returns values with what is secret replaced by references to Secret
// Manager, and the secrets by their key. The secret for kubelet-key of the
// instance worker-0 is named worker-0-kubelet-key, and the worker takes its
// latest version.
func UseSecrets(values map[string][]byte, instance, project string) (public, secrets map[string][]byte) {
	public, secrets = map[string][]byte{}, map[string][]byte{}
	for key, value := range values {
		if slices.Contains(secretKeys(), key) {
			secrets[key] = value
			public[key+config.SecretSuffix] = line("projects/" + project + "/secrets/" + SecretName(instance, key) + "/versions/latest")
		} else {
			public[key] = value
		}
	}
	return public, secrets
}

// SecretName is that of the secret with an instance's key.
func SecretName(instance, key string) string { return instance + "-" + key }
