package ext4

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/nodebake/bake/bake/image/ext4/ext4test"
	"github.com/nodebake/bake/bake/image/ext4/internal/format"
	"github.com/nodebake/bake/bake/image/extent/extenttest"
	"github.com/nodebake/bake/test/must"
	"github.com/nodebake/bake/test/need"
)

// TestBroken flips one bit in each kind of metadata; e2fsck and our reader
// must both refuse.
func TestBroken(t *testing.T) {
	need.Program(t, "e2fsck", "e2fsprogs")
	tr := ext4test.FullTree(t)
	l := mustPlan(t, tr, testOptions(1<<30))
	image := extenttest.WriteFile(t, &l.List)
	fsys := openImage(t, image)
	inodeAt := func(path string) (int64, *inode) {
		n, err := fsys.Lookup(path)
		if err != nil {
			t.Fatal(err)
		}
		i, err := fsys.readInode(n.Inode)
		if err != nil {
			t.Fatal(err)
		}
		return int64(fsys.groups[0].InodeTableLo)*blockSize + int64(n.Inode-1)*format.InodeSize, i
	}
	blockAt := func(path string, n int) int64 {
		_, i := inodeAt(path)
		extents, err := fsys.extents(i, fsys.inRange)
		if err != nil {
			t.Fatal(err)
		}
		return (extents[0].block + int64(n)) * blockSize
	}
	fileInode, _ := inodeAt("one/file")
	_, attrs := inodeAt("attrs")
	for _, test := range []struct {
		name string
		at   int64 // byte in the image
		want string
	}{
		{"superblock", format.SuperBlockOffset + 0x0c, "superblock: checksum"},
		{"group descriptor", blockSize + 0x12, "descriptor of group 0: checksum"},
		{"block bitmap", int64(fsys.groups[0].BlockBitmapLo)*blockSize + 4000, "block bitmap in block"},
		{"inode bitmap", int64(fsys.groups[0].InodeBitmapLo)*blockSize + 900, "inode bitmap in block"},
		{"inode", fileInode + 0x18, "checksum"},
		{"attributes in inode", fileInode + 0xa4, "checksum"},
		{"directory", blockAt("one", 0) + 40, "directory of inode"},
		{"name in hashed directory", blockAt("many", 2) + 9, "directory of inode"},
		{"index of hashed directory", blockAt("many", 0) + 44, "directory index of inode"},
		{"attribute block", fsys.aclBlock(attrs)*blockSize + 4090, "extended attributes in block"},
	} {
		t.Run(test.name, func(t *testing.T) {
			f, err := os.OpenFile(image, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			flip := func() {
				var b [1]byte
				must.Get(f.ReadAt(b[:], test.at))
				b[0] ^= 1
				must.Get(f.WriteAt(b[:], test.at))
			}
			flip()
			defer flip()
			if out, err := ext4test.Run(t, "e2fsck", "-fn", image); err == nil {
				t.Errorf("e2fsck accepts it:\n%s", out)
			}
			broken, err := Open(f)
			if err == nil {
				err = broken.Walk(func(*Element) error { return nil })
			}
			if err == nil {
				err = broken.Verify()
			}
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("reading it = %v; want %q", err, test.want)
			}
		})
	}
	ext4test.Fsck(t, image) // every bit is back
}

// TestExtentTrees writes and reads trees of all depths, without an image.
func TestExtentTrees(t *testing.T) {
	const perBlock = extentsPerBlock
	for _, n := range []int{0, 1, 4, 5, perBlock, perBlock + 1, 4 * perBlock, 4*perBlock + 1, 4*perBlock*perBlock + 1} {
		runs := make([]run, n)
		for i := range runs {
			runs[i] = run{int64(1<<33 + 3*i), int64(1 + i%2)}
		}
		at := make([]run, extentTreeBlocks(n))
		disk := metaReader{windows: map[int64][]byte{}}
		for i := range at {
			at[i] = run{int64(100 + i), 1}
		}
		var i inode
		i.seed = 7
		i.Flags = format.InodeExtents
		putExtents(i.Block[:], runs, at, i.seed, func(block int64) []byte {
			w := block * blockSize / windowSize
			if disk.windows[w] == nil {
				disk.windows[w] = make([]byte, windowSize)
			}
			return disk.windows[w][block*blockSize%windowSize:][:blockSize]
		})
		fsys := &FS{meta: disk, blockSize: blockSize, blocks: 1 << 40, checked: true}
		claimed := 0
		got, err := fsys.extents(&i, func(block, _ int64) error {
			if block < 1<<33 {
				claimed++
			}
			return nil
		})
		if err != nil {
			t.Fatalf("%d extents: %v", n, err)
		}
		if claimed != len(at) {
			t.Errorf("%d extents: read %d blocks of the tree; want %d", n, claimed, len(at))
		}
		same := slices.EqualFunc(got, runs, func(e fileExtent, r run) bool { return e.block == r.block && e.n == r.n })
		if !same {
			t.Errorf("%d extents: read %d others", n, len(got))
		}
	}
}
