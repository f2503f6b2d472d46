package vpc

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

func tcp(from, to string) Packet { return Packet{Protocol: TCP, From: ap(from), To: ap(to)} }

func TestRules(t *testing.T) {
	t.Parallel()
	ping := Packet{Protocol: ICMP, From: ap("198.51.100.1:7"), To: ap(worker0 + ":0"), Echo: true}
	nodePorts := Rule{Name: "n", Sources: []netip.Prefix{prefix("198.51.100.0/24")}, Allow: []Traffic{{Protocol: TCP, Port: 30000, Last: 30002}}}
	for _, test := range []struct {
		rule   Rule
		packet Packet
		want   bool
	}{
		{AllowInternal(), tcp("10.240.0.11:9", worker0+":10250"), true},
		{AllowInternal(), udp("10.200.3.4:9", worker0+":53"), true},
		{AllowInternal(), Packet{Protocol: ICMP, From: ap("10.200.3.4:0"), To: ap(worker0 + ":0")}, true},
		{AllowInternal(), Packet{Protocol: SCTP, From: ap("10.200.3.4:9"), To: ap(worker0 + ":9")}, false},
		{AllowInternal(), tcp("10.201.0.1:9", worker0+":10250"), false},
		{AllowInternal(), tcp("198.51.100.1:9", worker0+":22"), false},
		{AllowExternal(), tcp("198.51.100.1:9", worker0+":22"), true},
		{AllowExternal(), tcp("198.51.100.1:9", worker0+":6443"), true},
		{AllowExternal(), ping, true},
		{AllowExternal(), udp("198.51.100.1:9", worker0+":22"), false},
		{AllowExternal(), tcp("198.51.100.1:22", worker0+":30000"), false}, // not the sender's port
		{AllowExternal(), Packet{Protocol: TCP, From: ap("198.51.100.1:0"), To: ap(worker0 + ":0"), Fragment: true, Later: true}, false},
		{AllowInternal(), Packet{Protocol: TCP, From: ap("10.200.0.1:0"), To: ap(worker0 + ":0"), Fragment: true, Later: true}, true},
		{nodePorts, tcp("198.51.100.1:9", worker0+":29999"), false},
		{nodePorts, tcp("198.51.100.1:9", worker0+":30000"), true},
		{nodePorts, tcp("198.51.100.1:9", worker0+":30001"), true},
		{nodePorts, tcp("198.51.100.1:9", worker0+":30002"), true},
		{nodePorts, tcp("198.51.100.1:9", worker0+":30003"), false},
		{nodePorts, tcp("198.51.101.1:9", worker0+":30001"), false},
		{AllowAll(), Packet{Protocol: 50, From: ap("198.51.100.1:0"), To: ap(worker0 + ":0")}, true},
	} {
		if got := (rules{test.rule}).allow(test.packet); got != test.want {
			t.Errorf("%s allows protocol %d from %s to %s: %v; want %v", test.rule.Name, test.packet.Protocol, test.packet.From, test.packet.To, got, test.want)
		}
	}
}

func TestRulesRefused(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	n.RemoveRule(AllowAll().Name)
	anywhere := AllowExternal().Sources
	for _, test := range []struct {
		rule Rule
		want string
	}{
		{Rule{Sources: anywhere, Allow: []Traffic{{}}}, "a firewall rule needs a name"},
		{Rule{Name: "a", Allow: []Traffic{{}}}, "firewall rule a: want one source and something to allow at least"},
		{Rule{Name: "a", Sources: anywhere}, "firewall rule a: want one source and something to allow at least"},
		{Rule{Name: "a", Sources: []netip.Prefix{prefix("10.0.0.1/8")}, Allow: []Traffic{{}}}, "firewall rule a: source 10.0.0.1/8: the range begins elsewhere: want 10.0.0.0/8"},
		{Rule{Name: "a", Sources: []netip.Prefix{prefix("fd00::/8")}, Allow: []Traffic{{}}}, "source fd00::/8: want a range of IPv4 addresses"},
		{Rule{Name: "a", Sources: anywhere, Allow: []Traffic{{Protocol: ICMP, Port: 8}}}, "firewall rule a: icmp:8: only tcp, udp and sctp have ports"},
		{Rule{Name: "a", Sources: anywhere, Allow: []Traffic{{Port: 8}}}, "firewall rule a: all:8: only tcp, udp and sctp have ports"},
		{Rule{Name: "a", Sources: anywhere, Allow: []Traffic{{Protocol: TCP, Port: 80, Last: 79}}}, "firewall rule a: tcp:80-79: want the first port of a range and the last one"},
		{Rule{Name: "a", Sources: anywhere, Allow: []Traffic{{Protocol: UDP, Last: 79}}}, "firewall rule a: udp:0-79: want the first port"},
	} {
		if err := n.SetRule(test.rule); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("SetRule(%+v) = %v; want an error with %q", test.rule, err, test.want)
		}
	}
	if got := n.Rules(); len(got) != 0 {
		t.Errorf("after what was refused there are the rules %v; want none", got)
	}
}

func TestRulesAreReplaced(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	n.RemoveRule(AllowAll().Name)
	n.RemoveRule("another")
	for _, rule := range []Rule{AllowInternal(), AllowExternal(), {Name: AllowInternal().Name, Sources: []netip.Prefix{prefix("10.0.0.0/8")}, Allow: []Traffic{{Protocol: SCTP, Port: 1}}}} {
		if err := n.SetRule(rule); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := fmt.Sprint(n.Rules()), "[{kubernetes-the-hard-way-allow-external [0.0.0.0/0] [tcp:22 tcp:6443 icmp]} "+
		"{kubernetes-the-hard-way-allow-internal [10.0.0.0/8] [sctp:1]}]"; got != want {
		t.Errorf("Rules() = %s; want %s", got, want)
	}
}
