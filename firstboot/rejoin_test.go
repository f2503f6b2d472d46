package firstboot

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/nodebake/bake/bake/node"
	"github.com/nodebake/bake/firstboot/pki"
	"github.com/nodebake/bake/test/filetest"
	"github.com/nodebake/bake/test/must"
)

const (
	testToken  = "07401b.f395accd246ae52d"
	clientPEM  = "/var/lib/kubelet/pki/kubelet-client-current.pem"
	servingPEM = "/var/lib/kubelet/pki/kubelet-server-current.pem"
	kubeletOwn = "/var/lib/kubelet/kubeconfig"
)

// newJoined is a worker that has joined by TLS bootstrap and boots again.
func newJoined(t *testing.T) *worker {
	t.Helper()
	w := newWorker(t)
	for _, key := range []string{"kubelet-certificate", "kubelet-key", "kubelet-kubeconfig"} {
		w.metadata.DeleteAttribute(key)
	}
	w.set(w.attributes(node.Config{BootstrapToken: testToken}))
	w.configures()
	w.write(kubeletOwn, string(w.kubeletWrites("https://10.240.0.10:6443", w.ca.CertificatePEM())))
	must.Do(os.Chmod(filepath.Join(w.root, kubeletOwn), 0o600))
	w.issue(clientPEM, "worker-0", 24*365*time.Hour)
	w.issue(servingPEM, "worker-0", 24*365*time.Hour)
	w.reboot()
	return w
}

