//go:build system

package qemu

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nodebake/bake/bake/node"
	"github.com/nodebake/bake/bake/vm"
	"github.com/nodebake/bake/test/cluster"
	"github.com/nodebake/bake/test/handmade"
)

// readyRuns says how often TestBootToReady boots each worker; 1 where unset.
const readyRuns = "BAKE_READY_RUNS"

// maxReadyRatio is how long our worker may take to be Ready, of what a worker
// takes that was set up by hand.
const maxReadyRatio = 0.6

// TestBootToReady measures how long a worker takes from power on to Ready, ours
// and one set up by hand on Debian as the guide says (see package handmade), in
// turns, each with a control plane of its own.
func TestBootToReady(t *testing.T) {
	ours := theHost(t)
	runs := 1
	if text := os.Getenv(readyRuns); text != "" {
		var err error
		if runs, err = strconv.Atoi(text); err != nil || runs < 1 {
			t.Fatalf("%s is %q; want a number of runs", readyRuns, text)
		}
	}
	columns := map[string][]milestones{}
	for i := range runs {
		t.Run(fmt.Sprintf("ours %d", i+1), func(t *testing.T) {
			s := newSite(t, cluster.Current)
			bootToReady(s, columns, "ours", options{network: s.network, diskSize: handmade.Size, attributes: s.guideAttributes()})
		})
		t.Run(fmt.Sprintf("by hand %d", i+1), func(t *testing.T) {
			s := newSite(t, cluster.Current)
			bootToReady(s, columns, "by hand", options{network: s.network, host: handmadeHost(s, ours)})
		})
	}
	for _, name := range columnNames() {
		if len(columns[name]) != runs {
			t.Fatalf("%s: %d of %d starts became Ready", name, len(columns[name]), runs)
		}
	}
	text := table(columns)
	t.Logf("seconds since power on (median of %d, QEMU with %s):\n%s", runs, ours.accel, text)
	save(t, "txt", text)
	a, b := median(columns["ours"], "Ready"), median(columns["by hand"], "Ready")
	if a > maxReadyRatio*b {
		t.Errorf("our worker is Ready after %.1f s, one set up by hand after %.1f s: %.2f of it; want at most %.2f", a, b, a/b, maxReadyRatio)
	}
}

// handmadeHost returns a host whose image is the worker set up by hand, with
// credentials of s.
func handmadeHost(s *site, ours *host) *host {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute)
	defer cancel()
	cache, err := os.UserCacheDir()
	if err != nil {
		s.t.Fatal(err)
	}
	attributes := s.guideAttributes()
	started := time.Now()
	disk, err := handmade.Build(ctx, handmade.Config{
		Dir: s.t.TempDir(), Cache: filepath.Join(cache, "bake-handmade"), Image: ours.disk,
		Name: "worker-0", PodCIDR: strings.TrimSpace(attributes["pod-cidr"]), Node: attributes,
	})
	switch {
	case errors.Is(err, exec.ErrNotFound):
		unavailable(s.t, err)
	case err != nil:
		s.t.Fatal(err)
	}
	s.t.Logf("set up a worker by hand in %.0f s", time.Since(started).Seconds())
	return &host{tools: ours.tools, accel: ours.accel, disk: disk}
}

// milestones are seconds from power on, by name. A worker that was set up by
// hand has no firstboot.
type milestones map[string]float64

// milestoneNames are in the order in which they are reached; containerd's may
// come between firstboot's.
func milestoneNames() []string {
	return []string{"kernel", "/init", "systemd", "network", "firstboot", "firstboot done", "containerd started", "containerd answers", "kubelet started", "registered", "Ready"}
}

// columnNames are the four starts that are compared.
func columnNames() []string { return []string{"ours", "by hand", "ours, again", "by hand, again"} }

// bootToReady starts a new worker, and the same one again, and adds when they
// got where to the columns NAME and "NAME, again".
//
// All boot without Secure Boot, as the guide's machines do: it is off where
// nobody asks for it.
func bootToReady(s *site, columns map[string][]milestones, name string, o options) {
	s.t.Helper()
	o.plainUEFI = true
	waitForIdle(s.t)
	nodes := s.watchNode()
	w := boot(s.t, o)
	columns[name] = append(columns[name], w.toReady(s, nodes, name))
	// GRUB waits ten seconds for a key after an error of its own.
	if strings.Contains(w.Console.String(), "Press any key") {
		s.t.Errorf("%s: GRUB found an error in its configuration", name)
	}
	w.shutDown()

	s.kubectl("delete", "node", "worker-0")
	waitForIdle(s.t)
	nodes = s.watchNode()
	w.startAgain()
	name += ", again"
	columns[name] = append(columns[name], w.toReady(s, nodes, name))
	w.shutDown()
}

