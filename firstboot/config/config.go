// Package config works out a worker's configuration: metadata become a Node,
// and a Node becomes files and the units that use them.
//
// Everything here is a pure function. Nothing is read from the machine and
// nothing is written; time, memory and processors are given. The same input
// gives the same bytes, so that a second run finds nothing to do.
//
// What is configured is the worker of Kubernetes the Hard Way: containerd with
// the bridge plugin of CNI, kubelet and kube-proxy, IPv4 only. Contents follow
// the versions that are baked into the image, from kubelet 1.21 and containerd
// 1.3 on. Credentials are checked by package pki.
package config

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/nodebake/bake/firstboot/metadata"
	"github.com/nodebake/bake/firstboot/pki"
)

// Defaults are those of Kubernetes the Hard Way.
const (
	defaultClusterCIDR   = "10.200.0.0/16"
	defaultClusterDNS    = "10.32.0.10"
	defaultClusterDomain = "cluster.local"

	// Compute Engine's networks have an MTU of 1460 unless they are told
	// otherwise, and of 8896 at most.
	// https://cloud.google.com/vpc/docs/mtu
	defaultMTU = 1460
	minMTU     = 576 // what every IPv4 host must accept (RFC 791)
	maxMTU     = 8896
)

// Input is all that a configuration depends on.
type Input struct {
	Metadata *metadata.Metadata
	Secrets  map[string]string // content by key, of every key that Secrets named
	Image    Image
	Now      time.Time // what the machine's clock reads
	Memory   uint64    // bytes
	CPUs     int
}

// Credentials says how a node proves who it is.
type Credentials string

// The three ways.
const (
	FromMetadata      Credentials = "metadata"       // certificate and key in metadata attributes
	FromSecretManager Credentials = "secret-manager" // the key in Secret Manager
	TLSBootstrap      Credentials = "tls-bootstrap"  // signed by the cluster, and rotated
)

// Node is a worker as its metadata describe it. Every value is valid.
type Node struct {
	Name          string       // "worker-0": the node's and the machine's name
	IP            netip.Addr   // of the first network interface; not valid where metadata name none
	PodCIDR       netip.Prefix // masked
	ClusterCIDR   netip.Prefix // masked; holds PodCIDR
	ClusterDNS    netip.Addr
	ClusterDomain string // "cluster.local"
	MTU           int    // of the bridge that pods are on
	Credentials   Credentials

	// Warnings are what may be meant and hardly is, for a log: attributes that look
	// like misspelt keys, values that other nodes have as well.
	Warnings []string

	image    Image
	releases releases
	memory   uint64
	cpus     int
	files    pki.NodeFiles
}

// Unit is a service of the node's.
type Unit struct {
	Name string   // "kubelet.service"
	Uses []string // files that it reads only when it starts
}

// ValueError says which metadata key is wrong, and what would be right. It
// never quotes a credential.
type ValueError struct {
	Key     string // "pod-cidr", or "instance/hostname" for what is no attribute
	Source  string // "instance attribute", "project attribute", "secret projects/..."; empty where there is no value
	Problem string // "\"10.200.0.5/24\" is not the first address of its range"
	Example string // of a right value; empty where Problem says what to do
	Clock   bool   // passes when the machine's clock is set right
}

func (e *ValueError) Error() string {
	s := "metadata key " + e.Key
	if e.Source != "" {
		s += " (" + e.Source + ")"
	}
	s += ": " + e.Problem
	if e.Example != "" {
		s += "; right would be: " + e.Example
	}
	return s
}

// New works out the node. What is wrong with metadata is a *ValueError; any
// other error is about the image.
func New(in Input) (*Node, error) {
	if in.Metadata == nil || in.Memory == 0 || in.CPUs <= 0 {
		return nil, errors.New("BUG: metadata, memory and processors are needed to configure a node")
	}
	n := &Node{image: in.Image, memory: in.Memory, cpus: in.CPUs}
	var err error
	if n.releases, err = in.Image.releases(); err != nil {
		return nil, fmt.Errorf("reading the image's record: %w", err)
	}
	// Steps in this order: what a later one says may depend on an earlier one.
	vs := values{in.Metadata, in.Secrets}
	for _, step := range []func(values) *ValueError{n.setName, n.setNetwork, n.setDNS, n.setMTU, n.setCredentials} {
		if err := step(vs); err != nil {
			return nil, err
		}
	}
	n.files.Now = in.Now
	if err := pki.CheckNode(n.files); err != nil {
		return nil, vs.credentialError(err)
	}
	n.Warnings = append(append(vs.warnings(), n.rangeWarnings(vs)...), pki.Warnings(n.files)...)
	return n, nil
}

