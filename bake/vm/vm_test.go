package vm

import (
	"context"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/bake/arch"
)

func TestConsoleWaitsForPlainText(t *testing.T) {
	c := newConsole(time.Now, nil)
	go func() {
		for _, part := range []string{"\x1b[2J\x1b[01;01HBooting\r\n", "[\x1b[0;32m  OK  \x1b[0m] Reached tar", "get \x1b[0;1;38:5:185mmulti-user.target\x1b[0m\r\n"} {
			io.WriteString(c, part)
			time.Sleep(time.Millisecond)
		}
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	m, err := c.Wait(ctx, regexp.MustCompile(`\[  OK  \] Reached target (\S+)`))
	if err != nil {
		t.Fatal(err)
	}
	if m[1] != "multi-user.target" {
		t.Errorf("submatch = %q; want multi-user.target", m[1])
	}
	if got := c.Tail(1); got != "[  OK  ] Reached target multi-user.target" {
		t.Errorf("Tail(1) = %q; want the last line without escapes", got)
	}
}

// clock is a time that tests set.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) read() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func TestConsoleLines(t *testing.T) {
	t.Parallel()
	at := &clock{now: time.Unix(1e9, 0)}
	c := newConsole(at.read, nil)
	for _, part := range []string{"BdsDxe: star", "ting\r\n\x1b[2J\n", "EFI stub\r", "\n[    0.0", "00000] Linux version 6.12\nlogin: "} {
		at.pass(time.Second)
		io.WriteString(c, part)
	}
	want := []Line{
		{1 * time.Second, "BdsDxe: starting"}, {2 * time.Second, ""}, {3 * time.Second, "EFI stub"},
		{4 * time.Second, "[    0.000000] Linux version 6.12"}, {5 * time.Second, "login: "},
	}
	if diff := cmp.Diff(want, c.Lines()); diff != "" {
		t.Errorf("Lines differ (-want +got):\n%s", diff)
	}
}

// TestConsoleWaitsForWholeLines: what looks right may still be coming.
func TestConsoleWaitsForWholeLines(t *testing.T) {
	t.Parallel()
	c := newConsole(time.Now, nil)
	io.WriteString(c, "noise\nfirstboot: ready {")
	go func() {
		time.Sleep(10 * time.Millisecond)
		io.WriteString(c, "\"a\": 1}\nworker-0 login: ")
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	m, err := c.Wait(ctx, regexp.MustCompile(`^firstboot: ready (\{.*)$`))
	if err != nil {
		t.Fatal(err)
	}
	if m[1] != `{"a": 1}` {
		t.Errorf("submatch = %q; want the whole line's", m[1])
	}
	if _, err := c.Wait(ctx, regexp.MustCompile(`login: $`)); err != nil {
		t.Errorf("waiting for a prompt: %v", err)
	}
}

func TestConsoleWaitAfter(t *testing.T) {
	t.Parallel()
	c := newConsole(time.Now, nil)
	io.WriteString(c, "Linux version 1\nworker-0 login: ")
	mark := c.Len()
	short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if m, err := c.WaitAfter(short, mark, regexp.MustCompile(`login|^$`)); err == nil {
		t.Errorf("WaitAfter = %q; want nothing before the mark", m)
	}
	io.WriteString(c, "\nLinux version 2\n")
	if m, err := c.WaitAfter(t.Context(), mark, regexp.MustCompile(`^Linux version (.)`)); err != nil || m[1] != "2" {
		t.Errorf("WaitAfter = %q, %v; want the second boot's", m, err)
	}
	if m, err := c.Wait(t.Context(), regexp.MustCompile(`^Linux version (.)`)); err != nil || m[1] != "1" {
		t.Errorf("Wait = %q, %v; want the first boot's", m, err)
	}
}

func TestConsoleWaitShowsTheTailWhenItFails(t *testing.T) {
	c := newConsole(time.Now, nil)
	io.WriteString(c, "Kernel panic - not syncing\n")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := c.Wait(ctx, regexp.MustCompile("login:")); err == nil || !strings.Contains(err.Error(), "Kernel panic") {
		t.Errorf("Wait over its time = %v; want an error with the last lines", err)
	}
	c.end()
	if _, err := c.Wait(t.Context(), regexp.MustCompile("login:")); err == nil || !strings.Contains(err.Error(), "the machine ended") {
		t.Errorf("Wait after the end = %v; want an error that says so", err)
	}
}

func TestMAC(t *testing.T) {
	if got, want := MAC(netip.MustParseAddr("10.240.0.20")), "42:01:0a:f0:00:14"; got != want {
		t.Errorf("MAC(10.240.0.20) = %s; want %s", got, want)
	}
}

// fakeQEMU puts programs on the search path that only know --version; before are
// lines of their scripts.
func fakeQEMU(t *testing.T, version, before string) {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"qemu-system-x86_64", "qemu-img"} {
		script := "#!/bin/sh\n" + before + "echo 'QEMU emulator version " + version + " (Debian)'\n"
		if err := os.WriteFile(filepath.Join(dir, name), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir)
}

func TestFindToolsNamesWhatToInstall(t *testing.T) {
	firmware := t.TempDir()
	if err := os.WriteFile(filepath.Join(firmware, codeSecure), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	t.Run("old", func(t *testing.T) {
		fakeQEMU(t, "7.2.22", "")
		if _, err := FindTools(t.Context(), arch.AMD64, firmware); err == nil || !strings.Contains(err.Error(), "QEMU 7.2.22 is too old") {
			t.Errorf("FindTools = %v; want it to refuse QEMU 7.2", err)
		}
	})
	t.Run("good", func(t *testing.T) {
		fakeQEMU(t, "10.0.2", "")
		tools, err := FindTools(t.Context(), arch.AMD64, "/nowhere", firmware)
		if err != nil || tools.Firmware != firmware || tools.Version != "10.0.2" || tools.Sandbox != sandbox || tools.Unconfined != "" {
			t.Errorf("FindTools = %+v, %v; want version 10.0.2, the firmware's directory and a sandbox", tools, err)
		}
	})
	t.Run("without seccomp", func(t *testing.T) {
		fakeQEMU(t, "10.0.2", `case "$*" in *-sandbox*) echo "qemu: -sandbox support is not enabled" >&2; echo more >&2; exit 1; esac`+"\n")
		tools, err := FindTools(t.Context(), arch.AMD64, firmware)
		if want := "qemu: -sandbox support is not enabled"; err != nil || tools.Sandbox != "" || tools.Unconfined != want {
			t.Errorf("FindTools = %+v, %v; want no sandbox, because %s", tools, err, want)
		}
	})
	t.Run("no firmware", func(t *testing.T) {
		fakeQEMU(t, "10.0.2", "")
		if _, err := FindTools(t.Context(), arch.AMD64, "/nowhere"); err == nil || !strings.Contains(err.Error(), "install the package ovmf") {
			t.Errorf("FindTools without firmware = %v; want the package's name", err)
		}
	})
	t.Run("no qemu", func(t *testing.T) {
		t.Setenv("PATH", t.TempDir())
		if _, err := FindTools(t.Context(), arch.AMD64, firmware); err == nil || !strings.Contains(err.Error(), "install the package qemu-system-x86") {
			t.Errorf("FindTools without QEMU = %v; want the package's name", err)
		}
	})
}
