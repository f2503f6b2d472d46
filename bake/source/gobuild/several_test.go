//go:build unix

package gobuild

import (
	"errors"
	"maps"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/bake/arch"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/tree"
)

// severalModules have a module for two components, each of which takes another
// beside it, and one that neither takes.
const severalModules = `
-- example.com/toy@v1.2.3/go.mod --
module example.com/toy

go 1.21

require (
	example.com/alone v1.0.0
	example.com/left v1.0.0
	example.com/right v1.0.0
)
-- example.com/toy@v1.2.3/cmd/left/main.go --
package main

import "example.com/left"

func main() { println(left.Name) }
-- example.com/toy@v1.2.3/cmd/right/main.go --
package main

func main() { println(name) }
-- example.com/toy@v1.2.3/cmd/right/tagged.go --
//go:build tagged

package main

import "example.com/right"

const name = right.Name
-- example.com/toy@v1.2.3/cmd/alone/main.go --
package main

import "example.com/alone"

func main() { println(alone.Name) }
-- example.com/left@v1.0.0/go.mod --
module example.com/left

go 1.21
-- example.com/left@v1.0.0/left.go --
package left

const Name = "left"
-- example.com/right@v1.0.0/go.mod --
module example.com/right

go 1.21
-- example.com/right@v1.0.0/right.go --
package right

const Name = "right"
-- example.com/alone@v1.0.0/go.mod --
module example.com/alone

go 1.21
-- example.com/alone@v1.0.0/alone.go --
package alone

const Name = "alone"
`

// several returns the two targets, with the tags of the second at its module
// and not at its program.
func several(t *testing.T) (*toy, []Target) {
	t.Helper()
	toy := newToyOf(t, severalModules, "example.com/toy/cmd/left", "example.com/toy/cmd/right", "example.com/toy/cmd/alone")
	target := func(name string, tags ...string) Target {
		module := *toy.target.Module
		module.Programs = []manifest.Program{{Package: "example.com/toy/cmd/" + name, Path: "/bin/" + name}}
		module.Stamp, module.Tags = nil, tags
		return Target{Name: name, Version: "1.2.3", Module: &module}
	}
	return toy, []Target{target("left"), target("right", "tagged")}
}

