package connect

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nodebake/bake/test/must"
)

func TestServer(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(t.TempDir(), "s")
	s, err := Listen("unix", socket, func(_ context.Context, address string) (net.Conn, error) {
		if address != "10.240.0.20:10250" {
			return nil, errors.New("no route")
		}
		near, far := net.Pipe()
		go func() { // says back what it hears, once
			line, _ := bufio.NewReader(far).ReadString('\n')
			fmt.Fprint(far, "heard "+line)
			far.Close()
		}()
		return near, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if got := s.Addr().String(); got != socket {
		t.Errorf("Addr() = %s; want %s", got, socket)
	}
	for _, test := range []struct{ request, status, rest string }{
		// The first words arrive with the request itself.
		{"CONNECT 10.240.0.20:10250 HTTP/1.1\r\nHost: 10.240.0.20:10250\r\n\r\nhello\n", "200 Connection established", "heard hello\n"},
		{"CONNECT 10.240.0.21:10250 HTTP/1.1\r\nHost: 10.240.0.21:10250\r\n\r\n", "502 Bad Gateway", "connecting to 10.240.0.21:10250: no route\n"},
		{"GET http://10.240.0.21:10250/ HTTP/1.1\r\nHost: 10.240.0.21:10250\r\nConnection: close\r\n\r\n", "502 Bad Gateway", "connecting to 10.240.0.21:10250: no route\n"},
		{"GET ftp://10.240.0.20:10250/ HTTP/1.1\r\nHost: 10.240.0.20:10250\r\nConnection: close\r\n\r\n", "400 Bad Request", "this is a proxy: it takes CONNECT, and requests for http URLs\n"},
	} {
		conn, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(10 * time.Second))
		must.Get(io.WriteString(conn, test.request))
		method, _, _ := strings.Cut(test.request, " ")
		in := bufio.NewReader(conn)
		response, err := http.ReadResponse(in, &http.Request{Method: method})
		if err != nil {
			t.Fatal(err)
		}
		var rest []byte
		if response.StatusCode == http.StatusOK {
			rest, err = io.ReadAll(in)
		} else {
			rest, err = io.ReadAll(response.Body)
		}
		if got := response.Status + ": " + string(rest); err != nil || got != test.status+": "+test.rest {
			t.Errorf("%q is answered by %q, %v; want %q", test.request, got, err, test.status+": "+test.rest)
		}
	}
}
