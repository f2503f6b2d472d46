package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/nodebake/bake/bake"
	"github.com/nodebake/bake/bake/manifest"
)

// verification is what the flags of `bake verify` ask for.
type verification struct {
	inputs
	key, bundle            string
	trustInputs, noRebuild bool
	private                bool
	asJSON                 bool
}

func newVerify(h *host) *cobra.Command {
	var v verification
	c := &cobra.Command{
		Use:   "verify IMAGE",
		Short: "Make an image again from what it records, and compare every byte",
		Long: `Make a finished image (NAME.tar.gz or a raw disk) again from the inputs that it
records, and say whether it is the same, byte by byte. Where it is not, the
first difference is named by partition, file and offset.

The image holds its versions file, its lock, its image definition, and the go.mod
and go.sum of what was built from source, in /usr/lib/bake/inputs. A versions file
is code: it says what is fetched and compiled on this machine. So an image is made
again only if you vouch for its inputs: they are what you trust the owner of --key
to have signed, or those of --versions FILE (the lock, the definition and the
modules that belong to it, as far as they are there, must be the image's too), or
you say --trust-inputs.
Otherwise the image is held against its record and against what this bake
brings, nothing is fetched or built, and the exit code is 3.

What a bake brings itself is compared by digest: units, firstboot and init must
be those of the bake that made the image. Parts come from
the store, from mirrors or from their publishers as for bake image; a component
that was built from source is built from source again, out of the user's module
proxies alone (GOPROXY without direct), without version control systems, and on
Linux with compilers that have no network, where the host lets us.

With --key the signature beside the image (NAME.sigstore.json) is verified
first: that it is by the owner of this public key, that what he signed is
provenance such as bake image writes, about this image and the NAME.json and
NAME.spdx.json beside it, and that it names the versions file and the lock that
the image holds. A good signature says who vouches for the image; the rebuild
says that there is nothing in it but what it records. Neither replaces the other.

The disk of an archive is unpacked to the directory for temporary files
(TMPDIR), without its zeroes. Nothing is written elsewhere but the store.

Exit codes: 0 the same, 1 not the same or the signature is wrong, 2 wrong usage,
3 the inputs are not those of this bake or are missing, or nobody vouches for
them, or something else than provenance of this image was signed.`,
		Example: `  bake verify out/k8s-worker-v1-36-3-amd64.tar.gz --versions manifests/versions.yaml
  bake verify out/k8s-worker-v1-36-3-amd64.tar.gz --key release.pub
  bake verify out/k8s-worker-v1-36-3-amd64.tar.gz --key release.pub --no-rebuild
  bake verify disk.raw --trust-inputs --json | jq .difference`,
		Args: exactArgs(1),
		RunE: func(c *cobra.Command, args []string) error { return v.run(c, h, args[0]) },
	}
	v.addBaseFlags(c)
	v.addMirrorFlags(c)
	v.addRegistryFlags(c)
	f := c.Flags()
	f.StringVar(&v.key, "key", "", "`FILE` of the public key (PEM) that must have signed the image")
	f.StringVar(&v.bundle, "bundle", "", "`FILE` of the signature (default: NAME.sigstore.json beside the image)")
	f.StringVar(&v.versions, "versions", "", "versions `FILE` of yours that the image must have been made from")
	f.BoolVar(&v.trustInputs, "trust-inputs", false, "fetch and build whatever the image says that it was made from")
	f.BoolVar(&v.private, "allow-private-addresses", false, "with --trust-inputs: let the image's URLs lead to private, loopback and\nlink-local addresses, and from https to http")
	f.BoolVar(&v.noRebuild, "no-rebuild", false, "verify the signature alone, and make nothing")
	f.BoolVar(&v.asJSON, "json", false, "print the result as JSON")
	h.addShownFlags(c, "show no progress")
	return c
}

// verified is the result of `bake verify`.
type verified struct{ *bake.VerifyResult }

func (v *verification) run(c *cobra.Command, h *host, image string) error {
	switch {
	case v.noRebuild && v.key == "":
		return &usageError{errors.New("--no-rebuild leaves nothing to do without --key")}
	case v.bundle != "" && v.key == "":
		return &usageError{errors.New("--bundle is the signature that --key verifies: give both")}
	}
	config, err := v.baseConfig(c, h)
	if err != nil {
		return err
	}
	if !v.noRebuild {
		if err := h.openPrograms(c.Context(), &config, manifest.AMD64, manifest.ARM64); err != nil {
			return err
		}
	}
	// Who signed an image vouches for its URLs, and so does who has its versions file.
	config.PublicOnly = v.key == "" && v.versions == "" && !v.private
	verify := bake.VerifyConfig{Image: image, TmpDir: os.TempDir(), Bundle: v.bundle, SignatureOnly: v.noRebuild, Versions: v.versions, TrustInputs: v.trustInputs, Config: config}
	if v.key != "" {
		if verify.Key, err = os.ReadFile(v.key); err != nil {
			return &manifest.ArgumentError{Err: fmt.Errorf("reading the public key: %w", err)}
		}
	}
	sink, stop := h.progress(config.Jobs)
	defer stop()
	verify.Config.Progress = sink
	var result verified
	result.VerifyResult, err = bake.Verify(c.Context(), verify)
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
		l.add("%s %s: made again, and the same", r.SHA256, image)
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
