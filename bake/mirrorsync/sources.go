package mirrorsync

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/progress"
	"github.com/nodebake/bake/bake/source/mirror"
)

// moduleFiles adds what pins the modules of the set: the go.mod and go.sum that
// lie beside the versions file.
func (s *mirrorSet) moduleFiles(a *mirrorArch) error {
	modules := os.DirFS(filepath.Dir(a.inputs.Versions))
	seen := map[string]bool{}
	for _, t := range a.required.Targets {
		m := t.Module
		if seen[m.Dir] {
			continue
		}
		seen[m.Dir] = true
		for _, file := range []string{"go.mod", "go.sum"} {
			name := path.Join(m.Dir, file)
			content, err := fs.ReadFile(modules, name)
			if err != nil {
				return &manifest.ArgumentError{Err: fmt.Errorf("%s: reading what pins module %s: %w", m.Pos, m.Path, err)}
			}
			s.input(mirror.Versions, name, manifest.SHA256(sha256.Sum256(content)), content)
		}
	}
	return nil
}

// goHosts returns the hosts that the mirror has Go toolchains for.
func (c *Config) goHosts() []string {
	if len(c.GoHosts) == 0 {
		return []string{runtime.GOOS + "-" + runtime.GOARCH}
	}
	return c.GoHosts
}

// hasToolchains reports whether the mirror has s's toolchains for all hosts.
func (m *mirroring) hasToolchains(s *mirrorSet) bool {
	if !m.config.Sources || len(s.archs[0].required.Targets) == 0 {
		return true
	}
	return !slices.ContainsFunc(m.config.goHosts(), func(host string) bool {
		return !slices.ContainsFunc(m.old.Entries, func(e mirror.Entry) bool {
			return e.Kind == mirror.Toolchain && slices.Contains(e.Sets, s.Set.Name) && strings.HasSuffix(e.Path, "."+host+".zip")
		})
	})
}

// bringSources copies the Go modules and toolchains that changed needs.
func (m *mirroring) bringSources(ctx context.Context, changed []*request) error {
	if !m.config.Sources {
		return nil
	}
	progress.Phase(m.config.Progress, "sources")
	for _, w := range changed {
		if w.arch != w.set.archs[0] {
			continue // it is for all of them
		}
		var copies []mirrorCopy
		err := w.source.Sources(ctx, w.arch.required.Targets, w.set.Set.Archs, m.config.goHosts(), func(e mirror.Entry, open func() (io.ReadCloser, error)) error {
			copies = append(copies, mirrorCopy{w.set.Set.Name, e, func(context.Context) (io.ReadCloser, error) { return open() }})
			return nil
		})
		if err == nil {
			err = m.copyAll(ctx, copies) // now, so that it is there should the next set be interrupted
		}
		if err != nil {
			return err
		}
	}
	return nil
}
