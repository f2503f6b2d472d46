//go:build linux

package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nodebake/bake/bake/cluster"
	"github.com/nodebake/bake/bake/cluster/clustertest"
	"github.com/nodebake/bake/bake/image/archive"
	"github.com/nodebake/bake/bake/inspect/inspecttest"
	"github.com/nodebake/bake/bake/vm"
)

// clusterWorld is where `bake cluster` runs stand-ins: QEMU and etcd from PATH, the
// rest as releases of a server.
type clusterWorld struct {
	*testing.T
	bake  string
	dir   string // working directory, with worker.tar.gz and controlplane.yaml
	env   []string
	state string // directory of clusters
}

func newClusterWorld(t *testing.T) *clusterWorld {
	t.Helper()
	firmware := false
	for _, dir := range vm.FirmwareDirs() {
		firmware = firmware || exists(filepath.Join(dir, "OVMF_CODE_4M.secboot.fd"))
	}
	if !firmware {
		t.Skip("QEMU's firmware is missing: apt-get install ovmf")
	}
	links, dir := clustertest.Link(t), t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	w := &clusterWorld{T: t, bake: filepath.Join(links, "bake"), dir: dir, state: filepath.Join(dir, "state", "bake", "clusters")}
	if err := os.Symlink(self, w.bake); err != nil {
		t.Fatal(err)
	}
	for _, sub := range []string{"tmp", "state", "cache"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	w.env = append(os.Environ(), "PATH="+links+":/usr/bin:/bin", "HOME="+dir, "TMPDIR="+dir+"/tmp", "XDG_STATE_HOME="+dir+"/state", "XDG_CACHE_HOME="+dir+"/cache")
	w.writeImage()
	w.writeVersions(links)
	t.Cleanup(func() {
		for _, name := range w.names() {
			if stderr, code := w.run("cluster", "delete", "--name", name); code != exitDone {
				t.Errorf("bake cluster delete --name %s exits with %d: %s", name, code, stderr)
			}
		}
	})
	return w
}

func (w *clusterWorld) writeImage() {
	w.Helper()
	m := inspecttest.New()
	m.Size, m.Parts[1].Length = 160*inspecttest.MiB, 90*inspecttest.MiB
	list, err := m.List()
	if err != nil {
		w.Fatal(err)
	}
	f, err := os.Create(filepath.Join(w.dir, "worker.tar.gz"))
	if err != nil {
		w.Fatal(err)
	}
	defer f.Close()
	if _, err := archive.WriteTarGz(w.Context(), f, list, archive.Options{}); err != nil {
		w.Fatal(err)
	}
}

// writeVersions writes the control plane's versions file and serves what it names:
// scripts that start the stand-ins.
func (w *clusterWorld) writeVersions(links string) {
	w.Helper()
	release := func(name string) []byte { return fmt.Appendf(nil, "#!/bin/sh\nexec %s/%s \"$@\"\n", links, name) }
	server := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		out.Write(release(path.Base(r.URL.Path)))
	}))
	w.Cleanup(server.Close)
	var text strings.Builder
	text.WriteString("os:\n  distribution: debian\n  suite: trixie\ncomponents:\n")
	for _, name := range []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl"} {
		fmt.Fprintf(&text, "  %s:\n    version: v1.36.3\n    release:\n      url: %s/{arch}/%s\n      sha256:\n        amd64: %x\n      files:\n        - path: /usr/local/bin/%s\n",
			name, server.URL, name, sha256.Sum256(release(name)), name)
	}
	if err := os.WriteFile(filepath.Join(w.dir, "controlplane.yaml"), []byte(text.String()), 0o600); err != nil {
		w.Fatal(err)
	}
}

func (w *clusterWorld) names() []string {
	w.Helper()
	names, err := cluster.Names(w.state)
	if err != nil {
		w.Fatal(err)
	}
	return names
}

func (w *clusterWorld) command(args ...string) *exec.Cmd {
	cmd := exec.Command(w.bake, args...)
	cmd.Dir, cmd.Env = w.dir, w.env
	return cmd
}

// run runs a command that ends, and returns what it says on both outputs.
func (w *clusterWorld) run(args ...string) (output string, code int) {
	w.Helper()
	stdout, stderr, code := outcome(w.T, w.command(args...))
	return stdout + stderr, code
}

// expect runs a command that must exit with a code and say what matches.
func (w *clusterWorld) expect(code int, pattern string, args ...string) string {
	w.Helper()
	output, got := w.run(args...)
	if got != code || !regexp.MustCompile(pattern).MatchString(output) {
		w.Fatalf("bake %s exits with %d; want %d and %q:\n%s", strings.Join(args, " "), got, code, pattern, output)
	}
	return output
}

