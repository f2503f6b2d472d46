package controlplane

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/nodebake/bake/bake/arch"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/source"
	"github.com/nodebake/bake/bake/tree"
)

// The components of a control plane, as versions files call them.
const (
	kubeAPIServer         = "kube-apiserver"
	kubeControllerManager = "kube-controller-manager"
	kubeScheduler         = "kube-scheduler"
	kubectl               = "kubectl"
)

// Find says where the programs of a control plane are to come from. Versions,
// Options and Dir are required.
type Find struct {
	Versions string         // the versions file that has them
	Options  source.Options // the store, and what fills it
	Origin   source.Origin  // "": a release where one is named and available, else the module
	Dir      string         // where executables and etcd are kept
}

// Programs are paths of executables.
type Programs struct {
	Etcd              string `json:"etcd"`
	APIServer         string `json:"apiServer"`
	ControllerManager string `json:"controllerManager"`
	Scheduler         string `json:"scheduler"`
	Kubectl           string `json:"kubectl,omitempty"` // "" where the versions file has none; the control plane needs none

	Version string `json:"version"` // of the API server: "v1.36.3"
}

// Version returns the version of the API server that a versions file names.
func Version(versionsFile string) (string, error) {
	v, err := readVersions(versionsFile)
	if err != nil {
		return "", err
	}
	if err := v.Require(required()); err != nil {
		return "", err
	}
	return v.Component(kubeAPIServer).Version, nil
}

func readVersions(file string) (*manifest.Versions, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, &manifest.ArgumentError{Err: fmt.Errorf("reading the control plane's versions file: %w", err)}
	}
	return manifest.ParseVersions(file, data)
}

// required says of each component why a control plane must have it.
func required() map[string]string {
	return map[string]string{
		kubeAPIServer:         "a control plane has an API server",
		kubeControllerManager: "a control plane has controllers",
		kubeScheduler:         "a control plane has a scheduler",
	}
}

// Programs brings a control plane's programs. Those of Kubernetes that must be
// built take minutes the first time, and after it a second.
func (f Find) Programs(ctx context.Context) (*Programs, error) {
	v, err := readVersions(f.Versions)
	if err != nil {
		return nil, err
	}
	if err := v.Require(required()); err != nil {
		return nil, err
	}
	// etcd first: where it is unavailable, nobody waits for builds.
	etcd, err := f.etcd(ctx)
	if err != nil {
		return nil, err
	}
	names := []string{kubeAPIServer, kubeControllerManager, kubeScheduler}
	if v.Component(kubectl) != nil {
		names = append(names, kubectl)
	}
	paths, err := f.Components(ctx, names...)
	if err != nil {
		return nil, err
	}
	return &Programs{
		Etcd: etcd, APIServer: paths[kubeAPIServer], ControllerManager: paths[kubeControllerManager], Scheduler: paths[kubeScheduler],
		Kubectl: paths[kubectl], Version: v.Component(kubeAPIServer).Version,
	}, nil
}

// Components brings the components called names, each of one program, and returns
// where they are.
func (f Find) Components(ctx context.Context, names ...string) (map[string]string, error) {
	v, err := readVersions(f.Versions)
	if err != nil {
		return nil, err
	}
	choice := source.Choice{Origin: f.Origin, BuildMissing: true, Origins: source.Origins{Components: map[string]source.Origin{}}}
	wanted := &manifest.Versions{File: v.File, Sum: v.Sum, OS: v.OS}
	for _, name := range names {
		c := v.Component(name)
		if c == nil {
			return nil, &manifest.ArgumentError{Err: fmt.Errorf("%s has no component %s", f.Versions, name)}
		}
		if c.Release == nil {
			choice.Origins.Components[name] = source.FromSource
		}
		wanted.Components = append(wanted.Components, *c)
	}
	access, err := source.Open(f.Options)
	if err != nil {
		return nil, err
	}
	defer access.Close()
	nothing := &manifest.LockedArch{} // is locked: no package is needed
	s, err := access.Source(ctx, f.Versions, "", arch.Arch(runtime.GOARCH), choice)
	if err != nil {
		return nil, err
	}
	paths := map[string]string{}
	return paths, s.Retry(func() error { return f.bring(ctx, s, wanted, nothing, paths) })
}

// bring puts the components of v where they can be run.
func (f Find) bring(ctx context.Context, s *source.Source, v *manifest.Versions, locked *manifest.LockedArch, paths map[string]string) error {
	plan, err := s.Plan(ctx, v, locked)
	if err != nil {
		return err
	}
	parts, err := s.Fetch(ctx, plan)
	if err != nil {
		return err
	}
	for _, c := range parts.Components {
		programs := slices.DeleteFunc(slices.Clone(c.Pack.Entries), func(e tree.Entry) bool {
			return e.Type != tree.File || e.Perm&0o111 == 0
		})
		if len(programs) != 1 {
			return &manifest.ArgumentError{Err: fmt.Errorf("%s: component %s has %d programs; want 1", c.Pos, c.Name, len(programs))}
		}
		if paths[c.Name], err = f.write(&programs[0]); err != nil {
			return err
		}
	}
	return nil
}

// write puts a program where it can be run, under a name made of its digest.
func (f Find) write(e *tree.Entry) (_ string, err error) {
	dir := filepath.Join(f.Dir, e.SHA256.String()[:16])
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

// lookPath returns the path of an executable in the PATH of f's environment, or "".
func (f Find) lookPath(name string) string {
	list := ""
	for _, kv := range f.Options.Env {
		if v, ok := strings.CutPrefix(kv, "PATH="); ok {
			list = v // the last one counts, as in os.Getenv
		}
	}
	for _, dir := range filepath.SplitList(list) {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return path
		}
	}
	return ""
}
