package pki_test

import (
	"crypto/x509"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/nodebake/bake/firstboot/pki"
	"github.com/nodebake/bake/test/need"
)

// TestOpenSSLAgrees has OpenSSL check the same chains. Who a certificate is for
// (CN, O) and the rules of Kubernetes are nothing that it knows of, so only what
// both decide is here.
func TestOpenSSLAgrees(t *testing.T) {
	t.Parallel()
	openssl := need.Program(t, "openssl", "openssl")
	ca := newCA(t, "Kubernetes", nil)
	same := newCA(t, "Kubernetes", nil)
	other := newCA(t, "Other", nil)
	between := newCA(t, "Nodes", ca)
	lateBetween := newCA(t, "Nodes", ca, func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Hour) })
	noCA := sign(t, proxyTemplate(), newECDSA(t), ca)
	type chain struct {
		name      string
		leaf      pair
		untrusted []pair
		roots     []pair
		at        time.Time
		good      bool
	}
	leaf := func(ca *pair, change ...func(*x509.Certificate)) pair {
		return sign(t, nodeTemplate(change...), newECDSA(t), ca)
	}
	node := leaf(ca)
	tests := []chain{
		{name: "good", leaf: node, roots: []pair{*ca}, good: true},
		{name: "RSA", leaf: sign(t, nodeTemplate(), newRSA(t), ca), roots: []pair{*ca}, good: true},
		{name: "Ed25519", leaf: sign(t, nodeTemplate(), newEd25519(t), ca), roots: []pair{*ca}, good: true},
		{name: "among two CAs", leaf: node, roots: []pair{*other, *ca}, good: true},
		{name: "among two CAs of one name", leaf: node, roots: []pair{*same, *ca}, good: true},
		{name: "another CA", leaf: node, roots: []pair{*other}},
		{name: "another CA of the same name", leaf: node, roots: []pair{*same}},
		{name: "self-signed", leaf: leaf(nil), roots: []pair{*ca}},
		{name: "an intermediate that comes along", leaf: leaf(between), untrusted: []pair{*between}, roots: []pair{*ca}, good: true},
		{name: "an intermediate that is trusted too", leaf: leaf(between), roots: []pair{*ca, *between}, good: true},
		{name: "an intermediate that is missing", leaf: leaf(between), roots: []pair{*ca}},
		{name: "an intermediate that expired", leaf: leaf(lateBetween), untrusted: []pair{*lateBetween}, roots: []pair{*ca}},
		{name: "a signer that is no CA", leaf: leaf(&noCA), untrusted: []pair{noCA}, roots: []pair{*ca}},
		{name: "a second before", leaf: node, roots: []pair{*ca}, at: node.cert.NotBefore.Add(-time.Second)},
		{name: "the first second", leaf: node, roots: []pair{*ca}, at: node.cert.NotBefore, good: true},
		// At notAfter itself OpenSSL has expired what RFC 5280 and Go have not.
		{name: "a second before the end", leaf: node, roots: []pair{*ca}, at: node.cert.NotAfter.Add(-time.Second), good: true},
		{name: "a second after", leaf: node, roots: []pair{*ca}, at: node.cert.NotAfter.Add(time.Second)},
		{name: "client only", leaf: leaf(ca, func(c *x509.Certificate) { c.ExtKeyUsage = c.ExtKeyUsage[1:] }), roots: []pair{*ca}},
		{name: "no extended usage at all", leaf: leaf(ca, func(c *x509.Certificate) { c.ExtKeyUsage = nil }), roots: []pair{*ca}, good: true},
		{name: "the FQDN only", leaf: leaf(ca, func(c *x509.Certificate) { c.DNSNames = []string{"worker-0.example.com"} }), roots: []pair{*ca}},
		{name: "in capitals", leaf: leaf(ca, func(c *x509.Certificate) { c.DNSNames = []string{"Worker-0"} }), roots: []pair{*ca}, good: true},
		{name: "a trailing dot", leaf: leaf(ca, func(c *x509.Certificate) { c.DNSNames = []string{"worker-0."} }), roots: []pair{*ca}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if test.at.IsZero() {
				test.at = now
			}
			dir := t.TempDir()
			write := func(name string, pairs []pair) (string, []byte) {
				var all []byte
				for _, p := range pairs {
					all = append(all, p.certPEM()...)
				}
				path := filepath.Join(dir, name)
				if err := os.WriteFile(path, all, 0o600); err != nil {
					t.Fatal(err)
				}
				return path, all
			}
			roots, rootsPEM := write("ca.pem", test.roots)
			cert, _ := write("worker-0.pem", []pair{test.leaf})
			args := []string{"verify", "-no-CApath", "-no-CAstore", "-CAfile", roots, "-attime", strconv.FormatInt(test.at.Unix(), 10),
				"-purpose", "sslserver", "-verify_hostname", "worker-0"}
			chainPEM := test.leaf.certPEM()
			if len(test.untrusted) > 0 {
				path, content := write("untrusted.pem", test.untrusted)
				args = append(args, "-untrusted", path)
				chainPEM = append(chainPEM, content...)
			}
			out, err := exec.CommandContext(t.Context(), openssl, append(args, cert)...).CombinedOutput()
			theirs := err == nil

			w := newWorld(t)
			ours := pki.CheckNode(pki.NodeFiles{Host: w.files.Host, IPs: w.files.IPs, Now: test.at, CA: rootsPEM, Certificate: chainPEM, Key: test.leaf.keyPEM(t)})
			if theirs != test.good || (ours == nil) != test.good {
				t.Errorf("openssl verify = %v (%s), CheckNode = %v; want both to say %v", theirs, out, ours, test.good)
			}
		})
	}
}

