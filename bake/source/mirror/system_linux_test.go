package mirror

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/nodebake/bake/bake/progress"
	"github.com/nodebake/bake/test/must"
)

// TestModes has a process with a strict umask write what a web server, which
// runs as another user, must read.
func TestModes(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "mirror")
	cmd := exec.Command("sh", "-c", `umask 077; exec "$0"`, must.Get(os.Executable()))
	cmd.Env = append(os.Environ(), "MIRROR_TEST_DIR="+dir, "MIRROR_TEST_DO=once")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	count := 0
	shared := t.TempDir()
	must.Do(os.Chmod(shared, 0o775|fs.ModeSetgid))
	must.Get(Create(shared)).Close()
	if got := must.Get(os.Stat(shared)).Mode(); got != fs.ModeDir|fs.ModeSetgid|0o775 {
		t.Errorf("a directory that a group shares has mode %v now", got)
	}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		want := fs.FileMode(0o644)
		if d.IsDir() {
			want = 0o755
		}
		count++
		if got := must.Get(d.Info()).Mode().Perm(); got != want {
			t.Errorf("%s has mode %v; want %v", path, got, want)
		}
		return nil
	})
	if err != nil || count < 10 {
		t.Errorf("%d files, %v", count, err)
	}
}

// TestFullDisk writes to a tmpfs, or, where mounting is not permitted, to
// /dev/full by way of the one function that tells a full disk.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=512k"); err != nil {
		t.Logf("mounting a tmpfs is not permitted (%v); writing to /dev/full", err)
		err := os.WriteFile("/dev/full", []byte("x"), 0o644)
		if w := (&Writer{dir: dir}); !errors.As(w.full(err), new(*FullError)) {
			t.Errorf("full(%v) = %v; want a FullError", err, w.full(err))
		}
		return
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Errorf("unmounting: %v", err)
		}
	})
	w := newWorld()
	err := w.writeTo(t.Context(), dir)
	full := (*FullError)(nil)
	if !errors.As(err, &full) || full.Dir != dir || !strings.Contains(err.Error(), "make room") {
		t.Fatalf("writing to a full disk = %v; want a FullError", err)
	}
	wantNoTemps(t, dir)
	for name, sum := range files(t, dir) {
		if hex, ok := strings.CutPrefix(name, blobsDir+"/"); ok && hex != sum.Hex() {
			t.Errorf("%s is half", name)
		}
	}
	// With room it goes on with what it has.
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT, "size=4m"); err != nil {
		t.Fatal(err)
	}
	w.write(t, dir)
	before := files(t, dir)
	if r := must.Get(Check(t.Context(), dir, 1, progress.Discard{})); r.Err() != nil {
		t.Errorf("Check = %v", r.Err())
	}

	// A full disk when a good mirror is there: it stays as it is.
	if err := fill(filepath.Join(dir, ".tmp-filling")); !noSpace(err) {
		t.Fatalf("filling the disk = %v", err)
	}
	more := newWorld()
	for i := range byte(20) { // enough for the index to need another page
		more.add(Package, "package 1 amd64 "+strings.Repeat(string('a'+i), 300), "pool/"+string('a'+i), nil, "kthw-1.21")
	}
	root := must.Get(os.OpenRoot(dir))
	m := &Writer{dir: dir, root: root, blobs: must.Get(root.OpenRoot(blobsDir))} // Create would sweep what fills the disk
	defer m.Close()
	if err := m.Commit(t.Context(), more.index, more.images); !errors.As(err, &full) {
		t.Errorf("Commit on a full disk = %v; want a FullError", err)
	}
	after := files(t, dir)
	delete(after, ".tmp-filling")
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("Commit on a full disk changed (-before +after):\n%s", diff)
	}
}

func fill(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	for _, size := range []int{64 << 10, 4096, 1} {
		block := bytes.Repeat([]byte("x"), size)
		for err = nil; err == nil; {
			_, err = f.Write(block)
		}
	}
	return err
}
