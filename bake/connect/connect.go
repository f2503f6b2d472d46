// Package connect serves HTTP's CONNECT method: the server half of a tunnel
// through a proxy (RFC 9110, section 9.3.6).
package connect

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// DialTimeout is how long a destination may take to accept a connection.
const DialTimeout = 20 * time.Second

// Dial connects to "HOST:PORT".
type Dial func(ctx context.Context, address string) (net.Conn, error)

// ServeHTTP answers a CONNECT request: it connects to the host that the request
// names and copies both ways until one of them ends. Other methods are refused
// with 405, and a host that can't be reached is 502.
func (dial Dial) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodConnect {
		w.Header().Set("Allow", http.MethodConnect)
		http.Error(w, "this proxy only serves CONNECT", http.StatusMethodNotAllowed)
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

// Server is a proxy that knows CONNECT only.
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
