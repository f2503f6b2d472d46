package ext4

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nodebake/bake/bake/image/ext4/ext4test"
	"github.com/nodebake/bake/bake/tree"
	"github.com/nodebake/bake/test/need"
)

// TestReadMke2fs reads filesystems that mke2fs made of a directory.
func TestReadMke2fs(t *testing.T) {
	need.Program(t, "mke2fs", "e2fsprogs")
	need.Program(t, "e2fsck", "e2fsprogs")
	dir := t.TempDir()
	want := hostTree(t, dir)
	for _, test := range []struct {
		name string
		args []string
	}{
		{"default", nil},
		{"32 bit without checksums", []string{"-O", "^64bit,^metadata_csum,^metadata_csum_seed"}},
		{"32 bit with checksums", []string{"-O", "^64bit,metadata_csum", "-I", "128"}},
		{"meta_bg and checksum seed", []string{"-O", "meta_bg,^resize_inode,metadata_csum_seed"}},
		{"blocks of 1 KiB", []string{"-b", "1024", "-O", "^flex_bg"}},
		{"blocks of 2 KiB", []string{"-b", "2048", "-O", "^has_journal"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			image := filepath.Join(t.TempDir(), "mke2fs.img")
			args := append([]string{"-q", "-F", "-t", "ext4", "-E", "root_owner=0:0", "-d", dir}, test.args...)
			ext4test.MustRun(t, "mke2fs", append(args, image, "100M")...)
			// Hash the directories; exit code 1 means that it did something.
			if out, err := ext4test.Run(t, "e2fsck", "-fyD", image); err != nil && err.(*exec.ExitError).ExitCode() != 1 {
				t.Fatalf("e2fsck -fyD: %v\n%s", err, out)
			}
			fsys := openImage(t, image)
			got := readTree(t, fsys)
			for i := range got {
				got[i].MTime = 0 // the host's clock
			}
			if diff := ext4test.DiffEntries(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if err := fsys.Verify(); err != nil {
				t.Error(err)
			}
		})
	}
}

// hostTree makes files in dir and returns what a filesystem of them has.
func hostTree(t *testing.T, dir string) []tree.Entry {
	t.Helper()
	uid, gid := uint32(os.Getuid()), uint32(os.Getgid())
	entries := []tree.Entry{
		{Path: ".", Type: tree.Dir, Perm: 0o755},
		{Path: "lost+found", Type: tree.Dir, Perm: 0o700},
	}
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	do(os.Chmod(dir, 0o755))
	mkdir := func(path string) {
		do(os.Mkdir(filepath.Join(dir, path), 0o755))
		do(os.Chmod(filepath.Join(dir, path), 0o755))
		entries = append(entries, tree.Entry{Path: path, Type: tree.Dir, Perm: 0o755, UID: uid, GID: gid})
	}
	write := func(path string, content []byte) {
		do(os.WriteFile(filepath.Join(dir, path), content, 0o640))
		do(os.Chmod(filepath.Join(dir, path), 0o640))
		entries = append(entries, tree.Entry{Path: path, Type: tree.File, Perm: 0o640, UID: uid, GID: gid,
			Size: int64(len(content)), SHA256: sha256.Sum256(content)})
	}
	symlink := func(path, target string) {
		do(os.Symlink(target, filepath.Join(dir, path)))
		entries = append(entries, tree.Entry{Path: path, Type: tree.Symlink, Perm: 0o777, UID: uid, GID: gid, Link: target})
	}
	for _, n := range []int{0, 1, 4095, 4096, 4097, 3<<20 + 1} {
		write(fmt.Sprintf("size%d", n), ext4test.Pattern(n, n))
	}
	// A file with a hole of 3 MiB, and one of many pieces.
	write("hole", append(append(ext4test.Pattern(7, 5000), make([]byte, 3<<20)...), ext4test.Pattern(8, 5000)...))
	holes := bytes.Repeat(append(ext4test.Pattern(9, 4096), make([]byte, 12288)...), 400)
	write("pieces", holes)
	mkdir("many")
	for i := range 1000 {
		write(fmt.Sprintf("many/file-%d", i), nil)
	}
	mkdir("many/below")
	symlink("short", "many/file-1")
	symlink("long", strings.Repeat("l/", 200))
	do(os.Link(filepath.Join(dir, "size1"), filepath.Join(dir, "z-hard")))
	entries = append(entries, tree.Entry{Path: "z-hard", Type: tree.Hardlink, Link: "size1"})
	for i := range entries {
		if e := &entries[i]; e.Path == "size4095" || e.Path == "many" {
			e.Xattrs = map[string][]byte{"user.short": []byte("value"), "user.long": ext4test.Pattern(10, 300)}
			setXattrs(t, filepath.Join(dir, e.Path), e)
		}
	}
	tr, err := tree.New(entries)
	if err != nil && !strings.Contains(err.Error(), "outside its blob") {
		t.Fatal(err)
	}
	return tr.Entries
}

// setXattrs sets e's attributes on a file of the host, or forgets them where its filesystem
// has none.
func setXattrs(t *testing.T, path string, e *tree.Entry) {
	t.Helper()
	for name, value := range e.Xattrs {
		if err := unix.Lsetxattr(path, name, value, 0); err != nil {
			t.Logf("without extended attributes: %s: %v", path, err)
			delete(e.Xattrs, name)
		}
	}
}