func (n *Node) setName(vs values) *ValueError {
	v := value{key: "instance/hostname", source: "the instance's name, which is set when it is created"}
	label, _, _ := strings.Cut(vs.metadata.Instance.Hostname, ".")
	const example = "worker-0.us-west1-c.c.example.internal, of which the first label, worker-0, becomes the node's name"
	switch {
	case vs.metadata.Instance.Hostname == "":
		return v.errorf(example, "is empty")
	case len(label) > 63:
		return v.errorf(example, "the first label of %q has %d characters, and a node's name has at most 63", vs.metadata.Instance.Hostname, len(label))
	}
	if problem := checkLabel(label); problem != "" {
		return v.errorf(example, "the first label of %q %s, so it can't be a node's name", vs.metadata.Instance.Hostname, problem)
	}
	n.Name = label
	return nil
}

// checkLabel wants a label of RFC 1123 in lower case, as Kubernetes does.
func checkLabel(label string) string {
	switch {
	case label == "":
		return "is empty"
	case len(label) > 63:
		return fmt.Sprintf("has %d characters, and 63 are allowed", len(label))
	case label[0] == '-' || label[len(label)-1] == '-':
		return "begins or ends with a hyphen"
	case strings.ToLower(label) != label:
		return "has capital letters"
	}
	for _, c := range []byte(label) {
		if c != '-' && !isAlphanumeric(c) {
			return "has a character other than a-z, 0-9 and the hyphen"
		}
	}
	return ""
}

func (n *Node) setNetwork(vs values) *ValueError {
	if nics := vs.metadata.Instance.NetworkInterfaces; len(nics) > 0 {
		// Without an address (or with a broken one) nothing is compared with it.
		n.IP, _ = netip.ParseAddr(nics[0].IP)
	}

	cluster, err := vs.get(KeyClusterCIDR)
	if err != nil {
		return err
	}
	byDefault := ""
	if !cluster.given() {
		cluster.text, byDefault = defaultClusterCIDR, ", which is the default; set cluster-cidr to the range that all pods of the cluster are in"
	}
	if n.ClusterCIDR, err = parseRange(cluster, 8, 28); err != nil {
		return err
	}

	pod, err := vs.get(KeyPodCIDR)
	if err != nil {
		return err
	}
	if !pod.given() {
		if pod, err = vs.aliasRange(); err != nil {
			return err
		}
	}
	if n.PodCIDR, err = parseRange(pod, 16, 28); err != nil {
		return err
	}
	switch {
	case n.PodCIDR.Bits() < n.ClusterCIDR.Bits() || !n.ClusterCIDR.Contains(n.PodCIDR.Addr()):
		return pod.errorf("", "%s is not within cluster-cidr, %s%s", n.PodCIDR, n.ClusterCIDR, byDefault)
	case n.IP.IsValid() && n.PodCIDR.Contains(n.IP):
		return pod.errorf(example(KeyPodCIDR), "%s holds the instance's own address, %s: pods need a range of their own", n.PodCIDR, n.IP)
	}
	return nil
}

// aliasRange is the pod range of an instance without the attribute: the one
// alias IP range of its first interface.
func (vs values) aliasRange() (value, *ValueError) {
	var aliases []string
	if nics := vs.metadata.Instance.NetworkInterfaces; len(nics) > 0 {
		aliases = nics[0].IPAliases
	}
	switch len(aliases) {
	case 0:
		return value{}, vs.missing(KeyPodCIDR, "is missing, and the instance's first network interface has no alias IP range to take in its place%s", vs.hint(KeyPodCIDR))
	case 1:
		return value{key: "instance/network-interfaces/0/ip-aliases/0", text: aliases[0], source: "taken because pod-cidr is missing"}, nil
	}
	return value{}, vs.missing(KeyPodCIDR, "is missing, and the instance's first network interface has %d alias IP ranges (%s), of which one could be meant: set pod-cidr to it%s",
		len(aliases), strings.Join(aliases, ", "), vs.hint(KeyPodCIDR))
}

// parseRange reads an IPv4 range between two sizes.
func parseRange(v value, widest, narrowest int) (netip.Prefix, *ValueError) {
	text := strings.TrimSpace(v.text)
	want := example(v.key)
	if strings.Contains(v.key, "ip-aliases") {
		want = example(KeyPodCIDR)
	}
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		if bits, ok := strings.CutPrefix(text, "/"); ok && isDigits(bits) {
			return prefix, v.errorf(want, "%s has a size and no address", v.quote())
		}
		if addr, err := netip.ParseAddr(text); err == nil {
			if !addr.Is4() {
				return prefix, v.errorf(want, "%s is IPv6; workers give pods IPv4 addresses only", v.quote())
			}
			return prefix, v.errorf(want, "%s is a single address and no range", v.quote())
		}
		return prefix, v.errorf(want, "%s is no range of IPv4 addresses", v.quote())
	}
	addr := prefix.Addr()
	switch {
	case !addr.Is4():
		return prefix, v.errorf(want, "%s is IPv6; workers give pods IPv4 addresses only", v.quote())
	case prefix != prefix.Masked():
		return prefix, v.errorf(prefix.Masked().String(), "%s is an address in a range; a range is named by its first address", v.quote())
	case prefix.Bits() < widest || prefix.Bits() > narrowest:
		return prefix, v.errorf(want, "%s is a /%d; it can be /%d to /%d", v.quote(), prefix.Bits(), widest, narrowest)
	case !isHost(addr):
		return prefix, v.errorf(want, "%s is set aside for other purposes (this network, loopback, link-local or multicast)", v.quote())
	}
	return prefix, nil
}

