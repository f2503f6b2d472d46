package pki_test

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"net"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/firstboot/pki"
	"github.com/nodebake/bake/test/must"
)

func TestGoodNodes(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		change func(*testing.T, *world)
	}{
		{"the guide's", func(*testing.T, *world) {}},
		{"RSA in PKCS#1", func(t *testing.T, w *world) {
			key := newRSA(t)
			w.use(t, sign(t, nodeTemplate(), key, w.ca))
			w.files.Key = pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
		}},
		{"RSA in PKCS#8", func(t *testing.T, w *world) { w.use(t, sign(t, nodeTemplate(), newRSA(t), w.ca)) }},
		{"Ed25519", func(t *testing.T, w *world) { w.use(t, sign(t, nodeTemplate(), newEd25519(t), w.ca)) }},
		{"SEC 1 after its parameters", func(t *testing.T, w *world) {
			der, err := x509.MarshalECPrivateKey(w.node.key.(*ecdsa.PrivateKey))
			if err != nil {
				t.Fatal(err)
			}
			w.files.Key = append([]byte("-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"),
				pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})...)
		}},
		{"text before certificates", func(t *testing.T, w *world) {
			w.files.CA = append([]byte("Certificate:\n    Data:\n        Version: 3\n"), w.files.CA...)
		}},
		{"CRLF and no last line break", func(t *testing.T, w *world) {
			for _, file := range []*[]byte{&w.files.CA, &w.files.Certificate, &w.files.Key} {
				*file = bytes.ReplaceAll(bytes.TrimSpace(*file), []byte("\n"), []byte("\r\n"))
			}
		}},
		{"a bundle of an expired CA and the one that signed", func(t *testing.T, w *world) {
			old := newCA(t, "Kubernetes", nil, func(c *x509.Certificate) { c.NotAfter = now.AddDate(0, -1, 0) })
			w.files.CA = append(old.certPEM(), w.files.CA...)
		}},
		{"an intermediate in kubelet-certificate", func(t *testing.T, w *world) {
			between := newCA(t, "Nodes", w.ca)
			w.use(t, sign(t, nodeTemplate(), newECDSA(t), between))
			w.files.Certificate = append(w.files.Certificate, between.certPEM()...)
		}},
		{"an intermediate in kubernetes-ca", func(t *testing.T, w *world) {
			between := newCA(t, "Nodes", w.ca)
			w.use(t, sign(t, nodeTemplate(), newECDSA(t), between))
			w.files.CA = append(w.files.CA, between.certPEM()...)
		}},
		{"a CA that the known one signed, in a kubeconfig", func(t *testing.T, w *world) {
			between := newCA(t, "API", w.ca)
			w.files.KubeletKubeconfig = []byte(kubeconfig(t, between, w.node))
		}},
		{"an expired certificate beside that of the renewed CA, in a kubeconfig", func(t *testing.T, w *world) {
			old := renewed(t, w.ca, now.AddDate(-2, 0, 0), now.AddDate(0, 0, -3))
			both := base64.StdEncoding.EncodeToString(append(old.certPEM(), w.ca.certPEM()...))
			w.files.KubeletKubeconfig = []byte(replaceField("certificate-authority-data", "    certificate-authority-data: "+both)(string(w.files.KubeletKubeconfig)))
		}},
		{"a renewed CA, in a kubeconfig", func(t *testing.T, w *world) {
			w.files.KubeletKubeconfig = []byte(kubeconfig(t, renewed(t, w.ca, now.AddDate(0, -1, 0), now.AddDate(20, 0, 0)), w.node))
		}},
		{"more names than needed", func(t *testing.T, w *world) {
			w.use(t, sign(t, nodeTemplate(func(c *x509.Certificate) {
				c.DNSNames = []string{"worker-0.us-west1-c.c.example.internal", "WORKER-0"}
			}), newECDSA(t), w.ca))
		}},
		{"serving and being a client with different certificates", func(t *testing.T, w *world) {
			w.use(t, sign(t, nodeTemplate(func(c *x509.Certificate) { c.ExtKeyUsage = c.ExtKeyUsage[:1] }), newECDSA(t), w.ca))
			client := sign(t, nodeTemplate(func(c *x509.Certificate) { c.ExtKeyUsage = c.ExtKeyUsage[1:] }), newECDSA(t), w.ca)
			w.files.KubeletKubeconfig = []byte(kubeconfig(t, w.ca, client))
		}},
		{"files that firstboot writes", func(t *testing.T, w *world) {
			text := kubeconfig(t, w.ca, w.node)
			head, _, _ := strings.Cut(text, "    client-certificate-data:")
			text = head + "    client-certificate: /var/lib/kubelet/worker-0.pem\n    client-key: /var/lib/kubelet/worker-0-key.pem\n"
			text = strings.Replace(text, "certificate-authority-data: "+base64.StdEncoding.EncodeToString(w.ca.certPEM()), "certificate-authority: /var/lib/kubernetes/ca.pem", 1)
			w.files.KubeletKubeconfig = []byte(text)
		}},
		{"a bootstrap token only", func(t *testing.T, w *world) {
			w.files.Certificate, w.files.Key, w.files.KubeletKubeconfig = nil, nil, nil
		}},
		{"kube-proxy with a token", func(t *testing.T, w *world) { w.files.ProxyKubeconfig = w.files.BootstrapKubeconfig }},
		{"JSON, and fields that are not known", func(t *testing.T, w *world) {
			w.files.BootstrapKubeconfig = []byte(`{"clusters": [{"name": "c", "cluster": {"server": "https://api.example.com", "certificate-authority-data": "` +
				base64.StdEncoding.EncodeToString(w.files.CA) + `"}}], "users": [{"name": "u", "user": {"token": "` + bootstrapToken + `", "comment": 1}}],
				"contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}], "current-context": "x", "extensions": []}`)
		}},
		{"no addresses known", func(t *testing.T, w *world) { w.files.IPs = nil }},
		{"the last second", func(t *testing.T, w *world) {
			w.files.Now = w.node.cert.NotAfter
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			test.change(t, w)
			if err := pki.CheckNode(w.files); err != nil {
				t.Errorf("CheckNode = %v; want nil", err)
			}
		})
	}
}

