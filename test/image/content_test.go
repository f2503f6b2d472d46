//go:build system

package image

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/nodebake/bake/bake/record"
	"github.com/nodebake/bake/bake/tree"
	"github.com/nodebake/bake/test/need"
)

// mount mounts a copy of the root filesystem read-write and returns where.
func mount(t *testing.T, s *subject) string {
	t.Helper()
	need.Root(t, "mount a filesystem or change its root")
	copied := filepath.Join(t.TempDir(), "root.ext4")
	if err := sh("cp --sparse=always %s %s", s.root, copied); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-o", "loop", copied, dir).CombinedOutput(); err != nil {
		need.Missing(t, "mounting an ext4 image by loop: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("unmounting: %v: %s", err, out)
		}
	})
	return dir
}

// TestKernelSeesTheRecordedTree mounts the root filesystem read-write and
// compares every file with the record: type, mode, owner, size, content, link,
// extended attributes.
func TestKernelSeesTheRecordedTree(t *testing.T) {
	s := theImage(t)
	dir := mount(t, s)
	if err := os.WriteFile(filepath.Join(dir, "tmp", "written"), []byte("x"), 0o600); err != nil {
		t.Errorf("writing to the mounted root: %v", err)
	}
	os.Remove(filepath.Join(dir, "tmp", "written"))

	want := map[string]record.Entry{}
	for _, e := range s.record.Files {
		want[e.Path] = e
	}
	seen := 0
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		path := "/" + strings.TrimPrefix(strings.TrimPrefix(p, dir), "/")
		if path == "/lost+found" {
			return nil // every ext4 has one
		}
		e, ok := want[path]
		if !ok {
			t.Errorf("%s is not in the record", path)
			return nil
		}
		seen++
		got, err := stat(p, e)
		if err != nil {
			return err
		}
		e.Owner = ""
		if diff := cmp.Diff(e, got); diff != "" {
			t.Errorf("%s (-recorded +mounted):\n%s", path, diff)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen != len(want) {
		t.Errorf("the mounted root has %d of %d recorded files", seen, len(want))
	}
}

// stat describes the file at p as a record does.
func stat(p string, recorded record.Entry) (record.Entry, error) {
	var st syscall.Stat_t
	if err := syscall.Lstat(p, &st); err != nil {
		return record.Entry{}, err
	}
	got := record.Entry{
		Path: recorded.Path, Mode: fmt.Sprintf("%04o", st.Mode&0o7777), UID: st.Uid, GID: st.Gid,
	}
	var err error
	if got.Xattrs, err = xattrs(p); err != nil {
		return got, err
	}
	switch st.Mode & syscall.S_IFMT {
	case syscall.S_IFDIR:
		got.Type = tree.Dir
	case syscall.S_IFLNK:
		got.Type = tree.Symlink
		target, err := os.Readlink(p)
		if err != nil {
			return got, err
		}
		got.Link = target
	case syscall.S_IFREG:
		got.Type, got.Size = tree.File, st.Size
		f, err := os.Open(p)
		if err != nil {
			return got, err
		}
		defer f.Close()
		sum := sha256.New()
		if _, err := io.Copy(sum, f); err != nil {
			return got, err
		}
		got.SHA256 = hex.EncodeToString(sum.Sum(nil))
		if recorded.Type == tree.Hardlink {
			// The record names the other name; the kernel shows one inode.
			if st.Nlink < 2 {
				return got, fmt.Errorf("%s is recorded as a hard link and has one name", p)
			}
			got.Type, got.Size, got.SHA256, got.Link = tree.Hardlink, 0, "", recorded.Link
		}
	case syscall.S_IFCHR:
		got.Type = tree.Char
	case syscall.S_IFBLK:
		got.Type = tree.Block
	case syscall.S_IFIFO:
		got.Type = tree.Fifo
	}
	return got, nil
}

// xattrs returns the extended attributes of the file at p, links not followed.
func xattrs(p string) (record.Xattrs, error) {
	buf := make([]byte, 64<<10)
	n, err := unix.Llistxattr(p, buf)
	if err != nil || n == 0 {
		return nil, err
	}
	out := record.Xattrs{}
	for name := range strings.SplitSeq(strings.TrimRight(string(buf[:n]), "\x00"), "\x00") {
		value := make([]byte, 64<<10)
		m, err := unix.Lgetxattr(p, name, value)
		if err != nil {
			return nil, fmt.Errorf("%s: %s: %w", p, name, err)
		}
		out[name] = value[:m]
	}
	return out, nil
}