// toReady waits until a worker that was started is Ready and returns when it got
// where.
func (w *worker) toReady(s *site, nodes <-chan nodeEvent, name string) milestones {
	s.t.Helper()
	m := milestones{}
	timeout := time.After(8 * time.Minute)
	for m["Ready"] == 0 {
		select {
		case e := <-nodes:
			at := e.at.Sub(w.Started).Seconds()
			if m["registered"] == 0 {
				m["registered"] = at
			}
			if e.ready {
				m["Ready"] = at
			}
		case <-timeout:
			s.t.Fatal("worker-0 is not Ready within 8 minutes")
		}
	}
	s.t.Logf("%s: registered at %.1f s, Ready at %.1f s", name, m["registered"], m["Ready"])
	w.login(3 * time.Minute)
	w.timeStamps(m)
	file := strings.ReplaceAll(strings.ReplaceAll(name, ", ", "-"), " ", "-")
	if _, ok := m["firstboot"]; ok {
		save(s.t, file+".json", w.waitFor(`(?m)^firstboot: ready (\{.*\})$`, time.Minute)[1])
	}
	state, _ := w.try("systemctl is-system-running --wait")
	s.t.Logf("the system is %s; failed units: %q; kubelet was started again %s times", state,
		w.run("systemctl --failed --no-legend --no-pager"), w.run("systemctl show -P NRestarts kubelet"))
	s.t.Logf("%s\n%s", w.run("systemd-analyze time"), w.run("containerd --version; kubelet --version; uname -r"))
	save(s.t, file+".blame", w.run("systemd-analyze blame --no-pager"))
	save(s.t, file+".critical-chain", w.run("systemd-analyze critical-chain --no-pager kubelet.service multi-user.target"))
	save(s.t, file+".journal", w.run("journalctl -b -o short-monotonic --no-pager"))
	return m
}

// timeStamps adds what the console and the machine itself know. The machine
// counts from its kernel's start.
func (w *worker) timeStamps(m milestones) {
	w.t.Helper()
	lines := w.Console.Lines()
	m["kernel"] = kernelStart(lines)
	for _, l := range lines {
		if stamp := kernelStamp.FindStringSubmatch(l.Text); stamp != nil && strings.Contains(l.Text, "Run /init as init process") {
			m["/init"] = m["kernel"] + number(w.t, stamp[1])
		}
	}
	const show = "systemctl show -P "
	for name, command := range map[string]string{
		"systemd":            show + "UserspaceTimestampMonotonic",
		"network":            show + "ActiveEnterTimestampMonotonic network.target",
		"firstboot":          show + "ExecMainStartTimestampMonotonic firstboot.service",
		"firstboot done":     show + "ExecMainExitTimestampMonotonic firstboot.service",
		"containerd started": show + "ExecMainStartTimestampMonotonic containerd.service",
		"kubelet started":    show + "ExecMainStartTimestampMonotonic kubelet.service",
		"containerd answers": `journalctl -b -u containerd -o json --output-fields=MESSAGE --no-pager | grep 'containerd successfully booted' | tail -n 1 | sed -E 's/.*"__MONOTONIC_TIMESTAMP":"([0-9]+)".*/\1/'`,
	} {
		if us := number(w.t, w.run(command)); us > 0 {
			m[name] = m["kernel"] + us/1e6
		}
	}
}

// kernelStamp matches the time that the kernel puts before its messages.
var kernelStamp = regexp.MustCompile(`^\[ *(\d+\.\d+)\] `)

// kernelStart returns when the kernel began to count. A line reaches the console
// some time after its stamp, the first ones only when there is a console: the
// line that came soonest tells.
func kernelStart(lines []vm.Line) float64 {
	start := math.Inf(1)
	for _, l := range lines {
		if m := kernelStamp.FindStringSubmatch(l.Text); m != nil {
			stamp, _ := strconv.ParseFloat(m[1], 64)
			start = min(start, l.At.Seconds()-stamp)
		}
	}
	return start
}

func TestKernelStart(t *testing.T) {
	lines := []vm.Line{
		{At: 10 * time.Second, Text: "BdsDxe: starting Boot0001"},
		{At: 15 * time.Second, Text: "[    0.000000] Linux version 6.12"},
		{At: 15 * time.Second, Text: "[    2.500000] printk: console [ttyS0] enabled"},
		{At: 18 * time.Second, Text: "[    4.000000] Run /init as init process"},
	}
	if got := kernelStart(lines); got != 12.5 {
		t.Errorf("kernelStart = %v; want 12.5, from the line that came soonest", got)
	}
}

func number(t *testing.T, text string) float64 {
	t.Helper()
	if text == "" {
		return 0
	}
	v, err := strconv.ParseFloat(text, 64)
	if err != nil {
		t.Error(err)
	}
	return v
}

// nodeEvent is a change of worker-0 as the API server tells it.
type nodeEvent struct {
	at    time.Time // here
	ready bool
}

