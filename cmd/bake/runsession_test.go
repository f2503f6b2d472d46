package main

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/nodebake/bake/bake/vm"
)

// fakeMachine is a session whose QEMU is a shell script.
func fakeMachine(t *testing.T, script string, r runner) *session {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("bake run needs Linux")
	}
	dir := t.TempDir()
	qemu := filepath.Join(dir, "qemu")
	for _, name := range []string{qemu, filepath.Join(dir, "OVMF_VARS_4M.fd")} {
		if err := os.WriteFile(name, []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	run, _ := sshRunner(t, r)
	run.ssh, run.noSecureBoot = false, true
	if err := run.check(); err != nil {
		t.Fatal(err)
	}
	s := &session{runner: run, powerDownTime: time.Minute, graceTime: 100 * time.Millisecond, tools: vm.Tools{QEMU: qemu, Firmware: dir},
		disk: vm.Disk{Path: "disk", Format: "raw", Bus: vm.SCSI}, chosen: vm.TCG}
	t.Cleanup(s.close)
	return s
}

// TestTimeout runs out of time with a machine that heeds no power button.
func TestTimeout(t *testing.T) {
	t.Parallel()
	s := fakeMachine(t, "echo booting; exec sleep 60", runner{timeout: 200 * time.Millisecond})
	start := time.Now()
	err := s.run(t.Context())
	want := []string{"worker-0 was not done within 200ms; its console's last lines:\nbooting", "worker-0 did not power off within ", "; its power was cut"}
	for _, part := range want {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("run = %v; want %q", err, part)
		}
	}
	var ended *endedError
	if took := time.Since(start); !errors.As(err, &ended) || took > 20*time.Second {
		t.Errorf("run ended after %v with %T; want the grace alone, and an end of the machine's", took, err)
	}
}

// TestTimeoutWhileEnding gives no more than the grace to a machine that has been
// told to end, and takes its time.
func TestTimeoutWhileEnding(t *testing.T) {
	t.Parallel()
	s := fakeMachine(t, "echo done; exec sleep 60", runner{timeout: 2500 * time.Millisecond, until: "^done", diskFile: "kept"})
	start := time.Now()
	err := s.run(t.Context())
	if took := time.Since(start); err == nil || !strings.Contains(err.Error(), "; its power was cut") || took > 20*time.Second {
		t.Errorf("run = %v after %v; want that the power was cut", err, took)
	}
}

// TestForcedKVM starts nothing under KVM: the remedy is named once.
func TestForcedKVM(t *testing.T) {
	t.Parallel()
	const remedy = "no kernel started under KVM; --accel auto tries KVM once, and runs without it where that fails"
	for _, test := range []struct {
		name, script, accel string
		want                []string
		named               int
	}{
		{"it fails", "echo 'failed to initialize kvm: Permission denied' >&2; exit 1", "kvm", []string{"failed to initialize kvm: Permission denied (" + remedy + ")"}, 1},
		{"it hangs", "echo BdsDxe; exec sleep 60", "kvm", []string{"last lines:\nBdsDxe", remedy}, 1},
		{"a kernel ran", "echo 'Run /init as init process'; exec sleep 60", "kvm", []string{"was not done within"}, 0},
		{"another", "exec sleep 60", "tcg", []string{"was not done within"}, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := fakeMachine(t, test.script, runner{timeout: 2 * time.Second})
			s.accel = test.accel
			err := s.run(t.Context())
			if err == nil {
				t.Fatal("run = nil; want an error")
			}
			for _, part := range test.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("run = %v; want %q", err, part)
				}
			}
			if n := strings.Count(err.Error(), remedy); n != test.named {
				t.Errorf("run = %v; want the remedy %d times", err, test.named)
			}
		})
	}
}

// TestPortThatIsTaken is found before anything is unpacked.
func TestPortThatIsTaken(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	_, port, _ := net.SplitHostPort(taken.Addr().String())
	image := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(image, []byte{0x1f, 0x8b, 8, 0, 0}, 0o644); err != nil { // it can't be unpacked
		t.Fatal(err)
	}
	r, notes := sshRunner(t, runner{image: image, forwards: []string{"0:80", port + ":22"}})
	if r.ssh = false; r.check() != nil {
		t.Fatal(r.check())
	}
	s := &session{runner: r}
	defer s.close()
	err = s.prepare(t.Context())
	want := "forwarding port " + port + " to port 22 of the machine: listen tcp 127.0.0.1:" + port + ": bind: address already in use (give another; 0 is any that is free)"
	if err == nil || err.Error() != want || notes.Len() > 0 {
		t.Errorf("prepare = %v, and says %q; want %s", err, notes, want)
	}
	if s.dir != nil {
		t.Errorf("a directory for the machine was made at %s", s.dir.Path)
	}
}
