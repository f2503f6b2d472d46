package fetch

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/nodebake/bake/test/filetest"
	"github.com/nodebake/bake/test/must"
)

func TestNotPublic(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"8.8.8.8": "", "2001:4860:4860::8888": "", "172.15.255.255": "", "172.32.0.0": "", "100.63.255.255": "", "100.128.0.0": "", "11.0.0.1": "",
		"127.0.0.1": "a loopback address", "127.255.255.254": "a loopback address", "::1": "a loopback address", "::ffff:127.0.0.1": "a loopback address",
		"0.0.0.0": "an unspecified address", "::": "an unspecified address", "0.1.2.3": "an address of this network",
		"10.0.0.1": "a private address", "172.16.0.1": "a private address", "172.31.255.255": "a private address", "192.168.1.1": "a private address",
		"fc00::1": "a private address", "fd20:ce::254": "a private address", "fd00:ec2::254": "a private address", "::ffff:10.0.0.1": "a private address",
		"169.254.169.254": "a link-local address", "::ffff:169.254.169.254": "a link-local address", "fe80::1": "a link-local address", "fe80::1%eth0": "a link-local address",
		"100.64.0.1": "an address of a carrier's network", "100.100.100.200": "an address of a carrier's network", "100.127.255.255": "an address of a carrier's network",
		"224.0.0.1": "a multicast address", "ff02::1": "a multicast address", "255.255.255.255": "a reserved address", "168.63.129.16": "the address of a cloud's host",
		"64:ff9b::a9fe:a9fe": "a link-local address", "64:ff9b::7f00:1": "a loopback address", "64:ff9b::808:808": "", "64:ff9b:1::808:808": "an address of a local translator",
		"2002:a00:1::1": "a private address", "2002:808:808::1": "", "::7f00:1": "a loopback address", "2001::1": "an address of a tunnel", "fec0::1": "a site-local address",
	} {
		if got := notPublic(netip.MustParseAddr(address)); got != want {
			t.Errorf("notPublic(%s) = %q; want %q", address, got, want)
		}
	}
}

func TestNotPublicHost(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]string{
		"dl.k8s.io": "", "example.com.": "", "8.8.8.8": "", "134744072": "", "1.2.3.4.5": "", "0x.example": "", "08.8.8.8": "",
		"127.0.0.1": "a loopback address", "127.0.0.1.": "a loopback address", "127.1": "a loopback address", "127.0.1": "a loopback address",
		"2130706433": "a loopback address", "0x7f000001": "a loopback address", "0X7F.1": "a loopback address", "017700000001": "a loopback address", "0177.0.0.1": "a loopback address",
		"0": "an unspecified address", "0xa9fea9fe": "a link-local address", "2852039166": "a link-local address", "::1": "a loopback address", "fd20:ce::254": "a private address",
		"localhost": "a local name", "LOCALHOST": "a local name", "x.localhost.": "a local name", "metadata.google.internal": "a local name", "metadata": "a local name",
		"printer.local": "a local name", "nas.home.arpa": "a local name", "１２７.0.0.1": "not ASCII",
	} {
		if got := notPublicHost(host); got != want {
			t.Errorf("notPublicHost(%s) = %q; want %q", host, got, want)
		}
	}
}

