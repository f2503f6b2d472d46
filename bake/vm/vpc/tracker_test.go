package vpc

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

// newGuides is newNetwork with other rules.
func newGuides(t testing.TB, rules ...Rule) *Network {
	t.Helper()
	n := newNetwork(t)
	n.RemoveRule(AllowAll().Name)
	for _, rule := range rules {
		if err := n.SetRule(rule); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

// step is one packet of a conversation.
type step struct {
	sender string // "": the host's side
	packet Packet
	after  time.Duration // since the one before
	want   string
}

// run sends packets one after the other.
func (n *Network) run(t *testing.T, steps []step) {
	t.Helper()
	now := start()
	for i, s := range steps {
		now = now.Add(s.after)
		got := Target{}
		if s.sender == "" {
			got = n.FromHost(now, s.packet)
		} else {
			got = n.Send(now, addr(s.sender), s.packet)
		}
		if got.String() != s.want {
			t.Errorf("step %d, from %s to %s, goes to %v; want %s", i+1, s.packet.From, s.packet.To, got, s.want)
		}
	}
}

func opens(p Packet) Packet { p.Opens = true; return p }

func echo(from, to string) Packet {
	return Packet{Protocol: ICMP, From: ap(from), To: ap(to), Echo: true}
}

func about(from, to string, cause Flow) Packet {
	return Packet{Protocol: ICMP, From: ap(from + ":0"), To: ap(to + ":0"), Cause: &cause}
}

func TestFirewall(t *testing.T) {
	t.Parallel()
	const outside, pod = "198.51.100.1", "10.200.1.5"
	asked := Flow{Protocol: UDP, Local: ap(worker0 + ":9"), Remote: ap("8.8.8.8:53")}
	first, later := udp("8.8.8.8:53", worker0+":9"), udp("8.8.8.8:0", worker0+":0")
	first.Fragment, first.ID = true, 5
	later.Fragment, later.Later, later.ID = true, true, 5
	another := later
	another.ID = 6
	guides := []Rule{AllowInternal(), AllowExternal()}
	for _, test := range []struct {
		name  string
		rules []Rule
		steps []step
	}{
		{"nothing is allowed", nil, []step{
			{worker0, opens(tcp(worker0+":9", worker1+":80")), 0, "nowhere"},
			{worker0, udp(worker0+":9", gateway+":9"), 0, "nowhere"},
			{worker0, echo(worker0+":7", worker1+":0"), 0, "nowhere"},
			{"", opens(tcp(gateway+":9", worker0+":10250")), 0, "nowhere"},
			{"", opens(tcp(outside+":9", worker0+":22")), 0, "nowhere"},
		}},
		{"but DHCP, DNS and metadata", nil, []step{
			{worker0, udp("0.0.0.0:68", "255.255.255.255:67"), 0, "host"},
			{"", udp(gateway+":67", worker0+":68"), 0, worker0},
			{"", udp(metadata+":67", worker0+":68"), 0, worker0},
			{"", udp(metadata+":53", worker0+":9"), 0, worker0},
			{"", tcp(metadata+":80", worker0+":9"), 0, worker0},
			{"", udp(gateway+":67", worker0+":69"), 0, "nowhere"},
			{"", udp(gateway+":66", worker0+":68"), 0, "nowhere"},
			{"", tcp(gateway+":67", worker0+":68"), 0, "nowhere"},
			{worker1, udp(worker1+":67", worker0+":68"), 0, "nowhere"}, // no machine gives addresses
		}},
		{"answers", nil, []step{
			{"", tcp("8.8.8.8:443", worker0+":9"), 0, "nowhere"},
			{worker0, opens(tcp(worker0+":9", "8.8.8.8:443")), 0, "host"},
			{"", tcp("8.8.8.8:443", worker0+":9"), 0, worker0},
			{"", tcp("8.8.8.8:443", worker0+":10"), 0, "nowhere"},
			{"", tcp("8.8.8.9:443", worker0+":9"), 0, "nowhere"},
			{"", udp("8.8.8.8:443", worker0+":9"), 0, "nowhere"},
			{"", tcp("8.8.8.8:443", worker1+":9"), 0, "nowhere"},
			{"", opens(tcp("8.8.8.8:443", worker0+":9")), 0, "nowhere"}, // is none
		}},
		{"answers to pings", nil, []step{
			{worker0, echo(worker0+":7", worker1+":0"), 0, "nowhere"},
			{worker1, echo(worker1+":0", worker0+":7"), 0, worker0},
			{worker1, echo(worker1+":0", worker0+":8"), 0, "nowhere"},
			{worker1, echo(worker1+":7", worker0+":0"), 0, "nowhere"}, // asks itself
			{worker0, Packet{Protocol: ICMP, From: ap(worker0 + ":0"), To: ap(worker1 + ":0")}, 0, "nowhere"},
			{worker1, Packet{Protocol: ICMP, From: ap(worker1 + ":0"), To: ap(worker0 + ":0")}, 0, "nowhere"}, // another kind
		}},
		{"errors", nil, []step{
			{"", about("203.0.113.1", worker0, asked), 0, "nowhere"},
			{worker0, udp(worker0+":9", "8.8.8.8:53"), 0, "host"},
			{"", about("203.0.113.1", worker0, asked), 0, worker0}, // a router on the way
			{"", about("203.0.113.1", worker0, Flow{Protocol: UDP, Local: asked.Remote, Remote: asked.Local}), 0, "nowhere"},
			{"", about("203.0.113.1", worker1, asked), 0, "nowhere"},
		}},
		{"fragments", nil, []step{
			{worker0, udp(worker0+":9", "8.8.8.8:53"), 0, "host"},
			{"", later, 0, "nowhere"},
			{"", first, 0, worker0},
			{"", later, 0, worker0},
			{"", another, 0, "nowhere"},
			{"", udp("8.8.8.8:5", worker0+":0"), 0, "nowhere"}, // no port of theirs
		}},
		{"internal", guides, []step{
			{worker0, opens(tcp(worker0+":9", pod+":80")), 0, worker1},
			{worker1, tcp(pod+":80", worker0+":9"), 0, worker0},
			{worker1, opens(tcp(pod+":9", gateway+":6443")), 0, "host"},
			{"", tcp(gateway+":6443", pod+":9"), 0, worker1},
			{"", opens(tcp(gateway+":9", worker0+":10250")), 0, worker0},
			{worker0, tcp(worker0+":10250", gateway+":9"), 0, "host"},
		}},
		{"what the host asks", []Rule{{Name: "a", Sources: []netip.Prefix{prefix(gateway + "/32")}, Allow: []Traffic{{Protocol: TCP, Port: 10250}}}}, []step{
			{worker0, tcp(worker0+":10250", gateway+":9"), 0, "nowhere"},
			{"", opens(tcp(gateway+":9", worker0+":10250")), 0, worker0},
			{worker0, tcp(worker0+":10250", gateway+":9"), 0, "host"},
			{worker0, opens(tcp(worker0+":9", gateway+":6443")), 0, "nowhere"},
		}},
		{"external", guides, []step{
			{"", opens(tcp(outside+":9", worker0+":22")), 0, worker0},
			{"", opens(tcp(outside+":9", worker0+":30080")), 0, "nowhere"},
			{"", echo(outside+":7", worker0+":0"), 0, worker0},
		}},
		{"idle", []Rule{AllowExternal()}, []step{
			{"", tcp("8.8.8.8:443", worker0+":9"), 0, "nowhere"},
			{worker0, opens(tcp(worker0+":9", "8.8.8.8:443")), 0, "host"},
			{"", tcp("8.8.8.8:443", worker0+":9"), 9 * time.Minute, worker0},
			{"", tcp("8.8.8.8:443", worker0+":9"), 9 * time.Minute, worker0},
			{"", tcp("8.8.8.8:443", worker0+":9"), 10 * time.Minute, "nowhere"},
			{worker0, tcp(worker0+":9", "8.8.8.8:443"), 0, "host"},
			{"", tcp("8.8.8.8:443", worker0+":9"), 0, worker0},
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			newGuides(t, test.rules...).run(t, test.steps)
		})
	}
}

// TestRuleIsRemoved: what it allowed goes on, and nothing begins.
func TestRuleIsRemoved(t *testing.T) {
	t.Parallel()
	n := newGuides(t, AllowInternal())
	n.run(t, []step{
		{worker0, opens(tcp(worker0+":9", worker1+":80")), 0, worker1},
		{worker0, udp(worker0+":9", worker1+":80"), 0, worker1},
	})
	n.RemoveRule(AllowInternal().Name)
	n.run(t, []step{
		{worker0, tcp(worker0+":9", worker1+":80"), 0, worker1},
		{worker1, tcp(worker1+":80", worker0+":9"), 0, worker0},
		{worker0, udp(worker0+":9", worker1+":80"), 0, worker1},
		{worker0, opens(tcp(worker0+":9", worker1+":80")), 0, "nowhere"}, // another connection of these ports
		{worker0, opens(tcp(worker0+":10", worker1+":80")), 0, "nowhere"},
	})
	n.Restart(addr(worker1))
	n.run(t, []step{{worker0, tcp(worker0+":9", worker1+":80"), 0, "nowhere"}})
	n.Restart(addr("10.240.0.99")) // nobody
}

// TestTrackerIsBounded: the connection that was idle longest makes room.
func TestTrackerIsBounded(t *testing.T) {
	t.Parallel()
	tracker := newTracker(3)
	now := start()
	remote := func(i int) string { return fmt.Sprintf("8.8.8.8:%d", i) }
	send := func(i int) { tracker.sent(now, udp(worker0+":9", remote(i))) }
	known := func() (list []int) {
		for i := range 20 {
			if tracker.knows(now, udp(remote(i), worker0+":9").received()) {
				list = append(list, i)
			}
		}
		return list
	}
	for i := 1; i <= 3; i++ {
		send(i)
	}
	send(1)
	send(4)
	if got, want := fmt.Sprint(known()), "[1 3 4]"; got != want {
		t.Errorf("known are %s; want %s", got, want)
	}
	for i := range 20 {
		send(i)
	}
	if len(tracker.known) != 3 || tracker.recent.Len() != 3 {
		t.Errorf("%d and %d are kept; want 3", len(tracker.known), tracker.recent.Len())
	}
	now = now.Add(idleTime)
	send(5)
	send(6)
	if len(tracker.known) != 2 || tracker.recent.Len() != 2 {
		t.Errorf("%d and %d are kept after the others were idle; want 2", len(tracker.known), tracker.recent.Len())
	}
}

// FuzzNetwork sends what two machines of strangers may, one of which may forward.
func FuzzNetwork(f *testing.F) {
	f.Add(true, header(worker1, worker0, TCP, segment(1, 22, syn), nil))
	f.Add(false, header("10.200.1.5", worker0, UDP, ports(1, 2, 16), fragment(5, 2, true)))
	f.Add(true, header("10.200.1.5", worker0, ICMP, message(3, 0, header(worker0, "10.200.1.5", UDP, ports(2, 1, 8), nil)), nil))
	f.Add(false, header("0.0.0.0", "255.255.255.255", UDP, ports(68, 67, 8), nil))
	f.Fuzz(func(t *testing.T, forwards bool, data []byte) {
		p, ok := Parse(data)
		if !ok {
			return
		}
		n := newGuides(t, AllowExternal())
		sender, other := addr(worker0), addr(worker1)
		if forwards {
			sender, other = other, sender
		}
		got := n.Send(start(), sender, p)
		from, to := p.From.Addr(), p.To.Addr()
		switch {
		case got == Target{}:
		case got.Host && got.Machine.IsValid(), got.Machine.IsValid() && got.Machine != other:
			t.Errorf("%x of %s goes to %+v", data, sender, got)
		case from != sender && !forwards && !(from.IsUnspecified() && got.Host):
			t.Errorf("%x of %s goes to %v, and is not from its address", data, sender, got)
		case from == addr(gateway), from == addr(metadata), from == other:
			t.Errorf("%x of %s goes to %v, and is from somebody else", data, sender, got)
		case got.Machine == addr(worker0) && to != addr(worker0):
			t.Errorf("%x goes to %v, which may not forward", data, got)
		case got.Machine.IsValid() && !n.rules.allow(p):
			t.Errorf("%x goes to %v, and no rule allows it", data, got)
		}
	})
}
