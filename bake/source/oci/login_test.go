package oci_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/nodebake/bake/bake/connect"
	"github.com/nodebake/bake/bake/source/fetch"
	"github.com/nodebake/bake/bake/source/oci"
	"github.com/nodebake/bake/bake/source/oci/ocitest"
)

// elsewhere is a proxy to which every host is a registry that speaks http, and
// that remembers what went over http.
type elsewhere struct {
	*httptest.Server
	mu       sync.Mutex
	requests []string // "GET /v2/"
	secrets  []string // headers Authorization
}

func newElsewhere(t *testing.T, r *ocitest.Registry) *elsewhere {
	t.Helper()
	e := &elsewhere{}
	e.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.Method == http.MethodConnect { // for https, which the registry does not speak
			connectTo(r.Host).ServeHTTP(w, req)
			return
		}
		e.mu.Lock()
		e.requests = append(e.requests, req.Method+" "+req.URL.Path)
		if secret := req.Header.Get("Authorization"); secret != "" {
			e.secrets = append(e.secrets, secret)
		}
		e.mu.Unlock()
		r.ServeHTTP(w, req)
	}))
	t.Cleanup(e.Close)
	return e
}

// connectTo tunnels to one address, whatever is asked for.
func connectTo(address string) connect.Dial {
	return func(ctx context.Context, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", address)
	}
}

// TestPlain has a login for registries that speak http and are not this machine.
func TestPlain(t *testing.T) {
	for _, test := range []struct {
		name, host string
		insecure   []string
		private    bool // it wants to know who asks
		want       []string
	}{
		{"private address", "10.9.9.9:5000", nil, false,
			[]string{"http: server gave HTTP response to HTTPS client (it speaks http: where that is meant, give --insecure-registry 10.9.9.9:5000; passwords are not sent then)"}},
		{"name", "registry.example", nil, false, []string{"--insecure-registry registry.example"}},
		{"name below localhost", "x.localhost:5000", nil, false, []string{"--insecure-registry x.localhost:5000"}},
		{"another named", "10.9.9.9:5000", []string{"10.9.9.9"}, false, []string{"--insecure-registry 10.9.9.9:5000"}},
		{"named", "10.9.9.9:5000", []string{"10.9.9.9:5000"}, false, nil},
		{"named, and it wants to know", "10.9.9.9:5000", []string{"10.9.9.9:5000"}, true,
			[]string{"401 Unauthorized", "(there is a login for 10.9.9.9:5000, but passwords don't go over http: it must speak https)"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := ocitest.New(t)
			digest := r.Push("thing", "v1", ocitest.Image("amd64", ocitest.Layer(types.OCILayer, "/program", "program")))
			if test.private {
				r.Basic("user", "right")
			}
			proxy := newElsewhere(t, r)
			at, err := url.Parse(proxy.URL)
			if err != nil {
				t.Fatal(err)
			}
			st := newStore(t)
			fetcher, err := fetch.New(fetch.Config{Store: st, Retries: 1, Backoff: time.Millisecond, Proxy: http.ProxyURL(at)})
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			t.Setenv("DOCKER_CONFIG", dir)
			writeFile(t, filepath.Join(dir, "config.json"), fmt.Sprintf(`{"auths":{%q:{"username":"user","password":"right"}}}`, test.host))
			b := bench{oci.New(oci.Config{Packs: st, Fetcher: fetcher, Keychain: authn.DefaultKeychain, Insecure: test.insecure}), st}
			_, err = b.pull(t, test.host+"/thing:v1", digest, "amd64")
			if test.want == nil && err != nil {
				t.Errorf("pulling = %v", err)
			}
			if test.want != nil {
				wantError(t, err, test.want...)
				if fetch.Gone(err) {
					t.Errorf("Gone(%v) = true", err)
				}
			}
			if len(proxy.secrets) > 0 {
				t.Errorf("over http went %q", proxy.secrets)
			}
			if test.insecure == nil && len(proxy.requests) > 0 {
				t.Errorf("over http went %q; want nothing", proxy.requests)
			}
		})
	}
}

// TestReason shows what registries say of themselves.
func TestReason(t *testing.T) {
	t.Parallel()
	r := ocitest.New(t)
	digest := r.Push("thing", "v1", ocitest.Image("amd64", ocitest.Layer(types.OCILayer, "/program", "program")))
	url := "http://" + r.Host + ocitest.Manifest("thing", digest)
	login := "(the registry limits how much is taken from it: try again later, or run `docker login " + r.Host + "`, which raises the limit at some)"
	for _, test := range []struct {
		name, path  string
		code        int
		mediaType   string
		body        string
		want, never string
	}{
		{"limit", ocitest.Manifest("thing", digest), 429, "application/json", `{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached\nyour pull\u001b[2J rate limit."}]}`,
			"manifest or index is unavailable at " + url + ": 429 Too Many Requests (TOOMANYREQUESTS: You have reached your pull [2J rate limit.) " + login, "\x1b"},
		{"limit in plain text", ocitest.Manifest("thing", digest), 429, "text/plain; charset=utf-8", "slow down\n", "429 Too Many Requests (slow down) " + login, ""},
		{"limit without a reason", ocitest.Manifest("thing", digest), 429, "text/html", "<html>", "429 Too Many Requests " + login, "html"},
		{"limit of logins", "/v2/", 429, "application/json", `{"errors":[{"code":"TOOMANYREQUESTS","message":"wait"}]}`, "logging in: 429 Too Many Requests (TOOMANYREQUESTS: wait) " + login, ""},
		{"denied", ocitest.Manifest("thing", digest), 403, "application/json", `{"errors":[{"code":"DENIED","message":"not for you"}]}`, "403 Forbidden (DENIED: not for you) (the registry wants to know who asks: run `docker login ", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			r.Fault(test.path, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", test.mediaType)
				w.WriteHeader(test.code)
				io.WriteString(w, test.body)
			})
			defer r.Fault(test.path, nil)
			_, err := newBench(t, nil).pull(t, r.Host+"/thing:v1", digest, "amd64")
			wantError(t, err, "image thing "+r.Host+"/thing:v1: ", test.want)
			if fetch.Gone(err) {
				t.Errorf("Gone(%v) = true", err)
			}
			if test.never != "" && err != nil && strings.Contains(err.Error(), test.never) {
				t.Errorf("error %q has %q", err, test.never)
			}
		})
	}
}

// TestKeychainBroken gives docker configurations that can't be used: that is no
// fault of the registry, and nothing is asked or made in the image's place.
func TestKeychainBroken(t *testing.T) {
	for name, config := range map[string]string{
		"cut off":        `{"auths":{`,
		"missing helper": `{"credsStore":"bake-test-missing"}`,
	} {
		t.Run(name, func(t *testing.T) {
			r := ocitest.New(t)
			digest := r.Push("thing", "v1", ocitest.Image("amd64", ocitest.Layer(types.OCILayer, "/program", "program")))
			dir := t.TempDir()
			t.Setenv("DOCKER_CONFIG", dir)
			writeFile(t, filepath.Join(dir, "config.json"), config)
			_, err := newBench(t, authn.DefaultKeychain).pull(t, r.Host+"/thing:v1", digest, "amd64")
			wantError(t, err, "image thing "+r.Host+"/thing:v1: finding credentials for "+r.Host+" in the docker configuration: ")
			if _, ok := errors.AsType[*fetch.UnreachableError](err); ok {
				t.Errorf("%v is an UnreachableError", err)
			}
			if got := r.Got(); got != nil {
				t.Errorf("the registry was asked %q; want nothing", got)
			}
		})
	}
}