func TestBadNodes(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		change func(*testing.T, *world)
		key    string
		want   string // parts of the problem, separated by |
	}{
		{"no CA", func(t *testing.T, w *world) { w.files.CA = nil }, "kubernetes-ca", "is empty"},
		{"a CA that is none", func(t *testing.T, w *world) { w.files.CA = w.files.Certificate }, "kubernetes-ca", `system:node:worker-0|is not a CA's`},
		{"a CA that may not sign", func(t *testing.T, w *world) {
			w.files.CA = newCA(t, "Odd", nil, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature }).certPEM()
		}, "kubernetes-ca", "may not sign"},
		{"an expired CA", func(t *testing.T, w *world) { w.files.Now = now.AddDate(20, 0, 0) }, "kubernetes-ca", "expired at 2035-11-01T12:00:00Z|ago"},
		{"a key for a CA", func(t *testing.T, w *world) { w.files.CA = w.files.Key }, "kubernetes-ca", "line 1: a PRIVATE KEY stands where only certificates belong"},
		{"a certificate twice", func(t *testing.T, w *world) { w.files.CA = append(w.files.CA, w.files.CA...) }, "kubernetes-ca", "the certificate at line 1 comes a second time"},

		{"no key", func(t *testing.T, w *world) { w.files.Key = nil }, "kubelet-key", "is missing"},
		{"no certificate", func(t *testing.T, w *world) { w.files.Certificate = nil }, "kubelet-certificate", "is missing"},
		{"another's key", func(t *testing.T, w *world) { w.files.Key = pkcs8(t, newRSA(t)) }, "kubelet-key",
			"is not the key of kubelet-certificate|ECDSA P-256|RSA 2048"},
		{"the CA first", func(t *testing.T, w *world) { w.files.Certificate = append(w.ca.certPEM(), w.files.Certificate...) },
			"kubelet-certificate", "must come first"},
		{"two keys", func(t *testing.T, w *world) { w.files.Key = append(w.files.Key, pkcs8(t, newECDSA(t))...) }, "kubelet-key",
			"line 6: a PRIVATE KEY follows the private key of line 1"},
		{"a certificate after the key", func(t *testing.T, w *world) { w.files.Key = append(w.files.Key, w.files.Certificate...) }, "kubelet-key",
			"line 6: a CERTIFICATE follows"},
		{"an encrypted key", func(t *testing.T, w *world) {
			w.files.Key = pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte("x")})
		}, "kubelet-key", "is encrypted|openssl pkey"},
		{"an old encrypted key", func(t *testing.T, w *world) {
			w.files.Key = pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Headers: map[string]string{"Proc-Type": "4,ENCRYPTED", "DEK-Info": "AES-256-CBC,00"}, Bytes: []byte("x")})
		}, "kubelet-key", "is encrypted"},
		{"an OpenSSH key", func(t *testing.T, w *world) {
			w.files.Key = pem.EncodeToMemory(&pem.Block{Type: "OPENSSH PRIVATE KEY", Bytes: []byte("x")})
		}, "kubelet-key", "ssh-keygen -p -m PKCS8"},
		{"a key that can't sign", func(t *testing.T, w *world) {
			key, err := ecdh.X25519().GenerateKey(rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			der := must.Get(x509.MarshalPKCS8PrivateKey(key))
			w.files.Key = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
		}, "kubelet-key", "can't sign"},
		{"a malformed key", func(t *testing.T, w *world) {
			w.files.Key = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("x")})
		}, "kubelet-key", "line 1: the private key is malformed"},
		{"a short RSA key", func(t *testing.T, w *world) { w.files.Key = []byte(shortRSA) }, "kubelet-key", "512 bits"},
		{"only parameters", func(t *testing.T, w *world) {
			w.files.Key = []byte("-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n")
		}, "kubelet-key", "no private key"},
		{"base64 of PEM", func(t *testing.T, w *world) {
			w.files.Certificate = []byte(base64.StdEncoding.EncodeToString(w.files.Certificate))
		}, "kubelet-certificate", "base64 -d"},
		{"line breaks lost", func(t *testing.T, w *world) {
			w.files.Certificate = bytes.ReplaceAll(bytes.TrimSpace(w.files.Certificate), []byte("\n"), []byte(`\n`))
		}, "kubelet-certificate", "single line"},
		{"a byte order mark", func(t *testing.T, w *world) { w.files.Certificate = append([]byte("\ufeff"), w.files.Certificate...) },
			"kubelet-certificate", "byte order mark"},
		{"no PEM", func(t *testing.T, w *world) { w.files.Certificate = []byte("/etc/worker-0.pem\n") }, "kubelet-certificate", "is the name of a file, where its content belongs"},
		{"neither PEM nor a path", func(t *testing.T, w *world) { w.files.Certificate = []byte("see the wiki\n") }, "kubelet-certificate", "holds no PEM block (-----BEGIN ...-----)"},
		{"cut off", func(t *testing.T, w *world) { w.files.Certificate = w.files.Certificate[:300] }, "kubelet-certificate", "begins at line 1 is damaged or incomplete"},
		{"a damaged block between good ones", func(t *testing.T, w *world) {
			bad := bytes.Replace(w.ca.certPEM(), []byte("\nM"), []byte("\n*"), 1)
			w.files.CA = append(append(w.ca.certPEM(), bad...), newCA(t, "Other", nil).certPEM()...)
		}, "kubernetes-ca", "is damaged or incomplete"},
		{"a lost beginning", func(t *testing.T, w *world) {
			_, rest, _ := bytes.Cut(w.ca.certPEM(), []byte("\n"))
			w.files.CA = append(rest, w.files.CA...)
		}, "kubernetes-ca", "is a damaged boundary"},
		{"something at the end", func(t *testing.T, w *world) { w.files.Certificate = append(w.files.Certificate, "\n\nEOF\n"...) },
			"kubelet-certificate", "something follows the last PEM block"},
		{"a certificate with headers", func(t *testing.T, w *world) {
			w.files.Certificate = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Headers: map[string]string{"a": "b"}, Bytes: w.node.cert.Raw})
		}, "kubelet-certificate", "has headers"},
		{"a malformed certificate", func(t *testing.T, w *world) {
			w.files.Certificate = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: w.node.cert.Raw[:100]})
		}, "kubelet-certificate", "the certificate at line 1 is malformed"},

		{"another host", func(t *testing.T, w *world) { w.files.Host = "worker-1" }, "kubelet-certificate",
			`for node "worker-0"|this host is "worker-1"`},
		{"the FQDN for a node's name", func(t *testing.T, w *world) {
			w.use(t, sign(t, nodeTemplate(func(c *x509.Certificate) { c.Subject.CommonName += ".example.com" }), newECDSA(t), w.ca))
		}, "kubelet-certificate", `worker-0.example.com|first label|the CN must be system:node:worker-0`},
		{"no node", func(t *testing.T, w *world) {
			w.use(t, sign(t, proxyTemplate(), newECDSA(t), w.ca))
		}, "kubelet-certificate", `for the user "system:kube-proxy"|must be "system:node:worker-0"`},
		{"no group", func(t *testing.T, w *world) {
			w.use(t, sign(t, nodeTemplate(func(c *x509.Certificate) { c.Subject.Organization = []string{"Kubernetes"} }), newECDSA(t), w.ca))
		}, "kubelet-certificate", `system:nodes|["Kubernetes"]`},
		{"expired", func(t *testing.T, w *world) { w.files.Now = w.node.cert.NotAfter.Add(49 * time.Hour) }, "kubelet-certificate",
			"expired at 2027-10-31T12:00:00Z, 2 days ago|clock reads 2027-11-02T13:00:00Z"},
		{"another CA", func(t *testing.T, w *world) {
			w.use(t, sign(t, nodeTemplate(), newECDSA(t), newCA(t, "Other", nil)))
		}, "kubelet-certificate", `was signed by "CN=Other"|kubernetes-ca holds "CN=Kubernetes"`},
		{"another CA of the same name", func(t *testing.T, w *world) {
			w.use(t, sign(t, nodeTemplate(), newECDSA(t), newCA(t, "Kubernetes", nil)))
		}, "kubelet-certificate", "with another key"},
		{"self-signed", func(t *testing.T, w *world) { w.use(t, sign(t, nodeTemplate(), newECDSA(t), nil)) }, "kubelet-certificate", "is self-signed"},
		{"an expired intermediate", func(t *testing.T, w *world) {
			between := newCA(t, "Nodes", w.ca, func(c *x509.Certificate) { c.NotAfter = now.AddDate(0, 0, -3) })
			w.use(t, sign(t, nodeTemplate(), newECDSA(t), between))
			w.files.Certificate = append(w.files.Certificate, between.certPEM()...)
		}, "kubelet-certificate", `"CN=Nodes", which signed for|expired at 2026-10-29T12:00:00Z, 3 days ago`},
		{"an expired CA that signed, beside a valid one", func(t *testing.T, w *world) {
			old := newCA(t, "Old", nil, func(c *x509.Certificate) { c.NotAfter = now.AddDate(0, 0, -3) })
			w.use(t, sign(t, nodeTemplate(), newECDSA(t), old))
			w.files.CA = append(w.files.CA, old.certPEM()...)
		}, "kubernetes-ca", `"CN=Old", which signed for|3 days ago`},
		{"not for serving", func(t *testing.T, w *world) {
			w.use(t, sign(t, nodeTemplate(func(c *x509.Certificate) { c.ExtKeyUsage = c.ExtKeyUsage[1:] }), newECDSA(t), w.ca))
		}, "kubelet-certificate", "serverAuth"},

		{"the FQDN only", func(t *testing.T, w *world) {
			w.use(t, sign(t, nodeTemplate(func(c *x509.Certificate) { c.DNSNames = []string{"worker-0.example.com"} }), newECDSA(t), w.ca))
		}, "kubelet-certificate", `valid for "worker-0.example.com" and not for "worker-0"`},
		{"no names", func(t *testing.T, w *world) {
			w.use(t, sign(t, nodeTemplate(func(c *x509.Certificate) { c.DNSNames = nil }), newECDSA(t), w.ca))
		}, "kubelet-certificate", `not valid for the host name "worker-0"|10.240.0.20`},
		{"a trailing dot", func(t *testing.T, w *world) {
			w.use(t, sign(t, nodeTemplate(func(c *x509.Certificate) { c.DNSNames = []string{"worker-0", "worker-0.example.com."} }), newECDSA(t), w.ca))
		}, "kubelet-certificate", `"worker-0.example.com." ends with a dot|want "worker-0.example.com"`},
		{"a key on P-224", func(t *testing.T, w *world) {
			key := must.Get(ecdsa.GenerateKey(elliptic.P224(), rand.Reader))
			w.use(t, sign(t, nodeTemplate(), key, w.ca))
		}, "kubelet-key", "the ECDSA key is on the curve P-224, which TLS has not; want P-256, P-384 or P-521"},
		{"a client's key on P-224", func(t *testing.T, w *world) {
			key := must.Get(ecdsa.GenerateKey(elliptic.P224(), rand.Reader))
			w.files.KubeletKubeconfig = []byte(kubeconfig(t, w.ca, sign(t, nodeTemplate(), key, w.ca)))
		}, "kubelet-kubeconfig", `user "someone" has a client key that can't be used: the ECDSA key is on the curve P-224`},

		{"kubelet with a token", func(t *testing.T, w *world) { w.files.KubeletKubeconfig = w.files.BootstrapKubeconfig },
			"kubelet-kubeconfig", "a token and no client certificate|bootstrap-kubeconfig"},
		{"kubelet as kube-proxy", func(t *testing.T, w *world) { w.files.KubeletKubeconfig = w.files.ProxyKubeconfig },
			"kubelet-kubeconfig", `client certificate of user "someone"|for the user "system:kube-proxy"`},
		{"kube-proxy as kubelet", func(t *testing.T, w *world) { w.files.ProxyKubeconfig = w.files.KubeletKubeconfig },
			"kube-proxy-kubeconfig", `must be "system:kube-proxy"`},
		{"not for clients", func(t *testing.T, w *world) {
			server := sign(t, nodeTemplate(func(c *x509.Certificate) { c.ExtKeyUsage = c.ExtKeyUsage[:1] }), newECDSA(t), w.ca)
			w.files.KubeletKubeconfig = []byte(kubeconfig(t, w.ca, server))
		}, "kubelet-kubeconfig", "clientAuth"},
		{"kube-proxy's expired", func(t *testing.T, w *world) {
			old := sign(t, proxyTemplate(func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Hour) }), newECDSA(t), w.ca)
			w.files.ProxyKubeconfig = []byte(kubeconfig(t, w.ca, old))
		}, "kube-proxy-kubeconfig", `client certificate of user "someone" expired|1h0m0s ago`},
		{"an administrator", func(t *testing.T, w *world) {
			admin := sign(t, proxyTemplate(func(c *x509.Certificate) {
				c.Subject = pkix.Name{CommonName: "admin", Organization: []string{"system:masters"}}
			}), newECDSA(t), w.ca)
			w.files.BootstrapKubeconfig = []byte(kubeconfig(t, w.ca, admin))
		}, "bootstrap-kubeconfig", "administrator"},
		{"a kubeconfig with another CA", func(t *testing.T, w *world) {
			w.files.KubeletKubeconfig = []byte(kubeconfig(t, newCA(t, "Other", nil), w.node))
		}, "kubelet-kubeconfig", `holds "CN=Other", another CA than kubernetes-ca ("CN=Kubernetes")`},
		{"a kubeconfig with another CA of the same name", func(t *testing.T, w *world) {
			w.files.KubeletKubeconfig = []byte(kubeconfig(t, newCA(t, "Kubernetes", nil), w.node))
		}, "kubelet-kubeconfig", "the name is the same, the key is not"},
		{"a kubeconfig with the expired certificate of a renewed CA", func(t *testing.T, w *world) {
			old := renewed(t, w.ca, now.AddDate(-2, 0, 0), now.AddDate(0, 0, -3))
			w.files.KubeletKubeconfig = []byte(kubeconfig(t, old, w.node))
		}, "kubelet-kubeconfig", `the CA "CN=Kubernetes" in its certificate-authority-data expired at 2026-10-29T12:00:00Z, 3 days ago`},
		{"a kubeconfig with the node's own certificate for a CA", func(t *testing.T, w *world) {
			w.files.KubeletKubeconfig = []byte(kubeconfig(t, &w.node, w.node))
		}, "kubelet-kubeconfig", `its certificate-authority-data: the certificate "CN=system:node:worker-0,O=system:nodes" is not a CA's`},
		{"a kubeconfig with the CA above kubernetes-ca", func(t *testing.T, w *world) {
			below := newCA(t, "Below", w.ca)
			w.use(t, sign(t, nodeTemplate(), newECDSA(t), below))
			w.files.CA = below.certPEM()
			w.files.KubeletKubeconfig = []byte(kubeconfig(t, w.ca, w.node))
		}, "kubelet-kubeconfig", `holds "CN=Kubernetes", another CA than kubernetes-ca ("CN=Below")`},
		{"a kubeconfig with another's key", func(t *testing.T, w *world) {
			other := pair{w.node.cert, newECDSA(t)}
			w.files.KubeletKubeconfig = []byte(kubeconfig(t, w.ca, other))
		}, "kubelet-kubeconfig", "not the one of its client certificate"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			test.change(t, w)
			checkProblem(t, w, test.key, test.want)
		})
	}
}

