package mirror

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/manifest/manifesttest"
	"github.com/nodebake/bake/test/must"
)

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	good := t.TempDir()
	newWorld().write(t, good)
	empty, noIndex, linked, broken := t.TempDir(), t.TempDir(), t.TempDir(), t.TempDir()
	newWorld().write(t, noIndex)
	try(t, os.Remove(filepath.Join(noIndex, indexFile)))
	newWorld().write(t, linked)
	relink(t, filepath.Join(linked, indexFile))
	newWorld().write(t, broken)
	try(t, os.Truncate(filepath.Join(broken, indexFile), 500))
	server := httptest.NewServer(http.FileServer(http.Dir(empty)))
	defer server.Close()
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") }))
	defer page.Close()
	secret := strings.Replace(server.URL, "://", "://user:hunter2@", 1)
	for _, test := range []struct{ location, want string }{
		{empty, "it is no mirror: it has no mirror.json; make one with `bake mirror"},
		{noIndex, "run it again"},
		{linked, "symbolic link"},
		{broken, "reading mirror.json: it is no index of a mirror"},
		{filepath.Join(empty, "none"), "no such file"},
		{filepath.Join(good, indexFile), "not a directory"},
		{"mirror", "BUG"},
		{server.URL, "the directory that `bake mirror` made: status 404"},
		{page.URL, "no index of a mirror"},
		{secret, "user:xxxxx@"},
		{"ftp://example.com/mirror", "http or https URL"},
		{"file://" + good, "http or https URL"},
		{"http:///mirror", "names no host"},
		{"http://user:hunter2@example.com/mirror?key=hunter2", "query"},
		{"http://user:hunter2@exa mple.com/", "no valid URL"},
	} {
		m, err := Open(t.Context(), test.location, fromWeb)
		if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), "opening the mirror") {
			t.Errorf("Open(%s) = %v, %v; want an error with %q", test.location, m, err, test.want)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("Open(%s) = %v, which has the password", test.location, err)
		}
	}
}

func TestMirrorURL(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := newWorld()
	w.write(t, dir)
	server := httptest.NewServer(http.FileServer(http.Dir(dir)))
	defer server.Close()
	secret := strings.Replace(server.URL, "://", "://user:hunter2@", 1)
	m := must.Get(Open(t.Context(), secret, fromWeb))
	if got := m.String(); strings.Contains(got, "hunter2") || !strings.Contains(got, "user:xxxxx@") {
		t.Errorf("String = %q; want it without the password", got)
	}
	local := must.Get(Open(t.Context(), dir, nil))
	e, other := w.entry(t, victim), w.entry(t, "bash 5.2 amd64")
	for _, test := range []struct {
		sums []manifest.Digest
		ok   bool
	}{
		{[]manifest.Digest{e.SHA256}, true},
		{[]manifest.Digest{e.SHA512}, true},
		{[]manifest.Digest{e.SHA256, e.SHA512}, true},
		{[]manifest.Digest{e.SHA512, e.SHA256}, true},
		{[]manifest.Digest{other.SHA256, manifesttest.Digest512([]byte("the index does not know it"))}, true},
		{nil, false},
		{[]manifest.Digest{e.SHA256, manifesttest.Digest512([]byte("x"))}, false},
		{[]manifest.Digest{other.SHA256, e.SHA512}, false},
		{[]manifest.Digest{e.SHA256, other.SHA256}, false},
		{[]manifest.Digest{manifesttest.Digest([]byte("x"))}, false},
		{[]manifest.Digest{manifesttest.Digest512([]byte("x"))}, false},
		{[]manifest.Digest{manifesttest.Digest512([]byte("x")), manifesttest.Digest512([]byte("y"))}, false},
	} {
		name := e.SHA256.Hex()
		if len(test.sums) > 0 && test.sums[0] == other.SHA256 {
			name = other.SHA256.Hex()
		}
		for m, base := range map[*Mirror]string{m: secret + "/", local: "file://" + filepath.ToSlash(dir) + "/"} {
			want := ""
			if test.ok {
				want = base + "blobs/sha256/" + name
			}
			if got, ok := m.URL(test.sums); ok != test.ok || got != want {
				t.Errorf("URL(%v) = %q, %v; want %q", test.sums, got, ok, want)
			}
			if m.Base() != base {
				t.Errorf("Base = %q; want %q", m.Base(), base)
			}
		}
	}
}
