package fetch

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/manifest/manifesttest"
	"github.com/nodebake/bake/bake/source/store"
	"github.com/nodebake/bake/test/filetest"
)

// TestFetchAs has a file asked for at its own URL, though the store and a mirror
// have its digest, until it was fetched from there.
func TestFetchAs(t *testing.T) {
	content := filetest.Noise("content", 300_000)
	old, mirror := serve(t, content, nil), serve(t, content, nil)
	s := serve(t, content, nil)
	f := newFetcher(t, mirroring(mirror.URL+"/", false, content))
	if err := f.Fetch(t.Context(), []Request{request(content, old.URL+"/kubelet")}); err != nil {
		t.Fatal(err)
	}
	if got := f.config.Store.FetchedAs(manifesttest.Digest(content)); got != nil {
		t.Errorf("FetchedAs() of what was asked for by digest alone = %v; want nothing", got)
	}
	req := request(content, s.URL+"/kubelet")
	req.As = "kubelet v1.36.10 amd64"
	if missing, err := f.Missing(t.Context(), []Request{req}); err != nil || len(missing) != 1 {
		t.Errorf("Missing() = %v, %v; want the file", missing, err)
	}
	before := mirror.requests.Load()
	for range 2 {
		if err := f.Preflight(t.Context(), []Request{req}); err != nil {
			t.Fatal(err)
		}
		if err := f.Fetch(t.Context(), []Request{req}); err != nil {
			t.Fatal(err)
		}
		file, err := f.Open(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		file.Close()
	}
	wantStored(t, f, content)
	if got := s.requests.Load(); got != 2 { // HEAD and GET
		t.Errorf("the server saw %d requests; want 2, the first time", got)
	}
	if got := mirror.requests.Load(); got != before {
		t.Errorf("the mirror saw %d more requests; want none", got-before)
	}
	if diff := cmp.Diff([]store.Fetched{{Name: req.As, URL: s.URL + "/kubelet"}}, f.config.Store.FetchedAs(manifesttest.Digest(content))); diff != "" {
		t.Errorf("FetchedAs() (-want +got):\n%s", diff)
	}

	// Another name for the same digest, from a server that has something else.
	for _, test := range []struct {
		answer http.HandlerFunc
		want   string
	}{
		{http.NotFound, "404 Not Found"},
		{func(w http.ResponseWriter, _ *http.Request) { w.Write(make([]byte, len(content))) }, "nothing was kept"},
	} {
		s := serve(t, nil, func(_ *server, _ int64, w http.ResponseWriter, r *http.Request) bool {
			test.answer(w, r)
			return true
		})
		other := request(content, s.URL+"/kubelet")
		other.As = "kubelet v1.36.11 amd64"
		if err := f.Fetch(t.Context(), []Request{other}); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("Fetch() = %v; want %s", err, test.want)
		}
		wantStored(t, f, content)
	}
	if got := f.config.Store.FetchedAs(manifesttest.Digest(content)); len(got) != 1 {
		t.Errorf("FetchedAs() = %v; want what it was", got)
	}

	offline := newFetcher(t, mirroring(mirror.URL+"/", true, content))
	err := offline.Fetch(t.Context(), []Request{req})
	if err == nil || !strings.Contains(err.Error(), "kubelet v1.36.3 is not in the mirror "+mirror.URL+"/, and nothing else may be asked") {
		t.Errorf("Fetch() offline = %v; want that the mirror does not have it as that", err)
	}
}

// TestFetchAsBegun does not go on where bytes from elsewhere end: they would prove
// nothing of the file that is asked for.
func TestFetchAsBegun(t *testing.T) {
	content := filetest.Noise("content", 300_000)
	half := len(content) / 2
	s := serve(t, content, nil)
	for _, test := range []struct {
		from string
		want []string // ranges
	}{
		{"https://elsewhere.example/kubelet", []string{""}},
		{s.URL + "/kubelet", []string{"", "bytes=150000-"}},
	} {
		f := newFetcher(t)
		d, err := f.config.Store.Download(t.Context(), "kubelet", []manifest.Digest{manifesttest.Digest(content)})
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Reset(test.from, `"v1"`); err != nil {
			t.Fatal(err)
		}
		if _, err := d.Write(content[:half]); err != nil {
			t.Fatal(err)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		req := request(content, s.URL+"/kubelet")
		req.As = "kubelet v1.36.10 amd64"
		if err := f.Fetch(t.Context(), []Request{req}); err != nil {
			t.Fatal(err)
		}
		wantStored(t, f, content)
		if diff := cmp.Diff(test.want, s.rangesSeen()); diff != "" {
			t.Errorf("ranges of requests to go on from %s (-want +got):\n%s", test.from, diff)
		}
	}
}
