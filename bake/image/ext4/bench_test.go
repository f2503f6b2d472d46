package ext4

import (
	"fmt"
	"testing"

	"github.com/nodebake/bake/bake/tree"
	"github.com/nodebake/bake/bake/tree/treetest"
)

// nodeTree is of the size of a worker's root: 12,500 files in 172 packages,
// 680 MB, a directory with 1500 names.
func nodeTree(t testing.TB) (*tree.Tree, []*tree.Blob) {
	entries := []tree.Entry{treetest.Dir(".")}
	dirs := map[string]bool{}
	mkdir := func(path string) {
		if !dirs[path] {
			dirs[path] = true
			entries = append(entries, tree.Entry{Path: path, Type: tree.Dir, Perm: 0o755})
		}
	}
	mkdir("usr")
	mkdir("usr/share")
	mkdir("info")
	var blobs []*tree.Blob
	for pkg := range 172 {
		blob := &tree.Blob{Name: fmt.Sprintf("package %d", pkg), Size: 4 << 20, Chunks: make([]tree.Digest, 4)}
		blobs = append(blobs, blob)
		offset := int64(0)
		add := func(path string, size int64) {
			entries = append(entries, tree.Entry{Path: path, Type: tree.File, Perm: 0o644, MTime: 1_600_000_000, Blob: blob, Offset: offset, Size: size})
			offset += blocksOf(size) * blockSize
		}
		for i := range 9 {
			add(fmt.Sprintf("info/package-%d.file%d", pkg, i), 1000)
		}
		for d := range 7 {
			dir := fmt.Sprintf("usr/share/package-%d-%d", pkg, d)
			mkdir(dir)
			for i := range 8 {
				add(fmt.Sprintf("%s/file-%d", dir, i), 50_000)
			}
			entries = append(entries, tree.Entry{Path: dir + "/link", Type: tree.Symlink, Link: "file-1"})
		}
	}
	return treetest.New(t, entries...), blobs
}

func BenchmarkPlan(b *testing.B) {
	tr, blobs := nodeTree(b)
	o := testOptions(3 << 30)
	o.Blobs = blobs
	b.ReportMetric(float64(len(tr.Entries)), "entries")
	b.ReportAllocs()
	for b.Loop() {
		l, err := Plan(tr, o)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(l.MetadataBytes)/1e6, "MB-metadata")
		b.ReportMetric(float64(len(l.List.Extents)), "extents")
	}
}

func BenchmarkMinSize(b *testing.B) {
	tr, _ := nodeTree(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := MinSize(tr, testOptions(0), 512<<20); err != nil {
			b.Fatal(err)
		}
	}
}
