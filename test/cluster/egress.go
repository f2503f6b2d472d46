package cluster

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// egress is an HTTP proxy that knows CONNECT only. The API server reaches
// kubelets through it, because workers live in a network that the host has no
// route to
// (https://kubernetes.io/docs/tasks/extend-kubernetes/setup-konnectivity/).
type egress struct {
	dial   func(ctx context.Context, address string) (net.Conn, error)
	server *http.Server
}

// serveEgress listens on a unix socket.
func serveEgress(socket string, dial func(context.Context, string) (net.Conn, error)) (*egress, error) {
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return nil, fmt.Errorf("serving the way to the workers: %w", err)
	}
	e := &egress{dial: dial}
	e.server = &http.Server{Handler: e, ReadHeaderTimeout: 10 * time.Second}
	go e.server.Serve(listener)
	return e, nil
}

// close ends the proxy. Connections that were handed over end with their ends.
func (e *egress) close() { e.server.Close() }

// dialTime is how long a worker may take to accept a connection.
const dialTime = 20 * time.Second

func (e *egress) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodConnect {
		http.Error(w, "only CONNECT is known here", http.StatusMethodNotAllowed)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), dialTime)
	defer cancel()
	worker, err := e.dial(ctx, r.Host)
	if err != nil {
		http.Error(w, fmt.Sprintf("connecting to %s: %v", r.Host, err), http.StatusBadGateway)
		return
	}
	defer worker.Close()
	client, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer client.Close()
	if _, err := io.WriteString(client, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
		return
	}
	// A TLS connection is of no use once one direction has ended.
	var end sync.Once
	closeBoth := func() { client.Close(); worker.Close() }
	var wg sync.WaitGroup
	wg.Go(func() { io.Copy(worker, buffered); end.Do(closeBoth) })
	wg.Go(func() { io.Copy(client, worker); end.Do(closeBoth) })
	wg.Wait()
}
