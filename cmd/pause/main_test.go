//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
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
	"github.com/nodebake/bake/test/goprogram"
	"github.com/nodebake/bake/test/must"
	"github.com/nodebake/bake/test/need"
)

// build makes the program as the Makefile does.
func build(t *testing.T) string {
	t.Helper()
	return goprogram.Build(t, "pause", ".", runtime.GOARCH, "-ldflags=-s -w -buildid=")
}

// start runs program as PID 1 of a PID namespace of its own, where it gets an
// orphan that ends when release is called: the shell's subshell starts it and
// ends, and then the shell becomes the program.
func start(t *testing.T, program ...string) (cmd *exec.Cmd, release func()) {
	t.Helper()
	hear, say, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer hear.Close()
	release = func() { say.Close() }
	t.Cleanup(release)
	cmd = exec.Command("sh", append([]string{"-c", `(cat <&3 & exit) ; exec 3<&- "$@"`, "sh"}, program...)...)
	cmd.ExtraFiles = []*os.File{hear}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		need.Missing(t, "starting %q in a PID namespace (as root, or where users may make namespaces): %v", program, err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill() // all of the namespace goes with its PID 1
		cmd.Wait()
		if out.Len() > 0 {
			t.Errorf("%q printed:\n%s", program, out.String())
		}
	})
	return cmd, release
}

// child is a process's parent and state as proc_pid_stat(5) has them.
type child struct {
	pid   int
	state string
}

func children(t *testing.T, parent int) []child {
	t.Helper()
	files := must.Get(filepath.Glob("/proc/[0-9]*/stat"))
	var out []child
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			continue // it ended
		}
		_, rest, _ := strings.Cut(string(data), ") ")
		fields := strings.Fields(rest)
		if len(fields) > 1 && fields[1] == strconv.Itoa(parent) {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, child{pid, fields[0]})
		}
	}
	return out
}

func waitFor(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited 20 s: %s", what)
		}
	}
}

// exited waits for cmd and returns how it ended.
func exited(t *testing.T, cmd *exec.Cmd) error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case err := <-done:
		return err
	case <-time.After(20 * time.Second):
		t.Fatal("it did not end within 20 s of the signal")
		return nil
	}
}

// waitReaped waits until pause has reaped its orphan, and so handles signals.
func waitReaped(t *testing.T, cmd *exec.Cmd, release func()) {
	t.Helper()
	pid := cmd.Process.Pid
	waitFor(t, "pause never had the orphan", func() bool { return runs(pid, "pause") && len(children(t, pid)) == 1 })
	release()
	waitFor(t, "the orphan ended and was not reaped", func() bool { return len(children(t, pid)) == 0 })
}

// runs reports whether the process is the program, and no longer the shell,
// which would reap the orphan.
func runs(pid int, program string) bool {
	args, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	name, _, _ := strings.Cut(string(args), "\x00")
	return err == nil && filepath.Base(name) == program
}

func TestReapsOrphans(t *testing.T) {
	t.Parallel()
	cmd, release := start(t, build(t))
	waitReaped(t, cmd, release)
	if !runs(cmd.Process.Pid, "pause") {
		t.Error("pause ended with its child")
	}
}

// TestSignals sends what a runtime does to stop a sandbox. A PID 1 gets no
// signal that it has no handler for.
func TestSignals(t *testing.T) {
	t.Parallel()
	program := build(t)
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		cmd, release := start(t, program)
		waitReaped(t, cmd, release)
		if err := cmd.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
		if err := exited(t, cmd); err != nil {
			t.Errorf("after %v: %v; want exit code 0", signal, err)
		}
	}
}

// TestChecksSee shows the tests above a PID 1 that reaps nothing and handles
// nothing.
func TestChecksSee(t *testing.T) {
	t.Parallel()
	cmd, release := start(t, "sleep", "60")
	pid := cmd.Process.Pid
	waitFor(t, "sleep never had the orphan", func() bool { return runs(pid, "sleep") && len(children(t, pid)) == 1 })
	release()
	waitFor(t, "no zombie is seen below a process that reaps none", func() bool {
		c := children(t, pid)
		return len(c) == 1 && c[0].state == "Z"
	})
	if runs(pid, "pause") {
		t.Error("sleep is said to be pause")
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	time.Sleep(200 * time.Millisecond)
	if len(children(t, pid)) != 1 {
		t.Error("SIGTERM ended a PID 1 that has no handler for it")
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	var failed *exec.ExitError
	if err := exited(t, cmd); !errors.As(err, &failed) {
		t.Errorf("killed: %v; want an exit error", err)
	}
}

// TestSmall keeps it what it is: every pod has one.
func TestSmall(t *testing.T) {
	t.Parallel()
	program := build(t)
	info := filetest.Stat(t, program)
	if info.Size() > 2<<20 {
		t.Errorf("the program has %d bytes; want at most 2 MiB", info.Size())
	}
	if out, err := exec.Command("go", "list", "-deps", ".").Output(); err != nil {
		t.Errorf("go list: %v", err)
	} else if strings.Contains(string(out), "\nfmt\n") || strings.Contains(string(out), "\nnet\n") {
		t.Error("it links fmt or net")
	}
	cmd, release := start(t, program)
	waitReaped(t, cmd, release)
	data := filetest.Read(t, fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))
	for line := range strings.SplitSeq(string(data), "\n") {
		kind, rest, _ := strings.Cut(line, ":")
		if kind != "RssAnon" {
			continue
		}
		kB, err := strconv.Atoi(strings.Fields(rest)[0])
		if err != nil || kB > 4<<10 {
			t.Errorf("%s; want at most 4 MiB", line)
		}
		return
	}
	t.Error("no RssAnon in its status")
}
