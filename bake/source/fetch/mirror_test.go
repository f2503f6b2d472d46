package fetch

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/manifest/manifesttest"
	"github.com/nodebake/bake/bake/tree"
	"github.com/nodebake/bake/test/filetest"
	"github.com/nodebake/bake/test/must"
)

// index is a Mirror whose files are known by one digest each.
type index struct {
	base  string
	files map[manifest.Digest]string // to the path below base
}

func (x *index) URL(sums []manifest.Digest) (string, bool) {
	for _, sum := range sums {
		if path, ok := x.files[sum]; ok {
			return x.base + path, true
		}
	}
	return "", false
}

func (x *index) Base() string   { return x.base }
func (x *index) String() string { return redact(x.base) }

// mirroring makes a Fetcher ask a mirror at base, which has content as "blob".
func mirroring(base string, offline bool, contents ...[]byte) func(*Config) {
	x := &index{base: base, files: map[manifest.Digest]string{}}
	for _, c := range contents {
		x.files[manifesttest.Digest(c)] = "blob"
	}
	return func(c *Config) { c.Mirror, c.Offline = x, offline }
}

// directory returns a directory with content as "blob", and its URL.
func directory(t *testing.T, content []byte) (dir, base string) {
	t.Helper()
	dir = t.TempDir()
	filetest.Write(t, filepath.Join(dir, "blob"), content)
	return dir, "file://" + filepath.ToSlash(dir) + "/"
}

func TestMirrorFirst(t *testing.T) {
	content := filetest.Noise("content", 300_000)
	origin, mirror := serve(t, content, nil), serve(t, content, nil)
	_, local := directory(t, content)
	for _, base := range []string{mirror.URL + "/", local} {
		for _, urls := range [][]string{{origin.URL}, nil} {
			f := newFetcher(t, mirroring(base, false, content))
			req := request(content, urls...)
			if !f.Mirrored(req) {
				t.Errorf("Mirrored of what %s has = false", base)
			}
			if err := f.Preflight(t.Context(), []Request{req}); err != nil {
				t.Errorf("Preflight from %s = %v", base, err)
			}
			if err := f.Fetch(t.Context(), []Request{req}); err != nil {
				t.Errorf("Fetch from %s = %v", base, err)
			}
			wantStored(t, f, content)
			if f.notes() != "" {
				t.Errorf("notes = %q; want none", f.notes())
			}
		}
	}
	if got := origin.requests.Load(); got != 0 {
		t.Errorf("the origin saw %d requests; want none", got)
	}
	f := newFetcher(t)
	if f.Mirrored(request(content)) {
		t.Error("Mirrored without a mirror = true")
	}
}

