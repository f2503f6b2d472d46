package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/nodebake/bake/bake/arch"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/verify"
	"github.com/nodebake/bake/images/worker"
	"github.com/nodebake/bake/units"
)

// verification is what the flags of `bake verify` ask for.
type verification struct {
	inputFlags
	key, bundle            string
	trustInputs, noRebuild bool
	private                bool
	asJSON                 bool
}

func newVerify(h *host) *cobra.Command {
	var v verification
	c := &cobra.Command{
		Use:   "verify IMAGE",
		Short: "Rebuild an image from what it records, and compare every byte",
		Long: `A versions file is code: an image is rebuilt only from inputs that you vouch for,
by the signature of --key's owner, by --versions FILE of your own, or by
--trust-inputs. Otherwise it is compared with its record and with what this bake
embeds, and nothing is fetched or built. The first byte that differs is named
by partition and file. With --key the signature, which must be provenance of
this image, is verified first. See docs/inspect.md and docs/security.md.`,
		Example: `  bake verify out/k8s-worker-v1-36-3-amd64.tar.gz --versions manifests/versions.yaml
  bake verify out/k8s-worker-v1-36-3-amd64.tar.gz --key release.pub`,
		Annotations: map[string]string{exitCodes: "0 the same, 1 it differs or the signature is wrong, 2 wrong usage, 3 not verified"},
		Args:        exactArgs(1),
		RunE:        func(c *cobra.Command, args []string) error { return v.run(c, h, args[0]) },
	}
	v.addBaseFlags(c)
	v.addMirrorFlags(c)
	v.addRegistryFlags(c)
	f := c.Flags()
	f.StringVar(&v.key, "key", "", "`FILE` of the public key (PEM) that must have signed the image")
	f.StringVar(&v.bundle, "bundle", "", "`FILE` of the signature (default: NAME.sigstore.json)")
	f.StringVar(&v.versions, "versions", "", "versions `FILE` of yours that the image must have been made from")
	f.BoolVar(&v.trustInputs, "trust-inputs", false, "fetch and build whatever the image says that it was made from")
	f.BoolVar(&v.private, "allow-private-addresses", false, "with --trust-inputs: URLs may lead to private addresses")
	f.BoolVar(&v.noRebuild, "no-rebuild", false, "verify the signature alone, and make nothing")
	f.BoolVar(&v.asJSON, "json", false, "print the result as JSON")
	h.addShownFlags(c, "show no progress")
	return c
}

// verified is the result of `bake verify`.
type verified struct{ *verify.Result }

func (v *verification) run(c *cobra.Command, h *host, image string) error {
	switch {
	case v.noRebuild && v.key == "":
		return &usageError{errors.New("--no-rebuild leaves nothing to do without --key")}
	case v.bundle != "" && v.key == "":
		return &usageError{errors.New("--bundle is the signature that --key verifies: give both")}
	}
	options, err := v.options(c, h)
	if err != nil {
		return err
	}
	if !v.noRebuild {
		if err := h.openPrograms(c.Context(), &options, arch.AMD64, arch.ARM64); err != nil {
			return err
		}
	}
	// Who signed an image vouches for its URLs, and so does who has its versions file.
	options.PublicOnly = v.key == "" && v.versions == "" && !v.private
	config := verify.Config{
		Image: image, TmpDir: os.TempDir(), Bundle: v.bundle, SignatureOnly: v.noRebuild, Versions: v.versions, TrustInputs: v.trustInputs,
		Options: options, Units: units.FS(), Definition: worker.FS(),
	}
	if v.key != "" {
		if config.Key, err = os.ReadFile(v.key); err != nil {
			return &manifest.ArgumentError{Err: fmt.Errorf("reading the public key: %w", err)}
		}
	}
	sink, stop := h.progress(config.Jobs)
	defer stop()
	config.Progress = sink
	var result verified
	result.Result, err = verify.Run(c.Context(), config)
	stop()
	if err != nil {
		return err
	}
	if v.asJSON {
		err = json.NewEncoder(h.stdout).Encode(result)
	} else {
		err = result.print(h.stdout, image)
	}
	if err != nil {
		return err
	}
	return result.err(image)
}

func (r *verified) print(w io.Writer, image string) error {
	var l lines
	if s := r.Signature; s != nil && s.Valid {
		l.add("%s: signed: %s", s.Bundle, strings.Join(s.Files, ", "))
	}
	switch {
	case r.Identical:
		l.add("%s %s: verified: rebuilt byte for byte", r.SHA256, image)
	case r.Difference != nil:
		l.add("%s %s: differs", r.SHA256, image)
		l.add("  %s", r.Difference)
		for _, c := range r.Changes {
			l.add("  %s", c)
		}
		if r.More > 0 {
			l.add("  and %d more", r.More)
		}
	case r.NotVouched != "":
		l.add("%s %s: not verified: inputs not vouched for", r.SHA256, image)
		for _, c := range r.Contradictions {
			l.add("  %s", c)
		}
	}
	return l.print(w)
}

// err says what is wrong with an image.
func (r *verified) err(image string) error {
	switch s := r.Signature; {
	case s != nil && s.OtherStatement:
		return &manifest.ArgumentError{Err: problem(fmt.Sprintf("verifying the signature of %s: %s: %s", image, s.Bundle, s.Error))}
	case s != nil && !s.Valid:
		return fmt.Errorf("verifying the signature of %s: %s", image, s.Error)
	case r.Difference != nil:
		return fmt.Errorf("%s is not what the inputs that it records make", image)
	case len(r.Contradictions) > 0:
		return fmt.Errorf("%s is not what it says of itself; inputs not vouched for: %s", image, r.NotVouched)
	case r.NotVouched != "":
		return &manifest.ArgumentError{Err: fmt.Errorf("%s is not verified: inputs not vouched for: %s", image, r.NotVouched)}
	}
	return nil
}
