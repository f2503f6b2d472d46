package vpc

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

const (
	gateway  = "10.240.0.1"
	worker0  = "10.240.0.20"
	worker1  = "10.240.0.21"
	metadata = "169.254.169.254"
)

func addr(text string) netip.Addr     { return netip.MustParseAddr(text) }
func prefix(text string) netip.Prefix { return netip.MustParsePrefix(text) }

// newNetwork returns the guide's with two workers, of which the second one's pods
// are in 10.200.1.0/24, and may be reached. No rule forbids a thing.
func newNetwork(t testing.TB) *Network {
	t.Helper()
	n := New(Config{Subnet: prefix("10.240.0.0/24"), Metadata: addr(metadata), Served: []netip.Prefix{prefix("192.0.2.0/24")}})
	if err := n.SetRule(AllowAll()); err != nil {
		t.Fatal(err)
	}
	for _, machine := range []string{worker0, worker1} {
		if err := n.AddMachine(addr(machine)); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.SetRoute(prefix("10.200.1.0/24"), addr(worker1)); err != nil {
		t.Fatal(err)
	}
	if err := n.SetCanIPForward(addr(worker1), true); err != nil {
		t.Fatal(err)
	}
	return n
}

// start is a time.
func start() time.Time { return time.Unix(1e9, 0) }

// udp is a datagram's.
func udp(from, to string) Packet { return Packet{Protocol: UDP, From: ap(from), To: ap(to)} }

func (t Target) String() string {
	switch {
	case t.Host:
		return "host"
	case t.Machine.IsValid():
		return t.Machine.String()
	}
	return "nowhere"
}

func TestRoutes(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	set := func(route, to string) {
		t.Helper()
		if err := n.SetRoute(prefix(route), addr(to)); err != nil {
			t.Fatal(err)
		}
	}
	set("10.200.0.0/16", worker0)
	set("10.0.0.0/8", "10.240.0.77") // nobody is there
	set("10.200.1.128/25", worker0)
	set("192.0.0.0/8", worker0)
	set("10.200.2.0/24", worker0)
	set("10.200.2.0/24", worker1) // in place of that
	n.RemoveRoute(prefix("10.200.3.0/24"))
	if got, want := fmt.Sprint(n.Routes()), "[{10.200.1.128/25 10.240.0.20} {10.200.1.0/24 10.240.0.21} {10.200.2.0/24 10.240.0.21} "+
		"{10.200.0.0/16 10.240.0.20} {10.0.0.0/8 10.240.0.77} {192.0.0.0/8 10.240.0.20}]"; got != want {
		t.Errorf("Routes() = %s; want %s", got, want)
	}
	for to, want := range map[string]string{
		"10.200.1.5": worker1, "10.200.1.129": worker0, "10.200.2.1": worker1, "10.200.9.9": worker0, "10.1.1.1": "10.240.0.77",
		worker0: worker0, "10.240.0.99": "10.240.0.99", // the subnet's are no route's
	} {
		if got, ok := n.place(addr(to)); !ok || got.String() != want {
			t.Errorf("place(%s) = %s, %v; want %s", to, got, ok, want)
		}
	}
	for _, to := range []string{"8.8.8.8", metadata, "192.0.2.1", "127.0.0.1"} {
		if got, ok := n.place(addr(to)); ok {
			t.Errorf("place(%s) = %s; want that it is outside", to, got)
		}
	}
	n.RemoveRoute(prefix("10.200.1.128/25"))
	if got, ok := n.place(addr("10.200.1.129")); !ok || got != addr(worker1) {
		t.Errorf("place(10.200.1.129) without its route = %s, %v; want %s", got, ok, worker1)
	}
}

func TestRoutesRefused(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	for _, test := range []struct {
		prefix netip.Prefix
		to     string
		want   string
	}{
		{prefix("10.200.1.5/24"), worker0, "route 10.200.1.5/24 to 10.240.0.20: the range begins elsewhere: want 10.200.1.0/24"},
		{prefix("fd00::/64"), worker0, "want a range of IPv4 addresses"},
		{netip.Prefix{}, worker0, "want a range of IPv4 addresses"},
		{prefix("0.0.0.0/0"), worker0, "the default route leads to the internet"},
		{prefix("10.240.0.0/24"), worker0, "10.240.0.0/24 is not for routes"},
		{prefix("10.240.0.64/26"), worker0, "10.240.0.0/24 is not for routes"},
		{prefix("192.0.2.8/29"), worker0, "192.0.2.0/24 is not for routes"},
		{prefix("169.254.169.254/32"), worker0, "169.254.0.0/16 is not for routes"},
		{prefix("127.0.0.0/8"), worker0, "127.0.0.0/8 is not for routes"},
		{prefix("10.200.0.0/24"), gateway, "want a machine's address, one of 10.240.0.0/24 that is not the gateway's"},
		{prefix("10.200.0.0/24"), "10.241.0.20", "want a machine's address"},
	} {
		if err := n.SetRoute(test.prefix, addr(test.to)); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("SetRoute(%s, %s) = %v; want an error with %q", test.prefix, test.to, err, test.want)
		}
	}
	if len(n.Routes()) != 1 {
		t.Errorf("after what was refused there are the routes %v; want the one before", n.Routes())
	}
}

