package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/nodebake/bake/bake/arch"
	"github.com/nodebake/bake/bake/mirrorsync"
	"github.com/nodebake/bake/bake/progress"
	"github.com/nodebake/bake/images/worker"
)

func newMirror(h *host) *cobra.Command {
	var in inputFlags
	var mc mirrorsync.Config
	var versions, arches []string
	var output string
	var asJSON bool
	c := &cobra.Command{
		Use:         "mirror --versions FILE --output DIR",
		Short:       "Bring all that a site without a network needs into one directory",
		Annotations: map[string]string{exitCodes: "0 done, 1 failed, 2 wrong usage, 3 bad input, 4 the lock is stale"},
		Long: `Bring everything that baking a versions file takes, and nothing else, into one
directory: releases, Debian packages with the signed indices that list them,
container images as an OCI layout, the versions file with its lock and the image
definition that it names. Any static file server or bucket can serve it. Files
are named by their digests; what is there is not fetched again, sets that are
not named stay, and a run that was interrupted is continued by the next one.
A set is called as its versions file is, without .yaml; one that is called
versions.yaml, as its directory is. docs/offline.md tells the whole way.`,
		Example: `  bake mirror --versions manifests/versions.yaml --output mirror --sources
  bake mirror check mirror
  bake image --versions versions.yaml --mirror mirror --offline --build-missing`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := requireFlag(c, "output", output); err != nil {
				return err
			}
			if len(versions) == 0 {
				return requireFlag(c, "versions", "")
			}
			var err error
			if mc.Options, err = in.options(c, h); err != nil {
				return err
			}
			mc.Definition, mc.Keyring, mc.Now = worker.FS(), h.keyring, h.now()
			if mc.To, err = filepath.Abs(output); err != nil {
				return &usageError{fmt.Errorf("--output %s: %w", output, err)}
			}
			for _, file := range versions {
				name, err := setName(file)
				if err != nil {
					return err
				}
				path, err := filepath.Abs(file)
				if err != nil {
					return &usageError{fmt.Errorf("--versions %s: %w", file, err)}
				}
				mc.Sets = append(mc.Sets, mirrorsync.Set{Name: name, Versions: file, Dir: filepath.Dir(path)})
			}
			for _, name := range arches {
				arch, err := parseArch("--arch", name)
				if err != nil {
					return err
				}
				mc.Archs = append(mc.Archs, arch)
			}
			if err := h.openPrograms(c.Context(), &mc.Options, mc.Archs...); err != nil {
				return err
			}
			return runMirror(c, h, mc, output, asJSON)
		},
	}
	in.addBaseFlags(c)
	in.addRegistryFlags(c)
	f := c.Flags()
	f.StringArrayVar(&versions, "versions", nil, "versions `FILE` that the site bakes, its lock beside it; may be repeated")
	f.StringSliceVar(&arches, "arch", []string{string(arch.Default)}, "`ARCH` of the site's images; may be repeated")
	f.StringVar(&output, "output", "", "`DIR` of the mirror: a new one, an empty one, or a mirror")
	f.BoolVar(&mc.Sources, "sources", false, "Go modules and toolchains as well, for what can't be downloaded")
	f.StringSliceVar(&mc.GoHosts, "go-host", nil, "with --sources: `OS-ARCH` of the site's bake (default: this one's)")
	f.BoolVar(&asJSON, "json", false, "print the result as JSON")
	h.addShownFlags(c, "show no progress")
	c.AddCommand(newMirrorCheck(h), newMirrorExtract(h), newMirrorPrune(h))
	return c
}

// runMirror changes the mirror that the user calls dir.
func runMirror(c *cobra.Command, h *host, mc mirrorsync.Config, dir string, asJSON bool) error {
	sink, stop := h.progress(mc.Jobs)
	defer stop()
	mc.Progress = sink
	result, err := mirrorsync.Run(c.Context(), mc)
	stop()
	if err != nil && c.Context().Err() != nil {
		return &endedError{fmt.Sprintf("interrupted, run again to continue; until then %s is the mirror that it was", dir)}
	}
	if err != nil {
		return err
	}
	return printMirror(h, dir, result, asJSON)
}

func newMirrorCheck(h *host) *cobra.Command {
	var in inputFlags
	var asJSON bool
	c := &cobra.Command{
		Use:         "check DIR",
		Short:       "Read every byte of a mirror, and name what is missing or altered",
		Annotations: map[string]string{exitCodes: "0 every byte is right, 2 wrong usage, 3 something is wrong"},
		Long: `Read every byte of a mirror, as after carrying it to another site, and name what
is missing, altered or not its own. Nothing is changed.`,
		Example: `  bake mirror check mirror`,
		Args:    exactArgs(1),
		RunE:    func(c *cobra.Command, args []string) error { return checkMirror(c, h, &in, args[0], asJSON) },
	}
	c.Flags().IntVar(&in.jobs, "jobs", 0, "do `N` things at once; 0: as many as there are processors")
	c.Flags().BoolVar(&asJSON, "json", false, "print the result as JSON")
	h.addShownFlags(c, "show no progress")
	return c
}

