package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/nodebake/bake/bake"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/progress"
)

func newMirror(h *host) *cobra.Command {
	var in inputs
	var mc bake.MirrorConfig
	var versions, arches []string
	var to, check, extract, out string
	var asJSON bool
	c := &cobra.Command{
		Use:   "mirror --versions FILE --to DIR",
		Short: "Bring all that a site without a network needs into one directory",
		Long: `Bring everything that baking a versions file takes, and nothing else, into one
directory: releases, Debian packages with the signed indices that list them,
container images as an OCI layout, the versions file with its lock and the image
definition that it names. Any static file server or bucket can serve the
directory; index.html says what is inside.

Files are named by their digests. Sets of versions share what they share, what
is there is not fetched again, and a run that was interrupted is continued by
the next one: until it ends the mirror is what it was before. Sets that are not
named stay; --drop takes one out, --prune removes the files that no set needs.

With --sources the mirror has Go modules and toolchains too, from which
bake image --build-missing makes what can't be downloaded. Without it, a release
or container image that can't be had is an error.

A set is called as its versions file is, without .yaml; one that is called
versions.yaml, as its directory is.

Where there is no network, bake image takes all from the directory or from the
server that has it. It believes nothing of what it gets: the lock and the
versions file say by digest what each file must be. --check reads every byte of
a mirror, as after carrying it, and names what is missing or altered. --extract
takes the versions files, with their locks, definitions and what pins Go modules,
out of a mirror, for a site that has them from nowhere else; it overwrites
nothing. Read them before you bake: a versions file is what decides.

docs/offline.md tells the whole way.`,
		Example: `  Where there is a network:
    bake mirror --versions manifests/versions.yaml --to mirror --sources
    bake mirror --versions versions.yaml --versions kthw-1.21.yaml --arch amd64 --arch arm64 --to mirror
    bake mirror --to mirror --drop kthw-1.21 --prune
    rsync -a --delete mirror/ carrier:mirror/

  Where there is none:
    bake mirror --check mirror
    bake mirror --extract mirror --out inputs
    bake image --versions versions.yaml --mirror mirror --offline --build-missing
    bake image --versions versions.yaml --mirror https://files.example.com/mirror --offline`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			switch {
			case check != "":
				if err := refuseFlags(c, "--check reads a mirror and changes nothing", append(makingFlags(), "extract", "out")); err != nil {
					return err
				}
				return checkMirror(c, h, &in, check, asJSON)
			case extract != "":
				if err := refuseFlags(c, "--extract reads a mirror and does not change it", makingFlags()); err != nil {
					return err
				}
				return extractMirror(c, h, extract, out, asJSON)
			case out != "":
				return &usageError{fmt.Errorf("--out is for --extract; a mirror is made in --to (see `%s --help`)", c.CommandPath())}
			}
			if err := requireFlag(c, "to", to); err != nil {
				return err
			}
			if len(versions) == 0 && len(mc.Drop) == 0 && !mc.Prune {
				return &usageError{fmt.Errorf("give --versions, --drop or --prune (see `%s --help`)", c.CommandPath())}
			}
			config, err := in.baseConfig(c, h)
			if err != nil {
				return err
			}
			mc.Config, mc.Now = config, h.now()
			if mc.To, err = filepath.Abs(to); err != nil {
				return &usageError{fmt.Errorf("--to %s: %w", to, err)}
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
				mc.Sets = append(mc.Sets, bake.MirrorSet{Name: name, Versions: file, Dir: filepath.Dir(path)})
			}
			for _, name := range arches {
				arch, err := parseArch("--arch", name)
				if err != nil {
					return err
				}
				mc.Archs = append(mc.Archs, arch)
			}
			if err := h.openPrograms(c.Context(), &mc.Config, mc.Archs...); err != nil {
				return err
			}
			sink, stop := h.progress(config.Jobs)
			defer stop()
			mc.Progress = sink
			result, err := bake.Mirror(c.Context(), mc)
			stop()
			if err != nil && c.Context().Err() != nil {
				return &endedError{fmt.Sprintf("interrupted, run again to continue; until then %s is the mirror that it was", to)}
			}
			if err != nil {
				return err
			}
			return printMirror(h, to, result, asJSON)
		},
	}
	in.addBaseFlags(c)
	in.addRegistryFlags(c)
	f := c.Flags()
	f.StringArrayVar(&versions, "versions", nil, "versions `FILE` that the site bakes; its lock is beside it; may be repeated")
	f.StringSliceVar(&arches, "arch", []string{string(manifest.AMD64)}, "`ARCH` of the site's images: amd64 or arm64; may be repeated")
	f.StringVar(&to, "to", "", "`DIR` of the mirror: a new one, an empty one, or a mirror")
	f.BoolVar(&mc.Sources, "sources", false, "Go modules and toolchains as well")
	f.StringSliceVar(&mc.GoHosts, "go-host", nil, "with --sources: what the site's bake runs on, such as linux-arm64; may be\nrepeated (default: as this machine)")
	f.StringArrayVar(&mc.Drop, "drop", nil, "take `SET` out of the mirror; may be repeated")
	f.BoolVar(&mc.Prune, "prune", false, "remove the files that no set needs any more")
	f.StringVar(&check, "check", "", "change nothing; read every byte of the mirror in `DIR`")
	f.StringVar(&extract, "extract", "", "put versions files, locks and definitions of the mirror in `DIR` below --out")
	f.StringVar(&out, "out", "", "with --extract: `DIR` for them, each below the name of its set")
	f.BoolVar(&asJSON, "json", false, "print the result as JSON")
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

// makingFlags are those for making a mirror.
func makingFlags() []string {
	return []string{"versions", "to", "drop", "prune", "sources", "arch", "go-host"}
}

// refuseFlags is a usage error where a flag was given that has no meaning.
func refuseFlags(c *cobra.Command, why string, flags []string) error {
	for _, name := range flags {
		if c.Flags().Changed(name) {
			return &usageError{fmt.Errorf("%s: --%s is not for it (see `%s --help`)", why, name, c.CommandPath())}
		}
	}
	return nil
}

func checkMirror(c *cobra.Command, h *host, in *inputs, dir string, asJSON bool) error {
	path, err := filepath.Abs(dir)
	if err != nil {
		return &usageError{fmt.Errorf("--check %s: %w", dir, err)}
	}
	sink, stop := h.progress(1)
	defer stop()
	report, err := bake.CheckMirror(c.Context(), path, in.jobs, sink)
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
		_, err = fmt.Fprintf(h.stdout, "%s: %d files that no set needs (--prune removes them)\n", dir, len(report.Extra))
	}
	return err
}

func extractMirror(c *cobra.Command, h *host, dir, out string, asJSON bool) error {
	if err := requireFlag(c, "out", out); err != nil {
		return err
	}
	from, err := filepath.Abs(dir)
	if err != nil {
		return &usageError{fmt.Errorf("--extract %s: %w", dir, err)}
	}
	to, err := filepath.Abs(out)
	if err != nil {
		return &usageError{fmt.Errorf("--out %s: %w", out, err)}
	}
	r, err := bake.ExtractMirror(c.Context(), from, to)
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

func printMirror(h *host, dir string, r *bake.MirrorResult, asJSON bool) error {
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

func amount(a bake.MirrorAmount) string {
	if a.Files == 0 {
		return "nothing"
	}
	return fmt.Sprintf("%d (%s)", a.Files, progress.Bytes(a.Bytes))
}
