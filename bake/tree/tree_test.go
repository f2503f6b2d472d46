package tree

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/test/filetest"
)

func TestNewSortsParentsFirst(t *testing.T) {
	var entries []Entry
	for _, p := range []string{"a-b", "a/b", "a", ".", "a/b/c", "b"} {
		entries = append(entries, Entry{Path: p, Type: Dir, Perm: 0o755})
	}
	tr, err := New(entries)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range tr.Entries {
		got = append(got, e.Path)
	}
	if diff := cmp.Diff([]string{".", "a", "a/b", "a/b/c", "a-b", "b"}, got); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
	for _, p := range got {
		if e := tr.Lookup(p); e == nil || e.Path != p {
			t.Errorf("Lookup(%q) = %v; want the entry", p, e)
		}
	}
	if e := tr.Lookup("a/c"); e != nil {
		t.Errorf("Lookup(a/c) = %v; want nil", e)
	}
}

func TestNewRefuses(t *testing.T) {
	root := Entry{Path: ".", Type: Dir, Perm: 0o755}
	for _, test := range []struct {
		name    string
		entries []Entry
		want    string
	}{
		{"absolute", []Entry{root, {Path: "/etc", Type: Dir}}, "absolute"},
		{"leaving", []Entry{root, {Path: "../etc", Type: Dir}}, "leaves the root"},
		{"not clean", []Entry{root, {Path: "a//b", Type: Dir}}, "not clean"},
		{"twice", []Entry{root, {Path: "a", Type: Dir, Owner: "package x"}, {Path: "a", Type: Fifo, Owner: "package y"}}, "twice, from package x and package y"},
		{"no parent", []Entry{root, {Path: "a/b", Type: Dir}}, "a/b: its parent a is not there"},
		{"parent is a link", []Entry{root, {Path: "a", Type: Symlink, Link: "/x", Owner: "package x"}, {Path: "a/b", Type: Dir, Owner: "package y"}}, "a/b from package y: its parent a is a symlink from package x, not a directory"},
		{"hard link to nothing", []Entry{root, {Path: "a", Type: Hardlink, Link: "b"}}, "not a file of the tree"},
		{"content without a blob", []Entry{root, {Path: "a", Type: File, Size: 1}}, "outside its blob"},
		{"type", []Entry{root, {Path: "a", Type: "socket"}}, "unknown type"},
	} {
		_, err := New(test.entries)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: New = %v; want an error with %q", test.name, err, test.want)
		}
	}
}

func TestResolve(t *testing.T) {
	tr, err := New([]Entry{
		{Path: ".", Type: Dir}, {Path: "a", Type: Dir}, {Path: "a/file", Type: File}, {Path: "a/hard", Type: Hardlink, Link: "a/file"},
		{Path: "dir", Type: Symlink, Link: "a"}, {Path: "a/up", Type: Symlink, Link: "../dir/./hard"}, {Path: "abs", Type: Symlink, Link: "/dir/up"},
		{Path: "loop", Type: Symlink, Link: "loop"}, {Path: "out", Type: Symlink, Link: "../../a/file"}, {Path: "broken", Type: Symlink, Link: "none"},
	})
	if err != nil {
		t.Fatal(err)
	}
	for p, want := range map[string]string{
		"a/file": "a/file", "/a/hard": "a/file", "dir/file": "a/file", "abs": "a/file", "out": "a/file", "dir": "a", "/": ".",
	} {
		if e, err := tr.Resolve(p); err != nil || e.Path != want {
			t.Errorf("Resolve(%q) = %v, %v; want %s", p, e, err, want)
		}
	}
	for p, want := range map[string]string{
		"loop": "/loop: more than 40 symbolic links", "broken": "/broken: file does not exist", "/dir/none": "/dir/none: file does not exist",
	} {
		if _, err := tr.Resolve(p); err == nil || err.Error() != want {
			t.Errorf("Resolve(%q) = %v; want %s", p, err, want)
		}
	}
}

