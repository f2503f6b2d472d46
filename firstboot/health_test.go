package firstboot

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/bake/node"
	"github.com/nodebake/bake/firstboot/metadata"
	"github.com/nodebake/bake/firstboot/metadata/emulator"
	"github.com/nodebake/bake/firstboot/report"
	"github.com/nodebake/bake/test/filetest"
	"github.com/nodebake/bake/test/must"
)

const (
	ready    = `{"status":{"conditions":[{"type":"RuntimeReady","status":true},{"type":"NetworkReady","status":true}]}}`
	noCNI    = `{"status":{"conditions":[{"type":"RuntimeReady","status":true},{"type":"NetworkReady","status":false,"reason":"NetworkPluginNotReady","message":"cni plugin not initialized"}]}}`
	noneSaid = `{"status":{}}`
)

// healthyNode is a healthy node's HealthConfig, its console and how often systemd
// was reloaded.
func healthyNode(t *testing.T) (c HealthConfig, console *[]string, reloads *int) {
	t.Helper()
	console, reloads = &[]string{}, new(int)
	c = HealthConfig{
		Root: t.TempDir(), Deadline: 30 * time.Second, Pause: time.Millisecond, Settled: 5 * time.Millisecond, Log: io.Discard,
		Metadata: metadata.Config{Endpoints: []string{"http://127.0.0.1:1"}},
		Machine: Machine{
			Uptime:  func() time.Duration { return 20 * time.Second },
			Console: func(line string) error { *console = append(*console, line); return nil },
		},
		Socket:      filepath.Join(t.TempDir(), "containerd.sock"),
		RuntimeInfo: func(context.Context) ([]byte, error) { return []byte(ready), nil },
		Rest:        time.Millisecond,
		Reload:      func(context.Context) error { *reloads++; return nil },
	}
	listener := must.Get(net.Listen("unix", c.Socket))
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			conn.Close()
		}
	}()
	kubelet := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "ok") }))
	t.Cleanup(kubelet.Close)
	c.KubeletURL, c.ProxyURL = kubelet.URL, kubelet.URL
	c.ProxyMayList = func(context.Context) error { return errors.New("nobody asks") }
	return c, console, reloads
}

func keep(t *testing.T, c HealthConfig, s report.State) report.Reporter {
	t.Helper()
	r := report.Reporter{Dir: filepath.Join(c.Root, stateDir)}
	if err := r.Keep(s); err != nil {
		t.Fatal(err)
	}
	return r
}

var configured = report.State{
	Node: "worker-0", Lock: "sha256:0123", Credentials: "metadata", Attempts: 2, Changed: 12, CPU: 90,
	Phases: report.Phases{Firstboot: 1, Metadata: 2, Configured: 3, Enqueued: 4},
}

func TestHealthReportsReadyOnce(t *testing.T) {
	t.Parallel()
	c, console, reloads := healthyNode(t)
	server := emulator.NewServer(emulator.Instance{Name: "worker-0", Attributes: map[string]string{"enable-guest-attributes": "TRUE"}})
	hs := httptest.NewServer(server)
	defer hs.Close()
	c.Metadata.Endpoints = []string{hs.URL}
	if err := keep(t, c, configured).WantReload(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := Health(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	want := `{"node":"worker-0","lock":"sha256:0123","credentials":"metadata","configuration":"current","runtime":"ready","proxy":"ready","attempts":2,"changed":12,"cpu_ms":90,` +
		`"phases":{"firstboot":1,"metadata":2,"configured":3,"enqueued":4,"containerd":20000,"kubelet":20000,"healthy":20000}}`
	if diff := cmp.Diff([]string{"firstboot: ready " + want}, *console); diff != "" {
		t.Errorf("the console (-want +got):\n%s", diff)
	}
	if got, _ := server.GuestAttribute("firstboot", "report"); got != want {
		t.Errorf("the guest attribute is %q; want %q", got, want)
	}
	if got, _ := server.GuestAttribute("firstboot", "state"); got != "ready" {
		t.Errorf("the guest attribute state is %q; want ready", got)
	}
	if *reloads != 1 {
		t.Errorf("systemd was reloaded %d times after units were enabled; want once", *reloads)
	}
}

// TestHealthAsksCrictlLast: it is large, and the node is starting.
func TestHealthAsksCrictlLast(t *testing.T) {
	t.Parallel()
	c, _, _ := healthyNode(t)
	var asked, runs atomic.Int32
	kubelet := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) < 5 {
			http.Error(w, "[-]syncloop failed", http.StatusInternalServerError)
			return
		}
		io.WriteString(w, "ok")
	}))
	defer kubelet.Close()
	c.KubeletURL = kubelet.URL
	c.RuntimeInfo = func(context.Context) ([]byte, error) {
		if asked.Load() < 5 {
			t.Error("crictl ran before the kubelet was healthy")
		}
		if runs.Add(1) < 2 {
			return []byte(noCNI), nil
		}
		return []byte(ready), nil
	}
	keep(t, c, configured)
	if err := Health(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if got := runs.Load(); got != 2 {
		t.Errorf("crictl ran %d times; want 2", got)
	}
}

