// Package pki checks a worker's credentials before anything starts with them:
// certificates, private keys and kubeconfigs, as they come from metadata or
// Secret Manager. What kubelet would report after minutes, in the words of a
// TLS library, is said at once with the metadata key, the values concerned and
// what to do.
//
// It checks what a worker can know: that keys match certificates, who signed
// them, for whom, for what use and until when, and that kubeconfigs hold
// everything they need. It asks no server, so it knows nothing of revoked
// certificates or of tokens that no longer work, and it does not compare the
// servers of two kubeconfigs: a control plane may have several addresses.
//
// Kubeconfigs are read as kubelet reads them, whole: YAML 1.1, of which each
// field must have its type and each name be there once, also where
// current-context does not lead. Stricter than kubelet, it refuses what does not
// work on a worker (files that are not there, plugins, a server on loopback),
// what is not safe there (no verification of the server, the credentials of an
// administrator) and what kubelet silently takes half of. client-go checks the same
// files in a test; with it alone a program would be larger than firstboot may be.
package pki

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// The metadata keys.
const (
	keyCA                  = "kubernetes-ca"
	keyCertificate         = "kubelet-certificate"
	keyKey                 = "kubelet-key"
	keyKubeletKubeconfig   = "kubelet-kubeconfig"
	keyProxyKubeconfig     = "kube-proxy-kubeconfig"
	keyBootstrapKubeconfig = "bootstrap-kubeconfig"
)

// The identities that Kubernetes' node authorizer and role bindings go by; see
// https://kubernetes.io/docs/reference/access-authn-authz/node/.
const (
	nodeUser   = "system:node:" // and the node's name
	nodesGroup = "system:nodes"
	proxyUser  = "system:kube-proxy"
	adminGroup = "system:masters"
)

// NodeFiles are one worker's credentials, by metadata key. What is empty was
// not given and is not checked, but for the CA, which is always needed.
type NodeFiles struct {
	Host string       // the node's name, a first label: worker-0
	IPs  []netip.Addr // the instance's internal addresses; the first is the node's
	Now  time.Time    // what the machine's clock reads

	CA          []byte // kubernetes-ca: one or several certificates
	Certificate []byte // kubelet-certificate: kubelet serves with it; intermediates may follow
	Key         []byte // kubelet-key

	KubeletKubeconfig   []byte // kubelet-kubeconfig
	ProxyKubeconfig     []byte // kube-proxy-kubeconfig
	BootstrapKubeconfig []byte // bootstrap-kubeconfig
}

// Error is what is wrong with the value of one metadata key. It never quotes
// a secret.
type Error struct {
	Key     string // the metadata key: kubelet-certificate
	Problem string // what is wrong, with the values concerned
	Remedy  string // what to do about it
	Clock   bool   // passes when the machine's clock is set right: worth trying again
}

func (e *Error) Error() string { return e.Key + ": " + e.Problem + "; " + e.Remedy }

