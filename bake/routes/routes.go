// Package routes decides which routes a network needs for the pods of workers, and
// which of them are to be made or deleted.
//
// A route leads what goes to a worker's pod range to the worker. It belongs into
// the network, not onto workers: a route of a worker's own table would hide that of
// its own pods' bridge. Each worker's range is the worker's own, which is checked
// before anything is made, because two workers that give their pods the same
// addresses look healthy until pods talk to each other.
//
// Nothing is asked or changed here but by a [Table].
package routes

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/nodebake/bake/bake/node"
)

// The guide's network, and the ranges that addresses are from where nothing else is
// said.
const (
	DefaultNetwork = "kubernetes-the-hard-way"
	DefaultCluster = "10.200.0.0/16" // of all pods
	DefaultService = "10.32.0.0/24"
	DefaultSubnet  = "10.240.0.0/24" // of instances
)

// Worker is what a route is made of.
type Worker struct {
	Name        string
	IP          netip.Addr
	PodCIDR     netip.Prefix
	ClusterCIDR netip.Prefix // of all pods, where its metadata say so
	From        string       // where this was read: a directory, or --worker
}

// Ranges are those that pods' addresses must be in or out of.
type Ranges struct {
	Cluster netip.Prefix // not valid: what workers' metadata say, or else DefaultCluster
	Service netip.Prefix
	Subnet  netip.Prefix
}

// Route leads a range to an address.
type Route struct {
	Name        string       `json:"name"`
	Destination netip.Prefix `json:"destination"`
	NextHop     netip.Addr   `json:"nextHop"`
	Worker      string       `json:"worker,omitempty"`
	State       State        `json:"state,omitempty"`
	Conflict    string       `json:"conflict,omitempty"` // what keeps it from being made
}

// State is what is known of a route.
type State string

// The states. Where nobody said which routes are there, a route has none.
const (
	There   State = "there"
	Missing State = "missing"
	Other   State = "other" // another is there in its place: see Conflict
	Extra   State = "extra" // it is there, within the pods' range, and no worker's
)

// Name returns what the guide calls the route for a range:
// kubernetes-route-10-200-0-0-24.
func Name(destination netip.Prefix) string {
	return "kubernetes-route-" + strings.NewReplacer(".", "-", "/", "-").Replace(destination.String())
}

// Check returns all that is wrong with workers together, joined.
func Check(workers []Worker, ranges Ranges) error {
	errs := []error{checkCluster(workers, ranges)}
	for i, w := range workers {
		errs = append(errs, checkWorker(w, ranges)...)
		for _, other := range workers[:i] {
			errs = append(errs, checkPair(other, w))
		}
	}
	return errors.Join(errs...)
}

// checkCluster wants one range of all pods.
func checkCluster(workers []Worker, ranges Ranges) error {
	for _, w := range workers {
		wanted := cmp.Or(ranges.Cluster, workers[0].ClusterCIDR)
		if w.ClusterCIDR.IsValid() && wanted.IsValid() && w.ClusterCIDR != wanted {
			return fmt.Errorf("%s: its cluster-cidr is %s, and elsewhere it is %s (a cluster has one range for all pods)", w.From, w.ClusterCIDR, wanted)
		}
	}
	return nil
}

// checkWorker checks a worker's values by the rules of its metadata, and against
// ranges that are not pods'.
func checkWorker(w Worker, ranges Ranges) []error {
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s: "+format, append([]any{w.From}, args...)...))
	}
	config := node.Config{IP: w.IP, PodCIDR: w.PodCIDR, ClusterCIDR: cmp.Or(w.ClusterCIDR, ranges.Cluster), Now: time.Unix(0, 0)}
	for _, wrong := range node.InputErrors(config.Check()) {
		if slices.Contains([]string{"ip", "pod-cidr", "cluster-cidr"}, wrong.Field) {
			bad("%w", wrong)
		}
	}
	if len(errs) > 0 {
		return errs
	}
	if !ranges.Subnet.Contains(w.IP) {
		bad("the address %s is not in the subnet %s (--subnet)", w.IP, ranges.Subnet)
	}
	if w.PodCIDR.Overlaps(ranges.Subnet) {
		bad("the pod-cidr %s overlaps the subnet %s, whose addresses are instances' (--subnet)", w.PodCIDR, ranges.Subnet)
	}
	if w.PodCIDR.Overlaps(ranges.Service) {
		bad("the pod-cidr %s overlaps the range %s, whose addresses are services' (--service-cidr)", w.PodCIDR, ranges.Service)
	}
	return errs
}

