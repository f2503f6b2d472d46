package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/nodebake/bake/bake/mirrorsync"
	"github.com/nodebake/bake/test/filetest"
	"github.com/nodebake/bake/test/need"
)

// mirrorCommand is `bake mirror` with what the world needs but its images: bake
// checks indices against Debian's own keys, and the world has others, so the
// indices are in the store.
func (p *program) mirrorCommand(to string, args ...string) *exec.Cmd {
	cmd := exec.Command(p.path, append([]string{"mirror", "--versions", "versions.yaml",
		"--debian-mirror", p.URL, "--cache", p.cache, "--output", to}, args...)...)
	cmd.Dir = p.Dir
	cmd.Env = p.Env()
	return cmd
}

// newMirrorProgram is newProgram with container images, and with the indices of
// the lock in the cache, as bake lock leaves them.
func newMirrorProgram(t *testing.T) *program {
	t.Helper()
	p := newProgram(t)
	p.AddImages()
	c := p.LockConfig(p.Config())
	c.Cache = p.cache
	p.LockWith(c)
	return p
}

// must runs a command that must succeed and returns its standard output.
func succeed(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	stdout, stderr, code := outcome(t, cmd)
	if code != exitDone {
		t.Fatalf("%s exits with %d: %s", strings.Join(cmd.Args, " "), code, stderr)
	}
	return stdout
}

// TestNoNetwork bakes where there is no network at all.
func TestNoNetwork(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("network namespaces are Linux's")
	}
	p := newMirrorProgram(t)
	p.Remove("/releases/v1.30.0/amd64/kubelet")
	online := succeed(t, p.command("--quiet", "--build-missing"))
	dir := t.TempDir()
	to := filepath.Join(dir, "mirror")
	succeed(t, p.mirrorCommand(to, "--quiet", "--sources"))
	succeed(t, exec.Command(p.path, "mirror", "check", to, "--quiet"))

	cmd := p.command("--quiet", "--build-missing", "--mirror", to, "--offline")
	cmd.Args = append(cmd.Args, "--cache", filepath.Join(dir, "cache"), "--output", filepath.Join(dir, "out"))
	// A connection to the world succeeds here, and must fail there.
	address := strings.TrimPrefix(p.URL, "http://")
	if c, err := net.Dial("tcp", address); err != nil {
		t.Fatal(err)
	} else {
		c.Close()
	}
	stdout := succeed(t, withoutNetwork(t, cmd, address))
	if got, want := strings.Fields(stdout)[0], strings.Fields(online)[0]; got != want {
		t.Errorf("the image that was made without a network is %s; want %s", got, want)
	}

	// The proof itself: what asks the world fails there.
	cmd = p.command("--quiet")
	cmd.Args = append(cmd.Args, "--cache", filepath.Join(dir, "other"), "--output", filepath.Join(dir, "other-out"))
	if _, stderr, code := outcome(t, withoutNetwork(t, cmd, address)); code != exitFailed && code != exitStale || !strings.Contains(stderr, "network is unreachable") {
		t.Errorf("bake image without a network and without a mirror exits with %d; want a failure, since the network is unreachable:\n%s", code, stderr)
	}
}

// withoutNetwork has cmd run in a network namespace that has no interface that
// is up. It proves that address, which can be reached here, can't be there.
func withoutNetwork(t *testing.T, cmd *exec.Cmd, address string) *exec.Cmd {
	t.Helper()
	unshare := "unshare"
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	flags := []string{"-n"}
	if os.Getuid() != 0 {
		flags = []string{"-r", "-n"}
	}
	if text, err := exec.Command(unshare, append(flags, "bash", "-c", "true")...).CombinedOutput(); err != nil {
		need.Missing(t, "network namespaces can't be made here (apt-get install util-linux bash): %v: %s", err, text)
	}
	script := fmt.Sprintf(`if (exec 3<>/dev/tcp/%s/%s) 2>/dev/null; then echo "there is a network" >&2; exit 99; fi; exec "$@"`, host, port)
	out := exec.Command(unshare, append(append(flags, "bash", "-c", script, "bash"), cmd.Args...)...)
	out.Dir, out.Env = cmd.Dir, cmd.Env
	return out
}

