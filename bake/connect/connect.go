// Package connect is an HTTP proxy: it serves the CONNECT method, the server half of
// a tunnel (RFC 9110, section 9.3.6), and forwards requests for http URLs
// (RFC 9112, section 3.2.2). It caches nothing, and asks nobody who they are.
package connect

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"sync"
	"time"
)

// DialTimeout is how long a destination may take to accept a connection.
const DialTimeout = 20 * time.Second

// Dial connects to "HOST:PORT".
type Dial func(ctx context.Context, address string) (net.Conn, error)

// ServeHTTP answers a CONNECT request: it connects to the host that the request
// names and copies both ways until one of them ends. A request for an http URL is
// sent to its server, and a host that can't be reached is 502. A request that names
// no server, as one that was meant for a server itself, is 400.
func (dial Dial) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodConnect {
		dial.forward(w, r)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), DialTimeout)
	defer cancel()
	server, err := dial(ctx, r.Host)
	if err != nil {
		http.Error(w, fmt.Sprintf("connecting to %s: %v", r.Host, err), http.StatusBadGateway)
		return
	}
	defer server.Close()
	// The response is written after Hijack: what the client sends from then on is
	// read through buffered, which may hold its first bytes already.
	client, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer client.Close()
	if _, err := io.WriteString(client, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
		return
	}
	tunnel(client, buffered, server)
}

// forward sends a request to the server of its URL by a connection of its own. What
// a server would take for its user's word of whom it acts for, X-Forwarded-For and
// the like, is left as it is.
func (dial Dial) forward(w http.ResponseWriter, r *http.Request) {
	if r.URL.Scheme != "http" || r.URL.Host == "" {
		http.Error(w, "this is a proxy: it takes CONNECT, and requests for http URLs", http.StatusBadRequest)
		return
	}
	proxy := httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) {
			for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"} {
				if values, ok := p.In.Header[name]; ok {
					p.Out.Header[name] = values
				}
			}
			p.Out.Host = p.In.URL.Host // and not the field Host: RFC 9112, section 3.2.2
			p.Out.URL.RawQuery = p.In.URL.RawQuery
			p.Out.Header.Add("Via", "1.1 bake")
		},
		Transport: &http.Transport{
			DisableKeepAlives: true, DisableCompression: true,
			DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
				ctx, cancel := context.WithTimeout(ctx, DialTimeout)
				defer cancel()
				return dial(ctx, address)
			},
		},
		FlushInterval: -1, // what a server sends bit by bit
		ErrorLog:      log.New(io.Discard, "", 0),
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			http.Error(w, fmt.Sprintf("connecting to %s: %v", r.URL.Host, err), http.StatusBadGateway)
		},
	}
	proxy.ServeHTTP(w, r)
}

// tunnel copies both ways. When one direction ends, so does the other: a TLS
// connection is of no use then.
func tunnel(client net.Conn, fromClient io.Reader, server net.Conn) {
	var end sync.Once
	closeBoth := func() { client.Close(); server.Close() }
	var wg sync.WaitGroup
	wg.Go(func() { io.Copy(server, fromClient); end.Do(closeBoth) })
	wg.Go(func() { io.Copy(client, server); end.Do(closeBoth) })
	wg.Wait()
}

// Server is a proxy that runs.
type Server struct {
	server  *http.Server
	address net.Addr
}

// Listen serves until Close. The network is "unix" or "tcp".
func Listen(network, address string, dial Dial) (*Server, error) {
	listener, err := net.Listen(network, address)
	if err != nil {
		return nil, fmt.Errorf("serving a proxy: %w", err)
	}
	return Serve(listener, dial), nil
}

// Serve is Listen for a listener, which Close closes.
func Serve(listener net.Listener, dial Dial) *Server {
	s := &Server{server: &http.Server{Handler: dial, ReadHeaderTimeout: 10 * time.Second}, address: listener.Addr()}
	go s.server.Serve(listener)
	return s
}

// Addr is where the proxy listens.
func (s *Server) Addr() net.Addr { return s.address }

// Close ends the proxy. Connections that were handed over end with their ends.
func (s *Server) Close() { s.server.Close() }