// TestMirrorFails has the origin help out where the mirror may be wrong, and
// nobody where nothing else may be asked.
func TestMirrorFails(t *testing.T) {
	content, other := filetest.Noise("content", 300_000), filetest.Noise("content", 300_001)[1:]
	origin := serve(t, content, nil)
	missing := serve(t, nil, func(_ *server, _ int64, w http.ResponseWriter, r *http.Request) bool {
		http.NotFound(w, r)
		return true
	})
	wrong := serve(t, other, nil)
	short := serve(t, content[:1000], nil)
	_, wrongDir := directory(t, other)
	_, shortDir := directory(t, content[:1000])
	emptyDir := "file://" + filepath.ToSlash(t.TempDir()) + "/"
	for _, test := range []struct {
		name, base string
		note       string // with the origin
		err        string // without
	}{
		{"server without the file", missing.URL + "/", "404 Not Found; trying the next URL", "404 Not Found; the mirror " + missing.URL + "/ is not as its index says"},
		{"server with other bytes", wrong.URL + "/", "is damaged: copy or make it again (where its directory is, `bake mirror check DIR` says what else is wrong)", "is damaged: copy or make it again (where its directory is, `bake mirror check DIR` says what else is wrong)"},
		{"server with half of it", short.URL + "/", "is 1000 bytes, want 300000 bytes", "is 1000 bytes, want 300000 bytes"},
		{"directory without the file", emptyDir, "no such file or directory; trying the next URL", "is not as its index says: copy or make it again (where its directory is, `bake mirror check DIR` says what else is wrong)"},
		{"directory with other bytes", wrongDir, "is damaged: copy or make it again (where its directory is, `bake mirror check DIR` says what else is wrong)", "is damaged: copy or make it again (where its directory is, `bake mirror check DIR` says what else is wrong)"},
		{"directory with half of it", shortDir, "is 1000 bytes, want 300000 bytes", "is 1000 bytes, want 300000 bytes"},
	} {
		f := newFetcher(t, mirroring(test.base, false, content))
		if err := f.Preflight(t.Context(), []Request{request(content, origin.URL)}); err != nil {
			t.Errorf("%s: Preflight = %v; want nil, since the origin has it", test.name, err)
		}
		if err := f.Fetch(t.Context(), []Request{request(content, origin.URL)}); err != nil {
			t.Errorf("%s: Fetch = %v", test.name, err)
		}
		wantStored(t, f, content)
		if !strings.Contains(f.notes(), test.note) || !strings.Contains(f.notes(), "kubelet v1.36.3") {
			t.Errorf("%s: notes = %q; want %q in them", test.name, f.notes(), test.note)
		}

		before := origin.requests.Load()
		for _, size := range []int64{0, int64(len(content))} {
			f = newFetcher(t, mirroring(test.base, true, content))
			req := request(content, origin.URL)
			req.Size = size
			err := f.Fetch(t.Context(), []Request{req})
			want := test.err
			if size == 0 {
				want = strings.Replace(want, "is 1000 bytes, want 300000 bytes", "is damaged", 1)
			}
			if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "kubelet v1.36.3") {
				t.Errorf("%s: Fetch offline = %v; want an error with %q", test.name, err, want)
			}
			// Preflight sees what HEAD shows.
			if err := f.Preflight(t.Context(), []Request{req}); err != nil && !strings.Contains(err.Error(), "is not as its index says: copy or make it again (where its directory is, `bake mirror check DIR` says what else is wrong)") {
				t.Errorf("%s: Preflight offline = %v; want an error that names the mirror", test.name, err)
			} else if err == nil && strings.Contains(test.err, "want 300000") && size > 0 {
				t.Errorf("%s: Preflight offline = nil", test.name)
			}
			wantNothing(t, f)
			if left := filetest.Names(t, filepath.Join(f.config.Store.Dir(), "partial")); len(left) > 0 {
				t.Errorf("%s: partial holds %q", test.name, left)
			}
		}
		if origin.requests.Load() != before {
			t.Errorf("%s: the origin was asked", test.name)
		}
	}
}

func TestMirrorLacks(t *testing.T) {
	content := filetest.Noise("content", 1000)
	origin := serve(t, content, nil)
	mirror := serve(t, nil, nil)
	f := newFetcher(t, mirroring(mirror.URL+"/", false))
	if err := f.Fetch(t.Context(), []Request{request(content, origin.URL)}); err != nil {
		t.Fatal(err)
	}
	wantStored(t, f, content)
	if want := "the mirror " + mirror.URL + "/ lacks 1 of 1 files, which are fetched from elsewhere: kubelet v1.36.3"; f.notes() != want {
		t.Errorf("notes = %q; want %q", f.notes(), want)
	}

	f = newFetcher(t, mirroring(mirror.URL+"/", true))
	origin.requests.Store(0)
	_, openErr := f.Open(t.Context(), request(content, origin.URL))
	for what, err := range map[string]error{
		"Preflight": f.Preflight(t.Context(), []Request{request(content, origin.URL)}),
		"Fetch":     f.Fetch(t.Context(), []Request{request(content, origin.URL), {Name: "runc", Sums: []manifest.Digest{manifesttest.Digest("")}}}),
		"Open":      openErr,
	} {
		if unreachable, ok := errors.AsType[*UnreachableError](err); !ok || unreachable.Lacking != mirror.URL+"/" {
			t.Errorf("%s offline = %v; want an UnreachableError of the mirror", what, err)
			continue
		}
		if !strings.Contains(err.Error(), "kubelet v1.36.3 is not in the mirror "+mirror.URL) {
			t.Errorf("%s offline = %v; want the file and the mirror named", what, err)
		}
		if what == "Fetch" && !strings.Contains(err.Error(), "runc is not in the mirror") {
			t.Errorf("Fetch offline = %v; want every file named", err)
		}
	}
	if got := origin.requests.Load() + mirror.requests.Load(); got != 0 {
		t.Errorf("%d requests were sent; want none", got)
	}
	if _, err := New(Config{Store: f.config.Store, Offline: true}); err == nil || !strings.Contains(err.Error(), "--mirror") {
		t.Errorf("New offline without a mirror = %v; want an error", err)
	}
}

