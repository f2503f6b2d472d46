package ext4

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nodebake/bake/bake/image/ext4/ext4test"
	"github.com/nodebake/bake/bake/image/extent/extenttest"
	"github.com/nodebake/bake/bake/tree"
	"github.com/nodebake/bake/bake/tree/treetest"
	"github.com/nodebake/bake/test/filetest"
	"github.com/nodebake/bake/test/need"
)

// TestDebugfs has debugfs show inodes, attributes and content.
func TestDebugfs(t *testing.T) {
	need.Program(t, "debugfs", "e2fsprogs")
	tr := ext4test.FullTree(t)
	l := mustPlan(t, tr, testOptions(1<<30))
	image := extenttest.WriteFile(t, &l.List)
	for _, test := range []struct {
		command string
		want    []string
	}{
		{"stat one/file", []string{"Type: regular", "Mode:  04755", "User:     1   Group:     2", "Links: 3", "Size: 100", "Blockcount: 8", "mtime: 0x62590080:00000000", "ctime: 0x6553f100:00000000", "crtime: 0x6553f100:00000000", "atime: 0x6553f100:00000000", "Size of extra inode fields: 32"}},
		{"stat empty", []string{"Type: directory", "Mode:  0700", "User: 70000   Group: 80000"}},
		{"stat old", []string{"1969"}},
		{"stat new", []string{"2128"}},
		{"stat dev/null", []string{"Type: character special", "Device major/minor number: 01:03"}},
		{"stat dev/big", []string{"Type: block special", "Device major/minor number: 259:70000"}},
		{"stat dev/fifo", []string{"Type: FIFO", "Mode:  0640"}},
		{"stat link", []string{"Type: symlink", `Fast link dest: "one/file"`, "Blockcount: 0"}},
		{"stat link60", []string{"Type: symlink", "Size: 60", "Blockcount: 8"}},
		{"stat many", []string{"Mode:  01777", "Flags: 0x81000"}},
		{"stat lost+found", []string{"Inode: 11 ", "Size: 16384"}},
		{"stat <8>", []string{"Size: 67108864"}},
		{"ea_list ping", []string{"security.capability (20)"}},
		{"ea_list attrs", []string{"user.small", "user.empty (0)", "user.large (2000)", "trusted.t", "security.x (60)"}},
		{"ea_list acl", []string{
			"system.posix_acl_access (28) = 01 00 00 00 01 00 07 00 02 00 05 00 e8 03 00 00 04 00 05 00 10 00 07 00 20 00 00 00",
			"system.posix_acl_default (28) = 01 00 00 00 01 00 07 00 02 00 05 00 e8 03 00 00 04 00 05 00 10 00 07 00 20 00 00 00",
		}},
		{"htree_dump many", []string{"Hash Version: 1", "Indirect levels: 0"}},
	} {
		out := ext4test.MustRun(t, "debugfs", "-R", test.command, image)
		for _, want := range test.want {
			if !strings.Contains(out, want) {
				t.Errorf("debugfs %s does not say %q:\n%.3000s", test.command, want, out)
			}
		}
	}

	dir := t.TempDir()
	var script strings.Builder
	var files []*tree.Entry
	for i := range tr.Entries {
		if e := &tr.Entries[i]; e.Type == tree.File && e.Size > 0 && !strings.Contains(e.Path, "\xff") {
			files = append(files, e)
			script.WriteString("dump " + e.Path + " " + filepath.Join(dir, strings.ReplaceAll(e.Path, "/", "_")) + "\n")
		}
	}
	commands := filepath.Join(dir, "commands")
	filetest.Write(t, commands, script.String())
	ext4test.MustRun(t, "debugfs", "-f", commands, image)
	for _, e := range files {
		got := filetest.Read(t, filepath.Join(dir, strings.ReplaceAll(e.Path, "/", "_")))
		want := treetest.Content(t, e)
		if !bytes.Equal(got, want) {
			t.Errorf("debugfs dumps %d bytes of %s that differ from its %d", len(got), e.Path, len(want))
		}
	}
}