// watchNode tells of every change of a node until the test ends. It asks once
// and leaves the processors to the machine; where the answer ends it asks again.
func (s *site) watchNode() <-chan nodeEvent {
	s.t.Helper()
	cert, key, err := s.ca.Issue(node.IssueConfig{CommonName: "admin", Organizations: []string{"system:masters"}, Client: true, Now: time.Now()})
	if err != nil {
		s.t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		s.t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(s.ca.Certificate())
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}}}
	local := strings.Replace(s.URL(), cluster.Address, "127.0.0.1", 1)
	ctx, cancel := context.WithCancel(context.Background())
	events, done := make(chan nodeEvent, 1000), make(chan struct{})
	s.t.Cleanup(func() {
		cancel()
		transport.CloseIdleConnections()
		<-done
	})
	client := &http.Client{Transport: transport}
	version, err := nodesVersion(ctx, client, local)
	if err != nil {
		s.t.Fatalf("listing nodes: %v", err)
	}
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			err := watch(ctx, client, local+"/api/v1/nodes?watch=true&timeoutSeconds=1200&resourceVersion="+version, events)
			if ctx.Err() == nil {
				s.t.Logf("watching nodes: %v", err)
				time.Sleep(100 * time.Millisecond)
			}
		}
	}()
	return events
}

// nodesVersion returns the version of the list of nodes, from which to watch.
// Asked without one, an API server on Debian 12's etcd (3.4) answered with an
// error every few seconds.
func nodesVersion(ctx context.Context, client *http.Client, base string) (string, error) {
	body, err := get(ctx, client, base+"/api/v1/nodes")
	if err != nil {
		return "", err
	}
	defer body.Close()
	var list struct {
		Metadata struct{ ResourceVersion string }
	}
	err = json.NewDecoder(body).Decode(&list)
	return list.Metadata.ResourceVersion, err
}

func get(ctx context.Context, client *http.Client, url string) (io.ReadCloser, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		response.Body.Close()
		return nil, errors.New(response.Status)
	}
	return response.Body, nil
}

// watch sends an event for each change that url answers with.
func watch(ctx context.Context, client *http.Client, url string, events chan<- nodeEvent) error {
	body, err := get(ctx, client, url)
	if err != nil {
		return err
	}
	defer body.Close()
	for decoder := json.NewDecoder(body); ; {
		var e struct {
			Type   string
			Object json.RawMessage
		}
		if err := decoder.Decode(&e); err != nil {
			return err
		}
		var n cluster.Node
		switch e.Type {
		case "ADDED", "MODIFIED":
			if n, err = cluster.ParseNode(e.Object); err != nil {
				return err
			}
		case "ERROR":
			return errors.New(string(e.Object))
		default:
			continue
		}
		select {
		case events <- nodeEvent{time.Now(), n.Ready}:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// waitForIdle waits until the host's processors have nothing much to do, for at
// most a minute.
func waitForIdle(t *testing.T) {
	t.Helper()
	started := time.Now()
	for time.Since(started) < time.Minute {
		before := busy(t)
		time.Sleep(3 * time.Second)
		if (busy(t)-before)/3 < 0.5 {
			return
		}
	}
	t.Logf("the host is still busy after %.0f s: the figures are of a busy host", time.Since(started).Seconds())
}

// busy returns how many seconds the host's processors have worked (proc_stat(5)).
func busy(t *testing.T) float64 {
	t.Helper()
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		t.Fatal(err)
	}
	line, _, _ := strings.Cut(string(stat), "\n")
	fields := strings.Fields(line) // cpu user nice system idle iowait irq softirq steal
	sum := 0.0
	for i, f := range fields {
		if i > 0 && i != 4 && i != 5 {
			sum += number(t, f)
		}
	}
	return sum / 100
}

// median returns the median of a milestone over runs, 0 where none has it.
func median(runs []milestones, name string) float64 {
	var all []float64
	for _, m := range runs {
		if v, ok := m[name]; ok {
			all = append(all, v)
		}
	}
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return (all[(len(all)-1)/2] + all[len(all)/2]) / 2
}

// table shows the milestones of every column side by side: when, and how long
// after the one before.
func table(columns map[string][]milestones) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-18s", "")
	for _, name := range columnNames() {
		fmt.Fprintf(&b, " %17s", name)
	}
	fmt.Fprintln(&b)
	before := map[string]float64{}
	for _, milestone := range milestoneNames() {
		fmt.Fprintf(&b, "%-18s", milestone)
		for _, name := range columnNames() {
			at := median(columns[name], milestone)
			if at == 0 {
				fmt.Fprintf(&b, " %17s", "-")
				continue
			}
			fmt.Fprintf(&b, " %8.1f (%+6.1f)", at, at-before[name])
			before[name] = at
		}
		fmt.Fprintln(&b)
	}
	ratio := func(suffix string) float64 {
		return median(columns["ours"+suffix], "Ready") / median(columns["by hand"+suffix], "Ready")
	}
	fmt.Fprintf(&b, "ours is Ready in %.2f of the time, started again in %.2f\n", ratio(""), ratio(", again"))
	return b.String()
}

func TestMedian(t *testing.T) {
	runs := []milestones{{"Ready": 3}, {"Ready": 1}, {"Ready": 5, "firstboot": 2}}
	for name, want := range map[string]float64{"Ready": 3, "firstboot": 2, "kernel": 0} {
		if got := median(runs, name); got != want {
			t.Errorf("median of %s = %v; want %v", name, got, want)
		}
	}
	if got := median(runs[:2], "Ready"); got != 2 {
		t.Errorf("median of two = %v; want 2", got)
	}
}
