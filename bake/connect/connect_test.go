package connect

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
	"strings"
	"testing"

	"github.com/nodebake/bake/test/must"
)

// TestTunnel makes many TLS connections through a proxy: a byte that the client
// sends at once after the response must not be lost.
func TestTunnel(t *testing.T) {
	secure := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "hello ", r.URL.Path)
	}))
	defer secure.Close()
	proxy := httptest.NewServer(Dial(func(ctx context.Context, address string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", address)
	}))
	defer proxy.Close()
	client := clientOf(t, proxy.URL, secure)

	for range 200 {
		resp, err := client.Get(secure.URL + "/there")
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || string(got) != "hello /there" {
			t.Fatalf("through the proxy: %q, %v; want %q", got, err, "hello /there")
		}
	}
}

func TestRefused(t *testing.T) {
	proxy := httptest.NewServer(Dial(func(context.Context, string) (net.Conn, error) {
		return nil, errors.New("no route")
	}))
	defer proxy.Close()

	resp, err := http.Get(proxy.URL)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusBadRequest {
		t.Errorf("GET of the proxy itself: %s; want 400", resp.Status)
	}

	secure := httptest.NewTLSServer(nil)
	defer secure.Close()
	if _, err := clientOf(t, proxy.URL, secure).Get(secure.URL); err == nil || !strings.Contains(err.Error(), "Bad Gateway") {
		t.Errorf("a destination that can't be reached: %v; want 502 Bad Gateway", err)
	}
}

// clientOf returns a client that trusts a server, and reaches it by a new tunnel
// through the proxy for each request.
func clientOf(t *testing.T, proxyURL string, secure *httptest.Server) *http.Client {
	t.Helper()
	u := must.Get(url.Parse(proxyURL))
	transport := secure.Client().Transport.(*http.Transport).Clone()
	transport.Proxy = http.ProxyURL(u)
	transport.DisableKeepAlives = true
	transport.TLSClientConfig.RootCAs = x509.NewCertPool()
	transport.TLSClientConfig.RootCAs.AddCert(secure.Certificate())
	return &http.Client{Transport: transport}
}
