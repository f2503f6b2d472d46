package vpc

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// header makes an IPv4 packet; change is told its header, 20 bytes long.
func header(from, to string, protocol Protocol, content []byte, change func([]byte)) []byte {
	data := make([]byte, 20, 20+len(content))
	data[0], data[8], data[9] = 0x45, 64, byte(protocol)
	binary.BigEndian.PutUint16(data[2:], uint16(20+len(content)))
	copy(data[12:], netip.MustParseAddr(from).AsSlice())
	copy(data[16:], netip.MustParseAddr(to).AsSlice())
	if change != nil {
		change(data)
	}
	return append(data, content...)
}

// ports makes the beginning of a segment or datagram.
func ports(from, to uint16, size int) []byte {
	content := make([]byte, size)
	binary.BigEndian.PutUint16(content, from)
	binary.BigEndian.PutUint16(content[2:], to)
	return content
}

func segment(from, to uint16, flags byte) []byte {
	content := ports(from, to, 20)
	content[13] = flags
	return content
}

func message(kind byte, id uint16, quoted []byte) []byte {
	content := make([]byte, 8)
	content[0] = kind
	binary.BigEndian.PutUint16(content[4:], id)
	return append(content, quoted...)
}

// fragment changes a header to be a fragment's, with its offset in units of 8 bytes.
func fragment(id, offset uint16, more bool) func([]byte) {
	return func(data []byte) {
		binary.BigEndian.PutUint16(data[4:], id)
		if more {
			offset |= 1 << 13
		}
		binary.BigEndian.PutUint16(data[6:], offset)
	}
}

const syn, ack = 1 << 1, 1 << 4

func ap(text string) netip.AddrPort { return netip.MustParseAddrPort(text) }

