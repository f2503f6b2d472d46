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
	"github.com/nodebake/bake/test/filetest"
	"github.com/nodebake/bake/test/must"
)

func TestDamagedDownload(t *testing.T) {
	content := bytes.Repeat([]byte("containerd"), 300_000)
	for _, sum := range []manifest.Digest{manifesttest.Digest(content), manifesttest.Digest512(content)} {
		t.Run(sum.Algorithm(), func(t *testing.T) {
			s := open(t, t.TempDir())
			path, err := s.Add(t.Context(), []manifest.Digest{sum}, bytes.NewReader(content))
			if err != nil {
				t.Fatal(err)
			}
			filetest.FlipAt(t, path, 1_234_567)
			damaged := (*DamagedError)(nil)
			if _, err := s.OpenFile(t.Context(), sum); !errors.As(err, &damaged) || damaged.Path != path {
				t.Fatalf("OpenFile of a damaged file = %v; want a DamagedError for %s", err, path)
			}
			if _, ok := s.Path(sum); ok {
				t.Error("Path still finds the damaged file")
			}
			if _, err := s.Add(t.Context(), []manifest.Digest{sum}, bytes.NewReader(content)); err != nil {
				t.Fatalf("adding it again = %v", err)
			}
			f, err := s.OpenFile(t.Context(), sum)
			if err != nil {
				t.Fatalf("OpenFile after repair = %v", err)
			}
			f.Close()
		})
	}
}

func TestDamagedRecord(t *testing.T) {
	s := open(t, t.TempDir())
	a, b := []byte("this file"), []byte("another file")
	for _, content := range [][]byte{a, b} {
		if _, err := s.Add(t.Context(), []manifest.Digest{manifesttest.Digest512(content)}, bytes.NewReader(content)); err != nil {
			t.Fatal(err)
		}
	}
	record := s.filePath(manifesttest.Digest512(a))
	for _, text := range []string{"", "sha256:", "sha256:" + manifesttest.Digest(b).Hex() + "junk", string(manifesttest.Digest512(a)), "../../lock"} {
		filetest.Write(t, record, text)
		if path, ok := s.Path(manifesttest.Digest512(a)); ok {
			t.Errorf("Path by the record %q = %s; want nothing", text, path)
		}
	}
	// A record that names another file that is there, intact.
	filetest.Write(t, record, manifesttest.Digest(b)+"\n")
	damaged := (*DamagedError)(nil)
	if _, err := s.OpenFile(t.Context(), manifesttest.Digest512(a)); !errors.As(err, &damaged) || damaged.Path != record {
		t.Errorf("OpenFile by a wrong record = %v; want a DamagedError for %s", err, record)
	}
	if _, ok := s.Path(manifesttest.Digest(b)); !ok {
		t.Error("the file that the wrong record named was removed")
	}
	// The file that the record should have named is still known by SHA-256.
	path, ok, err := s.Find(t.Context(), []manifest.Digest{manifesttest.Digest512(a), manifesttest.Digest(a)})
	if !ok || err != nil {
		t.Errorf("Find = %s, %v, %v; want the file", path, ok, err)
	}
	if got, ok := s.Path(manifesttest.Digest512(a)); !ok || got != path {
		t.Errorf("Path after Find = %s, %v; want the record rebuilt", got, ok)
	}
}

func TestFindMismatch(t *testing.T) {
	s := open(t, t.TempDir())
	content := []byte("runc")
	if _, err := s.Add(t.Context(), []manifest.Digest{manifesttest.Digest(content)}, bytes.NewReader(content)); err != nil {
		t.Fatal(err)
	}
	wrong := (*manifest.DigestError)(nil)
	other := manifesttest.Digest512([]byte("not runc"))
	if _, ok, err := s.Find(t.Context(), []manifest.Digest{manifesttest.Digest(content), other}); ok || !errors.As(err, &wrong) {
		t.Errorf("Find by digests of two files = %v, %v; want a SumError", ok, err)
	}
	if _, err := s.Add(t.Context(), []manifest.Digest{manifesttest.Digest(content), other}, bytes.NewReader(content)); !errors.As(err, &wrong) {
		t.Errorf("Add with digests of two files = %v; want a SumError", err)
	}
	if _, ok := s.Path(other); ok {
		t.Error("Path finds the file by a digest that it does not have")
	}
}

