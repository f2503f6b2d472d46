package mirror

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/progress"
	"github.com/nodebake/bake/bake/source/fetch"
	"github.com/nodebake/bake/bake/source/store"
	"github.com/nodebake/bake/test/filetest"
	"github.com/nodebake/bake/test/must"
)

// The entry that every fault is about.
const victim = "kubelet v1.36.3 amd64"

// offline returns a fetcher with an empty store that asks nothing but the
// mirror at location.
func offline(t *testing.T, location string, change ...func(*fetch.Config)) (*fetch.Fetcher, *store.Store) {
	t.Helper()
	m, err := Open(t.Context(), location, fromWeb)
	if err != nil {
		t.Fatal(err)
	}
	st := must.Get(store.Open(t.TempDir()))
	t.Cleanup(func() { st.Close() })
	c := fetch.Config{
		Store: st, Mirror: m, Offline: true, Retries: 1, Backoff: time.Millisecond, Jitter: func() float64 { return 0 },
		Answer: 30 * time.Second, // of a busy machine
	}
	for _, f := range change {
		f(&c)
	}
	f, err := fetch.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return f, st
}

// requests returns what an offline bake asks for: every entry, by digest alone.
func (w *world) requests() []fetch.Request {
	var reqs []fetch.Request
	for _, e := range w.index.Entries {
		sums := []manifest.Digest{e.SHA256}
		if e.SHA512 != "" {
			sums = []manifest.Digest{e.SHA512} // as publishers of releases state them
		}
		reqs = append(reqs, fetch.Request{Name: e.Name, URLs: []string{"http://origin.invalid/" + e.Name}, Sums: sums, Size: e.Size})
	}
	return reqs
}

