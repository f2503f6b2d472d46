package main

import (
	"cmp"
	"encoding/json"

	"github.com/spf13/cobra"

	"github.com/nodebake/bake/bake"
	"github.com/nodebake/bake/bake/manifest"
)

func newLock(h *host) *cobra.Command {
	var in inputs
	var output, diff string
	var check, allowOlder, asJSON bool
	var names []string
	c := &cobra.Command{
		Use:   "lock --versions FILE",
		Short: "Resolve the OS packages that an image needs",
		Long: `Resolve the packages of the image definition and the versions file against
Debian's signed indices (suite, updates and security) and write versions and
digests to the lock beside the versions file. bake image takes every package
from there and resolves nothing itself.

With --check nothing is written: exit code 4 says that the lock is stale
(the versions file or the image definition has changed since), or that
security updates are missing in it.

Indices that are older than those the lock was made from are refused, since
they hide updates.`,
		Example: `  bake lock --versions manifests/versions.yaml
  bake lock --versions manifests/versions.yaml --check
  bake lock --versions manifests/versions.yaml --output new.lock --diff manifests/versions.lock`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			config, err := in.config(c, h)
			if err != nil {
				return err
			}
			config.Lock, config.AllowOlder = output, allowOlder
			if diff != "" {
				changes, err := bake.DiffLocks(diff, cmp.Or(output, manifest.LockFile(in.versions)), config.Arch)
				if err != nil {
					return err
				}
				var l lines
				for _, change := range changes {
					l.add("%s", change)
				}
				return l.print(h.stdout)
			}
			sink, stop := h.progress(config.Jobs)
			defer stop()
			config.Progress = sink
			b, err := bake.New(config)
			if err != nil {
				return err
			}
			defer b.Close()
			if check {
				report, err := b.CheckLock(c.Context(), h.now())
				stop()
				if asJSON && report != nil {
					if err := json.NewEncoder(h.stdout).Encode(report); err != nil {
						return err
					}
				}
				return err
			}
			var arches []manifest.Arch
			for _, name := range names {
				arch, err := parseArch("--arches", name)
				if err != nil {
					return err
				}
				arches = append(arches, arch)
			}
			result, err := b.Lock(c.Context(), h.now(), arches)
			stop()
			if err != nil {
				return err
			}
			return h.print(result, asJSON)
		},
	}
	in.addFlags(c)
	f := c.Flags()
	f.StringVar(&output, "output", "", "lock `FILE` (default: the versions file's name with .lock)")
	f.StringSliceVar(&names, "arches", []string{"amd64", "arm64"}, "architectures to lock")
	f.BoolVar(&check, "check", false, "write nothing; say whether the lock is stale or misses security updates")
	f.BoolVar(&allowOlder, "allow-older", false, "take indices that are older than those of the lock that is there")
	f.StringVar(&diff, "diff", "", "write nothing; print the packages in which the lock differs from the `FILE` given")
	f.BoolVar(&asJSON, "json", false, "print the result as JSON")
	h.addShownFlags(c, "show no progress")
	return c
}
