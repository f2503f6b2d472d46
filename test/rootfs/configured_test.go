//go:build system

package rootfs_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/nodebake/bake/bake/image/rootfs"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/tree"
	"github.com/nodebake/bake/test/filetest"
	"github.com/nodebake/bake/test/need"
)

// TestConfigured compares the worker's root with one that the packages' own
// scripts configured: mmdebstrap installs the same files of the same packages.
// What differs must stand in differences.yaml with its reason, and everything
// that stands there must differ.
func TestConfigured(t *testing.T) {
	need.Root(t, "make files of other owners and change its root")
	need.Program(t, "mmdebstrap", "mmdebstrap")
	c := workerClosure(t, trixie)
	root, err := rootfs.Compose(c.config)
	if err != nil {
		t.Fatal(err)
	}
	dir := configure(t, c)
	ours := facts(root)
	theirs, err := factsOfDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(theirs) < 10_000 {
		t.Fatalf("mmdebstrap made %d files; want a whole system", len(theirs))
	}
	matched := make([]int, len(c.config.Definition.Differences))
	unexplained := 0
	for _, p := range slices.Sorted(keys(ours, theirs)) {
		if ours[p] == theirs[p] {
			continue
		}
		explained := false
		for i, d := range c.config.Definition.Differences {
			if matches(d, p) && (d.Only == "" || d.Only == "image" && theirs[p] == "" || d.Only == "scripts" && ours[p] == "") {
				matched[i]++
				explained = true
			}
		}
		if !explained {
			unexplained++
			t.Errorf("%s\n\tours:   %s\n\ttheirs: %s", p, ours[p], theirs[p])
		}
	}
	for i, d := range c.config.Definition.Differences {
		if matched[i] == 0 {
			t.Errorf("%s: nothing at %s differs (remove the entry)", d.Pos, d.Path)
		}
	}
	t.Logf("%d paths of ours, %d of mmdebstrap's; %d entries explain %v differences", len(ours), len(theirs), len(matched), matched)

	// The comparison itself must see a change.
	changed := *root.Lookup("usr/bin/chage")
	changed.GID = 0
	if factOf(changed, root, func(uint32, bool) string { return "root" }) == theirs["/usr/bin/chage"] {
		t.Error("a changed owner goes unseen")
	}
}

// matches says whether a difference is about a path. An element ** at the end
// of a pattern is everything below.
func matches(d manifest.Difference, p string) bool {
	dir, deep := strings.CutSuffix(d.Path, "/**")
	if !deep {
		ok, _ := path.Match(d.Path, p)
		return ok
	}
	for p != "/" {
		p = path.Dir(p)
		if ok, _ := path.Match(dir, p); ok {
			return true
		}
	}
	return false
}

func keys(maps ...map[string]string) func(func(string) bool) {
	all := map[string]bool{}
	for _, m := range maps {
		for k := range m {
			all[k] = true
		}
	}
	return func(yield func(string) bool) {
		for k := range all {
			if !yield(k) {
				return
			}
		}
	}
}

// configure has mmdebstrap install the closure from its own files.
func configure(t *testing.T, c closure) string {
	t.Helper()
	repo, dir := t.TempDir(), filepath.Join(t.TempDir(), "root")
	var index strings.Builder
	var names []string
	for _, p := range c.config.Packages {
		file := fmt.Sprintf("%s_%s.deb", p.Name, p.Arch)
		if err := os.Link(c.files[p.Name], filepath.Join(repo, file)); err != nil {
			content := filetest.Read(t, c.files[p.Name])
			filetest.Write(t, filepath.Join(repo, file), content)
		}
		control := filetest.ReadAll(t, p.Pack.Entries[slices.IndexFunc(p.Pack.Entries, func(e tree.Entry) bool { return e.Path == "DEBIAN/control" })].Content())
		fmt.Fprintf(&index, "%sFilename: ./%s\nSize: %d\nSHA256: %s\n\n", control, file, p.Size, strings.TrimPrefix(string(p.SHA256), "sha256:"))
		names = append(names, p.Name)
	}
	filetest.Write(t, filepath.Join(repo, "Packages"), index.String())
	command := exec.CommandContext(t.Context(), "mmdebstrap", "--mode=root", "--variant=essential", "--architectures=amd64",
		"--aptopt=APT::Install-Recommends \"false\"", "--include="+strings.Join(names, ","), "--format=directory",
		"", dir, "deb [trusted=yes] copy://"+repo+" ./")
	command.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", fmt.Sprintf("SOURCE_DATE_EPOCH=%d", testEpoch), "TMPDIR=" + t.TempDir()}
	if out, err := command.CombinedOutput(); err != nil {
		t.Fatalf("mmdebstrap: %v\n%s", err, tail(out, 40))
	}
	return dir
}