func newMirrorExtract(h *host) *cobra.Command {
	var output string
	var asJSON bool
	c := &cobra.Command{
		Use:         "extract DIR --output DIR",
		Short:       "Take versions files, locks and image definitions out of a mirror",
		Annotations: map[string]string{exitCodes: "0 done, 2 wrong usage, 3 no mirror, or another file is there"},
		Long: `Put the versions files of a mirror, with their locks, image definitions and what
pins Go modules, into a directory, each below the name of its set: for a site
that has them from nowhere else. Nothing is overwritten. Read them before you
bake: a versions file is what decides.`,
		Example: `  bake mirror extract mirror --output inputs`,
		Args:    exactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return extractMirror(c, h, args[0], output, asJSON)
		},
	}
	c.Flags().StringVar(&output, "output", "", "`DIR` for them")
	c.Flags().BoolVar(&asJSON, "json", false, "print the result as JSON")
	h.addShownFlags(c, "show no progress")
	return c
}

func newMirrorPrune(h *host) *cobra.Command {
	var drop []string
	var asJSON bool
	c := &cobra.Command{
		Use:         "prune DIR [--drop SET]",
		Short:       "Remove the files of a mirror that no set needs",
		Annotations: map[string]string{exitCodes: "0 done, 1 failed, 2 wrong usage, 3 no such set"},
		Long: `Remove the files of a mirror that no set of it needs, after taking out the sets
that --drop names. Sites that bake an older set by this mirror can't do so then.`,
		Example: `  bake mirror prune mirror
  bake mirror prune mirror --drop kthw-1.21`,
		Args: exactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			mc := mirrorsync.Config{Drop: drop, Prune: true, Now: h.now()}
			var err error
			if mc.To, err = filepath.Abs(args[0]); err != nil {
				return &usageError{err}
			}
			return runMirror(c, h, mc, args[0], asJSON)
		},
	}
	c.Flags().StringArrayVar(&drop, "drop", nil, "take `SET` out of the mirror first; may be repeated")
	c.Flags().BoolVar(&asJSON, "json", false, "print the result as JSON")
	h.addShownFlags(c, "show no progress")
	return c
}

// setName is what a mirror calls the set of a versions file.
func setName(file string) (string, error) {
	path, err := filepath.Abs(file)
	if err != nil {
		return "", &usageError{fmt.Errorf("--versions %s: %w", file, err)}
	}
	name := strings.TrimSuffix(strings.TrimSuffix(filepath.Base(path), ".yaml"), ".yml")
	if dir := filepath.Base(filepath.Dir(path)); name == "versions" && filepath.IsLocal(dir) {
		return dir, nil
	}
	return name, nil
}

func checkMirror(c *cobra.Command, h *host, in *inputFlags, dir string, asJSON bool) error {
	path, err := filepath.Abs(dir)
	if err != nil {
		return &usageError{err}
	}
	sink, stop := h.progress(1)
	defer stop()
	report, err := mirrorsync.Check(c.Context(), path, in.jobs, sink)
	stop()
	switch {
	case report != nil && asJSON:
		return errors.Join(json.NewEncoder(h.stdout).Encode(report), err)
	case err != nil:
		return err
	}
	_, err = fmt.Fprintf(h.stdout, "%s: %d entries of %s in %d files, %s: every byte is right\n",
		dir, report.Entries, countSets(len(report.Sets)), report.Files, progress.Bytes(report.Bytes))
	if err == nil && len(report.Extra) > 0 {
		_, err = fmt.Fprintf(h.stdout, "%s: %d files that no set needs (bake mirror prune removes them)\n", dir, len(report.Extra))
	}
	return err
}

func extractMirror(c *cobra.Command, h *host, dir, out string, asJSON bool) error {
	if err := requireFlag(c, "output", out); err != nil {
		return err
	}
	from, err := filepath.Abs(dir)
	if err != nil {
		return &usageError{err}
	}
	to, err := filepath.Abs(out)
	if err != nil {
		return &usageError{fmt.Errorf("--output %s: %w", out, err)}
	}
	r, err := mirrorsync.Extract(c.Context(), from, to)
	if err != nil {
		return err
	}
	if asJSON {
		return json.NewEncoder(h.stdout).Encode(r)
	}
	var l lines
	for _, f := range r.Files {
		there := ""
		if !f.Written {
			there = " (was there)"
		}
		l.add("%s %s%s", f.SHA256, filepath.Join(out, filepath.FromSlash(f.Path)), there)
	}
	return l.print(h.stdout)
}

func printMirror(h *host, dir string, r *mirrorsync.Result, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(h.stdout).Encode(r)
	}
	var l lines
	for _, s := range r.Sets {
		var archs []string
		for _, arch := range s.Archs {
			archs = append(archs, string(arch))
		}
		with := ""
		if s.Sources {
			with = ", with sources"
		}
		l.add("%s: set %s for %s%s: %d entries, %s", dir, s.Name, strings.Join(archs, " and "), with, s.Entries, progress.Bytes(s.Bytes))
	}
	if n := len(r.Missing); n > 0 {
		l.add("%s: %d releases and container images are unavailable; sites make them from source (bake image --build-missing)", dir, n)
	}
	l.add("%s: %s in %d files, %s; added %s, removed %s",
		dir, countSets(len(r.Sets)), r.Files, progress.Bytes(r.Bytes), amount(r.Added), amount(r.Removed))
	return l.print(h.stdout)
}

func countSets(n int) string {
	if n == 1 {
		return "1 set"
	}
	return fmt.Sprintf("%d sets", n)
}

func amount(a mirrorsync.Amount) string {
	if a.Files == 0 {
		return "nothing"
	}
	return fmt.Sprintf("%d (%s)", a.Files, progress.Bytes(a.Bytes))
}
