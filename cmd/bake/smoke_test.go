package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/nodebake/bake/bake/connect"
)

// newNginx serves what nginx does, and is the proxy to node ports.
func newNginx() *httptest.Server {
	s := httptest.NewUnstartedServer(nil)
	proxy := connect.Dial(func(ctx context.Context, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", s.Listener.Addr().String())
	})
	s.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodConnect {
			proxy.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Server", "nginx/1.26.3")
	})
	s.Start()
	return s
}

// smokeEnv is what testdata/smoke/kubectl reads: where its files are and its state
// goes, where nginx is, and the digest of what pods serve.
func smokeEnv(data, state, nginx string) []string {
	sum := sha256.Sum256([]byte(strings.Repeat("bake-smoke\n", 1<<20)[:1<<20]))
	return []string{
		"DATA=" + data, "STATE=" + state, "CALLS=" + filepath.Join(state, "calls"), "WEB=" + nginx,
		fmt.Sprintf("SUM=%x", sum), "NO_PROXY=127.0.0.1",
	}
}

// workers prepares a script for testdata/smoke/kubectl, which is then in its PATH.
func workers(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) > 0 {
		ts.Fatalf("usage: workers")
	}
	data, err := filepath.Abs("testdata/smoke")
	ts.Check(err)
	nginx := newNginx()
	ts.Defer(nginx.Close)
	state := ts.MkAbs("state")
	ts.Check(os.MkdirAll(state, 0o777))
	for _, kv := range smokeEnv(data, state, nginx.URL) {
		name, value, _ := strings.Cut(kv, "=")
		ts.Setenv(name, value)
	}
	ts.Setenv("PATH", data+string(filepath.ListSeparator)+ts.Getenv("PATH"))
}
