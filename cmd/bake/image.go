package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/nodebake/bake/bake"
	"github.com/nodebake/bake/bake/source"
	"github.com/nodebake/bake/units"
)

func newImage(h *host) *cobra.Command {
	var in inputFlags
	var out, name, format, origin, key string
	missing := allOrNames{of: "components and images"}
	var asJSON, force bool
	c := &cobra.Command{
		Use:   "image --versions FILE",
		Short: "Build an image",
		Long: `What is not in the store is fetched and checked; what is unavailable is named
before anything slow begins. OUTPUT gets NAME.tar.gz, its record NAME.json, its
SBOM NAME.spdx.json and NAME.provenance.json, all complete or none. The digest
and the path go to standard output. The digest is a function of the versions
file, what it names, the lock, and the origin of each part (docs/versions.md).`,
		Example: `  bake image --versions manifests/versions.yaml --build-missing
  bake image --versions versions.yaml --mirror /srv/mirror --offline --json`,
		Annotations: map[string]string{exitCodes: "0 done, 1 failed, 2 wrong usage, 3 bad input, 4 the lock is stale or superseded"},
		Args:        noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			config := bake.Config{Units: units.FS(), Out: out, Name: name, Force: force}
			var err error
			if config.Files, err = in.files(c); err != nil {
				return err
			}
			if config.Options, err = in.options(c, h); err != nil {
				return err
			}
			config.BuildMissing, config.BuildNamed = missing.on, missing.names
			if config.Format, err = bake.ParseFormat(format); err != nil {
				return &usageError{err}
			}
			if config.Origin, err = source.ParseOrigin(origin); err != nil {
				return &usageError{err}
			}
			config.Sign, config.SignPassword = key, h.signPassword
			if err := h.openPrograms(c.Context(), &config.Options, config.Arch); err != nil {
				return err
			}
			sink, stop := h.progress(config.Jobs)
			defer stop()
			config.Progress = sink
			b, err := bake.New(config)
			if err != nil {
				return err
			}
			defer b.Close()
			result, err := b.Image(c.Context())
			stop()
			if err != nil {
				return err
			}
			if err := h.print(result.SHA256, result.Path, result, asJSON); err != nil {
				return err
			}
			if result.Replaced != "" {
				h.say(fmt.Sprintf("another image was replaced, %s; where Compute Engine has that one as %s, it refuses the new one under this name (delete that one there, or bake with {inputs} in --name)", result.Replaced, imageOf(result.Path)))
			}
			h.sayMissing(result.Missing)
			return nil
		},
	}
	in.addFlags(c)
	in.addMirrorFlags(c)
	in.addRegistryFlags(c)
	f := c.Flags()
	f.StringVar(&in.lock, "lock", "", "lock `FILE` (default: beside the versions file)")
	f.StringVar(&out, "output", "out", "`DIR` that the image goes to")
	f.StringVar(&name, "name", "", "`NAME`, with {version}, {arch}, {lock} or {inputs} (docs/versions.md)")
	f.BoolVar(&force, "force", false, "replace another image of that name")
	f.StringVar(&format, "format", "tar.gz", "`FORMAT`: tar.gz for Compute Engine, or raw")
	missing.add(f, "build-missing", "build what is gone from its Go module, or only `[=KEY,...]`")
	f.StringVar(&origin, "origin", "", "`ORIGIN` that every component must have: release or source")
	f.StringVar(&key, "sign", "", "sign the provenance with the private key in `FILE` (docs/sbom.md)")
	f.BoolVar(&asJSON, "json", false, "print the result as JSON")
	h.addShownFlags(c, "show no progress")
	return c
}

// sayMissing ends a run with that parts are not from where the versions file says.
// Who saw no notes is told which and why.
func (h *host) sayMissing(missing []source.Missing) {
	if len(missing) == 0 {
		return
	}
	if h.shown.quiet {
		h.say(source.SayMissing(missing))
	}
	parts := "1 part is"
	if n := len(missing); n > 1 {
		parts = fmt.Sprintf("%d parts are", n)
	}
	h.say(parts + " built from source: the image has another digest than with releases")
}

// imageOf returns the name of the image in the file path.
func imageOf(path string) string {
	name := strings.TrimSuffix(filepath.Base(path), "."+string(bake.TarGz))
	return strings.TrimSuffix(name, "."+string(bake.Raw))
}

// signPassword returns the password of the key that signs. An empty one is one.
func (h *host) signPassword() ([]byte, error) {
	for _, name := range []string{"BAKE_SIGN_PASSWORD", "COSIGN_PASSWORD"} {
		for _, kv := range slices.Backward(h.env) { // the last one counts, as in os.Getenv
			if value, ok := strings.CutPrefix(kv, name+"="); ok {
				return []byte(value), nil
			}
		}
	}
	return nil, errors.New("it is encrypted: set BAKE_SIGN_PASSWORD to its password")
}
