package routes

import (
	"context"
	"maps"
	"net/netip"
	"slices"
)

// Table is the routes of a network that runs, a next hop for each range.
type Table interface {
	Routes(ctx context.Context) (map[netip.Prefix]netip.Addr, error)
	SetRoute(ctx context.Context, destination netip.Prefix, nextHop netip.Addr) error
	RemoveRoute(ctx context.Context, destination netip.Prefix) error
}

// Read compares a table with the wanted routes.
func Read(ctx context.Context, table Table, wanted []Route, within netip.Prefix) ([]Route, error) {
	there, err := table.Routes(ctx)
	if err != nil {
		return nil, err
	}
	var existing []Existing
	for _, destination := range slices.SortedFunc(maps.Keys(there), netip.Prefix.Compare) {
		existing = append(existing, Existing{Destination: destination, NextHop: there[destination].String()})
	}
	return Compare("", wanted, existing, within), nil
}

// Create sets the routes that are missing, and returns them. Where one can't be
// made, none is.
func Create(ctx context.Context, table Table, wanted []Route, within netip.Prefix) ([]Route, error) {
	all, err := Read(ctx, table, wanted, within)
	if err != nil {
		return nil, err
	}
	missing, err := ToCreate(all)
	if err != nil {
		return nil, err
	}
	for _, r := range missing {
		if err := table.SetRoute(ctx, r.Destination, r.NextHop); err != nil {
			return nil, err
		}
	}
	return missing, nil
}

// Delete removes the workers' routes that are there, and returns them.
func Delete(ctx context.Context, table Table, wanted []Route, within netip.Prefix) ([]Route, error) {
	all, err := Read(ctx, table, wanted, within)
	if err != nil {
		return nil, err
	}
	there := ToDelete(all)
	for _, r := range there {
		if err := table.RemoveRoute(ctx, r.Destination); err != nil {
			return nil, err
		}
	}
	return there, nil
}
