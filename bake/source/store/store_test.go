package store

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/manifest/manifesttest"
	"github.com/nodebake/bake/bake/tree"
)

func open(t testing.TB, dir string) *Store {
	t.Helper()
	s, err := Open(dir)
	if err != nil {
		t.Fatalf("Open(%s) = %v", dir, err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// makeFiles returns a make function that adds the given files.
func makeFiles(files ...string) func(context.Context, *tree.PackWriter) error {
	return func(_ context.Context, w *tree.PackWriter) error {
		for i := 0; i < len(files); i += 2 {
			e := tree.Entry{Path: files[i], Type: tree.File, Perm: 0o644, Size: int64(len(files[i+1]))}
			if err := w.Add(e, bytes.NewReader([]byte(files[i+1]))); err != nil {
				return err
			}
		}
		return nil
	}
}

// leftovers returns what lies under tmp.
func leftovers(t *testing.T, s *Store) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(s.dir, tmpDir))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestAddPathOpen(t *testing.T) {
	s := open(t, t.TempDir())
	ctx := t.Context()
	content := bytes.Repeat([]byte("runc"), 700_000)
	sums := []manifest.Digest{manifesttest.Digest512(content), manifesttest.Digest(content)}
	for _, sum := range sums {
		if _, ok := s.Path(sum); ok {
			t.Errorf("Path(%s) of an empty store = found", sum)
		}
		if _, err := s.OpenFile(ctx, sum); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("OpenFile(%s) of an empty store = %v; want fs.ErrNotExist", sum, err)
		}
	}
	path, err := s.Add(ctx, sums, bytes.NewReader(content))
	if err != nil {
		t.Fatalf("Add = %v", err)
	}
	for _, sum := range sums {
		if got, ok := s.Path(sum); !ok || got != path {
			t.Errorf("Path(%s) = %s, %v; want %s", sum, got, ok, path)
		}
		f, err := s.OpenFile(ctx, sum)
		if err != nil {
			t.Fatalf("OpenFile(%s) = %v", sum, err)
		}
		got, err := io.ReadAll(f)
		f.Close()
		if err != nil || !bytes.Equal(got, content) {
			t.Errorf("OpenFile(%s) reads %d bytes, %v; want the %d that were added", sum, len(got), err, len(content))
		}
	}
	if left := leftovers(t, s); len(left) > 0 {
		t.Errorf("tmp holds %q after Add; want nothing", left)
	}
	if entries, _ := os.ReadDir(filepath.Join(s.dir, partialDir)); len(entries) > 0 {
		t.Errorf("partial holds %v after Add; want nothing", entries)
	}
}

func TestPack(t *testing.T) {
	s := open(t, t.TempDir())
	ctx := t.Context()
	if s.HasPack("k") {
		t.Error("HasPack of an empty store = true")
	}
	made := 0
	get := func() *tree.Pack {
		t.Helper()
		p, err := s.Pack(ctx, "k", "package x", func(ctx context.Context, w *tree.PackWriter) error {
			made++
			return makeFiles("a", "hello", "b", "")(ctx, w)
		})
		if err != nil {
			t.Fatalf("Pack = %v", err)
		}
		return p
	}
	get()
	p := get()
	if made != 1 {
		t.Errorf("made %d times; want once", made)
	}
	if !s.HasPack("k") {
		t.Error("HasPack = false after Pack")
	}
	got, err := io.ReadAll(p.Entries[0].Content())
	if err != nil || string(got) != "hello" {
		t.Errorf("content = %q, %v; want hello", got, err)
	}
	if p.Entries[0].Owner != "package x" {
		t.Errorf("Origin = %q; want package x", p.Entries[0].Owner)
	}
	if err := s.Forget("k"); err != nil {
		t.Fatal(err)
	}
	if s.HasPack("k") {
		t.Error("HasPack = true after Forget")
	}
	get()
	if made != 2 {
		t.Errorf("made %d times after Forget; want twice", made)
	}
}

func TestValues(t *testing.T) {
	s := open(t, t.TempDir())
	key := tree.Digest{1}
	if _, ok := s.Get(key); ok {
		t.Error("Get of an empty store = found")
	}
	for _, value := range [][]byte{nil, []byte("x"), bytes.Repeat([]byte("y"), 1<<20)} {
		if err := s.Put(key, value); err != nil {
			t.Fatal(err)
		}
		if got, ok := s.Get(key); !ok || !bytes.Equal(got, value) {
			t.Errorf("Get = %d bytes, %v; want the %d bytes put", len(got), ok, len(value))
		}
	}
}
