// Update makes the go.mod and go.sum of every Go module that versions files
// name, in the directory that they give for it:
//
//	go run ./manifests/modules/update manifests/versions.yaml manifests/kthw-1.21.yaml manifests/modules/controlplane*.yaml
//
// Give it all files that build in a directory: what it makes covers what they
// build, and no more. See manifests/modules/README.md.
package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"

	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/source/gobuild"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Environ(), os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "update:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args, env []string, stderr io.Writer) error {
	flags := flag.NewFlagSet("update", flag.ContinueOnError)
	flags.SetOutput(stderr)
	only := flags.String("only", "", "the only `directory` to update, such as modules/runc")
	if err := flags.Parse(args); err != nil {
		return err
	}
	scratch, err := os.MkdirTemp("", "update-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	pinner, err := gobuild.New(gobuild.Config{Env: env, Dir: scratch})
	if err != nil {
		return err
	}
	wrappers, err := readFiles(flags.Args())
	if err != nil {
		return err
	}
	for _, w := range wrappers {
		if *only != "" && !strings.HasSuffix(w.dir, filepath.FromSlash("/"+*only)) {
			continue
		}
		fmt.Fprintln(stderr, "pinning", w.path, w.version, "in", w.dir)
		pinned, err := pinner.Pin(ctx, filepath.Base(w.dir), w.path, w.version, w.toolchain, w.packages)
		if err != nil {
			return err
		}
		if err := write(w.dir, pinned); err != nil {
			return err
		}
	}
	return nil
}

// wrapper is one directory and all that is built with its go.mod.
type wrapper struct {
	dir, path, version, toolchain string
	packages                      []string
}

// readFiles returns what versions files want pinned, by directory. Several
// files may build in one directory: workers and the control plane of tests.
func readFiles(files []string) ([]*wrapper, error) {
	byDir := map[string]*wrapper{}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		versions, err := manifest.ParseVersions(file, data)
		if err != nil {
			return nil, err
		}
		var modules []*manifest.Module
		for _, c := range versions.Components {
			modules = append(modules, c.Module)
		}
		for _, c := range versions.Images {
			modules = append(modules, c.Module)
		}
		for _, m := range modules {
			if m == nil {
				continue
			}
			dir, err := filepath.Abs(filepath.Join(filepath.Dir(file), filepath.FromSlash(m.Dir)))
			if err != nil {
				return nil, err
			}
			w := byDir[dir]
			if w == nil {
				w = &wrapper{dir: dir, path: m.Path, version: m.Version, toolchain: m.Toolchain}
				byDir[dir] = w
			}
			if w.path != m.Path || w.version != m.Version || w.toolchain != m.Toolchain {
				return nil, fmt.Errorf("%s: %s %s is built by %s in %s, where another file wants %s %s by %s",
					m.Pos, m.Path, m.Version, m.Toolchain, dir, w.path, w.version, w.toolchain)
			}
			for _, p := range m.Programs {
				w.packages = append(w.packages, p.Package)
			}
		}
	}
	return slices.SortedFunc(maps.Values(byDir), func(a, b *wrapper) int { return cmp.Compare(a.dir, b.dir) }), nil
}

func write(dir string, p gobuild.Pinned) error {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), p.GoMod, 0o666); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "go.sum"), p.GoSum, 0o666)
}
