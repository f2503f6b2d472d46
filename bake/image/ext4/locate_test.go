package ext4

import (
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/bake/image/ext4/ext4test"
	"github.com/nodebake/bake/bake/image/extent/extenttest"
	"github.com/nodebake/bake/bake/tree"
	"github.com/nodebake/bake/test/need"
)

// TestLocate asks debugfs where things are, and Locate what is there.
func TestLocate(t *testing.T) {
	need.Program(t, "debugfs", "e2fsprogs")
	tr := ext4test.FullTree(t)
	l := mustPlan(t, tr, testOptions(1<<30))
	image := extenttest.WriteFile(t, &l.List)
	f, err := Open(l.List.Reader())
	if err != nil {
		t.Fatal(err)
	}
	check := func(offset int64, want Place) {
		t.Helper()
		got, err := f.Locate(offset)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("Locate(%d) (-want +got):\n%s", offset, diff)
		}
	}
	ask := func(command string) string { return ext4test.MustRun(t, "debugfs", "-R", command, image) }

	inode := regexp.MustCompile(`Inode (\d+) is part of block group \d+\s+located at block (\d+), offset 0x([0-9a-f]+)`)
	block := regexp.MustCompile(`(?m)^(\d+)`)
	for i := range tr.Entries {
		e := &tr.Entries[i]
		if e.Path == "." || e.Type == tree.Hardlink || e.Path == "one/file" || !utf8.ValidString(e.Path) || strings.ContainsAny(e.Path, " \"\n") || len(e.Path) > 100 {
			continue // debugfs has its own ideas of such names
		}
		if strings.HasPrefix(e.Path, "many/") && i%700 > 0 {
			continue // some of many
		}
		m := inode.FindStringSubmatch(ask("imap " + e.Path))
		if m == nil {
			t.Fatalf("debugfs imap %s says nothing", e.Path)
		}
		at, _ := strconv.ParseInt(m[2], 10, 64)
		in, _ := strconv.ParseInt(m[3], 16, 64)
		check(at*4096+in+7, Place{Path: e.Path, What: "inode " + m[1]})

		content := e.Type == tree.File && e.Size > 0
		if !content && e.Type != tree.Dir {
			continue
		}
		last := (max(e.Size, 1) - 1) / 4096
		m = block.FindStringSubmatch(ask(fmt.Sprintf("bmap %s %d", e.Path, last)))
		if m == nil {
			t.Fatalf("debugfs bmap %s %d says nothing", e.Path, last)
		}
		at, _ = strconv.ParseInt(m[1], 10, 64)
		if !content {
			check(at*4096+4000, Place{Path: e.Path, What: "directory"})
			continue
		}
		rest := (e.Size - 1) % 4096
		check(at*4096+rest, Place{Path: e.Path, Content: true, Offset: e.Size - 1, What: "content"})
		if rest < 4095 {
			check(at*4096+rest+1, Place{Path: e.Path, Content: true, Offset: e.Size, What: "behind the end of the content"})
		}
	}

	// Of a file's several names the first by path counts.
	m := inode.FindStringSubmatch(ask("imap one/file"))
	at, _ := strconv.ParseInt(m[2], 10, 64)
	in, _ := strconv.ParseInt(m[3], 16, 64)
	check(at*4096+in, Place{Path: "hard", What: "inode " + m[1]})

	number := func(pattern, in string) int64 {
		t.Helper()
		m := regexp.MustCompile(pattern).FindStringSubmatch(in)
		if m == nil {
			t.Fatalf("no %s in:\n%s", pattern, in)
		}
		n, _ := strconv.ParseInt(m[1], 10, 64)
		return n
	}
	stats := ask("stats")
	group := stats[strings.Index(stats, "Group  1:"):]
	check(1024+10, Place{What: "superblock"})
	check(32768*4096+10, Place{What: "copy of the superblock in group 1"})
	check(4096, Place{What: "group descriptors in group 0"})
	check(2*4096, Place{What: "room for more group descriptors in group 0"})
	check(number(`block bitmap at (\d+)`, group)*4096, Place{What: "block bitmap of group 1"})
	check(number(`inode bitmap at (\d+)`, group)*4096+1, Place{What: "inode bitmap of group 1"})
	check(number(`inode table at (\d+)`, group)*4096, Place{What: fmt.Sprintf("inode %d", number(`Inodes per group: +(\d+)`, stats)+1)})
	check(number(`(?m)^(\d+)$`, ask("bmap <8> 9"))*4096, Place{What: "journal"})
	check(number(`Free blocks found: (\d+)`, ask("ffb 1"))*4096, Place{What: "free space"})
	check(1<<30, Place{What: "behind the filesystem"})
	attrs := ask("stat attrs")
	check(number(`File ACL: (\d+)`, attrs)*4096+100, Place{Path: "attrs", What: "extended attributes"})
}

// TestLocateBroken wants an error where metadata is not sound.
func TestLocateBroken(t *testing.T) {
	l := mustPlan(t, ext4test.FullTree(t), testOptions(1<<30))
	f, err := Open(l.List.Reader())
	if err != nil {
		t.Fatal(err)
	}
	n, err := f.Lookup("one/file")
	if err != nil {
		t.Fatal(err)
	}
	table := f.join(f.groups[0].InodeTableLo, f.groups[0].InodeTableHi) * f.blockSize
	at := table + int64(n.Inode-1)*int64(f.inodeSize) + 4
	f, err = Open(flipped{l.List.Reader(), at})
	if err != nil {
		t.Fatal(err)
	}
	if p, err := f.Locate(900 << 20); err == nil {
		t.Errorf("Locate() = %+v; want an error", p)
	}
}

// flipped is content with one byte that is another.
type flipped struct {
	io.ReaderAt
	at int64
}

func (f flipped) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.ReaderAt.ReadAt(p, off)
	if f.at >= off && f.at < off+int64(n) {
		p[f.at-off] ^= 1
	}
	return n, err
}
