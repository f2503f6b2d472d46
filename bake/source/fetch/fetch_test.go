package fetch

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/manifest/manifesttest"
	"github.com/nodebake/bake/test/filetest"
	"github.com/nodebake/bake/test/must"
)

func TestFetch(t *testing.T) {
	content := filetest.Noise("content", 3_000_000)
	s := serve(t, content, nil)
	f := newFetcher(t)
	req := request(content, s.URL+"/kubelet")
	req.Sums = append(req.Sums, manifesttest.Digest512(content))
	for range 2 {
		if err := f.Fetch(t.Context(), []Request{req}); err != nil {
			t.Fatalf("Fetch = %v", err)
		}
		wantStored(t, f, content)
	}
	if got := s.requests.Load(); got != 1 {
		t.Errorf("the server saw %d requests for two fetches; want 1", got)
	}
	if _, ok := f.config.Store.Path(manifesttest.Digest512(content)); !ok {
		t.Error("the store does not know the file by its SHA-512")
	}
}

// TestFetchFaults has every fault that a retry, a resume or another URL heals.
func TestFetchFaults(t *testing.T) {
	content := filetest.Noise("content", 1_000_000)
	half := len(content) / 2
	type handler = func(s *server, n int64, w http.ResponseWriter, r *http.Request) bool
	first := func(f func(s *server, w http.ResponseWriter, r *http.Request)) handler {
		return func(s *server, n int64, w http.ResponseWriter, r *http.Request) bool {
			if n == 1 {
				f(s, w, r)
			}
			return n == 1
		}
	}
	resumed := []string{"", fmt.Sprintf("bytes=%d-", half)}
	for _, test := range []struct {
		name   string
		fault  handler
		unsize bool     // the request does not know the size
		ranges []string // of the requests that the server must see
		sent   int64    // bytes of bodies that it must send; -1: any
		note   string   // that must be shown
	}{{
		name: "503 then ok",
		fault: first(func(_ *server, w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "", http.StatusServiceUnavailable)
		}),
		ranges: []string{"", ""}, sent: -1,
		note: "503 Service Unavailable; retry in ",
	}, {
		name: "429 with Retry-After",
		fault: first(func(_ *server, w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "1")
			http.Error(w, "", http.StatusTooManyRequests)
		}),
		ranges: []string{"", ""}, sent: -1,
		note: "429 Too Many Requests; retry in 1s",
	}, {
		name: "reset before the answer",
		fault: first(func(*server, http.ResponseWriter, *http.Request) {
			panic(http.ErrAbortHandler)
		}),
		ranges: []string{"", ""}, sent: int64(len(content)),
		note: "EOF; retry in ",
	}, {
		name: "reset in the middle, resumed",
		fault: first(func(s *server, w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("ETag", s.etag)
			cut(w, http.StatusOK, len(content), content[:half])
		}),
		ranges: resumed, sent: int64(len(content)),
		note: fmt.Sprintf("the connection ended after %d of %d bytes", half, len(content)),
	}, {
		name: "the same without a size and a validator",
		fault: func(s *server, n int64, w http.ResponseWriter, _ *http.Request) bool {
			s.etag = ""
			if n == 1 {
				cut(w, http.StatusOK, len(content), content[:half])
			}
			return false
		},
		unsize: true,
		ranges: resumed, sent: int64(len(content)),
	}, {
		name: "chunked body that ends early",
		fault: first(func(s *server, w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("ETag", s.etag)
			_, _ = w.Write(content[:half])
			_ = http.NewResponseController(w).Flush()
		}),
		ranges: resumed, sent: int64(len(content)),
	}, {
		name: "the file changed in between: If-Range fails, all of it comes",
		fault: func(s *server, n int64, w http.ResponseWriter, _ *http.Request) bool {
			if n == 1 {
				w.Header().Set("ETag", s.etag)
				cut(w, http.StatusOK, len(content), filetest.Noise("content", len(content)+1)[1:half+1])
			}
			s.etag = `"v2"`
			return false
		},
		ranges: resumed, sent: int64(half + len(content)),
	}, {
		name: "the file changed and the server does not look at If-Range: once more from the beginning",
		fault: func(s *server, n int64, w http.ResponseWriter, r *http.Request) bool {
			if n == 1 {
				w.Header().Set("ETag", s.etag)
				cut(w, http.StatusOK, len(content), filetest.Noise("content", len(content)+1)[1:half+1])
			}
			r.Header.Del("If-Range")
			return false
		},
		ranges: append(resumed[:2:2], ""), sent: int64(len(content) * 2),
		note: "starting again from its beginning",
	}, {
		name: "server that ignores Range",
		fault: func(s *server, n int64, w http.ResponseWriter, r *http.Request) bool {
			if n == 1 {
				cut(w, http.StatusOK, len(content), content[:half])
			}
			r.Header.Del("Range")
			return false
		},
		ranges: resumed, sent: int64(half + len(content)),
	}, {
		name: "server that answers 416",
		fault: func(s *server, n int64, w http.ResponseWriter, r *http.Request) bool {
			if n == 1 {
				cut(w, http.StatusOK, len(content), content[:half])
			}
			if r.Header.Get("Range") != "" {
				w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
				return true
			}
			return false
		},
		ranges: append(resumed[:2:2], ""), sent: int64(half + len(content)),
	}, {
		name: "server that sends another range",
		fault: func(s *server, n int64, w http.ResponseWriter, r *http.Request) bool {
			if n == 1 {
				cut(w, http.StatusOK, len(content), content[:half])
			}
			if r.Header.Get("Range") != "" {
				r.Header.Set("Range", "bytes=7-")
			}
			return false
		},
		ranges: append(resumed[:2:2], ""), sent: -1,
	}} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, content, test.fault)
			f := newFetcher(t)
			req := request(content, s.URL+"/kubelet")
			if test.unsize {
				req.Size = 0
			}
			if err := f.Fetch(t.Context(), []Request{req}); err != nil {
				t.Fatalf("Fetch = %v; want success after the fault", err)
			}
			wantStored(t, f, content)
			if diff := cmp.Diff(test.ranges, s.rangesSeen()); diff != "" {
				t.Errorf("ranges of the requests (-want +got):\n%s", diff)
			}
			if got := s.sent.Load(); test.sent >= 0 && got != test.sent {
				t.Errorf("the server sent %d bytes; want %d", got, test.sent)
			}
			if !strings.Contains(f.notes(), test.note) {
				t.Errorf("notes = %q; want %q", f.notes(), test.note)
			}
		})
	}
}