// TestSourcesOfSeveral lists what two components of one module need, at once, and
// builds them without a network. Without any one of the files one can't be built.
func TestSourcesOfSeveral(t *testing.T) {
	toy, cs := several(t)
	files, sink := proxyFiles{}, &logSink{t: t}
	b := newBuilder(t, Config{Env: toyEnv(t, toy.proxy), Progress: sink})
	if err := b.Sources(t.Context(), cs, []arch.Arch{arch.ARM64, arch.AMD64}, toy.modfiles, files.add(t)); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"example.com/left/@v/v1.0.0.mod",
		"example.com/left/@v/v1.0.0.zip",
		"example.com/right/@v/v1.0.0.mod",
		"example.com/right/@v/v1.0.0.zip",
		"example.com/toy/@v/v1.2.3.info",
		"example.com/toy/@v/v1.2.3.mod",
		"example.com/toy/@v/v1.2.3.zip",
	}
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(files))); diff != "" {
		t.Errorf("sources (-want +got):\n%s", diff)
	}
	var tasks []string
	for _, task := range sink.tasks {
		tasks = append(tasks, task.name+": "+task.result)
	}
	both := "fetch modules of left+right v1.2.3: done"
	if diff := cmp.Diff([]string{both, both}, tasks); diff != "" {
		t.Errorf("tasks, one for each architecture (-want +got):\n%s", diff)
	}

	// Whatever each takes alone is there, and nothing else.
	apart := map[string]string{}
	for _, c := range cs {
		alone := proxyFiles{}
		b := newBuilder(t, Config{Env: toyEnv(t, toy.proxy)})
		if err := b.Sources(t.Context(), []Target{c}, []arch.Arch{arch.AMD64, arch.ARM64}, toy.modfiles, alone.add(t)); err != nil {
			t.Fatal(err)
		}
		if len(alone) >= len(files) {
			t.Errorf("%s alone takes %d files; want fewer than %d", c.Name, len(alone), len(files))
		}
		maps.Copy(apart, alone)
	}
	if diff := cmp.Diff(apart, map[string]string(files)); diff != "" {
		t.Errorf("sources (-of each alone +of both):\n%s", diff)
	}

	build := func(c Config) ([]*tree.Pack, error) {
		b := newBuilder(t, c)
		var packs []*tree.Pack
		for _, c := range cs {
			if err := b.Preflight(t.Context(), c, arch.Arch(runtime.GOARCH), toy.modfiles); err != nil {
				return nil, err
			}
			pack, _, err := b.Build(t.Context(), c, arch.Arch(runtime.GOARCH), toy.modfiles)
			if err != nil {
				return nil, err
			}
			packs = append(packs, pack)
		}
		return packs, nil
	}
	usual, err := build(Config{Env: toyEnv(t, toy.proxy)})
	if err != nil {
		t.Fatal(err)
	}
	offline, err := build(noNetwork(t, files))
	if err != nil {
		t.Fatal(err)
	}
	for i := range usual {
		if diff := cmp.Diff(usual[i].Chunks, offline[i].Chunks); diff != "" {
			t.Errorf("%s without a network (-usual +got):\n%s", cs[i].Name, diff)
		}
	}
	for _, missing := range slices.Sorted(maps.Keys(files)) {
		less := maps.Clone(files)
		delete(less, missing)
		_, err := build(noNetwork(t, less))
		name, _, _ := strings.Cut(missing, "/@v/")
		if _, ok := errors.AsType[*NotMirroredError](err); !ok || !strings.Contains(err.Error(), name+"@v1.") {
			t.Errorf("without %s: %v; want a NotMirroredError that names the module", missing, err)
		}
	}
}

// TestSourcesKeyOfSeveral changes what decides which modules several components
// need, and what does not.
func TestSourcesKeyOfSeveral(t *testing.T) {
	toy, cs := several(t)
	key := func(cs ...Target) string {
		t.Helper()
		key, err := SourcesKey(cs, []arch.Arch{arch.AMD64, arch.ARM64}, toy.modfiles)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	change := func(c Target, change func(c *Target)) Target {
		module := *c.Module
		module.Programs = slices.Clone(module.Programs)
		c.Module = &module
		change(&c)
		return c
	}
	left, right := cs[0], cs[1]
	first := key(left, right)
	for name, cs := range map[string][]Target{
		"in another order":         {right, left},
		"with one of them twice":   {left, right, left},
		"with another name":        {change(left, func(c *Target) { c.Name = "links" }), right},
		"with tags at the program": {left, change(right, func(c *Target) { c.Module.Tags, c.Module.Programs[0].Tags = nil, c.Module.Tags })},
	} {
		if got := key(cs...); got != first {
			t.Errorf("SourcesKey %s = %s; want %s", name, got, first)
		}
	}
	cgo := func(c *Target) { c.Module.CGO = &manifest.CGO{} }
	for name, cs := range map[string][]Target{
		"of the first":           {left},
		"of the second":          {right},
		"without tags":           {left, change(right, func(c *Target) { c.Module.Tags = nil })},
		"with cgo for one":       {left, change(right, cgo)},
		"with cgo for the other": {change(left, cgo), right},
	} {
		if got := key(cs...); got == first {
			t.Errorf("SourcesKey %s is the same", name)
		}
	}

	for name, cs := range map[string][]Target{
		"BUG: left and right are built from different modules": {left, change(right, func(c *Target) { c.Module.Toolchain = "go1.21.0" })},
		"BUG: no target or no architecture is given":           {},
	} {
		_, err := SourcesKey(cs, []arch.Arch{arch.AMD64}, toy.modfiles)
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("SourcesKey = %v; want %q", err, name)
		}
	}
}
