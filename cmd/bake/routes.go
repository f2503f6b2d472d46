package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/nodebake/bake/bake/gce"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/routes"
)

// routesFlags are the flags of bake routes' commands as they are given.
type routesFlags struct {
	workers          []string
	network, project string
	cluster, service string
	subnet           string
	existing         string
	local            string
	asJSON           bool
}

func newRoutes(h *host) *cobra.Command {
	c := &cobra.Command{
		Use:   "routes",
		Short: "Print or set the routes that lead to workers' pods, and check them",
	}
	c.AddCommand(newRoutesCreate(h), newRoutesDelete(h), newRoutesList(h))
	return c
}

// routesLong is what the commands have in common.
const routesLong = `Workers are directories of "bake node --output": pod-cidr, and the address from the
certificate; --worker gives what none says. Nothing is sent anywhere, but with
--local to a cluster of bake cluster. Before anything is printed it is checked that
pod ranges are within the cluster's, and overlap neither each other nor the ranges of
instances and services.`

func newRoutesCreate(h *host) *cobra.Command {
	var in routesFlags
	c := &cobra.Command{
		Use:         "create WORKER_DIR...",
		Short:       "Print the gcloud commands that make a route for each worker's pods",
		Annotations: map[string]string{exitCodes: "0 done, 1 failed, 2 wrong usage, 3 bad input, or a range that leads elsewhere"},
		Long: routesLong + ` With
--existing only what is missing is printed, and a range that leads elsewhere is an
error; so with --local, which sets it.`,
		Example: `  bake routes create worker-0 worker-1 worker-2 | sh
  gcloud compute routes list --format json | bake routes create worker-* --existing -
  bake routes create worker-0 worker-1 worker-2 --local bake`,
		RunE: func(c *cobra.Command, args []string) error { return in.create(c, h, args) },
	}
	in.addFlags(c)
	return c
}

func newRoutesDelete(h *host) *cobra.Command {
	var in routesFlags
	c := &cobra.Command{
		Use:         "delete WORKER_DIR...",
		Short:       "Print the gcloud command that deletes the routes of workers' pods",
		Annotations: map[string]string{exitCodes: "0 done, 1 failed, 2 wrong usage, 3 bad input"},
		Long: routesLong + ` With
--existing only routes that are there, and lead to these workers, are named; so
with --local, which removes them.`,
		Example: `  bake routes delete worker-0 worker-1 worker-2 | sh
  gcloud compute routes list --format json | bake routes delete worker-* --existing -`,
		RunE: func(c *cobra.Command, args []string) error { return in.delete(c, h, args) },
	}
	in.addFlags(c)
	return c
}

func newRoutesList(h *host) *cobra.Command {
	var in routesFlags
	c := &cobra.Command{
		Use:         "list WORKER_DIR...",
		Short:       "List the routes that workers' pods need",
		Annotations: map[string]string{exitCodes: "0 done, also where some are missing, 1 failed, 2 wrong usage, 3 bad input"},
		Long: routesLong + ` With
--existing or --local each is there, missing, or something other has its range or its
name; one that leads to pods and to no worker is extra.`,
		Example: `  bake routes list worker-0 worker-1 worker-2
  gcloud compute routes list --format json | bake routes list worker-* --existing -`,
		RunE: func(c *cobra.Command, args []string) error { return in.list(c, h, args) },
	}
	in.addFlags(c)
	return c
}

