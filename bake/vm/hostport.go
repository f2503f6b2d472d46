package vm

import (
	"context"
	"fmt"
	"net"
	"strconv"
)

// ServeHostPort lets machines reach one TCP port of the host's loopback, at the same
// port of the gateway, until Close: what NetworkConfig.HostLoopback does with all.
func (n *Network) ServeHostPort(port int) error {
	listener, err := n.listen(n.gateway, port)
	if err != nil {
		return fmt.Errorf("serving port %d of the host: %w", port, err)
	}
	n.mu.Lock()
	n.closers = append(n.closers, listener.Close)
	n.mu.Unlock()
	go n.serveHostPort(listener, net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	return nil
}

func (n *Network) serveHostPort(listener net.Listener, address string) {
	for {
		in, err := listener.Accept()
		if err != nil {
			return
		}
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), dialTime)
			defer cancel()
			out, err := n.dial(ctx, "tcp4", address)
			if err != nil {
				in.Close()
				return
			}
			join(in, out)
		}()
	}
}
