package gobuild

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
)

// gocmd runs the go command of one toolchain in one wrapper module.
type gocmd struct {
	path      string   // of the go command
	toolchain string   // the one that must run: "go1.26.8"
	env       []string // of every command
	network   []string // of commands that may fetch modules, beside env
	dir       string   // the build's directory: mod/, tmp/, out/, home/
	log       string   // where the whole output of commands goes
	mirror    string   // offline: URL of the only module proxy; else ""

	settings map[string]string // cacheSettings and fetchSettings as they are used, and hostSettings
}

// cacheSettings and fetchSettings are the go command's settings that say where
// things are and whom to trust, not what is built. They are taken from the user's
// environment and `go env -w`; everything else of the go command's is set or unset
// here.
func cacheSettings() []string { return []string{"GOPATH", "GOMODCACHE", "GOCACHE"} }

func fetchSettings() []string {
	return []string{"GOPROXY", "GOSUMDB", "GONOPROXY", "GONOSUMDB", "GOPRIVATE", "GOINSECURE", "GOAUTH", "GOVCS"}
}

// hostSettings say what go is on the host.
func hostSettings() []string { return []string{"GOVERSION", "GOHOSTOS", "GOHOSTARCH"} }

// newGo finds the go command and gives it an environment whose effect does not
// depend on the host. dir holds everything that it writes, but for the caches.
// adjust, which may be nil, changes cacheSettings and fetchSettings once they are
// known, and is told hostSettings beside them.
func (b *Builder) newGo(ctx context.Context, toolchain, dir string, adjust func(ctx context.Context, settings map[string]string) error) (*gocmd, error) {
	name := b.Go
	if name == "" {
		name = "go"
	}
	path, err := lookPath(name, b.Env)
	if err != nil {
		return nil, &MissingToolError{Tool: name, Need: "to build from a Go module", Remedy: "install Go 1.21 or newer, see https://go.dev/dl/, or on Debian: apt-get install golang-go"}
	}
	g := &gocmd{path: path, toolchain: toolchain, dir: dir, log: filepath.Join(dir, "log")}
	for _, sub := range []string{"mod", "tmp", "out", "home"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o777); err != nil {
			return nil, fmt.Errorf("making the build's directory: %w", err)
		}
	}

	// GOTOOLCHAIN=local: whatever the host's go is, it can answer this.
	user := slices.Concat(cacheSettings(), fetchSettings())
	g.env = append(pick(b.Env, slices.Concat(hostVariables(), fetchVariables(), user, []string{"GOENV"})...), "GOTOOLCHAIN=local", "GOWORK=off")
	out, err := g.run(ctx, slices.Concat([]string{"env", "-json"}, user, hostSettings())...)
	if err != nil {
		return nil, err
	}
	settings := map[string]string{}
	if err := json.Unmarshal(out, &settings); err != nil {
		return nil, fmt.Errorf("reading the output of go env: %w", err)
	}
	g.settings = settings
	if b.Confined {
		if err := b.confine(settings); err != nil {
			return nil, err
		}
	}
	if adjust != nil {
		if err := adjust(ctx, settings); err != nil {
			return nil, err
		}
	}
	if b.Offline {
		g.mirror, _, _ = strings.Cut(settings["GOPROXY"], ",")
	}
	set := func(names []string) (out []string) {
		for _, name := range names {
			if v := settings[name]; v != "" {
				out = append(out, name+"="+v)
			}
		}
		return out
	}
	g.env = append(pick(b.Env, hostVariables()...), set(cacheSettings())...)
	g.network = append(pick(b.Env, fetchVariables()...), set(fetchSettings())...)
	g.env = append(g.env,
		"GOENV=off", // what `go env -w` has set beyond these
		"GOTOOLCHAIN="+toolchain,
		"GOFLAGS=-mod=readonly",
		"GO111MODULE=on",
		"GOWORK=off",
		"GOTMPDIR="+filepath.Join(dir, "tmp"),
		"TMPDIR="+filepath.Join(dir, "tmp"), // the C compiler's
		"LC_ALL=C",
	)
	if toolchain == anyToolchain {
		return g, nil
	}
	return g, g.switchTo(ctx)
}

// isolate gives g a module cache of its own: what a mirror says of modules
// reaches no other build of the user's, and what is in it afterwards is what was
// needed. The toolchain is the user's, since unpacking it takes as long as a
// small build.
func (g *gocmd) isolate() { g.env = append(g.env, "GOMODCACHE="+g.modules()) }

// modules is the module cache after isolate.
func (g *gocmd) modules() string { return filepath.Join(g.dir, "modules") }

// anyToolchain stands for the host's, whichever it is.
const anyToolchain = "local"

// switchTo makes sure that the pinned toolchain is the one that runs. The host's
// go fetches it as a module where it is another, and is not asked again.
func (g *gocmd) switchTo(ctx context.Context) error {
	out, err := g.run(ctx, "env", "GOVERSION", "GOROOT")
	if err != nil {
		return fmt.Errorf("getting the toolchain %s: %w", g.toolchain, err)
	}
	got, root, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	if got != g.toolchain {
		return fmt.Errorf("%s is %s and did not switch to the pinned toolchain %s (Go 1.21 and newer can: see https://go.dev/doc/toolchain)", g.path, got, g.toolchain)
	}
	if g.settings["GOVERSION"] == g.toolchain {
		return nil
	}
	if g.path, err = exec.LookPath(filepath.Join(root, "bin", "go")); err != nil {
		return fmt.Errorf("looking for the toolchain %s: %w", g.toolchain, err)
	}
	g.env = append(g.env, "GOTOOLCHAIN=local")
	return nil
}

