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
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/nodebake/bake/bake/node"
)

// signsForToken does what a kubelet does with a bootstrap token: it asks for a
// client certificate, which nobody has to approve.
func (c *Cluster) signsForToken(t *testing.T, ca *node.CA) {
	t.Helper()
	token, err := c.BootstrapToken(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	request, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: "system:node:worker-1", Organization: []string{"system:nodes"}},
	}, key)
	if err != nil {
		t.Fatal(err)
	}
	body, err := json.Marshal(map[string]any{
		"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
		"metadata": map[string]any{"name": "worker-1"},
		"spec": map[string]any{
			"signerName": "kubernetes.io/kube-apiserver-client-kubelet",
			"usages":     []string{"digital signature", "key encipherment", "client auth"}, // all three, for the old one
			"request":    pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: request}),
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca.Certificate())
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	defer client.CloseIdleConnections()
	post, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.localURL()+"/apis/certificates.k8s.io/v1/certificatesigningrequests", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	post.Header.Set("Authorization", "Bearer "+token)
	post.Header.Set("Content-Type", "application/json")
	// The API server learns of a token a moment after it was made.
	var answer *http.Response
	for range 50 {
		post.Body, _ = post.GetBody()
		if answer, err = client.Do(post); err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		if answer.StatusCode != http.StatusUnauthorized {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	if answer.StatusCode != http.StatusCreated {
		text, _ := io.ReadAll(answer.Body)
		t.Fatalf("asking for a certificate: %s: %s", answer.Status, text)
	}
	if out, err := c.Kubectl(t.Context(), "wait", "--for=jsonpath={.status.certificate}", "--timeout=30s", "csr/worker-1"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var csr struct{ Status struct{ Certificate []byte } }
	text, err := c.Kubectl(t.Context(), "get", "csr", "worker-1", "-o", "json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(text), &csr); err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(csr.Status.Certificate)
	if block == nil {
		t.Fatalf("the certificate is %q; want PEM", csr.Status.Certificate)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprint(cert.Subject), "CN=system:node:worker-1,O=system:nodes"; got != want {
		t.Errorf("the certificate is for %s; want %s", got, want)
	}
	if _, err := cert.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		t.Errorf("the certificate is not the CA's: %v", err)
	}
}