// start1 is the command line that runs a cluster of one worker.
func start1(args ...string) []string {
	return append([]string{"cluster", "worker.tar.gz", "--versions", "controlplane.yaml", "--workers", "1", "--memory", "1024", "--accel", "tcg", "--no-secure-boot"}, args...)
}

// clusterCommand is a command under way.
type clusterCommand struct {
	*clusterWorld
	cmd  *exec.Cmd
	done chan struct{}

	mu  sync.Mutex
	out bytes.Buffer // of both outputs
}

func (c *clusterCommand) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.out.Write(p)
}

func (c *clusterCommand) said() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.out.String()
}

// begin starts a command.
func (w *clusterWorld) begin(args ...string) *clusterCommand {
	w.Helper()
	c := &clusterCommand{clusterWorld: w, cmd: w.command(args...), done: make(chan struct{})}
	c.cmd.Stdout, c.cmd.Stderr = c, c
	if err := c.cmd.Start(); err != nil {
		w.Fatal(err)
	}
	go func() { c.cmd.Wait(); close(c.done) }()
	w.Cleanup(func() { c.cmd.Process.Kill(); <-c.done })
	return c
}

// until waits until ok.
func (c *clusterCommand) until(what string, ok func() bool) {
	c.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			c.Fatalf("%s does not happen; bake said:\n%s", what, c.said())
		}
	}
}

func (c *clusterCommand) untilSaid(text string) {
	c.Helper()
	c.until(text, func() bool { return strings.Contains(c.said(), text) })
}

// interrupted requires that the command has ended by a signal as Ctrl-C does.
func (c *clusterCommand) interrupted(want string) {
	c.Helper()
	select {
	case <-c.done:
	case <-time.After(time.Minute):
		c.Fatalf("bake goes on; it said:\n%s", c.said())
	}
	if code := c.cmd.ProcessState.ExitCode(); code != exitInterrupted || !strings.HasSuffix(c.said(), want) {
		c.Errorf("bake exits with %d; want %d and %q:\n%s", code, exitInterrupted, want, c.said())
	}
	c.isClean()
}

// isClean requires that no process, directory or temporary file is left.
func (w *clusterWorld) isClean() {
	w.Helper()
	if names := w.names(); len(names) > 0 {
		w.Errorf("clusters are left: %q", names)
	}
	left, err := os.ReadDir(filepath.Join(w.dir, "tmp"))
	if err != nil || len(left) > 0 {
		w.Errorf("temporary files are left: %v, %v", left, err)
	}
	var found []string
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if found = w.processes(); len(found) == 0 {
			return
		}
	}
	w.Errorf("processes are left: %q", found)
}