func tail(out []byte, lines int) []byte {
	all := bytes.SplitAfter(out, []byte("\n"))
	return bytes.Join(all[max(0, len(all)-lines):], nil)
}

// facts describes every entry of a tree in one line: type, mode, owner by
// name, link or digest of the content.
func facts(root *tree.Tree) map[string]string {
	users := accountNames(readEntry(root, "etc/passwd"))
	groups := accountNames(readEntry(root, "etc/group"))
	name := func(id uint32, isGroup bool) string {
		if isGroup {
			return groups[id]
		}
		return users[id]
	}
	out := map[string]string{}
	for _, e := range root.Entries {
		out["/"+strings.TrimPrefix(e.Path, ".")] = factOf(e, root, name)
	}
	return out
}

func readEntry(root *tree.Tree, p string) []byte {
	content, _ := io.ReadAll(root.Lookup(p).Content())
	return content
}

func factOf(e tree.Entry, root *tree.Tree, name func(id uint32, group bool) string) string {
	if e.Type == tree.Hardlink {
		e = *root.Lookup(e.Link)
	}
	owner := fmt.Sprintf("%s %s:%s", e.Type, name(e.UID, false), name(e.GID, true))
	switch e.Type {
	case tree.Symlink:
		return owner + " -> " + e.Link
	case tree.File:
		if e.Size == 0 {
			return fmt.Sprintf("%s %04o empty", owner, e.Perm)
		}
		return fmt.Sprintf("%s %04o %s", owner, e.Perm, e.SHA256)
	}
	return fmt.Sprintf("%s %04o", owner, e.Perm)
}

// accountNames reads the names and numbers of passwd or group.
func accountNames(file []byte) map[uint32]string {
	names := map[uint32]string{}
	for line := range strings.Lines(string(file)) {
		f := strings.Split(line, ":")
		if id, err := strconv.ParseUint(f[2], 10, 32); err == nil {
			names[uint32(id)] = f[0]
		}
	}
	return names
}

// factsOfDir describes a directory as facts does a tree.
func factsOfDir(dir string) (map[string]string, error) {
	names := map[bool]map[uint32]string{}
	for _, isGroup := range []bool{false, true} {
		file, err := os.ReadFile(filepath.Join(dir, map[bool]string{false: "etc/passwd", true: "etc/group"}[isGroup]))
		if err != nil {
			return nil, err
		}
		names[isGroup] = accountNames(file)
	}
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(file string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := os.Lstat(file)
		if err != nil {
			return err
		}
		stat := info.Sys().(*syscall.Stat_t)
		e := tree.Entry{UID: stat.Uid, GID: stat.Gid, Perm: uint16(stat.Mode & 0o7777), Size: info.Size()}
		switch mode := info.Mode(); {
		case mode.IsDir():
			e.Type = tree.Dir
		case mode.IsRegular():
			e.Type = tree.File
			content, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			e.SHA256 = sha256.Sum256(content)
		case mode&fs.ModeSymlink != 0:
			e.Type = tree.Symlink
			if e.Link, err = os.Readlink(file); err != nil {
				return err
			}
		default:
			e.Type = tree.Char
		}
		out["/"+strings.TrimPrefix(strings.TrimPrefix(file, dir), "/")] = factOf(e, nil, func(id uint32, group bool) string { return names[group][id] })
		return nil
	})
	return out, err
}