// CheckNode checks in and returns the first problem, an *Error.
func CheckNode(in NodeFiles) error {
	c := &checker{NodeFiles: in}
	for _, check := range []func() error{c.authorities, c.keyPair, c.kubelet, c.proxy, c.bootstrap} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

type checker struct {
	NodeFiles
	roots []*x509.Certificate
}

func (c *checker) fail(key, format string, args ...any) error {
	return &Error{Key: key, Problem: fmt.Sprintf(format, args...), Remedy: c.remedy(key)}
}

// about makes an *Error about key of err, which may be one.
func (c *checker) about(key string, err error) error {
	var told *Error
	if errors.As(err, &told) {
		return err
	}
	return c.fail(key, "%v", err)
}

func (c *checker) remedy(key string) string {
	if key == keyCA {
		return "it must be the certificate of the CA that signed the worker's and the API server's (the guide's ca.pem)"
	}
	host, ip := c.Host, "IP"
	if len(c.IPs) > 0 {
		ip = c.IPs[0].String()
	}
	command := fmt.Sprintf("`bake node %s --server URL --ip %s --pod-cidr CIDR --ca-dir DIR --output DIR --force`", host, ip)
	if key == keyBootstrapKubeconfig {
		command = fmt.Sprintf("`bake node %s --bootstrap-token TOKEN --server URL --ip %s --pod-cidr CIDR --ca-dir DIR --output DIR --force`", host, ip)
	}
	return "make it again with " + command
}

// authorities reads the CA.
func (c *checker) authorities() error {
	var err error
	if c.roots, err = ParseCertificates(c.CA); err != nil {
		return c.fail(keyCA, "%v", err)
	}
	for _, cert := range c.roots {
		if err := CanSign(cert); err != nil {
			return c.fail(keyCA, "%v", err)
		}
	}
	// A bundle may hold an old CA beside the new one, so one is enough.
	if !slices.ContainsFunc(c.roots, func(cert *x509.Certificate) bool { return c.validity(keyCA, "", cert) == nil }) {
		return c.validity(keyCA, fmt.Sprintf("the CA %q", c.roots[0].Subject.String()), c.roots[0])
	}
	return nil
}

// keyPair checks what kubelet serves with.
func (c *checker) keyPair() error {
	switch {
	case len(c.Certificate) == 0 && len(c.Key) == 0:
		return nil
	case len(c.Certificate) == 0:
		return c.fail(keyCertificate, "is missing, and kubelet-key is there")
	case len(c.Key) == 0:
		return c.fail(keyKey, "is missing, and kubelet-certificate is there")
	}
	certs, err := ParseCertificates(c.Certificate)
	if err != nil {
		return c.fail(keyCertificate, "%v", err)
	}
	key, err := ParsePrivateKey(c.Key)
	if err != nil {
		return c.fail(keyKey, "%v", err)
	}
	if err := forTLS(key); err != nil {
		return c.fail(keyKey, "%v", err)
	}
	name := "the certificate"
	if !KeyMatches(certs[0], key) {
		if len(certs) > 1 && slices.ContainsFunc(certs, func(cert *x509.Certificate) bool { return KeyMatches(cert, key) }) {
			return c.fail(keyCertificate, "the node's certificate must come first, and it is another that the key belongs to")
		}
		return c.fail(keyKey, "is not the key of kubelet-certificate (subject %q, a key of type %s; this one is %s)",
			certs[0].Subject.String(), describeKey(certs[0].PublicKey), describeKey(key.Public()))
	}
	if err := c.nodeIdentity(keyCertificate, name, certs[0]); err != nil {
		return err
	}
	if err := c.chain(keyCertificate, name, certs, x509.ExtKeyUsageServerAuth); err != nil {
		return err
	}
	return c.names(certs[0])
}

// nodeIdentity checks that cert is this node's and no other's.
func (c *checker) nodeIdentity(key, name string, cert *x509.Certificate) error {
	cn := cert.Subject.CommonName
	want := nodeUser + c.Host
	if cn != want {
		other, ok := strings.CutPrefix(cn, nodeUser)
		switch {
		case !ok:
			return c.fail(key, "%s is for the user %q; node %s must be %q", name, cn, c.Host, want)
		case strings.HasPrefix(other, c.Host+"."):
			return c.fail(key, "%s is for node %q (CN %s), and a node's name is the first label of its host name: the CN must be %s", name, other, cn, want)
		}
		return c.fail(key, "%s is for node %q (CN %s), and this host is %q", name, other, cn, c.Host)
	}
	if !slices.Contains(cert.Subject.Organization, nodesGroup) {
		return c.fail(key, "%s does not put the node into the group %s (its O is %q)", name, nodesGroup, cert.Subject.Organization)
	}
	return nil
}

// names checks that the API server can reach kubelet as cert says: by the node's
// host name, which comes first in --kubelet-preferred-address-types. It tries no
// other, so for addresses there are only warnings.
func (c *checker) names(cert *x509.Certificate) error {
	has := fmt.Sprintf("it has the names %q and the addresses %s", cert.DNSNames, cert.IPAddresses)
	for _, name := range cert.DNSNames {
		if strings.HasSuffix(name, ".") {
			return c.fail(keyCertificate, "the subject alternative name %q ends with a dot, which no certificate may have: Go refuses it or never finds it to match (want %q)",
				name, strings.TrimRight(name, "."))
		}
	}
	if cert.VerifyHostname(c.Host) != nil {
		for _, name := range cert.DNSNames {
			if strings.HasPrefix(strings.ToLower(name), strings.ToLower(c.Host)+".") {
				return c.fail(keyCertificate, "the certificate is valid for %q and not for %q, by which the API server reaches the node; %s", name, c.Host, has)
			}
		}
		return c.fail(keyCertificate, "the certificate is not valid for the host name %q, by which the API server reaches the node; %s", c.Host, has)
	}
	return nil
}

// Warnings says what CheckNode accepts and what may fail nevertheless.
func Warnings(in NodeFiles) []string {
	certs, err := ParseCertificates(in.Certificate)
	if err != nil || len(in.IPs) == 0 || certs[0].VerifyHostname(in.IPs[0].Unmap().String()) == nil {
		return nil
	}
	return []string{fmt.Sprintf("%s is not valid for this instance's address %s (it has %s): the API server reaches the node by its host name alone, unless --kubelet-preferred-address-types says otherwise",
		keyCertificate, in.IPs[0], certs[0].IPAddresses)}
}

// kubelet checks the kubeconfig that kubelet is the node with.
func (c *checker) kubelet() error {
	const key = keyKubeletKubeconfig
	if len(c.KubeletKubeconfig) == 0 {
		return nil
	}
	user, err := c.kubeconfig(key, c.KubeletKubeconfig)
	if err != nil {
		return err
	}
	if user.certs == nil {
		return c.fail(key, "%s has a token and no client certificate, and kubelet must show that it is %s%s; a bootstrap token belongs in %s", user.name, nodeUser, c.Host, keyBootstrapKubeconfig)
	}
	if err := c.nodeIdentity(key, user.certName, user.certs[0]); err != nil {
		return err
	}
	return c.chain(key, user.certName, user.certs, x509.ExtKeyUsageClientAuth)
}

func (c *checker) proxy() error {
	const key = keyProxyKubeconfig
	if len(c.ProxyKubeconfig) == 0 {
		return nil
	}
	user, err := c.kubeconfig(key, c.ProxyKubeconfig)
	if err != nil || user.certs == nil {
		return err // a token shows nothing of whose it is
	}
	if cn := user.certs[0].Subject.CommonName; cn != proxyUser {
		return c.fail(key, "%s is for the user %q; kube-proxy must be %q", user.certName, cn, proxyUser)
	}
	return c.chain(key, user.certName, user.certs, x509.ExtKeyUsageClientAuth)
}

func (c *checker) bootstrap() error {
	const key = keyBootstrapKubeconfig
	if len(c.BootstrapKubeconfig) == 0 {
		return nil
	}
	user, err := c.kubeconfig(key, c.BootstrapKubeconfig)
	if err != nil || user.certs == nil {
		return err
	}
	return c.chain(key, user.certName, user.certs, x509.ExtKeyUsageClientAuth)
}

func contains(certs []*x509.Certificate, cert *x509.Certificate) bool {
	return slices.ContainsFunc(certs, func(c *x509.Certificate) bool { return bytes.Equal(c.Raw, cert.Raw) })
}