func TestHealthWithoutCrictl(t *testing.T) {
	t.Parallel()
	c, console, _ := healthyNode(t)
	c.RuntimeInfo = func(context.Context) ([]byte, error) {
		_, err := os.Stat("/nonexistent/crictl")
		return nil, err
	}
	keep(t, c, configured)
	if err := Health(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if len(*console) != 1 || !strings.Contains((*console)[0], `"runtime":"socket only"`) {
		t.Errorf("the console shows %q; want ready, by the socket only", *console)
	}
}

// TestHealthBeforeFirstboot: a configured worker that boots again is healthy,
// whether or not the metadata server answers.
func TestHealthBeforeFirstboot(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, want string
		answers    bool
	}{{"the server does not answer", "earlier", false}, {"it answers a little later", "current", true}} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c, console, _ := healthyNode(t)
			c.Settled = 200 * time.Millisecond
			begun := configured
			begun.Phases = report.Phases{Firstboot: 1}
			r := keep(t, c, begun)
			if test.answers {
				c.Settled = 20 * time.Second
				timer := time.AfterFunc(20*time.Millisecond, func() { r.Keep(configured) })
				defer timer.Stop()
			}
			if err := Health(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			if len(*console) != 1 {
				t.Fatalf("the console shows %q; want one line", *console)
			}
			var got report.Ready
			if err := json.Unmarshal([]byte(strings.TrimPrefix((*console)[0], "firstboot: ready ")), &got); err != nil {
				t.Fatal(err)
			}
			if got.Configuration != test.want {
				t.Errorf("configuration = %q; want %q", got.Configuration, test.want)
			}
		})
	}
}

func TestHealthOfProxy(t *testing.T) {
	t.Parallel()
	serve := func(path string, status int) string {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != path {
				http.NotFound(w, r)
				return
			}
			w.WriteHeader(status)
			io.WriteString(w, "proxy")
		}))
		t.Cleanup(server.Close)
		return server.URL
	}
	const away = "http://127.0.0.1:1"
	for _, test := range []struct {
		name, url string
		mayList   error
		want      string // in the console's line
		log       string
	}{
		{"livez", serve("/livez", http.StatusOK), nil, `"proxy":"ready"`, ""},
		{"healthz, before 1.28", serve("/healthz", http.StatusOK), nil, `"proxy":"ready"`, ""},
		{"unhealthy", serve("/livez", http.StatusServiceUnavailable), nil, "firstboot: failed: the node is not healthy within 1s: kube-proxy: it answered 503 Service Unavailable: proxy",
			"firstboot: failed: the node is not healthy within 1s: kube-proxy: it answered 503 Service Unavailable: proxy\n"},
		{"no API server", away, errors.New("https://10.240.0.10:6443:\nconnection refused"), `"proxy":"waiting"`,
			"firstboot: waiting for the API server: https://10.240.0.10:6443: connection refused\n"},
		{"refused", away, fmt.Errorf("the API server x does not take the credentials (401): %w", errRefused),
			"firstboot: failed: kube-proxy: the API server x does not take the credentials (401): refused (see metadata key kube-proxy-kubeconfig)",
			"firstboot: failed: kube-proxy: the API server x does not take the credentials (401): refused (see metadata key kube-proxy-kubeconfig)\n"},
		{"it does not run", away, nil, "firstboot: failed: the node is not healthy within 1s: kube-proxy: nothing answers at http://127.0.0.1:1: connection refused (systemctl status kube-proxy says more)",
			"firstboot: failed: the node is not healthy within 1s: kube-proxy: nothing answers at http://127.0.0.1:1: connection refused (systemctl status kube-proxy says more)\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, console, _ := healthyNode(t)
			var log bytes.Buffer
			c.Log = &log
			c.Deadline, c.ProxyURL = time.Second, test.url
			c.ProxyMayList = func(context.Context) error { return test.mayList }
			keep(t, c, configured)
			err := Health(t.Context(), c)
			if failed := strings.HasPrefix(test.want, "firstboot: failed"); (err != nil) != failed {
				t.Errorf("Health = %v", err)
			}
			if len(*console) != 1 || !strings.Contains((*console)[0], test.want) {
				t.Errorf("the console shows %q; want one line with %q", *console, test.want)
			}
			// The next check of this boot has nothing new to log.
			Health(t.Context(), c)
			var logged string
			for line := range strings.Lines(log.String()) {
				if !strings.HasPrefix(line, "firstboot: reporting: ") { // no metadata server takes guest attributes
					logged += line
				}
			}
			if diff := cmp.Diff(test.log, logged); diff != "" {
				t.Errorf("the log of both (-want +got):\n%s", diff)
			}
		})
	}
}