// TestFetchRefuses has every answer that must not end in the store.
func TestFetchRefuses(t *testing.T) {
	content := filetest.Noise("content", 500_000)
	wrong := append(content[:len(content)-1:len(content)-1], ^content[len(content)-1])
	for _, test := range []struct {
		name     string
		answer   func(w http.ResponseWriter, r *http.Request)
		unsize   bool
		want     string // part of the error
		requests int64
		digest   bool // DigestError, else UnreachableError
	}{
		{"404", http.NotFound, false, "404 Not Found", 1, false},
		{"403", status(403), false, "403 Forbidden", 1, false},
		{"401", status(401), false, "401 Unauthorized", 1, false},
		{"410", status(410), false, "410 Gone", 1, false},
		{"500 always", status(500), false, "500 Internal Server Error", 3, false},
		{"redirect loop", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, r.URL.Path, http.StatusFound)
		}, false, "more than 10 redirects", maxRedirects + 1, false},
		{"wrong digest", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write(wrong)
		}, false, "is " + string(manifesttest.Digest(wrong)) + ", want " + string(manifesttest.Digest(content)) + ": nothing was kept", 1, true},
		{"announced short", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write(content[:1000])
		}, false, "is 1000 bytes, want 500000 bytes", 1, true},
		{"announced long", func(w http.ResponseWriter, _ *http.Request) {
			cut(w, 200, len(content)+1, content)
		}, false, "is 500001 bytes, want 500000 bytes", 1, true},
		{"trailing bytes, not announced", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write(content)
			_ = http.NewResponseController(w).Flush()
			_, _ = w.Write([]byte("!"))
		}, false, "is longer, want 500000 bytes", 1, true},
		{"trailing bytes, size not known", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write(append(content[:len(content):len(content)], '!'))
		}, true, "want " + string(manifesttest.Digest(content)), 1, true},
		{"announced long, size not known", func(w http.ResponseWriter, _ *http.Request) {
			cut(w, 200, len(content)+1, content)
		}, true, "the connection ended after 500000 of 500001 bytes", 3, false},
		{"a page of a portal", func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, "<html>please log in</html>")
		}, true, "want " + string(manifesttest.Digest(content)), 1, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, content, func(_ *server, _ int64, w http.ResponseWriter, r *http.Request) bool {
				test.answer(w, r)
				return true
			})
			f := newFetcher(t)
			req := request(content, s.URL+"/kubelet")
			if test.unsize {
				req.Size = 0
			}
			err := f.Fetch(t.Context(), []Request{req})
			unreachable, digest := (*UnreachableError)(nil), (*DigestError)(nil)
			if errors.As(err, &digest) != test.digest || errors.As(err, &unreachable) == test.digest {
				t.Fatalf("Fetch = %T %v; want a DigestError: %v", err, err, test.digest)
			}
			for _, want := range []string{test.want, req.Name, req.URLs[0]} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("Fetch = %v; want %q in it", err, want)
				}
			}
			if got := s.requests.Load(); got != test.requests {
				t.Errorf("the server saw %d requests; want %d", got, test.requests)
			}
			wantNothing(t, f)
		})
	}
}

