//go:build linux

package cluster

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/bake/cluster/clustertest"
	"github.com/nodebake/bake/bake/dns"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/routes"
	"github.com/nodebake/bake/bake/vm"
	"github.com/nodebake/bake/bake/vm/vpc"
)

// rootVariable has a test binary run the cluster that was handed over there, as a
// supervisor does. It is ROOT NAME FIRMWARE.
const rootVariable = "CLUSTER_TEST_ROOT"

func TestMain(m *testing.M) {
	clustertest.Main()
	if text := os.Getenv(rootVariable); text != "" {
		words := strings.Split(text, " ")
		supervise(words[0], words[1], words[2])
	}
	os.Exit(m.Run())
}

// supervise runs a cluster until a signal.
func supervise(root, name, firmware string) {
	ctx, stop := signalContext()
	defer stop()
	d, config, err := Resume(root, name)
	if err == nil {
		tools := vm.Tools{QEMU: filepath.Join(firmware, "qemu-system-x86_64"), QEMUImg: filepath.Join(firmware, "qemu-img"), Firmware: firmware}
		err = Run(ctx, d, config, tools, time.Now)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// running is a cluster of stand-ins that this process runs.
type running struct {
	*testing.T
	root   string
	config Config
	dir    string
	client *Client
	cancel context.CancelFunc
	ended  chan struct{}
	err    error // after ended
}

// describe returns the description of a cluster of stand-ins.
func describe(t *testing.T, name string, workers int) (Config, vm.Tools) {
	t.Helper()
	programs, tools := clustertest.Install(t)
	return Config{
		Name: name, Image: "worker.tar.gz", Disk: "/worker.raw", Workers: workers, CPUs: 1, MemoryMiB: 1024, Accel: vm.TCG,
		Programs: *programs, ReadyTime: time.Minute,
	}, tools
}

// begin runs a cluster. change may change what it is to be, and dir what is in its
// directory.
func begin(t *testing.T, root, name string, workers int, change func(*Config), dir func(path string)) *running {
	t.Helper()
	config, tools := describe(t, name, workers)
	if change != nil {
		change(&config)
	}
	d, err := Claim(root, &config, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if dir != nil {
		dir(d.Path)
	}
	r := &running{T: t, root: root, config: config, dir: d.Path, client: NewClient(root, name), ended: make(chan struct{})}
	var ctx context.Context
	ctx, r.cancel = context.WithCancel(context.Background())
	go func() {
		r.err = Run(ctx, d, config, tools, time.Now)
		close(r.ended)
	}()
	t.Cleanup(func() {
		r.cancel()
		<-r.ended
		leavesNoProcess(t, d.Path)
	})
	return r
}

// wait waits until the cluster's status is as wanted.
func (r *running) wait(what string, ok func(Status) bool) Status {
	r.Helper()
	var s Status
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		var err error
		if s, err = r.client.Status(r.Context()); err == nil && ok(s) {
			return s
		}
		if s.Phase == Failed {
			break
		}
	}
	r.Fatalf("the cluster is %+v; want that it is %s", s, what)
	return s
}

func (r *running) waitRunning() Status {
	r.Helper()
	return r.wait("running", func(s Status) bool { return s.Phase == Running })
}

// worker returns what a status has of a worker.
func worker(s Status, name string) WorkerStatus {
	for _, w := range s.Workers {
		if w.Name == name {
			return w
		}
	}
	return WorkerStatus{}
}

// processes returns the command lines of processes that work in dir, or are told
// of something there.
func processes(t *testing.T, dir string) []string {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*")
	if err != nil || len(all) == 0 {
		t.Fatalf("looking for processes: %v, %v", all, err)
	}
	var found []string
	for _, proc := range all {
		line, err := os.ReadFile(filepath.Join(proc, "cmdline"))
		if err != nil || len(line) == 0 {
			continue // it has ended
		}
		place, _ := os.Readlink(filepath.Join(proc, "cwd"))
		if strings.HasPrefix(place, dir) || strings.Contains(string(line), dir+"/") {
			found = append(found, filepath.Base(proc)+" "+strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
	return found
}

func leavesNoProcess(t *testing.T, dir string) {
	t.Helper()
	var found []string
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if found = processes(t, dir); len(found) == 0 {
			return
		}
	}
	t.Errorf("processes of %s are left: %q", dir, found)
}

// kill ends the process that a pattern of processes is of.
func (r *running) kill(program string) {
	r.Helper()
	for _, line := range processes(r.T, r.dir) {
		if pid, rest, _ := strings.Cut(line, " "); strings.Contains(rest, program) {
			number, err := strconv.Atoi(pid)
			if err != nil {
				r.Fatal(err)
			}
			syscall.Kill(number, syscall.SIGKILL)
			return
		}
	}
	r.Fatalf("no process is %s: %q", program, processes(r.T, r.dir))
}

func isGone(t *testing.T, path string) {
	t.Helper()
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is left (%v)", path, err)
	}
}

// TestLife is a cluster from its start to its end.
func TestLife(t *testing.T) {
	t.Parallel()
	r := begin(t, filepath.Join(t.TempDir(), strings.Repeat("long", 25)), "one", 2, func(c *Config) { c.Metadata = map[string]string{"team": "a"} }, nil)
	s := r.waitRunning()
	for i, w := range s.Workers {
		want := WorkerStatus{Worker: numbered(i, fmt.Sprintf("worker-%d", i)), State: Ready, Console: filepath.Join(r.dir, "consoles", w.Name+".console"), Starts: 1}
		if diff := cmp.Diff(want, w, compareAddresses()); diff != "" {
			t.Errorf("worker %d (-want +got):\n%s", i, diff)
		}
	}
	want := &DNSStatus{
		IP: netip.MustParseAddr("10.32.0.10"), Version: "1.14.2", Image: "bake.invalid/coredns:v1.14.2",
		Replicas: []dns.Replica{{Pod: "coredns-1", Node: "worker-0", IP: "10.200.0.2"}, {Pod: "coredns-2", Node: "worker-1", IP: "10.200.1.2"}},
	}
	if diff := cmp.Diff(want, s.DNS, compareAddresses()); diff != "" || len(s.Notes) > 0 {
		t.Errorf("DNS (-want +got):\n%snotes %q", diff, s.Notes)
	}
	kubeconfig, err := os.ReadFile(s.Kubeconfig)
	if err != nil || !strings.Contains(string(kubeconfig), "server: "+s.Server+"\n") {
		t.Errorf("the kubeconfig %s does not lead to %s: %v", s.Kubeconfig, s.Server, err)
	}
	if text, err := os.ReadFile(s.Workers[0].Console); err != nil || !strings.Contains(string(text), "\nfirstboot: ready ") {
		t.Errorf("the console of worker-0 is %q, %v", text, err)
	}
	r.adds()
	r.routes()
	r.firewall()
	r.logs()
	if err := Delete(t.Context(), r.root, "one"); err != nil {
		t.Error(err)
	}
	isGone(t, r.dir)
	<-r.ended
	if r.err != nil {
		t.Errorf("Run of a cluster that was deleted = %v; want nil", r.err)
	}
	leavesNoProcess(t, r.dir)
	var input *manifest.ArgumentError
	if err := Delete(t.Context(), r.root, "one"); !errors.As(err, &input) || err.Error() != "there is no cluster one" {
		t.Errorf("the second Delete = %v; want that there is none", err)
	}
}

// adds lets workers join: a fourth, one of another name, and one in place of another.
func (r *running) adds() {
	r.Helper()
	for _, test := range []struct{ name, ip string }{{"worker-3", "10.240.0.23"}, {"blue", "10.240.0.22"}} {
		if err := r.client.Add(r.Context(), test.name, false); err != nil {
			r.Fatal(err)
		}
		s, err := r.client.Status(r.Context())
		if w := worker(s, test.name); err != nil || w.IP.String() != test.ip || w.State != Ready {
			r.Errorf("%s is %+v, %v; want it ready at %s", test.name, w, err, test.ip)
		}
	}
	var input *manifest.ArgumentError
	if err := r.client.Add(r.Context(), "blue", false); !errors.As(err, &input) || !strings.Contains(err.Error(), "there is a worker blue already") {
		r.Errorf("adding blue again: %v; want that it is there", err)
	}
	disk := filepath.Join(r.dir, "disks", "blue.qcow2")
	if err := os.WriteFile(disk, []byte("what blue wrote"), 0o600); err != nil {
		r.Fatal(err)
	}
	if err := r.client.Add(r.Context(), "blue", true); err != nil {
		r.Error(err)
	}
	if content, err := os.ReadFile(disk); err != nil || len(content) > 0 {
		r.Errorf("blue was replaced, and its disk has %q, %v; want a fresh one", content, err)
	}
	if s, err := r.client.Status(r.Context()); err != nil || len(s.Workers) != 4 || worker(s, "blue").IP.String() != "10.240.0.22" {
		r.Errorf("after blue was replaced the workers are %+v, %v; want four, and blue where it was", s.Workers, err)
	}
}

func (r *running) routes() {
	r.Helper()
	var table routes.Table = r.client
	prefix, hop := netip.MustParsePrefix, netip.MustParseAddr
	want := map[netip.Prefix]netip.Addr{
		prefix("10.200.0.0/24"): hop("10.240.0.20"), prefix("10.200.1.0/24"): hop("10.240.0.21"),
		prefix("10.200.2.0/24"): hop("10.240.0.22"), prefix("10.200.3.0/24"): hop("10.240.0.23"),
	}
	are := func() {
		r.Helper()
		got, err := table.Routes(r.Context())
		if err != nil || !maps.Equal(got, want) {
			r.Errorf("the routes are %v, %v; want %v", got, err, want)
		}
	}
	are()
	if err := table.RemoveRoute(r.Context(), prefix("10.200.3.0/24")); err != nil {
		r.Error(err)
	}
	delete(want, prefix("10.200.3.0/24"))
	are()
	if err := table.SetRoute(r.Context(), prefix("10.200.2.0/24"), hop("10.240.0.23")); err != nil {
		r.Error(err)
	}
	want[prefix("10.200.2.0/24")] = hop("10.240.0.23")
	are()
	var input *manifest.ArgumentError
	if err := table.SetRoute(r.Context(), prefix("10.240.0.0/25"), hop("10.240.0.20")); !errors.As(err, &input) {
		r.Errorf("a route for machines: %v; want that it is refused as input", err)
	}
}

// firewall takes a rule and the forwarding of a worker away, and gives them back.
func (r *running) firewall() {
	r.Helper()
	before, err := r.client.Rules(r.Context())
	if err != nil || len(before) != 3 {
		r.Fatalf("the rules are %+v, %v; want the guide's two, and one for node ports", before, err)
	}
	if err := r.client.RemoveRule(r.Context(), AllowNodePorts); err != nil {
		r.Error(err)
	}
	if rules, err := r.client.Rules(r.Context()); err != nil || len(rules) != 2 {
		r.Errorf("without the rule for node ports they are %+v, %v; want two", rules, err)
	}
	for _, rule := range before {
		if err := r.client.SetRule(r.Context(), rule); err != nil {
			r.Error(err)
		}
	}
	after, err := r.client.Rules(r.Context())
	if diff := cmp.Diff(before, after, compareAddresses()); diff != "" || err != nil {
		r.Errorf("the rules are not what they were: %v (-before +after):\n%s", err, diff)
	}
	for _, on := range []bool{false, true} {
		if err := r.client.SetCanIPForward(r.Context(), "worker-0", on); err != nil {
			r.Error(err)
		}
	}
	var input *manifest.ArgumentError
	if err := r.client.SetCanIPForward(r.Context(), "worker-9", true); !errors.As(err, &input) || err.Error() != "there is no worker worker-9" {
		r.Errorf("forwarding of nobody: %v; want that there is no such worker", err)
	}
	if err := r.client.SetRule(r.Context(), vpc.Rule{}); !errors.As(err, &input) {
		r.Errorf("a rule without a name: %v; want that it is refused as input", err)
	}
}

func (r *running) logs() {
	r.Helper()
	to := filepath.Join(r.TempDir(), "logs")
	got, err := Logs(r.Context(), r.root, r.config.Name, to)
	if err != nil {
		r.Fatal(err)
	}
	want := []string{
		"blue.console", "cluster.json", "etcd.log", "events.json", "kube-apiserver.log", "kube-controller-manager.log", "kube-scheduler.log",
		"nodes.json", "worker-0.console", "worker-1.console", "worker-3.console",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		r.Errorf("logs (-want +got):\n%s", diff)
	}
	entries, err := os.ReadDir(to)
	if err != nil || len(entries) != len(want) {
		r.Errorf("the directory of logs has %v, %v; want %q", entries, err, want)
	}
	for _, e := range entries {
		if text, err := os.ReadFile(filepath.Join(to, e.Name())); err != nil || strings.Contains(string(text), "PRIVATE KEY") || strings.Contains(string(text), "client-key-data") {
			r.Errorf("%s has a key, or can't be read: %v", e.Name(), err)
		}
	}
	var input *manifest.ArgumentError
	if _, err := Logs(r.Context(), r.root, r.config.Name, to); !errors.As(err, &input) || !strings.Contains(err.Error(), "is not empty") {
		r.Errorf("logs to a directory that has some: %v; want that it is refused", err)
	}
}

// TestWithoutDNS has clusters that can't have DNS, or are told of another.
func TestWithoutDNS(t *testing.T) {
	t.Parallel()
	file := func(name string) func(string) {
		return func(dir string) {
			if err := errors.Join(os.Mkdir(filepath.Join(dir, controlPlaneDir), 0o700), os.WriteFile(filepath.Join(dir, controlPlaneDir, name), nil, 0o600)); err != nil {
				t.Error(err)
			}
		}
	}
	for _, test := range []struct {
		name   string
		change func(*Config)
		dir    func(string)
		note   string
		dns    string
		fails  string
	}{
		{name: "no image", dir: file(clustertest.NoCoreDNS), note: "there is no DNS: the image has no CoreDNS (bake dns apply --image NAME applies one from a registry)"},
		{name: "no kubectl", change: func(c *Config) { c.Programs.Kubectl = "" }, note: "there is no DNS: the control plane's versions file has no kubectl to apply it with"},
		{name: "another address", change: func(c *Config) { c.Metadata = map[string]string{"cluster-dns": "10.32.0.53"} }, dns: "10.32.0.53"},
		{name: "no address", change: func(c *Config) { c.Metadata = map[string]string{"cluster-dns": "x"} }, fails: `metadata key cluster-dns: ParseAddr("x"): unable to parse IP`},
		{name: "never ready", change: func(c *Config) { c.ReadyTime = 10 * time.Second }, dir: file(clustertest.DNSPending),
			fails: "applying the DNS add-on: waiting for CoreDNS: 10s are over: 0 of 2 replicas are available; coredns-1 on worker-0 runs and is not ready; coredns-2 on worker-1 runs and is not ready"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := begin(t, t.TempDir(), "one", 2, test.change, test.dir)
			if test.fails != "" {
				<-r.ended
				if r.err == nil || !strings.Contains(r.err.Error(), test.fails) {
					t.Errorf("Run = %v; want %q", r.err, test.fails)
				}
				return
			}
			s := r.waitRunning()
			if notes := strings.Join(s.Notes, "; "); notes != test.note {
				t.Errorf("the notes are %q; want %q", notes, test.note)
			}
			if got := s.DNS; (got == nil) != (test.dns == "") || got != nil && got.IP.String() != test.dns {
				t.Errorf("DNS is %+v; want it at %q", got, test.dns)
			}
		})
	}
}

func TestWorkersThatAreNotReady(t *testing.T) {
	t.Parallel()
	r := begin(t, t.TempDir(), "one", 1, func(c *Config) { c.ReadyTime, c.Programs.Kubectl = 3*time.Second, "" }, nil)
	s := r.waitRunning()
	reason := "cni plugin not initialized"
	if err := os.WriteFile(filepath.Join(s.CADir, clustertest.NotReady("red")), []byte(reason), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name  string
		state WorkerState
		want  []string
	}{
		{clustertest.Off, Off, []string{"off is not Ready: it powered itself off"}},
		{clustertest.Silent, Booting, []string{"silent is not Ready within 3s: firstboot has not said", "silent.console:\n", "firstboot: failed: metadata key pod-cidr: is missing"}},
		{"red", Booting, []string{"red is not Ready within 3s: KubeletNotReady: " + reason}},
	} {
		err := r.client.Add(t.Context(), test.name, false)
		for _, want := range test.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("adding %s: %v; want an error with %q", test.name, err, want)
			}
		}
		if s, err := r.client.Status(t.Context()); err != nil || worker(s, test.name).State != test.state {
			t.Errorf("%s is %+v, %v; want %s", test.name, worker(s, test.name), err, test.state)
		}
	}
	if err := os.WriteFile(filepath.Join(s.CADir, clustertest.NotReady("worker-0")), []byte(reason), 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := r.client.Status(t.Context()); err != nil || worker(s, "worker-0").State != NotReady {
		t.Errorf("worker-0, which was ready, is %+v, %v; want %s", worker(s, "worker-0"), err, NotReady)
	}
}

func TestMachinesThatEnd(t *testing.T) {
	t.Parallel()
	r := begin(t, t.TempDir(), "one", 1, nil, nil)
	r.waitRunning()
	want := "dies is not Ready: its machine ended 4 times within 10m0s, the last time: machine dies: exit status 1: qemu: no memory"
	if err := r.client.Add(t.Context(), clustertest.Dies, false); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("adding a machine that dies: %v; want an error with %q", err, want)
	}
	if err := r.client.Add(t.Context(), clustertest.Panics, false); err != nil {
		t.Error(err)
	}
	r.kill("-name worker-0")
	s := r.wait("ready again", func(s Status) bool { w := worker(s, "worker-0"); return w.Starts == 2 && w.State == Ready })
	for name, want := range map[string]int{clustertest.Dies: 4, clustertest.Panics: 2} {
		if got := worker(s, name).Starts; got != want {
			t.Errorf("the machine %s was started %d times; want %d", name, got, want)
		}
	}
	console, err := os.ReadFile(worker(s, "worker-0").Console)
	if err != nil || strings.Count(string(console), "firstboot: ready") != 2 || !strings.Contains(string(console), "\n=== its machine ended and is started again: ") {
		t.Errorf("the console of a machine that was started again is %q, %v", console, err)
	}
}

