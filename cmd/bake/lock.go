package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/nodebake/bake/bake/arch"
	"github.com/nodebake/bake/bake/lock"
	"github.com/nodebake/bake/bake/manifest"
)

func newLock(h *host) *cobra.Command {
	var in inputFlags
	var output, diff string
	var check, allowOlder, asJSON bool
	var names []string
	var upgrade upgrades
	c := &cobra.Command{
		Use:   "lock --versions FILE [--upgrade [PACKAGE,...]]",
		Short: "Resolve the OS packages that an image needs",
		Long: `Resolve the packages of the image definition and the versions file against
Debian's signed indices (suite, updates and security) and write versions and
digests to the lock beside the versions file. bake image takes every package
from there and resolves nothing itself.

What is locked already stays as it is where it still does, superseded or not, as
long as a mirror or the store has it. What changes is printed with its reason.
--upgrade takes what is newest: of all packages, or of those that are named and
what they need then.

With --check nothing is written: exit code 4 says that the lock is stale
(the versions file or the image definition asks for other packages than when it
was made), or that security updates are missing in it.

Indices that are older than those the lock was made from are refused, since
they hide updates.`,
		Example: `  bake lock --versions manifests/versions.yaml
  bake lock --versions manifests/versions.yaml --upgrade
  bake lock --versions manifests/versions.yaml --upgrade openssl,libssl3t64
  bake lock --versions manifests/versions.yaml --check
  bake lock --versions manifests/versions.yaml --output new.lock --diff manifests/versions.lock`,
		Args: func(c *cobra.Command, args []string) error {
			if upgrade.on {
				return nil
			}
			return noArgs(c, args)
		},
		RunE: func(c *cobra.Command, args []string) error {
			config := lock.Config{Keyring: h.keyring, Now: h.now(), AllowOlder: allowOlder}
			var err error
			if config.Files, err = in.files(c); err != nil {
				return err
			}
			if config.Options, err = in.options(c, h); err != nil {
				return err
			}
			if check && upgrade.on {
				return &usageError{errors.New("--check changes nothing: --upgrade is not for it")}
			}
			var arches []arch.Arch
			for _, name := range names {
				arch, err := parseArch("--arches", name)
				if err != nil {
					return err
				}
				arches = append(arches, arch)
			}
			config.Lock = output
			config.Upgrade, err = upgrade.packages(args)
			if err != nil {
				return err
			}
			config.UpgradeAll = upgrade.on && len(config.Upgrade) == 0
			if diff != "" {
				changes, err := lock.Diff(diff, cmp.Or(output, manifest.LockFile(in.versions)), config.Arch)
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
			locker, err := lock.New(config)
			if err != nil {
				return err
			}
			defer locker.Close()
			if check {
				report, err := locker.Check(c.Context())
				stop()
				if asJSON && report != nil {
					if err := json.NewEncoder(h.stdout).Encode(report); err != nil {
						return err
					}
				}
				return err
			}
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
	in.addFlags(c)
	f := c.Flags()
	f.StringVar(&output, "output", "", "lock `FILE` (default: the versions file's name with .lock)")
	f.StringSliceVar(&names, "arches", nil, "architectures to lock (default: those of the lock that is there, else amd64\nand arm64)")
	f.Var(&upgrade, "upgrade", "take what is newest of all packages, or of `[PACKAGE,...]` and what these need")
	f.Lookup("upgrade").NoOptDefVal = "true"
	f.BoolVar(&check, "check", false, "write nothing; say whether the lock is stale or misses security updates")
	f.BoolVar(&allowOlder, "allow-older", false, "take indices that are older than those of the lock that is there")
	f.StringVar(&diff, "diff", "", "write nothing; print the packages in which the lock differs from `FILE`")
	f.BoolVar(&asJSON, "json", false, "print the result as JSON")
	h.addShownFlags(c, "show no progress")
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
