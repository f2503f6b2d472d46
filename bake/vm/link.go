package vm

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/nodebake/bake/bake/vm/vpc"
)

const (
	// maxFrame is more than QEMU ever sends: 64 KiB and 4 KiB for headers
	// (NET_BUFSIZE in its include/net/net.h).
	maxFrame = 68 << 10

	// maxQueued bounds the frames that wait for a machine or leave the stack.
	// What is over it is dropped, as a network does.
	maxQueued = 4096
)

// port is the gateway's end of one machine's link.
type port struct {
	addr  netip.Addr
	mac   tcpip.LinkAddress
	out   chan []byte // frames for the machine
	close context.CancelFunc
}

func newPort(addr netip.Addr, end context.CancelFunc) *port {
	return &port{addr: addr, mac: linkAddress(addr), out: make(chan []byte, maxQueued), close: end}
}

// send queues a frame.
func (p *port) send(frame []byte) {
	select {
	case p.out <- frame:
	default:
	}
}

// attach serves the link of the machine at addr until conn ends, which is no
// error, or ctx. conn carries frames behind their length, 32 bits big-endian:
// what QEMU's "-netdev stream" speaks.
//
// There is no switch: on Compute Engine machines see the gateway and never each
// other's frames. So a machine is known by its link and needs no learning, and
// what it says about who it is can only be dropped.
func (n *Network) attach(ctx context.Context, conn net.Conn, addr netip.Addr) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer conn.Close()
	p := newPort(addr, cancel)
	if err := n.connect(p); err != nil {
		return err
	}
	defer n.disconnect(p)
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	go func() {
		defer cancel()
		for {
			select {
			case frame := <-p.out:
				message := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(frame)), uint32(len(frame)))
				if _, err := conn.Write(append(message, frame...)); err != nil {
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	r := bufio.NewReaderSize(conn, 4+maxFrame)
	for {
		frame, err := readFrame(r)
		switch {
		case err == io.EOF || ctx.Err() != nil:
			return nil
		case err != nil:
			return fmt.Errorf("reading a frame of the machine at %s: %w", addr, err)
		}
		n.receive(p, frame)
	}
}

// connect makes p the link of its machine, in place of the one that it may have
// had before: it was started again, or is another one at the same address.
func (n *Network) connect(p *port) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, ok := n.machines[p.addr]; !ok {
		return fmt.Errorf("the network has no machine at %s", p.addr)
	}
	if before := n.ports[p.addr]; before != nil {
		before.close()
	}
	n.ports[p.addr] = p
	n.vpc.Restart(p.addr)
	return nil
}

func (n *Network) disconnect(p *port) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ports[p.addr] == p {
		delete(n.ports, p.addr)
	}
}

// readFrame returns io.EOF where the link ends between frames.
func readFrame(r io.Reader) ([]byte, error) {
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(size[:])
	if n > maxFrame {
		return nil, fmt.Errorf("it says to have %d bytes; at most %d are possible", n, maxFrame)
	}
	frame := make([]byte, n)
	if _, err := io.ReadFull(r, frame); err != nil {
		return nil, io.ErrUnexpectedEOF
	}
	return frame, nil
}

// receive takes a frame from a machine.
func (n *Network) receive(p *port, frame []byte) {
	if len(frame) < header.EthernetMinimumSize {
		return
	}
	ethernet := header.Ethernet(frame)
	to := ethernet.DestinationAddress()
	if ethernet.SourceAddress() != p.mac || to != n.mac && to != header.EthernetBroadcastAddress {
		return
	}
	content := frame[header.EthernetMinimumSize:]
	switch ethernet.Type() {
	case header.ARPProtocolNumber:
		if reply := n.answerARP(content); reply != nil {
			p.send(n.frame(p.mac, header.ARPProtocolNumber, reply))
		}
	case header.IPv4ProtocolNumber:
		n.route(p, content)
	}
}

// answerARP returns the answer to a question for the gateway's address or the
// metadata server's: nil to others. A machine that looks whether its own address
// is free must not find it taken.
func (n *Network) answerARP(content []byte) []byte {
	question := header.ARP(content)
	if !question.IsValid() || question.Op() != header.ARPRequest {
		return nil
	}
	target := netip.AddrFrom4([4]byte(question.ProtocolAddressTarget()))
	if target != n.gateway && target != metadataAddress() {
		return nil
	}
	reply := header.ARP(make([]byte, header.ARPSize))
	reply.SetIPv4OverEthernet()
	reply.SetOp(header.ARPReply)
	copy(reply.HardwareAddressSender(), n.mac)
	copy(reply.ProtocolAddressSender(), question.ProtocolAddressTarget())
	copy(reply.HardwareAddressTarget(), question.HardwareAddressSender())
	copy(reply.ProtocolAddressTarget(), question.ProtocolAddressSender())
	return reply
}

// route takes a packet from a machine to where it goes: another machine, or the
// stack.
func (n *Network) route(p *port, data []byte) {
	packet, ok := vpc.Parse(data)
	if !ok {
		return
	}
	data = data[:packet.Length]
	switch target, to := n.decide(p, packet); {
	case target.Host:
		n.inject(data)
	case to != nil:
		to.send(n.frame(to.mac, header.IPv4ProtocolNumber, data))
	}
}

// decide returns where a packet of p's machine goes, and the link of the machine
// that it goes to: nil where it is off.
func (n *Network) decide(p *port, packet vpc.Packet) (vpc.Target, *port) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ports[p.addr] != p {
		return vpc.Target{}, nil // another machine has its address by now
	}
	target := n.vpc.Send(n.now(), p.addr, packet)
	return target, n.ports[target.Machine]
}

// frame makes a frame that comes from the gateway.
func (n *Network) frame(to tcpip.LinkAddress, kind tcpip.NetworkProtocolNumber, content []byte) []byte {
	frame := make([]byte, header.EthernetMinimumSize+len(content))
	header.Ethernet(frame).Encode(&header.EthernetFields{Type: kind, SrcAddr: n.mac, DstAddr: to})
	copy(frame[header.EthernetMinimumSize:], content)
	return frame
}

// inject gives a packet to the stack.
func (n *Network) inject(packet []byte) {
	in := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(packet)})
	defer in.DecRef()
	n.endpoint.InjectInbound(header.IPv4ProtocolNumber, in)
}

// deliver takes what the stack sends to its machines, until ctx ends.
func (n *Network) deliver(ctx context.Context) {
	for {
		out := n.endpoint.ReadContext(ctx)
		if out == nil {
			return
		}
		view := out.ToView()
		data := view.ToSlice()
		view.Release()
		out.DecRef()
		if packet, ok := vpc.Parse(data); ok {
			n.fromStack(packet, data)
		}
	}
}

func (n *Network) fromStack(packet vpc.Packet, data []byte) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if packet.To.Addr() == netip.AddrFrom4([4]byte{255, 255, 255, 255}) { // DHCP's, to who has no address yet
		for _, p := range n.ports {
			p.send(n.frame(header.EthernetBroadcastAddress, header.IPv4ProtocolNumber, data))
		}
		return
	}
	if p := n.ports[n.vpc.FromHost(n.now(), packet).Machine]; p != nil {
		p.send(n.frame(p.mac, header.IPv4ProtocolNumber, data))
	}
}

func linkAddress(addr netip.Addr) tcpip.LinkAddress {
	mac, err := net.ParseMAC(MAC(addr))
	if err != nil {
		panic(fmt.Sprintf("BUG: %v", err)) // we made it
	}
	return tcpip.LinkAddress(mac)
}
