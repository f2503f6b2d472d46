package ext4

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/bake/image/ext4/ext4test"
	"github.com/nodebake/bake/bake/image/extent/extenttest"
	"github.com/nodebake/bake/bake/tree"
	"github.com/nodebake/bake/bake/tree/treetest"
	"github.com/nodebake/bake/test/must"
	"github.com/nodebake/bake/test/need"
)

// sizes are those of the tests: small, several groups, a last group that is short, one that is
// left out.
var sizes = []struct {
	name string
	size int64
}{
	{"64M", 64 << 20},
	{"128M", 128 << 20},
	{"128M+4K left out", 128<<20 + 4096},
	{"133M short", 133<<20 + 4096},
	{"1G", 1 << 30},
	{"3G", 3 << 30},
	{"3G less", 3<<30 - 260<<20 - 8192},
	{"9G", 9 << 30},
}

// TestPlan makes filesystems and has e2fsck and our reader look at them.
func TestPlan(t *testing.T) {
	tr := ext4test.FullTree(t)
	want := ext4test.WantEntries(tr)
	for _, test := range sizes {
		t.Run(test.name, func(t *testing.T) {
			o := testOptions(test.size)
			if test.size == 64<<20 {
				o.BytesPerInode = 8 << 10 // its 4096 inodes would not do
			}
			l := mustPlan(t, tr, o)
			image := extenttest.WriteFile(t, &l.List)
			ext4test.Fsck(t, image)
			fsys := openImage(t, image)
			if diff := ext4test.DiffEntries(want, readTree(t, fsys)); diff != "" {
				t.Errorf("what was read is not what was planned (-want +got):\n%s", diff)
			}
			if err := fsys.Verify(); err != nil {
				t.Error(err)
			}
			info := fsys.Info()
			if info.FreeBytes != l.FreeBytes || info.Inodes != l.Inodes || info.FreeInodes != l.FreeInodes {
				t.Errorf("Info() = %+v; want what Layout says: %d, %d, %d", info, l.FreeBytes, l.Inodes, l.FreeInodes)
			}
			if info.UUID != o.UUID || info.Label != o.Label || info.Created != o.Epoch {
				t.Errorf("Info() = %+v; want UUID, label and time of %+v", info, o)
			}
			if rest := test.size - info.Size; rest < 0 || rest > 5<<20 {
				t.Errorf("Info().Size = %d of %d", info.Size, test.size)
			}
		})
	}
}

