package vm

import (
	"context"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nodebake/bake/bake/manifest"
)

func TestConsoleWaitsForPlainText(t *testing.T) {
	c := newConsole(time.Now, nil)
	go func() {
		for _, part := range []string{"\x1b[2J\x1b[01;01HBooting\r\n", "[\x1b[0;32m  OK  \x1b[0m] Reached tar", "get \x1b[0;1;39mmulti-user.target\x1b[0m\r\n"} {
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

// TestMetadataGoesByAddress asks the network's metadata server as two machines.
func TestMetadataGoesByAddress(t *testing.T) {
	known, unknown := netip.MustParseAddr("10.240.0.20"), netip.MustParseAddr("10.240.0.21")
	n, err := NewNetwork(NetworkConfig{Machines: map[string]netip.Addr{"worker-0": known, "worker-1": unknown}})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	n.ServeMetadata(known, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "yes") }))
	for _, test := range []struct {
		from    netip.Addr
		answers bool
	}{{known, true}, {unknown, false}} {
		answered := func() (answered bool) {
			defer func() {
				if r := recover(); r != nil && r != http.ErrAbortHandler {
					panic(r)
				}
			}()
			w := &recorder{}
			n.serveMetadata(w, &http.Request{RemoteAddr: test.from.String() + ":1234"})
			return w.text == "yes"
		}()
		if answered != test.answers {
			t.Errorf("request from %s: answered %v; want %v", test.from, answered, test.answers)
		}
	}
}

type recorder struct {
	http.ResponseWriter
	text string
}

func (r *recorder) Write(p []byte) (int, error) {
	r.text += string(p)
	return len(p), nil
}

// fakeQEMU puts programs on the search path that only know --version.
func fakeQEMU(t *testing.T, version string) {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"qemu-system-x86_64", "qemu-img"} {
		script := "#!/bin/sh\necho 'QEMU emulator version " + version + " (Debian)'\n"
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
		fakeQEMU(t, "7.2.22")
		if _, err := FindTools(t.Context(), manifest.AMD64, firmware); err == nil || !strings.Contains(err.Error(), "QEMU 7.2.22 is too old") {
			t.Errorf("FindTools = %v; want it to refuse QEMU 7.2", err)
		}
	})
	t.Run("good", func(t *testing.T) {
		fakeQEMU(t, "10.0.2")
		tools, err := FindTools(t.Context(), manifest.AMD64, "/nowhere", firmware)
		if err != nil || tools.Firmware != firmware || tools.Version != "10.0.2" {
			t.Errorf("FindTools = %+v, %v; want version 10.0.2 and the firmware's directory", tools, err)
		}
	})
	t.Run("no firmware", func(t *testing.T) {
		fakeQEMU(t, "10.0.2")
		if _, err := FindTools(t.Context(), manifest.AMD64, "/nowhere"); err == nil || !strings.Contains(err.Error(), "install the package ovmf") {
			t.Errorf("FindTools without firmware = %v; want the package's name", err)
		}
	})
	t.Run("no qemu", func(t *testing.T) {
		t.Setenv("PATH", t.TempDir())
		if _, err := FindTools(t.Context(), manifest.AMD64, firmware); err == nil || !strings.Contains(err.Error(), "install the package qemu-system-x86") {
			t.Errorf("FindTools without QEMU = %v; want the package's name", err)
		}
	})
}
