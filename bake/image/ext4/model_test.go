package ext4

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/nodebake/bake/bake/image/ext4/internal/format"
	"github.com/nodebake/bake/bake/tree"
	"github.com/nodebake/bake/bake/tree/treetest"
)

// TestPlanErrors wants what ext4 cannot hold to be refused by name.
func TestPlanErrors(t *testing.T) {
	file := func(path string, change func(e *tree.Entry)) []tree.Entry {
		e := tree.Entry{Path: path, Type: tree.File, Perm: 0o644}
		change(&e)
		return []tree.Entry{treetest.Dir("."), e}
	}
	long := strings.Repeat("x", 256)
	manyLinks := []tree.Entry{treetest.Dir("."), {Path: "f", Type: tree.File}}
	for i := range format.MaxLinks {
		manyLinks = append(manyLinks, tree.Entry{Path: fmt.Sprintf("l%d", i), Type: tree.Hardlink, Link: "f"})
	}
	for _, test := range []struct {
		name    string
		entries []tree.Entry
		want    string
	}{
		{"long name", file(long, func(*tree.Entry) {}), long + ": its name has 256 bytes"},
		{"long symlink", file("etc", func(e *tree.Entry) {
			*e = tree.Entry{Path: "etc", Type: tree.Symlink, Link: strings.Repeat("y", 4096)}
		}), "etc: its target has 4096 bytes"},
		{"device", file("d", func(e *tree.Entry) { *e = tree.Entry{Path: "d", Type: tree.Char, Major: 4096} }), "d: device 4096:0"},
		{"time", file("f", func(e *tree.Entry) { e.MTime = 1 << 34 }), "f: time 17179869184"},
		{"time before", file("f", func(e *tree.Entry) { e.MTime = -1<<31 - 1 }), "f: time -2147483649"},
		{"namespace", file("f", func(e *tree.Entry) { e.Xattrs = map[string][]byte{"com.apple": nil} }), `f: extended attribute "com.apple"`},
		{"no name", file("f", func(e *tree.Entry) { e.Xattrs = map[string][]byte{"user.": nil} }), "f: extended attribute"},
		{"large value", file("f", func(e *tree.Entry) { e.Xattrs = map[string][]byte{"user.a": make([]byte, 4096)} }), "f: extended attribute user.a: 4116 bytes, and 4060 are left"},
		{"large together", file("f", func(e *tree.Entry) {
			e.Xattrs = map[string][]byte{"user.a": make([]byte, 2500), "user.b": make([]byte, 2500)}
		}), "f: extended attribute user.b: 2520 bytes, and 1540 are left"},
		{"ACL", file("f", func(e *tree.Entry) { e.Xattrs = map[string][]byte{"system.posix_acl_access": {1, 2, 3}} }), "f: extended attribute system.posix_acl_access: 3 bytes are not a POSIX ACL"},
		{"links", manyLinks, "f would have more than 65000 hard links"},
		{"lost+found", file("lost+found", func(*tree.Entry) {}), "lost+found: it is not a directory"},
		{"no root", nil, "does not begin with its root directory"},
	} {
		t.Run(test.name, func(t *testing.T) {
			tr := treetest.New(t, test.entries...)
			_, err := Plan(tr, testOptions(1<<30))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("Plan = %.200v; want %q", err, test.want)
			}
			if _, err := MinSize(tr, testOptions(0), 0); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("MinSize = %.200v; want %q", err, test.want)
			}
		})
	}
}

// TestPlanUnsorted has a tree that tree.New did not make.
func TestPlanUnsorted(t *testing.T) {
	tr := &tree.Tree{Entries: []tree.Entry{treetest.Dir("."), {Path: "a/b", Type: tree.File}, {Path: "a", Type: tree.Dir}}}
	if _, err := Plan(tr, testOptions(1<<30)); err == nil || !strings.Contains(err.Error(), "a/b: it does not follow its directory") {
		t.Errorf("Plan = %v; want it to name a/b", err)
	}
}

// TestPlanFull wants a filesystem that is too small to be refused by what did not fit.
func TestPlanFull(t *testing.T) {
	blob := sparseBlob("big", 100<<20)
	tr := treetest.New(t, treetest.Dir("."), tree.Entry{Path: "big", Type: tree.File, Blob: blob, Size: 100 << 20})
	for _, test := range []struct {
		size int64
		want string
	}{
		{100 << 20, "big"},
		{4 << 20, "journal"},
	} {
		_, err := Plan(tr, testOptions(test.size))
		if full, ok := errors.AsType[*FullError](err); !ok || full.Path != test.want {
			t.Errorf("Plan with %d bytes = %v; want a FullError of %s", test.size, err, test.want)
		}
	}
	if _, err := Plan(tr, testOptions(1<<20)); err == nil || !strings.Contains(err.Error(), "too few") {
		t.Errorf("Plan with a MiB = %v; want an error", err)
	}
	many := []tree.Entry{treetest.Dir(".")}
	for i := range 5000 {
		many = append(many, tree.Entry{Path: fmt.Sprint(i), Type: tree.File})
	}
	if _, err := Plan(treetest.New(t, many...), testOptions(64<<20)); err == nil || !strings.Contains(err.Error(), "5002 files, the filesystem of 67108864 bytes has 4096 inodes") {
		t.Errorf("Plan with 5000 files = %v; want an error", err)
	}
}

func TestOptions(t *testing.T) {
	for _, test := range []struct {
		want   string
		change func(o *Options)
	}{
		{"size of 1 bytes", func(o *Options) { o.Size = 1 }},
		{"size of 0 bytes", func(o *Options) { o.Size = 0 }},
		{"size of 2199023259648 bytes", func(o *Options) { o.Size = 2<<40 + 4096 }},
		{"UUID", func(o *Options) { o.UUID = [16]byte{} }},
		{"label", func(o *Options) { o.Label = "seventeen letters" }},
		{"epoch -1", func(o *Options) { o.Epoch = -1 }},
		{"journal of 4096 bytes", func(o *Options) { o.JournalSize = 4096 }},
		{"an inode for 1 bytes", func(o *Options) { o.BytesPerInode = 1 }},
	} {
		o := testOptions(1 << 30)
		test.change(&o)
		if _, err := Plan(treetest.New(t, treetest.Dir(".")), o); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("Plan = %v; want %q", err, test.want)
		}
	}
}

func TestTimes(t *testing.T) {
	for _, want := range []int64{-1 << 31, -1, 0, 1<<31 - 1, 1 << 31, 1<<32 - 1, 1 << 32, 5_000_000_000, 1<<34 - 1<<31 - 1} {
		low, extra, err := encodeTime(want)
		if err != nil {
			t.Errorf("encodeTime(%d): %v", want, err)
		}
		if got := decodeTime(low, extra); got != want {
			t.Errorf("decodeTime(encodeTime(%d)) = %d", want, got)
		}
	}
}