// processes are those that are told of something in the world.
func (w *clusterWorld) processes() []string {
	w.Helper()
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil || len(lines) == 0 {
		w.Fatalf("looking for processes: %v", err)
	}
	var found []string
	for _, path := range lines {
		if line, err := os.ReadFile(path); err == nil && (bytes.Contains(line, []byte(w.dir)) || bytes.HasPrefix(line, []byte(w.bake))) {
			found = append(found, strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
	return found
}

func TestClusterHere(t *testing.T) {
	t.Parallel()
	w := newClusterWorld(t)
	c := w.begin(start1("--metadata-value", "team=a")...)
	c.untilSaid("runs until Ctrl-C")
	dir := regexp.QuoteMeta(filepath.Join(w.state, "bake"))
	for _, want := range []string{
		`(?m)^worker-0 10\.240\.0\.20, pods 10\.200\.0\.0/24, console ` + dir + `/consoles/worker-0\.console$`,
		`(?m)^DNS 10\.32\.0\.10, CoreDNS 1\.14\.2 on worker-0, worker-1$`,
		`(?m)^node ports: curl -x http://127\.0\.0\.1:[0-9]+ http://10\.240\.0\.20:PORT$`,
		`(?m)^export KUBECONFIG=` + dir + `/controlplane/admin\.kubeconfig$`,
		`(?m)^bake: cluster bake runs until Ctrl-C, and keeps nothing$`,
	} {
		if !regexp.MustCompile(want).MatchString(c.said()) {
			t.Errorf("bake cluster says:\n%s\nwant a line that matches %q", c.said(), want)
		}
	}
	w.expect(exitFailed, fmt.Sprintf(`^bake: cluster bake runs already, by process %d \(end it: bake cluster delete --name bake; or give another --name\)\n$`, c.cmd.Process.Pid), start1()...)
	w.expect(exitDone, `^NAME +STATE +ADDRESS +AGE\nbake +running +https://127\.0\.0\.1:[0-9]+ +[0-9a-z.]+\n  worker-0 +ready +10\.240\.0\.20 +-\n$`, "cluster", "list")
	w.expect(exitDone, `bake: worker-3 is Ready\n$`, "cluster", "add", "worker-3")
	w.expect(exitBadInput, `^bake: there is a worker worker-3 already \(--replace starts it anew on a fresh disk\)\n$`, "cluster", "add", "worker-3", "--quiet")
	w.expect(exitDone, `bake: worker-3 is Ready\n$`, "cluster", "add", "worker-3", "--replace")
	w.expect(exitFailed, `bake: dies is not Ready: its machine ended 4 times within 10m0s`, "cluster", "add", clustertest.Dies)
	w.expect(exitDone, `(?s)^logs/cluster\.json\n.*logs/worker-3\.console\n$`, "cluster", "logs", "--output", "logs")
	c.cmd.Process.Signal(os.Interrupt)
	c.interrupted("bake: interrupted; cluster bake has ended\n")
}

// TestLocalRoutes sets and removes the routes of a cluster's network. The second time
// nothing changes.
func TestLocalRoutes(t *testing.T) {
	t.Parallel()
	w := newClusterWorld(t)
	w.expect(exitDone, `runs in process`, start1("--detach")...)
	one, two := "--worker=worker-0=10.240.0.20=10.200.0.0/24", "--worker=worker-1=10.240.0.21=10.200.1.0/24"
	routes := func(verb string, more ...string) []string {
		return append([]string{"routes", verb, one, "--local", "bake"}, more...)
	}
	w.expect(exitDone, `^kubernetes-route-10-200-0-0-24 +10\.200\.0\.0/24 +10\.240\.0\.20 +worker-0 +there\nkubernetes-route-10-200-1-0-24 +10\.200\.1\.0/24 +10\.240\.0\.21 +worker-1 +missing\n$`, routes("list", two)...)
	w.expect(exitDone, `^10\.200\.1\.0/24 to 10\.240\.0\.21, worker-1, created\n$`, routes("create", two)...)
	w.expect(exitDone, `^note: all of the workers' routes are there\n$`, routes("create", two)...)
	w.expect(exitDone, `^\{"routes":null,"commands":null\}\nnote: all of the workers' routes are there\n$`, routes("create", two, "--json")...)
	w.expect(exitBadInput, `^bake: worker-3: 10\.200\.0\.0/24 leads to 10\.240\.0\.20, and not to 10\.240\.0\.23 \(delete that one first\)\n$`,
		"routes", "create", "--worker=worker-3=10.240.0.23=10.200.0.0/24", "--local=bake")
	w.expect(exitDone, `^note: worker-3: 10\.200\.0\.0/24 leads to 10\.240\.0\.20, and not to 10\.240\.0\.23: it is not the worker's, and stays\nnote: none of the workers' routes is there\n$`,
		"routes", "delete", "--worker=worker-3=10.240.0.23=10.200.0.0/24", "--local=bake")
	w.expect(exitDone, `^10\.200\.0\.0/24 to 10\.240\.0\.20, worker-0, deleted\n$`, routes("delete")...)
	w.expect(exitDone, `^note: none of the workers' routes is there\n$`, routes("delete")...)
	w.expect(exitDone, `(?m)^ +10\.200\.1\.0/24 +10\.240\.0\.21 +- +extra$`, routes("list")...)
	w.expect(exitFailed, `^bake: cluster other: it does not run\n$`, "routes", "list", one, "--local", "other")
	w.expect(exitBadInput, `^bake: "../bake" can't be a cluster's`, "routes", "list", one, "--local", "../bake")
	for _, flag := range []string{"--existing", "--network", "--project"} {
		w.expect(exitUsage, `^bake: --local and `+flag+" contradict each other: want one of them \\(see `bake routes list --help`\\)\n$", routes("list", flag+"=x")...)
	}
	w.expect(exitDone, `deleted`, "cluster", "delete")
}

func TestClusterDetached(t *testing.T) {
	t.Parallel()
	w := newClusterWorld(t)
	stdout, stderr, code := outcome(t, w.command(start1("--name", "one", "--detach", "--json", "--quiet")...))
	var s cluster.Status
	if err := json.Unmarshal([]byte(stdout), &s); err != nil || code != exitDone {
		t.Fatalf("bake cluster --detach exits with %d, %v:\n%s%s", code, err, stdout, stderr)
	}
	if s.Name != "one" || s.Phase != cluster.Running || len(s.Workers) != 1 || s.Workers[0].State != cluster.Ready {
		t.Errorf("bake cluster --json prints %+v; want one that runs", s)
	}
	want := fmt.Sprintf("bake: cluster one runs in process %d, and keeps nothing; bake cluster delete --name one ends it\n", s.PID)
	if stderr != want {
		t.Errorf("bake cluster --detach --quiet says %q; want %q", stderr, want)
	}
	var all []cluster.Status
	if output, code := w.run("cluster", "list", "--json"); code != exitDone || json.Unmarshal([]byte(output), &all) != nil || len(all) != 1 || all[0].PID != s.PID {
		t.Errorf("bake cluster list --json exits with %d and prints %s; want the cluster", code, output)
	}
	w.expect(exitDone, `^bake: worker-1 is Ready\n$`, "cluster", "add", "worker-1", "--name", "one", "--quiet")
	w.expect(exitBadInput, `^bake: there is no cluster bake \(there is: one\)\n$`, "cluster", "delete")
	w.expect(exitDone, `^bake: cluster one was deleted\n$`, "cluster", "delete", "--name", "one")
	w.isClean()
	w.expect(exitFailed, `^bake: cluster one: it does not run\n$`, "cluster", "add", "worker-2", "--name", "one", "--quiet")
}

// TestClusterIsInterrupted has machines that are never well.
func TestClusterIsInterrupted(t *testing.T) {
	t.Parallel()
	for _, detach := range []bool{false, true} {
		t.Run(fmt.Sprintf("detach %v", detach), func(t *testing.T) {
			t.Parallel()
			w := newClusterWorld(t)
			w.env = append(w.env, clustertest.SilentVariable+"=yes")
			args := start1("--quiet")
			if detach {
				args = append(args, "--detach")
			}
			c := w.begin(args...)
			client := cluster.NewClient(w.state, defaultCluster)
			c.until("a worker boots", func() bool {
				s, err := client.Status(context.Background())
				return err == nil && len(s.Workers) == 1 && s.Workers[0].Starts == 1
			})
			c.cmd.Process.Signal(syscall.SIGTERM)
			c.interrupted("bake: interrupted; cluster bake has ended\n")
		})
	}
}

// TestClusterFails is one that can't be Ready, and says why.
func TestClusterFails(t *testing.T) {
	t.Parallel()
	w := newClusterWorld(t)
	w.env = append(w.env, clustertest.SilentVariable+"=yes")
	for _, detach := range []string{"--detach=false", "--detach"} {
		w.expect(exitFailed, `(?s)^bake: worker-0 is not Ready within 2s: firstboot has not said on its console that the node is ready\n`+
			`bake: the last lines of its console \S+/worker-0\.console:\n.*bake:   firstboot: failed: metadata key pod-cidr: is missing\n`+
			`bake: its logs are kept until it is started again or deleted: bake cluster logs --name bake --output DIR\n$`,
			start1("--quiet", "--timeout", "2s", detach)...)
		w.expect(exitDone, `(?m)^bake +failed +https://\S+ +\S+ +worker-0 is not Ready within 2s`, "cluster", "list")
		w.expect(exitDone, `worker-0\.console\n$`, "cluster", "logs", "--output", "logs"+detach)
	}
	w.expect(exitDone, `^bake: cluster bake was deleted\n$`, "cluster", "delete")
	w.isClean()
}

// TestClusterRefuses is about what is said before anything starts.
func TestClusterRefuses(t *testing.T) {
	t.Parallel()
	w := newClusterWorld(t)
	versions, err := os.ReadFile(filepath.Join(w.dir, "controlplane.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"lies.yaml":  regexp.MustCompile(`amd64: [0-9a-f]{2}`).ReplaceAllString(string(versions), "amd64: 00"),
		"lacks.yaml": strings.ReplaceAll(string(versions), "kube-scheduler", "kube-schedule"),
		"text":       "no image",
	} {
		if err := os.WriteFile(filepath.Join(w.dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		code int
		want string
		args []string
	}{
		{exitFailed, `^bake: 1 workers with 1000000000 MiB each need 1000001024 MiB beside a control plane, and this machine has [0-9]+ available \(give fewer --workers, or less --memory\)\n$`,
			start1("--memory", "1000000000")},
		{exitBadInput, `^bake: lacks\.yaml:[0-9:]+ components\.kube-schedule: did you mean "kube-scheduler"\? \(a control plane has a scheduler\)\n$`,
			start1("--versions", "lacks.yaml")},
		{exitFailed, `kube-apiserver v1\.36\.3 from \S+ is sha256:`, start1("--versions", "lies.yaml", "--quiet")},
		{exitBadInput, `^bake: reading the control plane's versions file: open absent\.yaml: no such file or directory\n$`, start1("--versions", "absent.yaml")},
		{exitBadInput, `^bake: opening the image absent: .*no such file or directory\n$`, []string{"cluster", "absent", "--versions", "controlplane.yaml"}},
		{exitBadInput, `^bake: opening the image text: it is neither a tar\.gz nor a disk with a partition table\n$`, []string{"cluster", "text", "--versions", "controlplane.yaml"}},
	} {
		w.expect(test.code, test.want, test.args...)
	}
	w.isClean()
}
