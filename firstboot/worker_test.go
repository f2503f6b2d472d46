package firstboot

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nodebake/bake/bake/node"
	"github.com/nodebake/bake/firstboot/metadata"
	"github.com/nodebake/bake/firstboot/metadata/emulator"
	"github.com/nodebake/bake/firstboot/services"
	"github.com/nodebake/bake/test/filetest"
)

var today = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

// worker is a machine in a directory, with Google's metadata server and real
// credentials; only its units are made up.
type worker struct {
	t        *testing.T
	root     string
	ca       *node.CA
	metadata *emulator.Server
	endpoint string
	http     *httptest.Server

	mu       sync.Mutex
	now      time.Time
	running  map[string]bool // units
	enabled  map[string]bool
	failing  error    // of the units
	calls    []string // what was started and restarted
	console  []string
	hostname string
	log      bytes.Buffer
	status   []string
}

const record = `{"schema":1,"inputs":{"lock":"sha256:0123"},"components":[
	{"name":"kubelet","version":"v1.36.3"},{"name":"kube-proxy","version":"v1.36.3"},
	{"name":"containerd","version":"2.3.4"},{"name":"cni-plugins","version":"v1.9.1"}]}`

func newWorker(t *testing.T) *worker {
	t.Helper()
	w := &worker{t: t, root: t.TempDir(), now: today, running: map[string]bool{}, enabled: map[string]bool{}}
	w.write(imageRecord, record)
	var err error
	if w.ca, err = node.NewCA(node.CAConfig{Now: today.AddDate(0, -6, 0)}); err != nil {
		t.Fatal(err)
	}
	w.metadata = emulator.NewServer(emulator.Instance{
		Name: "worker-0", Project: "example", Zone: "us-west1-c", IP: "10.240.0.20",
		Attributes: w.attributes(node.Config{}),
		ServiceAccounts: []emulator.ServiceAccount{{
			Email: "worker@example.iam.gserviceaccount.com", Scopes: []string{emulator.CloudPlatform}}},
	})
	w.http = httptest.NewServer(w.metadata)
	t.Cleanup(w.http.Close)
	w.endpoint = w.http.URL
	return w
}

func (w *worker) attributes(c node.Config) map[string]string {
	w.t.Helper()
	c.Name, c.Server, c.IP = "worker-0", "https://10.240.0.10:6443", netip.MustParseAddr("10.240.0.20")
	c.PodCIDR, c.CA, c.Now = netip.MustParsePrefix("10.200.0.0/24"), w.ca, today.AddDate(0, -1, 0)
	values, err := node.New(c)
	if err != nil {
		w.t.Fatal(err)
	}
	attributes := map[string]string{}
	for key, value := range values {
		attributes[key] = string(value)
	}
	return attributes
}

func (w *worker) set(attributes map[string]string) {
	for key, value := range attributes {
		w.metadata.SetAttribute(key, value)
	}
}

func (w *worker) write(path, content string) {
	w.t.Helper()
	path = filepath.Join(w.root, path)
	filetest.Mkdir(w.t, filepath.Dir(path))
	filetest.Write(w.t, path, content)
}

func (w *worker) config() Config {
	return Config{
		Root: w.root, Log: &w.log,
		Metadata: metadata.Config{
			Endpoints: []string{w.endpoint}, SecretManager: w.endpoint,
			FirstPause: time.Millisecond, MaxPause: 2 * time.Millisecond, TryTimeout: 5 * time.Second,
		},
		Machine:  w.machine(),
		Status:   func(s string) { w.status = append(w.status, s) },
		Units:    func(context.Context) (Units, error) { return w, w.failing },
		Patience: time.Hour,
	}
}

func (w *worker) machine() Machine {
	return Machine{
		Now:         func() time.Time { w.mu.Lock(); defer w.mu.Unlock(); return w.now },
		Uptime:      func() time.Duration { return 7 * time.Second },
		CPU:         func() time.Duration { return 0 },
		Memory:      func() uint64 { return 4 << 30 },
		CPUs:        func() int { return 2 },
		SetHostname: func(name string) error { w.hostname = name; return nil },
		Swapoff:     func() ([]string, error) { return nil, nil },
		Console:     func(line string) error { w.console = append(w.console, line); return nil },
	}
}

// Start, Apply and Close make the worker its own systemd.
func (w *worker) Start(_ context.Context, units []services.Unit) ([]services.Job, error) {
	var jobs []services.Job
	for _, u := range units {
		switch {
		case !w.running[u.Name]:
			jobs = append(jobs, services.Job{Unit: u.Name, What: "start"})
		case u.Restart:
			jobs = append(jobs, services.Job{Unit: u.Name, What: "restart"})
		default:
			continue
		}
		// As systemd does it by the unit's condition.
		if u.Name != runtimeUnit && u.Name != healthUnit && w.exists("/var/lib/firstboot/apply.json") {
			w.t.Errorf("%s is started in the middle of an apply", u.Name)
		}
		w.running[u.Name] = true
	}
	for _, job := range jobs {
		w.calls = append(w.calls, job.What+" "+job.Unit)
	}
	return jobs, nil
}

func (w *worker) Apply(ctx context.Context, units []services.Unit) (services.Result, error) {
	jobs, err := w.Start(ctx, units)
	result := services.Result{Jobs: jobs}
	for _, u := range units {
		result.Enabled = result.Enabled || !w.enabled[u.Name]
		w.enabled[u.Name] = true
	}
	return result, err
}

func (w *worker) Close() {}

func (w *worker) exists(path string) bool {
	_, err := os.Lstat(filepath.Join(w.root, path))
	return err == nil
}

// run makes one attempt and returns what was started for it.
func (w *worker) run() (calls []string, err error) {
	w.calls, w.console = nil, nil
	err = Run(w.t.Context(), w.config())
	return w.calls, err
}

// configures requires an attempt to succeed.
func (w *worker) configures() []string {
	w.t.Helper()
	calls, err := w.run()
	if err != nil {
		w.t.Fatalf("%v\n%s", err, w.log.String())
	}
	return calls
}

// reboot stops everything and starts what is enabled.
func (w *worker) reboot() {
	w.t.Helper()
	filetest.Remove(w.t, filepath.Join(w.root, "run"))
	clear(w.running)
	for unit := range w.enabled {
		w.running[unit] = !strings.HasPrefix(unit, "k") || !w.exists("/var/lib/firstboot/apply.json")
	}
}

// snapshot is every file below the root but what a boot keeps, with its inode.
func (w *worker) snapshot() map[string]string {
	w.t.Helper()
	seen := map[string]string{}
	err := filepath.WalkDir(w.root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasPrefix(path, filepath.Join(w.root, "run")+"/") {
			return err
		}
		info, err := d.Info()
		if err == nil {
			seen[strings.TrimPrefix(path, w.root)] = fmt.Sprint(info.Mode(), info.Size(), info.ModTime(), inode(info))
		}
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return seen
}