func TestMachines(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	for machine, want := range map[string]string{
		worker0: "is another machine's", gateway: "or the gateway's", "10.241.0.1": "is not one of 10.240.0.0/24", "fd00::1": "is not one of",
	} {
		if err := n.AddMachine(addr(machine)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("AddMachine(%s) = %v; want an error with %q", machine, err, want)
		}
	}
	n.RemoveMachine(addr(gateway)) // is none
	if got := n.Send(start(), addr(worker0), udp(worker0+":9", gateway+":9")); !got.Host {
		t.Errorf("after the gateway was to be removed, a packet for it goes to %v; want the host", got)
	}
	packet := udp(worker0+":9", "10.200.1.5:9")
	ask := func(want string) {
		t.Helper()
		if got := n.Send(start(), addr(worker0), packet); got.String() != want {
			t.Errorf("a packet for a pod of the second worker goes to %v; want %v", got, want)
		}
	}
	ask(worker1)
	n.RemoveMachine(addr(worker1))
	ask("nowhere")
	if err := n.AddMachine(addr(worker1)); err != nil {
		t.Fatal(err)
	}
	ask("nowhere") // the new one was not asked to forward
	if err := n.SetCanIPForward(addr(worker1), true); err != nil {
		t.Fatal(err)
	}
	ask(worker1)
	n.RemoveMachine(addr(worker0))
	ask("nowhere")
}

func TestSend(t *testing.T) {
	t.Parallel()
	ping := func(from, to string) Packet { return Packet{Protocol: ICMP, From: ap(from + ":7"), To: ap(to + ":0")} }
	for _, test := range []struct {
		packet Packet
		want   string
	}{
		{udp(worker0+":9", worker1+":9"), worker1},
		{udp(worker0+":9", worker0+":9"), "nowhere"}, // it finds itself
		{udp(worker0+":9", "10.240.0.99:9"), "nowhere"},
		{udp(worker0+":9", gateway+":9"), "host"},
		{udp(worker0+":9", metadata+":53"), "host"},
		{udp(worker0+":9", "192.0.2.1:443"), "host"},
		{udp(worker0+":9", "8.8.8.8:53"), "host"},
		{udp(worker0+":9", "10.200.7.1:9"), "host"}, // no route; the host knows whether it has such a network
		{udp(worker0+":9", "240.0.0.1:9"), "host"},  // a network may have these
		{udp(worker0+":9", "127.0.0.1:9"), "nowhere"},
		{udp(worker0+":9", "169.254.1.1:9"), "nowhere"},
		{udp(worker0+":9", "224.0.0.251:5353"), "nowhere"},
		{udp(worker0+":9", "255.255.255.255:9"), "nowhere"},
		{ping(worker0, worker1), worker1},
		{Packet{Protocol: 50, From: ap(worker0 + ":0"), To: ap(worker1 + ":0")}, worker1},
		{Packet{Protocol: GRE, From: ap(worker0 + ":0"), To: ap(worker1 + ":0")}, "nowhere"},
		{ping(worker0, gateway), "host"},
		{ping(worker0, metadata), "host"},
		{ping(worker0, "8.8.8.8"), "nowhere"},
		{Packet{Protocol: ICMP, From: ap(worker0 + ":0"), To: ap("8.8.8.8:0"), Cause: new(Flow)}, "host"},

		{udp("0.0.0.0:68", "255.255.255.255:67"), "host"},
		{udp(worker0+":68", "255.255.255.255:67"), "host"},
		{udp(worker1+":68", "255.255.255.255:67"), "nowhere"},
		{udp("0.0.0.0:68", worker1+":67"), "nowhere"},
		{udp("0.0.0.0:9", "255.255.255.255:67"), "nowhere"},
		{Packet{Protocol: TCP, From: ap("0.0.0.0:68"), To: ap("255.255.255.255:67")}, "nowhere"},

		// What is not its own.
		{udp("10.200.0.5:9", worker1+":9"), "nowhere"},
		{udp("10.200.0.5:9", gateway+":9"), "nowhere"},
		{udp(worker1+":9", worker1+":9"), "nowhere"},
		{udp(worker1+":9", "8.8.8.8:53"), "nowhere"},
		{udp(gateway+":9", worker1+":9"), "nowhere"},
		{udp(metadata+":53", worker1+":9"), "nowhere"},
		{udp("192.0.2.1:443", worker1+":9"), "nowhere"},
		{udp("127.0.0.1:9", worker1+":9"), "nowhere"},
	} {
		if got := newNetwork(t).Send(start(), addr(worker0), test.packet); got.String() != test.want {
			t.Errorf("protocol %d from %s to %s goes to %v; want %s", test.packet.Protocol, test.packet.From, test.packet.To, got, test.want)
		}
	}
	if got := newNetwork(t).Send(start(), addr("10.240.0.99"), udp("10.240.0.99:9", worker1+":9")); got.String() != "nowhere" {
		t.Errorf("what nobody sends goes to %v; want nowhere", got)
	}
}