// TestPublicOnly asks for files at addresses that an image must not name.
func TestPublicOnly(t *testing.T) {
	t.Parallel()
	content := filetest.Noise("content", 1000)
	s := serve(t, content, nil)
	port := s.URL[strings.LastIndexByte(s.URL, ':'):]
	proxied := newProxy(t)
	public := func(c *Config) { c.PublicOnly = true }
	for _, test := range []struct {
		name, url string
		change    []func(*Config)
		own       bool
		want      string // of the error; "": there is none
	}{
		{"loopback", s.URL, nil, false, "127.0.0.1 is a loopback address, where a URL that comes from an image must not lead (--allow-private-addresses allows it)"},
		{"name of it", "http://localhost" + port, nil, false, "is a loopback address, where"},
		{"mapped", "http://[::ffff:127.0.0.1]" + port, nil, false, "is a loopback address, where"},
		{"any address", "http://0.0.0.0" + port, nil, false, "0.0.0.0 is an unspecified address, where"},
		{"metadata server", "http://169.254.169.254/computeMetadata/v1/", nil, false, "169.254.169.254 is a link-local address, where"},
		{"through a proxy", "http://2130706433" + port, []func(*Config){through(t, proxied.URL)}, false, "2130706433 is a loopback address, where"},
		{"the user's own", s.URL, nil, true, ""},
		{"the user's own, through a proxy", s.URL, []func(*Config){through(t, proxied.URL)}, true, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			before := s.requests.Load()
			f := newFetcher(t, append(test.change, public)...)
			req := request(content, test.url)
			req.Own = test.own
			for what, err := range map[string]error{"Preflight": f.Preflight(t.Context(), []Request{req}), "Fetch": f.Fetch(t.Context(), []Request{req})} {
				if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
					t.Errorf("%s = %v; want %q", what, err, test.want)
				}
				if Gone(err) {
					t.Errorf("Gone(%v) = true", err)
				}
			}
			if got := s.requests.Load() - before; test.want != "" && got > 0 {
				t.Errorf("the server was asked %d times; want never", got)
			}
		})
	}
}

// TestPublicOnlyRedirect redirects from where an image may lead to where it must
// not. What is public here is what a proxy has for public names.
func TestPublicOnlyRedirect(t *testing.T) {
	t.Parallel()
	content := filetest.Noise("content", 1000)
	var asked atomic.Int64
	world := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/to-metadata":
			http.Redirect(w, r, "http://169.254.169.254/x", http.StatusFound)
		case r.URL.Path == "/to-public":
			http.Redirect(w, r, "http://other.example/file", http.StatusFound)
		case r.URL.Hostname() == "169.254.169.254":
			asked.Add(1)
			_, _ = w.Write(content)
		default:
			_, _ = w.Write(content)
		}
	}))
	defer world.Close()
	f := newFetcher(t, through(t, world.URL), func(c *Config) { c.PublicOnly = true })
	if err := f.Fetch(t.Context(), []Request{request(content, "http://site.example/to-metadata")}); err == nil || !strings.Contains(err.Error(), "169.254.169.254 is a link-local address") {
		t.Errorf("Fetch by way of a redirect = %v; want it refused", err)
	}
	if asked.Load() > 0 {
		t.Error("the metadata server was asked")
	}
	if err := f.Fetch(t.Context(), []Request{request(content, "http://site.example/to-public")}); err != nil {
		t.Errorf("Fetch by way of a redirect to a public name = %v", err)
	}
	f = newFetcher(t, through(t, world.URL))
	if err := f.Fetch(t.Context(), []Request{request(content, "http://site.example/to-metadata")}); err != nil {
		t.Errorf("Fetch for an ordinary bake = %v; want the redirect followed", err)
	}

	hop := func(raw string) *http.Request {
		u := must.Get(url.Parse(raw))
		return (&http.Request{URL: u}).WithContext(t.Context())
	}
	for _, test := range []struct {
		public   bool
		from, to string
		refused  bool
	}{
		{true, "https://a.example/", "http://a.example/", true},
		{true, "https://a.example/", "https://b.example/", false},
		{true, "http://a.example/", "https://b.example/", false},
		{true, "http://a.example/", "file:///etc/passwd", true},
		{false, "https://a.example/", "http://a.example/", false},
	} {
		f := newFetcher(t, func(c *Config) { c.PublicOnly = test.public })
		err := f.checkRedirect(hop(test.to), []*http.Request{hop(test.from)})
		if _, ok := errors.AsType[*redirectError](err); ok != test.refused {
			t.Errorf("checkRedirect(%s, %s) with PublicOnly %t = %v; want refused: %t", test.to, test.from, test.public, err, test.refused)
		}
	}
}
