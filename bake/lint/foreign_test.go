package lint

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/nodebake/bake/bake/inspect/inspecttest"
	"github.com/nodebake/bake/bake/tree"
	"github.com/nodebake/bake/test/filetest"
	"github.com/nodebake/bake/test/must"
	"github.com/nodebake/bake/test/need"
)

// tool runs a program that other people wrote.
func tool(t *testing.T, pkg, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(need.Program(t, name, pkg), args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}

// TestLintReadsWhatOthersMake makes the same image with mke2fs, mkfs.vfat,
// mtools and sgdisk.
func TestLintReadsWhatOthersMake(t *testing.T) {
	w := inspecttest.New()
	w.MustList(t) // adds record, status and initramfs
	dir := t.TempDir()
	disk := filepath.Join(dir, inspecttest.FileName+".raw")
	filetest.Write(t, disk, "")
	must.Do(os.Truncate(disk, inspecttest.GiB))
	tool(t, "gdisk", "sgdisk", "-a", "2048",
		"-n", "1:2048:+64M", "-t", "1:ef00", "-c", "1:esp",
		"-n", "2:0:+200M", "-t", "2:8304", "-u", "2:"+inspecttest.RootGUID().String(), "-c", "2:root", disk)

	esp := filepath.Join(dir, "esp")
	tool(t, "dosfstools", "mkfs.vfat", "-C", "-F", "32", "-s", "1", esp, "65536")
	files := filepath.Join(dir, "files")
	lay(t, inspecttest.MustTree(t, w.ESP), files)
	for _, top := range []string{"EFI", "loader", "k8s-worker"} {
		tool(t, "mtools", "mcopy", "-s", "-i", esp, filepath.Join(files, top), "::")
	}
	root := filepath.Join(dir, "root")
	files = filepath.Join(dir, "root.d")
	lay(t, inspecttest.MustTree(t, w.Root), files)
	tool(t, "e2fsprogs", "mke2fs", "-q", "-t", "ext4", "-d", files, root, "200M")

	put(t, disk, esp, inspecttest.MiB)
	put(t, disk, root, 65*inspecttest.MiB)
	report, err := Check(t.Context(), disk, dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range report.Violations {
		if v.Rule == "owners" && os.Geteuid() != 0 {
			continue // mke2fs takes owners from files, and only root can set those
		}
		t.Errorf("FAIL %s", v)
	}
	if len(report.Unchecked) > 0 {
		t.Errorf("rules %v were not checked", report.Unchecked)
	}
}

// lay writes a tree to a directory.
func lay(t *testing.T, tr *tree.Tree, dir string) {
	t.Helper()
	for _, e := range tr.Entries {
		p := filepath.Join(dir, e.Path)
		var err error
		switch e.Type {
		case tree.Dir:
			if err = os.Mkdir(p, 0o777); err == nil {
				err = os.Chmod(p, modeOf(e))
			}
		case tree.Symlink:
			err = os.Symlink(e.Link, p)
		case tree.File:
			var data []byte
			if data, err = io.ReadAll(e.Content()); err == nil {
				err = os.WriteFile(p, data, modeOf(e))
			}
		default:
			err = fmt.Errorf("%s is a %s", e.Path, e.Type)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func modeOf(e tree.Entry) os.FileMode {
	m := os.FileMode(e.Perm & 0o777)
	if e.Perm&tree.Sticky != 0 {
		m |= os.ModeSticky
	}
	return m
}

// put copies the file at from into the one at to.
func put(t *testing.T, to, from string, offset int64) {
	t.Helper()
	data := filetest.Read(t, from)
	f, err := os.OpenFile(to, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	must.Get(f.WriteAt(data, offset))
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}
