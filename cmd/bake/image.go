package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/nodebake/bake/bake"
)

func newImage(h *host) *cobra.Command {
	var in inputs
	var out, name, format, origin, key string
	var missing buildMissing
	var asJSON, force bool
	c := &cobra.Command{
		Use:   "image --versions FILE",
		Short: "Compose an image",
		Long: `Compose a Compute Engine image from a versions file and the lock beside it.

Everything that is not in the store yet is fetched and checked, what can't be
had is named before anything slow begins. The image goes to OUT/NAME.tar.gz,
its record (packages, components, every file's digest) to OUT/NAME.json, its
bill of materials to OUT/NAME.spdx.json and what it was made from to
OUT/NAME.provenance.json. All appear complete or not at all. Another image of
that name stays, and the new one is not written, unless --force is given.

With --build-missing, what is gone is built: there is no such host, it can't be
reached, or it answers 404 or 410. Any other failure is an error, because the
image would depend on it. What is built in place of something else is said in
one line, also with --quiet, with all details with --verbose, and in "missing"
of --json.

One line goes to standard output: the image's digest and path. The digest is a
function of the versions file, the image definition that it names, the lock and
the origin (release or source) of each component and container image, of the
image's name, and of this bake's own units and programs.`,
		Example: `  bake image --versions manifests/versions.yaml
  bake image --versions manifests/versions.yaml --build-missing --out /tmp/images
  bake image --versions manifests/versions.yaml --build-missing=runc,pause
  bake image --versions versions.yaml --name k8s-worker-{version}-{arch}-{inputs}
  bake image --versions versions.yaml --json | jq -r .sha256
  bake image --versions versions.yaml --mirror /srv/mirror --offline --build-missing

  gcloud storage cp out/k8s-worker-v1-36-3-amd64.tar.gz gs://BUCKET/
  gcloud compute images create k8s-worker-v1-36-3-amd64 \
    --source-uri gs://BUCKET/k8s-worker-v1-36-3-amd64.tar.gz \
    --guest-os-features UEFI_COMPATIBLE,VIRTIO_SCSI_MULTIQUEUE,GVNIC`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			config, err := in.config(c, h)
			if err != nil {
				return err
			}
			config.Out, config.Name, config.Force = out, name, force
			config.BuildMissing, config.BuildNamed = missing.on, missing.names
			if config.Format, err = bake.ParseFormat(format); err != nil {
				return &usageError{err}
			}
			if config.Origin, err = bake.ParseOrigin(origin); err != nil {
				return &usageError{err}
			}
			config.Sign, config.SignPassword = key, h.signPassword
			if err := h.openPrograms(c.Context(), &config, config.Arch); err != nil {
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
			if err := h.print(result, asJSON); err != nil {
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
	f.StringVar(&in.lock, "lock", "", "lock `FILE` (default: the versions file's name with .lock)")
	f.StringVar(&out, "out", "out", "`DIR` that the image goes to")
	f.StringVar(&name, "name", "", "`NAME` of the image; {version} in it is the kubelet's, {inputs} of a\ndigest of all that is given to this bake; {arch} and {lock} may stand\nthere too (default: name in the versions file, or else the\ndefinition's name with -{version}-{arch})")
	f.BoolVar(&force, "force", false, "replace another image of that name, with all that is beside it")
	f.StringVar(&format, "format", "tar.gz", "tar.gz (for Compute Engine) or raw (a sparse disk)")
	f.Var(&missing, "build-missing", "build components and images that are gone from their Go modules (needs\ngo, and cc for runc); with `[=KEY,...]` only those that the versions file\nhas under these names")
	f.Lookup("build-missing").NoOptDefVal = "true"
	f.StringVar(&origin, "origin", "", "release or source: take every component from there, or fail")
	f.StringVar(&key, "sign", "", "sign with the private key in `FILE` (PEM: ECDSA, Ed25519 or RSA; its\npassword, where it is encrypted, is in BAKE_SIGN_PASSWORD or\nCOSIGN_PASSWORD); the signature, a sigstore bundle, goes to\nOUT/NAME.sigstore.json")
	f.BoolVar(&asJSON, "json", false, "print the result as JSON")
	h.addShownFlags(c, "show no progress")
	return c
}

// buildMissing is the value of --build-missing: a flag, or names.
type buildMissing struct {
	on    bool
	names []string // empty: all
}

// Set implements pflag.Value.
func (b *buildMissing) Set(text string) error {
	switch text {
	case "true":
		*b = buildMissing{on: true}
	case "false":
		*b = buildMissing{}
	default:
		names := strings.Split(text, ",")
		if slices.Contains(names, "") {
			return errors.New("want names of components and images, with commas between them")
		}
		*b = buildMissing{on: true, names: append(b.names, names...)}
	}
	return nil
}

// String implements pflag.Value.
func (b *buildMissing) String() string {
	if len(b.names) > 0 {
		return strings.Join(b.names, ",")
	}
	return strconv.FormatBool(b.on)
}

// Type implements pflag.Value. Of a bool, help shows no value that is meant where
// none is given.
func (b *buildMissing) Type() string { return "bool" }

// sayMissing ends a run with that parts are not from where the versions file says.
// Who saw no notes is told which and why.
func (h *host) sayMissing(missing []bake.Missing) {
	if len(missing) == 0 {
		return
	}
	if h.shown.quiet {
		h.say(bake.SayMissing(missing))
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
