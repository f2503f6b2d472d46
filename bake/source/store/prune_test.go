package store

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/manifest/manifesttest"
	"github.com/nodebake/bake/bake/tree"
	"github.com/nodebake/bake/test/filetest"
	"github.com/nodebake/bake/test/must"
)

// filled returns a store directory with two entries of each kind, of which the
// second was last used ten days ago.
func filled(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	s := open(t, dir)
	old := s.now.Add(-10 * 24 * time.Hour)
	age := func(i int, path string) {
		if i == 1 {
			must.Do(os.Chtimes(path, old, old))
		}
	}
	for i, name := range []string{"new", "old"} {
		content := bytes.Repeat([]byte(name), 1000)
		age(i, must.Get(s.Add(t.Context(), []manifest.Digest{manifesttest.Digest(content)}, bytes.NewReader(content))))
		if _, err := s.Pack(t.Context(), name, name, makeFiles("a", name)); err != nil {
			t.Fatal(err)
		}
		age(i, filepath.Join(s.packPath(name), "index"))
		key := tree.Digest{byte(i)}
		if err := s.Put(key, content); err != nil {
			t.Fatal(err)
		}
		age(i, s.valuePath(key))
		d := must.Get(s.Download(t.Context(), name, []manifest.Digest{manifesttest.Digest([]byte(name))}))
		if err := d.Reset("http://mirror.example/"+name, ""); err != nil {
			t.Fatal(err)
		}
		_, _ = d.Write([]byte("part"))
		partial := d.file.Name()
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		age(i, partial)
		program := filepath.Join(dir, ProgramsDir, name)
		filetest.Write(t, filepath.Join(program, "usr", "bin", "etcd"), content)
		age(i, program)
	}
	s.Close()
	return dir
}

// entries counts a report without bytes.
func entries(amounts map[Kind]Amount) map[Kind]int {
	n := map[Kind]int{}
	for kind, a := range amounts {
		n[kind] = a.Entries
	}
	return n
}

func TestPrune(t *testing.T) {
	all := map[Kind]int{Downloads: 2, Partials: 2, Packs: 2, Values: 2, Programs: 2}
	one := map[Kind]int{Downloads: 1, Partials: 1, Packs: 1, Values: 1, Programs: 1}
	none := map[Kind]int{}
	for _, test := range []struct {
		name          string
		options       PruneOptions
		removed, kept map[Kind]int
		left          map[Kind]int // counted afterwards
	}{
		{"nothing", PruneOptions{}, none, all, all},
		{"all", PruneOptions{All: true}, all, none, none},
		{"by age", PruneOptions{OlderThan: 9 * 24 * time.Hour}, one, one, one},
		{"by age, none so old", PruneOptions{OlderThan: 11 * 24 * time.Hour}, none, all, all},
		{"dry run", PruneOptions{All: true, DryRun: true}, all, none, all},
		{"one kind", PruneOptions{All: true, Kinds: []Kind{Packs}},
			map[Kind]int{Packs: 2}, none, map[Kind]int{Downloads: 2, Partials: 2, Values: 2, Programs: 2}},
		{"down to a size", PruneOptions{MaxSize: 3032, Kinds: []Kind{Values}},
			map[Kind]int{Values: 1}, map[Kind]int{Values: 1}, map[Kind]int{Downloads: 2, Partials: 2, Packs: 2, Values: 1, Programs: 2}},
		{"down to a size that it has", PruneOptions{MaxSize: 1 << 40}, none, all, all},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := filled(t)
			r, err := Prune(t.Context(), dir, test.options)
			if err != nil {
				t.Fatalf("Prune = %v", err)
			}
			if diff := cmp.Diff(test.removed, entries(r.Removed)); diff != "" {
				t.Errorf("removed (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.kept, entries(r.Kept)); diff != "" {
				t.Errorf("kept (-want +got):\n%s", diff)
			}
			usage, err := Usage(t.Context(), dir)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.left, entries(usage.Kept)); diff != "" {
				t.Errorf("left (-want +got):\n%s", diff)
			}
			if test.options.OlderThan == 9*24*time.Hour {
				s := open(t, dir)
				if !s.HasPack("new") || s.HasPack("old") {
					t.Errorf("HasPack(new), HasPack(old) = %v, %v; want the new one alone", s.HasPack("new"), s.HasPack("old"))
				}
			}
		})
	}
}

func TestPruneBytes(t *testing.T) {
	dir := filled(t)
	usage, err := Usage(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	want := map[Kind]Amount{
		Downloads: {2, 6000},
		Partials:  {2, 8},
		Values:    {2, 6000 + 2*32},
		Programs:  {2, 6000},
		Packs:     usage.Kept[Packs],
	}
	if diff := cmp.Diff(want, usage.Kept); diff != "" {
		t.Errorf("Usage (-want +got):\n%s", diff)
	}
	if got := usage.Kept[Packs]; got.Entries != 2 || got.Bytes < 2*tree.Align || got.Bytes > 2*tree.Align+1000 {
		t.Errorf("Usage of packs = %+v; want two blocks and two indexes", got)
	}
}

func TestPruneOfNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "none")
	if r, err := Prune(t.Context(), dir, PruneOptions{All: true}); err != nil || len(r.Removed) != 0 {
		t.Errorf("Prune of a directory that is not there = %+v, %v; want nothing", r, err)
	}
	if r, err := Usage(t.Context(), dir); err != nil || len(r.Kept) != 0 {
		t.Errorf("Usage of a directory that is not there = %+v, %v; want nothing", r, err)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("the directory was made")
	}
	if _, err := Prune(t.Context(), filled(t), PruneOptions{Kinds: []Kind{"everything"}}); err == nil {
		t.Error("Prune of an unknown kind = nil error")
	}
}

func TestPruneInUse(t *testing.T) {
	dir := filled(t)
	s := open(t, dir)
	if _, err := Prune(t.Context(), dir, PruneOptions{All: true}); !errors.Is(err, ErrInUse) {
		t.Errorf("Prune while a store is open = %v; want ErrInUse", err)
	}
	s.Close()
	if _, err := Prune(t.Context(), dir, PruneOptions{All: true}); err != nil {
		t.Errorf("Prune after Close = %v", err)
	}
}

// TestUseIsRecorded checks that reading an entry keeps it from being pruned,
// and that its time is not written each time.
func TestUseIsRecorded(t *testing.T) {
	dir := filled(t)
	s := open(t, dir)
	path, _ := s.Path(manifesttest.Digest(bytes.Repeat([]byte("old"), 1000)))
	if _, ok := s.Get(tree.Digest{1}); !ok {
		t.Fatal("Get = nothing")
	}
	if !s.HasPack("old") {
		t.Fatal("HasPack = false")
	}
	for _, path := range []string{path, s.valuePath(tree.Digest{1}), filepath.Join(s.packPath("old"), "index")} {
		info := filetest.Stat(t, path)
		if age := s.now.Sub(info.ModTime()); age > time.Minute {
			t.Errorf("%s was last used %v ago; want now", path, age)
		}
	}
	recent := s.now.Add(-touchAfter / 2)
	must.Do(os.Chtimes(path, recent, recent))
	if _, ok := s.Path(manifesttest.Digest(bytes.Repeat([]byte("old"), 1000))); !ok {
		t.Fatal("Path = nothing")
	}
	if info := must.Get(os.Stat(path)); !info.ModTime().Equal(recent) {
		t.Errorf("a recent use was recorded again: %v; want %v", info.ModTime(), recent)
	}
}
