package vm

import (
	"net"
	"testing"

	"github.com/nodebake/bake/bake/vm/vpc"
)

// TestServeHostPort reaches one port of the host's loopback, and no other.
func TestServeHostPort(t *testing.T) {
	t.Parallel()
	n, workers, pods := twoWorkers(t, NetworkConfig{Rules: []vpc.Rule{vpc.AllowInternal()}})
	var ports []string
	for range 2 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				conn.Write([]byte("the host\n"))
				conn.Close()
			}
		}()
		_, port, _ := net.SplitHostPort(l.Addr().String())
		ports = append(ports, port)
		if len(ports) == 1 {
			if err := n.ServeHostPort(l.Addr().(*net.TCPAddr).Port); err != nil {
				t.Fatal(err)
			}
		}
	}
	workers[0].dialFrom(workers[0].addr, net.JoinHostPort(Gateway, ports[0])).isSeen(t, "the host")
	workers[1].dialFrom(pods[1], net.JoinHostPort(Gateway, ports[0])).isSeen(t, "the host")
	if conn, err := workers[0].dialFrom(workers[0].addr, net.JoinHostPort(Gateway, ports[1]))(t.Context()); err == nil {
		conn.Close()
		t.Error("a port of the host that is not served is reached")
	}
}
