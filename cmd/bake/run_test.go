package main

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/firstboot/metadata/emulator"
)

func TestReadMetadataDir(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, content := range map[string]string{
		"pod-cidr":      "10.200.0.0/24", // without a line end
		"kubernetes-ca": "-----BEGIN CERTIFICATE-----\r\n\n",
		"empty":         "",
		".DS_Store":     "\x00\xff",
		"ca/ca-key.pem": "secret",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(filepath.Join(dir, "pod-cidr"), filepath.Join(dir, "linked")); err != nil {
		t.Skip(err)
	}
	got, err := readMetadataDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"pod-cidr": "10.200.0.0/24", "linked": "10.200.0.0/24", "empty": "",
		"kubernetes-ca": "-----BEGIN CERTIFICATE-----\r\n\n",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("readMetadataDir differs (-want +got):\n%s", diff)
	}
	for name, content := range map[string]string{"binary": "a\xff", "huge": strings.Repeat("x", 1<<20+1)} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := readMetadataDir(dir); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("readMetadataDir with the file %s = %v; want an error that names it", name, err)
		}
	}
}

func TestParseSize(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int64{
		"10GiB": 10 << 30, "10G": 10 << 30, "512MiB": 512 << 20, "1K": 1024, "64TiB": 64 << 40, "1073741824": 1 << 30,
		"": 0, "0": 0, "GiB": 0, "10GB": 0, "10 GiB": 0, "-1G": 0, "65T": 0, "1000": 0, "99999999999999G": 0, "1.5G": 0,
	} {
		got, err := parseSize(text)
		if got != want && err == nil || (err != nil) != (want == 0) {
			t.Errorf("parseSize(%q) = %d, %v; want %d", text, got, err, want)
		}
	}
}

func FuzzParseSize(f *testing.F) {
	for _, seed := range []string{"10GiB", "64T", "512", "", "1.5G", "99999999999999999999"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if n, err := parseSize(text); err == nil && (n <= 0 || n > 64<<40 || n%512 != 0) {
			t.Errorf("parseSize(%q) = %d", text, n)
		}
	})
}

func TestParseForward(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]forwardedPort{"2222:22": {2222, 22}, "0:10250": {0, 10250}} {
		if got, err := parseForward(text); err != nil || got != want {
			t.Errorf("parseForward(%q) = %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "22", "2222:0", "65536:22", "-1:22", "a:b", "1:2:3", "+1:2"} {
		if got, err := parseForward(text); err == nil {
			t.Errorf("parseForward(%q) = %v; want an error", text, got)
		}
	}
}

func FuzzParseForward(f *testing.F) {
	for _, seed := range []string{"2222:22", "0:1", ":", "1:2:3", "65536:1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if p, err := parseForward(text); err == nil && (p.guest < 1 || p.guest > 65535 || p.host < 0 || p.host > 65535) {
			t.Errorf("parseForward(%q) = %v", text, p)
		}
	})
}

func TestTakeLeaveKeys(t *testing.T) {
	t.Parallel()
	if text, n := takeLeaveKeys([]byte("ls\r\x1d\x03\x1d")); text != "ls\r\x03" || n != 2 {
		t.Errorf("takeLeaveKeys = %q, %d; want what else was typed, and 2", text, n)
	}
}

func TestConsoleWriter(t *testing.T) {
	t.Parallel()
	now := time.Unix(1e9, 0)
	for _, test := range []struct {
		name   string
		asJSON bool
		want   string
	}{
		{"lines", false, "[  OK  ] Started\nworker-0 login: \n"},
		{"JSON", true, `{"ms":1500,"line":"[  OK  ] Started"}` + "\n" + `{"ms":1500,"line":"worker-0 login: "}` + "\n"},
	} {
		var out bytes.Buffer
		r := &runner{asJSON: test.asJSON, host: &host{stdout: &out, now: func() time.Time { return now }}}
		w, failed := (&session{runner: r}).console()
		r.host.now = func() time.Time { return now.Add(1500 * time.Millisecond) }
		for _, part := range []string{"[\x1b[0;32m  OK", "  \x1b[0m] Started\r\nworker-0", " login: "} {
			if _, err := io.WriteString(w, part); err != nil {
				t.Fatal(err)
			}
		}
		w.flush()
		if diff := cmp.Diff(test.want, out.String()); diff != "" {
			t.Errorf("%s: the console differs (-want +got):\n%s", test.name, diff)
		}
		select {
		case <-failed:
			t.Errorf("%s: the writer says that it failed", test.name)
		default:
		}
	}
	w := &consoleWriter{out: brokenPipe{}, failed: make(chan struct{})}
	for range 2 {
		if _, err := io.WriteString(w, "x"); err == nil {
			t.Error("writing to a broken pipe succeeded")
		}
	}
	<-w.failed
}

type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

func TestPrintGuestAttributes(t *testing.T) {
	t.Parallel()
	server := emulator.NewServer(emulator.Instance{Name: "worker-0", Attributes: map[string]string{enableGuestAttributes: "TRUE"}})
	for _, key := range []string{"firstboot/report", "firstboot/failed"} {
		w := &answer{header: http.Header{}, status: http.StatusOK}
		server.ServeHTTP(w, &http.Request{
			Method: http.MethodPut, URL: &url.URL{Path: emulator.Root + "instance/guest-attributes/" + key},
			Header: http.Header{"Metadata-Flavor": {"Google"}}, Body: io.NopCloser(strings.NewReader("{}")),
		})
		if w.status != http.StatusOK {
			t.Fatalf("writing %s: %d %s", key, w.status, w.body.String())
		}
	}
	var out strings.Builder
	if err := printGuestAttributes(&out, server); err != nil {
		t.Fatal(err)
	}
	if want := "guest attribute firstboot/failed: {}\nguest attribute firstboot/report: {}\n"; out.String() != want {
		t.Errorf("guest attributes = %q; want %q", out.String(), want)
	}
	if err := printGuestAttributes(&out, emulator.NewServer(emulator.Instance{})); err == nil {
		t.Error("where guest attributes are not enabled there is no error")
	}
}
