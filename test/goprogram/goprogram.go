// Package goprogram builds Go programs for tests.
package goprogram

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Build builds the program name in dir, by go build with args, without cgo, for
// Linux on arch. It returns the program's path.
func Build(t testing.TB, name, dir, arch string, args ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"build", "-trimpath", "-buildvcs=false", "-o", path}, args...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH="+arch, "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build %q: %v\n%s", args, err, out)
	}
	return path
}