// shortRSA is a key that only tests use.
const shortRSA = `-----BEGIN RSA PRIVATE KEY-----
MIIBOQIBAAJBALnPUUhgu5TCNf18rY2HTKS9x7j1K4rzXGhhlkIlhSpAPfXHA555
AVPZivLXcaVQv85A9JFm/6tGhSI2MD3sEW8CAwEAAQJALfEAm/Cu8J0EVGSbVL77
SFBULXsRBQ4e7wAR8tDsGAHWdTpvHEiAhjYXInXejbUdoqWiteGmiOh6eSV/6CcE
IQIhANvERNujH3aJrkQPakT2DosyqofXUgZzCXKVJ8qQZM3dAiEA2HHTe1r4BUfS
NwSWbKTWN4S5CKKBN/6OytzvKZ3/5bsCIBHVPVktRXJS/cccER2Dce6tr9TSDh/j
2dJodBAl42gpAiAwqudyhTHffha2aEGqjCXeteklF+UWQha5ZpQgN3aioQIgNIVg
+fpte6SOBHe8fhkVyOaJERIOf+8bfSyVBuXpOPU=
-----END RSA PRIVATE KEY-----
`

func checkProblem(t *testing.T, w *world, key, want string) {
	t.Helper()
	err := pki.CheckNode(w.files)
	problem, ok := errors.AsType[*pki.Error](err)
	if !ok {
		t.Fatalf("CheckNode = %v; want an *Error about %s", err, key)
	}
	if problem.Key != key || problem.Clock {
		t.Errorf("CheckNode = %v (clock: %v); want it to be about %s", err, problem.Clock, key)
	}
	for part := range strings.SplitSeq(want, "|") {
		if !strings.Contains(problem.Problem, part) {
			t.Errorf("CheckNode = %v; want %q in the problem", err, part)
		}
	}
	if problem.Remedy == "" || strings.ContainsAny(err.Error(), "\n\r") {
		t.Errorf("CheckNode = %q; want one line with a remedy", err)
	}
	checkNoSecrets(t, err, w.files.Key, w.files.KubeletKubeconfig, w.files.ProxyKubeconfig, w.files.BootstrapKubeconfig)
}

