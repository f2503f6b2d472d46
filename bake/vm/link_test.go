package vm

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"github.com/nodebake/bake/bake/gce"
	"github.com/nodebake/bake/bake/vm/vpc"
)

// gatewayMAC is the hardware address of a network's gateway at Gateway.
const gatewayMAC = tcpip.LinkAddress("\x42\x01\x0a\xf0\x00\x01")

// frame makes an Ethernet frame.
func frame(from, to tcpip.LinkAddress, kind tcpip.NetworkProtocolNumber, payload []byte) []byte {
	f := make([]byte, header.EthernetMinimumSize, header.EthernetMinimumSize+len(payload))
	header.Ethernet(f).Encode(&header.EthernetFields{SrcAddr: from, DstAddr: to, Type: kind})
	return append(f, payload...)
}

// packet makes an IPv4 packet.
func packet(from, to string, protocol tcpip.TransportProtocolNumber, payload []byte) []byte {
	p := header.IPv4(make([]byte, header.IPv4MinimumSize, header.IPv4MinimumSize+len(payload)))
	p.Encode(&header.IPv4Fields{
		TotalLength: uint16(header.IPv4MinimumSize + len(payload)), TTL: 64, Protocol: uint8(protocol),
		SrcAddr: fullAddress(netip.MustParseAddr(from), 0).Addr, DstAddr: fullAddress(netip.MustParseAddr(to), 0).Addr,
	})
	p.SetChecksum(^p.CalculateChecksum())
	return append(p, payload...)
}

func ping() []byte {
	p := header.ICMPv4(make([]byte, header.ICMPv4MinimumSize+8))
	p.SetType(header.ICMPv4Echo)
	p.SetChecksum(^checksum.Checksum(p, 0))
	return p
}

func datagram(to uint16, payload []byte) []byte {
	p := header.UDP(make([]byte, header.UDPMinimumSize, header.UDPMinimumSize+len(payload)))
	p.Encode(&header.UDPFields{SrcPort: 40000, DstPort: to, Length: uint16(header.UDPMinimumSize + len(payload))})
	return append(p, payload...)
}

// hostileFrames are what the machine at 10.240.0.20 should not send.
func hostileFrames() [][]byte {
	const self, other = "10.240.0.20", "10.240.0.21"
	me := linkAddress(netip.MustParseAddr(self))
	ip := header.IPv4ProtocolNumber
	frames := [][]byte{
		{}, {0}, make([]byte, 13), make([]byte, 14), make([]byte, maxFrame),
		frame(me, me, ip, packet(self, self, header.UDPProtocolNumber, datagram(9, []byte("self")))),
		frame(gatewayMAC, gatewayMAC, ip, packet(Gateway, Gateway, header.ICMPv4ProtocolNumber, ping())),
		frame(gatewayMAC, me, ip, packet(Gateway, self, header.ICMPv4ProtocolNumber, ping())),
		frame(me, header.EthernetBroadcastAddress, ip, packet(self, "255.255.255.255", header.UDPProtocolNumber, datagram(67, []byte("no DHCP")))),
		frame(me, header.EthernetBroadcastAddress, header.ARPProtocolNumber, []byte{0, 1, 8, 0, 6, 4}),
		frame(me, gatewayMAC, 0x86dd, make([]byte, 40)),
		frame(me, gatewayMAC, 0x0003, nil),
		frame(me, gatewayMAC, ip, packet(self, gce.MetadataAddress, header.UDPProtocolNumber, datagram(53, []byte("no DNS")))),
		frame(me, gatewayMAC, ip, packet(Gateway, Gateway, header.TCPProtocolNumber, make([]byte, 20))),
	}
	for _, to := range []string{self, other, Gateway, gce.MetadataAddress, "0.0.0.0", "127.0.0.1", "224.0.0.1"} {
		frames = append(frames,
			frame(me, gatewayMAC, ip, packet(self, to, header.ICMPv4ProtocolNumber, ping())),
			frame(me, gatewayMAC, ip, packet(self, to, header.UDPProtocolNumber, datagram(9, []byte("to "+to)))),
			frame(me, gatewayMAC, ip, packet(self, to, header.TCPProtocolNumber, []byte{1, 2, 3})),
		)
	}
	whole := frame(me, gatewayMAC, ip, packet(self, Gateway, header.ICMPv4ProtocolNumber, ping()))
	for n := range whole { // cut off anywhere
		frames = append(frames, whole[:n])
	}
	return frames
}

func writeFrame(w io.Writer, frame []byte) error {
	_, err := w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(frame))), frame...))
	return err
}