func status(code int) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

func TestFetchStalls(t *testing.T) {
	content := filetest.Noise("content", 100_000)
	for _, test := range []struct {
		name   string
		before int // bytes sent before the silence; -1: not even a head
	}{{"no head", -1}, {"no body", 0}, {"half a body", 50_000}} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, content, func(_ *server, n int64, w http.ResponseWriter, r *http.Request) bool {
				if n > 1 {
					return false
				}
				if test.before >= 0 {
					w.Header().Set("Content-Length", fmt.Sprint(len(content)))
					_, _ = w.Write(content[:test.before])
					_ = http.NewResponseController(w).Flush()
				}
				<-r.Context().Done()
				return true
			})
			f := newFetcher(t, func(c *Config) { c.Stall = 200 * time.Millisecond })
			if err := f.Fetch(t.Context(), []Request{request(content, s.URL)}); err != nil {
				t.Fatalf("Fetch = %v; want success at the second try", err)
			}
			wantStored(t, f, content)
			if want := "not a byte came for 200ms"; !strings.Contains(f.notes(), want) {
				t.Errorf("notes = %q; want %q", f.notes(), want)
			}
		})
	}
}

func TestFetchMirrors(t *testing.T) {
	content := filetest.Noise("content", 100_000)
	good := serve(t, content, nil)
	missing := httptest.NewServer(http.NotFoundHandler())
	defer missing.Close()
	stale := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write(filetest.Noise("content", 100_001)[1:])
	}))
	defer stale.Close()
	f := newFetcher(t)
	req := request(content, missing.URL, stale.URL, refused(t), good.URL)
	if err := f.Fetch(t.Context(), []Request{req}); err != nil {
		t.Fatalf("Fetch = %v; want the file from the last URL", err)
	}
	wantStored(t, f, content)
	if want := "nothing was kept"; !strings.Contains(f.notes(), want) {
		t.Errorf("notes = %q; want the mirror with the wrong file named", f.notes())
	}
}

// refused returns a URL where nobody listens.
func refused(t *testing.T) string {
	t.Helper()
	l := must.Get(net.Listen("tcp", "127.0.0.1:0"))
	defer l.Close()
	return "http://" + l.Addr().String() + "/"
}

