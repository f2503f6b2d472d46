package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/nodebake/bake/bake/arch"
	"github.com/nodebake/bake/bake/lock"
)

func newLock(h *host) *cobra.Command {
	var in inputFlags
	var allowOlder, asJSON bool
	var names []string
	var upgrade upgrades
	c := &cobra.Command{
		Use:         "lock --versions FILE [--upgrade [PACKAGE,...]]",
		Short:       "Resolve the OS packages that an image needs",
		Annotations: map[string]string{exitCodes: "0 done, 1 failed, 2 wrong usage, 3 wrong input"},
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
			if config.Upgrade, err = upgrade.packages(args); err != nil {
				return err
			}
			config.UpgradeAll = upgrade.on && len(config.Upgrade) == 0
			sink, stop := h.progress(config.Jobs)
			defer stop()
			config.Progress = sink
			locker, err := lock.New(config)
			if err != nil {
				return err
			}
			defer locker.Close()
			result, err := locker.Lock(c.Context(), arches)
			stop()
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
	f.Var(&upgrade, "upgrade", "take the newest packages, or of `[PACKAGE,...]` and what they need")
	f.Lookup("upgrade").NoOptDefVal = "true"
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

func newLockCheck(h *host) *cobra.Command {
	var in inputFlags
	var allowOlder, asJSON bool
	c := &cobra.Command{
		Use:         "check --versions FILE",
		Short:       "Say whether a lock is stale or misses security updates",
		Annotations: map[string]string{exitCodes: "0 it fits and misses none, 1 failed, 2 wrong usage, 3 wrong input,\n4 it is stale (the versions file or the image definition asks for other packages\nthan when it was made), or security updates are missing"},
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
			sink, stop := h.progress(config.Jobs)
			defer stop()
			config.Progress = sink
			locker, err := lock.New(config)
			if err != nil {
				return err
			}
			defer locker.Close()
			report, err := locker.Check(c.Context())
			stop()
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
		Annotations: map[string]string{exitCodes: "0 done, also where they differ, 2 wrong usage, 3 wrong input"},
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

// upgrades is the value of --upgrade: a flag, or names. Names may follow it as
// arguments, as they do where a message prints the command.
type upgrades struct {
	on    bool
	names []string
}

// Set implements pflag.Value.
func (u *upgrades) Set(text string) error {
	switch text {
	case "true":
		u.on = true
	case "false":
		*u = upgrades{}
	default:
		u.on, u.names = true, append(u.names, text)
	}
	return nil
}

// String implements pflag.Value.
func (u *upgrades) String() string {
	if len(u.names) > 0 {
		return strings.Join(u.names, ",")
	}
	return strconv.FormatBool(u.on)
}

// Type implements pflag.Value, as that of buildMissing does.
func (u *upgrades) Type() string { return "bool" }

// packages returns the names of packages; none: all are meant.
func (u *upgrades) packages(args []string) ([]string, error) {
	var names []string
	for _, list := range slices.Concat(u.names, args) {
		names = append(names, strings.Split(list, ",")...)
	}
	if slices.Contains(names, "") {
		return nil, &usageError{errors.New("--upgrade: want names of packages, with commas between them")}
	}
	return names, nil
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
