package initramfs

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nodebake/bake/test/filetest"
)

func TestRunIsForProcessOne(t *testing.T) {
	if err := Run(t.Context(), Config{PID: os.Getpid()}); err == nil || !strings.Contains(err.Error(), "process 1") {
		t.Errorf("Run() = %v; want a refusal", err)
	}
}

func TestSay(t *testing.T) {
	var b bytes.Buffer
	m := &machine{console: &b, kmsg: true}
	m.say(levelCritical, "one\ntwo\n")
	if got, want := b.String(), "<2>initramfs: one\n<2>initramfs: two\n"; got != want {
		t.Errorf("say() writes %q; want %q", got, want)
	}
}

// TestExecutable follows links as the root filesystem means them, not as the
// initramfs would.
func TestExecutable(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{"usr/lib/systemd", "usr/sbin"} {
		filetest.Mkdir(t, filepath.Join(dir, d))
	}
	for name, mode := range map[string]os.FileMode{"usr/lib/systemd/systemd": 0o755, "usr/sbin/text": 0o644} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{
		"sbin": "usr/sbin", "usr/sbin/init": "/usr/lib/systemd/systemd", "usr/sbin/gone": "/usr/lib/gone", "usr/sbin/loop": "loop", "usr/sbin/up": "../../../../../../etc/hostname",
	} {
		filetest.Link(t, to, filepath.Join(dir, link))
	}
	root, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(root)
	for name, ok := range map[string]bool{
		"/sbin/init": true, "/usr/lib/systemd/systemd": true,
		"/sbin/text": false, "/sbin/gone": false, "/sbin/loop": false, "/sbin/up": false, "/usr": false, "/none": false,
	} {
		if err := executable(root, name); (err == nil) != ok {
			t.Errorf("executable(%s) = %v; want ok %v", name, err, ok)
		}
	}
}

func TestRemoveAll(t *testing.T) {
	dir := t.TempDir()
	filetest.Mkdir(t, filepath.Join(dir, "a/b"))
	for _, name := range []string{"a/b/file", "init"} {
		filetest.Write(t, filepath.Join(dir, name), "")
	}
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		t.Fatal(err)
	}
	// Of another filesystem nothing goes.
	if err := removeBelow(dir, st.Dev+1); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "a/b/file")); err != nil {
		t.Errorf("removeBelow() of another filesystem: %v", err)
	}
	if err := removeBelow(dir, st.Dev); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("removeBelow() leaves %v, %v", left, err)
	}
	// What is not memory is refused: /proc is neither ramfs nor tmpfs.
	if err := removeAll("/proc"); err == nil || !strings.Contains(err.Error(), "not in memory") {
		t.Errorf("removeAll(/proc) = %v; want a refusal", err)
	}
}
