package connect

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nodebake/bake/test/must"
	"github.com/nodebake/bake/test/need"
)

// echo answers with what it was asked.
func echo(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Answer", "yes")
	w.Header().Set("Keep-Alive", "of one connection")
	if r.URL.Path == "/gone" {
		w.WriteHeader(http.StatusGone)
	}
	body := must.Get(io.ReadAll(r.Body))
	fmt.Fprintf(w, "%s %s %s %s\n", r.Method, r.RequestURI, r.Host, body)
}

// newForward returns a proxy that leads every address to one server.
func newForward(t *testing.T, handler http.HandlerFunc) *httptest.Server {
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	proxy := httptest.NewServer(Dial(func(ctx context.Context, address string) (net.Conn, error) {
		if host, _, _ := net.SplitHostPort(address); host != "10.240.0.20" {
			return nil, fmt.Errorf("no route to %s", address)
		}
		return new(net.Dialer).DialContext(ctx, "tcp", server.Listener.Addr().String())
	}))
	t.Cleanup(proxy.Close)
	return proxy
}

// TestCurl asks by curl, which sends http URLs to a proxy as they are.
func TestCurl(t *testing.T) {
	t.Parallel()
	curl := need.Program(t, "curl", "curl")
	proxy := newForward(t, echo)
	for _, test := range []struct {
		args string
		want string
	}{
		{"http://10.240.0.20:30080/a%2Fb?q=1;2", "200 yes  GET /a%2Fb?q=1;2 10.240.0.20:30080"},
		{"http://10.240.0.20", "200 yes  GET / 10.240.0.20"},
		{"--head http://10.240.0.20:30080/", "200 yes"},
		{"--data input http://10.240.0.20:30080/", "200 yes  POST / 10.240.0.20:30080 input"},
		{"-H Transfer-Encoding:chunked --data input http://10.240.0.20:30080/", "200 yes  POST / 10.240.0.20:30080 input"},
		{"--request PUT --data input http://10.240.0.20:30080/gone", "410 yes  PUT /gone 10.240.0.20:30080 input"},
		{"--http1.0 http://10.240.0.20:30080/", "200 yes  GET / 10.240.0.20:30080"},
		{"--proxytunnel http://10.240.0.20:30080/", "200 yes of one connection GET / 10.240.0.20:30080"},
		{"http://10.240.0.21:30080/", "502   connecting to 10.240.0.21:30080: no route to 10.240.0.21:30080"},
	} {
		args := append([]string{"-sS", "-m", "20", "--noproxy", "", "-x", proxy.URL, "-w", "\n%{http_code} %header{x-answer} %header{keep-alive}", "-o", "-"}, strings.Fields(test.args)...)
		var stderr bytes.Buffer
		cmd := exec.Command(curl, args...)
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		text, status := string(out), ""
		if i := strings.LastIndexByte(text, '\n'); i >= 0 {
			text, status = text[:i], text[i+1:]
		}
		if strings.Contains(test.args, "--head") {
			text = ""
		}
		if got := strings.TrimSpace(status + " " + strings.TrimSpace(text)); got != test.want || err != nil {
			t.Errorf("curl %s: %q, %v, %s; want %q", test.args, got, err, stderr.String(), test.want)
		}
	}
}

// TestForwardedFields holds which fields of a request come to the server.
func TestForwardedFields(t *testing.T) {
	t.Parallel()
	var got http.Header
	var host string
	proxy := newForward(t, func(_ http.ResponseWriter, r *http.Request) { got, host = r.Header.Clone(), r.Host })
	conn := must.Get(net.Dial("tcp", proxy.Listener.Addr().String()))
	defer conn.Close()
	must.Get(io.WriteString(conn, "GET http://10.240.0.20:80/ HTTP/1.1\r\nHost: elsewhere\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\n"+
		"Keep-Alive: 5\r\nProxy-Connection: keep-alive\r\nProxy-Authorization: Basic x\r\nTE: trailers\r\nX-Forwarded-For: 192.0.2.7\r\nAccept: a\r\nVia: 1.0 other\r\n\r\n"))
	response := must.Get(http.ReadResponse(bufio.NewReader(conn), nil))
	response.Body.Close()
	if host != "10.240.0.20:80" {
		t.Errorf("the server is asked as %q; want the URL's host, whatever the field Host says", host)
	}
	for name, want := range map[string][]string{
		"X-Hop": nil, "Keep-Alive": nil, "Proxy-Connection": nil, "Proxy-Authorization": nil,
		"X-Forwarded-For": {"192.0.2.7"}, "Accept": {"a"}, "Via": {"1.0 other", "1.1 bake"}, "User-Agent": nil, "Accept-Encoding": nil,
	} {
		if !slices.Equal(got[name], want) {
			t.Errorf("the server gets %s: %q; want %q", name, got[name], want)
		}
	}
}

// TestForwardStreams wants what a server sends before it ends its answer.
func TestForwardStreams(t *testing.T) {
	t.Parallel()
	end := make(chan struct{})
	proxy := newForward(t, func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "first")
		w.(http.Flusher).Flush()
		select {
		case <-end:
		case <-time.After(20 * time.Second):
		}
	})
	conn := must.Get(net.Dial("tcp", proxy.Listener.Addr().String()))
	defer conn.Close()
	defer close(end)
	must.Get(io.WriteString(conn, "GET http://10.240.0.20:80/ HTTP/1.1\r\nHost: x\r\n\r\n"))
	conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	response := must.Get(http.ReadResponse(bufio.NewReader(conn), nil))
	if line, err := bufio.NewReader(response.Body).ReadString('\n'); line != "first\n" {
		t.Errorf("the first line is %q, %v", line, err)
	}
}