// kubeletWrites is the kubeconfig that client-go writes for kubelet.
func (w *worker) kubeletWrites(server string, ca []byte) []byte {
	w.t.Helper()
	data, err := clientcmd.Write(clientcmdapi.Config{
		Clusters:       map[string]*clientcmdapi.Cluster{"default-cluster": {Server: server, CertificateAuthorityData: ca}},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{"default-auth": {ClientCertificate: clientPEM, ClientKey: clientPEM}},
		Contexts:       map[string]*clientcmdapi.Context{"default-context": {Cluster: "default-cluster", AuthInfo: "default-auth", Namespace: "default"}},
		CurrentContext: "default-context",
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return data
}

// issue puts a certificate and its key where kubelet does, behind a link.
func (w *worker) issue(path, name string, validity time.Duration) {
	w.t.Helper()
	cert, key, err := w.ca.Issue(node.IssueConfig{CommonName: "system:node:" + name, Organizations: []string{"system:nodes"}, Client: true, Server: true,
		Validity: validity, Now: today.AddDate(0, -1, 0)})
	if err != nil {
		w.t.Fatal(err)
	}
	target := strings.Replace(path, "current", "2026-10-01-12-00-00", 1)
	w.write(target, string(cert)+string(key))
	_ = os.Remove(filepath.Join(w.root, path))
	filetest.Link(w.t, target, filepath.Join(w.root, path))
}

// newCA gives the worker metadata with another CA everywhere, or with both.
func (w *worker) newCA(bundle bool) {
	w.t.Helper()
	ca := must.Get(node.NewCA(node.CAConfig{CommonName: "new", Now: today.AddDate(0, -2, 0)}))
	if bundle {
		ca = must.Get(node.LoadCA(append(ca.CertificatePEM(), w.ca.CertificatePEM()...), ca.KeyPEM()))
	}
	w.ca = ca
	w.set(w.attributes(node.Config{BootstrapToken: testToken}))
}

func (w *worker) newServer(server string) {
	for key, value := range w.attributes(node.Config{BootstrapToken: testToken}) {
		w.metadata.SetAttribute(key, strings.ReplaceAll(value, "https://10.240.0.10:6443", server))
	}
}

func TestRejoin(t *testing.T) {
	t.Parallel()
	refused := errors.New("the API server https://10.240.0.10:6443 does not take the token (401)")
	for _, test := range []struct {
		name    string
		change  func(*worker)
		answer  error  // of the API server
		asked   int    // times
		server  string // in kubelet's kubeconfig afterwards, where the certificate stays
		gone    []string
		restart bool
		err     string
	}{
		{name: "nothing new", change: func(*worker) {}, server: "https://10.240.0.10:6443"},
		{name: "another server", change: func(w *worker) { w.newServer("https://api.example.com:6443") }, server: "https://api.example.com:6443", restart: true},
		{name: "a CA beside the old one", change: func(w *worker) { w.newCA(true) }, server: "https://10.240.0.10:6443", restart: true},
		{name: "another CA", change: func(w *worker) { w.newCA(false) }, asked: 1, gone: []string{clientPEM, servingPEM}, restart: true},
		{name: "another CA and no token", change: func(w *worker) { w.newCA(false) }, asked: 1, answer: refused,
			err: `metadata key bootstrap-kubeconfig: kubelet's certificate was signed by "CN=kubernetes", which is no longer in kubernetes-ca, so it has to ask for another, and that can't be: the API server https://10.240.0.10:6443 does not take the token (401); nothing was changed: give a token that is valid now (kubectl -n kube-system get secrets, or kubeadm token create)`},
		{name: "another name", change: func(w *worker) { w.issue(clientPEM, "worker-9", time.Hour*24*365) }, asked: 1, gone: []string{clientPEM}, restart: true},
		{name: "another name and no token", change: func(w *worker) { w.issue(clientPEM, "worker-9", time.Hour*24*365) }, asked: 1, answer: refused,
			err: `metadata key bootstrap-kubeconfig: kubelet's certificate is for "system:node:worker-9", and this node must be "system:node:worker-0", so it has to ask for another, and that can't be: the API server https://10.240.0.10:6443 does not take the token (401); nothing was changed: give a token that is valid now (kubectl -n kube-system get secrets, or kubeadm token create)`},
		{name: "an expired certificate", change: func(w *worker) { w.issue(clientPEM, "worker-9", time.Hour) }},
		{name: "a damaged certificate", change: func(w *worker) {
			w.write(strings.Replace(clientPEM, "current", "2026-10-01-12-00-00", 1), "-----BEGIN CERTIFICATE-----\n")
		}},
		{name: "an intermediate that is not there", change: func(w *worker) {
			own := w.ca
			w.ca, _ = node.NewCA(node.CAConfig{CommonName: "signer", Now: today.AddDate(0, -2, 0)})
			w.issue(clientPEM, "worker-0", time.Hour*24*365)
			w.ca = own
		}, server: "https://10.240.0.10:6443"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := newJoined(t)
			test.change(w)
			before := w.snapshot()
			w.calls, w.console, w.hostname = nil, nil, ""
			asked := 0
			c := w.config()
			c.MayBootstrap = func(_ context.Context, access pki.Access) error {
				asked++
				if access.Token != testToken || string(access.CA) != string(w.ca.CertificatePEM()) {
					t.Errorf("asked with the token %q and another CA than the metadata's", access.Token)
				}
				return test.answer
			}
			err := Run(t.Context(), c)
			if asked != test.asked {
				t.Errorf("the API server was asked %d times; want %d", asked, test.asked)
			}
			if test.err != "" {
				if err == nil || err.Error() != test.err {
					t.Errorf("Run = %v\nwant %s", err, test.err)
				}
				if diff := cmp.Diff(before, w.snapshot()); diff != "" {
					t.Errorf("files (-before +after):\n%s", diff)
				}
				if len(w.calls) > 0 || w.hostname != "" {
					t.Errorf("units %q, host name %q; want nothing touched", w.calls, w.hostname)
				}
				if want := []string{"firstboot: failed: " + test.err}; !cmp.Equal(w.console, want) {
					t.Errorf("the console shows %q; want %q", w.console, want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, path := range []string{clientPEM, servingPEM} {
				target := strings.Replace(path, "current", "2026-10-01-12-00-00", 1)
				wantGone := strings.Contains(strings.Join(test.gone, " "), path)
				if w.exists(path) == wantGone || w.exists(target) == wantGone {
					t.Errorf("%s is there: %t, %s: %t; want it gone: %t", path, w.exists(path), target, w.exists(target), wantGone)
				}
			}
			if test.server != "" {
				got := filetest.Read(t, filepath.Join(w.root, kubeletOwn))
				if diff := cmp.Diff(string(w.kubeletWrites(test.server, w.ca.CertificatePEM())), string(got)); diff != "" {
					t.Errorf("kubelet's kubeconfig (-want +got):\n%s", diff)
				}
			}
			if restart := strings.Contains(strings.Join(w.calls, " "), "restart kubelet.service"); restart != test.restart {
				t.Errorf("units: %q; want kubelet restarted: %t", w.calls, test.restart)
			}
			// kubelet's file is kubelet's: another run leaves it alone.
			before = w.snapshot()
			w.reboot()
			if _, err := w.run(); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(before, w.snapshot()); diff != "" {
				t.Errorf("files after another boot (-before +after):\n%s", diff)
			}
		})
	}
}

func TestMayBootstrap(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, answer string
		status       int
		want         string // SERVER stands for the server's URL
	}{
		{"allowed", `{"status":{"allowed":true}}`, 201, ""},
		{"not allowed", `{"status":{"allowed":false}}`, 201, "the API server SERVER knows the token, which may not ask for certificates there"},
		{"an unknown token", `{"status":"Failure","code":401}`, 401, "the API server SERVER does not take the token (401)"},
		{"no such user", `{}`, 403, "the API server SERVER answers 403"},
		{"elsewhere", ``, 302, "the API server SERVER answers 302"},
		{"something else", `<html>`, 201, "the API server SERVER answers with something else than a review"},
	} {
		server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			var review struct {
				Kind string
				Spec struct{ ResourceAttributes map[string]string }
			}
			if err := json.NewDecoder(r.Body).Decode(&review); err != nil || review.Kind != "SelfSubjectAccessReview" || review.Spec.ResourceAttributes["verb"] != "create" {
				t.Errorf("%s: asked for %+v, %v", test.name, review, err)
			}
			if r.URL.Path != "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews" || r.Header.Get("Authorization") != "Bearer "+testToken {
				t.Errorf("%s: asked %s with %q", test.name, r.URL, r.Header.Get("Authorization"))
			}
			w.Header().Set("Location", "/")
			w.WriteHeader(test.status)
			_, _ = w.Write([]byte(test.answer))
		}))
		access := pki.Access{Server: server.URL, Token: testToken, CA: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})}
		got := ""
		if err := MayBootstrap(t.Context(), access); err != nil {
			got = strings.ReplaceAll(err.Error(), server.URL, "SERVER")
		}
		if got != test.want {
			t.Errorf("%s: MayBootstrap = %q; want %q", test.name, got, test.want)
		}
		server.Close()
		if err := MayBootstrap(t.Context(), access); err == nil || strings.Contains(err.Error(), testToken) || !strings.HasPrefix(err.Error(), "asking the API server "+server.URL+": dial tcp") {
			t.Errorf("%s: MayBootstrap of a server that is gone = %v", test.name, err)
		}
	}
}

// TestDryRunRejoins shows what would become of kubelet's own files.
func TestDryRunRejoins(t *testing.T) {
	t.Parallel()
	w := newJoined(t)
	w.issue(clientPEM, "worker-9", time.Hour*24*365)
	before := w.snapshot()
	var out strings.Builder
	c := w.config()
	if err := DryRun(t.Context(), DryRunConfig{Root: w.root, Machine: c.Machine, Metadata: c.Metadata, Out: &out}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`kubelet's certificate is for "system:node:worker-9", and this node must be "system:node:worker-0": it would ask for another, if https://10.240.0.10:6443 takes the token`,
		"removed           " + clientPEM,
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("DryRun = %s\nwant %q in it", out.String(), want)
		}
	}
	if diff := cmp.Diff(before, w.snapshot()); diff != "" {
		t.Errorf("files (-before +after):\n%s", diff)
	}
}
