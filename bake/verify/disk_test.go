package verify_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"

	"github.com/nodebake/bake/bake"
	"github.com/nodebake/bake/bake/baketest"
	"github.com/nodebake/bake/test/filetest"
	"github.com/nodebake/bake/test/must"
	"github.com/nodebake/bake/test/need"
)

// disk is a raw image that a test changes.
type disk struct {
	t     *testing.T
	path  string
	start map[string]int64 // of partitions
}

func newDisk(t *testing.T, image *bake.Result) *disk {
	t.Helper()
	d := &disk{t, image.Path, map[string]int64{}}
	for _, p := range baketest.RecordAt(t, image.Record).Disk.Partitions {
		d.start[p.Name] = p.Start
	}
	return d
}

// copied is another file with the same content, for a test of its own.
func (d *disk) copied(t *testing.T) *disk {
	t.Helper()
	c := *d
	c.t, c.path = t, filepath.Join(t.TempDir(), filepath.Base(d.path))
	if out, err := exec.Command("cp", "--sparse=always", d.path, c.path).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v: %s", err, out)
	}
	return &c
}

// debugfs asks e2fsprogs about the root filesystem.
func (d *disk) debugfs(args ...string) string {
	d.t.Helper()
	path := need.Program(d.t, "debugfs", "e2fsprogs")
	cmd := exec.Command(path, append(args, fmt.Sprintf("%s?offset=%d", d.path, d.start["root"]))...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		d.t.Fatalf("debugfs %q: %v: %s", args, err, out)
	}
	return string(out)
}

// content is the place on the disk of a byte of a file of the root.
func (d *disk) content(path string, offset int64) int64 {
	d.t.Helper()
	out := d.debugfs("-R", fmt.Sprintf("bmap %s %d", path, offset/4096))
	m := regexp.MustCompile(`(?m)^(\d+)$`).FindStringSubmatch(out)
	if m == nil {
		d.t.Fatalf("debugfs bmap %s: %s", path, out)
	}
	block, err := strconv.ParseInt(m[1], 10, 64)
	if err != nil {
		d.t.Fatal(err)
	}
	return d.start["root"] + block*4096 + offset%4096
}

// inode is the place on the disk of a file's inode, and its number.
func (d *disk) inode(path string) (int64, string) {
	d.t.Helper()
	out := d.debugfs("-R", "imap "+path)
	m := regexp.MustCompile(`Inode (\d+) is part of block group \d+\s+located at block (\d+), offset 0x([0-9a-f]+)`).FindStringSubmatch(out)
	if m == nil {
		d.t.Fatalf("debugfs imap %s: %s", path, out)
	}
	block, _ := strconv.ParseInt(m[2], 10, 64)
	at, _ := strconv.ParseInt(m[3], 16, 64)
	return d.start["root"] + block*4096 + at, m[1]
}

func (d *disk) read(at int64, n int) []byte {
	d.t.Helper()
	f := filetest.Open(d.t, d.path)
	b := make([]byte, n)
	n, err := f.ReadAt(b, at)
	if err != nil && err != io.EOF {
		d.t.Fatal(err)
	}
	return b[:n]
}

func (d *disk) write(at int64, b []byte) {
	d.t.Helper()
	f, err := os.OpenFile(d.path, os.O_RDWR, 0)
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close()
	must.Get(f.WriteAt(b, at))
}

// flip changes a bit, and returns what the 16 bytes from there on were and are,
// and what undoes it.
func (d *disk) flip(at int64) (before, after []byte, undo func()) {
	d.t.Helper()
	before = d.read(at, 16)
	after = bytes.Clone(before)
	after[0] ^= 1
	d.write(at, after)
	return before, after, func() { d.write(at, before) }
}

// find returns the place on the disk of text in a file of the root.
func (d *disk) find(path, text string) int64 {
	d.t.Helper()
	at := d.content(path, 0) // these files lie in one piece
	i := bytes.Index(d.read(at, 1<<16), []byte(text))
	if i < 0 {
		d.t.Fatalf("%q is not in %s", text, path)
	}
	return at + int64(i)
}
