//go:build linux

package controlplane

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nodebake/bake/bake/node"
)

// TestStartSaysWhatEnded starts a control plane whose etcd is none.
func TestStartSaysWhatEnded(t *testing.T) {
	t.Parallel()
	program := filepath.Join(t.TempDir(), "etcd")
	if err := os.WriteFile(program, []byte("#!/bin/sh\necho \"etcd: what is $1?\"\nexit 3\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	ca, err := node.NewCA(node.CAConfig{Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "made")
	_, err = Start(t.Context(), Config{Programs: &Programs{Etcd: program}, CA: ca, Now: time.Now(), Dir: dir})
	want := "starting a control plane: waiting for etcd: etcd ended by itself: exit status 3\n"
	if err == nil || !strings.HasPrefix(err.Error(), want) || !strings.Contains(err.Error(), "what is --data-dir="+dir) {
		t.Errorf("Start = %v; want %q and the end of the log", err, want)
	}
}
