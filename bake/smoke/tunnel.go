package smoke

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
)

// tunnel connects through a proxy by HTTP's CONNECT (RFC 9110, section 9.3.6).
func tunnel(proxy *url.URL) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, _, address string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", proxy.Host)
		if err != nil {
			return nil, &proxyError{fmt.Errorf("connecting to the proxy: %w", err)}
		}
		stop := context.AfterFunc(ctx, func() { conn.Close() })
		defer stop()
		request := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: address}, Host: address, Header: http.Header{}}
		if err := request.Write(conn); err != nil {
			conn.Close()
			return nil, &proxyError{fmt.Errorf("asking the proxy: %w", err)}
		}
		// A server that is asked by HTTP says nothing before it is asked, so nothing
		// of the tunnel is in the reader.
		response, err := http.ReadResponse(bufio.NewReader(conn), request)
		if err != nil {
			conn.Close()
			return nil, fmt.Errorf("asking the proxy for %s: %w", address, err)
		}
		if response.StatusCode != http.StatusOK {
			conn.Close()
			return nil, fmt.Errorf("the proxy can't connect to %s: %s", address, response.Status)
		}
		return conn, nil
	}
}

// proxyError is a proxy that does not serve.
type proxyError struct{ error }

func (e *proxyError) Unwrap() error { return e.error }
