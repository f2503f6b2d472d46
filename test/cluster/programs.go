package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"

	"github.com/nodebake/bake/bake/arch"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/progress"
	"github.com/nodebake/bake/bake/source/gobuild"
	"github.com/nodebake/bake/bake/source/store"
	"github.com/nodebake/bake/bake/tree"
)

// Version names a control plane.
type Version string

// The control planes that can be started.
const (
	Current Version = "current" // of the Kubernetes version in manifests/versions.yaml
	Old     Version = "old"     // for workers of manifests/kthw-1.21.yaml: the oldest that can be built
)

// Find says where the programs of a control plane are to come from. All but
// Progress is required.
type Find struct {
	Version  Version
	Root     string   // the project's directory
	Store    string   // bake's store: what was built is kept there
	Dir      string   // cache of this package: executables, etcd
	Env      []string // for the go command and apt-get: os.Environ()
	Progress progress.Sink
}

// Programs are paths of executables.
type Programs struct {
	APIServer, ControllerManager, Scheduler, Kubectl, Etcd string
	Version                                                string // of the API server: "v1.36.3"
}

// Programs brings a control plane's programs. Those of Kubernetes are built
// from their modules, once: that takes minutes, and after it a second.
func (f Find) Programs(ctx context.Context) (*Programs, error) {
	file := versionsFile(f.Version)
	if file == "" {
		return nil, fmt.Errorf("control plane %q is unknown: want %s or %s", f.Version, Current, Old)
	}
	if f.Progress == nil {
		f.Progress = progress.Discard{}
	}
	p := &Programs{}
	// etcd first: where it is unavailable, nobody waits for builds.
	var err error
	if p.Etcd, err = f.etcd(ctx); err != nil {
		return nil, err
	}
	packs, err := store.Open(f.Store)
	if err != nil {
		return nil, err
	}
	defer packs.Close()
	builder, err := gobuild.New(gobuild.Config{
		Packs: packs, Env: f.Env, Dir: filepath.Join(packs.Dir(), "build"), Progress: f.Progress,
	})
	if err != nil {
		return nil, err
	}
	modules := filepath.Join(f.Root, "manifests", "modules", file)
	worker := filepath.Join(f.Root, "manifests", "versions.yaml")
	for _, want := range []struct {
		versions, component string
		path                *string
	}{
		{modules, "kube-apiserver", &p.APIServer},
		{modules, "kube-controller-manager", &p.ControllerManager},
		{modules, "kube-scheduler", &p.Scheduler},
		// kubectl is the worker's own, and the current one for all: tests ask
		// nothing of it that an old API server doesn't know.
		{worker, "kubectl", &p.Kubectl},
	} {
		c, err := component(want.versions, want.component)
		if err != nil {
			return nil, err
		}
		if want.component == "kube-apiserver" {
			p.Version = c.Version
		}
		if *want.path, err = f.build(ctx, packs, builder, *c, filepath.Dir(want.versions)); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// versionsFile is the name of the file in manifests/modules with v's components.
func versionsFile(v Version) string {
	switch v {
	case Current:
		return "controlplane.yaml"
	case Old:
		return "controlplane-1.24.yaml"
	}
	return ""
}

// component reads one component of a versions file.
func component(file, name string) (*manifest.Component, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading a versions file: %w", err)
	}
	versions, err := manifest.ParseVersions(file, data)
	if err != nil {
		return nil, err
	}
	c := versions.Component(name)
	if c == nil {
		return nil, fmt.Errorf("%s has no component %s", file, name)
	}
	return c, nil
}

// build returns the path of the one program of c.
func (f Find) build(ctx context.Context, packs *store.Store, b *gobuild.Builder, c manifest.Component, modfiles string) (string, error) {
	for {
		pack, built, err := b.Build(ctx, gobuild.ForComponent(c), arch.Arch(runtime.GOARCH), os.DirFS(modfiles))
		if err != nil {
			return "", err
		}
		programs := slices.DeleteFunc(slices.Clone(pack.Entries), func(e tree.Entry) bool { return e.Perm&0o111 == 0 })
		if len(programs) != 1 {
			return "", fmt.Errorf("%s has %d programs, want 1", c.Name, len(programs))
		}
		path, err := f.write(&programs[0])
		if _, ok := errors.AsType[*tree.CorruptError](err); !ok {
			return path, err
		}
		// The store's copy was damaged: it is rebuilt.
		if err := packs.Forget(built.Key); err != nil {
			return "", err
		}
	}
}

// write puts a program where it can be run, under a name made of its digest.
func (f Find) write(e *tree.Entry) (_ string, err error) {
	dir := filepath.Join(f.Dir, "programs", e.SHA256.String()[:16])
	path := filepath.Join(dir, filepath.Base(e.Path))
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("making a directory for %s: %w", e.Path, err)
	}
	tmp, err := os.CreateTemp(dir, ".new-*")
	if err != nil {
		return "", fmt.Errorf("writing %s: %w", path, err)
	}
	defer func() {
		tmp.Close()
		if err != nil {
			os.Remove(tmp.Name())
			err = fmt.Errorf("writing %s: %w", path, err)
		}
	}()
	if _, err := io.Copy(tmp, e.Content()); err != nil {
		return "", err
	}
	if err := tmp.Chmod(0o755); err != nil {
		return "", err
	}
	if err := tmp.Close(); err != nil {
		return "", err
	}
	return path, os.Rename(tmp.Name(), path)
}