// TestFailures are clusters that end by themselves, with the reason.
func TestFailures(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		change func(*Config)
		act    func(*running) // once it runs; nil: it never does
		want   string
	}{
		{"no etcd", func(c *Config) { c.Programs.Etcd = "/nowhere/etcd" }, nil, "starting a control plane: starting etcd:"},
		{"bad metadata", func(c *Config) { c.Metadata = map[string]string{"a b": "c"} }, nil, `starting worker-0: making the metadata of worker-0: instance metadata: key "a b"`},
		{"the scheduler ends", nil, func(r *running) { r.kill("kube-scheduler") }, "the control plane failed: kube-scheduler ended by itself: signal: killed\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := begin(t, t.TempDir(), "one", 1, test.change, nil)
			if test.act != nil {
				r.waitRunning()
				test.act(r)
			}
			<-r.ended
			if r.err == nil || !strings.Contains(r.err.Error(), test.want) {
				t.Errorf("Run = %v; want an error with %q", r.err, test.want)
			}
			leavesNoProcess(t, r.dir)
			if s, err := r.client.Status(t.Context()); err != nil || s.Phase != Failed || !strings.Contains(s.Error, test.want) {
				t.Errorf("the status of a cluster that failed is %+v, %v; want its error", s, err)
			}
			if _, err := Logs(t.Context(), r.root, "one", filepath.Join(t.TempDir(), "logs")); err != nil {
				t.Error(err)
			}
			if err := Delete(t.Context(), r.root, "one"); err != nil {
				t.Error(err)
			}
			isGone(t, r.dir)
		})
	}
}

