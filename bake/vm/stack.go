package vm

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/nodebake/bake/bake/gce"
)

const (
	nic = 1

	// dialTime bounds a connection that the host makes for a machine, and
	// maxDials how many are under way: one that hangs must not hold up others.
	dialTime = 30 * time.Second
	maxDials = 512

	// maxFlows bounds the connections of all machines that leave the network:
	// each has a socket and buffers of the host. Datagrams between two ports
	// are one until none came for idleTime.
	maxFlows = 1024
	idleTime = 90 * time.Second
)

// makeStack makes the gateway's network stack, which knows packets and no frames.
// It accepts those for whatever address and, where nothing of ours listens,
// forwards connections by sockets of the host.
//
// The stack is gVisor's, which is made for machines that mean harm; what lies
// between it and QEMU is ours. github.com/containers/gvisor-tap-vsock has a
// switch, forwarders and a DNS server as well, which were used once: a machine
// could end this process by a frame of less than 14 bytes, or by frames to
// itself before its link ended, and use any number of sockets.
func (n *Network) makeStack() error {
	// Its own checksums cost time, and nothing changes a packet on the way.
	n.endpoint = channel.New(maxQueued, uint32(n.config.MTU), "")
	n.endpoint.LinkEPCapabilities = stack.CapabilityRXChecksumOffload

	s := stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4},
	})
	n.stack = s
	if err := s.CreateNIC(nic, n.endpoint); err != nil {
		return errors.New(err.String())
	}
	address := tcpip.ProtocolAddress{Protocol: ipv4.ProtocolNumber, AddressWithPrefix: tcpip.AddrFrom4(n.gateway.As4()).WithPrefix()}
	if err := s.AddProtocolAddress(nic, address, stack.AddressProperties{}); err != nil {
		return errors.New(err.String())
	}
	s.SetSpoofing(nic, true)
	s.SetPromiscuousMode(nic, true)
	// Where a packet goes is n.vpc's to decide, the stack's own as well.
	s.SetRouteTable([]tcpip.Route{{Destination: header.IPv4EmptySubnet, NIC: nic}})

	out := tcp.NewForwarder(s, 0, maxDials, n.forwardTCP)
	s.SetTransportProtocolHandler(tcp.ProtocolNumber, n.handler(out.HandlePacket))
	outUDP := udp.NewForwarder(s, n.forwardUDP)
	s.SetTransportProtocolHandler(udp.ProtocolNumber, n.handler(outUDP.HandlePacket))
	ctx, cancel := context.WithCancel(context.Background())
	n.closers = append(n.closers, func() error { cancel(); return nil })
	go n.deliver(ctx)
	return nil
}

// handler returns what happens to packets where nothing of ours listens: forward,
// where they may leave. Of the rest the stack answers, with a reset or by ICMP,
// those for addresses that we serve, as a machine that is on does; others are
// dropped, as on Compute Engine.
func (n *Network) handler(forward func(stack.TransportEndpointID, *stack.PacketBuffer) bool) func(stack.TransportEndpointID, *stack.PacketBuffer) bool {
	return func(id stack.TransportEndpointID, p *stack.PacketBuffer) bool {
		if _, ok := n.outside(id.LocalAddress); ok {
			return forward(id, p)
		}
		return !n.serves(netip.AddrFrom4(id.LocalAddress.As4()))
	}
}

// serves reports whether an address is one of the host's side.
func (n *Network) serves(addr netip.Addr) bool {
	return addr == n.gateway || addr == metadataAddress() || slices.ContainsFunc(served(), func(p netip.Prefix) bool { return p.Contains(addr) })
}

// served are the addresses that the host's side answers for, beside the gateway's
// and the metadata server's.
func served() []netip.Prefix {
	return []netip.Prefix{netip.MustParsePrefix(virtualSubnet), netip.PrefixFrom(netip.MustParseAddr(Outside), 32)}
}

func metadataAddress() netip.Addr { return netip.MustParseAddr(gce.MetadataAddress) }

// outside returns the host's name for the address that a machine wants to
// reach, and whether it may. It is asked about each connection, so whatever
// names a machine has looked up, it reaches what it may.
func (n *Network) outside(to tcpip.Address) (netip.Addr, bool) {
	if to.Len() != 4 {
		return netip.Addr{}, false
	}
	addr := netip.AddrFrom4(to.As4())
	switch {
	case addr == n.gateway:
		return netip.AddrFrom4([4]byte{127, 0, 0, 1}), n.config.HostLoopback
	case n.config.Isolated,
		netip.MustParsePrefix("0.0.0.0/8").Contains(addr), addr.IsLoopback(), // both would be the host's
		addr.IsLinkLocalUnicast(), addr.IsMulticast(), addr == netip.AddrFrom4([4]byte{255, 255, 255, 255}),
		n.config.Subnet.Contains(addr), n.serves(addr):
		return addr, false
	}
	return addr, n.config.LAN || !n.isLocal(addr)
}