// TestCanIPForward sends from the second worker, which may forward.
func TestCanIPForward(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		packet Packet
		want   string
	}{
		{udp("10.200.1.5:9", worker0+":9"), worker0},
		{udp("10.200.1.5:9", gateway+":9"), "host"},
		{udp("8.8.8.8:9", worker0+":9"), worker0},        // any address, as there
		{udp("10.200.1.5:9", "10.200.0.5:9"), "nowhere"}, // the first worker may not forward
		{udp("10.200.1.5:9", "10.200.1.6:9"), "nowhere"}, // it finds its own pods itself
		{udp("10.200.1.5:9", "8.8.8.8:53"), "nowhere"},   // the answer would not find back
		{udp("10.200.1.5:9", metadata+":53"), "nowhere"}, // the same
		{udp("10.200.1.5:9", "192.0.2.1:80"), "nowhere"}, // the same
		{udp(worker0+":9", gateway+":9"), "nowhere"},     // another machine
		{udp(gateway+":9", worker0+":9"), "nowhere"},     // the host
		{udp(metadata+":53", worker0+":9"), "nowhere"},   // the host
		{udp("192.0.2.1:443", worker0+":9"), "nowhere"},  // the host
		{udp("127.0.0.1:9", worker0+":9"), "nowhere"},    // no address of a network
		{udp("0.0.0.0:9", worker0+":9"), "nowhere"},      // the same
		{udp("169.254.1.1:9", worker0+":9"), "nowhere"},  // the same
		{udp("10.240.0.99:9", worker0+":9"), worker0},    // nobody's
		{udp(worker1+":9", "10.200.1.5:9"), "nowhere"},   // it finds its own pods itself
		{udp(worker1+":68", "10.200.0.5:9"), "nowhere"},  // the first worker may not forward
		{udp(worker1+":9", worker0+":9"), worker0},       // its own
	} {
		n := newNetwork(t)
		if err := n.SetRoute(prefix("10.200.0.0/24"), addr(worker0)); err != nil {
			t.Fatal(err)
		}
		if got := n.Send(start(), addr(worker1), test.packet); got.String() != test.want {
			t.Errorf("from %s to %s goes to %v; want %s", test.packet.From, test.packet.To, got, test.want)
		}
	}
	n := newNetwork(t)
	for _, machine := range []string{gateway, "10.240.0.99"} {
		if err := n.SetCanIPForward(addr(machine), true); err == nil {
			t.Errorf("SetCanIPForward(%s) = nil; want an error, since there is no machine", machine)
		}
	}
	if err := n.SetCanIPForward(addr(worker1), false); err != nil {
		t.Fatal(err)
	}
	if got := n.Send(start(), addr(worker0), udp(worker0+":9", "10.200.1.5:9")); got != (Target{}) {
		t.Errorf("a packet for a pod of a machine that may no longer forward goes to %v; want nowhere", got)
	}
}

func TestFromHost(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		packet Packet
		want   string
	}{
		{udp(gateway+":9", worker1+":9"), worker1},
		{udp(gateway+":9", "10.200.1.5:9"), worker1},
		{udp(gateway+":9", "10.200.7.5:9"), "nowhere"},
		{udp(gateway+":9", "8.8.8.8:53"), "nowhere"},
		{udp(gateway+":9", "10.240.0.99:9"), "nowhere"},
		{udp(gateway+":9", gateway+":9"), "nowhere"},
		{udp(metadata+":53", worker1+":9"), worker1},
		{udp("8.8.8.8:53", worker1+":9"), worker1},
		{udp("8.8.8.8:53", "10.200.1.5:9"), "nowhere"}, // the internet has no such route
	} {
		if got := newNetwork(t).FromHost(start(), test.packet); got.String() != test.want {
			t.Errorf("from %s to %s goes to %v; want %s", test.packet.From, test.packet.To, got, test.want)
		}
	}
}
