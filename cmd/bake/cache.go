package main

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/nodebake/bake/bake/progress"
	"github.com/nodebake/bake/bake/source/store"
)

func newCache(h *host) *cobra.Command {
	c := &cobra.Command{
		Use:   "cache",
		Short: "Look at the store, or make it smaller",
		Long: `The store keeps downloads, unpacked packages, built components and compressed
ranges between bakes, and the programs of bake cluster. Everything in it can be
rebuilt; nothing in it is believed without being verified.`,
	}
	c.AddCommand(newCacheUsage(h), newCachePrune(h))
	return c
}

func newCacheUsage(h *host) *cobra.Command {
	var in inputFlags
	var asJSON bool
	c := &cobra.Command{
		Use:   "usage",
		Short: "Say what the store holds",
		Args:  noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			dir, err := in.cacheDir()
			if err != nil {
				return err
			}
			report, err := store.Usage(c.Context(), dir)
			if err != nil {
				return err
			}
			return printUsage(h, dir, report, asJSON)
		},
	}
	in.addCacheFlag(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print as JSON")
	return c
}

func newCachePrune(h *host) *cobra.Command {
	var in inputFlags
	var o store.PruneOptions
	var days int
	var gib float64
	var asJSON bool
	c := &cobra.Command{
		Use:   "prune",
		Short: "Remove what no bake has used for a while",
		Example: `  bake cache prune                    what was not used for 30 days
  bake cache prune --max-gib 5        then the least recently used, down to 5 GiB
  bake cache prune --all              everything`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			dir, err := in.cacheDir()
			if err != nil {
				return err
			}
			if days < 0 || gib < 0 {
				return &usageError{fmt.Errorf("--days and --max-gib can't be negative")}
			}
			o.OlderThan = time.Duration(days) * 24 * time.Hour
			o.MaxSize = int64(gib * (1 << 30))
			report, err := store.Prune(c.Context(), dir, o)
			if err != nil {
				return err
			}
			return printUsage(h, dir, report, asJSON)
		},
	}
	in.addCacheFlag(c)
	f := c.Flags()
	f.IntVar(&days, "days", 30, "remove what was not used for so many days; 0: nothing by age")
	f.Float64Var(&gib, "max-gib", 0, "remove the least recently used until so much is left; 0: no limit")
	f.BoolVar(&o.All, "all", false, "remove everything")
	f.BoolVar(&o.DryRun, "dry-run", false, "remove nothing, say what would go")
	f.BoolVar(&asJSON, "json", false, "print as JSON")
	return c
}

func printUsage(h *host, dir string, r store.Report, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(h.stdout).Encode(r)
	}
	fmt.Fprintln(h.stdout, dir)
	for _, kind := range store.Kinds() {
		fmt.Fprintf(h.stdout, "%-10s %6d  %10s", kind, r.Kept[kind].Entries, progress.Bytes(r.Kept[kind].Bytes))
		if removed := r.Removed[kind]; removed.Entries > 0 {
			fmt.Fprintf(h.stdout, "   removed %d, %s", removed.Entries, progress.Bytes(removed.Bytes))
		}
		fmt.Fprintln(h.stdout)
	}
	return nil
}
