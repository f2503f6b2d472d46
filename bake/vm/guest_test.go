package vm

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
	"gvisor.dev/gvisor/pkg/tcpip/link/ethernet"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"

	"github.com/nodebake/bake/bake/gce"
)

// guest is a machine's end of the link: a network stack that talks QEMU's
// protocol, set up as DHCP would.
type guest struct {
	stack *stack.Stack
	addr  netip.Addr
}

func newGuest(t *testing.T, n *Network, addr netip.Addr) *guest {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ours, theirs := net.Pipe()
	go n.attach(ctx, theirs, addr)

	mac, err := net.ParseMAC(MAC(addr))
	if err != nil {
		t.Fatal(err)
	}
	link := channel.New(4096, gce.MTU, tcpip.LinkAddress(mac))
	go func() { // out
		for {
			p := link.ReadContext(ctx)
			if p == nil {
				return
			}
			frame := p.ToView().ToSlice()
			p.DecRef()
			ours.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(frame))), frame...))
		}
	}()
	go func() { // in
		for {
			var size [4]byte
			if _, err := io.ReadFull(ours, size[:]); err != nil {
				return
			}
			frame := make([]byte, binary.BigEndian.Uint32(size[:]))
			if _, err := io.ReadFull(ours, frame); err != nil {
				return
			}
			to := header.Ethernet(frame).DestinationAddress()
			if to != tcpip.LinkAddress(mac) && to != header.EthernetBroadcastAddress {
				continue
			}
			p := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(frame)})
			link.InjectInbound(0, p)
			p.DecRef()
		}
	}()
	g := &guest{addr: addr, stack: stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, arp.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4},
	})}
	t.Cleanup(func() {
		cancel()
		ours.Close()
		g.stack.Close()
	})
	if err := g.stack.CreateNIC(nic, ethernet.New(link)); err != nil {
		t.Fatal(err)
	}
	address := tcpip.ProtocolAddress{Protocol: ipv4.ProtocolNumber, AddressWithPrefix: tcpip.AddrFrom4(addr.As4()).WithPrefix()}
	if err := g.stack.AddProtocolAddress(nic, address, stack.AddressProperties{}); err != nil {
		t.Fatal(err)
	}
	g.stack.SetRouteTable([]tcpip.Route{{
		Destination: header.IPv4EmptySubnet, NIC: nic,
		Gateway: tcpip.AddrFrom4(netip.MustParseAddr(Gateway).As4()),
	}})
	return g
}

// dial opens a TCP connection as a program of the guest.
func (g *guest) dial(ctx context.Context, network, address string) (net.Conn, error) {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, err
	}
	to := fullAddress(ap.Addr(), int(ap.Port()))
	if network == "udp" {
		return gonet.DialUDP(g.stack, nil, &to, ipv4.ProtocolNumber)
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return gonet.DialContextTCP(ctx, g.stack, to, ipv4.ProtocolNumber)
}

// lookup asks the network's DNS server.
func (g *guest) lookup(t *testing.T, transport, name string) ([]netip.Addr, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	r := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return g.dial(ctx, transport, gce.MetadataAddress+":53")
	}}
	return r.LookupNetIP(ctx, "ip4", name)
}