// TestTwoOfOneName refuse each other, and another name does not.
func TestTwoOfOneName(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	r := begin(t, root, "one", 1, nil, nil)
	r.waitRunning()
	_, err := Claim(root, &Config{Name: "one"}, time.Now())
	want := &RunningError{Name: "one", PID: os.Getpid()}
	if diff := cmp.Diff(error(want), err); diff != "" {
		t.Errorf("the second Claim (-want +got):\n%s", diff)
	}
	begin(t, root, "two", 1, nil, nil).waitRunning()
	if names, err := Names(root); err != nil || !slices.Equal(names, []string{"one", "two"}) {
		t.Errorf("Names = %q, %v; want one and two", names, err)
	}
}

// TestInterrupted ends a cluster's process at each step, in each way, and deletes
// what is left. Another cluster goes on.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	other := begin(t, root, "other", 1, nil, nil)
	other.waitRunning()
	steps := []struct {
		name string
		hold string // a file that keeps the cluster there
		at   func(Status) bool
	}{
		{"control plane", clustertest.Hold, func(s Status) bool { return s.Step == "control plane" }},
		{"workers", clustertest.NotReady("worker-0"), func(s Status) bool { return s.Step == "workers" && len(s.Workers) == 2 }},
		{"running", "", func(s Status) bool { return s.Phase == Running }},
	}
	for _, step := range steps {
		for _, way := range []string{"SIGTERM", "SIGKILL", "delete"} {
			t.Run(step.name+", "+way, func(t *testing.T) {
				name := strings.ReplaceAll(step.name, " ", "-") + "-" + strings.ToLower(way)
				p := supervised(t, root, name, step.hold)
				p.wait(step.name, step.at)
				switch way {
				case "SIGTERM":
					p.cmd.Process.Signal(syscall.SIGTERM)
					p.waitExit()
					isGone(t, p.dir)
				case "SIGKILL":
					p.cmd.Process.Signal(syscall.SIGKILL)
					p.waitExit()
					leavesNoProcess(t, p.dir)
					if s, err := p.client.Status(t.Context()); err != nil || s.Phase != Ended {
						t.Errorf("the status of a cluster that was killed is %+v, %v; want it ended", s, err)
					}
				}
				if way != "SIGTERM" {
					if err := Delete(t.Context(), root, name); err != nil {
						t.Error(err)
					}
				}
				isGone(t, p.dir)
				if found := processes(t, p.dir); len(found) > 0 {
					t.Errorf("processes are left: %q", found)
				}
				if s, err := other.client.Status(t.Context()); err != nil || s.Phase != Running || s.Workers[0].State != Ready || s.Workers[0].Starts != 1 {
					t.Errorf("the other cluster is %+v, %v; want it as it was", s, err)
				}
			})
		}
	}
}