func (in *routesFlags) addFlags(c *cobra.Command) {
	f := c.Flags()
	f.SortFlags = false
	f.StringArrayVar(&in.workers, "worker", nil, "a worker as `NAME=IP=CIDR` that no directory tells; may be repeated")
	f.StringVar(&in.cluster, "cluster-cidr", "", "`CIDR` of all pods (default: the workers', or "+routes.DefaultCluster+")")
	f.StringVar(&in.service, "service-cidr", routes.DefaultService, "`CIDR` of services")
	f.StringVar(&in.subnet, "subnet", routes.DefaultSubnet, "`CIDR` of the instances' subnet")
	f.StringVar(&in.network, "network", routes.DefaultNetwork, "the `NETWORK` that the routes are in")
	f.StringVar(&in.project, "project", "", "the network's `PROJECT`")
	f.StringVar(&in.existing, "existing", "", "`FILE` of `gcloud compute routes list --format json`; -: standard input")
	f.StringVar(&in.local, "local", "", "the network of the `CLUSTER` of this name that bake cluster runs")
	f.BoolVar(&in.asJSON, "json", false, "print routes and commands as JSON")
	inGroup(f, "Workers", "worker", "cluster-cidr", "service-cidr", "subnet")
	inGroup(f, "Network", "network", "project", "existing", "local")
}

// routesResult is what the commands print with --json.
type routesResult struct {
	Routes   []routes.Route `json:"routes"`
	Commands [][]string     `json:"commands"`
}

func (in *routesFlags) create(c *cobra.Command, h *host, dirs []string) error {
	if in.local != "" {
		return in.createLocal(c, h, dirs)
	}
	all, err := in.routes(c, h, dirs)
	if err != nil {
		return err
	}
	missing, err := routes.ToCreate(all)
	if err != nil {
		return &manifest.ArgumentError{Err: err}
	}
	var commands [][]string
	for _, r := range missing {
		commands = append(commands, gce.Route{
			Name: r.Name, Project: in.project, Network: in.network, Destination: r.Destination.String(), NextHop: r.NextHop.String(),
			Description: "bake: pods of " + r.Worker,
		}.CreateCommand())
	}
	if len(missing) == 0 {
		h.note("all of the workers' routes are there")
	}
	return in.print(h, all, commands)
}

func (in *routesFlags) delete(c *cobra.Command, h *host, dirs []string) error {
	if in.local != "" {
		return in.deleteLocal(c, h, dirs)
	}
	all, err := in.routes(c, h, dirs)
	if err != nil {
		return err
	}
	noteConflicts(h, all)
	var names []string
	for _, r := range routes.ToDelete(all) {
		names = append(names, r.Name)
	}
	var commands [][]string
	if len(names) > 0 {
		commands = append(commands, gce.DeleteRoutesCommand(in.project, names))
	} else {
		h.note("none of the workers' routes is there")
	}
	return in.print(h, all, commands)
}

