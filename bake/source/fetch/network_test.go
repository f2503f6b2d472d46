package fetch

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nodebake/bake/bake/connect"
	"github.com/nodebake/bake/test/filetest"
	"github.com/nodebake/bake/test/must"
)

// proxy is a forward proxy: absolute URLs for http, CONNECT for https.
type proxy struct {
	*httptest.Server
	plain, tunnels atomic.Int64
	refuse         bool
}

func newProxy(t *testing.T) *proxy {
	t.Helper()
	p := &proxy{}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case p.refuse:
			http.Error(w, "", http.StatusForbidden)
		case r.Method == http.MethodConnect:
			p.tunnels.Add(1)
			connect.Dial(func(ctx context.Context, address string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "tcp", address)
			}).ServeHTTP(w, r)
		default:
			p.plain.Add(1)
			r.RequestURI = ""
			resp, err := http.DefaultTransport.RoundTrip(r)
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadGateway)
				return
			}
			defer resp.Body.Close()
			w.WriteHeader(resp.StatusCode)
			_, _ = io.Copy(w, resp.Body)
		}
	}))
	t.Cleanup(p.Close)
	return p
}

// through makes a Fetcher use a proxy.
func through(t *testing.T, rawURL string) func(*Config) {
	t.Helper()
	u := must.Get(url.Parse(rawURL))
	return func(c *Config) { c.Proxy = http.ProxyURL(u) }
}

func TestProxy(t *testing.T) {
	content := filetest.Noise("content", 100_000)
	p := newProxy(t)

	s := serve(t, content, nil)
	f := newFetcher(t, through(t, p.URL))
	if err := f.Fetch(t.Context(), []Request{request(content, s.URL)}); err != nil {
		t.Fatalf("Fetch through a proxy = %v", err)
	}
	wantStored(t, f, content)
	if got := p.plain.Load(); got != 1 {
		t.Errorf("the proxy saw %d requests; want 1", got)
	}

	secure := httptest.NewTLSServer(http.HandlerFunc(s.good))
	defer secure.Close()
	f = newFetcher(t, through(t, p.URL), trusting(secure))
	if err := f.Preflight(t.Context(), []Request{request(content, secure.URL)}); err != nil {
		t.Errorf("Preflight through CONNECT = %v", err)
	}
	if err := f.Fetch(t.Context(), []Request{request(content, secure.URL)}); err != nil {
		t.Fatalf("Fetch through CONNECT = %v", err)
	}
	wantStored(t, f, content)
	if got := p.tunnels.Load(); got < 1 || got > 2 {
		t.Errorf("the proxy opened %d tunnels; want one that both use, or one each", got)
	}

	p.refuse = true
	for _, f := range []*Fetcher{
		newFetcher(t, through(t, p.URL), trusting(secure)),
		newFetcher(t, through(t, refused(t)), trusting(secure)),
	} {
		err := f.Fetch(t.Context(), []Request{request(content, secure.URL)})
		if _, ok := errors.AsType[*UnreachableError](err); !ok || !strings.Contains(err.Error(), "Forbidden") && !strings.Contains(err.Error(), "proxyconnect") {
			t.Errorf("Fetch through a proxy that refuses = %v; want an UnreachableError that says so", err)
		}
		wantNothing(t, f)
	}
}

// trusting makes a Fetcher accept the certificate of a server.
func trusting(s *httptest.Server) func(*Config) {
	return func(c *Config) {
		c.RootCAs = x509.NewCertPool()
		c.RootCAs.AddCert(s.Certificate())
	}
}

func TestTLSFailure(t *testing.T) {
	content := filetest.Noise("content", 1000)
	var seen atomic.Int64
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		seen.Add(1)
		_, _ = w.Write(content)
	}))
	s.Config.ErrorLog = nil
	s.StartTLS()
	defer s.Close()
	plain := serve(t, content, nil)
	for _, test := range []struct{ url, want string }{
		{s.URL, "signed by unknown authority (where a proxy or a server of yours has a CA of its own, add that to this machine's, or name a file with its certificate in SSL_CERT_FILE)"},
		{strings.Replace(plain.URL, "http:", "https:", 1), "HTTP response to HTTPS client"},
	} {
		f := newFetcher(t)
		for what, err := range map[string]error{
			"Fetch":     f.Fetch(t.Context(), []Request{request(content, test.url)}),
			"Preflight": f.Preflight(t.Context(), []Request{request(content, test.url)}),
		} {
			if _, ok := errors.AsType[*UnreachableError](err); !ok || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%s from %s = %v; want an UnreachableError with %q", what, test.url, err, test.want)
			}
		}
		wantNothing(t, f)
	}
	if seen.Load() != 0 {
		t.Error("a request was sent to a server that nobody vouches for")
	}
}

