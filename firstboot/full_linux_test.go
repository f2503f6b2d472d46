package firstboot

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/nodebake/bake/test/filetest"
	"github.com/nodebake/bake/test/must"
	"github.com/nodebake/bake/test/need"
)

// TestFullDisk configures a worker whose disk is full: one line that says so,
// the former configuration untouched, and the new one once there is space.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	const inside = "FIRSTBOOT_TEST_MOUNTS" // set in a mount namespace of our own, where users may mount
	if os.Getenv(inside) == "" {
		self := must.Get(os.Executable())
		cmd := exec.CommandContext(t.Context(), "unshare", "--map-root-user", "--mount", self, "-test.run=^TestFullDisk$", "-test.v")
		cmd.Env = append(os.Environ(), inside+"=1")
		out, err := cmd.CombinedOutput()
		if strings.Contains(string(out), "--- SKIP") || !strings.Contains(string(out), "=== RUN") {
			need.Missing(t, "no small filesystem can be mounted (apt-get install util-linux): %v: %s", err, out)
		}
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	w := newWorker(t)
	// A filesystem of its own for what firstboot writes; the state of the boot
	// is on another one, as on a worker.
	disk := filepath.Join(w.root, "var")
	filetest.Mkdir(t, disk)
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=256k"); err != nil {
		t.Skipf("mounting: %v", err)
	}
	t.Cleanup(func() {
		// Detached: the kernel may still be closing files.
		if err := syscall.Unmount(disk, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	w.configures()
	w.metadata.SetAttribute("cluster-dns", "10.32.0.53")
	before := w.snapshot()
	filler := filepath.Join(disk, "full")
	if err := os.WriteFile(filler, bytes.Repeat([]byte{1}, 1<<20), 0o644); err == nil {
		t.Fatal("the disk is not full")
	}
	calls, err := w.run()
	if err == nil || len(calls) > 0 {
		t.Fatalf("Run on a full disk = %v with units %q; want an error and none", err, calls)
	}
	if len(w.console) != 1 || !strings.Contains(w.console[0], "no space left on device") {
		t.Errorf("the console shows %q; want one line with no space left on device", w.console)
	}
	after := w.snapshot()
	delete(after, "/var/full")
	for path, was := range before {
		if after[path] != was {
			t.Errorf("%s is %s; was %s", path, after[path], was)
		}
	}
	if len(after) != len(before) {
		t.Errorf("there are %d files; were %d: %v", len(after), len(before), after)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	if calls := w.configures(); len(calls) != 2 || calls[0] != "restart kubelet.service" {
		t.Errorf("units once there is space: %q; want kubelet and the health unit restarted", calls)
	}
}