// TestMirrorDown checks that a mirror that hangs is waited for by those who are
// at it, and asked last by others.
func TestMirrorDown(t *testing.T) {
	hangs := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	defer hangs.Close()
	var origins []Request
	var contents [][]byte
	for i := range 40 {
		content := filetest.Noise("content", 1000+i)
		contents = append(contents, content)
		origins = append(origins, request(content, serve(t, content, nil).URL))
	}
	f := newFetcher(t, mirroring(hangs.URL+"/", false, contents...), func(c *Config) { c.Stall, c.Parallel = 300*time.Millisecond, 4 })
	began := time.Now()
	if err := f.Fetch(t.Context(), origins); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("Fetch took %v; want little more than 300 ms", took)
	}
	if got := strings.Count(f.notes(), "it is asked last from here on"); got != 1 {
		t.Errorf("notes say %d times that the mirror is down; want once:\n%s", got, f.notes())
	}
	// Where nothing else has the file, it is asked after all.
	_, err := f.Open(t.Context(), request(filetest.Noise("content", 5), refused(t)))
	if err == nil {
		t.Error("Open of what nobody has = nil")
	}
}

// TestFileURLs refuses what is not below the mirror's directory.
func TestFileURLs(t *testing.T) {
	content := filetest.Noise("content", 1000)
	dir, base := directory(t, content)
	secret := filepath.Join(t.TempDir(), "secret")
	for _, err := range []error{
		os.WriteFile(secret, content, 0o644),
		os.Symlink(secret, filepath.Join(dir, "link")),
		os.Symlink("blob", filepath.Join(dir, "inner")),
		os.Symlink(filepath.Dir(secret), filepath.Join(dir, "linked")),
		os.Mkdir(filepath.Join(dir, "sub"), 0o755),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	sibling := strings.TrimSuffix(base, "/") + "-other/blob"
	for _, test := range []struct{ url, want string }{
		{"file://" + secret, "below a mirror's directory only"},
		{base + "../" + filepath.Base(filepath.Dir(secret)) + "/secret", "below a mirror's directory only"},
		{base + "sub/../../x", "below a mirror's directory only"},
		{base + "%2e%2e/x", "below a mirror's directory only"},
		{sibling, "below a mirror's directory only"},
		{base, "below a mirror's directory only"},
		{strings.Replace(base, "file://", "file://host", 1) + "blob", "below a mirror's directory only"},
		{base + "link", "symbolic link"},
		{base + "inner", "symbolic link"},
		{base + "linked/secret", "leads out of the mirror"},
		{base + "sub", "it is a directory"},
		{base + "missing", "no such file"},
		{base + "sub/missing/missing", "no such file"},
	} {
		f := newFetcher(t, mirroring(base, false))
		for what, err := range map[string]error{
			"Fetch":     f.Fetch(t.Context(), []Request{request(content, test.url)}),
			"Preflight": f.Preflight(t.Context(), []Request{request(content, test.url)}),
			"Get":       second(f.Get(t.Context(), []string{test.url}, 5000, nil)),
		} {
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%s of %s = %v; want an error with %q", what, test.url, err, test.want)
			}
		}
		wantNothing(t, f)
	}
	// Without a mirror there are none.
	f := newFetcher(t)
	if err := f.Fetch(t.Context(), []Request{request(content, base+"blob")}); err == nil || !strings.Contains(err.Error(), "below a mirror's directory only") {
		t.Errorf("Fetch of a file URL without a mirror = %v; want an error", err)
	}
	if os.Getuid() != 0 { // root may read everything
		must.Do(os.Chmod(filepath.Join(dir, "blob"), 0))
		f := newFetcher(t, mirroring(base, true, content))
		if err := f.Fetch(t.Context(), []Request{request(content)}); err == nil || !strings.Contains(err.Error(), "permission denied") {
			t.Errorf("Fetch of an unreadable file = %v; want an error that says so", err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func TestGetFromMirror(t *testing.T) {
	content := []byte("{}\n")
	var asked atomic.Int64
	origin := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	defer origin.Close()
	_, local := directory(t, content)
	for _, base := range []string{local, serve(t, content, nil).URL + "/"} {
		f := newFetcher(t, mirroring(base, true))
		if got, err := f.Get(t.Context(), []string{base + "blob"}, 100, nil); err != nil || string(got) != string(content) {
			t.Errorf("Get from %s = %q, %v", base, got, err)
		}
		if _, err := f.Get(t.Context(), []string{base + "blob"}, 2, nil); err == nil || !strings.Contains(err.Error(), "at most 2") {
			t.Errorf("Get from %s with a limit = %v; want an error", base, err)
		}
		_, err := f.Get(t.Context(), []string{origin.URL + "/blob"}, 100, nil)
		if err == nil || !strings.Contains(err.Error(), "--offline") {
			t.Errorf("Get from elsewhere, offline = %v; want an error", err)
		}
	}
	if asked.Load() != 0 {
		t.Error("the origin was asked")
	}
}

// TestMirrorContinues has half of a file from the origin, the rest from a
// mirror, and the other way round.
func TestMirrorContinues(t *testing.T) {
	content := filetest.Noise("content", 1_000_000)
	half := serve(t, content, func(_ *server, n int64, w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Range") == "" {
			cut(w, http.StatusOK, len(content), content[:500_000])
		}
		http.Error(w, "", http.StatusGone)
		return true
	})
	whole := serve(t, content, nil)
	_, local := directory(t, content)
	for _, bases := range [][2]string{{half.URL, whole.URL}, {local, half.URL}, {half.URL, local}} {
		f := newFetcher(t, func(c *Config) { c.Retries = 0 })
		if strings.HasPrefix(bases[0], "http") {
			if err := f.Fetch(t.Context(), []Request{request(content, half.URL)}); err == nil {
				t.Fatal("BUG: half a file is enough")
			}
		}
		base := strings.TrimSuffix(bases[1], "/") + "/"
		if strings.HasPrefix(bases[0], "file") {
			base = bases[0]
		}
		g := newFetcher(t, mirroring(base, true, content), func(c *Config) { c.Store = f.config.Store })
		if err := g.Fetch(t.Context(), []Request{request(content)}); err != nil {
			t.Errorf("%v: Fetch = %v", bases, err)
		}
		wantStored(t, g, content)
	}
	if got := whole.rangesSeen(); !cmp.Equal(got, []string{"bytes=500000-"}) {
		t.Errorf("the server saw the ranges %q; want it to continue", got)
	}
}

// TestPasswords keeps the passwords of URLs out of what people see.
func TestPasswords(t *testing.T) {
	content := filetest.Noise("content", 1000)
	wrong := serve(t, filetest.Noise("content", 1001)[1:], nil)
	missing := serve(t, nil, func(_ *server, n int64, w http.ResponseWriter, r *http.Request) bool {
		if n%2 == 0 {
			http.Redirect(w, r, "ftp://user:hunter2@example.com/", http.StatusFound)
		} else {
			http.NotFound(w, r)
		}
		return true
	})
	for _, server := range []string{wrong.URL, missing.URL, refused(t)} {
		secret := strings.Replace(server, "://", "://user:hunter2@", 1) + "/"
		for _, offline := range []bool{false, true} {
			f := newFetcher(t, mirroring(secret, offline, content))
			for what, err := range map[string]error{
				"Fetch":     f.Fetch(t.Context(), []Request{request(content, secret+"origin")}),
				"Preflight": f.Preflight(t.Context(), []Request{request(filetest.Noise("content", 7), secret+"origin")}),
				"Get":       second(f.Get(t.Context(), []string{secret + "x", "http://user:hunter2@exa mple.com/"}, 1, nil)),
			} {
				if err == nil || strings.Contains(err.Error(), "hunter2") {
					t.Errorf("%s = %v; want an error without the password", what, err)
				}
			}
			if strings.Contains(f.notes(), "hunter2") {
				t.Errorf("notes = %q; want them without the password", f.notes())
			}
		}
	}
}

// TestPackWithoutURLs unpacks what only a mirror has.
func TestPackWithoutURLs(t *testing.T) {
	content := filetest.Noise("content", 1000)
	_, base := directory(t, content)
	f := newFetcher(t, mirroring(base, true, content))
	pack, err := f.Pack(t.Context(), request(content), "component kubelet", []manifest.File{{Path: "/usr/bin/kubelet"}})
	if err != nil {
		t.Fatal(err)
	}
	if len(pack.Entries) == 0 || pack.Entries[len(pack.Entries)-1].Type != tree.File {
		t.Errorf("Pack = %v; want the file", pack.Entries)
	}
}
