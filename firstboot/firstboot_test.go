package firstboot

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/bake/node"
	"github.com/nodebake/bake/firstboot/metadata/emulator"
	"github.com/nodebake/bake/firstboot/report"
	"github.com/nodebake/bake/test/filetest"
	"github.com/nodebake/bake/test/must"
)

var firstStart = []string{"start containerd.service", "start kubelet.service", "start kube-proxy.service", "start firstboot-health.service"}

func TestFirstBoot(t *testing.T) {
	t.Parallel()
	w := newWorker(t)
	if diff := cmp.Diff(firstStart, w.configures()); diff != "" {
		t.Errorf("units (-want +got):\n%s", diff)
	}
	for path, mode := range map[string]fs.FileMode{
		"/etc/hostname": 0o644, "/etc/containerd/config.toml": 0o644, "/etc/cni/net.d/10-bridge.conflist": 0o644,
		"/var/lib/kubelet/worker-0.pem": 0o644, "/var/lib/kubelet/worker-0-key.pem": 0o600, "/var/lib/kubelet/kubeconfig": 0o600,
		"/var/lib/kubelet": 0o700, "/var/lib/kubelet/kubelet-config.yaml": 0o600, "/var/lib/kube-proxy/kube-proxy-config.yaml": 0o600, "/var/lib/kubernetes/ca.pem": 0o644, "/var/lib/kube-proxy/kubeconfig": 0o600,
	} {
		info, err := os.Stat(filepath.Join(w.root, path))
		if err != nil {
			t.Error(err)
		} else if info.Mode().Perm() != mode {
			t.Errorf("%s has mode %v; want %v", path, info.Mode(), mode)
		}
		if info != nil && info.IsDir() {
			continue
		}
		if got := strings.Count(w.log.String(), "firstboot: wrote "+path+"\n"); got != 1 {
			t.Errorf("the log says %d times that %s was written; want once", got, path)
		}
	}
	if w.hostname != "worker-0" {
		t.Errorf("host name = %q; want worker-0", w.hostname)
	}
	state := w.state()
	want := report.State{
		Node: "worker-0", Lock: "sha256:0123", Credentials: "metadata", Attempts: 1, Changed: 13,
		Phases: report.Phases{Firstboot: 7000, Metadata: 7000, Configured: 7000, Enqueued: 7000},
	}
	if diff := cmp.Diff(want, state); diff != "" {
		t.Errorf("the state of this boot (-want +got):\n%s", diff)
	}
	if len(w.console) > 0 {
		t.Errorf("the console shows %q; it is Health who says ready", w.console)
	}
}