func TestUnreachable(t *testing.T) {
	for _, url := range []string{refused(t), "http://no-such-host.invalid/x", "ftp://127.0.0.1/x", "://", "relative/path", "http://[::1"} {
		f := newFetcher(t)
		for what, err := range map[string]error{
			"Fetch":     f.Fetch(t.Context(), []Request{request([]byte("x"), url)}),
			"Preflight": f.Preflight(t.Context(), []Request{request([]byte("x"), url)}),
		} {
			if unreachable, ok := errors.AsType[*UnreachableError](err); !ok || unreachable.Name != "kubelet v1.36.3" || len(unreachable.Tried) != 1 || unreachable.Tried[0].URL != url {
				t.Errorf("%s from %s = %v; want an UnreachableError that names both", what, url, err)
			}
		}
	}
	f := newFetcher(t)
	if err := f.Fetch(t.Context(), []Request{request([]byte("x"))}); err == nil || !strings.Contains(err.Error(), "no URL is known") {
		t.Errorf("Fetch without URLs = %v; want an error that says so", err)
	}
	if err := f.Fetch(t.Context(), []Request{{Name: "x", URLs: []string{"http://x"}}}); err == nil || !strings.Contains(err.Error(), "BUG") {
		t.Errorf("Fetch without a digest = %v; want a BUG", err)
	}
}

func TestPreflight(t *testing.T) {
	content := filetest.Noise("content", 5000)
	s := serve(t, content, func(_ *server, _ int64, w http.ResponseWriter, r *http.Request) bool {
		head := r.Method == http.MethodHead
		switch {
		case r.URL.Path == "/missing":
			http.NotFound(w, r)
		case strings.HasPrefix(r.URL.Path, "/head-") && head:
			code, _ := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/head-"))
			w.WriteHeader(code)
		case r.URL.Path == "/no-head" && head:
			panic(http.ErrAbortHandler)
		case r.URL.Path == "/forbidden":
			w.WriteHeader(http.StatusForbidden)
		case r.URL.Path == "/busy":
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusServiceUnavailable)
		case r.URL.Path == "/limited":
			w.WriteHeader(http.StatusTooManyRequests)
		case r.URL.Path == "/broken":
			w.WriteHeader(http.StatusBadGateway)
		case r.URL.Path == "/other-size", r.URL.Path == "/other-size-by-head" && head:
			w.Header().Set("Content-Length", "17")
		case r.URL.Path == "/zero-size" && head:
			w.Header().Set("Content-Length", "0")
		case r.URL.Path == "/redirected":
			http.Redirect(w, r, "/file", http.StatusFound)
		case r.URL.Path == "/loop":
			http.Redirect(w, r, "/loop", http.StatusFound)
		case r.URL.Path == "/hangs":
			<-r.Context().Done()
		default:
			return false
		}
		return true
	})
	dead := refused(t)
	var good, bad []Request
	add := func(to *[]Request, paths ...string) {
		var urls []string
		for _, p := range paths {
			if !strings.Contains(p, "://") {
				p = s.URL + p
			}
			urls = append(urls, p)
		}
		// No two requests may have one digest, or the store would serve both.
		*to = append(*to, Request{Name: fmt.Sprint("file ", paths), URLs: urls, Sums: request([]byte(urls[0])).Sums, Size: int64(len(content))})
	}
	for _, code := range []int{400, 401, 403, 404, 405, 410, 416, 500, 501, 502, 503} {
		add(&good, fmt.Sprint("/head-", code))
	}
	for _, path := range []string{"/file", "/no-head", "/limited", "/busy", "/zero-size", "/other-size-by-head", "/redirected"} {
		add(&good, path)
	}
	add(&good, "/missing", dead, "/file2")
	add(&bad, "/missing")
	add(&bad, "/forbidden")
	add(&bad, "/broken")
	add(&bad, "/other-size")
	add(&bad, "/loop")
	add(&bad, dead, "/missing")
	add(&bad, "/hangs")

	f := newFetcher(t, func(c *Config) { c.Answer = 500 * time.Millisecond })
	if err := f.Preflight(t.Context(), good); err != nil {
		t.Errorf("Preflight of files that are available = %v", err)
	}
	err := f.Preflight(t.Context(), append(good, bad...))
	failed, ok := errors.AsType[*PreflightError](err)
	if !ok {
		t.Fatalf("Preflight = %v; want a PreflightError", err)
	}
	if len(failed.Requests) != len(bad) {
		t.Errorf("Preflight names %d requests; want %d:\n%v", len(failed.Requests), len(bad), err)
	}
	for i, u := range failed.Requests {
		if u.Name != bad[i].Name || len(u.Tried) != len(bad[i].URLs) {
			t.Errorf("Preflight names %s with %d URLs; want %s with %d", u.Name, len(u.Tried), bad[i].Name, len(bad[i].URLs))
		}
	}
	for _, want := range []string{"404 Not Found", "403 Forbidden", "502 Bad Gateway", "is 17 bytes, want 5000 bytes", "redirects", "refused", "not a byte came for 500ms"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("Preflight = %v; want %q in it", err, want)
		}
	}
	if got := s.sent.Load(); got > 10_000 {
		t.Errorf("the server sent %d bytes; want nearly none", got)
	}
	wantNothing(t, f)
}

