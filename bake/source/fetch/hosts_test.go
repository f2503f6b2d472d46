package fetch

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/test/filetest"
	"github.com/nodebake/bake/test/must"
)

// silent accepts connections, reads, and never answers.
func silent(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	t.Cleanup(s.Close)
	return s.URL
}

// deaf has a queue of connections that nobody takes.
func deaf(t *testing.T) string {
	t.Helper()
	l := must.Get(net.Listen("tcp", "127.0.0.1:0"))
	t.Cleanup(func() { l.Close() })
	return "http://" + l.Addr().String()
}

// TestDeadServer has the first of two servers dead in each way, and measures
// what 40 files take beside the time that they take without it.
func TestDeadServer(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		dead func(*testing.T) string
		note string
	}{
		{"refuses", refused, "connection refused"},
		{"silent", silent, "not a byte came for 2s"},
		{"deaf", deaf, "not a byte came for 2s"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dead := strings.TrimSuffix(test.dead(t), "/")
			var all []Request
			for i := range 40 {
				content := filetest.Noise("content", 1000+i)
				live := serve(t, content, nil).URL
				all = append(all, request(content, dead+"/a", live+"/a"))
			}
			usual := func(c *Config) {
				c.Retries, c.Backoff, c.Stall, c.Answer = 4, 500*time.Millisecond, 30*time.Second, 5*time.Second
			}
			run := func(f *Fetcher, all []Request) time.Duration {
				began := time.Now()
				if err := f.Preflight(t.Context(), all); err != nil {
					t.Error(err)
				}
				if err := f.Fetch(t.Context(), all); err != nil {
					t.Error(err)
				}
				return time.Since(began)
			}
			var alive []Request
			for _, req := range all {
				alive = append(alive, Request{Name: req.Name, URLs: req.URLs[1:], Sums: req.Sums, Size: req.Size})
			}
			var f *Fetcher
			// The best of three: other tests run beside this one.
			for try := 1; ; try++ {
				without := run(newFetcher(t, usual), alive)
				f = newFetcher(t, usual)
				took := run(f, all)
				if took <= without+3*time.Second {
					break
				}
				if try == 3 {
					t.Errorf("40 files took %v with a dead server and %v without; want 3 s more at most", took, without)
					break
				}
			}
			want := fmt.Sprintf("%s does not answer (", dead)
			if got := strings.Count(f.notes(), want); got != 1 || !strings.Contains(f.notes(), test.note+"); it is asked last from here on") {
				t.Errorf("notes have %d times %q; want once, with %q:\n%s", got, want, test.note, f.notes())
			}
		})
	}
}

// TestSlowServer has a server that answers slowly, and alone has the file.
func TestSlowServer(t *testing.T) {
	t.Parallel()
	content := filetest.Noise("content", 1000)
	slow := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		time.Sleep(300 * time.Millisecond)
		w.Header().Set("Content-Length", fmt.Sprint(len(content)))
		_, _ = w.Write(content)
	}))
	defer slow.Close()
	without := httptest.NewServer(http.NotFoundHandler())
	defer without.Close()
	for _, urls := range [][]string{
		{slow.URL, without.URL}, {without.URL, slow.URL}, {slow.URL}, {slow.URL, refused(t)}, {slow.URL, slow.URL + "/again"},
	} {
		f := newFetcher(t, func(c *Config) { c.Turn = 50 * time.Millisecond })
		req := request(content, urls...)
		if err := f.Preflight(t.Context(), []Request{req}); err != nil {
			t.Errorf("Preflight of %q = %v", urls, err)
		}
		if err := f.Fetch(t.Context(), []Request{req}); err != nil {
			t.Errorf("Fetch of %q = %v", urls, err)
		}
		if _, err := f.Get(t.Context(), urls, 2000, nil); err != nil {
			t.Errorf("Get of %q = %v", urls, err)
		}
	}
}

// TestSpentServer asks for files that nobody has where one server is silent: it
// is given all patience once.
func TestSpentServer(t *testing.T) {
	t.Parallel()
	without := httptest.NewServer(http.NotFoundHandler())
	defer without.Close()
	dead := silent(t)
	f := newFetcher(t, func(c *Config) { c.Turn, c.Stall = 20*time.Millisecond, 500*time.Millisecond })
	began := time.Now()
	for i := range 10 {
		_, err := f.Get(t.Context(), []string{dead + fmt.Sprint("/", i), without.URL + fmt.Sprint("/", i)}, 100, nil)
		if e, ok := errors.AsType[*UnreachableError](err); !ok || len(e.Tried) != 2 {
			t.Fatalf("Get of what nobody has = %v; want an UnreachableError with both URLs", err)
		}
	}
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("10 files that nobody has took %v; want the patience of 500 ms once, and little for each", took)
	}
}

// TestGetAccept takes the first content that will do.
func TestGetAccept(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.URL.Path) }))
	defer s.Close()
	f := newFetcher(t)
	var asked []string
	accept := func(want string, otherwise error) func(string, []byte) error {
		return func(url string, content []byte) error {
			asked = append(asked, strings.TrimPrefix(url, s.URL))
			if string(content) != want {
				return otherwise
			}
			return nil
		}
	}
	urls := []string{s.URL + "/a", s.URL + "/b", s.URL + "/c"}
	got, err := f.Get(t.Context(), urls, 100, accept("/b", errors.New("it is stale")))
	if err != nil || string(got) != "/b" {
		t.Errorf("Get = %q, %v; want /b", got, err)
	}
	if diff := cmp.Diff([]string{"/a", "/b"}, asked); diff != "" {
		t.Errorf("asked (-want +got):\n%s", diff)
	}
	if note := s.URL + "/a: it is stale; trying the next URL"; !strings.Contains(f.notes(), note) {
		t.Errorf("notes lack %q:\n%s", note, f.notes())
	}
	why := errors.New("it is stale")
	if _, err := f.Get(t.Context(), urls, 100, accept("/d", why)); !errors.Is(err, why) {
		t.Errorf("Get of what will not do = %v; want %v", err, why)
	}
	// What would do ends all waiting.
	began := time.Now()
	if _, err := f.Get(t.Context(), append(urls, silent(t), refused(t)), 100, accept("/d", ErrSettle)); !errors.Is(err, ErrSettle) {
		t.Errorf("Get of what would do = %v; want %v", err, ErrSettle)
	}
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("Get took %v after it had what would do; want 2 s", took)
	}
}