// TestProxyMayList asks where no API server is: the reason is short, and names it.
func TestProxyMayList(t *testing.T) {
	t.Parallel()
	ca := must.Get(node.NewCA(node.CAConfig{Now: today}))
	root := t.TempDir()
	path := filepath.Join(root, proxyKubeconfig)
	filetest.Mkdir(t, filepath.Dir(path))
	text := fmt.Sprintf(`{"current-context": "c", "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
"clusters": [{"name": "k", "cluster": {"server": "https://127.0.0.1:1", "certificate-authority-data": %q}}],
"users": [{"name": "u", "user": {"token": "secret"}}]}`, base64.StdEncoding.EncodeToString(ca.CertificatePEM()))
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := proxyMayList(t.Context(), root); err == nil || err.Error() != "https://127.0.0.1:1: connection refused" || errors.Is(err, errRefused) {
		t.Errorf("proxyMayList = %v; want that the connection was refused", err)
	}
}

func TestHealthSaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	sick := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "[+]ping ok\n[-]syncloop failed", http.StatusInternalServerError)
	}))
	t.Cleanup(sick.Close) // after the parallel tests
	for _, test := range []struct {
		name, info, kubelet string
		noSocket            bool
		err                 error
		want                string
	}{
		{name: "network", info: noCNI, want: "NetworkReady is false: NetworkPluginNotReady cni plugin not initialized"},
		{name: "no conditions", info: noneSaid, want: "RuntimeReady is false: not reported"},
		{name: "garbage", info: "<html>", want: "container runtime: reading its status"},
		{name: "crictl fails", err: errors.New("crictl info: connection refused"), want: "container runtime: crictl info: connection refused"},
		{name: "no socket", noSocket: true, want: "container runtime: nothing answers at "},
		{name: "kubelet sick", kubelet: sick.URL, want: "kubelet: it answered 500 Internal Server Error: [-]syncloop failed"},
		{name: "kubelet away", kubelet: "http://127.0.0.1:1/", want: "kubelet: nothing answers at http://127.0.0.1:1/: connection refused"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c, console, _ := healthyNode(t)
			c.Deadline = time.Second
			c.RuntimeInfo = func(context.Context) ([]byte, error) { return []byte(test.info), test.err }
			if test.kubelet != "" {
				c.KubeletURL = test.kubelet
			}
			if test.noSocket {
				c.Socket += "-nowhere"
			}
			var log bytes.Buffer
			c.Log = &log
			tries := 1
			if test.noSocket {
				tries = 2 // it is said once
			}
			for range tries {
				if err := Health(t.Context(), c); err == nil {
					t.Fatal("Health = nil; want an error")
				}
			}
			if len(*console) != 1 || !strings.HasPrefix((*console)[0], "firstboot: failed: the node is not healthy within 1s: ") || !strings.Contains((*console)[0], test.want) {
				t.Errorf("the console shows %q; want one line with %q", *console, test.want)
			}
		})
	}
}
