//go:build system

package qemu

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
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

	bakecluster "github.com/nodebake/bake/bake/cluster"
	"github.com/nodebake/bake/bake/smoke"
	"github.com/nodebake/bake/bake/vm/vpc"
	"github.com/nodebake/bake/test/cluster"
)

// TestCluster is `bake cluster` from its start to its end, with the image that
// ships: three workers told apart by their metadata, pods on each, a machine that is
// killed, a fourth worker, and one that is replaced; and the smoke test, also of clusters
// in which something is wrong.
func TestCluster(t *testing.T) {
	host := theHost(t)
	c := startCluster(t, host, "--workers", "3", "--isolated")
	c.hasNodes("worker-0", "worker-1", "worker-2")
	c.runsPods(preloadedImage(t, recordOf(t, host), "coredns").Reference, "worker-0", "worker-1", "worker-2")
	c.needsRoutes("worker-1")
	c.smokes()
	c.survivesAKilledMachine("worker-1")
	c.measure()

	c.bake("add", "worker-3", "--name", c.name)
	c.hasNodes("worker-0", "worker-1", "worker-2", "worker-3")
	before := c.kubectl("get", "node", "worker-2", "-o", "jsonpath={.metadata.uid} {.status.nodeInfo.machineID}")
	c.bake("add", "worker-2", "--replace", "--name", c.name)
	c.hasNodes("worker-0", "worker-1", "worker-2", "worker-3")
	after := c.kubectl("get", "node", "worker-2", "-o", "jsonpath={.metadata.uid} {.status.nodeInfo.machineID}")
	if id, other := strings.Fields(before), strings.Fields(after); len(id) != 2 || len(other) != 2 || id[0] != other[0] || id[1] == other[1] {
		t.Errorf("worker-2 was %q and is %q; want the same node on another machine", before, after)
	}
	c.logs()
	c.delete()
}

// bakeCluster is a cluster that `bake cluster --detach` runs.
type bakeCluster struct {
	*testing.T
	name   string
	env    []string
	tmp    string
	root   string // of clusters
	client *bakecluster.Client
	status bakecluster.Status // when it was Ready
}

// clusterTime is what a worker gets to be Ready: three start at once, and under TCG
// share the processors.
const clusterTime = 15 * time.Minute

func startCluster(t *testing.T, host *host, args ...string) *bakeCluster {
	t.Helper()
	cluster.Need(t, cluster.Current, root) // builds say here how they go on
	state := t.TempDir()
	c := &bakeCluster{T: t, name: "test", tmp: t.TempDir(), root: filepath.Join(state, "bake", "clusters")}
	c.env = append(os.Environ(), "XDG_STATE_HOME="+state, "TMPDIR="+c.tmp)
	c.client = bakecluster.NewClient(c.root, c.name)
	t.Cleanup(func() {
		if t.Failed() {
			c.saveLogs()
		}
		if bakecluster.Exists(c.root, c.name) {
			c.bake("delete", "--name", c.name)
		}
	})
	image, err := filepath.Abs(host.image)
	if err != nil {
		t.Fatal(err)
	}
	started := time.Now()
	args = append([]string{image, "--name", c.name, "--detach", "--json", "--accel", string(host.accel), "--timeout", clusterTime.String()}, args...)
	out := c.bake(args...)
	if err := json.Unmarshal([]byte(out), &c.status); err != nil {
		t.Fatalf("bake cluster --json prints %s: %v", out, err)
	}
	t.Logf("%6.1f s  %d workers are Ready, by %s", time.Since(started).Seconds(), len(c.status.Workers), c.status.Kubernetes)
	return c
}

// bake runs `bake cluster` with arguments and returns what it prints.
func (c *bakeCluster) bake(args ...string) string {
	c.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), clusterTime+5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join("bin", "bake"), append([]string{"cluster"}, args...)...)
	cmd.Dir, cmd.Env = root, c.env
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	started := time.Now()
	if err := cmd.Run(); err != nil {
		c.Fatalf("bake cluster %s: %v\n%s", strings.Join(args, " "), err, stderr.String())
	}
	c.Logf("%6.1f s  bake cluster %s\n%s", time.Since(started).Seconds(), strings.Join(args, " "), strings.TrimSpace(stderr.String()))
	return stdout.String()
}

// try runs kubectl as the cluster's administrator.
func (c *bakeCluster) try(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 6*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.status.Kubectl, args...)
	cmd.Env = []string{"KUBECONFIG=" + c.status.Kubeconfig, "HOME=" + c.tmp, "PATH=/usr/bin:/bin"}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, stderr.String())
	}
	return strings.TrimSpace(stdout.String()), nil
}

