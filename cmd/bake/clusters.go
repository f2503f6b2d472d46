package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/nodebake/bake/bake/cluster"
	"github.com/nodebake/bake/bake/progress"
)

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func newClusterList(h *host) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "list",
		Short: "List clusters and their workers",
		Long: `List the clusters of this user with their workers, also those that failed or whose
process was killed, until they are deleted.`,
		Annotations: map[string]string{exitCodes: "0 done, 1 failed, 2 wrong usage"},
		Args:        noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			root, err := h.clusterRoot()
			if err != nil {
				return err
			}
			names, err := cluster.Names(root)
			if err != nil {
				return err
			}
			all := []cluster.Status{}
			for _, name := range names {
				s, err := cluster.NewClient(root, name).Status(c.Context())
				if err != nil {
					return err
				}
				all = append(all, s)
			}
			if asJSON {
				return json.NewEncoder(h.stdout).Encode(all)
			}
			return printClusters(h, all)
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print the list as JSON")
	return c
}

func printClusters(h *host, all []cluster.Status) error {
	w := tabwriter.NewWriter(h.stdout, 0, 0, 2, ' ', 0)
	if len(all) > 0 {
		row(w, "NAME", "STATE", "ADDRESS", "AGE")
	}
	for _, s := range all {
		age := "-"
		if !s.Since.IsZero() {
			age = h.now().Sub(s.Since).Round(time.Second).String()
		}
		row(w, withReason([]string{s.Name, string(s.Phase), cmp.Or(s.Server, "-"), age}, s.Error)...)
		for _, worker := range s.Workers {
			state := worker.State
			if s.Phase == cluster.Ended || s.Phase == cluster.Failed {
				state = cluster.Off
			}
			row(w, withReason([]string{"  " + worker.Name, string(state), worker.IP.String(), "-"}, worker.Message)...)
		}
	}
	return w.Flush()
}

// withReason adds a reason to the cells of a row, where there is one: its first line.
func withReason(cells []string, reason string) []string {
	if reason == "" {
		return cells
	}
	first, _, _ := strings.Cut(reason, "\n")
	return append(cells, first)
}

func newClusterAdd(h *host) *cobra.Command {
	var name string
	var replace bool
	c := &cobra.Command{
		Use:   "add WORKER",
		Short: "Let one more worker join a cluster that runs",
		Long: `Boot one more worker from the cluster's image, and wait until it is Ready. worker-3
gets the guide's addresses (10.240.0.23, pods 10.200.3.0/24), another name the
first that are free. With --replace a worker that is there is ended first, and
begins anew on a fresh disk under the same name and address.`,
		Example:     `  bake cluster add worker-3`,
		Annotations: map[string]string{exitCodes: "0 it is Ready, 1 it is not, 2 wrong usage, 3 no such name, or it is taken"},
		Args:        exactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			root, err := h.clusterRoot()
			if err != nil {
				return err
			}
			return addWorker(c, h, cluster.NewClient(root, name), args[0], replace)
		},
	}
	addClusterName(c, &name)
	c.Flags().BoolVar(&replace, "replace", false, "end the worker of that name first, and begin on a fresh disk")
	h.addShownFlags(c, "show no progress")
	return c
}

func addWorker(c *cobra.Command, h *host, client *cluster.Client, worker string, replace bool) error {
	sink, stop := h.progress(1)
	defer stop()
	added := whenEnded(func() error { return client.Add(c.Context(), worker, replace) })
	watcher := clusterWatcher{sink: sink, tasks: map[string]progress.Task{}}
	progress.Phase(sink, "workers")
	for done := false; !done; {
		select {
		case <-added.done:
			done = true
		case <-time.After(watchTime):
		}
		if s, err := client.Status(c.Context()); err == nil {
			watcher.showWorkers(s)
		}
	}
	stop()
	switch {
	case c.Context().Err() != nil:
		return &endedError{fmt.Sprintf("interrupted; %s goes on to start (bake cluster list shows it)", worker)}
	case added.err != nil:
		return added.err
	}
	h.say(worker + " is Ready")
	return nil
}

func newClusterLogs(h *host) *cobra.Command {
	var name, output string
	c := &cobra.Command{
		Use:   "logs --output DIR",
		Short: "Copy the logs and consoles of a cluster",
		Long: `Copy the consoles of the cluster's workers, the logs of its control plane, its
status and, while it runs, its nodes and events to a new or empty directory. Keys,
certificates and kubeconfigs are not among them.`,
		Example:     `  bake cluster logs --output logs`,
		Annotations: map[string]string{exitCodes: "0 done, 1 failed, 2 wrong usage, 3 no such cluster, or files are in DIR"},
		Args:        noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := requireFlag(c, "output", output); err != nil {
				return err
			}
			root, err := h.clusterRoot()
			if err != nil {
				return err
			}
			files, err := cluster.Logs(c.Context(), root, name, output)
			if err != nil {
				return err
			}
			var l lines
			for _, file := range files {
				l.add("%s", filepath.Join(output, file))
			}
			return l.print(h.stdout)
		},
	}
	addClusterName(c, &name)
	c.Flags().StringVar(&output, "output", "", "`DIR` for them")
	return c
}

func newClusterDelete(h *host) *cobra.Command {
	var name string
	c := &cobra.Command{
		Use:   "delete",
		Short: "End a cluster, and remove what it has",
		Long: `End a cluster that runs, is being started or failed, or whose process was killed,
and remove its directory. No other cluster is touched.`,
		Example:     `  bake cluster delete --name bake`,
		Annotations: map[string]string{exitCodes: "0 done, 1 failed, 2 wrong usage, 3 no such cluster"},
		Args:        noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			root, err := h.clusterRoot()
			if err != nil {
				return err
			}
			if err := cluster.Delete(c.Context(), root, name); err != nil {
				return err
			}
			h.say(fmt.Sprintf("cluster %s was deleted", name))
			return nil
		},
	}
	addClusterName(c, &name)
	return c
}