// checkPair wants what two workers may not share to differ.
func checkPair(a, b Worker) error {
	switch {
	case a.PodCIDR == b.PodCIDR:
		return fmt.Errorf("%s and %s have the same pod-cidr, %s: their pods would have the same addresses (give one of them another)", a.From, b.From, a.PodCIDR)
	case a.PodCIDR.Overlaps(b.PodCIDR):
		return fmt.Errorf("%s and %s have pod-cidrs that overlap, %s and %s (give one of them another)", a.From, b.From, a.PodCIDR, b.PodCIDR)
	case a.IP == b.IP:
		return fmt.Errorf("%s and %s have the same address, %s (each instance has its own)", a.From, b.From, a.IP)
	case a.Name == b.Name:
		return fmt.Errorf("%s and %s have the same name, %s", a.From, b.From, a.Name)
	}
	return nil
}

// Wanted returns the routes of workers that Check accepted, by their ranges.
func Wanted(workers []Worker) []Route {
	var all []Route
	for _, w := range workers {
		all = append(all, Route{Name: Name(w.PodCIDR), Destination: w.PodCIDR, NextHop: w.IP, Worker: w.Name})
	}
	return sorted(all)
}

func sorted(all []Route) []Route {
	slices.SortFunc(all, func(a, b Route) int {
		return cmp.Or(a.Destination.Compare(b.Destination), cmp.Compare(a.Name, b.Name))
	})
	return all
}

// Existing is a route that is there.
type Existing struct {
	Name        string // "": the network has no names for routes
	Network     string
	Destination netip.Prefix
	NextHop     string // an address, or what else is its next hop
}

// leadsTo says whether e is what a route is to be, by address or by instance.
func (e Existing) leadsTo(r Route) bool {
	return e.Destination == r.Destination && (e.NextHop == r.NextHop.String() || e.NextHop == r.Worker)
}

// conflict says how e keeps r from being made: r's range, or a part of it, leads
// elsewhere, or r's name is another route's.
func (e Existing) conflict(r Route, network string) string {
	switch {
	case e.Network == network && e.leadsTo(r):
		return ""
	case e.Network == network && r.Destination.Contains(e.Destination.Addr()) && e.Destination.Bits() >= r.Destination.Bits():
		by := ""
		if e.Name != "" {
			by = " by the route " + e.Name
		}
		return fmt.Sprintf("%s leads to %s%s, and not to %s", e.Destination, e.NextHop, by, r.NextHop)
	case e.Name == r.Name:
		return fmt.Sprintf("the route %s is there, for %s in the network %s", e.Name, e.Destination, e.Network)
	}
	return ""
}

// Compare says what is known of the wanted routes of a network, with the names that
// they have there, and adds those that are there within a range and no worker's.
func Compare(network string, wanted []Route, existing []Existing, within netip.Prefix) []Route {
	var all []Route
	for _, r := range wanted {
		var conflicts []string
		r.State = Missing
		for _, e := range existing {
			if e.Network == network && e.leadsTo(r) {
				r.State, r.Name = There, cmp.Or(e.Name, r.Name)
			} else if c := e.conflict(r, network); c != "" {
				conflicts = append(conflicts, c)
			}
		}
		if len(conflicts) > 0 {
			r.State, r.Conflict = Other, strings.Join(conflicts, "; ")
		}
		all = append(all, r)
	}
	for _, e := range existing {
		hop, err := netip.ParseAddr(e.NextHop)
		known := slices.ContainsFunc(wanted, func(r Route) bool { return e.leadsTo(r) || e.conflict(r, network) != "" })
		if err == nil && !known && e.Network == network && within.Contains(e.Destination.Addr()) && e.Destination.Bits() >= within.Bits() {
			all = append(all, Route{Name: e.Name, Destination: e.Destination, NextHop: hop, State: Extra})
		}
	}
	return sorted(all)
}

// ConflictError says what keeps routes from being made.
type ConflictError struct{ Err error }

func (e *ConflictError) Error() string { return e.Err.Error() }

func (e *ConflictError) Unwrap() error { return e.Err }

// ToCreate returns the routes that are not there as far as that is known. Conflicts
// are a *ConflictError.
func ToCreate(all []Route) ([]Route, error) {
	var missing []Route
	var errs []error
	for _, r := range all {
		switch r.State {
		case "", Missing:
			missing = append(missing, r)
		case Other:
			errs = append(errs, fmt.Errorf("%s: %s (delete that one first)", r.Worker, r.Conflict))
		}
	}
	if len(errs) > 0 {
		return nil, &ConflictError{errors.Join(errs...)}
	}
	return missing, nil
}

// ToDelete returns the routes of workers that are there as far as that is known:
// those that are gone, or lead elsewhere, are not theirs.
func ToDelete(all []Route) []Route {
	return slices.DeleteFunc(slices.Clone(all), func(r Route) bool { return r.State != "" && r.State != There })
}

// ClusterRange returns the range of all pods.
func ClusterRange(workers []Worker, ranges Ranges) netip.Prefix {
	wanted := ranges.Cluster
	for _, w := range workers {
		wanted = cmp.Or(wanted, w.ClusterCIDR)
	}
	return cmp.Or(wanted, netip.MustParsePrefix(DefaultCluster))
}
