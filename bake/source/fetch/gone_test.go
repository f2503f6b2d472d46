package fetch

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/nodebake/bake/test/filetest"
)

// TestGone asks what Preflight finds whether a file is gone.
func TestGone(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var code int
		switch _, err := fmt.Sscanf(r.URL.Path, "/%d", &code); {
		case err == nil:
			w.WriteHeader(code)
		case r.URL.Path == "/hangs":
			<-r.Context().Done()
		case r.URL.Path == "/drops":
			panic(http.ErrAbortHandler)
		case r.URL.Path == "/other-size":
			w.Header().Set("Content-Length", "17")
		case r.URL.Path == "/loop":
			http.Redirect(w, r, "/loop", http.StatusFound)
		}
	}))
	defer s.Close()
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	defer secure.Close()
	p := newProxy(t)
	p.refuse = true
	dead := refused(t)
	plain := newFetcher(t, func(c *Config) { c.Answer = 500 * time.Millisecond })
	for _, test := range []struct {
		name string
		f    *Fetcher
		urls []string
		want bool
	}{
		{"404", plain, []string{s.URL + "/404"}, true},
		{"410", plain, []string{s.URL + "/410"}, true},
		{"401", plain, []string{s.URL + "/401"}, false},
		{"403", plain, []string{s.URL + "/403"}, false},
		{"451", plain, []string{s.URL + "/451"}, false},
		{"500", plain, []string{s.URL + "/500"}, false},
		{"503", plain, []string{s.URL + "/503"}, false},
		{"no such host", plain, []string{"http://no-such-host.invalid/x"}, true},
		{"refused connection", plain, []string{dead}, true},
		{"connected, and silent", plain, []string{s.URL + "/hangs"}, false},
		{"dropped connection", plain, []string{s.URL + "/drops"}, false},
		{"other size", plain, []string{s.URL + "/other-size"}, false},
		{"redirects for ever", plain, []string{s.URL + "/loop"}, false},
		{"unknown CA", plain, []string{secure.URL + "/404"}, false},
		{"no TLS", plain, []string{strings.Replace(s.URL, "http:", "https:", 1) + "/404"}, false},
		{"no URL", plain, []string{"://"}, false},
		{"404 of one, another refuses", plain, []string{s.URL + "/404", dead}, true},
		{"404 of one, another is broken", plain, []string{s.URL + "/404", s.URL + "/502"}, false},
		{"a proxy refuses to connect", newFetcher(t, through(t, p.URL)), []string{"https://no-such-host.invalid/x"}, true},
		{"a proxy is not there", newFetcher(t, through(t, dead)), []string{"https://no-such-host.invalid/x"}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := test.f.Preflight(t.Context(), []Request{request(filetest.Noise("content", 100), test.urls...)})
			if err == nil {
				t.Fatal("Preflight() = nil; want an error")
			}
			if got := Gone(fmt.Errorf("wrapped: %w", err)); got != test.want {
				t.Errorf("Gone(%v) = %t; want %t", err, got, test.want)
			}
		})
	}
	both := &PreflightError{Requests: []*UnreachableError{
		{Name: "a", Tried: []Attempt{{URL: "a", Err: &StatusError{Code: 404}}}},
		{Name: "b", Tried: []Attempt{{URL: "b", Err: &StatusError{Code: 500}}}},
	}}
	for _, test := range []struct {
		err  error
		want bool
	}{
		{errors.New("disk full"), false},
		{both, false},
		{&PreflightError{Requests: both.Requests[:1]}, true},
		{&UnreachableError{Name: "a", Lacking: "mirror"}, true},
		{&UnreachableError{Name: "a", Tried: []Attempt{{Err: &StatusError{Code: 404}, Mirror: "mirror"}}}, false},
		{&UnreachableError{Name: "a", Tried: []Attempt{{Err: fmt.Errorf("logging in: %w", &StatusError{Code: 404})}}}, false},
		{&UnreachableError{Name: "a", Tried: []Attempt{{Err: &stallError{after: time.Second}}}}, true},
	} {
		if got := Gone(test.err); got != test.want {
			t.Errorf("Gone(%v) = %t; want %t", test.err, got, test.want)
		}
	}
}
