package units_test

import (
	"io/fs"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nodebake/bake/test/filetest"
	"github.com/nodebake/bake/test/need"
	"github.com/nodebake/bake/units"
)

// TestSecurity has systemd check each unit: an exposure of 4.0 at most.
func TestSecurity(t *testing.T) {
	t.Parallel()
	if out, err := exec.CommandContext(t.Context(), "systemd-analyze", "security", "--help").CombinedOutput(); err != nil || !strings.Contains(string(out), "--offline") {
		need.Missing(t, "systemd-analyze security --offline is missing: apt-get install systemd (250 or later)")
	}
	excepted := map[string]string{
		"containerd.service": "it mounts, makes devices and namespaces and starts what pods ask for; all of that is inherited",
		"kubelet.service":    "it mounts volumes for pods and reaches everything of theirs",
		"kube-proxy.service": "it writes network rules and kernel settings, and loads modules",
	}
	names, err := fs.Glob(units.FS(), "*.service")
	if err != nil || len(names) < 7 {
		t.Fatalf("%d units: %v", len(names), err)
	}
	dir := t.TempDir()
	judge := func(name, content string) ([]byte, error) {
		file := filepath.Join(dir, name)
		filetest.Write(t, file, content)
		return exec.CommandContext(t.Context(), "systemd-analyze", "security", "--offline=true", "--threshold=40", "--no-pager", file).CombinedOutput()
	}
	for _, name := range names {
		content, err := fs.ReadFile(units.FS(), name)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := excepted[name]; ok {
			continue
		}
		if out, err := judge(name, string(content)); err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
	if out, err := judge("open.service", "[Service]\nExecStart=/bin/true\n"); err == nil {
		t.Errorf("systemd-analyze lets a unit without any restriction pass:\n%s", out)
	}
}