func (c *bakeCluster) kubectl(args ...string) string {
	c.Helper()
	out, err := c.try(args...)
	if err != nil {
		c.Fatal(err)
	}
	return out
}

// hasNodes requires these nodes and no others, Ready, at the guide's addresses, and
// reached by the API server.
func (c *bakeCluster) hasNodes(names ...string) {
	c.Helper()
	var want []string
	for _, name := range names {
		i, err := strconv.Atoi(strings.TrimPrefix(name, "worker-"))
		if err != nil {
			c.Fatal(err)
		}
		want = append(want, fmt.Sprintf("%s 10.240.0.%d True", name, 20+i))
		if got := c.kubectl("get", "--raw", "/api/v1/nodes/"+name+"/proxy/healthz"); got != "ok" {
			c.Errorf("the kubelet of %s, asked by the API server, says %q; want ok", name, got)
		}
	}
	const columns = `{range .items[*]}{.metadata.name} {.status.addresses[?(@.type=="InternalIP")].address} {.status.conditions[?(@.type=="Ready")].status}{"\n"}{end}`
	if got := strings.Split(c.kubectl("get", "nodes", "-o", "jsonpath="+columns), "\n"); !slices.Equal(got, want) {
		c.Errorf("the nodes are %q; want %q", got, want)
	}
}

// runsPods runs a pod on each worker, and asks each by the API server: by its route.
func (c *bakeCluster) runsPods(image string, workers ...string) {
	c.Helper()
	for i, worker := range workers {
		pod := strings.Replace(corednsPod(image), "metadata: {name: coredns,", "metadata: {name: coredns-"+worker+",", 1)
		pod = strings.Replace(pod, "spec:\n", "spec:\n  nodeName: "+worker+"\n", 1)
		c.apply(pod)
		c.kubectl("wait", "--for=condition=Ready", "--timeout=5m", "pod/coredns-"+worker)
		ip, err := netip.ParseAddr(c.kubectl("get", "pod", "coredns-"+worker, "-o", "jsonpath={.status.podIP}"))
		if want := c.status.Workers[i].PodCIDR; err != nil || !want.Contains(ip) {
			c.Errorf("the pod on %s has %s, %v; want an address of %s", worker, ip, err, want)
		}
		if got, err := c.asksPod(worker); err != nil || got != "OK" {
			c.Errorf("the pod on %s says %q, %v; want OK", worker, got, err)
		}
	}
}

func (c *bakeCluster) apply(yaml string) {
	c.Helper()
	file := filepath.Join(c.TempDir(), "objects.yaml")
	if err := os.WriteFile(file, []byte(yaml), 0o600); err != nil {
		c.Fatal(err)
	}
	c.kubectl("apply", "-f", file)
}

// asksPod asks the pod on a worker for its health, by the API server.
func (c *bakeCluster) asksPod(worker string) (string, error) {
	return c.try("get", "--raw", "/api/v1/namespaces/default/pods/coredns-"+worker+":8080/proxy/health", "--request-timeout=5s")
}

// needsRoutes takes a worker's route, and then its forwarding, away for a while.
func (c *bakeCluster) needsRoutes(worker string) {
	c.Helper()
	routes, err := c.client.Routes(c.Context())
	if err != nil || len(routes) != len(c.status.Workers) {
		c.Fatalf("the routes are %v, %v; want one for each worker", routes, err)
	}
	w := c.status.Workers[slices.IndexFunc(c.status.Workers, func(w bakecluster.WorkerStatus) bool { return w.Name == worker })]
	for what, set := range map[string]func(bool) error{
		"route": func(on bool) error {
			if on {
				return c.client.SetRoute(c.Context(), w.PodCIDR, w.IP)
			}
			return c.client.RemoveRoute(c.Context(), w.PodCIDR)
		},
		"can-ip-forward": func(on bool) error { return c.client.SetCanIPForward(c.Context(), worker, on) },
	} {
		for _, on := range []bool{false, true} {
			if err := set(on); err != nil {
				c.Fatal(err)
			}
			if got, err := c.asksPod(worker); (err == nil) != on {
				c.Errorf("with %s %v, the pod on %s says %q, %v", what, on, worker, got, err)
			}
		}
	}
}