// wantStored fails unless the store has the entries of w but the one called
// without, and nothing else.
func (w *world) wantStored(t *testing.T, what string, st *store.Store, without string) {
	t.Helper()
	want := map[string]bool{}
	for _, e := range w.index.Entries {
		if e.Name == without {
			if _, ok := st.Path(e.SHA256); ok {
				t.Errorf("%s: the store kept %s", what, e.Name)
			}
			continue
		}
		want[e.SHA256.Hex()] = true
		f, err := st.OpenFile(context.Background(), e.SHA256)
		if err != nil {
			t.Errorf("%s: %s: %v", what, e.Name, err)
			continue
		}
		f.Close()
	}
	err := filepath.WalkDir(filepath.Join(st.Dir(), "files", "sha256"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && !want[d.Name()] {
			t.Errorf("%s: the store has %s, which nobody asked for", what, path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestFetchFromMirror(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := newWorld()
	w.write(t, dir)
	server := httptest.NewServer(http.FileServer(http.Dir(dir)))
	defer server.Close()
	below := httptest.NewServer(http.StripPrefix("/a b/mirror", http.FileServer(http.Dir(dir))))
	defer below.Close()
	odd := filepath.Join(t.TempDir(), "a b#c?d%20é&")
	w.write(t, odd)
	for _, location := range []string{dir, dir + "/", filepath.Dir(dir) + "//" + filepath.Base(dir), odd, server.URL, server.URL + "/", below.URL + "/a%20b/mirror"} {
		f, st := offline(t, location)
		if err := f.Preflight(t.Context(), w.requests()); err != nil {
			t.Errorf("Preflight from %s = %v", location, err)
		}
		if err := f.Fetch(t.Context(), w.requests()); err != nil {
			t.Errorf("Fetch from %s = %v", location, err)
		}
		w.wantStored(t, location, st, "")
	}
}

// TestDamagedMirror damages one file. Check must find it, and a bake from the
// directory and from a server of it must name the entry and keep nothing of it.
func TestDamagedMirror(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		damage func(t *testing.T, w *world, dir, file string)
		kind   string // that Check finds
		check  string // in what Check says
		local  string // in what fetching from the directory says
		remote string // the same from a server; empty: it follows what it likes
	}{{
		name:   "missing file",
		damage: func(t *testing.T, _ *world, _, file string) { try(t, os.Remove(file)) },
		kind:   Missing, check: "is missing", local: "no such file", remote: "404 Not Found",
	}, {
		name: "altered byte",
		damage: func(t *testing.T, w *world, _, file string) {
			b := bytes.Clone(w.blobs[w.entry(t, victim).SHA256])
			b[len(b)-1] ^= 1
			try(t, os.WriteFile(file, b, 0o644))
		},
		kind: Altered, check: "is altered", local: "is damaged", remote: "is damaged",
	}, {
		name: "swapped file",
		damage: func(t *testing.T, w *world, _, file string) {
			try(t, os.WriteFile(file, w.blobs[w.entry(t, "runc v1.0.0 amd64").SHA256], 0o644))
		},
		kind: Swapped, check: `has the bytes of "runc v1.0.0 amd64"`, local: "is damaged", remote: "is damaged",
	}, {
		name:   "half-copied",
		damage: func(t *testing.T, _ *world, _, file string) { try(t, os.Truncate(file, 150_000)) },
		kind:   WrongSize, check: "has 150000 bytes, want 300000", local: "is 150000 bytes, want 300000", remote: "is 150000 bytes, want 300000",
	}, {
		name:   "emptied",
		damage: func(t *testing.T, _ *world, _, file string) { try(t, os.Truncate(file, 0)) },
		kind:   WrongSize, check: "has 0 bytes", local: "is 0 bytes", remote: "is 0 bytes",
	}, {
		name: "longer",
		damage: func(t *testing.T, w *world, _, file string) {
			try(t, os.WriteFile(file, append(bytes.Clone(w.blobs[w.entry(t, victim).SHA256]), 'x'), 0o644))
		},
		kind: WrongSize, check: "has 300001 bytes", local: "is 300001 bytes", remote: "is 300001 bytes",
	}, {
		name:   "link out of the tree",
		damage: func(t *testing.T, w *world, _, file string) { relink(t, file) },
		kind:   Foreign, check: "symbolic link", local: "symbolic link",
	}, {
		name: "link to nothing",
		damage: func(t *testing.T, _ *world, _, file string) {
			try(t, os.Remove(file))
			try(t, os.Symlink("nothing", file))
		},
		kind: Foreign, check: "symbolic link", local: "symbolic link", remote: "404 Not Found",
	}, {
		name: "a directory",
		damage: func(t *testing.T, _ *world, _, file string) {
			try(t, os.Remove(file))
			try(t, os.Mkdir(file, 0o755))
		},
		kind: Foreign, check: "no regular file", local: "is a directory", remote: "bytes, want 300000",
	}} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			w := newWorld()
			w.write(t, dir)
			test.damage(t, w, dir, blobFile(dir, w.entry(t, victim)))

			r := must.Get(Check(t.Context(), dir, 2, progress.Discard{}))
			if len(r.Problems) != 1 || r.Problems[0].Kind != test.kind {
				t.Fatalf("Check = %+v; want one problem %q", r.Problems, test.kind)
			}
			for _, want := range []string{victim, "set kubernetes-1.36", test.check, "make the mirror again"} {
				if !strings.Contains(r.Err().Error(), want) {
					t.Errorf("Check = %v; want %q in it", r.Err(), want)
				}
			}

			server := httptest.NewServer(http.FileServer(http.Dir(dir)))
			defer server.Close()
			for location, want := range map[string]string{dir: test.local, server.URL: test.remote} {
				if want == "" {
					continue
				}
				f, st := offline(t, location)
				wantNamed(t, "Fetch from "+location, f.Fetch(t.Context(), w.requests()), want, location)
				w.wantStored(t, location, st, victim)
			}
		})
	}
}

// relink moves a file out of the mirror and leaves a link to it.
func relink(t *testing.T, path string) {
	t.Helper()
	outside := filepath.Join(t.TempDir(), "outside")
	try(t, os.Rename(path, outside))
	try(t, os.Symlink(outside, path))
}

func try(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wantNamed fails unless err names the victim, the mirror, what is wrong and
// what to do.
func wantNamed(t *testing.T, what string, err error, want, location string) {
	t.Helper()
	unreachable, digest := (*fetch.UnreachableError)(nil), (*fetch.DigestError)(nil)
	if !errors.As(err, &unreachable) && !errors.As(err, &digest) {
		t.Errorf("%s = %v; want an UnreachableError or a DigestError", what, err)
		return
	}
	for _, want := range []string{victim, want, location} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%s = %v; want %q in it", what, err, want)
		}
	}
	if strings.Contains(err.Error(), "bash") || strings.Contains(err.Error(), "runc v1") {
		t.Errorf("%s = %v; want nothing else named", what, err)
	}
}

