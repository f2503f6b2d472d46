package fat

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/bake/tree"
	"github.com/nodebake/bake/bake/tree/treetest"
	"github.com/nodebake/bake/test/filetest"
)

// TestLocate finds content by its bytes, and asks what is there.
func TestLocate(t *testing.T) {
	var entries []tree.Entry
	for i, size := range []int{100_000, 4096, 511, 3*mib + 1} {
		content := bytes.Repeat([]byte{byte(i + 1), byte(i + 2), byte(i + 3)}, size)[:size]
		name := fmt.Sprintf("file-%d", i)
		entries = append(entries, tree.Entry{Path: name, Type: tree.File, Perm: 0o644, Size: int64(size), Blob: tree.Bytes(name, content)})
	}
	tr := treetest.New(t, append(sample(t).Entries, entries...)...)
	l := plan(t, tr, options())
	disk := filetest.ReadAll(t, io.NewSectionReader(l.Reader(), 0, l.Size))
	v, err := Open(bytes.NewReader(disk), l.Size)
	if err != nil {
		t.Fatal(err)
	}
	check := func(offset int64, want Place) {
		t.Helper()
		got, err := v.Locate(offset)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("Locate(%d) (-want +got):\n%s", offset, diff)
		}
	}
	for i := range tr.Entries {
		e := &tr.Entries[i]
		if e.Type != tree.File || !strings.HasPrefix(e.Path, "file-") {
			continue
		}
		content := treetest.Content(t, e)
		if n := bytes.Count(disk, content); n != 1 {
			t.Fatalf("the content of %s stands %d times on the disk; want once", e.Path, n)
		}
		at := int64(bytes.Index(disk, content))
		check(at, Place{Path: e.Path, Content: true, What: "content"})
		check(at+e.Size-1, Place{Path: e.Path, Content: true, Offset: e.Size - 1, What: "content"})
		if (at+e.Size)%v.geo.clusterBytes() > 0 {
			check(at+e.Size, Place{Path: e.Path, Content: true, Offset: e.Size, What: "behind the end of the content"})
		}
	}
	check(90, Place{What: "boot sectors"})
	tables := int64(v.geo.reserved) * sectorSize
	check(tables, Place{What: "allocation table 1"})
	check(tables+int64(v.geo.fatSectors)*sectorSize, Place{What: "allocation table 2"})
	check(v.geo.dataStart(), Place{Path: ".", What: "directory"})
	check(recordOf(t, l, "BOOTX64 EFI"), Place{Path: "EFI/BOOT", What: "directory"})
	check(l.Size-1, Place{What: "free space"})
	check(l.Size, Place{What: "behind the volume"})
}
