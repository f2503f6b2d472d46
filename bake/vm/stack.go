package vm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/containers/gvisor-tap-vsock/pkg/services/forwarder"
	"github.com/containers/gvisor-tap-vsock/pkg/tap"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"
)

const (
	nic = 1

	// dialTime bounds a connection that the host makes for a machine, and
	// maxDials how many are under way: one that hangs must not hold up others.
	dialTime = 30 * time.Second
	maxDials = 512
)

// makeStack makes the gateway's network stack. It accepts packets for whatever
// address and, where nothing of ours listens, forwards connections by sockets
// of the host. gvisor-tap-vsock's own (pkg/virtualnetwork) serves DNS at the
// gateway only and can't be told what not to forward; its parts are used here.
func (n *Network) makeStack() error {
	endpoint, err := tap.NewLinkEndpoint(false, uint32(n.config.MTU), gatewayMAC, Gateway, []string{MetadataAddress})
	if err != nil {
		return err
	}
	n.link = tap.NewSwitch(false)
	endpoint.Connect(n.link)
	n.link.Connect(&router{LinkEndpoint: endpoint, network: n})

	s := stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, arp.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4},
	})
	n.stack = s
	if err := s.CreateNIC(nic, endpoint); err != nil {
		return errors.New(err.String())
	}
	address := tcpip.ProtocolAddress{Protocol: ipv4.ProtocolNumber, AddressWithPrefix: tcpip.AddrFrom4(netip.MustParseAddr(Gateway).As4()).WithPrefix()}
	if err := s.AddProtocolAddress(nic, address, stack.AddressProperties{}); err != nil {
		return errors.New(err.String())
	}
	s.SetSpoofing(nic, true)
	s.SetPromiscuousMode(nic, true)
	prefix := netip.MustParsePrefix(subnet)
	destination, err := tcpip.NewSubnet(tcpip.AddrFrom4(prefix.Addr().As4()), tcpip.MaskFromBytes(net.CIDRMask(prefix.Bits(), 32)))
	if err != nil {
		return err
	}
	s.SetRouteTable([]tcpip.Route{{Destination: destination, NIC: nic}})

	// What the handlers refuse is answered with a reset or by ICMP.
	out := tcp.NewForwarder(s, 0, maxDials, n.forwardTCP)
	s.SetTransportProtocolHandler(tcp.ProtocolNumber, func(id stack.TransportEndpointID, p *stack.PacketBuffer) bool {
		_, ok := n.outside(id.LocalAddress)
		return ok && out.HandlePacket(id, p)
	})
	translation := map[tcpip.Address]tcpip.Address{}
	if n.config.HostLoopback {
		translation[address.AddressWithPrefix.Address] = tcpip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	outUDP := forwarder.UDP(s, translation, new(sync.Mutex), false)
	s.SetTransportProtocolHandler(udp.ProtocolNumber, func(id stack.TransportEndpointID, p *stack.PacketBuffer) bool {
		_, ok := n.outside(id.LocalAddress)
		return ok && outUDP.HandlePacket(id, p)
	})
	return nil
}

// outside returns the host's name for the address that a machine wants to
// reach, and whether it may.
func (n *Network) outside(to tcpip.Address) (netip.Addr, bool) {
	if to.Len() != 4 {
		return netip.Addr{}, false
	}
	addr := netip.AddrFrom4(to.As4())
	switch {
	case addr.String() == Gateway:
		return netip.AddrFrom4([4]byte{127, 0, 0, 1}), n.config.HostLoopback
	case n.config.Isolated,
		addr.IsUnspecified(), addr.IsLoopback(), // both would be the host's
		addr.IsLinkLocalUnicast(), addr.IsMulticast(), addr == netip.AddrFrom4([4]byte{255, 255, 255, 255}),
		netip.MustParsePrefix(subnet).Contains(addr),
		netip.MustParsePrefix(virtualSubnet).Contains(addr):
		return addr, false
	}
	return addr, true
}

// forwardTCP runs for each connection that leaves the network.
func (n *Network) forwardTCP(r *tcp.ForwarderRequest) {
	addr, ok := n.outside(r.ID().LocalAddress)
	if !ok {
		r.Complete(true)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), dialTime)
	defer cancel()
	out, err := new(net.Dialer).DialContext(ctx, "tcp4", net.JoinHostPort(addr.String(), strconv.Itoa(int(r.ID().LocalPort))))
	if err != nil {
		r.Complete(true)
		return
	}
	var queue waiter.Queue
	ep, tcpErr := r.CreateEndpoint(&queue)
	r.Complete(false)
	if tcpErr != nil {
		out.Close()
		return
	}
	go join(gonet.NewTCPConn(&queue, ep), out)
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

// router is the gateway as the switch sees it: packets for another machine go
// to that machine, since everybody has a /32; the rest is for the stack.
type router struct {
	*tap.LinkEndpoint
	network *Network
}

// DeliverNetworkPacket implements tap.VirtualDevice.
func (r *router) DeliverNetworkPacket(protocol tcpip.NetworkProtocolNumber, pkt *stack.PacketBuffer) {
	if protocol == header.IPv4ProtocolNumber {
		view := pkt.ToView()
		defer view.Release()
		packet := header.IPv4(view.AsSlice())
		if len(packet) >= header.IPv4MinimumSize {
			to := netip.AddrFrom4(packet.DestinationAddress().As4())
			if _, ok := r.network.machines[to]; ok {
				r.forward(to, packet)
				return
			}
		}
	}
	r.LinkEndpoint.DeliverNetworkPacket(protocol, pkt)
}

func (r *router) forward(to netip.Addr, packet []byte) {
	mac, err := net.ParseMAC(MAC(to))
	if err != nil {
		panic(fmt.Sprintf("BUG: %v", err)) // we made it
	}
	frame := make([]byte, header.EthernetMinimumSize+len(packet))
	header.Ethernet(frame).Encode(&header.EthernetFields{Type: header.IPv4ProtocolNumber, SrcAddr: r.LinkAddress(), DstAddr: tcpip.LinkAddress(mac)})
	copy(frame[header.EthernetMinimumSize:], packet)
	out := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(frame)})
	defer out.DecRef()
	r.network.link.DeliverNetworkPacket(header.IPv4ProtocolNumber, out)
}
