package vpc

import (
	"cmp"
	"net/netip"
	"slices"
)

// Route leads packets for addresses that are no machine's to a machine, as a
// custom static route with --next-hop-address does.
type Route struct {
	Prefix  netip.Prefix
	Machine netip.Addr
}

// routes are sorted: longer prefixes come first.
type routes []Route

// lookup returns the machine of the longest prefix that holds an address.
func (r routes) lookup(to netip.Addr) (netip.Addr, bool) {
	for _, route := range r {
		if route.Prefix.Contains(to) {
			return route.Machine, true
		}
	}
	return netip.Addr{}, false
}

// with returns the routes with one that replaces another of the same prefix.
func (r routes) with(route Route) routes {
	all := append(r.without(route.Prefix), route)
	slices.SortFunc(all, func(a, b Route) int {
		return cmp.Or(cmp.Compare(b.Prefix.Bits(), a.Prefix.Bits()), a.Prefix.Addr().Compare(b.Prefix.Addr()))
	})
	return all
}

func (r routes) without(prefix netip.Prefix) routes {
	return slices.DeleteFunc(slices.Clone(r), func(o Route) bool { return o.Prefix == prefix })
}
