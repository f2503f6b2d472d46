//go:build system

package cluster

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nodebake/bake/bake/node"
)

func TestControlPlane(t *testing.T) {
	testControlPlane(t, Current)
}

// TestOldControlPlane is about the one that workers of the guide's set join.
func TestOldControlPlane(t *testing.T) {
	testControlPlane(t, Old)
}

func testControlPlane(t *testing.T, version Version) {
	p := Need(t, version, "../..")
	ca, err := node.NewCA(node.CAConfig{Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	kubelet := serveKubelet(t, ca)
	started := time.Now()
	// Longer than a socket's path may be.
	dir := filepath.Join(t.TempDir(), strings.Repeat("long", 25))
	c, err := Start(t.Context(), Config{Programs: p, CA: ca, Now: time.Now(), Dir: dir, Dial: kubelet.dial})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("the control plane was ready after %s", time.Since(started).Round(time.Millisecond))
	defer func() {
		if t.Failed() {
			t.Log(c.Logs(30))
		}
		c.Stop()
		c.Stop() // does nothing
		runsNothing(t, dir)
	}()

	if got, err := c.Kubectl(t.Context(), "get", "--raw", "/readyz"); got != "ok" {
		t.Errorf("/readyz = %q, %v; want ok", got, err)
	}
	if got, err := c.Kubectl(t.Context(), "get", "--raw", "/version"); !strings.Contains(got, fmt.Sprintf("%q", p.Version)) {
		t.Errorf("/version = %s, %v; want %s", got, err, p.Version)
	}
	// Pods find the API server where workers do.
	endpoint, err := c.Kubectl(t.Context(), "get", "endpoints", "kubernetes", "-o", "jsonpath=https://{.subsets[0].addresses[0].ip}:{.subsets[0].ports[0].port}")
	if err != nil || endpoint != c.URL() {
		t.Errorf("the service kubernetes leads to %q, %v; want %s", endpoint, err, c.URL())
	}
	c.reachesKubelet(t, kubelet)
	c.encryptsSecrets(t)
	c.joinsByToken(t, ca)
	if err := c.Err(); err != nil {
		t.Error(err)
	}
}

// runsNothing requires that no process works in dir.
func runsNothing(t *testing.T, dir string) {
	t.Helper()
	places, err := filepath.Glob("/proc/[0-9]*/cwd")
	if err != nil || len(places) == 0 {
		t.Fatalf("looking for processes: %q, %v", places, err)
	}
	for _, place := range places {
		if at, err := os.Readlink(place); err == nil && at == dir {
			t.Errorf("%s runs after Stop", filepath.Dir(place))
		}
	}
}

// kubelet is a server at an address that only its dial knows.
type kubelet struct {
	address string // where the API server looks for it
	dial    func(context.Context, string) (net.Conn, error)

	mu       sync.Mutex
	requests []string // "PATH as COMMON NAME"
}

func serveKubelet(t *testing.T, ca *node.CA) *kubelet {
	t.Helper()
	cert, key, err := ca.Issue(node.IssueConfig{
		CommonName: "system:node:worker-0", Organizations: []string{"system:nodes"}, Server: true, Client: true,
		DNSNames: []string{"worker-0"}, IPs: []netip.Addr{netip.MustParseAddr("10.240.0.20")}, Now: time.Now(),
	})
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	clients := x509.NewCertPool()
	clients.AddCert(ca.Certificate())
	k := &kubelet{address: "10.240.0.20:10250"}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.requests = append(k.requests, r.URL.Path+" as "+r.TLS.PeerCertificates[0].Subject.CommonName)
		fmt.Fprint(w, "the kubelet is well")
	}))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients}
	server.StartTLS()
	t.Cleanup(server.Close)
	k.dial = func(ctx context.Context, address string) (net.Conn, error) {
		if address != k.address {
			return nil, fmt.Errorf("nobody is at %s", address)
		}
		return new(net.Dialer).DialContext(ctx, "tcp", server.Listener.Addr().String())
	}
	return k
}

// reachesKubelet registers a node, as a kubelet would, and asks it something
// through the API server.
func (c *Cluster) reachesKubelet(t *testing.T, k *kubelet) {
	t.Helper()
	if err := c.Apply(t.Context(), `{apiVersion: v1, kind: Node, metadata: {name: worker-0}}`); err != nil {
		t.Fatal(err)
	}
	_, err := c.Kubectl(t.Context(), "patch", "node", "worker-0", "--subresource=status", "--patch",
		`{"status": {"addresses": [{"type": "Hostname", "address": "worker-0"}, {"type": "InternalIP", "address": "10.240.0.20"}],
		  "nodeInfo": {"kubeletVersion": "v0", "architecture": "", "bootID": "", "containerRuntimeVersion": "", "kernelVersion": "", "kubeProxyVersion": "",
		    "machineID": "", "operatingSystem": "", "osImage": "", "systemUUID": ""},
		  "conditions": [{"type": "Ready", "status": "True"}],
		  "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}}}}`)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if n, err := c.WaitNode(ctx, "worker-0", func(n Node) bool { return n.Ready }); err != nil || n.KubeletVersion != "v0" || time.Since(n.Registered) > time.Minute {
		t.Errorf("WaitNode = %+v, %v; want a ready node of version v0 that has just registered", n, err)
	}
	got, err := c.Kubectl(t.Context(), "get", "--raw", "/api/v1/nodes/worker-0/proxy/healthz")
	if want := "the kubelet is well"; got != want {
		t.Errorf("the node's /healthz by the API server = %q, %v; want %q", got, err, want)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if want := "/healthz as kubernetes"; len(k.requests) != 1 || k.requests[0] != want {
		t.Errorf("the kubelet was asked for %q; want %q", k.requests, want)
	}
}

// encryptsSecrets looks for a secret's text in what etcd wrote, and for a
// ConfigMap's, which must be there.
func (c *Cluster) encryptsSecrets(t *testing.T) {
	t.Helper()
	for _, kind := range []string{"secret generic", "configmap"} {
		args := append([]string{"create"}, strings.Fields(kind)...)
		name := "canary-" + args[1]
		if _, err := c.Kubectl(t.Context(), append(args, name, "--from-literal=canary=text-of-"+name)...); err != nil {
			t.Fatal(err)
		}
	}
	wal, err := filepath.Glob(filepath.Join(c.config.Dir, "etcd/member/wal/*.wal"))
	if err != nil || len(wal) == 0 {
		t.Fatalf("etcd has the logs %q, %v; want some", wal, err)
	}
	var written strings.Builder
	for _, file := range wal {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		written.Write(data)
	}
	for text, want := range map[string]bool{"text-of-canary-secret": false, "text-of-canary-configmap": true, "k8s:enc:aescbc:v1:key1": true} {
		if got := strings.Contains(written.String(), text); got != want {
			t.Errorf("etcd's log has %q: %v; want %v", text, got, want)
		}
	}
}
