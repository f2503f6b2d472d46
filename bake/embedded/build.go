package embedded

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"

	"golang.org/x/mod/modfile"

	"github.com/nodebake/bake/bake/arch"
)

// Config says how Open builds programs that are not embedded.
type Config struct {
	Dir     string                           // what was built is kept below it: a directory in the user's cache
	Info    *debug.BuildInfo                 // of the bake that runs; nil: unknown
	Env     []string                         // of the go command: os.Environ()
	Offline bool                             // the module must be in Go's module cache
	Note    func(format string, args ...any) // is told before something is built; nil: nobody
}

// Open returns the programs for architectures. Those that are not embedded are
// built once, with the go command, and kept.
func Open(ctx context.Context, c Config, architectures ...arch.Arch) (Programs, error) {
	// What was built from a directory is built with them by `make`, and Program says so.
	if embeds(architectures) || c.Info == nil || c.Info.Main.Sum == "" {
		return Programs{}, nil
	}
	dir := filepath.Join(c.Dir, "bake-"+c.Info.Main.Version)
	built := Programs{os.DirFS(dir)}
	if built.have(architectures) {
		return built, nil
	}
	if err := build(ctx, &c, dir, architectures); err != nil {
		return Programs{}, fmt.Errorf("building firstboot, init and pause, which a bake that `go install` built needs once: %w (a bake that `make` built in a clone has them)", err)
	}
	return built, nil
}

// embeds reports whether all programs for architectures are embedded.
func embeds(architectures []arch.Arch) bool {
	for _, a := range architectures {
		for _, name := range names() {
			if _, err := fs.Stat(bin, "bin/"+string(a)+"/"+name); err != nil {
				return false
			}
		}
	}
	return true
}

// have reports whether p has all programs for architectures as they should be.
func (p Programs) have(architectures []arch.Arch) bool {
	for _, a := range architectures {
		for _, name := range names() {
			if _, err := p.Program(name, a); err != nil {
				return false
			}
		}
	}
	return true
}

// build builds the programs for architectures into dir, complete or not at all.
func build(ctx context.Context, c *Config, dir string, architectures []arch.Arch) error {
	if _, err := exec.LookPath("go"); err != nil {
		return errors.New("there is no go command: install Go 1.21 or newer, see https://go.dev/doc/install")
	}
	if c.Note != nil {
		c.Note("building firstboot, init and pause from %s@%s, once", c.Info.Main.Path, c.Info.Main.Version)
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(dir, "tmp")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	source, err := c.download(ctx, tmp)
	if err != nil {
		return err
	}
	toolchain, err := toolchain(filepath.Join(source, "go.mod"))
	if err != nil {
		return err
	}
	for _, a := range architectures {
		for _, name := range names() {
			// In the module's own directory it is the main module, as in a clone: of
			// PACKAGE@VERSION the build information and so the bytes would be others.
			file := filepath.Join(tmp, string(a), name)
			env := append(settings(a), "GOTOOLCHAIN="+toolchain)
			if _, err := c.run(ctx, source, env, "build", "-ldflags", "-s -w -buildid=", "-o", file, "./cmd/"+name); err != nil {
				return err
			}
			data, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			if err := check(string(a)+"/"+name, data); err != nil {
				return fmt.Errorf("with %s: %w", toolchain, err)
			}
		}
	}
	for _, a := range architectures {
		if err := os.MkdirAll(filepath.Join(dir, string(a)), 0o777); err != nil {
			return err
		}
		for _, name := range names() {
			file := filepath.Join(string(a), name)
			if err := os.Rename(filepath.Join(tmp, file), filepath.Join(dir, file)); err != nil {
				return err
			}
		}
	}
	return nil
}

// settings are what the Makefile sets, and what would change the programs' bytes
// if the user had set it.
func settings(a arch.Arch) []string {
	return []string{
		"GOFLAGS=-trimpath -buildvcs=false", "CGO_ENABLED=0", "GOOS=linux", "GOARCH=" + string(a),
		"GOAMD64=v1", "GOARM64=v8.0", "GOFIPS140=off",
	}
}

// download returns the directory of the module that this bake was built from, in
// Go's module cache. dir is an empty directory.
func (c *Config) download(ctx context.Context, dir string) (string, error) {
	module := c.Info.Main
	out, err := c.run(ctx, dir, []string{"GOFLAGS="}, "mod", "download", "-json", module.Path+"@"+module.Version)
	if err != nil {
		return "", err
	}
	var got struct{ Dir, Sum string }
	if err := json.Unmarshal(out, &got); err != nil {
		return "", fmt.Errorf("reading the output of go mod download: %w", err)
	}
	if got.Sum != module.Sum {
		return "", fmt.Errorf("%s@%s has the sum %s, this bake was built from one with %s", module.Path, module.Version, got.Sum, module.Sum)
	}
	return got.Dir, nil
}

// toolchain returns the toolchain that a go.mod names.
func toolchain(file string) (string, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	m, err := modfile.Parse(file, data, nil)
	if err != nil {
		return "", err
	}
	if m.Toolchain == nil {
		return "", fmt.Errorf("%s names no toolchain", file)
	}
	return m.Toolchain.Name, nil
}

// run runs the go command and returns its output.
func (c *Config) run(ctx context.Context, dir string, env []string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	cmd.Env = append(slices.Concat(c.Env, env), "GO111MODULE=on", "GOWORK=off")
	if c.Offline {
		cmd.Env = append(cmd.Env, "GOPROXY=off")
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		said := strings.TrimSpace(stderr.String() + failure(stdout.Bytes()))
		return nil, fmt.Errorf("go %s: %w: %s", strings.Join(args[:2], " "), err, said)
	}
	return stdout.Bytes(), nil
}

// failure returns what `go mod download -json` says of a failure, which it says in its
// output.
func failure(out []byte) string {
	var said struct{ Error string }
	if json.Unmarshal(out, &said) != nil {
		return ""
	}
	return said.Error
}