func TestParse(t *testing.T) {
	t.Parallel()
	const a, b = "10.240.0.20", "10.240.0.21"
	padded := append(header(a, b, UDP, ports(1, 2, 8), nil), 0, 0, 0)
	options := header(a, b, UDP, append(make([]byte, 4), ports(1, 2, 8)...), func(h []byte) { h[0] = 0x46 })
	asked := header(b, a, UDP, ports(2, 1, 8), nil)
	long := header(b, a, TCP, ports(2, 1, 8), func(h []byte) { binary.BigEndian.PutUint16(h[2:], 1460) })
	echo := header(b, a, ICMP, message(8, 9, nil), nil)
	for _, test := range []struct {
		name string
		data []byte
		want Packet // zero: refused
	}{
		{"SYN", header(a, b, TCP, segment(1, 2, syn), nil), Packet{Protocol: TCP, Length: 40, From: ap(a + ":1"), To: ap(b + ":2"), Opens: true}},
		{"SYN and ACK", header(a, b, TCP, segment(1, 2, syn|ack), nil), Packet{Protocol: TCP, Length: 40, From: ap(a + ":1"), To: ap(b + ":2")}},
		{"UDP", padded, Packet{Protocol: UDP, Length: 28, From: ap(a + ":1"), To: ap(b + ":2")}},
		{"options", options, Packet{Protocol: UDP, Length: 32, From: ap(a + ":1"), To: ap(b + ":2")}},
		{"SCTP", header(a, b, SCTP, ports(1, 2, 12), nil), Packet{Protocol: SCTP, Length: 32, From: ap(a + ":1"), To: ap(b + ":2")}},
		{"ESP", header(a, b, 50, nil, nil), Packet{Protocol: 50, Length: 20, From: ap(a + ":0"), To: ap(b + ":0")}},
		{"ping", header(a, b, ICMP, message(8, 7, nil), nil), Packet{Protocol: ICMP, Length: 28, From: ap(a + ":7"), To: ap(b + ":0"), Echo: true}},
		{"its answer", header(b, a, ICMP, message(0, 7, nil), nil), Packet{Protocol: ICMP, Length: 28, From: ap(b + ":0"), To: ap(a + ":7"), Echo: true}},
		{"a time stamp's question", header(a, b, ICMP, message(13, 7, nil), nil), Packet{Protocol: ICMP, Length: 28, From: ap(a + ":0"), To: ap(b + ":0")}},
		{"unreachable", header(a, b, ICMP, message(3, 0, asked), nil), Packet{Protocol: ICMP, Length: 56, From: ap(a + ":0"), To: ap(b + ":0"),
			Cause: &Flow{Protocol: UDP, Local: ap(b + ":2"), Remote: ap(a + ":1")}}},
		{"too long, of what is quoted in part", header(a, b, ICMP, message(3, 0, long), nil), Packet{Protocol: ICMP, Length: 56, From: ap(a + ":0"), To: ap(b + ":0"),
			Cause: &Flow{Protocol: TCP, Local: ap(b + ":2"), Remote: ap(a + ":1")}}},
		{"a ping's time exceeded", header(a, b, ICMP, message(11, 0, echo), nil), Packet{Protocol: ICMP, Length: 56, From: ap(a + ":0"), To: ap(b + ":0"),
			Cause: &Flow{Protocol: ICMP, Local: ap(b + ":9"), Remote: ap(a + ":0")}}},
		{"first fragment", header(a, b, UDP, ports(1, 2, 16), fragment(5, 0, true)), Packet{Protocol: UDP, Length: 36, From: ap(a + ":1"), To: ap(b + ":2"), Fragment: true, ID: 5}},
		{"later fragment", header(a, b, UDP, ports(1, 2, 16), fragment(5, 2, true)), Packet{Protocol: UDP, Length: 36, From: ap(a + ":0"), To: ap(b + ":0"), Fragment: true, Later: true, ID: 5}},
		{"last fragment", header(a, b, TCP, make([]byte, 1), fragment(5, 2, false)), Packet{Protocol: TCP, Length: 21, From: ap(a + ":0"), To: ap(b + ":0"), Fragment: true, Later: true, ID: 5}},

		{"nothing", nil, Packet{}},
		{"IPv6", header(a, b, UDP, ports(1, 2, 8), func(h []byte) { h[0] = 0x65 }), Packet{}},
		{"a header of 16 bytes", header(a, b, UDP, ports(1, 2, 8), func(h []byte) { h[0] = 0x44 }), Packet{}},
		{"a header beyond the end", header(a, b, UDP, nil, func(h []byte) { h[0] = 0x4f }), Packet{}},
		{"a header longer than the packet", header(a, b, UDP, ports(1, 2, 8), func(h []byte) { h[0] = 0x46; h[3] = 20 }), Packet{}},
		{"cut off", padded[:27], Packet{}},
		{"UDP of 7 bytes, padded", append(header(a, b, UDP, make([]byte, 7), nil), 0, 0, 0), Packet{}},
		{"UDP of 7 bytes", header(a, b, UDP, make([]byte, 7), nil), Packet{}},
		{"TCP of 19 bytes", header(a, b, TCP, make([]byte, 19), nil), Packet{}},
		{"TCP's first fragment of 16 bytes", header(a, b, TCP, make([]byte, 16), fragment(5, 0, true)), Packet{}},
		{"a fragment over TCP's flags", header(a, b, TCP, make([]byte, 16), fragment(5, 1, true)), Packet{}},
		{"ICMP of 7 bytes", header(a, b, ICMP, make([]byte, 7), nil), Packet{}},
		{"an error about nothing", header(a, b, ICMP, message(3, 0, nil), nil), Packet{}},
		{"an error about too little", header(a, b, ICMP, message(3, 0, asked[:27]), nil), Packet{}},
		{"an error about a later fragment", header(a, b, ICMP, message(3, 0, header(b, a, UDP, ports(2, 1, 8), fragment(5, 3, false))), nil), Packet{}},
	} {
		got, ok := Parse(test.data)
		if ok != (test.want != Packet{}) {
			t.Errorf("%s: Parse reports %v; want %v", test.name, ok, !ok)
		}
		ids := cmpopts.IgnoreFields(Packet{}, "ID")
		if got.Fragment {
			ids = nil
		}
		if diff := cmp.Diff(test.want, got, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b }), cmp.Options{ids}); ok && diff != "" {
			t.Errorf("%s: the packet differs (-want +got):\n%s", test.name, diff)
		}
	}
}

// FuzzParse reads what a machine of strangers sends.
func FuzzParse(f *testing.F) {
	for _, seed := range [][]byte{
		nil,
		header("10.240.0.20", "10.240.0.21", TCP, segment(1, 2, syn), nil),
		header("10.240.0.20", "10.240.0.21", UDP, ports(1, 2, 16), fragment(5, 2, true)),
		header("10.240.0.20", "10.240.0.21", ICMP, message(3, 0, header("10.240.0.21", "10.240.0.20", UDP, ports(2, 1, 8), nil)), nil),
		header("10.240.0.20", "8.8.8.8", ICMP, message(8, 1, nil), nil),
		header("0.0.0.0", "255.255.255.255", UDP, ports(68, 67, 8), nil),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		p, ok := Parse(data)
		if !ok {
			return
		}
		if p.Length < 20 || p.Length > len(data) {
			t.Fatalf("%x is said to have %d bytes", data, p.Length)
		}
		if again, ok := Parse(data[:p.Length]); !ok || !cmp.Equal(p, again, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })) {
			t.Errorf("%x is %+v with and %+v, %v without what is after it", data, p, again, ok)
		}
		if !bytes.Equal(p.From.Addr().AsSlice(), data[12:16]) || !bytes.Equal(p.To.Addr().AsSlice(), data[16:20]) {
			t.Errorf("%x is said to go from %s to %s", data, p.From, p.To)
		}
		if p.Later && (p.From.Port() != 0 || p.To.Port() != 0 || p.Opens || p.Cause != nil) {
			t.Errorf("%x, which has no ports, is %+v", data, p)
		}
	})
}
