package gobuild

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"

	"github.com/nodebake/bake/bake/arch"
)

// identifyCGO adds to r what a cgo build rests on: the locked packages and the
// host's compiler and linker.
func (b *Builder) identifyCGO(ctx context.Context, r *recipe, t Target) error {
	r.cgo = &cgo{ldflags: t.Module.CGO.LDFlags, packages: t.Packages}
	if len(t.Packages) < len(t.Module.CGO.Packages) {
		return errors.New("BUG: cgo needs packages, and gobuild.Target.Packages lacks some")
	}
	cc, machine, err := b.findCC(ctx, r.arch)
	if err != nil {
		return err
	}
	version, err := b.firstLine(ctx, cc, "--version")
	if err != nil {
		return err
	}
	linker, err := b.firstLine(ctx, cc, "-print-prog-name=ld")
	if err != nil {
		return err
	}
	if linker, err = lookPath(linker, b.Env); err != nil {
		return &MissingToolError{Tool: "ld", Need: "to link " + r.target, Remedy: "on Debian: apt-get install binutils"}
	}
	ld, err := b.firstLine(ctx, linker, "--version")
	if err != nil {
		return err
	}
	r.cgo.cc = cc
	compiler := fmt.Sprintf("%s (%s)", version, machine)
	r.cgo.compiler = compiler + ", " + ld
	r.cgo.tools = []Tool{{Name: compiler, Path: cc}, {Name: ld, Path: linker}}
	return nil
}

// findCC returns the C compiler that makes programs for arch and the machine
// that it names as its target.
func (b *Builder) findCC(ctx context.Context, arch arch.Arch) (cc, machine string, err error) {
	missing := &MissingToolError{
		Tool:   "a C compiler for " + string(arch),
		Need:   "to build this component, which uses cgo,",
		Remedy: "on Debian: apt-get install gcc; for another architecture, gcc-" + strings.ReplaceAll(arch.Facts().Triplet, "_", "-"),
	}
	names := []string{b.CC}
	if b.CC == "" {
		names = []string{"cc", arch.Facts().Triplet + "-gcc"}
	}
	for _, name := range names {
		path, err := lookPath(name, b.Env)
		if errors.Is(err, exec.ErrNotFound) {
			continue
		} else if err != nil {
			return "", "", err
		}
		machine, err := b.firstLine(ctx, path, "-dumpmachine")
		if err != nil {
			return "", "", err
		}
		// Vendors put their name in the middle: x86_64-redhat-linux.
		cpu, rest, _ := strings.Cut(machine, "-")
		if wantCPU, _, _ := strings.Cut(arch.Facts().Triplet, "-"); cpu == wantCPU && strings.Contains(rest, "linux") {
			return path, machine, nil
		}
		missing.Remedy += fmt.Sprintf("; %s is for %s", path, machine)
	}
	return "", "", missing
}

// firstLine returns the first line of what a command writes.
func (b *Builder) firstLine(ctx context.Context, path string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = append(pick(b.Env, hostVariables()...), "LC_ALL=C")
	ownGroup(cmd)
	out, err := cmd.Output()
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	} else if err != nil {
		return "", fmt.Errorf("running %s %s: %w", path, strings.Join(args, " "), err)
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return strings.TrimSpace(line), nil
}
