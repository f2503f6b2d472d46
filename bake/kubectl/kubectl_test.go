package kubectl_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
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
	syscall.ForkLock.RLock() // no other test's program inherits the file, which could not be run then
	err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o755)
	syscall.ForkLock.RUnlock()
	if err != nil {
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
	if out, err := k.Run(t.Context(), nil, "get"); string(out) != "--kubeconfig=a b --request-timeout=20s get value \n" || err != nil {
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

// TestAsk has a kubectl that fails, which is no error.
func TestAsk(t *testing.T) {
	t.Parallel()
	k := script(t, "echo \"$@ $KUBERC\"; cat; echo said >&2; exit 3\n")
	k.Kubeconfig, k.CacheDir, k.Env = "admin", "/cache", append(k.Env, "KUBERC=on")
	got, err := k.Ask(t.Context(), []byte("input"), "exec", "pod")
	if want := (kubectl.Output{Stdout: "--kubeconfig=admin --cache-dir=/cache exec pod off\ninput", Stderr: "said\n", Code: 3}); got != want || err != nil {
		t.Errorf("Ask = %+v, %v; want %+v", got, err, want)
	}
	got, err = kubectl.Program(t.Context(), k.Path, k.Env, "get", "/registry")
	if want := (kubectl.Output{Stdout: "get /registry off\n", Stderr: "said\n", Code: 3}); got != want || err != nil {
		t.Errorf("Program = %+v, %v; want %+v", got, err, want)
	}
	if got, err := (kubectl.Kubectl{Path: "/nowhere/kubectl"}).Ask(t.Context(), nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Ask of no program = %+v, %v; want that there is none", got, err)
	}
	over, why := errors.New("it took too long"), script(t, "exec sleep 100\n")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, over)
	defer cancel()
	if got, err := why.Ask(ctx, nil); err != over {
		t.Errorf("Ask that takes too long = %+v, %v; want its context's cause", got, err)
	}
}

func TestForward(t *testing.T) {
	t.Parallel()
	used := func(k kubectl.Kubectl) (address string, out kubectl.Output, err error) {
		out, err = k.Forward(t.Context(), func(a string) { address = a }, "pod/x", ":80")
		return address, out, err
	}
	address, out, err := used(script(t, "test \"$*\" = 'port-forward pod/x :80' || exit 9; echo handled >&2; printf 'Forwarding from 127.0.0.1:'; echo '4711 -> 80'; echo 'Forwarding from [::1]:4711 -> 80'; exec sleep 100\n"))
	if address != "127.0.0.1:4711" || out.Code != 0 || out.Stderr != "handled\n" || err != nil {
		t.Errorf("Forward uses %q and returns %+v, %v; want 127.0.0.1:4711", address, out, err)
	}
	address, out, err = used(script(t, "echo 'unable to listen' >&2; exit 5\n"))
	if want := (kubectl.Output{Stderr: "unable to listen\n", Code: 5}); address != "" || out != want || err != nil {
		t.Errorf("Forward uses %q and returns %+v, %v; want nothing, and %+v", address, out, err, want)
	}
	if address, out, err = used(script(t, "echo hello\n")); address != "" || out.Code != 1 || err != nil {
		t.Errorf("Forward of a program that takes no port uses %q and returns %+v, %v; want nothing, and 1", address, out, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if out, err := script(t, "exec sleep 100\n").Forward(ctx, func(string) { t.Error("there is no port") }, "pod/x", ":80"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Forward that takes no port in time = %+v, %v; want that the time is over", out, err)
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
