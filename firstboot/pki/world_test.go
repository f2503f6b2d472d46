package pki_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"math/big"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/nodebake/bake/firstboot/pki"
	"github.com/nodebake/bake/test/must"
)

// now is when all of these tests run.
var now = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

// pair is a certificate and its key.
type pair struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func (p pair) certPEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.cert.Raw})
}

func (p pair) keyPEM(t testing.TB) []byte { return pkcs8(t, p.key) }

func pkcs8(t testing.TB, key crypto.Signer) []byte {
	t.Helper()
	der := must.Get(x509.MarshalPKCS8PrivateKey(key))
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

func newECDSA(t testing.TB) crypto.Signer {
	t.Helper()
	key := must.Get(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	return key
}

func newRSA(t testing.TB) *rsa.PrivateKey {
	t.Helper()
	key := must.Get(rsa.GenerateKey(rand.Reader, 2048))
	return key
}

func newEd25519(t testing.TB) crypto.Signer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// sign makes a certificate of template for key, signed by ca, or by itself
// without one.
func sign(t testing.TB, template *x509.Certificate, key crypto.Signer, ca *pair) pair {
	t.Helper()
	parent, signer := template, key
	if ca != nil {
		parent, signer = ca.cert, ca.key
	}
	template.SerialNumber = big.NewInt(now.UnixNano())
	der := must.Get(x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer))
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return pair{cert, key}
}

func newCA(t testing.TB, name string, parent *pair, change ...func(*x509.Certificate)) *pair {
	t.Helper()
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             now.AddDate(-1, 0, 0),
		NotAfter:              now.AddDate(9, 0, 0),
		KeyUsage:              x509.KeyUsageCertSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	for _, c := range change {
		c(template)
	}
	p := sign(t, template, newECDSA(t), parent)
	return &p
}

// nodeTemplate is the guide's certificate of worker-0.
func nodeTemplate(change ...func(*x509.Certificate)) *x509.Certificate {
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: "system:node:worker-0", Organization: []string{"system:nodes"}},
		NotBefore:   now.Add(-24 * time.Hour),
		NotAfter:    now.Add(364 * 24 * time.Hour),
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		DNSNames:    []string{"worker-0"},
		IPAddresses: []net.IP{net.IPv4(10, 240, 0, 20).To4()},
	}
	for _, c := range change {
		c(template)
	}
	return template
}

func proxyTemplate(change ...func(*x509.Certificate)) *x509.Certificate {
	return nodeTemplate(append([]func(*x509.Certificate){func(c *x509.Certificate) {
		c.Subject = pkix.Name{CommonName: "system:kube-proxy", Organization: []string{"system:node-proxier"}}
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
		c.DNSNames, c.IPAddresses = nil, nil
	}}, change...)...)
}

// kubeconfig writes a kubeconfig as kubectl does.
func kubeconfig(t testing.TB, ca *pair, user pair) string {
	t.Helper()
	return strings.NewReplacer(
		"CA64", base64.StdEncoding.EncodeToString(ca.certPEM()),
		"CERT64", base64.StdEncoding.EncodeToString(user.certPEM()),
		"KEY64", base64.StdEncoding.EncodeToString(user.keyPEM(t)),
	).Replace(`apiVersion: v1
clusters:
- cluster:
    certificate-authority-data: CA64
    server: https://203.0.113.5:6443
  name: kubernetes-the-hard-way
contexts:
- context:
    cluster: kubernetes-the-hard-way
    user: someone
  name: default
current-context: default
kind: Config
preferences: {}
users:
- name: someone
  user:
    client-certificate-data: CERT64
    client-key-data: KEY64
`)
}

// withToken puts a token in the place of the client certificate.
func withToken(kubeconfig, token string) string {
	head, _, _ := strings.Cut(kubeconfig, "    client-certificate-data:")
	return head + "    token: " + token + "\n"
}

const bootstrapToken = "07401b.f395accd246ae52d"

// world is a cluster's CA and what worker-0 was given.
type world struct {
	ca    *pair
	node  pair
	files pki.NodeFiles
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{ca: newCA(t, "Kubernetes", nil)}
	w.node = sign(t, nodeTemplate(), newECDSA(t), w.ca)
	proxy := sign(t, proxyTemplate(), newECDSA(t), w.ca)
	w.files = pki.NodeFiles{
		Host:                "worker-0",
		IPs:                 []netip.Addr{netip.MustParseAddr("10.240.0.20")},
		Now:                 now,
		CA:                  w.ca.certPEM(),
		Certificate:         w.node.certPEM(),
		Key:                 w.node.keyPEM(t),
		KubeletKubeconfig:   []byte(kubeconfig(t, w.ca, w.node)),
		ProxyKubeconfig:     []byte(kubeconfig(t, w.ca, proxy)),
		BootstrapKubeconfig: []byte(withToken(kubeconfig(t, w.ca, proxy), bootstrapToken)),
	}
	return w
}

// use gives the node another certificate for serving.
func (w *world) use(t testing.TB, p pair) {
	w.files.Certificate, w.files.Key = p.certPEM(), p.keyPEM(t)
}