// packOf packs contents as files f0, f1, ... and binds the pack to its bytes.
func packOf(t *testing.T, contents ...[]byte) (*Pack, []byte) {
	t.Helper()
	var blob bytes.Buffer
	w := NewPackWriter(&blob)
	for i, c := range contents {
		e := Entry{Path: "f" + string(rune('0'+i)), Type: File, Perm: 0o644, Size: int64(len(c))}
		if err := w.Add(e, bytes.NewReader(c)); err != nil {
			t.Fatal(err)
		}
	}
	p, err := w.Close()
	if err != nil {
		t.Fatal(err)
	}
	p.Bind("test", "test", bytes.NewReader(blob.Bytes()))
	return p, blob.Bytes()
}

func noise(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}

func TestPackHoldsContentAligned(t *testing.T) {
	contents := [][]byte{{}, []byte("x"), noise(Align - 1), noise(Align), noise(Align + 1), noise(ChunkSize), noise(3*ChunkSize + 17)}
	pack, data := packOf(t, contents...)
	if int64(len(data)) != pack.Size || pack.Size%Align != 0 {
		t.Errorf("blob has %d bytes, pack.Size %d; want equal multiples of %d", len(data), pack.Size, Align)
	}
	for i, e := range pack.Entries {
		got := filetest.ReadAll(t, e.Content())
		if !bytes.Equal(got, contents[i]) {
			t.Errorf("%s: content differs", e.Path)
		}
		if e.SHA256 != sha256.Sum256(contents[i]) || e.Offset%Align != 0 {
			t.Errorf("%s: digest %s at offset %d; want the content's, aligned", e.Path, e.SHA256, e.Offset)
		}
	}
	if diff := cmp.Diff(Bytes("", data).Chunks, pack.Chunks); diff != "" {
		t.Errorf("chunks (-want +got):\n%s", diff)
	}
}

func TestReadChunkRefusesAFlippedBit(t *testing.T) {
	pack, data := packOf(t, noise(2*ChunkSize))
	data[ChunkSize+5] ^= 1
	_, err := io.ReadAll(pack.Entries[0].Content())
	if corrupt, ok := errors.AsType[*CorruptError](err); !ok || corrupt.Chunk != 1 {
		t.Errorf("reading = %v; want a CorruptError of chunk 1", err)
	}
}

func TestPackWriterRefusesWrongSizes(t *testing.T) {
	for _, test := range []struct {
		size    int64
		content string
		want    string
	}{
		{5, "four", "ends after 4 of 5 bytes"},
		{3, "four", "longer than 3 bytes"},
		{0, "four", ""}, // a reader is not touched where no content is expected
	} {
		w := NewPackWriter(io.Discard)
		err := w.Add(Entry{Path: "f", Type: File, Size: test.size}, strings.NewReader(test.content))
		if (err == nil) != (test.want == "") || (err != nil && !strings.Contains(err.Error(), test.want)) {
			t.Errorf("Add(size %d of %q) = %v; want %q", test.size, test.content, err, test.want)
		}
		if _, closeErr := w.Close(); (closeErr == nil) != (err == nil) {
			t.Errorf("Close after Add = %v is %v; a failed writer must stay failed", err, closeErr)
		}
	}
}

func FuzzComparePathsIsAnOrder(f *testing.F) {
	f.Add("a/b", "a-b", "a")
	f.Add(".", "a", "a/b")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		if ComparePaths(a, b) != 0 && (ComparePaths(a, b) < 0) == (ComparePaths(b, a) < 0) {
			t.Errorf("ComparePaths(%q, %q) is not antisymmetric", a, b)
		}
		s := []string{a, b, c}
		slices.SortFunc(s, ComparePaths)
		if ComparePaths(s[0], s[2]) > 0 {
			t.Errorf("ComparePaths is not transitive on %q", s)
		}
	})
}