// TestDirectoryOutside has the directory of all blobs lead out of the mirror.
func TestDirectoryOutside(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"blobs", "blobs/sha256"} {
		dir := t.TempDir()
		w := newWorld()
		w.write(t, dir)
		relink(t, filepath.Join(dir, filepath.FromSlash(name)))
		r := must.Get(Check(t.Context(), dir, 2, progress.Discard{}))
		if len(r.Problems) != len(w.blobs) || !strings.Contains(r.Err().Error(), "leads out of the mirror") || !slices.Contains(r.Extra, name) {
			t.Errorf("%s outside: Check = %v, extra %q; want a problem for each of %d blobs", name, r.Err(), r.Extra, len(w.blobs))
		}
		f, st := offline(t, dir)
		for what, err := range map[string]error{"Fetch": f.Fetch(t.Context(), w.requests()), "Preflight": f.Preflight(t.Context(), w.requests())} {
			if err == nil || strings.Count(err.Error(), "leads out of the mirror") < len(w.blobs) {
				t.Errorf("%s outside: %s = %v; want an error for each of %d blobs", name, what, err, len(w.blobs))
			}
		}
		for sum := range w.blobs {
			if _, ok := st.Path(sum); ok {
				t.Errorf("%s outside: the store has %s", name, sum)
			}
		}
	}
}

// TestStaleIndex has an index of before with the blobs of after, and the other
// way round, as a copy does that was made while the mirror changed.
func TestStaleIndex(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	worlds := states()
	worlds[0].write(t, dir)
	old := must.Get(os.ReadFile(filepath.Join(dir, indexFile)))
	worlds[1].write(t, dir)
	added := worlds[1].entry(t, "new 1 amd64")

	// An older index with newer blobs is as good as it was.
	newer := must.Get(os.ReadFile(filepath.Join(dir, indexFile)))
	try(t, os.WriteFile(filepath.Join(dir, indexFile), old, 0o644))
	r := must.Get(Check(t.Context(), dir, 2, progress.Discard{}))
	if r.Err() != nil || !slices.Equal(r.Extra, []string{blobPath(added.SHA256)}) {
		t.Errorf("Check of an older index = %v, extra %q; want the new blob as extra", r.Err(), r.Extra)
	}
	f, st := offline(t, dir)
	if f.Mirrored(fetch.Request{Sums: []manifest.Digest{added.SHA256}}) {
		t.Error("Mirrored = true for what the index does not name")
	}
	err := f.Fetch(t.Context(), worlds[1].requests())
	if err == nil || !strings.Contains(err.Error(), "new 1 amd64 is not in the mirror "+dir) {
		t.Errorf("Fetch by an older index = %v; want the new entry named", err)
	}
	worlds[0].wantStored(t, "older index", st, "")

	// A newer index than the blobs.
	try(t, os.WriteFile(filepath.Join(dir, indexFile), newer, 0o644))
	try(t, os.Remove(blobFile(dir, added)))
	r = must.Get(Check(t.Context(), dir, 2, progress.Discard{}))
	if len(r.Problems) != 1 || r.Problems[0].Kind != Missing || r.Problems[0].Name != added.Name {
		t.Errorf("Check of an index whose blob was pruned = %v", r.Err())
	}
	f, st = offline(t, dir)
	err = f.Fetch(t.Context(), worlds[1].requests())
	if err == nil || !strings.Contains(err.Error(), added.Name) || !strings.Contains(err.Error(), "bake mirror check") {
		t.Errorf("Fetch of a blob that was pruned = %v; want the entry named", err)
	}
	worlds[1].wantStored(t, "newer index", st, added.Name)
}