// TestPlanEmpty has the smallest tree: the root directory alone.
func TestPlanEmpty(t *testing.T) {
	l := mustPlan(t, treetest.New(t, treetest.Dir(".")), testOptions(32<<20))
	image := extenttest.WriteFile(t, &l.List)
	ext4test.Fsck(t, image)
	got := readTree(t, openImage(t, image))
	want := []tree.Entry{
		{Path: ".", Type: tree.Dir, Perm: 0o755, MTime: ext4test.Epoch},
		{Path: "lost+found", Type: tree.Dir, Perm: 0o700, MTime: ext4test.Epoch},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestPlanTwice plans the same twice, and something else.
func TestPlanTwice(t *testing.T) {
	tr := ext4test.FullTree(t)
	o := testOptions(1 << 30)
	a, b := mustPlan(t, tr, o), mustPlan(t, ext4test.FullTree(t), o)
	if hashList(&a.List) != hashList(&b.List) {
		t.Error("two plans of one tree differ")
	}
	o.Label = "other"
	if c := mustPlan(t, tr, o); hashList(&a.List) == hashList(&c.List) {
		t.Error("plans with different labels are equal")
	}
}

// TestSuperblock has dumpe2fs say what the features and settings are.
func TestSuperblock(t *testing.T) {
	need.Program(t, "dumpe2fs", "e2fsprogs")
	l := mustPlan(t, ext4test.FullTree(t), testOptions(3<<30))
	image := extenttest.WriteFile(t, &l.List)
	out := ext4test.MustRun(t, "dumpe2fs", image)
	for _, want := range []string{
		"Filesystem volume name:   root",
		"Filesystem UUID:          5b1c9e02-8841-4f6a-9d3c-102233445566",
		"Filesystem features:      has_journal ext_attr resize_inode dir_index filetype extent 64bit flex_bg sparse_super large_file huge_file dir_nlink extra_isize metadata_csum",
		"Default mount options:    user_xattr acl",
		"Filesystem state:         clean",
		"Errors behavior:          Remount read-only",
		"Inode count:              196608",
		"Block count:              786432",
		"Reserved block count:     0",
		"Reserved GDT blocks:      255",
		"Blocks per group:         32768",
		"Flex block group size:    16",
		"Filesystem created:       Tue Nov 14 22:13:20 2023",
		"Last write time:          Tue Nov 14 22:13:20 2023",
		"Last mount time:          n/a",
		"Maximum mount count:      -1",
		"Check interval:           0 (<none>)",
		"Inode size:	          256",
		"Journal inode:            8",
		"Default directory hash:   half_md4",
		"Directory Hash Seed:      d00dfeed-0102-0304-0506-0708090a0b0c",
		"Journal backup:           inode blocks",
		"Checksum type:            crc32c",
		"Total journal size:       64M",
		"Journal sequence:         0x00000001",
		"Journal start:            0",
	} {
		if !strings.Contains(out, want+"\n") {
			t.Errorf("dumpe2fs does not say %q", want)
		}
	}
	groups := regexp.MustCompile(`(?m)^Group \d+: .*$`).FindAllString(out, -1)
	if len(groups) != 24 {
		t.Errorf("dumpe2fs shows %d groups; want 24", len(groups))
	}
	for i, group := range groups {
		if !strings.Contains(group, "ITABLE_ZEROED") {
			t.Errorf("group is left to lazy initialisation: %s", group)
		}
		if want := i > 0 && i < 23; strings.Contains(group, "BLOCK_UNINIT") != want {
			t.Errorf("BLOCK_UNINIT is not %v: %s", want, group)
		}
	}
	if t.Failed() {
		t.Logf("%.6000s", out)
	}
}

// TestBigFiles has files that end at and behind a group, and one whose
// extents need a tree.
func TestBigFiles(t *testing.T) {
	if testing.Short() {
		t.Skip("reads 800 MiB several times, most of it zeroes")
	}
	const group = 128 << 20
	blob := sparseBlob("big", 800<<20)
	entries := []tree.Entry{
		treetest.Dir("."),
		{Path: "a-group", Type: tree.File, Perm: 0o644, Blob: blob, Size: group},
		{Path: "b-group+1", Type: tree.File, Perm: 0o644, Blob: blob, Offset: group, Size: group + 1},
		{Path: "c-deep", Type: tree.File, Perm: 0o644, Blob: blob, Offset: 2*group + 4096, Size: 530<<20 - 5},
	}
	l := mustPlan(t, treetest.New(t, entries...), testOptions(2<<30))
	image := extenttest.WriteFile(t, &l.List)
	ext4test.Fsck(t, image)
	fsys := openImage(t, image)
	for _, e := range entries[1:] {
		n, err := fsys.Lookup(e.Path)
		if err != nil {
			t.Fatal(err)
		}
		if n.Size != e.Size {
			t.Errorf("%s: size = %d; want %d", e.Path, n.Size, e.Size)
		}
		r, err := fsys.Content(n)
		if err != nil {
			t.Fatal(err)
		}
		if err := sameContent(r, e.Content()); err != nil {
			t.Errorf("%s: %v", e.Path, err)
		}
	}
	need.Program(t, "debugfs", "e2fsprogs")
	out := ext4test.MustRun(t, "debugfs", "-R", "ex /c-deep", image)
	if !strings.Contains(out, " 0/ 1 ") || !strings.Contains(out, " 1/ 1 ") {
		t.Errorf("c-deep has no extent tree of depth 1:\n%s", out)
	}
	if out := ext4test.MustRun(t, "debugfs", "-R", "ex /a-group", image); strings.Contains(out, "/ 1 ") {
		t.Errorf("a-group has an extent tree of depth 1:\n%s", out)
	}
}

// TestPayloadIsContiguous wants the files of a blob to be one extent of the list
// wherever they are on the disk, and duplicates to have blocks of their own.
func TestPayloadIsContiguous(t *testing.T) {
	var packs [2][]tree.Entry
	for i := range packs {
		p := ext4test.NewPacker(t)
		for n := range 50 {
			p.Add(tree.Entry{Path: fmt.Sprintf("p%d-%d", i, 49-n), Type: tree.File, Perm: 0o644}, ext4test.Pattern(i*100+n, 5000*n))
		}
		packs[i] = p.Entries(fmt.Sprintf("pack %d", i))
	}
	entries := append(append([]tree.Entry{treetest.Dir(".")}, packs[0]...), packs[1]...)
	duplicate := packs[0][20]
	duplicate.Path = "duplicate"
	withDuplicate := treetest.New(t, append(entries, duplicate)...)
	a, b := packs[0][49].Blob, packs[1][49].Blob

	// ranges lists the extents of payload.
	ranges := func(tr *tree.Tree, blobs ...*tree.Blob) (got []string) {
		o := testOptions(1 << 30)
		o.Blobs = blobs
		l := mustPlan(t, tr, o)
		ext4test.Fsck(t, extenttest.WriteFile(t, &l.List))
		for _, e := range l.List.Extents {
			if e.Blob == a || e.Blob == b {
				got = append(got, fmt.Sprintf("%s %d+%d", e.Blob.Name, e.BlobOffset, e.Length))
			}
		}
		return got
	}
	all := func(b *tree.Blob) string { return fmt.Sprintf("%s 0+%d", b.Name, b.Size) }
	if diff := cmp.Diff([]string{all(b), all(a)}, ranges(treetest.New(t, entries...), b, a)); diff != "" {
		t.Errorf("with b before a (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{all(a), all(b)}, ranges(treetest.New(t, entries...))); diff != "" {
		t.Errorf("in the order of files (-want +got):\n%s", diff)
	}
	// The duplicate cuts the run once: its first copy ends it, its second goes on.
	end := duplicate.Offset + blocksOf(duplicate.Size)*blockSize
	want := []string{
		fmt.Sprintf("%s 0+%d", a.Name, end),
		fmt.Sprintf("%s %d+%d", a.Name, duplicate.Offset, a.Size-duplicate.Offset),
		all(b),
	}
	if diff := cmp.Diff(want, ranges(withDuplicate)); diff != "" {
		t.Errorf("with a duplicate (-want +got):\n%s", diff)
	}
}

// TestMinSize wants the result to fit and a block less not to.
func TestMinSize(t *testing.T) {
	tr := ext4test.FullTree(t)
	for _, free := range []int64{0, 1, 100 << 20, 512 << 20, 3 << 30} {
		o := testOptions(0)
		size, err := MinSize(tr, o, free)
		if err != nil {
			t.Fatal(err)
		}
		o.Size = size
		l := mustPlan(t, tr, o)
		if l.FreeBytes < free {
			t.Errorf("MinSize(%d) = %d, which leaves %d", free, size, l.FreeBytes)
		}
		ext4test.Fsck(t, extenttest.WriteFile(t, &l.List))
		o.Size -= blockSize
		if l, err := Plan(tr, o); err == nil && l.FreeBytes >= free {
			t.Errorf("MinSize(%d) = %d, and a block less leaves %d as well", free, size, l.FreeBytes)
		}
	}
	if size, err := MinSize(tr, testOptions(0), 3<<40); err == nil {
		t.Errorf("MinSize with 3 TiB free = %d; want an error", size)
	}
}

// TestGrow grows images offline as far as a GCE disk may need. That the mounted
// filesystem grows is tested in a guest.
func TestGrow(t *testing.T) {
	need.Program(t, "e2fsck", "e2fsprogs") // whose package has resize2fs
	tr := ext4test.FullTree(t)
	want := ext4test.WantEntries(tr)
	l := mustPlan(t, tr, testOptions(3<<30-9<<20))
	for _, size := range []int64{10 << 30, 100 << 30} {
		image := extenttest.WriteFile(t, &l.List)
		must.Do(os.Truncate(image, size))
		out := ext4test.MustRun(t, "resize2fs", image)
		if want := fmt.Sprintf("is now %d (4k) blocks long", size/blockSize); !strings.Contains(out, want) {
			t.Errorf("resize2fs says %q; want %q", out, want)
		}
		ext4test.Fsck(t, image)
		fsys := openImage(t, image)
		if diff := ext4test.DiffEntries(want, readTree(t, fsys)); diff != "" {
			t.Errorf("after growing to %d (-want +got):\n%s", size, diff)
		}
		if err := fsys.Verify(); err != nil {
			t.Error(err)
		}
	}
}
