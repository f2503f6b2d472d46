package fetch

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/manifest/manifesttest"
	"github.com/nodebake/bake/bake/progress/progresstest"
	"github.com/nodebake/bake/bake/source/store"
	"github.com/nodebake/bake/test/filetest"
	"github.com/nodebake/bake/test/must"
)

// server serves one file, with the fault of a test.
type server struct {
	*httptest.Server
	content []byte
	etag    string // empty: none is sent

	requests atomic.Int64
	sent     atomic.Int64 // bytes of bodies

	mu     sync.Mutex
	ranges []string // of each request
}

// serve starts a server. fault may answer a request itself, counting from 1,
// and says whether it did.
func serve(t *testing.T, content []byte, fault func(s *server, n int64, w http.ResponseWriter, r *http.Request) bool) *server {
	t.Helper()
	s := &server{content: content, etag: `"v1"`}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := s.requests.Add(1)
		s.mu.Lock()
		s.ranges = append(s.ranges, r.Header.Get("Range"))
		s.mu.Unlock()
		w = &countingResponse{ResponseWriter: w, n: &s.sent}
		if fault != nil && fault(s, n, w, r) {
			return
		}
		s.good(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

// good answers as a healthy server does, ranges and preconditions included.
func (s *server) good(w http.ResponseWriter, r *http.Request) {
	if s.etag != "" {
		w.Header().Set("ETag", s.etag)
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(s.content))
}

func (s *server) rangesSeen() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.ranges...)
}

type countingResponse struct {
	http.ResponseWriter
	n *atomic.Int64
}

func (w *countingResponse) Write(b []byte) (int, error) {
	n, err := w.ResponseWriter.Write(b)
	w.n.Add(int64(n))
	return n, err
}

func (w *countingResponse) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// cut sends the head for a body of announced bytes, then the bytes given, and
// resets the connection.
func cut(w http.ResponseWriter, status int, announced int, sent []byte) {
	w.Header().Set("Content-Length", fmt.Sprint(announced))
	w.WriteHeader(status)
	_, _ = w.Write(sent)
	_ = http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}

// newFetcher returns a Fetcher with an empty store, which tries quickly.
func newFetcher(t testing.TB, change ...func(*Config)) *Fetcher {
	t.Helper()
	st := must.Get(store.Open(t.TempDir()))
	t.Cleanup(func() { st.Close() })
	c := Config{
		Store: st, Retries: 2, Backoff: time.Millisecond, Jitter: func() float64 { return 0 },
		Connect: 5 * time.Second, Stall: 5 * time.Second, Answer: 5 * time.Second, Progress: &progresstest.Recorder{},
	}
	for _, f := range change {
		f(&c)
	}
	f, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *Fetcher) notes() string { return f.config.Progress.(*progresstest.Recorder).String() }

// request asks a server for content.
func request(content []byte, urls ...string) Request {
	return Request{Name: "kubelet v1.36.3", URLs: urls, Sums: []manifest.Digest{manifesttest.Digest(content)}, Size: int64(len(content))}
}

// wantStored fails unless the store has exactly content, and nothing that is
// left of getting it.
func wantStored(t *testing.T, f *Fetcher, content []byte) {
	t.Helper()
	file, err := f.config.Store.OpenFile(context.Background(), manifesttest.Digest(content))
	if err != nil {
		t.Fatalf("the store does not have the file: %v", err)
	}
	defer file.Close()
	got, err := io.ReadAll(file)
	if err != nil || !bytes.Equal(got, content) {
		t.Errorf("the store has %d bytes, %v; want the %d that were served", len(got), err, len(content))
	}
	if left := filetest.Names(t, filepath.Join(f.config.Store.Dir(), "partial")); len(left) > 0 {
		t.Errorf("partial holds %q; want nothing", left)
	}
}

// wantNothing fails if the store has any file.
func wantNothing(t *testing.T, f *Fetcher) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join(f.config.Store.Dir(), "files"), func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			t.Errorf("the store has %s; want nothing", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// reopen opens the store of f once more, as another process would.
func reopen(t *testing.T, f *Fetcher) *store.Store {
	t.Helper()
	st := must.Get(store.Open(f.config.Store.Dir()))
	t.Cleanup(func() { st.Close() })
	return st
}
