package gobuild

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"

	"github.com/nodebake/bake/bake/manifest"
)

// Pinned are the files that pin a module's dependencies.
type Pinned struct {
	GoMod, GoSum []byte
}

// Pin makes the go.mod and go.sum of a wrapper module called name, in which
// packages of the module path@version can be built with -mod=readonly: the
// build list that upstream builds with, and a checksum for each of its modules.
// It asks the network, and the checksum database where it has an answer.
//
// Go ignores what the go.mod of a dependency says beyond its requirements, and
// to the wrapper upstream is a dependency. So the wrapper repeats upstream's go
// and godebug lines, which choose the defaults of the run-time's settings
// (go.dev/doc/godebug), and its exclude and replace lines.
func (b *Builder) Pin(ctx context.Context, name, path, version, toolchain string, packages []string) (Pinned, error) {
	pinned, err := b.pin(ctx, name, module.Version{Path: path, Version: version}, toolchain, packages)
	if err != nil {
		return Pinned{}, fmt.Errorf("pinning %s %s: %w", path, version, err)
	}
	return pinned, nil
}

func (b *Builder) pin(ctx context.Context, name string, m module.Version, toolchain string, packages []string) (out Pinned, err error) {
	if err := manifest.CheckToolchain(toolchain); err != nil {
		return Pinned{}, fmt.Errorf("toolchain %w", err)
	}
	err = b.scratch("pin", func(dir string) error {
		g, err := b.newGo(ctx, toolchain, dir, nil)
		if err != nil {
			return err
		}
		g.env = append(g.env, "GOFLAGS=-mod=mod")
		upstream, err := g.downloadGoMod(ctx, m)
		if err != nil {
			return err
		}
		wrapper, err := wrap(name, m, upstream)
		if err != nil {
			return err
		}
		if err := g.writeModule(wrapper, nil); err != nil {
			return err
		}
		if err := g.writeFile("programs.go", programsFile(packages)); err != nil {
			return err
		}
		if _, err := g.run(ctx, "mod", "tidy"); err != nil {
			return err
		}
		if out.GoMod, err = os.ReadFile(filepath.Join(dir, "mod", "go.mod")); err != nil {
			return fmt.Errorf("reading the wrapper module: %w", err)
		}
		if out.GoSum, err = os.ReadFile(filepath.Join(dir, "mod", "go.sum")); err != nil {
			return fmt.Errorf("reading the wrapper module: %w", err)
		}
		return nil
	})
	return out, err
}

// programsFile imports packages, because go mod tidy keeps what some file of
// the main module imports. It considers every architecture and every tag but
// "ignore".
func programsFile(packages []string) []byte {
	var out strings.Builder
	out.WriteString("//go:build programs\n\npackage programs\n\nimport (\n")
	for _, p := range slices.Sorted(slices.Values(packages)) {
		fmt.Fprintf(&out, "\t_ %q\n", p)
	}
	out.WriteString(")\n")
	return []byte(out.String())
}

// downloadGoMod returns the go.mod of m.
func (g *gocmd) downloadGoMod(ctx context.Context, m module.Version) (*modfile.File, error) {
	out, err := g.run(ctx, "mod", "download", "-json", m.String())
	var got struct{ GoMod, Error string }
	if jsonErr := json.Unmarshal(out, &got); jsonErr == nil && got.Error != "" {
		return nil, errors.New(got.Error)
	} else if err != nil {
		return nil, err
	} else if jsonErr != nil {
		return nil, fmt.Errorf("reading the output of go mod download: %w", jsonErr)
	}
	text, err := os.ReadFile(got.GoMod)
	if err != nil {
		return nil, err
	}
	return modfile.Parse(m.Path+"/go.mod", text, nil)
}

// wrap writes the go.mod of a wrapper module around m, before go mod tidy has
// added what m requires.
func wrap(name string, m module.Version, upstream *modfile.File) ([]byte, error) {
	var out strings.Builder
	out.WriteString("// Made by `go run ./manifests/modules/update`: see manifests/modules/README.md.\n\n")
	fmt.Fprintf(&out, "module bake.invalid/modules/%s\n", name)
	if upstream.Go != nil {
		fmt.Fprintf(&out, "\ngo %s\n", upstream.Go.Version)
	}
	for _, d := range upstream.Godebug {
		fmt.Fprintf(&out, "\ngodebug %s=%s\n", d.Key, d.Value)
	}
	fmt.Fprintf(&out, "\nrequire %s %s\n", m.Path, m.Version)
	for _, r := range upstream.Replace {
		if r.New.Version == "" {
			var err error
			if r.New, err = published(m, r); err != nil {
				return nil, err
			}
		}
		fmt.Fprintf(&out, "\nreplace %s => %s %s\n", strings.TrimSpace(r.Old.Path+" "+r.Old.Version), r.New.Path, r.New.Version)
	}
	for _, x := range upstream.Exclude {
		fmt.Fprintf(&out, "\nexclude %s %s\n", x.Mod.Path, x.Mod.Version)
	}
	return []byte(out.String()), nil
}

// published returns the module that has the content of a directory of m by
// which m replaces another. Kubernetes publishes k8s.io/api and the other
// modules of its staging directory with every release: what is v1.36.3 there
// is v0.36.3 of theirs (github.com/kubernetes/kubernetes/tree/master/staging).
func published(m module.Version, r *modfile.Replace) (module.Version, error) {
	if m.Path == "k8s.io/kubernetes" && path.Clean(r.New.Path) == path.Join("staging/src", r.Old.Path) && semver.Major(m.Version) == "v1" {
		return module.Version{Path: r.Old.Path, Version: "v0" + strings.TrimPrefix(m.Version, "v1")}, nil
	}
	return module.Version{}, fmt.Errorf("its go.mod replaces %s by the directory %s, and nobody has said where that is published", r.Old.Path, r.New.Path)
}
