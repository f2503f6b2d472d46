package vpc

import (
	"encoding/binary"
	"net/netip"
)

// Protocol is an IP protocol's number; zero stands for all of them in a rule.
type Protocol uint8

// The protocols that are treated apart.
const (
	ICMP Protocol = 1
	TCP  Protocol = 6
	UDP  Protocol = 17
	GRE  Protocol = 47
	SCTP Protocol = 132
)

// Packet is what is read of an IPv4 packet.
type Packet struct {
	Protocol Protocol
	Length   int // of the whole packet, without what pads a frame

	// From and To have ports for TCP, UDP and SCTP. Who asks for an echo has the
	// echo's identifier for a port, and who answers has 0. Otherwise ports are 0,
	// and so in fragments after the first.
	From, To netip.AddrPort

	Opens bool // it is TCP's first of a connection
	Echo  bool // it asks for an ICMP echo, or is one

	// Fragment says that it is one of several, which have the same ID; Later that
	// it is not the first.
	Fragment, Later bool
	ID              uint16

	// Cause is the connection that an ICMP error is about, seen from whom the error
	// is for; nil in other packets.
	Cause *Flow
}

// Flow is what packets of one connection have in common, seen from one end.
type Flow struct {
	Protocol      Protocol
	Local, Remote netip.AddrPort
	Fragment      bool // it is the fragments of one packet, and the port their ID
}

// ICMP's types (RFC 792).
const (
	echoReply       = 0
	unreachable     = 3
	echoRequest     = 8
	timeExceeded    = 11
	badParameter    = 12
	icmpHeaderSize  = 8
	quotedBytes     = 8 // that an error has of a packet's content, at least
	leastHeader     = 20
	moreFragments   = 1 << 13
	fragmentOffsets = moreFragments - 1
)

// Parse reads an IPv4 packet (RFC 791). It reports false for what is none, is cut
// off, or has too little of its protocol's header to be judged by.
func Parse(data []byte) (Packet, bool) {
	p, content, ok := parseHeader(data)
	if !ok || p.Length > len(data) {
		return Packet{}, false
	}
	content = content[:p.Length-(len(data)-len(content))]
	if p.Later {
		// What begins here would overwrite the flags of the first (RFC 1858, section 3).
		const overwrites = 1
		return p, p.Protocol != TCP || fragmentField(data)&fragmentOffsets != overwrites
	}
	if len(content) < p.Protocol.leastContent() {
		return Packet{}, false
	}
	p.setPorts(content)
	switch p.Protocol {
	case TCP:
		const flags, syn, ack = 13, 1 << 1, 1 << 4
		p.Opens = content[flags]&(syn|ack) == syn
	case ICMP:
		switch content[0] {
		case unreachable, timeExceeded, badParameter:
			if p.Cause, ok = parseCause(content[icmpHeaderSize:]); !ok {
				return Packet{}, false
			}
		}
	}
	return p, true
}

// leastContent is the size of a protocol's header without options.
func (p Protocol) leastContent() int {
	switch p {
	case TCP:
		return 20
	case UDP:
		return 8
	case SCTP:
		return 12
	case ICMP:
		return icmpHeaderSize
	}
	return 0
}

// parseHeader reads the header alone, and returns what comes after it.
func parseHeader(data []byte) (p Packet, content []byte, ok bool) {
	if len(data) < leastHeader || data[0]>>4 != 4 {
		return Packet{}, nil, false
	}
	size := int(data[0]&15) * 4
	p = Packet{
		Protocol: Protocol(data[9]),
		Length:   int(binary.BigEndian.Uint16(data[2:])),
		From:     netip.AddrPortFrom(netip.AddrFrom4([4]byte(data[12:])), 0),
		To:       netip.AddrPortFrom(netip.AddrFrom4([4]byte(data[16:])), 0),
		ID:       binary.BigEndian.Uint16(data[4:]),
	}
	if size < leastHeader || size > len(data) || p.Length < size {
		return Packet{}, nil, false
	}
	field := fragmentField(data)
	p.Later = field&fragmentOffsets != 0
	p.Fragment = p.Later || field&moreFragments != 0
	return p, data[size:], true
}

func fragmentField(data []byte) uint16 { return binary.BigEndian.Uint16(data[6:]) }

// setPorts reads them from the first bytes of the content.
func (p *Packet) setPorts(content []byte) {
	var from, to uint16
	switch p.Protocol {
	case TCP, UDP, SCTP:
		from, to = binary.BigEndian.Uint16(content), binary.BigEndian.Uint16(content[2:])
	case ICMP:
		switch id := binary.BigEndian.Uint16(content[4:]); content[0] {
		case echoRequest:
			from, p.Echo = id, true
		case echoReply:
			to, p.Echo = id, true
		}
	}
	p.From, p.To = netip.AddrPortFrom(p.From.Addr(), from), netip.AddrPortFrom(p.To.Addr(), to)
}

// parseCause reads the beginning of the packet that an ICMP error is about.
func parseCause(data []byte) (*Flow, bool) {
	p, content, ok := parseHeader(data)
	if !ok || len(content) < quotedBytes || p.Later {
		return nil, false
	}
	p.setPorts(content)
	flow := p.sent()
	return &flow, true
}

// sent is the packet's connection, seen from who sends it.
func (p Packet) sent() Flow { return Flow{Protocol: p.Protocol, Local: p.From, Remote: p.To} }

// received is the packet's connection, seen from who gets it.
func (p Packet) received() Flow { return Flow{Protocol: p.Protocol, Local: p.To, Remote: p.From} }