// supervisedCluster is a cluster in a process of its own.
type supervisedCluster struct {
	*running
	cmd *exec.Cmd
}

// supervised hands a cluster over to a process, which stays where hold keeps it.
func supervised(t *testing.T, root, name, hold string) *supervisedCluster {
	t.Helper()
	config, tools := describe(t, name, 2)
	d, err := Claim(root, &config, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if hold != "" {
		if err := os.Mkdir(d.file(controlPlaneDir), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(d.file(controlPlaneDir, hold), []byte("it is held"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Handover(&config); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %s %s", rootVariable, root, name, tools.Firmware))
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { cmd.Wait(); close(ended) }()
	t.Cleanup(func() { cmd.Process.Kill(); <-ended })
	return &supervisedCluster{&running{T: t, root: root, config: config, dir: d.Path, client: NewClient(root, name), ended: ended}, cmd}
}

func (p *supervisedCluster) waitExit() {
	p.Helper()
	select {
	case <-p.ended:
	case <-time.After(30 * time.Second):
		p.Fatal("the cluster's process goes on")
	}
}

// TestDeletedWhilePrepared is a cluster whose process can't be asked yet.
func TestDeletedWhilePrepared(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	config, _ := describe(t, "one", 1)
	d, err := Claim(root, &config, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Handover(&config); err != nil {
		t.Fatal(err)
	}
	if err := Delete(t.Context(), root, "one"); err != nil {
		t.Error(err)
	}
	if _, _, err := Resume(root, "one"); err == nil || !strings.Contains(err.Error(), "cluster one was deleted while it was prepared") {
		t.Errorf("Resume = %v; want that it was deleted", err)
	}
	isGone(t, d.Path)
}
