// Package vm runs an image in QEMU: unprivileged, on a user-mode network of
// its own where the metadata server answers at 169.254.169.254, with the serial
// console as the only output. `bake run` and the tests under test/qemu use it.
//
// It does not emulate a cloud: no disks are attached or detached, no machine
// migrates, and there is no IPv6.
package vm

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/containers/gvisor-tap-vsock/pkg/types"
	"github.com/containers/gvisor-tap-vsock/pkg/virtualnetwork"
)

// MetadataAddress is where a machine finds its metadata server.
const MetadataAddress = "169.254.169.254"

const (
	subnet     = "10.240.0.0/24" // the guide's network
	gateway    = "10.240.0.1"
	gatewayMAC = "42:01:0a:f0:00:01"
	defaultMTU = 1460 // Compute Engine's
)

// Network is a private Ethernet segment with a gateway, DHCP, DNS and metadata
// servers. The host reaches machines on it by [Network.Dial]; machines reach
// the host's loopback at the gateway's address.
type Network struct {
	virtual *virtualnetwork.VirtualNetwork
	server  *http.Server

	mu       sync.Mutex
	metadata map[string]http.Handler // by the machine's address
}

// NewNetwork starts a network with room for machines at the given addresses
// of 10.240.0.0/24. mtu is announced by DHCP; 0 means 1460.
func NewNetwork(mtu int, addresses ...netip.Addr) (*Network, error) {
	if mtu == 0 {
		mtu = defaultMTU
	}
	leases := map[string]string{}
	for _, a := range addresses {
		leases[a.String()] = MAC(a)
	}
	virtual, err := virtualnetwork.New(&types.Configuration{
		MTU:               mtu,
		Subnet:            subnet,
		GatewayIP:         gateway,
		GatewayMacAddress: gatewayMAC,
		GatewayVirtualIPs: []string{MetadataAddress},
		DHCPStaticLeases:  leases,
		NAT:               map[string]string{gateway: "127.0.0.1"},
		DNS: []types.Zone{{
			Name:    "google.internal.",
			Records: []types.Record{{Name: "metadata", IP: net.ParseIP(MetadataAddress)}},
		}},
	})
	if err != nil {
		return nil, fmt.Errorf("starting the user-mode network: %w", err)
	}
	n := &Network{virtual: virtual, metadata: map[string]http.Handler{}}
	listener, err := virtual.Listen("tcp", net.JoinHostPort(MetadataAddress, "80"))
	if err != nil {
		return nil, fmt.Errorf("listening for metadata requests: %w", err)
	}
	n.server = &http.Server{Handler: http.HandlerFunc(n.serveMetadata), ReadHeaderTimeout: time.Minute}
	go n.server.Serve(listener)
	return n, nil
}

// Close stops the metadata server. Machines must have ended.
func (n *Network) Close() error { return n.server.Close() }

// MAC returns the hardware address of the machine at addr: 42:01 and the
// address, as Compute Engine forms it.
func MAC(addr netip.Addr) string {
	b := addr.As4()
	return fmt.Sprintf("42:01:%02x:%02x:%02x:%02x", b[0], b[1], b[2], b[3])
}

// ServeMetadata lets handler answer the metadata requests of the machine at
// addr. A nil handler closes its connections, as if there were no server.
func (n *Network) ServeMetadata(addr netip.Addr, handler http.Handler) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.metadata[addr.String()] = handler
}

func (n *Network) serveMetadata(w http.ResponseWriter, r *http.Request) {
	host, _, _ := net.SplitHostPort(r.RemoteAddr)
	n.mu.Lock()
	handler := n.metadata[host]
	n.mu.Unlock()
	if handler == nil {
		panic(http.ErrAbortHandler) // a reset, not an answer
	}
	handler.ServeHTTP(w, r)
}

// Dial opens a TCP connection to a machine, "10.240.0.20:22".
func (n *Network) Dial(ctx context.Context, address string) (net.Conn, error) {
	return n.virtual.DialContextTCP(ctx, address)
}

// attach serves the link of one machine until conn ends.
func (n *Network) attach(ctx context.Context, conn net.Conn) error {
	return n.virtual.AcceptQemu(ctx, conn)
}
