// Package vpc decides what becomes of a packet on a network like one of Compute
// Engine's: to which machine it goes, and whether it may. Routes lead to
// machines, the longest prefix wins, and only a machine that may forward sends
// and receives for addresses that are not its own. Machines may send what they
// like, and receive what a firewall rule allows, and answers. What may not is
// dropped, and nobody is told.
//
// It moves nothing, listens to nothing and knows no clock. What it does not have
// of a VPC: priorities, several subnets, rules that deny or are about egress,
// tags, and IPv6.
package vpc

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// Config describes a network.
type Config struct {
	Subnet netip.Prefix // of machines; its first address is the host's

	// Metadata is where the host serves metadata, DNS and DHCP. What comes from
	// there no rule has to allow.
	Metadata netip.Addr

	// Served are further addresses outside of the subnet that the host answers
	// for. No route leads elsewhere from them.
	Served []netip.Prefix
}

// Network is the machines, routes and rules of a network. It is for one caller at a
// time.
type Network struct {
	subnet   netip.Prefix
	gateway  netip.Addr
	metadata netip.Addr
	served   []netip.Prefix
	special  []netip.Prefix
	machines map[netip.Addr]*machine // the host's side is one, at the gateway's address
	routes   routes
	rules    rules
}

type machine struct {
	canIPForward bool
	flows        *tracker
}

// Target is where a packet goes. The zero value is nowhere: it is dropped.
type Target struct {
	Host    bool       // the host's side takes it
	Machine netip.Addr // or this machine
}

// New returns a network without machines and rules.
func New(c Config) *Network {
	gateway := c.Subnet.Addr().Next()
	return &Network{
		subnet: c.Subnet, gateway: gateway, metadata: c.Metadata, special: special(),
		served:   append([]netip.Prefix{netip.PrefixFrom(c.Metadata, c.Metadata.BitLen())}, c.Served...),
		machines: map[netip.Addr]*machine{gateway: newMachine()},
	}
}

func newMachine() *machine { return &machine{flows: newTracker(maxFlows)} }

// AddMachine adds a machine with an address of the subnet.
func (n *Network) AddMachine(addr netip.Addr) error {
	if !n.subnet.Contains(addr) || addr == n.gateway {
		return fmt.Errorf("its address %s is not one of %s, or the gateway's", addr, n.subnet)
	}
	if n.machines[addr] != nil {
		return fmt.Errorf("its address %s is another machine's", addr)
	}
	n.machines[addr] = newMachine()
	return nil
}

// Restart forgets the connections of a machine, which begins anew.
func (n *Network) Restart(addr netip.Addr) {
	if m := n.machines[addr]; m != nil {
		m.flows = newTracker(maxFlows)
	}
}

// RemoveMachine removes a machine. Routes to its address stay, and lead to nobody
// until there is another.
func (n *Network) RemoveMachine(addr netip.Addr) {
	if addr != n.gateway {
		delete(n.machines, addr)
	}
}

// SetCanIPForward says whether a machine may send and receive for addresses that
// are not its own. It may not at first.
func (n *Network) SetCanIPForward(addr netip.Addr, on bool) error {
	m := n.machines[addr]
	if m == nil || addr == n.gateway {
		return fmt.Errorf("there is no machine at %s", addr)
	}
	m.canIPForward = on
	return nil
}

// SetRoute leads packets for a prefix to the machine at an address of the subnet,
// in place of the route that the prefix may have. The machine need not be there yet.
func (n *Network) SetRoute(prefix netip.Prefix, to netip.Addr) error {
	if err := n.checkRoute(prefix, to); err != nil {
		return fmt.Errorf("route %s to %s: %w", prefix, to, err)
	}
	n.routes = n.routes.with(Route{prefix, to})
	return nil
}

func (n *Network) checkRoute(prefix netip.Prefix, to netip.Addr) error {
	if err := checkPrefix(prefix); err != nil {
		return err
	}
	if prefix.Bits() == 0 {
		return errors.New("the default route leads to the internet")
	}
	for _, taken := range slices.Concat(n.special, n.served, []netip.Prefix{n.subnet}) {
		if taken.Bits() <= prefix.Bits() && taken.Overlaps(prefix) {
			return fmt.Errorf("%s is not for routes", taken)
		}
	}
	if !n.subnet.Contains(to) || to == n.gateway {
		return fmt.Errorf("want a machine's address, one of %s that is not the gateway's", n.subnet)
	}
	return nil
}

// checkPrefix refuses what gcloud does.
func checkPrefix(prefix netip.Prefix) error {
	if !prefix.IsValid() || !prefix.Addr().Is4() {
		return errors.New("want a range of IPv4 addresses, such as 10.200.0.0/24")
	}
	if prefix != prefix.Masked() {
		return fmt.Errorf("the range begins elsewhere: want %s", prefix.Masked())
	}
	return nil
}

