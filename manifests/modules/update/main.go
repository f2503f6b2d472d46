// Update makes the go.mod and go.sum of every Go module that versions files
// name, in the directory that they give for it:
//
//	go run ./manifests/modules/update manifests/versions.yaml manifests/kthw-1.21.yaml
//
// See manifests/modules/README.md.
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
	"path"
	"path/filepath"
	"slices"

	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/source/gomod"
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
	pinner, err := gomod.New(gomod.Config{Env: env, Dir: scratch})
	if err != nil {
		return err
	}
	for _, file := range flags.Args() {
		data, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		versions, err := manifest.ParseVersions(file, data)
		if err != nil {
			return err
		}
		for _, w := range wrappers(versions) {
			if *only != "" && *only != w.dir {
				continue
			}
			fmt.Fprintln(stderr, "pinning", w.path, w.version, "in", w.dir)
			pinned, err := pinner.Pin(ctx, path.Base(w.dir), w.path, w.version, w.toolchain, w.packages)
			if err != nil {
				return err
			}
			if err := write(filepath.Join(filepath.Dir(file), filepath.FromSlash(w.dir)), pinned); err != nil {
				return err
			}
		}
	}
	return nil
}

// wrapper is one directory and all that is built with its go.mod.
type wrapper struct {
	dir, path, version, toolchain string
	packages                      []string
}

func wrappers(v *manifest.Versions) []*wrapper {
	byDir := map[string]*wrapper{}
	for _, c := range v.Components {
		m := c.Module
		if m == nil {
			continue
		}
		w := byDir[m.Dir]
		if w == nil {
			w = &wrapper{dir: m.Dir, path: m.Path, version: m.Version, toolchain: m.Toolchain}
			w.packages = testPrograms(m.Path)
			byDir[m.Dir] = w
		}
		for _, p := range m.Programs {
			w.packages = append(w.packages, p.Package)
		}
	}
	return slices.SortedFunc(maps.Values(byDir), func(a, b *wrapper) int { return cmp.Compare(a.dir, b.dir) })
}

// testPrograms are packages of a module that no image holds and tests need:
// the control plane that a worker registers with.
func testPrograms(module string) []string {
	if module != "k8s.io/kubernetes" {
		return nil
	}
	return []string{
		"k8s.io/kubernetes/cmd/kube-apiserver",
		"k8s.io/kubernetes/cmd/kube-controller-manager",
		"k8s.io/kubernetes/cmd/kube-scheduler",
	}
}

func write(dir string, p gomod.Pinned) error {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), p.GoMod, 0o666); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "go.sum"), p.GoSum, 0o666)
}
