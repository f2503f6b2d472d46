package vpc

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Rule is a firewall rule that allows ingress: what machines and the host receive
// without having asked for it. It is about all of them, as a rule without
// --target-tags is.
type Rule struct {
	Name    string
	Sources []netip.Prefix // from where
	Allow   []Traffic
}

// Traffic is what a rule allows.
type Traffic struct {
	Protocol Protocol // 0: all
	Port     uint16   // of TCP, UDP and SCTP; 0: all
	Last     uint16   // of a range of ports that begins with Port; 0: there is none
}

// AllowInternal is the guide's kubernetes-the-hard-way-allow-internal.
func AllowInternal() Rule {
	return Rule{
		Name:    "kubernetes-the-hard-way-allow-internal",
		Sources: []netip.Prefix{netip.MustParsePrefix("10.240.0.0/24"), netip.MustParsePrefix("10.200.0.0/16")},
		Allow:   []Traffic{{Protocol: TCP}, {Protocol: UDP}, {Protocol: ICMP}},
	}
}

// AllowExternal is the guide's kubernetes-the-hard-way-allow-external.
func AllowExternal() Rule {
	return Rule{
		Name:    "kubernetes-the-hard-way-allow-external",
		Sources: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")},
		Allow:   []Traffic{{Protocol: TCP, Port: 22}, {Protocol: TCP, Port: 6443}, {Protocol: ICMP}},
	}
}

// AllowAll is no firewall.
func AllowAll() Rule {
	return Rule{Name: "allow-all", Sources: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}, Allow: []Traffic{{}}}
}

func (r Rule) check() error {
	if r.Name == "" {
		return errors.New("a firewall rule needs a name")
	}
	if len(r.Sources) == 0 || len(r.Allow) == 0 {
		return fmt.Errorf("firewall rule %s: want one source and something to allow at least", r.Name)
	}
	for _, source := range r.Sources {
		if err := checkPrefix(source); err != nil {
			return fmt.Errorf("firewall rule %s: source %s: %w", r.Name, source, err)
		}
	}
	for _, traffic := range r.Allow {
		if err := traffic.check(); err != nil {
			return fmt.Errorf("firewall rule %s: %s: %w", r.Name, traffic, err)
		}
	}
	return nil
}

func (t Traffic) check() error {
	switch {
	case t.Port == 0 && t.Last != 0, t.Last != 0 && t.Last < t.Port:
		return errors.New("want the first port of a range and the last one")
	case t.Port != 0 && !t.Protocol.hasPorts():
		return errors.New("only tcp, udp and sctp have ports")
	}
	return nil
}

func (p Protocol) hasPorts() bool { return p == TCP || p == UDP || p == SCTP }

// String writes traffic as gcloud's --allow has it: tcp:30000-32767.
func (t Traffic) String() string {
	text := strconv.Itoa(int(t.Protocol))
	switch t.Protocol {
	case 0:
		text = "all"
	case TCP:
		text = "tcp"
	case UDP:
		text = "udp"
	case ICMP:
		text = "icmp"
	case SCTP:
		text = "sctp"
	}
	if t.Port != 0 || t.Last != 0 {
		text += ":" + strconv.Itoa(int(t.Port))
	}
	if t.Last != 0 {
		text += "-" + strconv.Itoa(int(t.Last))
	}
	return text
}

// rules have one rule of a name, and are sorted by that.
type rules []Rule

func (r rules) with(rule Rule) rules {
	rule.Sources, rule.Allow = slices.Clone(rule.Sources), slices.Clone(rule.Allow)
	all := append(r.without(rule.Name), rule)
	slices.SortFunc(all, func(a, b Rule) int { return strings.Compare(a.Name, b.Name) })
	return all
}

func (r rules) without(name string) rules {
	return slices.DeleteFunc(slices.Clone(r), func(o Rule) bool { return o.Name == name })
}

// allow reports whether a rule allows a packet.
func (r rules) allow(p Packet) bool {
	return slices.ContainsFunc(r, func(rule Rule) bool {
		return contains(rule.Sources, p.From.Addr()) && slices.ContainsFunc(rule.Allow, func(t Traffic) bool { return t.matches(p) })
	})
}

// matches reports whether a packet is of that traffic. A fragment after the first
// has no port, and so is of no traffic of one.
func (t Traffic) matches(p Packet) bool {
	switch {
	case t.Protocol != 0 && t.Protocol != p.Protocol:
		return false
	case t.Port == 0:
		return true
	}
	port := p.To.Port()
	return port == t.Port || t.Port < port && port <= t.Last
}