// smokes runs the smoke test, and then its steps on a cluster in which something is
// wrong: each names it.
func (c *bakeCluster) smokes() {
	c.Helper()
	if !c.hasImages("nginx", "busybox") {
		c.Log("the image has no nginx or no busybox: no smoke test")
		return
	}
	started := time.Now()
	report := c.smoke()
	for _, r := range report.Results {
		c.Logf("%6.1f s  %s: %s: %s: %s", r.Seconds, r.Step, r.Check, r.Status, r.Detail)
		if r.Status == smoke.Failed {
			c.Errorf("%s: %s: %s; likely: %s", r.Step, r.Check, r.Detail, r.Cause)
		}
	}
	c.Logf("%6.1f s  bake smoke, %d checks", time.Since(started).Seconds(), len(report.Results))
	rules, err := c.client.Rules(c.Context())
	if err != nil {
		c.Fatal(err)
	}
	w := c.status.Workers[1]
	toAndFrom := []string{"worker-0 to worker-1", "worker-1 to worker-0", "worker-1 to worker-2", "worker-2 to worker-1"}
	for _, fault := range []clusterFault{
		{"no route", smoke.Pods,
			func() error { return c.client.RemoveRoute(c.Context(), w.PodCIDR) },
			func() error { return c.client.SetRoute(c.Context(), w.PodCIDR, w.IP) },
			toAndFrom, "no route leads 10.200.1.0/24 to 10.240.0.21, worker-1"},
		{"no can-ip-forward", smoke.Pods,
			func() error { return c.client.SetCanIPForward(c.Context(), w.Name, false) },
			func() error { return c.client.SetCanIPForward(c.Context(), w.Name, true) },
			toAndFrom, "no route leads 10.200.1.0/24 to 10.240.0.21, worker-1"},
		{"no rule for node ports", smoke.NodePort,
			func() error { return c.client.RemoveRule(c.Context(), bakecluster.AllowNodePorts) },
			func() error { return c.setRules(rules) },
			[]string{"worker-0 from here", "worker-1 from here", "worker-2 from here"}, "it answers pods, so it is closed from here: a firewall rule is missing"},
		{"no internal rule", smoke.Deployment,
			func() error { return c.client.RemoveRule(c.Context(), vpc.AllowInternal().Name) },
			func() error { return c.setRules(rules) },
			[]string{"exec on worker-0", "exec on worker-1", "exec on worker-2"}, "its port 10250 is not reached: a firewall, or the machine is gone"},
	} {
		c.Run(fault.name, func(t *testing.T) { c.names(t, fault) })
	}
}

// clusterFault is something wrong in a cluster, and what the smoke test says of it.
type clusterFault struct {
	name, step string
	make, mend func() error
	fail       []string // checks
	cause      string
}

// names requires of the smoke test that it names a fault.
func (c *bakeCluster) names(t *testing.T, fault clusterFault) {
	if err := fault.make(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := fault.mend(); err != nil {
			t.Error(err)
		}
	}()
	var failed []string
	for _, r := range c.smoke("--only", fault.step).Results {
		if r.Status != smoke.Failed {
			continue
		}
		failed = append(failed, r.Check)
		t.Logf("%s: %s; likely: %s; next: %q", r.Check, r.Detail, r.Cause, r.Next)
		if !strings.Contains(r.Cause, fault.cause) {
			t.Errorf("%s: the likely cause is %q; want %q", r.Check, r.Cause, fault.cause)
		}
	}
	if !slices.Equal(failed, fault.fail) {
		t.Errorf("%q failed; want %q", failed, fault.fail)
	}
}

func (c *bakeCluster) setRules(rules []vpc.Rule) error {
	for _, rule := range rules {
		if err := c.client.SetRule(c.Context(), rule); err != nil {
			return err
		}
	}
	return nil
}

// hasImages says whether nodes have images of these names.
func (c *bakeCluster) hasImages(names ...string) bool {
	images := c.kubectl("get", "nodes", "-o", "jsonpath={.items[*].status.images[*].names[*]}")
	return !slices.ContainsFunc(names, func(name string) bool { return !strings.Contains(images, "/"+name+":") })
}

// smoke runs `bake smoke`, in which checks may fail, and returns its report.
func (c *bakeCluster) smoke(args ...string) (report smoke.Report) {
	c.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join("bin", "bake"), append([]string{
		"smoke", "--json", "--quiet", "--kubeconfig", c.status.Kubeconfig, "--kubectl", c.status.Kubectl, "--proxy", c.status.Proxy, "--timeout", "15m"}, args...)...)
	cmd.Dir, cmd.Env = root, c.env
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run() // it fails where a check does
	if jsonErr := json.Unmarshal(stdout.Bytes(), &report); jsonErr != nil {
		c.Fatalf("bake smoke %s: %v, %v\n%s%s", strings.Join(args, " "), err, jsonErr, stdout.String(), stderr.String())
	}
	return report
}