func (w *worker) state() report.State {
	w.t.Helper()
	s, err := report.Reporter{Dir: filepath.Join(w.root, stateDir)}.State()
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

func TestSecondRunTouchesNothing(t *testing.T) {
	t.Parallel()
	w := newWorker(t)
	w.configures()
	before := w.snapshot()
	for _, when := range []string{"again in the same boot", "after a reboot"} {
		if when == "after a reboot" {
			w.reboot()
		}
		w.log.Reset()
		if calls := w.configures(); len(calls) > 0 {
			t.Errorf("%s: units: %q; want none", when, calls)
		}
		if diff := cmp.Diff(before, w.snapshot()); diff != "" {
			t.Errorf("%s: files (-before +after):\n%s", when, diff)
		}
		if strings.Contains(w.log.String(), "wrote") {
			t.Errorf("%s: the log says that files were written:\n%s", when, w.log.String())
		}
	}
}

// TestFormerBridge updates a node whose network was in 10-bridge.conf: both files
// would be two networks for containerd, of which it takes the former.
func TestFormerBridge(t *testing.T) {
	t.Parallel()
	w := newWorker(t)
	w.configures()
	const former, now, list = "/etc/cni/net.d/10-bridge.conf", "/etc/cni/net.d/10-bridge.conflist", "/var/lib/firstboot/files.json"
	must.Do(os.Rename(filepath.Join(w.root, now), filepath.Join(w.root, former)))
	content := filetest.Read(t, filepath.Join(w.root, list))
	if err := os.WriteFile(filepath.Join(w.root, list), bytes.ReplaceAll(content, []byte(now), []byte(former)), 0o600); err != nil {
		t.Fatal(err)
	}
	w.reboot()
	w.configures()
	if w.exists(former) || !w.exists(now) {
		t.Errorf("%s is there: %t, %s: %t; want the latter alone", former, w.exists(former), now, w.exists(now))
	}
}

func TestChangedMetadataRestartsWhatUsesIt(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		change func(*worker)
		files  []string
		calls  []string
	}{
		{"cluster-dns", func(w *worker) { w.metadata.SetAttribute("cluster-dns", "10.32.0.53") },
			[]string{"/var/lib/kubelet/kubelet-config.yaml"},
			[]string{"restart kubelet.service", "restart firstboot-health.service"}},
		{"mtu", func(w *worker) { w.metadata.SetAttribute("mtu", "1400") }, // containerd watches CNI's directory
			[]string{"/etc/cni/net.d/10-bridge.conflist"}, nil},
		{"cluster-cidr", func(w *worker) { w.metadata.SetAttribute("cluster-cidr", "10.200.0.0/15") },
			[]string{"/etc/nftables/pod-masquerade.nft", "/var/lib/kube-proxy/kube-proxy-config.yaml"},
			[]string{"restart kubelet.service", "restart kube-proxy.service", "restart firstboot-health.service"}},
		{"a new certificate", func(w *worker) { w.set(w.attributes(node.Config{})) },
			[]string{"/var/lib/kube-proxy/kubeconfig", "/var/lib/kubelet/kubeconfig", "/var/lib/kubelet/worker-0-key.pem", "/var/lib/kubelet/worker-0.pem"},
			[]string{"restart kubelet.service", "restart kube-proxy.service", "restart firstboot-health.service"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := newWorker(t)
			w.configures()
			w.reboot()
			before := w.snapshot()
			test.change(w)
			if diff := cmp.Diff(test.calls, w.configures()); diff != "" {
				t.Errorf("units (-want +got):\n%s", diff)
			}
			var changed []string
			for path, now := range w.snapshot() {
				if before[path] != now {
					changed = append(changed, path)
				}
			}
			slices.Sort(changed)
			if diff := cmp.Diff(test.files, changed); diff != "" {
				t.Errorf("files that changed (-want +got):\n%s", diff)
			}
		})
	}
}

// TestTransientFaults are those that pass: firstboot says once what it waits
// for, and gives up on none.
func TestTransientFaults(t *testing.T) {
	t.Parallel()
	for _, kind := range []emulator.FaultKind{
		emulator.Status, emulator.Reset, emulator.Truncate, emulator.CutJSON,
		emulator.Portal, emulator.Redirect, emulator.NoFlavor, emulator.TooLarge,
	} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			w := newWorker(t)
			w.metadata.SetFaults(emulator.Fault{Kind: kind, Times: 5})
			if diff := cmp.Diff(firstStart, w.configures()); diff != "" {
				t.Errorf("units (-want +got):\n%s", diff)
			}
			if got := strings.Count(w.log.String(), "waiting for the metadata server: "); got != 1 {
				t.Errorf("the log says %d times what is awaited; want once:\n%s", got, w.log.String())
			}
			if len(w.console) > 0 {
				t.Errorf("the console shows %q; want nothing, it passes", w.console)
			}
		})
	}
}