// TestFetchGoesOn checks that files that are unavailable do not stop the others.
func TestFetchGoesOn(t *testing.T) {
	s := serve(t, nil, func(s *server, _ int64, w http.ResponseWriter, r *http.Request) bool {
		if strings.HasPrefix(r.URL.Path, "/bad") {
			http.NotFound(w, r)
		} else {
			fmt.Fprint(w, r.URL.Path)
		}
		return true
	})
	f := newFetcher(t)
	var reqs []Request
	for i := range 20 {
		path := fmt.Sprint("/good", i)
		reqs = append(reqs, Request{Name: path, URLs: []string{s.URL + path}, Sums: []manifest.Digest{manifesttest.Digest([]byte(path))}})
	}
	for _, name := range []string{"/bad1", "/bad2"} {
		reqs = append([]Request{{Name: name, URLs: []string{s.URL + name}, Sums: []manifest.Digest{manifesttest.Digest([]byte(name))}}}, reqs...)
	}
	err := f.Fetch(t.Context(), reqs)
	for _, want := range []string{"/bad1 is unavailable:", "/bad2 is unavailable:"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Fetch = %v; want %q in it", err, want)
		}
	}
	missing, err := f.Missing(t.Context(), reqs)
	if err != nil || len(missing) != 2 {
		t.Errorf("Missing = %d requests, %v; want the 2 that are unavailable", len(missing), err)
	}
}

func TestFetchTogether(t *testing.T) {
	content := filetest.Noise("content", 2_000_000)
	s := serve(t, content, nil)
	f := newFetcher(t)
	// The second fetcher stands for another process: it has its own locks.
	other := newFetcher(t, func(c *Config) { c.Store = reopen(t, f) })
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			fetcher := []*Fetcher{f, other}[i%2]
			if err := fetcher.Fetch(t.Context(), []Request{request(content, s.URL)}); err != nil {
				t.Errorf("Fetch = %v", err)
			}
		})
	}
	wg.Wait()
	wantStored(t, f, content)
	if got := s.sent.Load(); got != int64(len(content)) {
		t.Errorf("the server sent %d bytes to eight that fetch one file; want %d", got, len(content))
	}
}

func TestFetchInterrupted(t *testing.T) {
	content := filetest.Noise("content", 1_000_000)
	half := len(content) / 2
	ctx, interrupt := context.WithCancel(t.Context())
	s := serve(t, content, func(s *server, n int64, w http.ResponseWriter, r *http.Request) bool {
		if n > 1 {
			return false
		}
		w.Header().Set("ETag", s.etag)
		w.Header().Set("Content-Length", fmt.Sprint(len(content)))
		_, _ = w.Write(content[:half])
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		return true
	})
	f := newFetcher(t)
	go func() {
		partial := filepath.Join(f.config.Store.Dir(), "partial", "sha256-"+manifesttest.Digest(content).Hex())
		for {
			if info, err := os.Stat(partial); err == nil && info.Size() == int64(half) {
				interrupt()
				return
			}
			time.Sleep(time.Millisecond)
		}
	}()
	if err := f.Fetch(ctx, []Request{request(content, s.URL)}); !errors.Is(err, context.Canceled) {
		t.Fatalf("Fetch = %v; want context.Canceled", err)
	}
	wantNothing(t, f)
	if got := filetest.Names(t, filepath.Join(f.config.Store.Dir(), "partial")); len(got) != 2 {
		t.Errorf("partial holds %q; want the bytes and where they came from", got)
	}

	// The next bake goes on from there.
	f = newFetcher(t, func(c *Config) { c.Store = reopen(t, f) })
	if err := f.Fetch(t.Context(), []Request{request(content, s.URL)}); err != nil {
		t.Fatalf("Fetch after the interruption = %v", err)
	}
	wantStored(t, f, content)
	if got := s.sent.Load(); got != int64(len(content)) {
		t.Errorf("the server sent %d bytes in all; want %d", got, len(content))
	}
}

func TestOpenRepairs(t *testing.T) {
	content := filetest.Noise("content", 100_000)
	s := serve(t, content, nil)
	f := newFetcher(t)
	req := request(content, s.URL)
	if err := f.Fetch(t.Context(), []Request{req}); err != nil {
		t.Fatal(err)
	}
	path, _ := f.config.Store.Path(req.Sums[0])
	damaged := append([]byte(nil), content...)
	damaged[77] ^= 1
	filetest.Write(t, path, damaged)
	file, err := f.Open(t.Context(), req)
	if err != nil {
		t.Fatalf("Open of a damaged file = %v; want it fetched again", err)
	}
	file.Close()
	wantStored(t, f, content)
	if got := s.requests.Load(); got != 2 {
		t.Errorf("the server saw %d requests; want 2", got)
	}
}