// checkNoSecrets looks for what is base64 in files, as keys are, and for tokens
// and passwords of these tests in err.
func checkNoSecrets(t *testing.T, err error, files ...[]byte) {
	t.Helper()
	secrets := []string{bootstrapToken, "f395accd246ae52d"}
	for _, file := range files {
		for _, match := range regexp.MustCompile(`[A-Za-z0-9+/=]{24}`).FindAll(file, -1) {
			secrets = append(secrets, string(match))
		}
	}
	for _, secret := range secrets {
		if strings.Contains(err.Error(), secret) {
			t.Errorf("the error %q quotes %q", err, secret)
		}
	}
}

// TestWarnings is about addresses: the API server asks by the host name.
func TestWarnings(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if got := pki.Warnings(w.files); got != nil {
		t.Errorf("Warnings of the guide's certificate = %q; want none", got)
	}
	w.use(t, sign(t, nodeTemplate(func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)} }), newECDSA(t), w.ca))
	if err := pki.CheckNode(w.files); err != nil {
		t.Errorf("CheckNode with 127.0.0.1 in the certificate = %v; want nil", err)
	}
	want := []string{"kubelet-certificate is not valid for this instance's address 10.240.0.20 (it has [127.0.0.1]): the API server reaches the node by its host name alone, unless --kubelet-preferred-address-types says otherwise"}
	if diff := cmp.Diff(want, pki.Warnings(w.files)); diff != "" {
		t.Errorf("Warnings (-want +got):\n%s", diff)
	}
}

