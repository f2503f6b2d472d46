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

	"github.com/nodebake/bake/bake/gce"
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
	addr netip.Addr
	mac  tcpip.LinkAddress
	out  chan []byte // frames for the machine
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
	p := &port{addr: addr, mac: linkAddress(addr), out: make(chan []byte, maxQueued)}
	n.mu.Lock()
	n.ports[addr] = p // a machine's that is started again
	n.mu.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	defer func() {
		cancel()
		conn.Close()
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.ports[addr] == p {
			delete(n.ports, addr)
		}
	}()
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

// receive takes a frame from a machine: packets for another machine go to that
// machine, since everybody has a /32; the rest is for the gateway's stack.
func (n *Network) receive(p *port, frame []byte) {
	if len(frame) < header.EthernetMinimumSize {
		return
	}
	ethernet := header.Ethernet(frame)
	to := ethernet.DestinationAddress()
	if ethernet.SourceAddress() != p.mac || to != n.endpoint.LinkAddress() && to != header.EthernetBroadcastAddress {
		return
	}
	packet := header.IPv4(frame[header.EthernetMinimumSize:])
	if ethernet.Type() == header.IPv4ProtocolNumber {
		if len(packet) < header.IPv4MinimumSize || n.forged(p, netip.AddrFrom4(packet.SourceAddress().As4())) {
			return
		}
		to := netip.AddrFrom4(packet.DestinationAddress().As4())
		if _, ok := n.machines[to]; ok {
			if to != p.addr { // a machine finds itself without us
				n.forward(to, packet)
			}
			return
		}
	}
	in := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(frame)})
	defer in.DecRef()
	n.endpoint.InjectInbound(ethernet.Type(), in)
}

// forged reports whether a packet of p's machine claims to be from another
// machine or from us. Addresses of its pods are its own.
func (n *Network) forged(p *port, from netip.Addr) bool {
	_, machine := n.machines[from]
	return machine && from != p.addr || from == n.gateway || from.String() == gce.MetadataAddress
}

// forward sends a packet to a machine, from the gateway.
func (n *Network) forward(to netip.Addr, packet []byte) {
	n.mu.Lock()
	p := n.ports[to]
	n.mu.Unlock()
	if p == nil {
		return // it is off
	}
	frame := make([]byte, header.EthernetMinimumSize+len(packet))
	header.Ethernet(frame).Encode(&header.EthernetFields{Type: header.IPv4ProtocolNumber, SrcAddr: n.endpoint.LinkAddress(), DstAddr: p.mac})
	copy(frame[header.EthernetMinimumSize:], packet)
	p.send(frame)
}

// deliver takes what the stack sends to its machines, until ctx ends.
func (n *Network) deliver(ctx context.Context) {
	for {
		packet := n.endpoint.ReadContext(ctx)
		if packet == nil {
			return
		}
		view := packet.ToView()
		frame := view.ToSlice()
		view.Release()
		packet.DecRef()
		if len(frame) < header.EthernetMinimumSize || n.foreignARP(frame) {
			continue
		}
		to := header.Ethernet(frame).DestinationAddress()
		n.mu.Lock()
		for _, p := range n.ports {
			if p.mac == to || to == header.EthernetBroadcastAddress {
				p.send(frame)
			}
		}
		n.mu.Unlock()
	}
}

// foreignARP reports whether a frame says that an address is the gateway's which
// is not: the stack takes packets for any address, and so answers for all. A
// machine that looks whether its own is free would find it taken.
func (n *Network) foreignARP(frame []byte) bool {
	if header.Ethernet(frame).Type() != header.ARPProtocolNumber {
		return false
	}
	arp := header.ARP(frame[header.EthernetMinimumSize:])
	if !arp.IsValid() || arp.Op() != header.ARPReply {
		return false
	}
	addr := netip.AddrFrom4([4]byte(arp.ProtocolAddressSender()))
	return addr != n.gateway && addr.String() != gce.MetadataAddress
}

func linkAddress(addr netip.Addr) tcpip.LinkAddress {
	mac, err := net.ParseMAC(MAC(addr))
	if err != nil {
		panic(fmt.Sprintf("BUG: %v", err)) // we made it
	}
	return tcpip.LinkAddress(mac)
}