func TestAddRefuses(t *testing.T) {
	s := open(t, t.TempDir())
	content := []byte("kubelet")
	for name, sums := range map[string][]manifest.Digest{
		"wrong digest":   {manifesttest.Digest([]byte("something else"))},
		"wrong SHA-512":  {manifesttest.Digest(content), manifesttest.Digest512([]byte("something else"))},
		"no digest":      nil,
		"malformed":      {"sha256:abc"},
		"path traversal": {"sha256:../../../../../../../../../../../../../../../../../../etc/passwd"},
		"other":          {"md5:d41d8cd98f00b204e9800998ecf8427e"},
	} {
		if path, err := s.Add(t.Context(), sums, bytes.NewReader(content)); err == nil {
			t.Errorf("%s: Add = %s; want an error", name, path)
		}
	}
	for _, dir := range []string{filesDir, partialDir, tmpDir} {
		err := filepath.WalkDir(filepath.Join(s.dir, dir), func(path string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				t.Errorf("%s was left", path)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
}

func TestDamagedValue(t *testing.T) {
	s := open(t, t.TempDir())
	key, other := tree.Digest{1}, tree.Digest{2}
	value := bytes.Repeat([]byte("gzip"), 100_000)
	for name, damage := range map[string]func(path string){
		"flipped in the sum":   func(path string) { filetest.FlipAt(t, path, 3) },
		"flipped in the value": func(path string) { filetest.FlipAt(t, path, 200_000) },
		"cut off":              func(path string) { _ = os.Truncate(path, 1000) },
		"nearly empty":         func(path string) { _ = os.Truncate(path, 5) },
		"empty":                func(path string) { _ = os.Truncate(path, 0) },
		"of another key": func(path string) {
			_ = s.Put(other, value)
			_ = os.Rename(s.valuePath(other), path)
		},
	} {
		if err := s.Put(key, value); err != nil {
			t.Fatal(err)
		}
		if _, ok := s.Get(key); !ok {
			t.Fatalf("%s: Get before = nothing", name)
		}
		damage(s.valuePath(key))
		if got, ok := s.Get(key); ok {
			t.Errorf("%s: Get = %d bytes; want nothing", name, len(got))
		}
		if _, err := os.Stat(s.valuePath(key)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: the damaged value is still there", name)
		}
	}
}

// TestDamagedPack damages index and data in all ways that Pack must notice by
// itself, so that it makes the pack again.
func TestDamagedPack(t *testing.T) {
	s := open(t, t.TempDir())
	dir := s.packPath("key")
	index, data := filepath.Join(dir, "index"), filepath.Join(dir, "data")
	rewrite := func(change func([]byte) []byte) {
		b := filetest.Read(t, index)
		filetest.Write(t, index, change(b))
	}
	made := 0
	get := func() *tree.Pack {
		t.Helper()
		p, err := s.Pack(t.Context(), "key", "x", func(ctx context.Context, w *tree.PackWriter) error {
			made++
			return makeFiles("a", "hello", "b", "world")(ctx, w)
		})
		if err != nil {
			t.Fatalf("Pack = %v", err)
		}
		return p
	}
	size := int64(0)
	for name, damage := range map[string]func(){
		"first byte of the index": func() { filetest.FlipAt(t, index, 0) },
		"middle of the index":     func() { filetest.FlipAt(t, index, size/2) },
		"last byte of the index":  func() { filetest.FlipAt(t, index, size-1) },
		"index cut off":           func() { _ = os.Truncate(index, size-40) },
		"index empty":             func() { _ = os.Truncate(index, 0) },
		"index gone":              func() { _ = os.Remove(index) },
		"index longer":            func() { rewrite(func(b []byte) []byte { return append(b, 0) }) },
		"index of another key": func() {
			p, _, err := decodeIndex(must.Get(os.ReadFile(index)))
			if err != nil {
				t.Fatal(err)
			}
			rewrite(func([]byte) []byte { return must.Get(encodeIndex("other key", p)) })
		},
		"data gone":    func() { _ = os.Remove(data) },
		"data cut off": func() { _ = os.Truncate(data, 4096) },
		"pack gone":    func() { _ = os.RemoveAll(dir) },
	} {
		get()
		info := filetest.Stat(t, index)
		size = info.Size()
		made = 0
		damage()
		if s.HasPack("key") {
			t.Errorf("%s: HasPack = true", name)
		}
		p := get()
		if made != 1 {
			t.Errorf("%s: made %d times; want once", name, made)
		}
		if got := must.Get(io.ReadAll(p.Entries[1].Content())); string(got) != "world" {
			t.Errorf("%s: content is %q after it was rebuilt", name, got)
		}
	}

	// Damaged data of the right length is noticed by who reads it.
	p := get()
	filetest.FlipAt(t, data, 5000) // in the padding of a file
	corrupt := (*tree.CorruptError)(nil)
	if _, err := io.ReadAll(p.Entries[0].Content()); !errors.As(err, &corrupt) {
		t.Errorf("reading damaged data = %v; want a CorruptError", err)
	}
	if err := s.Forget("key"); err != nil {
		t.Fatal(err)
	}
	p = get()
	if got, err := io.ReadAll(p.Entries[0].Content()); err != nil || string(got) != "hello" {
		t.Errorf("content after Forget = %q, %v", got, err)
	}
	if left := leftovers(t, s); len(left) > 0 {
		t.Errorf("tmp holds %q; want nothing", left)
	}
}

func TestPackFails(t *testing.T) {
	s := open(t, t.TempDir())
	broken := errors.New("broken archive")
	for name, make := range map[string]func(context.Context, *tree.PackWriter) error{
		"make fails": func(ctx context.Context, w *tree.PackWriter) error {
			_ = makeFiles("a", "hello")(ctx, w)
			return broken
		},
		"content is short": func(_ context.Context, w *tree.PackWriter) error {
			return errors.Join(broken, w.Add(tree.Entry{Path: "a", Type: tree.File, Size: 10}, bytes.NewReader([]byte("x"))))
		},
		"make overlooks an error": func(_ context.Context, w *tree.PackWriter) error {
			_ = w.Add(tree.Entry{Path: "a", Type: tree.File, Size: 10}, io.MultiReader(bytes.NewReader([]byte("x")), failing{broken}))
			return nil
		},
	} {
		if _, err := s.Pack(t.Context(), "key", "package x", make); !errors.Is(err, broken) {
			t.Errorf("%s: Pack = %v; want %v", name, err, broken)
		}
		if s.HasPack("key") {
			t.Errorf("%s: HasPack = true", name)
		}
	}
	if left := leftovers(t, s); len(left) > 0 {
		t.Errorf("tmp holds %q; want nothing", left)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }
