//go:build unix

package main

import (
	"bytes"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nodebake/bake/test/filetest"
)

// smokeWorld is bake, and what it tests.
type smokeWorld struct {
	data, dir, bake string
	nginx           *httptest.Server
}

func newSmokeWorld(t *testing.T) *smokeWorld {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	data, err := filepath.Abs("testdata/smoke")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	s := &smokeWorld{data, dir, filepath.Join(dir, "bake"), newNginx()}
	t.Cleanup(s.nginx.Close)
	filetest.Link(t, self, s.bake)
	filetest.Write(t, filepath.Join(dir, "admin.kubeconfig"), []byte("{}"))
	return s
}

// command is one of bake's that does not come back from the call of kubectl with
// number stop, and what it says.
func (s *smokeWorld) command(state string, stop int, args ...string) (*exec.Cmd, *bytes.Buffer) {
	cmd := exec.Command(s.bake, append(args, "--kubeconfig", "admin.kubeconfig", "--kubectl", filepath.Join(s.data, "kubectl"), "--quiet")...)
	cmd.Dir = s.dir
	cmd.Env = append(os.Environ(), smokeEnv(s.data, state, s.nginx.URL)...)
	cmd.Env = append(cmd.Env, "STOP="+strconv.Itoa(stop), "XDG_CACHE_HOME="+s.dir)
	stderr := new(bytes.Buffer)
	cmd.Stderr = stderr
	return cmd, stderr
}

// TestSmokeInterrupted interrupts the smoke test in each of its calls of kubectl in
// turn. Nothing it made is there afterwards, and no process.
func TestSmokeInterrupted(t *testing.T) {
	t.Parallel()
	s := newSmokeWorld(t)
	const calls = 28 // of a run, before its clean-up; TestScripts counts them
	for stop := 1; stop <= calls; stop++ {
		t.Run(strconv.Itoa(stop), func(t *testing.T) {
			t.Parallel()
			state := t.TempDir()
			cmd, stderr := s.command(state, stop, "smoke", "--proxy", s.nginx.URL)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			kill := time.AfterFunc(2*time.Minute, func() { cmd.Process.Kill() })
			defer kill.Stop()
			pid := stopped(t, state)
			if err := cmd.Process.Signal(os.Interrupt); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait() // the exit code says it
			if code := cmd.ProcessState.ExitCode(); code != exitInterrupted || !strings.HasSuffix(stderr.String(), "bake: interrupted, run again to continue\n") {
				t.Errorf("bake smoke exits with %d and says %q; want %d", code, stderr, exitInterrupted)
			}
			log := string(filetest.Read(t, filepath.Join(state, "calls")))
			if _, err := os.Stat(filepath.Join(state, "namespace")); err == nil {
				t.Errorf("the namespace is still there; calls:\n%s", log)
			}
			if made, deleted := strings.Contains(log, "\ncreate -f -"), strings.Contains(log, "\ndelete namespace bake-smoke-"); made != deleted {
				t.Errorf("a namespace was made: %t; it was deleted: %t; want the same; calls:\n%s", made, deleted, log)
			}
			gone(t, pid)
		})
	}
}

// TestSmokeKilled kills the smoke test, and has `bake smoke clean` remove what it
// left. kubectl ends with it.
func TestSmokeKilled(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("a program ends with the one that started it under Linux only")
	}
	s := newSmokeWorld(t)
	state := t.TempDir()
	cmd, _ := s.command(state, 20, "smoke", "--proxy", s.nginx.URL) // while it asks in pods
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := stopped(t, state)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	gone(t, pid)
	if _, err := os.Stat(filepath.Join(state, "namespace")); err != nil {
		t.Fatalf("the namespace is not there: %v; the test shows nothing", err)
	}
	cmd, stderr := s.command(state, 0, "smoke", "clean")
	if err := cmd.Run(); err != nil {
		t.Fatalf("bake smoke clean: %v: %s", err, stderr)
	}
	log := string(filetest.Read(t, filepath.Join(state, "calls")))
	if _, err := os.Stat(filepath.Join(state, "namespace")); err == nil || !strings.Contains(log, "\ndelete namespace bake-smoke-old ") {
		t.Errorf("the namespace is still there; calls:\n%s", log)
	}
	if strings.Contains(log, "delete namespace kube-system") {
		t.Errorf("a namespace was deleted that is not named as ours are; calls:\n%s", log)
	}
}

// gone waits until a process is.
func gone(t *testing.T, pid int) {
	t.Helper()
	for range 200 {
		if err := syscall.Kill(pid, 0); err != nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("kubectl, process %d, still runs", pid)
}

// stopped waits until kubectl has stopped, and returns its process.
func stopped(t *testing.T, state string) int {
	t.Helper()
	for range 1000 {
		text, err := os.ReadFile(filepath.Join(state, "stopped"))
		if pid, atoi := strconv.Atoi(strings.TrimSpace(string(text))); err == nil && atoi == nil {
			return pid
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatal("kubectl was not called so often")
	return 0
}
