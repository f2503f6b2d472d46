package kubectl_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/nodebake/bake/bake/kubectl"
)

// script is a kubectl that is a shell script.
func script(t *testing.T, text string) kubectl.Kubectl {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("there is no shell")
	}
	path := filepath.Join(t.TempDir(), "kubectl")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o755); err != nil {
		t.Fatal(err)
	}
	return kubectl.Kubectl{Path: path, Env: []string{"PATH=" + os.Getenv("PATH"), "NAME=value"}}
}

func TestRun(t *testing.T) {
	t.Parallel()
	k := script(t, "echo \"$@ $NAME $HOME\"; cat; echo warning >&2\n")
	out, err := k.Run(t.Context(), []byte("input"), "get", "nodes")
	if want := "--request-timeout=20s get nodes value \ninput"; string(out) != want || err != nil {
		t.Errorf("Run = %q, %v; want %q", out, err, want)
	}
	k.Kubeconfig = "a b"
	if out, err := k.Run(t.Context(), nil, "get"); string(out) != "--request-timeout=20s --kubeconfig=a b get value \n" || err != nil {
		t.Errorf("Run = %q, %v", out, err)
	}
}

func TestRunFails(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ text, want string }{
		{"exit 3", "kubectl get nodes: exit status 3"},
		{"echo 'error: no such file' >&2; exit 1", "kubectl get nodes: no such file"},
		{"echo 'E1127 10:29:01.123456   79 memcache.go:265] \"Unhandled Error\"' >&2; echo 'Warning: v1 Endpoints is deprecated' >&2; echo; echo ' The connection was refused ' >&2; exit 1", "kubectl get nodes: The connection was refused"},
		{"echo one >&2; echo two >&2; echo three >&2; exit 1", "kubectl get nodes: one (and 2 more)"},
	} {
		k := script(t, test.text+"\n")
		_, err := k.Run(t.Context(), nil, "get", "nodes", "-o", "json")
		if _, ok := errors.AsType[*kubectl.Error](err); !ok || err.Error() != test.want {
			t.Errorf("%s: Run = %v; want %s", test.text, err, test.want)
		}
	}
	k := kubectl.Kubectl{Path: filepath.Join(t.TempDir(), "none")}
	if _, err := k.Run(t.Context(), nil, "get"); err == nil || !strings.HasPrefix(err.Error(), "kubectl get: ") {
		t.Errorf("Run of no program = %v", err)
	}
}

// TestRunInterrupted lets kubectl clean up, and ends one that does not end.
func TestRunInterrupted(t *testing.T) {
	t.Parallel()
	done := filepath.Join(t.TempDir(), "done")
	k := script(t, "trap 'echo >"+done+"; exit 1' INT; while :; do sleep 0.05; done\n")
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	began := time.Now()
	_, err := k.Run(ctx, nil, "get", "nodes")
	if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > 4*time.Second {
		t.Errorf("Run = %v after %v; want that it ends with its context", err, time.Since(began))
	}
	if _, err := os.Stat(done); err != nil {
		t.Errorf("kubectl was not told: %v", err)
	}
}

func TestVersions(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		client, server string
		skewed         bool
	}{
		{"v1.36.3", "v1.36.0", false}, {"v1.35.1", "v1.36.3", false}, {"v1.37.0-alpha.1", "v1.36.3", false},
		{"v1.34.1", "v1.36.3", true}, {"v1.38.0", "v1.36.3", true}, {"v1.32.4-dispatcher", "v1.36.3-gke.100", true}, {"v2.36.0", "v1.36.3", true},
	} {
		v, err := kubectl.ParseVersions([]byte(`{"clientVersion": {"major": "1", "gitVersion": "` + test.client + `"}, "kustomizeVersion": "x", "serverVersion": {"gitVersion": "` + test.server + `"}}`))
		if err != nil || v.Skewed() != test.skewed {
			t.Errorf("Skewed() of %s and %s = %t, %v; want %t", test.client, test.server, v.Skewed(), err, test.skewed)
		}
	}
	for text, want := range map[string]string{
		"x": "reading what kubectl version prints: invalid character 'x' looking for beginning of value",
		`{"clientVersion": {"gitVersion": "v1.36.3"}}`: `"" is no version of Kubernetes`,
	} {
		if _, err := kubectl.ParseVersions([]byte(text)); err == nil || err.Error() != want {
			t.Errorf("ParseVersions(%s) = %v; want %s", text, err, want)
		}
	}
}
