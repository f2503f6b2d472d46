//go:build system && linux

// Package ext4_test has the kernel mount filesystems that package ext4 plans.
package ext4_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nodebake/bake/bake/image/ext4"
	"github.com/nodebake/bake/bake/image/ext4/ext4test"
	"github.com/nodebake/bake/bake/image/extent/extenttest"
	"github.com/nodebake/bake/bake/tree"
	"github.com/nodebake/bake/test/filetest"
	"github.com/nodebake/bake/test/must"
	"github.com/nodebake/bake/test/need"
)

// plan lays a tree out in a filesystem of 1 GiB.
func plan(t *testing.T, tr *tree.Tree) *ext4.Layout {
	t.Helper()
	l, err := ext4.Plan(tr, ext4.Options{Size: 1 << 30, UUID: [16]byte{1}, HashSeed: [16]byte{2}, Label: "root", Epoch: ext4test.Epoch})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// mountImage mounts an image and returns where, and what unmounts it.
func mountImage(t *testing.T, image, options string) (dir string, unmount func()) {
	t.Helper()
	need.Root(t, "mount")
	dir = t.TempDir()
	if out, err := ext4test.Run(t, "mount", "-t", "ext4", "-o", "loop,"+options, image, dir); err != nil {
		need.Missing(t, "this host does not mount loop devices (%v: %s)", err, strings.TrimSpace(out))
	}
	mounted := true
	unmount = func() {
		if mounted {
			mounted = false
			ext4test.MustRun(t, "umount", dir)
		}
	}
	t.Cleanup(unmount)
	return dir, unmount
}

// TestMount has the kernel mount an image read-only and compares all of it.
func TestMount(t *testing.T) {
	tr := ext4test.FullTree(t)
	l := plan(t, tr)
	dir, _ := mountImage(t, extenttest.WriteFile(t, &l.List), "ro")
	got := hostEntries(t, dir)
	if diff := ext4test.DiffEntries(ext4test.WantEntries(tr), got); diff != "" {
		t.Errorf("what the kernel shows is not what was planned (-want +got):\n%s", diff)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	if got := int64(st.Bfree) * st.Bsize; got != l.FreeBytes {
		t.Errorf("statfs: %d bytes are free; want %d", got, l.FreeBytes)
	}
}

// TestMountWrite has the kernel change an image, and e2fsck look at the result:
// allocation, hashed directories and the journal work.
func TestMountWrite(t *testing.T) {
	tr := ext4test.FullTree(t)
	l := plan(t, tr)
	image := extenttest.WriteFile(t, &l.List)
	dir, unmount := mountImage(t, image, "rw")
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Error(err)
		}
	}
	for i := range 3000 {
		name := fmt.Sprintf("added-%d-%s", i, strings.Repeat("x", i%200))
		do(os.WriteFile(filepath.Join(dir, "many", name), ext4test.Pattern(i, i), 0o644))
	}
	do(os.WriteFile(filepath.Join(dir, "big"), ext4test.Pattern(1, 50<<20), 0o644))
	do(os.Remove(filepath.Join(dir, "one", "file")))
	do(os.RemoveAll(filepath.Join(dir, "sizes")))
	do(os.MkdirAll(filepath.Join(dir, "empty", "a", "b"), 0o755))
	do(unix.Lsetxattr(filepath.Join(dir, "attrs"), "user.small", ext4test.Pattern(5, 500), 0))
	do(unix.Lremovexattr(filepath.Join(dir, "attrs"), "user.large"))
	unmount()
	ext4test.Fsck(t, image)

	f := filetest.Open(t, image)
	fsys, err := ext4.Open(f)
	if err != nil {
		t.Fatal(err)
	}
	n, err := fsys.Lookup("big")
	if err != nil {
		t.Fatal(err)
	}
	r, err := fsys.Content(n)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, ext4test.Pattern(1, 50<<20)) {
		t.Errorf("what the kernel wrote is read as %d bytes, %v; want the same %d", len(got), err, 50<<20)
	}
	entries, err := fsys.Entries()
	if err != nil {
		t.Fatal(err)
	}
	if want := len(tr.Entries) + 1 + 3000 + 1 - 1 - 10 + 2; len(entries) != want {
		t.Errorf("%d entries after the changes; want %d", len(entries), want)
	}
	if err := fsys.Verify(); err != nil {
		t.Error(err)
	}
}

// hostEntries reads a directory of the host as our reader reads a filesystem.
func hostEntries(t *testing.T, dir string) []tree.Entry {
	t.Helper()
	first := map[uint64]string{}
	var paths []string
	err := filepath.WalkDir(dir, func(p string, _ fs.DirEntry, err error) error {
		paths = append(paths, p)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	var entries []tree.Entry
	for _, p := range paths {
		rel := must.Get(filepath.Rel(dir, p))
		entries = append(entries, tree.Entry{Path: rel})
	}
	slices.SortFunc(entries, func(a, b tree.Entry) int { return tree.ComparePaths(a.Path, b.Path) })
	for i := range entries {
		if err := hostEntry(dir, &entries[i], first); err != nil {
			t.Fatal(err)
		}
	}
	return entries
}

func hostEntry(dir string, e *tree.Entry, first map[uint64]string) error {
	p := filepath.Join(dir, e.Path)
	var st syscall.Stat_t
	if err := syscall.Lstat(p, &st); err != nil {
		return err
	}
	if st.Mode&syscall.S_IFMT == syscall.S_IFREG {
		if target, ok := first[st.Ino]; ok {
			e.Type, e.Link = tree.Hardlink, target
			return nil
		}
		first[st.Ino] = e.Path
	}
	e.Perm, e.UID, e.GID, e.MTime = uint16(st.Mode&0o7777), st.Uid, st.Gid, st.Mtim.Sec
	var err error
	switch st.Mode & syscall.S_IFMT {
	case syscall.S_IFDIR:
		e.Type = tree.Dir
	case syscall.S_IFLNK:
		e.Type = tree.Symlink
		e.Link, err = os.Readlink(p)
	case syscall.S_IFIFO:
		e.Type = tree.Fifo
	case syscall.S_IFCHR, syscall.S_IFBLK:
		e.Type = tree.Char
		if st.Mode&syscall.S_IFMT == syscall.S_IFBLK {
			e.Type = tree.Block
		}
		e.Major, e.Minor = unix.Major(st.Rdev), unix.Minor(st.Rdev)
	case syscall.S_IFREG:
		e.Type, e.Size = tree.File, st.Size
		var f *os.File
		if f, err = os.Open(p); err == nil {
			h := sha256.New()
			_, err = io.Copy(h, f)
			h.Sum(e.SHA256[:0])
			f.Close()
		}
	}
	return errors.Join(err, hostXattrs(p, e))
}

func hostXattrs(p string, e *tree.Entry) error {
	buf := make([]byte, 64<<10)
	n, err := unix.Llistxattr(p, buf)
	if err != nil {
		return err
	}
	for name := range strings.SplitSeq(strings.TrimRight(string(buf[:n]), "\x00"), "\x00") {
		if name == "" {
			continue
		}
		n, err := unix.Lgetxattr(p, name, buf)
		if err != nil {
			return err
		}
		if e.Xattrs == nil {
			e.Xattrs = map[string][]byte{}
		}
		e.Xattrs[name] = bytes.Clone(buf[:n])
	}
	return nil
}
