// Package need ends tests that lack something of the machine they run on. Each
// says what it lacks and how to get it, and is skipped; in CI, which has
// everything, it fails.
package need

import (
	"os"
	"os/exec"
	"testing"
)

// Missing ends a test that can't run here.
func Missing(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// Program returns the path of a program, which Debian has in packages pkg.
func Program(t testing.TB, name, pkg string) string {
	t.Helper()
	// The PATH of users other than root lacks the latter two.
	for _, dir := range []string{"", "/usr/sbin/", "/sbin/"} {
		if path, err := exec.LookPath(dir + name); err == nil {
			return path
		}
	}
	Missing(t, "%s is missing: apt-get install %s", name, pkg)
	return ""
}

// Root ends a test that another user than root runs, who can't do what.
func Root(t testing.TB, what string) {
	t.Helper()
	if os.Geteuid() != 0 {
		Missing(t, "only root can %s", what)
	}
}