func (in *routesFlags) list(c *cobra.Command, h *host, dirs []string) error {
	all, err := in.routes(c, h, dirs)
	if err != nil {
		return err
	}
	command := gce.ListRoutesCommand(in.project, in.network)
	if in.asJSON {
		commands := [][]string{command}
		if in.local != "" {
			commands = nil
		}
		return in.print(h, all, commands)
	}
	t := tabwriter.NewWriter(h.stdout, 0, 0, 2, ' ', 0)
	for _, r := range all {
		cells := []string{r.Name, r.Destination.String(), r.NextHop.String(), cmp.Or(r.Worker, "-")}
		for _, more := range []string{string(r.State), r.Conflict} {
			if more != "" {
				cells = append(cells, more)
			}
		}
		row(t, cells...)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if in.existing == "" && in.local == "" {
		h.note("those that are there: %s (with --format json, --existing compares)", manifest.Command(command...))
	}
	return nil
}

// print shows commands as a shell takes them, or everything as JSON.
func (in *routesFlags) print(h *host, all []routes.Route, commands [][]string) error {
	if in.asJSON {
		encoder := json.NewEncoder(h.stdout)
		encoder.SetEscapeHTML(false)
		return encoder.Encode(routesResult{all, commands})
	}
	var l lines
	for _, command := range commands {
		l.add("%s", manifest.Command(command...))
	}
	return l.print(h.stdout)
}

// noteConflicts says which routes stay that workers' routes would be in the place of.
func noteConflicts(h *host, all []routes.Route) {
	for _, r := range all {
		if r.Conflict != "" {
			h.note("%s: %s: it is not the worker's, and stays", r.Worker, r.Conflict)
		}
	}
}

// wanted reads and checks workers. The routes that they need are within a range.
func (in *routesFlags) wanted(c *cobra.Command, dirs []string) (wanted []routes.Route, within netip.Prefix, err error) {
	for _, flag := range []string{"network", "project", "existing"} {
		if in.local != "" && c.Flags().Changed(flag) {
			return nil, within, &usageError{fmt.Errorf("--local and --%s contradict each other: want one of them (see `%s --help`)", flag, c.CommandPath())}
		}
	}
	ranges, err := in.ranges()
	if err != nil {
		return nil, within, err
	}
	workers, err := in.readWorkers(c, dirs, ranges)
	if err != nil {
		return nil, within, err
	}
	if err := routes.Check(workers, ranges); err != nil {
		return nil, within, &manifest.ArgumentError{Err: err}
	}
	return routes.Wanted(workers), routes.ClusterRange(workers, ranges), nil
}

// routes returns workers' routes, compared with those that are there, where that was
// said.
func (in *routesFlags) routes(c *cobra.Command, h *host, dirs []string) ([]routes.Route, error) {
	wanted, within, err := in.wanted(c, dirs)
	if err != nil {
		return nil, err
	}
	switch {
	case in.local != "":
		table, err := in.table(h)
		if err != nil {
			return nil, err
		}
		return routes.Read(c.Context(), table, wanted, within)
	case in.existing == "":
		return wanted, nil
	}
	data, err := readInput(c, in.existing)
	if err != nil {
		return nil, &manifest.ArgumentError{Err: fmt.Errorf("reading --existing: %w", err)}
	}
	existing, err := routes.ParseExisting(data)
	if err != nil {
		return nil, &manifest.ArgumentError{Err: fmt.Errorf("--existing %s: %w", in.existing, err)}
	}
	return routes.Compare(in.network, wanted, existing, within), nil
}

// readInput reads a file, or standard input for -.
func readInput(c *cobra.Command, path string) ([]byte, error) {
	if path == "-" {
		return io.ReadAll(c.InOrStdin())
	}
	return os.ReadFile(path)
}

func (in *routesFlags) readWorkers(c *cobra.Command, dirs []string, ranges routes.Ranges) ([]routes.Worker, error) {
	var workers []routes.Worker
	var wrong []error
	for _, text := range in.workers {
		w, err := routes.ParseWorker(text)
		if err != nil {
			wrong = append(wrong, &usageError{fmt.Errorf("--worker %w", err)})
		}
		workers = append(workers, w)
	}
	for _, dir := range dirs {
		w, err := routes.ReadWorker(dir, ranges.Subnet)
		if err != nil {
			wrong = append(wrong, &manifest.ArgumentError{Err: err})
		}
		workers = append(workers, w)
	}
	if len(workers) == 0 {
		return nil, &usageError{fmt.Errorf("want the directory of a worker, or --worker NAME=IP=CIDR (see `%s --help`)", c.CommandPath())}
	}
	return workers, errors.Join(wrong...)
}

func (in *routesFlags) ranges() (routes.Ranges, error) {
	var ranges routes.Ranges
	var wrong []error
	for _, f := range []struct {
		flag, value string
		to          *netip.Prefix
	}{{"cluster-cidr", in.cluster, &ranges.Cluster}, {"service-cidr", in.service, &ranges.Service}, {"subnet", in.subnet, &ranges.Subnet}} {
		if f.value == "" && f.flag == "cluster-cidr" {
			continue
		}
		prefix, err := netip.ParsePrefix(f.value)
		if err != nil || prefix != prefix.Masked() || !prefix.Addr().Is4() {
			wrong = append(wrong, &usageError{fmt.Errorf("--%s %q: want a range like 10.200.0.0/16", f.flag, f.value)})
		}
		*f.to = prefix
	}
	return ranges, errors.Join(wrong...)
}
