//go:build linux

package controlplane

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

func sleep(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("sleep")
	if err != nil {
		t.Skip(err)
	}
	return path
}

func TestProcessEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	p, err := start(ctx, t.TempDir(), sleep(t), "1000")
	if err != nil {
		t.Fatal(err)
	}
	if err := p.ended(); err != nil {
		t.Errorf("a running process ended: %v", err)
	}
	cancel()
	select {
	case <-p.done:
	case <-time.After(10 * time.Second):
		t.Fatal("the process outlives its context")
	}
}

// TestWaitForAProcessThatEnds must not wait for what will never come.
func TestWaitForAProcessThatEnds(t *testing.T) {
	t.Parallel()
	p, err := start(t.Context(), t.TempDir(), sleep(t), "--no-such-option")
	if err != nil {
		t.Fatal(err)
	}
	err = waitFor(t.Context(), "nothing", []*process{p}, func(context.Context) error { return errors.New("not yet") })
	if want := "waiting for nothing: sleep ended by itself: exit status 1"; err == nil || err.Error() != want {
		t.Errorf("waitFor = %v; want %s", err, want)
	}
	if log := p.tail(10); !strings.Contains(log, "no-such-option") {
		t.Errorf("the log's end is %q; want what the program said", log)
	}
}

// TestMain lets the test binary be a test that is killed.
func TestMain(m *testing.M) {
	if dir := os.Getenv("CLUSTER_TEST_DIR"); dir != "" {
		p, err := start(context.Background(), dir, os.Getenv("CLUSTER_TEST_PROGRAM"), "1000")
		if err != nil {
			os.Exit(1)
		}
		fmt.Println(p.pid)
		<-p.done
	}
	os.Exit(m.Run())
}

// TestProcessEndsWithTheTest kills a test's process, as `go test -timeout` or a
// person may.
func TestProcessEndsWithTheTest(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	parent := exec.Command(os.Args[0])
	parent.Env = append(os.Environ(), "CLUSTER_TEST_DIR="+dir, "CLUSTER_TEST_PROGRAM="+sleep(t))
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	var child int
	if _, err := fmt.Fscan(out, &child); err != nil {
		t.Fatalf("reading what the test's process started: %v", err)
	}
	parent.Process.Signal(syscall.SIGKILL)
	parent.Wait()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", child))
		if err != nil || strings.Contains(string(stat), ") Z ") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the program outlives the test")
		}
	}
}
