package vm

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
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
	before := n.link(addr)
	go n.attach(ctx, theirs, addr)
	for n.link(addr) == before {
		time.Sleep(time.Millisecond)
	}

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
	g.add(t, addr)
	g.stack.SetRouteTable([]tcpip.Route{{
		Destination: header.IPv4EmptySubnet, NIC: nic,
		Gateway: tcpip.AddrFrom4(netip.MustParseAddr(Gateway).As4()),
	}})
	return g
}

// link returns the link of the machine at addr.
func (n *Network) link(addr netip.Addr) *port {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.ports[addr]
}

// add gives the guest an address: its own, or a pod's that is in it.
func (g *guest) add(t *testing.T, addr netip.Addr) {
	t.Helper()
	address := tcpip.ProtocolAddress{Protocol: ipv4.ProtocolNumber, AddressWithPrefix: tcpip.AddrFrom4(addr.As4()).WithPrefix()}
	if err := g.stack.AddProtocolAddress(nic, address, stack.AddressProperties{}); err != nil {
		t.Fatal(err)
	}
}

// serve answers connections to one of the guest's addresses with the address that
// they come from, and then with what they send.
func (g *guest) serve(t *testing.T, addr netip.Addr, port int) {
	t.Helper()
	listener, err := (&Network{stack: g.stack}).listen(addr, port)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				fmt.Fprintln(conn, conn.RemoteAddr().(*net.TCPAddr).IP)
				io.Copy(conn, conn)
			}()
		}
	}()
}

// dialFrom opens a TCP connection as a pod of the guest.
func (g *guest) dialFrom(from netip.Addr, address string) dialFunc {
	return func(ctx context.Context) (net.Conn, error) {
		ap, err := netip.ParseAddrPort(address)
		if err != nil {
			return nil, err
		}
		return gonet.DialTCPWithBind(ctx, g.stack, fullAddress(from, 0), fullAddress(ap.Addr(), int(ap.Port())), ipv4.ProtocolNumber)
	}
}

// dialFunc opens a connection to a guest that serves.
type dialFunc func(ctx context.Context) (net.Conn, error)

// isSeen requires that a connection is opened, and that it is seen from an
// address. It returns the connection.
func (dial dialFunc) isSeen(t *testing.T, from string) net.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	conn, err := dial(ctx)
	if err != nil {
		t.Fatalf("connecting: %v; want to be seen as %s", err, from)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil || line != from+"\n" {
		t.Fatalf("the other end sees %q, %v; want %s", line, err, from)
	}
	return conn
}

// isDropped requires that nobody answers, neither with a reset.
func (dial dialFunc) isDropped(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 400*time.Millisecond)
	defer cancel()
	conn, err := dial(ctx)
	if err == nil {
		conn.Close()
		t.Fatal("a connection is accepted; want nobody to answer")
	}
	if ctx.Err() == nil {
		t.Fatalf("connecting: %v; want nobody to answer until the time is over", err)
	}
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