// writeModule writes the wrapper module in which commands run.
func (g *gocmd) writeModule(goMod, goSum []byte) error {
	if err := g.writeFile("go.mod", goMod); err != nil {
		return err
	}
	return g.writeFile("go.sum", goSum)
}

func (g *gocmd) writeFile(name string, data []byte) error {
	if err := os.WriteFile(filepath.Join(g.dir, "mod", name), data, 0o666); err != nil {
		return fmt.Errorf("writing the wrapper module: %w", err)
	}
	return nil
}

// run runs one command that may fetch modules, as start does.
func (g *gocmd) run(ctx context.Context, args ...string) ([]byte, error) {
	return g.start(ctx, slices.Concat(g.env, g.network), nil, nil, args)
}

// compile runs one command that compiles what run has fetched, as start does.
// It is told of no proxy, password or agent. With separate its home is an empty
// directory, too.
func (g *gocmd) compile(ctx context.Context, separate *separation, watch func(line string) bool, args ...string) error {
	env := append(slices.Clone(g.env), "GOPROXY=off")
	if separate != nil {
		env = append(env, "HOME="+filepath.Join(g.dir, "home"))
	}
	_, err := g.start(ctx, env, separate, watch, args)
	return err
}

// start runs one command in the wrapper module and returns its standard output,
// which may hold a reason where the command failed.
// watch, which may be nil, is given every line of its standard error, and
// reports whether the line is worth showing when the command fails.
func (g *gocmd) start(ctx context.Context, env []string, separate *separation, watch func(line string) bool, args []string) ([]byte, error) {
	log, err := os.OpenFile(g.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o666)
	if err != nil {
		return nil, fmt.Errorf("opening the build's log: %w", err)
	}
	defer log.Close()
	fmt.Fprintf(log, "$ go %s\n", strings.Join(args, " "))

	var stdout strings.Builder
	stderr := &lineWriter{w: log, watch: watch}
	cmd := exec.CommandContext(ctx, g.path, args...)
	cmd.Dir = filepath.Join(g.dir, "mod")
	cmd.Env = env
	cmd.Stdout = &stdout
	cmd.Stderr = stderr
	ownGroup(cmd)
	separate.apply(cmd)
	err = cmd.Run()
	stderr.flush()
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err != nil:
		err = &commandError{args: args, err: err, tail: stderr.tail}
		if file := g.notMirrored(stderr.tail); file != "" {
			err = &NotMirroredError{What: "file " + file, Err: err}
		}
		return []byte(stdout.String()), err
	}
	return []byte(stdout.String()), nil
}

// notMirrored returns the file that a failed command did not find in the
// mirror, as a path of the module proxy protocol; "" where it failed for another
// reason.
func (g *gocmd) notMirrored(tail []string) string {
	if g.mirror == "" {
		return ""
	}
	for _, line := range tail {
		// example.com/toy@v1.2.3: reading file:///DIR/example.com/toy/@v/v1.2.3.mod: no such file or directory
		_, rest, found := strings.Cut(line, "reading "+g.mirror+"/")
		if file, why, ok := strings.Cut(rest, ": "); found && ok && why == syscall.ENOENT.Error() {
			return file
		}
	}
	return ""
}

// commandError is a command that ended badly and the last lines it wrote.
type commandError struct {
	args []string
	err  error
	tail []string
}

func (e *commandError) Error() string {
	what := "go " + e.args[0]
	if len(e.tail) == 0 {
		return fmt.Sprintf("%s: %v", what, e.err)
	}
	return fmt.Sprintf("%s: %v:\n\t%s", what, e.err, strings.Join(e.tail, "\n\t"))
}

func (e *commandError) Unwrap() error { return e.err }

// MissingToolError is a program that a build needs and the host does not have.
type MissingToolError struct {
	Tool   string // "go"
	Need   string // "to build from a Go module"
	Remedy string
}

func (e *MissingToolError) Error() string {
	return fmt.Sprintf("%s is needed %s and was not found in PATH (%s)", e.Tool, e.Need, e.Remedy)
}

// lookPath finds the program name in the PATH of env.
func lookPath(name string, env []string) (string, error) {
	if filepath.Base(name) != name {
		return exec.LookPath(name)
	}
	path := ""
	for _, kv := range env {
		k, v, _ := strings.Cut(kv, "=")
		if k == "PATH" || runtime.GOOS == "windows" && strings.EqualFold(k, "PATH") {
			path = v // the last one counts, as in os/exec
		}
	}
	for _, dir := range filepath.SplitList(path) {
		if !filepath.IsAbs(dir) {
			continue // a program of the current directory is not the host's
		}
		found, err := exec.LookPath(filepath.Join(dir, name))
		if err == nil {
			return found, nil
		}
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) && !errors.Is(err, exec.ErrNotFound) {
			return "", err
		}
	}
	return "", exec.ErrNotFound
}