// isLocal reports whether an address is not the internet's: a private one, or
// in a network that the host is on, its own addresses included.
func (n *Network) isLocal(addr netip.Addr) bool {
	if isPrivate(addr) {
		return true
	}
	addrs, err := n.hostAddrs()
	if err != nil {
		return true // we can't know
	}
	for _, a := range addrs {
		// A network of all addresses says nothing; of its host, the address does.
		prefix, err := netip.ParsePrefix(a.String())
		if err == nil && (prefix.Addr() == addr || prefix.Bits() > 0 && prefix.Contains(addr)) {
			return true
		}
	}
	return false
}

// isPrivate reports whether an address is one that several networks have, by
// the registry of RFC 6890: those of RFC 1918 and of carriers (RFC 6598), and
// what is for protocols, measurements (RFC 2544) or for later.
func isPrivate(addr netip.Addr) bool {
	for _, prefix := range []string{"100.64.0.0/10", "192.0.0.0/24", "198.18.0.0/15", "240.0.0.0/4"} {
		if netip.MustParsePrefix(prefix).Contains(addr) {
			return true
		}
	}
	return addr.IsPrivate() || addr.IsLoopback() || addr.IsLinkLocalUnicast() || addr.IsUnspecified()
}

// forwardTCP runs for each connection that leaves the network.
func (n *Network) forwardTCP(r *tcp.ForwarderRequest) {
	addr, ok := n.outside(r.ID().LocalAddress)
	if !ok || !n.takeFlow() {
		r.Complete(true)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), dialTime)
	defer cancel()
	out, err := n.dial(ctx, "tcp4", hostPort(addr, r.ID().LocalPort))
	if err != nil {
		n.endFlow()
		r.Complete(true)
		return
	}
	var queue waiter.Queue
	ep, tcpErr := r.CreateEndpoint(&queue)
	r.Complete(false)
	if tcpErr != nil {
		n.endFlow()
		out.Close()
		return
	}
	go func() {
		defer n.endFlow()
		join(gonet.NewTCPConn(&queue, ep), out)
	}()
}

// forwardUDP runs for the first datagram from a port of a machine to one elsewhere.
func (n *Network) forwardUDP(r *udp.ForwarderRequest) bool {
	addr, ok := n.outside(r.ID().LocalAddress)
	if !ok {
		return false
	}
	if !n.takeFlow() {
		return true // lost, as datagrams may be
	}
	out, err := n.dial(context.Background(), "udp4", hostPort(addr, r.ID().LocalPort)) // asks nobody
	if err != nil {
		n.endFlow()
		return false
	}
	var queue waiter.Queue
	ep, udpErr := r.CreateEndpoint(&queue)
	if udpErr != nil {
		n.endFlow()
		out.Close()
		return true
	}
	go func() {
		defer n.endFlow()
		exchange(gonet.NewUDPConn(&queue, ep), out)
	}()
	return true
}

func hostPort(addr netip.Addr, port uint16) string {
	return netip.AddrPortFrom(addr, port).String()
}

// takeFlow reports whether one more connection may leave the network.
func (n *Network) takeFlow() bool {
	select {
	case n.flows <- struct{}{}:
		return true
	default:
		return false
	}
}

func (n *Network) endFlow() { <-n.flows }

// exchange passes datagrams on both ways until none came for idleTime.
func exchange(a, b net.Conn) {
	var wg sync.WaitGroup
	one := func(to, from net.Conn) {
		defer a.Close()
		defer b.Close()
		buf := make([]byte, 64<<10)
		for {
			until := time.Now().Add(idleTime)
			a.SetReadDeadline(until)
			b.SetReadDeadline(until)
			size, err := from.Read(buf)
			if err != nil {
				return
			}
			to.Write(buf[:size]) // one that is lost is no end
		}
	}
	wg.Go(func() { one(a, b) })
	wg.Go(func() { one(b, a) })
	wg.Wait()
}

// join copies both ways until both have ended, then closes both.
func join(a, b net.Conn) {
	var wg sync.WaitGroup
	one := func(to, from net.Conn) {
		io.Copy(to, from)
		// The other direction may go on.
		if c, ok := to.(interface{ CloseWrite() error }); ok {
			c.CloseWrite()
		}
	}
	wg.Go(func() { one(a, b) })
	wg.Go(func() { one(b, a) })
	wg.Wait()
	a.Close()
	b.Close()
}