// survivesAKilledMachine kills QEMU, and waits until the worker is Ready by itself.
func (c *bakeCluster) survivesAKilledMachine(worker string) {
	c.Helper()
	boot := c.kubectl("get", "node", worker, "-o", "jsonpath={.status.nodeInfo.bootID}")
	killed := time.Now()
	syscall.Kill(c.machines()[worker], syscall.SIGKILL)
	for end := killed.Add(clusterTime); ; time.Sleep(2 * time.Second) {
		got, err := c.try("get", "node", worker, "-o", `jsonpath={.status.nodeInfo.bootID} {.status.conditions[?(@.type=="Ready")].status}`)
		if id, ready, _ := strings.Cut(got, " "); err == nil && id != boot && ready == "True" {
			break
		}
		if time.Now().After(end) {
			c.Fatalf("%s is not Ready again: %s, %v", worker, got, err)
		}
	}
	c.Logf("%6.1f s  %s is Ready again after its machine was killed", time.Since(killed).Seconds(), worker)
	for end := time.Now().Add(3 * time.Minute); ; time.Sleep(2 * time.Second) {
		got, err := c.asksPod(worker)
		if err == nil && got == "OK" {
			return
		}
		if time.Now().After(end) {
			c.Fatalf("the pod on %s says %q, %v after its machine was killed; want OK", worker, got, err)
		}
	}
}

// machines returns the QEMU processes by worker.
func (c *bakeCluster) machines() map[string]int {
	c.Helper()
	found := map[string]int{}
	for pid, line := range c.processes() {
		words := strings.Split(line, " ")
		if i := slices.Index(words, "-name"); i > 0 && strings.Contains(words[0], "qemu") {
			found[words[i+1]] = pid
		}
	}
	return found
}

// processes returns the command lines of the cluster's processes.
func (c *bakeCluster) processes() map[int]string {
	c.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		c.Fatal(err)
	}
	found := map[int]string{}
	for _, file := range files {
		line, err := os.ReadFile(file)
		place, _ := os.Readlink(filepath.Join(filepath.Dir(file), "cwd"))
		if err != nil || !bytes.Contains(line, []byte(c.tmp)) && !bytes.Contains(line, []byte(c.root)) && !strings.HasPrefix(place, c.root) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file))); err == nil {
			found[pid] = strings.ReplaceAll(string(line), "\x00", " ")
		}
	}
	return found
}

// measure logs what the cluster's processes take.
func (c *bakeCluster) measure() {
	c.Helper()
	var text strings.Builder
	for pid, line := range c.processes() {
		status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		program, _, _ := strings.Cut(line, " ")
		for field := range strings.SplitSeq(string(status), "\n") {
			if strings.HasPrefix(field, "VmHWM:") {
				fmt.Fprintf(&text, "%s %d %s\n", filepath.Base(program), pid, strings.Join(strings.Fields(field), " "))
			}
		}
	}
	save(c.T, "memory", text.String())
	c.Logf("memory:\n%s", text.String())
}

// logs copies them, and looks for keys.
func (c *bakeCluster) logs() {
	c.Helper()
	dir := filepath.Join(c.TempDir(), "logs")
	c.bake("logs", "--output", dir, "--name", c.name)
	files, err := os.ReadDir(dir)
	if err != nil || len(files) < 10 {
		c.Errorf("bake cluster logs leaves %v, %v; want consoles, logs, status and objects", files, err)
	}
	for _, f := range files {
		text, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil || len(text) == 0 || bytes.Contains(text, []byte("PRIVATE KEY")) || bytes.Contains(text, []byte("client-key-data")) {
			c.Errorf("%s is empty, has a key or can't be read: %v", f.Name(), err)
		}
	}
}

func (c *bakeCluster) saveLogs() {
	dir := filepath.Join(root, "out", "qemu", strings.ReplaceAll(c.Name(), "/", "-")+".logs")
	os.RemoveAll(dir)
	if _, err := bakecluster.Logs(context.Background(), c.root, c.name, dir); err != nil {
		c.Log(err)
	}
}

// delete ends the cluster, and requires that nothing is left.
func (c *bakeCluster) delete() {
	c.Helper()
	c.bake("delete", "--name", c.name)
	if found := c.processes(); len(found) > 0 {
		c.Errorf("processes are left: %v", found)
	}
	for _, dir := range []string{c.root, c.tmp} {
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			c.Errorf("left in %s: %v, %v", dir, left, err)
		}
	}
}
