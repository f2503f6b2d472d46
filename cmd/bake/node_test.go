package main

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestInterruptedNodeLeavesNothing(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var stdout, stderr bytes.Buffer
	out := filepath.Join(t.TempDir(), "workers", "worker-0")
	h := &host{stdout: &stdout, stderr: &stderr, now: time.Now}
	err := run(ctx, h, []string{"node", "worker-0", "--server", "https://10.240.0.10:6443", "--ip", "10.240.0.20", "--pod-cidr", "10.200.0.0/24", "--output", out})
	if err == nil || exitCode(ctx, err) != exitInterrupted || stdout.Len() > 0 {
		t.Errorf("run with a cancelled context = %v, printed %q; want an interruption and nothing printed", err, &stdout)
	}
	if _, err := os.Stat(filepath.Dir(out)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the directory of --output is there (%v); want it gone", err)
	}
}

func TestParseValidity(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{
		"365d": 8760 * time.Hour, "8760h": 8760 * time.Hour, "90m": 90 * time.Minute, "1d": 24 * time.Hour,
		"": 0, "d": 0, "0d": 0, "-1d": 0, "-1h": 0, "1": 0, "1y": 0, "99999999999d": 0, "40000d": 0,
	} {
		got, err := parseValidity(text)
		if want == 0 && err == nil || want != 0 && (err != nil || got != want) {
			t.Errorf("parseValidity(%q) = %v, %v; want %v", text, got, err, want)
		}
	}
}
