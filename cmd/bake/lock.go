package main

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/nodebake/bake/bake/arch"
	"github.com/nodebake/bake/bake/lock"
)

func newLock(h *host) *cobra.Command {
	var in inputFlags
	var allowOlder, asJSON bool
	var names []string
	upgrade := allOrNames{of: "packages"}
	c := &cobra.Command{
		Use:         "lock --versions FILE [--upgrade [PACKAGE,...]]",
		Short:       "Resolve the OS packages that an image needs",
		Annotations: map[string]string{exitCodes: "0 done, 1 failed, 2 wrong usage, 3 bad input"},
		Long: `Resolve the packages of the image definition and the versions file against
Debian's signed indices (suite, updates and security) and write versions and
digests to the lock beside the versions file. bake image takes every package
from there and resolves nothing itself.

What is locked already stays as it is where it still does, superseded or not, as
long as a mirror or the store has it. What changes is printed with its reason.
Indices that are older than those the lock was made from are refused, since
they hide updates.`,
		Example: `  bake lock --versions manifests/versions.yaml
  bake lock --versions manifests/versions.yaml --upgrade openssl,libssl3t64
  bake lock check --versions manifests/versions.yaml`,
		Args: func(c *cobra.Command, args []string) error {
			if upgrade.on {
				return nil
			}
			return noArgs(c, args)
		},
		RunE: func(c *cobra.Command, args []string) error {
			config, err := in.lockConfig(c, h)
			if err != nil {
				return err
			}
			var arches []arch.Arch
			for _, name := range names {
				arch, err := parseArch("--arch", name)
				if err != nil {
					return err
				}
				arches = append(arches, arch)
			}
			config.AllowOlder = allowOlder
			for _, names := range args { // as they follow where a message prints the command
				if err := upgrade.Set(names); err != nil {
					return &usageError{fmt.Errorf("--upgrade: %w", err)}
				}
			}
			config.Upgrade, config.UpgradeAll = upgrade.names, upgrade.on && len(upgrade.names) == 0
			var result *lock.Result
			err = h.withLocker(config, func(l *lock.Locker) (err error) {
				result, err = l.Lock(c.Context(), arches)
				return err
			})
			if err != nil {
				return err
			}
			if err := h.print(result.SHA256, result.Path, result, asJSON); err != nil || asJSON {
				return err
			}
			return h.printLocked(result.Locked)
		},
	}
	in.addVersionsFlag(c)
	in.addBaseFlags(c)
	in.arch = string(arch.Default)
	f := c.Flags()
	f.StringVar(&in.lock, "output", "", "lock `FILE` (default: beside the versions file)")
	f.StringSliceVar(&names, "arch", nil, "`ARCH` to lock; may be repeated (default: those of the lock)")
	upgrade.add(f, "upgrade", "take the newest packages, or of `[PACKAGE,...]` and what they need")
	f.BoolVar(&allowOlder, "allow-older", false, "take indices that are older than those of the lock that is there")
	f.BoolVar(&asJSON, "json", false, "print the result as JSON")
	h.addShownFlags(c, "show no progress")
	c.AddCommand(newLockCheck(h), newLockDiff(h))
	return c
}

// lockConfig turns the flags into a lock.Config.
func (in *inputFlags) lockConfig(c *cobra.Command, h *host) (lock.Config, error) {
	config := lock.Config{Keyring: h.keyring, Now: h.now()}
	var err error
	if config.Files, err = in.files(c); err != nil {
		return config, err
	}
	config.Options, err = in.options(c, h)
	return config, err
}

// withLocker calls do while progress is shown.
func (h *host) withLocker(config lock.Config, do func(l *lock.Locker) error) error {
	sink, stop := h.progress(config.Jobs)
	defer stop()
	config.Progress = sink
	locker, err := lock.New(config)
	if err != nil {
		return err
	}
	defer locker.Close()
	return do(locker)
}

func newLockCheck(h *host) *cobra.Command {
	var in inputFlags
	var allowOlder, asJSON bool
	c := &cobra.Command{
		Use:         "check --versions FILE",
		Short:       "Say whether a lock is stale or misses security updates",
		Annotations: map[string]string{exitCodes: "0 it fits and misses none, 1 failed, 2 wrong usage, 3 bad input,\n4 it is stale (the versions file or the image definition asks for other packages\nthan when it was made), or security updates are missing"},
		Long: `Say whether the lock of a versions file still fits, and whether Debian has
security updates of what is locked. Nothing is written.`,
		Example: `  bake lock check --versions manifests/versions.yaml
  bake lock check --versions manifests/versions.yaml --json | jq .security`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			config, err := in.lockConfig(c, h)
			if err != nil {
				return err
			}
			config.AllowOlder = allowOlder
			var report *lock.Report
			err = h.withLocker(config, func(l *lock.Locker) (err error) {
				report, err = l.Check(c.Context())
				return err
			})
			if asJSON && report != nil {
				if err := json.NewEncoder(h.stdout).Encode(report); err != nil {
					return err
				}
			}
			return err
		},
	}
	in.addFlags(c)
	f := c.Flags()
	f.StringVar(&in.lock, "lock", "", "lock `FILE` (default: beside the versions file)")
	f.BoolVar(&allowOlder, "allow-older", false, "take indices that are older than those of the lock")
	f.BoolVar(&asJSON, "json", false, "print the result as JSON")
	h.addShownFlags(c, "show no progress")
	return c
}

func newLockDiff(h *host) *cobra.Command {
	var of string
	c := &cobra.Command{
		Use:         "diff OLD NEW",
		Short:       "Print the packages in which two locks differ",
		Annotations: map[string]string{exitCodes: "0 done, also where they differ, 2 wrong usage, 3 bad input"},
		Long: `Print the packages in which two locks differ, a line for each: + for one that is
new, - for one that is gone, and both versions of one that is another.`,
		Example: `  git show HEAD:manifests/versions.lock > old.lock
  bake lock diff old.lock manifests/versions.lock`,
		Args: exactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			which, err := parseArch("--arch", of)
			if err != nil {
				return err
			}
			changes, err := lock.Diff(args[0], args[1], which)
			if err != nil {
				return err
			}
			var l lines
			for _, change := range changes {
				l.add("%s", change)
			}
			return l.print(h.stdout)
		},
	}
	c.Flags().StringVar(&of, "arch", string(arch.Default), "`ARCH`: "+arch.Names(" or "))
	return c
}

// printLocked says what a new lock has in place of what was there. What is all
// new is counted.
func (h *host) printLocked(locked []lock.Packages) error {
	var l lines
	for _, p := range locked {
		if len(p.Changes) == p.Count && p.Kept == 0 {
			l.add("%s: %d packages", p.Arch, p.Count)
			continue
		}
		for _, c := range p.Changes {
			l.add("%s: %s", p.Arch, c)
		}
		l.add("%s: %s kept", p.Arch, countPackages(p.Kept))
	}
	return l.print(h.stdout)
}

func countPackages(n int) string {
	if n == 1 {
		return "1 package"
	}
	return fmt.Sprintf("%d packages", n)
}