// TestALastingReasonIsReported, once, and does not end the wait.
func TestALastingReasonIsReported(t *testing.T) {
	t.Parallel()
	w := newWorker(t)
	w.metadata.SetFaults(emulator.Fault{Kind: emulator.Portal, Times: 10})
	c := w.config()
	var clock time.Duration
	c.Machine.Uptime = func() time.Duration { clock += time.Second; return clock }
	c.Patience = 4 * time.Second
	if err := Run(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if len(w.console) != 1 || !strings.HasPrefix(w.console[0], "firstboot: failed: waiting for the metadata server: ") || !strings.Contains(w.console[0], "something else answers") {
		t.Errorf("the console shows %q; want one line about the portal", w.console)
	}
}

// TestPermanentFaults are those that a person repairs: one line each that names
// the key, nothing of the node started, and Ready once it is repaired.
func TestPermanentFaults(t *testing.T) {
	t.Parallel()
	issue := func(w *worker, c node.IssueConfig) map[string]string {
		c.Organizations, c.Client, c.Server, c.IPs = []string{"system:nodes"}, true, true, []netip.Addr{netip.MustParseAddr("10.240.0.20")}
		cert, key, err := w.ca.Issue(c)
		if err != nil {
			w.t.Fatal(err)
		}
		return map[string]string{"kubelet-certificate": string(cert), "kubelet-key": string(key)}
	}
	for _, test := range []struct {
		name   string
		broken func(*worker)
		want   []string // in the line
	}{
		{"no pod-cidr", func(w *worker) { w.metadata.DeleteAttribute("pod-cidr") }, []string{"pod-cidr", "missing"}},
		{"bad pod-cidr", func(w *worker) { w.metadata.SetAttribute("pod-cidr", "10.200.0.7/24") }, []string{"pod-cidr", "10.200.0.7/24", "10.200.0.0/24"}},
		{"wrong key", func(w *worker) {
			w.set(map[string]string{"kubelet-key": issue(w, node.IssueConfig{CommonName: "system:node:worker-0", DNSNames: []string{"worker-0"}, Now: today})["kubelet-key"]})
		}, []string{"kubelet-key"}},
		{"expired", func(w *worker) {
			w.set(issue(w, node.IssueConfig{CommonName: "system:node:worker-0", DNSNames: []string{"worker-0"}, Now: today.AddDate(0, -3, 0), Validity: 24 * time.Hour}))
		}, []string{"kubelet-certificate", "expired"}},
		{"another host", func(w *worker) {
			w.set(issue(w, node.IssueConfig{CommonName: "system:node:worker-1", DNSNames: []string{"worker-1"}, Now: today}))
		}, []string{"kubelet-certificate", "worker-1"}},
		{"clock behind", func(w *worker) { w.now = today.AddDate(-1, 0, 0) }, []string{"valid"}},
		{"no secret", func(w *worker) {
			w.metadata.DeleteAttribute("kubelet-key")
			w.metadata.SetAttribute("kubelet-key-secret", "projects/example/secrets/nowhere/versions/1")
		}, []string{"kubelet-key-secret", "404"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := newWorker(t)
			good := map[string]string{}
			maps.Copy(good, w.attributes(node.Config{}))
			w.metadata.SetAttribute("enable-guest-attributes", "TRUE")
			test.broken(w)
			for try := range 2 {
				w.now = w.now.Add(10 * time.Second) // as the unit waits
				calls, err := w.run()
				if err == nil {
					t.Fatal("Run = nil; want an error")
				}
				if try == 1 {
					if len(w.console) > 0 {
						t.Errorf("the console shows a reason again: %q", w.console)
					}
					continue
				}
				if diff := cmp.Diff(firstStart[:1], calls); diff != "" {
					t.Errorf("units (-want +got):\n%s", diff)
				}
				if len(w.console) != 1 || !strings.HasPrefix(w.console[0], "firstboot: failed: ") || strings.Contains(w.console[0], "\n") {
					t.Fatalf("the console shows %q; want one line", w.console)
				}
				for _, want := range test.want {
					if !strings.Contains(w.console[0], want) {
						t.Errorf("the line %q does not name %q", w.console[0], want)
					}
				}
				if got, _ := w.metadata.GuestAttribute("firstboot", "report"); "firstboot: failed: "+got != w.console[0] {
					t.Errorf("the guest attribute says %q; want what the console says", got)
				}
				if w.exists("/var/lib/kubelet/kubelet-config.yaml") || w.exists("/etc/hostname") {
					t.Error("files of the node were written")
				}
			}
			w.now = today
			w.metadata.DeleteAttribute("kubelet-key-secret")
			w.set(good)
			if diff := cmp.Diff(firstStart[1:], w.configures()); diff != "" {
				t.Errorf("units after the repair (-want +got):\n%s", diff)
			}
			if got := w.state().Attempts; got != 3 {
				t.Errorf("attempts = %d; want 3", got)
			}
		})
	}
}

func TestSecretManager(t *testing.T) {
	t.Parallel()
	w := newWorker(t)
	secrets := emulator.NewSecretServer(w.metadata)
	both := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/v1/projects/") {
			secrets.ServeHTTP(rw, r)
			return
		}
		w.metadata.ServeHTTP(rw, r)
	}))
	defer both.Close()
	w.endpoint = both.URL
	for key, value := range w.attributes(node.Config{}) {
		w.metadata.SetAttribute(key, value)
		if key == "kubelet-key" || key == "kubelet-kubeconfig" {
			w.metadata.DeleteAttribute(key)
			w.metadata.SetAttribute(key+"-secret", secrets.AddVersion("projects/example/secrets/worker-0-"+key, []byte(value)))
		}
	}
	w.configures()
	if got := w.state().Credentials; got != "secret-manager" {
		t.Errorf("credentials = %q; want secret-manager", got)
	}
}

