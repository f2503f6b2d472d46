package kubeconfig_test

import (
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/nodebake/bake/bake/kubeconfig"
	"github.com/nodebake/bake/bake/node"
	"github.com/nodebake/bake/test/must"
)

func TestCheck(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	good := w.admin(w.ca)
	if err := kubeconfig.Check(good, w.now); err != nil {
		t.Fatalf("Check = %v; want that all is well", err)
	}
	subject, err := kubeconfig.ReadSubject(good.Certificate)
	if err != nil || subject.Name != "admin" || strings.Join(subject.Groups, " ") != kubeconfig.Group || !subject.NotAfter.After(w.now.Add(364*24*time.Hour)) {
		t.Errorf("ReadSubject = %+v, %v", subject, err)
	}
	serverCert, serverKey := w.issue(w.ca, node.IssueConfig{CommonName: "admin", Server: true})
	old, oldKey := w.issue(w.ca, node.IssueConfig{CommonName: "admin", Client: true, Validity: time.Hour, Now: w.now.Add(-time.Minute)})
	stranger := w.admin(w.newCA("other"))
	sameName := w.admin(w.newCA("kubernetes"))
	for _, test := range []struct {
		name   string
		change func(k *node.Kubeconfig)
		now    time.Duration // later
		want   string
	}{
		{"http", func(k *node.Kubeconfig) { k.Server = "http://x:6443" }, 0, `server: the server "http://x:6443" is not an https URL`},
		{"loopback without TLS", func(k *node.Kubeconfig) { k.Server = "http://127.0.0.1:6443" }, 0, `server: the server "http://127.0.0.1:6443" is not an https URL`},
		{"loopback with a port that is none", func(k *node.Kubeconfig) { k.Server = "https://[::1]:99999" }, 0, `server: the server "https://[::1]:99999" has a port that is none`},
		{"a user in the URL", func(k *node.Kubeconfig) { k.Server = "https://a:s3cr3t@localhost" }, 0, "server: the server's URL has a user name in it"},
		{"no CA", func(k *node.Kubeconfig) { k.CA = []byte("x") }, 0, "certificate-authority: holds no PEM block"},
		{"a CA that is none", func(k *node.Kubeconfig) { k.CA = k.Certificate }, 0, `certificate-authority: the certificate "CN=admin,O=system:masters" is not a CA's`},
		{"an old CA", func(*node.Kubeconfig) {}, 11 * 365 * 24 * time.Hour, `certificate-authority: the certificate of "CN=kubernetes" expired at `},
		{"no certificate", func(k *node.Kubeconfig) { k.Certificate = k.Key }, 0, "client-certificate: "},
		{"no key", func(k *node.Kubeconfig) { k.Key = k.Certificate }, 0, "client-key: "},
		{"another key", func(k *node.Kubeconfig) { k.Key = stranger.Key }, 0, `client-key: is not the key of the certificate of "CN=admin,O=system:masters"`},
		{"another CA", func(k *node.Kubeconfig) { k.CA = stranger.CA }, 0, `client-certificate: the certificate of "CN=admin,O=system:masters" was signed by "CN=kubernetes", and not by this CA, "CN=other"`},
		{"another CA of the same name", func(k *node.Kubeconfig) { k.CA = sameName.CA }, 0, `client-certificate: the certificate of "CN=admin,O=system:masters" was signed by "CN=kubernetes", and not by this CA, "CN=kubernetes": the name is the same, the key is not`},
		{"for servers", func(k *node.Kubeconfig) { k.Certificate, k.Key = serverCert, serverKey }, 0, `client-certificate: the certificate of "CN=admin" is not for clients`},
		{"expired", func(k *node.Kubeconfig) { k.Certificate, k.Key = old, oldKey }, 2 * time.Hour, `client-certificate: the certificate of "CN=admin" expired at `},
		{"not yet valid", func(k *node.Kubeconfig) { k.Certificate, k.Key = old, oldKey }, -7 * time.Minute, `certificate-authority: the certificate of "CN=kubernetes" is valid from `},
	} {
		k := good
		test.change(&k)
		err := kubeconfig.Check(k, w.now.Add(test.now))
		if _, ok := errors.AsType[*node.InputError](err); !ok || !strings.HasPrefix(err.Error(), test.want) {
			t.Errorf("%s: Check = %v; want %s", test.name, err, test.want)
		}
	}
	for _, ok := range []string{"https://127.0.0.1:6443", "https://localhost", "https://[::1]:6443", "https://api.example.com:6443/prefix"} {
		if err := kubeconfig.CheckServer(ok); err != nil {
			t.Errorf("CheckServer(%s) = %v; want that it is right", ok, err)
		}
	}
}

