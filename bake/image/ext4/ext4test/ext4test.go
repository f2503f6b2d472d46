// Package ext4test has what the tests of package ext4 share with those that need
// root: trees, images on disk, outside tools. The tests of the package itself use
// it, so it does not import that.
package ext4test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/nodebake/bake/bake/tree"
	"github.com/nodebake/bake/bake/tree/treetest"
	"github.com/nodebake/bake/test/need"
)

// Epoch is the time of what has none, as seconds since 1970.
const Epoch = 1_700_000_000

// Pattern is deterministic content of n bytes that is different for each seed.
func Pattern(seed, n int) []byte {
	b := make([]byte, n)
	state := uint32(seed)*2654435761 + 1
	for i := range b {
		state = state*1664525 + 1013904223
		b[i] = byte(state >> 24)
	}
	return b
}

// Packer collects entries whose content is in one pack.
type Packer struct {
	t    testing.TB
	blob bytes.Buffer
	w    *tree.PackWriter
}

func NewPacker(t testing.TB) *Packer {
	p := &Packer{t: t}
	p.w = tree.NewPackWriter(&p.blob)
	return p
}

func (p *Packer) Add(e tree.Entry, content []byte) {
	p.t.Helper()
	e.Size = int64(len(content))
	if err := p.w.Add(e, bytes.NewReader(content)); err != nil {
		p.t.Fatal(err)
	}
}

func (p *Packer) Entries(name string) []tree.Entry {
	p.t.Helper()
	pack, err := p.w.Close()
	if err != nil {
		p.t.Fatal(err)
	}
	pack.Bind(name, "package "+name, bytes.NewReader(p.blob.Bytes()))
	return pack.Entries
}

