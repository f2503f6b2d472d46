//go:build system

package cluster

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/nodebake/bake/bake/node"
	"github.com/nodebake/bake/firstboot"
	"github.com/nodebake/bake/firstboot/pki"
)

// joinsByToken does what a kubelet does with a bootstrap token: it asks for a
// client certificate, which nobody has to approve, and with that for one to
// serve with, which an operator does.
func (c *Cluster) joinsByToken(t *testing.T, ca *node.CA) {
	t.Helper()
	token, err := c.BootstrapToken(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	requester := &requester{cluster: c, ca: ca, key: key}

	requester.authorization = "Bearer " + token
	c.knowsTokens(t, ca, token)
	requester.ask(t, "client", "kubernetes.io/kube-apiserver-client-kubelet", "client auth")
	client := c.signed(t, "client", ca, x509.ExtKeyUsageClientAuth)

	requester.authorization = ""
	requester.certificate = &tls.Certificate{Certificate: [][]byte{client.Raw}, PrivateKey: key}
	requester.ask(t, "serving", "kubernetes.io/kubelet-serving", "server auth")
	if n, err := c.ApproveServing(t.Context(), "worker-0"); n != 0 || err != nil {
		t.Errorf("ApproveServing of another node = %d, %v; want 0", n, err)
	}
	if n, err := c.ApproveServing(t.Context(), "worker-1"); n != 1 || err != nil {
		t.Errorf("ApproveServing = %d, %v; want 1", n, err)
	}
	serving := c.signed(t, "serving", ca, x509.ExtKeyUsageServerAuth)
	if err := serving.VerifyHostname("10.240.0.21"); err != nil {
		t.Error(err)
	}
}

// knowsTokens has firstboot ask what a token is good for, as it does before it
// takes a node's certificate away.
func (c *Cluster) knowsTokens(t *testing.T, ca *node.CA, token string) {
	t.Helper()
	for _, test := range []struct{ name, token, want string }{
		{"of the cluster", token, ""},
		{"of no cluster", "07401b.f395accd246ae52d", "the API server " + c.LocalURL() + " does not take the token (401)"},
		{"of the right name", token[:7] + "0123456789abcdef", "the API server " + c.LocalURL() + " does not take the token (401)"},
	} {
		ask := func() string {
			err := firstboot.MayBootstrap(t.Context(), pki.Access{Server: c.LocalURL(), CA: ca.CertificatePEM(), Token: test.token})
			if err != nil {
				return err.Error()
			}
			return ""
		}
		got := ask()
		// The API server learns of a token a moment after it was made.
		for deadline := time.Now().Add(10 * time.Second); got != test.want && time.Now().Before(deadline); got = ask() {
			time.Sleep(50 * time.Millisecond)
		}
		if got != test.want {
			t.Errorf("MayBootstrap with a token %s = %q; want %q", test.name, got, test.want)
		}
	}
}

// requester asks for certificates for the node worker-1.
type requester struct {
	cluster       *Cluster
	ca            *node.CA
	key           *ecdsa.PrivateKey
	authorization string
	certificate   *tls.Certificate
}

func (r *requester) ask(t *testing.T, name, signer, usage string) {
	t.Helper()
	template := &x509.CertificateRequest{Subject: pkix.Name{CommonName: "system:node:worker-1", Organization: []string{"system:nodes"}}}
	if usage == "server auth" {
		template.DNSNames, template.IPAddresses = []string{"worker-1"}, []net.IP{net.IPv4(10, 240, 0, 21)}
	}
	request, err := x509.CreateCertificateRequest(rand.Reader, template, r.key)
	if err != nil {
		t.Fatal(err)
	}
	body, err := json.Marshal(map[string]any{
		"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
		"metadata": map[string]any{"name": name},
		"spec": map[string]any{
			"signerName": signer,
			"usages":     []string{"digital signature", "key encipherment", usage}, // old signers want all three
			"request":    pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: request}),
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(r.ca.Certificate())
	config := &tls.Config{RootCAs: roots}
	if r.certificate != nil {
		config.Certificates = []tls.Certificate{*r.certificate}
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}}
	post := func() (int, string) {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost,
			r.cluster.LocalURL()+"/apis/certificates.k8s.io/v1/certificatesigningrequests", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if r.authorization != "" {
			request.Header.Set("Authorization", r.authorization)
		}
		request.Header.Set("Content-Type", "application/json")
		answer, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		text, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		return answer.StatusCode, string(text)
	}
	// The API server learns of a token a moment after it was made.
	status, text := post()
	for deadline := time.Now().Add(10 * time.Second); status == http.StatusUnauthorized && time.Now().Before(deadline); status, text = post() {
		time.Sleep(50 * time.Millisecond)
	}
	if status != http.StatusCreated {
		t.Fatalf("asking for the %s certificate: %d %s", name, status, text)
	}
}

// signed waits for a request's certificate and checks it.
func (c *Cluster) signed(t *testing.T, name string, ca *node.CA, usage x509.ExtKeyUsage) *x509.Certificate {
	t.Helper()
	if out, err := c.Kubectl(t.Context(), "wait", "--for=jsonpath={.status.certificate}", "--timeout=30s", "csr/"+name); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	text, err := c.Kubectl(t.Context(), "get", "csr", name, "-o", "json")
	if err != nil {
		t.Fatal(err)
	}
	var csr struct{ Status struct{ Certificate []byte } }
	if err := json.Unmarshal([]byte(text), &csr); err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(csr.Status.Certificate)
	if block == nil {
		t.Fatalf("the %s certificate is %q; want PEM", name, csr.Status.Certificate)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := cert.Subject.String(), "CN=system:node:worker-1,O=system:nodes"; got != want {
		t.Errorf("the %s certificate is for %s; want %s", name, got, want)
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca.Certificate())
	if _, err := cert.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{usage}}); err != nil {
		t.Errorf("the %s certificate: %v", name, err)
	}
	return cert
}