// isHost tells an address that a machine or a pod can have.
func isHost(a netip.Addr) bool {
	b := a.As4()
	return b[0] != 0 && b[0] < 240 && !a.IsLoopback() && !a.IsLinkLocalUnicast() && !a.IsMulticast()
}

func (n *Node) setDNS(vs values) *ValueError {
	dns, err := vs.get(KeyClusterDNS)
	if err != nil {
		return err
	}
	if !dns.given() {
		dns.text = defaultClusterDNS
	}
	text := strings.TrimSpace(dns.text)
	var perr error
	n.ClusterDNS, perr = netip.ParseAddr(text)
	switch {
	case perr != nil:
		return dns.errorf(example(KeyClusterDNS), "%s is no IP address", dns.quote())
	case !n.ClusterDNS.Is4():
		return dns.errorf(example(KeyClusterDNS), "%s is IPv6; workers give pods IPv4 addresses only", dns.quote())
	case !isHost(n.ClusterDNS) && !n.ClusterDNS.IsLinkLocalUnicast(): // a cache on each node listens on such
		return dns.errorf(example(KeyClusterDNS), "%s is no address that a DNS service can have", dns.quote())
	case n.PodCIDR.Contains(n.ClusterDNS):
		return dns.errorf("", "%s is in this node's pod range, %s; it is the address of a service, from the range that the API server gives to services", n.ClusterDNS, n.PodCIDR)
	}

	domain, err := vs.get(KeyClusterDomain)
	if err != nil {
		return err
	}
	n.ClusterDomain = defaultClusterDomain
	if domain.given() {
		n.ClusterDomain = strings.TrimSpace(domain.text)
	}
	if regexp.MustCompile(`^[a-z0-9]{6}\.[a-z0-9]*[0-9][a-z0-9]*$`).MatchString(n.ClusterDomain) && len(n.ClusterDomain) == 23 {
		return domain.errorf(example(KeyClusterDomain), "has the form of a bootstrap token, which belongs in %s", KeyBootstrapKubeconfig)
	}
	if strings.HasSuffix(n.ClusterDomain, ".") {
		return domain.errorf(example(KeyClusterDomain), "%s ends in a dot", domain.quote())
	}
	if len(n.ClusterDomain) > 253 {
		return domain.errorf(example(KeyClusterDomain), "has %d characters, and a domain has at most 253", len(n.ClusterDomain))
	}
	for i, label := range strings.Split(n.ClusterDomain, ".") {
		if problem := checkLabel(label); problem != "" {
			return domain.errorf(example(KeyClusterDomain), "%s is no DNS name: label %d %s", domain.quote(), i+1, problem)
		}
	}
	return nil
}

// rangeWarnings are about addresses that belong to other nodes too.
func (n *Node) rangeWarnings(vs values) []string {
	var found []string
	if pod, err := vs.get(KeyPodCIDR); err == nil && pod.project {
		found = append(found, fmt.Sprintf("metadata key %s is the project's, so every node gives its pods the same addresses: set it for each instance", KeyPodCIDR))
	}
	if n.ClusterCIDR.Contains(n.ClusterDNS) {
		found = append(found, fmt.Sprintf("%s, %s, is in %s, %s, whose addresses are pods': a service has one from the range that the API server gives to services",
			KeyClusterDNS, n.ClusterDNS, KeyClusterCIDR, n.ClusterCIDR))
	}
	return found
}

func (n *Node) setMTU(vs values) *ValueError {
	nic := value{key: "instance/network-interfaces/0/mtu", text: strconv.Itoa(defaultMTU)}
	if nics := vs.metadata.Instance.NetworkInterfaces; len(nics) > 0 && nics[0].MTU != 0 {
		nic.text, nic.source = strconv.Itoa(nics[0].MTU), "from the instance's network"
	}
	mtu, err := vs.get(KeyMTU)
	if err != nil {
		return err
	}
	if !mtu.given() {
		mtu = nic
	}
	text := strings.TrimSpace(mtu.text)
	var perr error
	n.MTU, perr = strconv.Atoi(text)
	switch {
	case perr != nil || !isDigits(text):
		return mtu.errorf(example(KeyMTU), "%s is no number of bytes", mtu.quote())
	case n.MTU < minMTU || n.MTU > maxMTU:
		return mtu.errorf(example(KeyMTU), "%d is not between %d and %d", n.MTU, minMTU, maxMTU)
	}
	if of, err := strconv.Atoi(nic.text); err == nil && nic.given() && n.MTU > of {
		return mtu.errorf(nic.text, "%d is more than the %d that the instance's network carries", n.MTU, of)
	}
	return nil
}
