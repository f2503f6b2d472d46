//go:build system && linux

package firstboot_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/firstboot/files"
	"github.com/nodebake/bake/test/filetest"
	"github.com/nodebake/bake/test/need"
)

// TestOwner gives a file of the configuration to another group, which Apply
// takes back.
func TestOwner(t *testing.T) {
	t.Parallel()
	need.Root(t, "start systemd in namespaces")
	root := t.TempDir()
	want := []files.File{
		{Path: "/etc/containerd/config.toml", Content: []byte("same\n"), Mode: 0o644},
		{Path: "/etc/default/kubelet", Content: []byte("same\n"), Mode: 0o644},
	}
	apply := func() []files.Change {
		t.Helper()
		changes, err := files.Apply(root, want, nil)
		if err != nil {
			t.Fatal(err)
		}
		return changes
	}
	apply()
	name := filepath.Join(root, want[0].Path)
	if err := os.Chown(name, 0, 1); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]files.Change{{Path: want[0].Path, What: files.OwnerChanged}}, apply()); diff != "" {
		t.Errorf("Apply (-want +got):\n%s", diff)
	}
	info := filetest.Stat(t, name)
	if stat := info.Sys().(*syscall.Stat_t); stat.Uid != 0 || stat.Gid != 0 {
		t.Errorf("%s belongs to %d:%d; want root", name, stat.Uid, stat.Gid)
	}
}