// TestHostileMachine sends frames over the socket that QEMU would use, and cuts
// the link while answers are on their way. The network goes on for another.
func TestHostileMachine(t *testing.T) {
	t.Parallel()
	worker, other, machines := twoMachines()
	n := newNetwork(t, NetworkConfig{Machines: machines, Isolated: true, Rules: []vpc.Rule{vpc.AllowAll()}})
	listener, err := net.Listen("unix", filepath.Join(t.TempDir(), "net"))
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	for range 20 {
		ended := make(chan error, 1)
		go func() {
			conn, err := listener.Accept()
			if err == nil {
				err = n.attach(context.Background(), conn, worker)
			}
			ended <- err
		}()
		conn, err := net.Dial("unix", listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range hostileFrames() {
			if err := writeFrame(conn, f); err != nil {
				t.Fatalf("the link ended at a frame of %d bytes: %v", len(f), err)
			}
		}
		conn.Close()
		select {
		case err := <-ended:
			// Closing what has answers unread resets the link.
			if _, ok := errors.AsType[*net.OpError](err); err != nil && !ok {
				t.Fatalf("attach = %v; want that the link ended", err)
			}
		case <-time.After(20 * time.Second):
			t.Fatal("attach does not return after the end of its link")
		}
	}
	n.mu.Lock()
	left := len(n.ports)
	n.mu.Unlock()
	if left != 0 {
		t.Errorf("%d links are left; want none", left)
	}
	if got, err := newGuest(t, n, other).lookup(t, "udp", "worker-0"); err != nil || got[0] != worker {
		t.Errorf("the other machine is told %v, %v; want %v", got, err, worker)
	}
}

func TestLinkRefusesLongFrames(t *testing.T) {
	t.Parallel()
	worker, _, machines := twoMachines()
	n := newNetwork(t, NetworkConfig{Machines: machines, Isolated: true})
	ours, theirs := net.Pipe()
	go ours.Write([]byte{0xff, 0xff, 0xff, 0xff})
	err := n.attach(t.Context(), theirs, worker)
	if want := "reading a frame of the machine at 10.240.0.20: it says to have 4294967295 bytes; at most 69632 are possible"; err == nil || err.Error() != want {
		t.Errorf("attach = %v; want %s", err, want)
	}
}

// linked makes a link of the machine at addr, for tests that read its frames.
func linked(t testing.TB, n *Network, addr netip.Addr) *port {
	t.Helper()
	p := newPort(addr, func() {})
	if err := n.connect(p); err != nil {
		t.Fatal(err)
	}
	return p
}

// TestLinkTellsMachinesApart: a machine is who its link says, whatever its frames say.
func TestLinkTellsMachinesApart(t *testing.T) {
	t.Parallel()
	worker, other, machines := twoMachines()
	n := newNetwork(t, NetworkConfig{Machines: machines, Isolated: true, Rules: []vpc.Rule{vpc.AllowAll()}})
	from, to := linked(t, n, worker), linked(t, n, other)
	for _, test := range []struct {
		mac  tcpip.LinkAddress
		ip   string
		want bool
	}{
		{from.mac, "10.240.0.20", true},
		{from.mac, "10.200.0.5", false}, // a pod's
		{from.mac, "10.240.0.21", false},
		{from.mac, Gateway, false},
		{from.mac, gce.MetadataAddress, false},
		{to.mac, "10.240.0.20", false},
		{gatewayMAC, "10.240.0.20", false},
	} {
		n.receive(from, frame(test.mac, gatewayMAC, header.IPv4ProtocolNumber, packet(test.ip, other.String(), header.UDPProtocolNumber, datagram(9, nil))))
		select {
		case got := <-to.out:
			if e := header.Ethernet(got); !test.want || e.SourceAddress() != gatewayMAC || e.DestinationAddress() != to.mac {
				t.Errorf("a packet of %s by %s came from %s to %s; want it from the gateway: %v", test.ip, test.mac, e.SourceAddress(), e.DestinationAddress(), test.want)
			}
		default:
			if test.want {
				t.Errorf("a packet of %s by %s did not arrive", test.ip, test.mac)
			}
		}
	}
}

// TestARP: the gateway has its own address and the metadata server's, and a
// machine's own is free.
func TestARP(t *testing.T) {
	t.Parallel()
	worker, _, machines := twoMachines()
	n := newNetwork(t, NetworkConfig{Machines: machines, Isolated: true})
	p := linked(t, n, worker)
	for _, test := range []struct {
		target string
		op     header.ARPOp
		want   bool
	}{
		{Gateway, header.ARPRequest, true},
		{gce.MetadataAddress, header.ARPRequest, true},
		{"10.240.0.20", header.ARPRequest, false},
		{"10.240.0.21", header.ARPRequest, false},
		{"8.8.8.8", header.ARPRequest, false},
		{Gateway, header.ARPReply, false},
	} {
		question := header.ARP(make([]byte, header.ARPSize))
		question.SetIPv4OverEthernet()
		question.SetOp(test.op)
		copy(question.HardwareAddressSender(), p.mac)
		copy(question.ProtocolAddressSender(), worker.AsSlice())
		copy(question.ProtocolAddressTarget(), netip.MustParseAddr(test.target).AsSlice())
		n.receive(p, frame(p.mac, header.EthernetBroadcastAddress, header.ARPProtocolNumber, question))
		if len(p.out) == 0 {
			if test.want {
				t.Errorf("a question for %s is not answered", test.target)
			}
			continue
		}
		got := header.Ethernet(<-p.out)
		reply := header.ARP(got[header.EthernetMinimumSize:])
		if !test.want || got.DestinationAddress() != p.mac || !reply.IsValid() || reply.Op() != header.ARPReply ||
			tcpip.LinkAddress(reply.HardwareAddressSender()) != gatewayMAC || !bytes.Equal(reply.ProtocolAddressSender(), question.ProtocolAddressTarget()) ||
			tcpip.LinkAddress(reply.HardwareAddressTarget()) != p.mac || !bytes.Equal(reply.ProtocolAddressTarget(), worker.AsSlice()) {
			t.Errorf("operation %d for %s is answered by %x; want the gateway's address: %v", test.op, test.target, []byte(got), test.want)
		}
	}
}

// TestLease asks for an address as a machine does that has none, and for a longer
// lease as one that has.
func TestLease(t *testing.T) {
	t.Parallel()
	worker, _, machines := twoMachines()
	n := newNetwork(t, NetworkConfig{Machines: machines, Isolated: true})
	p := linked(t, n, worker)
	discovery, err := dhcpv4.NewDiscovery(net.HardwareAddr(p.mac))
	if err != nil {
		t.Fatal(err)
	}
	renewal, err := dhcpv4.New(dhcpv4.WithMessageType(dhcpv4.MessageTypeRequest), dhcpv4.WithHwAddr(net.HardwareAddr(p.mac)), dhcpv4.WithClientIP(worker.AsSlice()))
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		message  *dhcpv4.DHCPv4
		from, to string
		want     string
	}{
		{discovery, "0.0.0.0", "255.255.255.255", "OFFER 10.240.0.20 to ff:ff:ff:ff:ff:ff"},
		{renewal, "10.240.0.20", gce.MetadataAddress, "ACK 10.240.0.20 to 42:01:0a:f0:00:14"},
	} {
		question := datagram(67, test.message.ToBytes())
		header.UDP(question).Encode(&header.UDPFields{SrcPort: 68, DstPort: 67, Length: uint16(len(question))})
		n.receive(p, frame(p.mac, gatewayMAC, header.IPv4ProtocolNumber, packet(test.from, test.to, header.UDPProtocolNumber, question)))
		select {
		case got := <-p.out:
			const headers = header.EthernetMinimumSize + header.IPv4MinimumSize + header.UDPMinimumSize
			reply, err := dhcpv4.FromBytes(got[headers:])
			if err != nil {
				t.Fatal(err)
			}
			if said := fmt.Sprintf("%s %s to %s", reply.MessageType(), reply.YourIPAddr, header.Ethernet(got).DestinationAddress()); said != test.want {
				t.Errorf("the answer is %s; want %s", said, test.want)
			}
		case <-time.After(10 * time.Second):
			t.Errorf("%s from %s is not answered", test.message.MessageType(), test.from)
		}
	}
}

// FuzzLink reads what a machine sends as QEMU passes it on.
func FuzzLink(f *testing.F) {
	var all bytes.Buffer
	for _, frame := range hostileFrames() {
		if len(frame) < 2000 {
			var one bytes.Buffer
			writeFrame(&one, frame)
			f.Add(one.Bytes())
			writeFrame(&all, frame)
		}
	}
	f.Add(all.Bytes())
	worker, _, machines := twoMachines()
	n, err := NewNetwork(NetworkConfig{Machines: machines, Isolated: true, Rules: []vpc.Rule{vpc.AllowAll()}})
	if err != nil {
		f.Fatal(err)
	}
	defer n.Close()
	p := linked(f, n, worker)
	f.Fuzz(func(t *testing.T, stream []byte) {
		r := bytes.NewReader(stream)
		for {
			frame, err := readFrame(r)
			if err != nil {
				return
			}
			if len(frame) >= header.EthernetMinimumSize { // else most are somebody else's
				copy(frame[6:], p.mac)
			}
			n.receive(p, frame)
		}
	})
}
