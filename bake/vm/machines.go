package vm

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/nodebake/bake/bake/vm/vpc"
)

// AddMachine makes a machine known by its host name and address, as
// NetworkConfig.Machines does, while the network runs.
func (n *Network) AddMachine(name string, addr netip.Addr) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	full, short := names(name)
	for _, known := range []string{full, short} {
		if _, taken := n.names[known]; taken {
			return fmt.Errorf("machine %s: the network has the name %s already", name, known)
		}
	}
	if err := n.vpc.AddMachine(addr); err != nil {
		return fmt.Errorf("machine %s: %w", name, err)
	}
	n.machines[addr] = full
	n.names[full], n.names[short] = addr, addr
	return nil
}

// RemoveMachine forgets the machine at addr with its name and metadata server,
// and ends its link. Another one may have its name and address then; routes to
// that stay.
func (n *Network) RemoveMachine(addr netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	name, ok := n.machines[addr]
	if !ok {
		return
	}
	full, short := names(name)
	delete(n.names, full)
	delete(n.names, short)
	delete(n.metadata, addr.String())
	delete(n.machines, addr)
	n.vpc.RemoveMachine(addr)
	if p := n.ports[addr]; p != nil {
		p.close()
		delete(n.ports, addr)
	}
}

// names returns the names that DNS knows a machine by.
func names(name string) (full, short string) {
	full = canonical(name)
	short, _, _ = strings.Cut(full, ".")
	return full, short
}

// hasMachine reports whether a machine of that address may be linked.
func (n *Network) hasMachine(addr netip.Addr) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	_, ok := n.machines[addr]
	return ok
}

// SetCanIPForward says whether the machine at addr may send and receive for
// addresses that are not its own, such as its pods'. It may not at first, and one
// that has its address later may not again.
func (n *Network) SetCanIPForward(addr netip.Addr, on bool) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.vpc.SetCanIPForward(addr, on)
}

// SetRoute leads packets for a prefix, such as a worker's pod range, to the machine
// at addr, in place of the route that the prefix may have. Of several prefixes
// that hold an address the longest wins.
func (n *Network) SetRoute(prefix netip.Prefix, addr netip.Addr) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.vpc.SetRoute(prefix, addr)
}

// RemoveRoute removes the route that a prefix has, if there is one.
func (n *Network) RemoveRoute(prefix netip.Prefix) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.vpc.RemoveRoute(prefix)
}

// Routes returns the routes, longer prefixes first.
func (n *Network) Routes() []vpc.Route {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.vpc.Routes()
}

// SetRule adds a firewall rule, in place of the one that has its name.
func (n *Network) SetRule(rule vpc.Rule) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.vpc.SetRule(rule)
}

// RemoveRule removes the firewall rule of a name, if there is one. Connections that
// it allowed go on.
func (n *Network) RemoveRule(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.vpc.RemoveRule(name)
}

// Rules returns the firewall rules, sorted by their names.
func (n *Network) Rules() []vpc.Rule {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.vpc.Rules()
}
