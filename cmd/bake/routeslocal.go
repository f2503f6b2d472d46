package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/nodebake/bake/bake/cluster"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/routes"
)

// table is the routes of the network of --local.
func (in *routesFlags) table(h *host) (routes.Table, error) {
	root, err := h.clusterRoot()
	if err != nil {
		return nil, err
	}
	if err := cluster.CheckName(in.local); err != nil {
		return nil, &manifest.ArgumentError{Err: err}
	}
	return cluster.NewClient(root, in.local), nil
}

// createLocal sets the routes that a network lacks.
func (in *routesFlags) createLocal(c *cobra.Command, h *host, dirs []string) error {
	wanted, within, err := in.wanted(c, dirs)
	if err != nil {
		return err
	}
	table, err := in.table(h)
	if err != nil {
		return err
	}
	made, err := routes.Create(c.Context(), table, wanted, within)
	if _, ok := errors.AsType[*routes.ConflictError](err); ok {
		return &manifest.ArgumentError{Err: err}
	}
	if err != nil {
		return err
	}
	if len(made) == 0 {
		h.note("all of the workers' routes are there")
	}
	return in.printChanged(h, made, "created")
}

// deleteLocal removes the workers' routes that a network has.
func (in *routesFlags) deleteLocal(c *cobra.Command, h *host, dirs []string) error {
	wanted, within, err := in.wanted(c, dirs)
	if err != nil {
		return err
	}
	table, err := in.table(h)
	if err != nil {
		return err
	}
	before, err := routes.Read(c.Context(), table, wanted, within)
	if err != nil {
		return err
	}
	noteConflicts(h, before)
	gone, err := routes.Delete(c.Context(), table, wanted, within)
	if err != nil {
		return err
	}
	if len(gone) == 0 {
		h.note("none of the workers' routes is there")
	}
	return in.printChanged(h, gone, "deleted")
}

// printChanged says what became of routes.
func (in *routesFlags) printChanged(h *host, changed []routes.Route, how string) error {
	if in.asJSON {
		return in.print(h, changed, nil)
	}
	var l lines
	for _, r := range changed {
		l.add("%s to %s, %s, %s", r.Destination, r.NextHop, r.Worker, how)
	}
	return l.print(h.stdout)
}