// special are ranges that no machine may be behind: RFC 6890's of this host, of
// one link, for groups and for all.
func special() []netip.Prefix {
	var list []netip.Prefix
	for _, text := range []string{"0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "255.255.255.255/32"} {
		list = append(list, netip.MustParsePrefix(text))
	}
	return list
}

// RemoveRoute removes the route that a prefix has, if there is one.
func (n *Network) RemoveRoute(prefix netip.Prefix) { n.routes = n.routes.without(prefix) }

// Routes returns the routes, longer prefixes first.
func (n *Network) Routes() []Route { return slices.Clone(n.routes) }

// SetRule adds a firewall rule, in place of the one that has its name.
func (n *Network) SetRule(r Rule) error {
	if err := r.check(); err != nil {
		return err
	}
	n.rules = n.rules.with(r)
	return nil
}

// RemoveRule removes the firewall rule of a name, if there is one. What it allowed
// and is under way goes on.
func (n *Network) RemoveRule(name string) { n.rules = n.rules.without(name) }

// Rules returns the firewall rules, sorted by their names.
func (n *Network) Rules() []Rule { return slices.Clone(n.rules) }

// Send decides about a packet that the machine at sender sends.
func (n *Network) Send(now time.Time, sender netip.Addr, p Packet) Target {
	m := n.machines[sender]
	switch {
	case m == nil, p.Protocol == GRE: // which Compute Engine never lets through
		return Target{}
	case p.isDHCP(sender):
		return Target{Host: true}
	case p.From.Addr() != sender && !n.maySendAs(m, p.From.Addr()):
		return Target{}
	}
	m.flows.sent(now, p)
	to, inside := n.place(p.To.Addr())
	if inside {
		return n.enter(now, sender, to, p)
	}
	return n.leave(sender, p)
}

// FromHost decides about a packet that the host's side sends: from the gateway's
// address as a machine there would, and for others elsewhere to whom machines
// send from their own addresses.
func (n *Network) FromHost(now time.Time, p Packet) Target {
	to := p.To.Addr()
	if p.From.Addr() == n.gateway {
		n.machines[n.gateway].flows.sent(now, p)
		var inside bool
		if to, inside = n.place(to); !inside {
			return Target{}
		}
	}
	return n.enter(now, n.gateway, to, p)
}

// isDHCP reports whether a packet asks whoever gives addresses.
func (p Packet) isDHCP(sender netip.Addr) bool {
	from := p.From.Addr()
	return p.Protocol == UDP && (from.IsUnspecified() || from == sender) && p.From.Port() == dhcpClient &&
		p.To == netip.AddrPortFrom(broadcast(), dhcpServer)
}

// The ports of DHCP (RFC 2131, section 4.1).
const dhcpServer, dhcpClient = 67, 68

// isService reports whether a packet needs no rule: DHCP, DNS and metadata reach
// every machine.
func (n *Network) isService(p Packet) bool {
	isLease := p.Protocol == UDP && p.From == netip.AddrPortFrom(n.gateway, dhcpServer) && p.To.Port() == dhcpClient
	return isLease || p.From.Addr() == n.metadata
}

func broadcast() netip.Addr { return netip.AddrFrom4([4]byte{255, 255, 255, 255}) }

// maySendAs reports whether a machine may send with an address that is not its
// own. A machine is told apart by its link, so also one that forwards is never
// another one, or the host.
func (n *Network) maySendAs(m *machine, from netip.Addr) bool {
	return m.canIPForward && n.machines[from] == nil && !contains(n.special, from) && !contains(n.served, from)
}

// place returns the address of the machine, there or not, to which packets for an
// address go within the network.
func (n *Network) place(to netip.Addr) (machine netip.Addr, inside bool) {
	switch {
	case n.subnet.Contains(to):
		return to, true
	case contains(n.served, to), contains(n.special, to):
		return netip.Addr{}, false
	}
	return n.routes.lookup(to)
}

// enter decides about a packet for the machine at hop, or that a route leads there.
func (n *Network) enter(now time.Time, sender, hop netip.Addr, p Packet) Target {
	m := n.machines[hop]
	switch {
	case m == nil, hop == sender: // a machine finds itself without us
		return Target{}
	case p.To.Addr() != hop && !m.canIPForward:
		return Target{}
	case !n.isService(p) && !m.flows.admits(now, p, n.rules):
		return Target{}
	case hop == n.gateway:
		return Target{Host: true}
	}
	return Target{Machine: hop}
}

// leave decides about a packet for elsewhere, where only a machine's own address
// is known: the internet has no route to what is behind it. The host answers
// pings to what it serves, and can't pass on others.
func (n *Network) leave(sender netip.Addr, p Packet) Target {
	to := p.To.Addr()
	if p.From.Addr() != sender {
		return Target{}
	}
	if contains(n.served, to) {
		return Target{Host: true}
	}
	isPing := p.Protocol == ICMP && p.Cause == nil
	return Target{Host: !isPing && !contains(n.special, to)}
}

func contains(prefixes []netip.Prefix, addr netip.Addr) bool {
	return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(addr) })
}