// renewed is a CA with the same name and key, and another time.
func renewed(t *testing.T, ca *pair, from, to time.Time) *pair {
	t.Helper()
	template := *ca.cert
	template.NotBefore, template.NotAfter = from, to
	p := sign(t, &template, ca.key, nil)
	return &p
}

// TestAuthorityNotYetValid is about the clock, as for other certificates.
func TestAuthorityNotYetValid(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.files.KubeletKubeconfig = []byte(kubeconfig(t, renewed(t, w.ca, now.AddDate(0, 0, 1), now.AddDate(20, 0, 0)), w.node))
	var problem *pki.Error
	if err := pki.CheckNode(w.files); !errors.As(err, &problem) || !problem.Clock || problem.Key != "kubelet-kubeconfig" {
		t.Fatalf("CheckNode = %v; want an error about the clock and kubelet-kubeconfig", err)
	}
	want := `the CA "CN=Kubernetes" in its certificate-authority-data is not yet valid: it begins at 2026-11-02T12:00:00Z, and this machine's clock reads 2026-11-01T12:00:00Z`
	if problem.Problem != want {
		t.Errorf("Problem = %q; want %q", problem.Problem, want)
	}
}

func TestClockBehind(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.files.Now = w.node.cert.NotBefore.Add(-time.Minute)
	var problem *pki.Error
	if err := pki.CheckNode(w.files); !errors.As(err, &problem) || !problem.Clock || problem.Key != "kubelet-certificate" {
		t.Fatalf("CheckNode with a clock before notBefore = %#v; want an error about the clock", err)
	}
	for _, part := range []string{"begins at 2026-10-31T12:00:00Z", "clock reads 2026-10-31T11:59:00Z"} {
		if !strings.Contains(problem.Problem, part) {
			t.Errorf("Problem = %q; want %q in it", problem.Problem, part)
		}
	}
	if !strings.Contains(problem.Remedy, "chrony") {
		t.Errorf("Remedy = %q; want chrony in it", problem.Remedy)
	}
	// A clock without a battery.
	w.files.Now = time.Unix(0, 0)
	if err := pki.CheckNode(w.files); !errors.As(err, &problem) || !problem.Clock || problem.Key != "kubernetes-ca" {
		t.Errorf("CheckNode in 1970 = %v; want an error about the clock", err)
	}
	// What is wrong whatever the time is said first.
	w.files.Key = pkcs8(t, newECDSA(t))
	w.files.Now = w.node.cert.NotBefore.Add(-time.Minute)
	if err := pki.CheckNode(w.files); !errors.As(err, &problem) || problem.Clock || problem.Key != "kubelet-key" {
		t.Errorf("CheckNode = %v; want an error about the key", err)
	}
}
