package main

import (
	"bytes"
	"errors"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nodebake/bake/bake/node"
	"github.com/nodebake/bake/firstboot/metadata/emulator"
	"github.com/nodebake/bake/test/filetest"
	"github.com/nodebake/bake/test/goprogram"
	"github.com/nodebake/bake/test/must"
)

// maxSize is what firstboot may add to an image.
const maxSize = 8 << 20

// build builds firstboot as `make` does.
func build(t *testing.T, arch string) string {
	t.Helper()
	return goprogram.Build(t, "firstboot", ".", arch, "-ldflags=-s -w -buildid=")
}

func TestSize(t *testing.T) {
	t.Parallel()
	for _, arch := range []string{"amd64", "arm64"} {
		info := filetest.Stat(t, build(t, arch))
		t.Logf("%s: %d bytes, %.2f MiB", arch, info.Size(), float64(info.Size())/(1<<20))
		if info.Size() > maxSize {
			t.Errorf("firstboot for %s has %d bytes; %d are allowed", arch, info.Size(), maxSize)
		}
	}
}

func TestRunUsage(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		args, out string
		err       string
		usage     bool // exit code 2
	}{
		{args: "--help", out: "firstboot --dry-run"},
		{args: "health --help", out: "firstboot --dry-run"},
		{args: "--version", out: "firstboot "},
		{args: "configure", err: `unknown command "configure"`, usage: true},
		{args: "--metadata x", err: "--metadata belongs to --dry-run", usage: true},
		{args: "--deadline 1m", err: "--deadline belongs to health", usage: true},
		{args: "health --dry-run", err: "--dry-run belongs", usage: true},
		{args: "health --version", err: "--version belongs", usage: true},
		{args: "--nonsense", err: "nonsense", usage: true},
		{args: "--dry-run --root /nonexistent --metadata /nonexistent", err: "/nonexistent/usr/lib/bake/image.json"},
	} {
		var out bytes.Buffer
		err := run(t.Context(), strings.Fields(test.args), &out, &out)
		switch {
		case test.err == "" && (err != nil || !strings.Contains(out.String(), test.out)):
			t.Errorf("firstboot %s = %v, %q; want %q", test.args, err, out.String(), test.out)
		case test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err) || errors.Is(err, errUsage) != test.usage):
			t.Errorf("firstboot %s = %v; want an error with %q, about usage: %t", test.args, err, test.err, test.usage)
		}
	}
}

func TestDryRunAgainstAServer(t *testing.T) {
	t.Parallel()
	now := time.Now()
	ca := must.Get(node.NewCA(node.CAConfig{Now: now}))
	values, err := node.New(node.Config{
		Name: "worker-0", Server: "https://10.240.0.10:6443", IP: netip.MustParseAddr("10.240.0.20"),
		PodCIDR: netip.MustParsePrefix("10.200.0.0/24"), CA: ca, Now: now,
	})
	if err != nil {
		t.Fatal(err)
	}
	attributes := map[string]string{}
	for key, value := range values {
		attributes[key] = string(value)
	}
	metadata := emulator.NewServer(emulator.Instance{
		Name: "worker-0", Project: "example", Zone: "us-west1-c", IP: "10.240.0.20", Attributes: attributes,
	})
	server := httptest.NewServer(metadata)
	defer server.Close()
	root := t.TempDir()
	record := filepath.Join(root, "image.json")
	err = os.WriteFile(record, []byte(`{"inputs":{"lock":"sha256:0123"},"components":[{"name":"kubelet","version":"v1.36.3"},
		{"name":"kube-proxy","version":"v1.36.3"},{"name":"containerd","version":"2.3.4"},{"name":"cni-plugins","version":"v1.9.1"}]}`), 0o644)
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"--dry-run", "--root", root, "--image", record, "--metadata", server.URL + "/"}
	var stdout, stderr bytes.Buffer
	if err := run(t.Context(), args, &stdout, &stderr); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(stdout.String(), "13 of 13 files would change.") || stderr.Len() > 0 {
		t.Errorf("the dry run says %q and %q", stdout.String(), stderr.String())
	}
	metadata.DeleteAttribute("pod-cidr")
	stdout.Reset()
	err = run(t.Context(), args, &stdout, &stderr)
	if err == nil || !strings.Contains(err.Error(), "pod-cidr") || errors.Is(err, errUsage) || stdout.Len() > 0 {
		t.Errorf("without pod-cidr: %v after %q; want an error that names the key", err, stdout.String())
	}
	if entries, err := os.ReadDir(root); err != nil || len(entries) != 1 {
		t.Errorf("the root holds %v, %v; want what was there", entries, err)
	}
}
