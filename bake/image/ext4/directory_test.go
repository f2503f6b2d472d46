package ext4

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/nodebake/bake/bake/image/ext4/ext4test"
	"github.com/nodebake/bake/bake/image/ext4/internal/format"
	"github.com/nodebake/bake/bake/image/extent/extenttest"
	"github.com/nodebake/bake/bake/tree"
	"github.com/nodebake/bake/bake/tree/treetest"
	"github.com/nodebake/bake/test/need"
)

// TestNameHash compares with debugfs, which knows the signed variant only: names of ASCII.
// The full tree has a name with larger bytes, for e2fsck.
func TestNameHash(t *testing.T) {
	need.Program(t, "debugfs", "e2fsprogs")
	seed := testOptions(0).HashSeed
	id := hex.EncodeToString(seed[:])
	id = strings.Join([]string{id[:8], id[8:12], id[12:16], id[16:20], id[20:]}, "-")
	for _, seeded := range []bool{true, false} {
		for _, name := range []string{"a", "abc", "libc6.list", strings.Repeat("q", 31), strings.Repeat("q", 32), strings.Repeat("r", 33), strings.Repeat("s", 255)} {
			command, h := "dx_hash -h half_md4 ", newNameHash([16]byte{})
			if seeded {
				command, h = command+"-s "+id+" ", newNameHash(seed)
			}
			out := ext4test.MustRun(t, "debugfs", "-R", command+name)
			if want := fmt.Sprintf("is 0x%x ", h.sum(name)); !strings.Contains(out, want) {
				t.Errorf("nameHash(%q) %s; debugfs says %s", name, want, out)
			}
		}
	}
}

// TestDirectories makes directories of many shapes; e2fsck checks names
// against the index.
func TestDirectories(t *testing.T) {
	names := func(n int, format string) (list []string) {
		for i := range n {
			list = append(list, fmt.Sprintf(format, i))
		}
		return list
	}
	for _, test := range []struct {
		name   string
		names  []string
		hashed bool
		lower  int // index blocks
	}{
		{"one block", names(253, "%08d"), false, 0}, // 24 + 253*16 of 4084 bytes
		{"one name more", names(254, "%08d"), true, 0},
		{"1", names(1, "f%d"), false, 0},
		{"dpkg", names(1500, "libsomething%d:amd64.md5sums"), true, 0},
		{"5000", names(5000, "%d"), true, 0},
		{"long names", names(15, "%0255d"), false, 0},
		{"one long name more", names(16, "%0255d"), true, 0},
		{"two levels", names(10000, "%0255d"), true, 2},
		{"equal hashes", collidingNames(t), true, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			entries := []tree.Entry{treetest.Dir("."), {Path: "d", Type: tree.Dir, Perm: 0o755}}
			for _, name := range test.names {
				entries = append(entries, tree.Entry{Path: "d/" + name, Type: tree.File, Perm: 0o644})
			}
			tr := treetest.New(t, entries...)
			o := testOptions(256 << 20)
			m, err := newModel(tr, &Options{HashSeed: o.HashSeed, BytesPerInode: 1, Epoch: 1})
			if err != nil {
				t.Fatal(err)
			}
			d := m.dirs[slices.IndexFunc(m.dirs, func(d directory) bool { return m.nodes[d.node].entry.Path == "d" })]
			if d.leaves != nil != test.hashed || d.lower != test.lower {
				t.Errorf("%d leaves, %d lower blocks; want hashed = %v with %d lower blocks", len(d.leaves), d.lower, test.hashed, test.lower)
			}
			if test.name == "equal hashes" && d.leaves[1].hash&1 == 0 {
				t.Error("the second leaf does not continue the first")
			}
			l := mustPlan(t, tr, o)
			image := extenttest.WriteFile(t, &l.List)
			ext4test.Fsck(t, image)
			got, err := openImage(t, image).Entries()
			if err != nil {
				t.Fatal(err)
			}
			if len(got) != len(entries)+1 {
				t.Errorf("read %d entries; want %d and lost+found", len(got), len(entries))
			}
		})
	}
}

// collidingNames are names of which two have one hash, the last of the first
// leaf and the first of the second.
func collidingNames(t *testing.T) []string {
	h := newNameHash(testOptions(0).HashSeed)
	perLeaf := leafRoom / 24 // entries with a name of 16 bytes
	byHash := make(map[uint32]string)
	var pair [2]string
	for i := 0; ; i++ {
		name := fmt.Sprintf("%016d", i)
		sum := h.sum(name)
		if other, ok := byHash[sum]; ok && sum > 1<<30 {
			pair = [2]string{other, name}
			break
		}
		byHash[sum] = name
	}
	var names []string
	for sum, name := range byHash { // any will do, as long as they sort before
		if sum < h.sum(pair[0]) && len(names) < perLeaf-1 {
			names = append(names, name)
		}
	}
	names = append(names, pair[:]...)
	for sum, name := range byHash {
		if sum > h.sum(pair[0]) && len(names) < 3*perLeaf {
			names = append(names, name)
		}
	}
	return names
}

// TestManySubdirectories has more than a link count can say. It looks at the inode
// only: e2fsck has seen such an image, and takes long for its 260 MB of directories.
func TestManySubdirectories(t *testing.T) {
	for _, test := range []struct {
		subdirs int
		want    uint16
	}{
		{3, 5},
		{format.MaxLinks - 2, format.MaxLinks},
		{format.MaxLinks - 1, 1},
	} {
		entries := []tree.Entry{treetest.Dir("."), {Path: "d", Type: tree.Dir, Perm: 0o755}}
		for i := range test.subdirs {
			entries = append(entries, tree.Entry{Path: fmt.Sprintf("d/%d", i), Type: tree.Dir, Perm: 0o755})
		}
		o, err := testOptions(2 << 30).withDefaults()
		if err != nil {
			t.Fatal(err)
		}
		m, err := newModel(treetest.New(t, entries...), &o)
		if err != nil {
			t.Fatal(err)
		}
		g, err := newGeometry(o)
		if err != nil {
			t.Fatal(err)
		}
		p, err := place(g, m)
		if err != nil {
			t.Fatal(err)
		}
		var inode format.Inode
		newEmitter(p, &o).fillInode(&inode, 2, nil)
		if inode.LinksCount != test.want {
			t.Errorf("%d directories: link count %d; want %d", test.subdirs, inode.LinksCount, test.want)
		}
	}
}