// capability is a security.capability that grants cap_net_raw, as ping has it.
func capability() []byte {
	return []byte{1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
}

// ACL is a POSIX ACL as getxattr gives it: rwx for the owner, r-x for user 1000, r-x, rwx, ---.
func ACL() []byte {
	return []byte{
		2, 0, 0, 0,
		1, 0, 7, 0, 0xff, 0xff, 0xff, 0xff,
		2, 0, 5, 0, 0xe8, 3, 0, 0,
		4, 0, 5, 0, 0xff, 0xff, 0xff, 0xff,
		0x10, 0, 7, 0, 0xff, 0xff, 0xff, 0xff,
		0x20, 0, 0, 0, 0xff, 0xff, 0xff, 0xff,
	}
}

// FullTree has every kind of file and every boundary of sizes and names.
func FullTree(t testing.TB) *tree.Tree {
	t.Helper()
	entries := []tree.Entry{
		treetest.Dir("."),
		{Path: "empty", Type: tree.Dir, Perm: 0o700, UID: 70000, GID: 80000, MTime: 1_600_000_000},
		{Path: "one", Type: tree.Dir, Perm: 0o755},
		{Path: "many", Type: tree.Dir, Perm: 0o1777},
		{Path: "sizes", Type: tree.Dir, Perm: 0o755},
		{Path: "dev", Type: tree.Dir, Perm: 0o2755, GID: 50},
		{Path: "dev/null", Type: tree.Char, Perm: 0o666, Major: 1, Minor: 3},
		{Path: "dev/big", Type: tree.Block, Perm: 0o660, GID: 6, Major: 259, Minor: 70000},
		{Path: "dev/last", Type: tree.Char, Perm: 0o600, Major: 4095, Minor: 1<<20 - 1},
		{Path: "dev/fifo", Type: tree.Fifo, Perm: 0o640},
		{Path: "link", Type: tree.Symlink, Link: "one/file"},
		{Path: "link59", Type: tree.Symlink, Link: strings.Repeat("s", 59)},
		{Path: "link60", Type: tree.Symlink, Link: strings.Repeat("s", 60)},
		{Path: "link4095", Type: tree.Symlink, Link: strings.Repeat("t", 4095)},
		{Path: "hard", Type: tree.Hardlink, Link: "one/file"}, // sorts before its target
		{Path: "sizes/hard", Type: tree.Hardlink, Link: "one/file"},
		{Path: strings.Repeat("n", 255), Type: tree.Dir, Perm: 0o755},
		{Path: "old", Type: tree.Dir, Perm: 0o755, MTime: -86400},
		{Path: "new", Type: tree.Dir, Perm: 0o755, MTime: 5_000_000_000},
		{Path: "acl", Type: tree.Dir, Perm: 0o770, Xattrs: map[string][]byte{
			"system.posix_acl_access": ACL(), "system.posix_acl_default": ACL(),
		}},
	}
	motd := []byte("content that no pack has padded\n")
	entries = append(entries, tree.Entry{Path: "motd", Type: tree.File, Perm: 0o444,
		Blob: tree.Bytes("motd", motd), Size: int64(len(motd)), SHA256: sha256.Sum256(motd)})
	p := NewPacker(t)
	p.Add(tree.Entry{Path: "one/file", Type: tree.File, Perm: 0o4755, UID: 1, GID: 2, MTime: 1_650_000_000}, Pattern(1, 100))
	for _, n := range []int{0, 1, 4095, 4096, 4097, 8192, 1 << 20, 3<<20 + 5} {
		p.Add(tree.Entry{Path: fmt.Sprintf("sizes/%d", n), Type: tree.File, Perm: 0o644}, Pattern(n, n))
	}
	p.Add(tree.Entry{Path: "ping", Type: tree.File, Perm: 0o755, Xattrs: map[string][]byte{
		"security.capability": capability(),
	}}, Pattern(2, 5000))
	p.Add(tree.Entry{Path: "attrs", Type: tree.File, Perm: 0o600, Xattrs: map[string][]byte{
		"user.small": []byte("v"), "user.empty": nil, "user.large": Pattern(3, 2000), "trusted.t": []byte("tt"),
		"security.x": Pattern(4, 60), "user." + strings.Repeat("l", 250): []byte("long name"),
	}}, []byte("attributes\n"))
	for i := range 5000 {
		p.Add(tree.Entry{Path: fmt.Sprintf("many/package-%d.list", i), Type: tree.File, Perm: 0o644}, nil)
	}
	p.Add(tree.Entry{Path: "many/\xff\xfe", Type: tree.File, Perm: 0o644}, []byte("not UTF-8"))
	return treetest.New(t, append(entries, p.Entries("full")...)...)
}

// Run runs a tool and returns what it said.
func Run(t testing.TB, name string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "DEBUGFS_PAGER=cat", "TZ=UTC")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// MustRun runs a tool that must succeed.
func MustRun(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := Run(t, name, args...)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return out
}

// Fsck wants e2fsck to find nothing.
func Fsck(t testing.TB, image string) {
	t.Helper()
	need.Program(t, "e2fsck", "e2fsprogs")
	out := MustRun(t, "e2fsck", "-fn", image)
	if strings.Contains(out, "?") { // it asks, or finds something that it optimises
		t.Errorf("e2fsck -fn %s asks:\n%s", image, out)
	}
}

// WantEntries is what reading a filesystem that Plan made of tr gives: the
// first name of a file in path order is the file, lost+found is there, and
// times and permissions are those that Plan documents.
func WantEntries(tr *tree.Tree) []tree.Entry {
	first := map[string]string{} // file -> its first path
	for _, e := range tr.Entries {
		target := e.Path
		if e.Type == tree.Hardlink {
			target = e.Link
		}
		if f, ok := first[target]; !ok || tree.ComparePaths(e.Path, f) < 0 {
			first[target] = e.Path
		}
	}
	var want []tree.Entry
	for _, e := range tr.Entries {
		path, target := e.Path, e.Path
		if e.Type == tree.Hardlink {
			target = e.Link
			e = *tr.Lookup(target)
		}
		if first[target] != path {
			want = append(want, tree.Entry{Path: path, Type: tree.Hardlink, Link: first[target]})
			continue
		}
		e.Path, e.Blob, e.Offset, e.Owner = path, nil, 0, ""
		if e.MTime == 0 {
			e.MTime = Epoch
		}
		if e.Type == tree.Symlink {
			e.Perm = 0o777
		}
		want = append(want, e)
	}
	if tr.Lookup("lost+found") == nil {
		want = append(want, tree.Entry{Path: "lost+found", Type: tree.Dir, Perm: 0o700, MTime: Epoch})
	}
	slices.SortFunc(want, func(a, b tree.Entry) int { return tree.ComparePaths(a.Path, b.Path) })
	return want
}

// DiffEntries is cmp.Diff, which takes seconds for thousands of equal entries.
func DiffEntries(want, got []tree.Entry) string {
	same := slices.EqualFunc(want, got, func(a, b tree.Entry) bool {
		sameXattrs := maps.EqualFunc(a.Xattrs, b.Xattrs, bytes.Equal)
		a.Xattrs, b.Xattrs = nil, nil
		return sameXattrs && reflect.DeepEqual(a, b)
	})
	if same {
		return ""
	}
	return cmp.Diff(want, got, cmpopts.EquateEmpty())
}