// TestPreflightMany asks one mirror for as many files as an image has packages.
func TestPreflightMany(t *testing.T) {
	var connections atomic.Int64
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(5 * time.Millisecond)
		if strings.HasSuffix(r.URL.Path, "/7") {
			http.NotFound(w, r)
		}
	}))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	s.Start()
	defer s.Close()
	f := newFetcher(t)
	var reqs []Request
	for i := range 220 {
		url := fmt.Sprint(s.URL, "/", i)
		reqs = append(reqs, Request{Name: url, URLs: []string{url}, Sums: request([]byte(url)).Sums})
	}
	err := f.Preflight(t.Context(), reqs)
	if failed, ok := errors.AsType[*PreflightError](err); !ok || len(failed.Requests) != 1 {
		t.Errorf("Preflight = %v; want one missing file", err)
	}
	// net/http dials one too many now and then, while another becomes idle.
	if got := connections.Load(); got > 2*preflightParallel {
		t.Errorf("%d connections were made for %d files; want about %d", got, len(reqs), preflightParallel)
	}
}

// TestPreflightDeadHost checks that a host that does not answer costs its
// deadline once, not for each of its files.
func TestPreflightDeadHost(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	defer s.Close()
	f := newFetcher(t, func(c *Config) { c.Answer = 300 * time.Millisecond })
	var reqs []Request
	for i := range 220 {
		url := fmt.Sprint(s.URL, "/", i)
		reqs = append(reqs, Request{Name: url, URLs: []string{url}, Sums: request([]byte(url)).Sums})
	}
	began := time.Now()
	err := f.Preflight(t.Context(), reqs)
	if failed, ok := errors.AsType[*PreflightError](err); !ok || len(failed.Requests) != len(reqs) {
		t.Errorf("Preflight names %d of %d files", len(failed.Requests), len(reqs))
	}
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("Preflight took %v; want little more than 300 ms", took)
	}
}

func TestPreflightOffline(t *testing.T) {
	content := filetest.Noise("content", 100)
	s := serve(t, content, nil)
	f := newFetcher(t)
	req := request(content, s.URL)
	if err := f.Fetch(t.Context(), []Request{req}); err != nil {
		t.Fatal(err)
	}
	s.Close()
	if err := f.Preflight(t.Context(), []Request{req}); err != nil {
		t.Errorf("Preflight of what the store has, without a network = %v", err)
	}
	if err := f.Fetch(t.Context(), []Request{req}); err != nil {
		t.Errorf("Fetch of what the store has, without a network = %v", err)
	}
}

func TestGet(t *testing.T) {
	s := serve(t, []byte("Origin: Debian\n"), func(_ *server, n int64, w http.ResponseWriter, r *http.Request) bool {
		switch {
		case r.URL.Path == "/missing":
			http.NotFound(w, r)
		case r.URL.Path == "/flaky" && n == 1:
			w.WriteHeader(http.StatusServiceUnavailable)
		case r.URL.Path == "/large":
			_, _ = w.Write(make([]byte, 50))
			_ = http.NewResponseController(w).Flush()
			_, _ = w.Write(make([]byte, 51))
		default:
			return false
		}
		return true
	})
	f := newFetcher(t)
	got, err := f.Get(t.Context(), []string{s.URL + "/flaky"}, 100, nil)
	if err != nil || string(got) != "Origin: Debian\n" {
		t.Errorf("Get after a 503 = %q, %v", got, err)
	}
	got, err = f.Get(t.Context(), []string{s.URL + "/missing", s.URL + "/InRelease"}, 100, nil)
	if err != nil || string(got) != "Origin: Debian\n" {
		t.Errorf("Get from the second URL = %q, %v", got, err)
	}
	for path, want := range map[string]string{"/missing": "404 Not Found", "/large": "more than the 100 bytes"} {
		unreachable := (*UnreachableError)(nil)
		if got, err := f.Get(t.Context(), []string{s.URL + path}, 100, nil); !errors.As(err, &unreachable) || !strings.Contains(err.Error(), want) {
			t.Errorf("Get of %s = %q, %v; want an UnreachableError with %q", path, got, err, want)
		}
	}
	if _, err := f.Get(t.Context(), []string{s.URL + "/InRelease"}, 5, nil); err == nil || !strings.Contains(err.Error(), "15 bytes, at most 5") {
		t.Errorf("Get with a limit below the length = %v", err)
	}
	status := (*StatusError)(nil)
	if _, err := f.Get(t.Context(), []string{s.URL + "/missing"}, 100, nil); !errors.As(err, &status) || status.Code != 404 {
		t.Errorf("Get of a missing file = %v; want a StatusError in it", err)
	}
}