// TestMirrorKilled kills a run with SIGKILL, which cleans nothing up.
func TestMirrorKilled(t *testing.T) {
	t.Parallel()
	p := newMirrorProgram(t)
	pool := p.Package("tool").Pool()
	deb := p.File(pool)
	half := make(chan bool, 10)
	p.Fault(pool, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(len(deb)))
		w.Header().Set("ETag", `"deb"`)
		if r.Method == http.MethodHead {
			return
		}
		w.Write(deb[:len(deb)/2])
		w.(http.Flusher).Flush()
		half <- true
		<-r.Context().Done()
	})
	to := filepath.Join(t.TempDir(), "mirror")
	cmd := p.mirrorCommand(to, "--quiet")
	cmd.Stderr = io.Discard
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	<-half
	blobs := filepath.Join(to, "blobs", "sha256")
	for range 1000 { // what is under way beside it may arrive
		if entries, _ := os.ReadDir(blobs); len(entries) >= 10 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	p.Fault(pool, nil)
	if _, err := os.Stat(filepath.Join(to, "mirror.json")); !os.IsNotExist(err) {
		t.Errorf("the run that was killed left an index: %v", err)
	}
	if _, stderr, code := outcome(t, exec.Command(p.path, "mirror", "check", to, "--quiet")); code != exitBadInput || !strings.Contains(stderr, "did not end; run it again") {
		t.Errorf("mirror check of what a killed run left exits with %d; want %d and a word on it: %s", code, exitBadInput, stderr)
	}
	kept, err := os.ReadDir(blobs)
	if err != nil || len(kept) < 10 {
		t.Fatalf("the run that was killed left %d files, %v; want at least 10", len(kept), err)
	}
	p.Gets()
	var r mirrorsync.Result
	if err := json.Unmarshal([]byte(succeed(t, p.mirrorCommand(to, "--quiet", "--json"))), &r); err != nil {
		t.Fatal(err)
	}
	if r.Added.Files != r.Files-len(kept) {
		t.Errorf("the second run added %d files; want %d, since %d of %d were there", r.Added.Files, r.Files-len(kept), len(kept), r.Files)
	}
	got := map[string]bool{}
	for _, path := range p.Gets() {
		got[path] = true
	}
	if !got[pool] {
		t.Error("the second run did not ask for what was interrupted")
	}
	if len(got) > r.Added.Files {
		t.Errorf("the second run asked for %d files, and added %d", len(got), r.Added.Files)
	}
	p.Registry.Got()
	stdout := succeed(t, p.mirrorCommand(to, "--quiet"))
	if got := append(p.Gets(), p.Registry.Got()...); len(got) > 0 || !strings.Contains(stdout, "added nothing, removed nothing") {
		t.Errorf("the third run asked for %q and printed %q; want nothing asked for and nothing added", got, stdout)
	}
	succeed(t, exec.Command(p.path, "mirror", "check", to, "--quiet"))
}

// TestMirrorInterrupt sends the signal of Ctrl-C.
func TestMirrorInterrupt(t *testing.T) {
	t.Parallel()
	p := newMirrorProgram(t)
	to := filepath.Join(t.TempDir(), "mirror")
	succeed(t, p.mirrorCommand(to, "--quiet"))
	before := filetest.Read(t, filepath.Join(to, "mirror.json"))
	// A file that is gone is fetched again, which never ends.
	p.cache = filepath.Join(t.TempDir(), "cache")
	pool := p.Package("tool").Pool()
	begun := make(chan bool, 10)
	p.Fault(pool, func(_ http.ResponseWriter, r *http.Request) {
		begun <- true
		<-r.Context().Done()
	})
	removeBlob(t, to, "tool 1.0 amd64")
	cmd := p.mirrorCommand(to, "--quiet")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	interrupt(t, cmd, begun)
	if code := cmd.ProcessState.ExitCode(); code != exitInterrupted || stderr.String() != "bake: interrupted, run again to continue; until then "+to+" is the mirror that it was\n" {
		t.Errorf("bake mirror exits with %d; want %d and a line: %s", code, exitInterrupted, &stderr)
	}
	after, err := os.ReadFile(filepath.Join(to, "mirror.json"))
	if err != nil || string(after) != string(before) {
		t.Errorf("the index changed while nothing was complete: %v", err)
	}
}

// removeBlob removes the file of the entry called name.
func removeBlob(t *testing.T, mirror, name string) {
	t.Helper()
	text := filetest.Read(t, filepath.Join(mirror, "mirror.json"))
	var index struct {
		Entries []struct{ Name, SHA256 string }
	}
	if err := json.Unmarshal(text, &index); err != nil {
		t.Fatal(err)
	}
	for _, e := range index.Entries {
		if e.Name == name {
			if err := os.Remove(filepath.Join(mirror, "blobs", "sha256", strings.TrimPrefix(e.SHA256, "sha256:"))); err != nil {
				t.Fatal(err)
			}
			return
		}
	}
	t.Fatalf("the mirror has no %s", name)
}

// TestMirrorVariable takes the mirror from the environment, and a relative one.
func TestMirrorVariable(t *testing.T) {
	t.Parallel()
	p := newMirrorProgram(t)
	to := filepath.Join(p.Dir, "mirror")
	succeed(t, p.mirrorCommand(to, "--quiet"))
	p.Shutdown()
	cmd := p.command("--quiet", "--offline")
	cmd.Env = append(cmd.Env, "BAKE_MIRROR=mirror")
	succeed(t, cmd)
}

func TestSetName(t *testing.T) {
	t.Parallel()
	for file, want := range map[string]string{
		"/a/manifests/kthw-1.21.yaml": "kthw-1.21", "/a/manifests/versions.yaml": "manifests", "/a/b/versions.yml": "b",
		"/versions.yaml": "versions", "/a/versions.old.yaml": "versions.old",
	} {
		if got, err := setName(filepath.FromSlash(file)); got != want || err != nil {
			t.Errorf("setName(%q) = %q, %v; want %q", file, got, err, want)
		}
	}
}