// serve is an API server with a certificate, which takes clients of a CA.
func serve(t *testing.T, cert, key []byte, status int) string {
	t.Helper()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/version" || len(r.TLS.PeerCertificates) != 1 || r.TLS.PeerCertificates[0].Subject.CommonName != "admin" {
			t.Errorf("the server is asked for %s with %d certificates", r.URL.Path, len(r.TLS.PeerCertificates))
		}
		rw.WriteHeader(status)
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	s.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequestClientCert}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.URL
}

func TestAsk(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	k := w.admin(w.ca)
	issue := func(ca *node.CA, c node.IssueConfig) string {
		c.CommonName, c.Server = "kubernetes", true
		cert, key := w.issue(ca, c)
		return serve(t, cert, key, http.StatusOK)
	}
	here := addresses("127.0.0.1")
	cert, key := w.issue(w.ca, node.IssueConfig{CommonName: "kubernetes", Server: true, IPs: here})
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	silent := must.Get(net.Listen("tcp", "127.0.0.1:0"))
	silent.Close()
	for _, test := range []struct {
		name, server, want string
		silent             bool
	}{
		{"all fits", serve(t, cert, key, http.StatusOK), "", false},
		{"without the right to ask", serve(t, cert, key, http.StatusForbidden), "", false},
		{"other clients", serve(t, cert, key, http.StatusUnauthorized), "the server does not take the client certificate (401 Unauthorized): it trusts another CA for clients (--client-ca-file), or its clock is wrong", false},
		{"another name", issue(w.ca, node.IssueConfig{DNSNames: []string{"kubernetes", "api.example.com"}, IPs: addresses("10.240.0.10")}),
			"the server's certificate is for kubernetes, api.example.com, 10.240.0.10, and not for 127.0.0.1 (reach it by one of these, or make it a certificate for 127.0.0.1 too)", false},
		{"no name", issue(w.ca, node.IssueConfig{}), "the server's certificate is for no name and no address, and not for 127.0.0.1 (reach it by one of these, or make it a certificate for 127.0.0.1 too)", false},
		{"another CA", issue(w.newCA("other"), node.IssueConfig{IPs: here}), `the server's certificate, of "CN=kubernetes", was signed by "CN=other", and not by this CA, "CN=kubernetes" (give the CA of this server's cluster)`, false},
		{"another CA of the same name", issue(w.newCA("kubernetes"), node.IssueConfig{IPs: here}), `the server's certificate, of "CN=kubernetes", was signed by "CN=kubernetes", and not by this CA, "CN=kubernetes": the name is the same, the key is not (give the CA of this server's cluster)`, false},
		{"expired", issue(w.ca, node.IssueConfig{IPs: here, Now: w.now.Add(-time.Hour), Validity: time.Minute}), "the server's certificate is not valid now: from ", false},
		{"no TLS", strings.Replace(plain.URL, "http:", "https:", 1), "the server there does not speak TLS (want the API server's port: https://HOST:6443)", false},
		{"nobody", "https://" + silent.Addr().String(), "dial tcp " + silent.Addr().String() + ": ", true},
	} {
		k := k
		k.Server = test.server
		err := kubeconfig.Ask(t.Context(), k, nil)
		_, isSilent := errors.AsType[*kubeconfig.SilentError](err)
		if (err == nil) != (test.want == "") || err != nil && !strings.HasPrefix(err.Error(), test.want) || isSilent != test.silent {
			t.Errorf("%s: Ask = %v; want %s", test.name, err, test.want)
		}
	}
}