// TestServerFaults has a server that misbehaves for one file.
func TestServerFaults(t *testing.T) {
	t.Parallel()
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "elsewhere") }))
	defer elsewhere.Close()
	content := newWorld().blobs[newWorld().entry(t, victim).SHA256]
	for name, test := range map[string]struct {
		serve   func(w http.ResponseWriter, r *http.Request)
		want    string
		passing bool // it may pass
	}{
		"says it is longer, sends what there is": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "400000")
			_, _ = w.Write(content)
		}, "is 400000 bytes, want 300000", false},
		"says it is shorter": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			_, _ = w.Write(content[:1000])
		}, "is 1000 bytes, want 300000", false},
		"says the right length, sends half": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "300000")
			if r.Method == http.MethodGet && r.Header.Get("Range") == "" {
				_, _ = w.Write(content[:150_000])
				_ = http.NewResponseController(w).Flush()
			}
			panic(http.ErrAbortHandler)
		}, "EOF", true},
		"sends more without a length": {func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write(content)
			_ = http.NewResponseController(w).Flush()
			_, _ = w.Write([]byte("more"))
		}, "longer", false},
		"sends other bytes": {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(filetest.Noise("9", 300_000)) }, "is damaged", false},
		"hangs":             {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, "not a byte came for 200ms", true},
		"hangs in the middle": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "300000")
			if r.Header.Get("Range") == "" {
				_, _ = w.Write(content[:150_000])
				_ = http.NewResponseController(w).Flush()
			}
			<-r.Context().Done()
		}, "not a byte came for 200ms", true},
		"redirects to elsewhere": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere.URL+"/kubelet", http.StatusFound)
		}, "redirects to " + elsewhere.URL + "/kubelet, which is not followed", false},
		"redirects to a file": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "file:///etc/passwd", http.StatusFound)
		}, "redirects to file:///etc/passwd, which is not followed", false},
		"forbids":      {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }, "403 Forbidden", false},
		"fails":        {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }, "500 Internal Server Error", true},
		"sends a page": {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>please log in</html>") }, "is 26 bytes, want 300000", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			w := newWorld()
			w.write(t, dir)
			path := "/" + blobPath(w.entry(t, victim).SHA256)
			good := http.FileServer(http.Dir(dir))
			server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				if r.URL.Path == path {
					test.serve(rw, r)
				} else {
					good.ServeHTTP(rw, r)
				}
			}))
			defer server.Close()
			if !test.passing {
				f, st := offline(t, server.URL)
				wantNamed(t, "Fetch", f.Fetch(t.Context(), w.requests()), test.want, server.URL)
				w.wantStored(t, name, st, victim)
				return
			}
			// What may pass ends the work, with the rest for the next run.
			f, st := offline(t, server.URL, func(c *fetch.Config) {
				if strings.HasPrefix(name, "hangs") {
					c.Stall = 200 * time.Millisecond
				}
			})
			reqs := slices.DeleteFunc(w.requests(), func(r fetch.Request) bool { return r.Name != victim })
			wantNamed(t, "Fetch", f.Fetch(t.Context(), reqs), test.want, server.URL)
			if _, ok := st.Path(w.entry(t, victim).SHA256); ok {
				t.Error("the store kept it")
			}
		})
	}
}