func TestTLSBootstrap(t *testing.T) {
	t.Parallel()
	w := newWorker(t)
	for _, key := range []string{"kubelet-certificate", "kubelet-key", "kubelet-kubeconfig"} {
		w.metadata.DeleteAttribute(key)
	}
	w.set(w.attributes(node.Config{BootstrapToken: "abcdef.0123456789abcdef"}))
	if diff := cmp.Diff(firstStart, w.configures()); diff != "" {
		t.Errorf("units (-want +got):\n%s", diff)
	}
	if !w.exists("/var/lib/kubelet/bootstrap-kubeconfig") || w.exists("/var/lib/kubelet/kubeconfig") {
		t.Error("want a bootstrap-kubeconfig, and no kubeconfig: that one kubelet writes")
	}
}

func TestRunStopsQuietly(t *testing.T) {
	t.Parallel()
	w := newWorker(t)
	w.metadata.SetFaults(emulator.Fault{Kind: emulator.Status})
	ctx, cancel := context.WithCancel(t.Context())
	c := w.config()
	c.Metadata.Sleep = func(context.Context, time.Duration) { cancel() }
	if err := Run(ctx, c); !errors.Is(err, context.Canceled) {
		t.Errorf("Run = %v; want the end of its context", err)
	}
	if len(w.console) > 0 {
		t.Errorf("the console shows %q; a stop is no failure", w.console)
	}
	if last := w.status[len(w.status)-1]; last != "stopped" {
		t.Errorf("the status is %q; want stopped", last)
	}
}

// TestConsoleShowsWholeSentences wants what is printed to have its remedy,
// though it speaks of PEM, and no key.
func TestConsoleShowsWholeSentences(t *testing.T) {
	t.Parallel()
	const again = "; make it again with `bake node worker-0 --server URL --ip 10.240.0.20 --pod-cidr CIDR --ca-dir DIR --output DIR --force`"
	for _, test := range []struct{ name, key, value, want string }{
		{"a path", "kubelet-certificate", "/etc/worker-0.pem", "metadata key kubelet-certificate (instance attribute): is the name of a file, where its content belongs (gcloud's --metadata-from-file takes files)" + again},
		{"JSON", "kubelet-certificate", `{"cert": "x"}`, "metadata key kubelet-certificate (instance attribute): is JSON and no PEM (-----BEGIN ...-----)" + again},
		{"UTF-16", "kubelet-certificate", "\ufffe-\x00-\x00", "metadata key kubelet-certificate (instance attribute): holds no PEM block (-----BEGIN ...-----)" + again},
		{"another text", "kubelet-key", "see the wiki", "metadata key kubelet-key (instance attribute): holds no PEM block (-----BEGIN ...-----)" + again},
		{"no CA", "kubernetes-ca", "", "metadata key kubernetes-ca: is missing; right would be: the text of a PEM file that begins with -----BEGIN CERTIFICATE-----"},
		{"a key for pod-cidr", "pod-cidr", "-----BEGIN PRIVATE KEY-----", "metadata key pod-cidr (instance attribute): a value of 27 characters is no range of IPv4 addresses; right would be: 10.200.0.0/24"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := newWorker(t)
			if w.metadata.SetAttribute(test.key, test.value); test.value == "" {
				w.metadata.DeleteAttribute(test.key)
			}
			if _, err := w.run(); err == nil {
				t.Fatal("Run = nil; want an error")
			}
			if diff := cmp.Diff([]string{"firstboot: failed: " + test.want}, w.console); diff != "" {
				t.Errorf("the console (-want +got):\n%s", diff)
			}
			if got := w.log.String(); !strings.HasSuffix(got, "firstboot: failed: "+test.want+"\n") {
				t.Errorf("the log ends with another line than the console's:\n%s", got)
			}
		})
	}
}