// TestOpenSSLKeys reads keys as openssl writes them.
func TestOpenSSLKeys(t *testing.T) {
	t.Parallel()
	openssl := need.Program(t, "openssl", "openssl")
	for _, test := range []struct {
		name string
		args []string
		good bool
	}{
		{"RSA", []string{"genrsa", "2048"}, true},
		{"RSA in PKCS#1", []string{"genrsa", "-traditional", "2048"}, true},
		{"EC with parameters", []string{"ecparam", "-genkey", "-name", "prime256v1"}, true},
		{"EC in PKCS#8", []string{"genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"}, true},
		{"Ed25519", []string{"genpkey", "-algorithm", "ED25519"}, true},
		{"RSA-PSS", []string{"genpkey", "-algorithm", "RSA-PSS"}, false}, // nothing of Go's reads it
		{"encrypted", []string{"genpkey", "-algorithm", "ED25519", "-aes256", "-pass", "pass:x"}, false},
		{"encrypted in PKCS#1", []string{"genrsa", "-traditional", "-aes256", "-passout", "pass:x", "2048"}, false},
		{"X25519", []string{"genpkey", "-algorithm", "X25519"}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			out, err := exec.CommandContext(t.Context(), openssl, test.args...).Output()
			if err != nil {
				t.Fatalf("openssl %q: %v", test.args, err)
			}
			if _, err := pki.ParsePrivateKey(out); (err == nil) != test.good {
				t.Errorf("ParsePrivateKey = %v; want it to be good: %v", err, test.good)
			}
		})
	}
}

// TestUncheckedSignatures has OpenSSL sign as Go's x509 can't check.
func TestUncheckedSignatures(t *testing.T) {
	t.Parallel()
	openssl := need.Program(t, "openssl", "openssl")
	for _, test := range []struct {
		name string
		args []string
	}{
		{"SHA-224", []string{"-sha224"}},
		{"PSS with the default salt of old tools", []string{"-sha256", "-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:20"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			run := func(args ...string) {
				t.Helper()
				cmd := exec.CommandContext(t.Context(), openssl, args...)
				cmd.Dir = dir
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Fatalf("openssl %q: %v\n%s", args, err, out)
				}
			}
			run("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=Kubernetes", "-days", "3650")
			run("req", "-newkey", "rsa:2048", "-nodes", "-keyout", "node.key", "-out", "node.csr", "-subj", "/O=system:nodes/CN=system:node:worker-0")
			run(append([]string{"x509", "-req", "-in", "node.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-set_serial", "1", "-days", "365", "-out", "node.pem"}, test.args...)...)
			files := pki.NodeFiles{Host: "worker-0", Now: time.Now().Add(time.Minute)}
			var err error
			for name, into := range map[string]*[]byte{"ca.pem": &files.CA, "node.pem": &files.Certificate, "node.key": &files.Key} {
				if *into, err = os.ReadFile(filepath.Join(dir, name)); err != nil {
					t.Fatal(err)
				}
			}
			want := "kubelet-certificate: the certificate is signed with an algorithm that Kubernetes can't check (as SHA-224, and RSA-PSS with a salt of another length than the digest's); want SHA-256 or better, with RSA or ECDSA; make it again with `bake node worker-0 --server URL --ip IP --pod-cidr CIDR --ca-dir DIR --output DIR --force`"
			if err := pki.CheckNode(files); err == nil || err.Error() != want {
				t.Errorf("CheckNode = %v\nwant %s", err, want)
			}
		})
	}
}
