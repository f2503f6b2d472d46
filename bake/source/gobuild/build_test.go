//go:build unix

package gobuild

import (
	"context"
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/bake/arch"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/source/store"
	"github.com/nodebake/bake/bake/tree"
	"github.com/nodebake/bake/test/filetest"
	"github.com/nodebake/bake/test/must"
)

// toyLicenses is what is packed of the licenses of hello and bye: those of modules
// as they are linked, and of directories that are.
const toyLicenses = `Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: hello
Source: example.com/toy@v1.2.3

Files: example.com/fork@v1.1.0/*
Copyright: see the license
License: unknown
 The fork's license.

Files: example.com/toy@v1.2.3/*
Copyright: see the license
License: unknown
 Toy's own license.

Files: example.com/toy@v1.2.3/version/*
Copyright: see the license
License: as-module
 .
Comment:
 A notice about versions.
`

func TestBuild(t *testing.T) {
	toy := newToy(t)
	toy.target.Module.Programs = append(toy.target.Module.Programs,
		manifest.Program{Package: "example.com/toy/cmd/bye/v2", Path: "/opt/bye", Tags: []string{"polite"}})
	packs := must.Get(store.Open(t.TempDir()))
	defer packs.Close()
	sink := &logSink{t: t}
	b := newBuilder(t, Config{Packs: packs, Env: toyEnv(t, toy.proxy), Progress: sink})
	arch := arch.Arch(runtime.GOARCH)

	if err := b.Preflight(t.Context(), toy.target, arch, toy.modfiles); err != nil {
		t.Fatal(err)
	}
	pack, built, err := b.Build(t.Context(), toy.target, arch, toy.modfiles)
	if err != nil {
		t.Fatal(err)
	}

	var got []tree.Entry
	for _, e := range pack.Entries {
		got = append(got, tree.Entry{Path: e.Path, Type: e.Type, Perm: e.Perm, UID: e.UID, GID: e.GID, MTime: e.MTime, Owner: e.Owner})
	}
	want := []tree.Entry{
		{Path: "opt/bye", Type: tree.File, Perm: 0o755, Owner: "component hello"},
		{Path: "usr/local/bin/hello", Type: tree.File, Perm: 0o755, Owner: "component hello"},
		{Path: "usr/lib/bake/licenses/hello", Type: tree.File, Perm: 0o644, Owner: "component hello"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
	if built.Module != "example.com/toy" || built.Version != "v1.2.3" || built.Toolchain != runtime.Version() || !strings.HasPrefix(built.Sum, "h1:") || built.Compiler != "" {
		t.Errorf("Build: built = %+v", built)
	}
	if runtime.GOOS == "linux" {
		// The stamp took, and the module that upstream's go.mod puts in
		// place of dep was used.
		if got, want := runProgram(t, pack.Entries[1]), "hello v1.2.3 fork\n"; got != want {
			t.Errorf("the program says %q; want %q", got, want)
		}
		// One program's tag is not the other's.
		if got, want := runProgram(t, pack.Entries[0]), "goodbye\n"; got != want {
			t.Errorf("the program with a tag of its own says %q; want %q", got, want)
		}
	}
	licenses := filetest.ReadAll(t, pack.Entries[2].Content())
	if diff := cmp.Diff(toyLicenses, string(licenses)); diff != "" {
		t.Errorf("licenses (-want +got):\n%s", diff)
	}
	for _, task := range sink.tasks {
		if task.result != "done" || task.done != task.total {
			t.Errorf("task %q: %q with %d of %d bytes; want all done", task.name, task.result, task.done, task.total)
		}
	}

	// From the store it comes without go.
	b = newBuilder(t, Config{Packs: packs, Env: []string{"PATH=/nonexistent"}})
	if err := b.Preflight(t.Context(), toy.target, arch, toy.modfiles); err != nil {
		t.Errorf("Preflight of what the store has = %v", err)
	}
	again, _, err := b.Build(t.Context(), toy.target, arch, toy.modfiles)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(pack.Chunks, again.Chunks); diff != "" {
		t.Errorf("from the store (-first +second):\n%s", diff)
	}
}

func runProgram(t *testing.T, e tree.Entry) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "program")
	content := filetest.ReadAll(t, e.Content())
	filetest.Script(t, file, string(content))
	out, err := exec.Command(file).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}

// TestReproducible builds twice with all different that must not matter: the
// second time in another directory, for another user. That the cache of Go does
// not matter either, `make image` on a new machine shows.
func TestReproducible(t *testing.T) {
	toy := newToy(t)
	first, built, err := toy.build(t.Context(), t, Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Umask(syscall.Umask(0o077))
	env := append(append(toyEnv(t, toy.proxy), homeless(t, t.TempDir())...),
		"TZ=Pacific/Kiritimati", "LC_ALL=tr_TR.UTF-8", "GOMAXPROCS=1",
		"GOAMD64=v3", "GOFLAGS=-ldflags=-X=example.com/toy/version.Version=evil", "GOOS=plan9", "GODEBUG=panicnil=1", "CGO_ENABLED=1")
	second, builtAgain, err := toy.build(t.Context(), t, Config{Env: env})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first, second); diff != "" {
		t.Errorf("two builds (-first +second):\n%s", diff)
	}
	if diff := cmp.Diff(built, builtAgain); diff != "" {
		t.Errorf("two builds describe themselves (-first +second):\n%s", diff)
	}
	// The comparison can fail.
	toy.target.Module.Stamp["example.com/toy/version.Version"] = "v1.2.4"
	third, builtOther, err := toy.build(t.Context(), t, Config{})
	if err != nil {
		t.Fatal(err)
	}
	if third == first || builtOther.Key == built.Key {
		t.Error("another stamp gave the same program or key")
	}
}

// TestCross builds for every architecture; addProgram looks at what comes out.
func TestCross(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles the run-time for another architecture")
	}
	toy := newToy(t)
	b := newBuilder(t, Config{Env: toyEnv(t, toy.proxy)})
	for _, arch := range []arch.Arch{arch.AMD64, arch.ARM64} {
		if _, _, err := b.Build(t.Context(), toy.target, arch, toy.modfiles); err != nil {
			t.Errorf("%s: %v", arch, err)
		}
	}
	if _, _, err := b.Build(t.Context(), toy.target, "vax", toy.modfiles); err == nil || !strings.Contains(err.Error(), `unknown architecture "vax"`) {
		t.Errorf("vax: Build = %v; want an unknown architecture", err)
	}
}

func TestBuildErrors(t *testing.T) {
	good := newToy(t)
	for _, test := range []struct {
		name   string
		change func(t *testing.T, toy *toy, c *Config)
		want   []string // parts of the error
	}{
		{
			"no go",
			func(t *testing.T, toy *toy, c *Config) { c.Env = []string{"PATH=" + t.TempDir()} },
			[]string{"building hello 1.2.3 from its Go module: ", "go is needed", "https://go.dev/dl/", "apt-get install golang-go"},
		},
		{
			"no such toolchain",
			func(t *testing.T, toy *toy, c *Config) { toy.target.Module.Toolchain = "go1.99.0" },
			[]string{"getting the toolchain go1.99.0", "toolchain not available"},
		},
		{
			"go that does not switch",
			func(t *testing.T, toy *toy, c *Config) {
				c.Go = script(t, `case $2 in -json) echo '{}';; *) echo go1.20.14;; esac`)
			},
			[]string{"is go1.20.14 and did not switch to the pinned toolchain " + runtime.Version(), "https://go.dev/doc/toolchain"},
		},
		{
			"toolchain without a patch version",
			func(t *testing.T, toy *toy, c *Config) { toy.target.Module.Toolchain = "go1.26" },
			[]string{`toolchain "go1.26" is a version of the language`, "write go1.26.0"},
		},
		{
			"module that the proxy has not",
			func(t *testing.T, toy *toy, c *Config) {
				toy.target.Module.Version = "v1.2.9"
				toy.replace("go.mod", "toy v1.2.3", "toy v1.2.9")
				toy.replace("go.sum", "toy v1.2.3", "toy v1.2.9")
			},
			[]string{"example.com/toy@v1.2.9", "no such file"},
		},
		{
			"module that was tampered with",
			func(t *testing.T, toy *toy, c *Config) {
				c.Env = toyEnv(t, writeProxy(t, strings.Replace(toyModules, `println("hello"`, `println("evil"`, 1)))
			},
			[]string{"verifying example.com/toy@v1.2.3: checksum mismatch", "SECURITY ERROR"},
		},
		{
			"dependency that was tampered with",
			func(t *testing.T, toy *toy, c *Config) {
				c.Env = toyEnv(t, writeProxy(t, strings.Replace(toyModules, `return "fork"`, `return "evil"`, 1)))
			},
			[]string{"verifying example.com/fork@v1.1.0: checksum mismatch", "SECURITY ERROR"},
		},
		{
			"dependency that go.sum has not",
			func(t *testing.T, toy *toy, c *Config) {
				toy.replace("go.sum", "example.com/fork v1.1.0 h1", "x.org/x v1.1.0 h1")
			},
			[]string{"missing go.sum entry", "example.com/dep"},
		},
		{
			"go.sum without the module",
			func(t *testing.T, toy *toy, c *Config) {
				toy.replace("go.sum", "example.com/toy v1.2.3 h1", "x.org/x v1.2.3 h1")
			},
			[]string{"modules/toy/go.sum has no line for example.com/toy v1.2.3", "manifests/modules/README.md"},
		},
		{
			"go.mod of another version",
			func(t *testing.T, toy *toy, c *Config) { toy.target.Module.Version = "v1.2.4" },
			[]string{`modules/toy/go.mod requires example.com/toy "v1.2.3", the versions file says v1.2.4`, "manifests/modules/README.md"},
		},
		{
			"go.mod is missing",
			func(t *testing.T, toy *toy, c *Config) { delete(toy.modfiles, "modules/toy/go.mod") },
			[]string{"modules/toy/go.mod", "file does not exist", "manifests/modules/README.md"},
		},
		{
			"go.mod is not one",
			func(t *testing.T, toy *toy, c *Config) { toy.replace("go.mod", "require", "requires") },
			[]string{"modules/toy/go.mod:", "unknown directive: requires"},
		},
		{
			"go.mod with a directory",
			func(t *testing.T, toy *toy, c *Config) { toy.replace("go.mod", "example.com/fork v1.1.0", "../fork") },
			[]string{"modules/toy/go.mod:", "example.com/dep is replaced by the directory ../fork"},
		},
		{
			"go.mod that replaces the module",
			func(t *testing.T, toy *toy, c *Config) {
				toy.replace("go.mod", "replace example.com/dep", "replace example.com/toy => example.com/fork v1.1.0\nreplace example.com/dep")
			},
			[]string{"modules/toy/go.mod:", "example.com/toy itself is replaced"},
		},
		{
			"stamp without a variable",
			func(t *testing.T, toy *toy, c *Config) {
				toy.target.Module.Stamp = map[string]string{"example.com/toy/version.Verison": "v1"}
			},
			[]string{"stamp example.com/toy/version.Verison: package example.com/toy/version has no variable Verison"},
		},
		{
			"stamp without a package",
			func(t *testing.T, toy *toy, c *Config) {
				toy.target.Module.Stamp = map[string]string{"example.com/toy/v2/version.Version": "v1"}
			},
			[]string{"stamp example.com/toy/v2/version.Version: no program imports the package example.com/toy/v2/version"},
		},
		{
			"stamp that would be a flag",
			func(t *testing.T, toy *toy, c *Config) {
				toy.target.Module.Stamp = map[string]string{"main.version": "v1 -linkmode=external"}
			},
			[]string{`stamp main.version: value "v1 -linkmode=external"`},
		},
		{
			"linker flag that would run a program",
			func(t *testing.T, toy *toy, c *Config) {
				toy.target.Module.CGO = &manifest.CGO{LDFlags: []string{"-wrapper,touch,/tmp/ran"}}
				c.CC = script(t, "exit 1")
			},
			[]string{`linker flag "-wrapper,touch,/tmp/ran" is not allowed`},
		},
		{
			"program that does not compile",
			func(t *testing.T, toy *toy, c *Config) {
				toy.target.Module.Programs[0].Package = "example.com/toy/cmd/broken"
				toy.target.Module.Stamp = nil
			},
			[]string{
				"go build: exit status 1", "undefined: undefinedName",
				"hello-" + runtime.GOARCH + ".log", "in the directory modules/toy beside the versions file",
				"GOTOOLCHAIN=" + runtime.Version() + " GOFLAGS=-mod=readonly GOARCH=" + runtime.GOARCH, "CGO_ENABLED=0 go build -v -trimpath", "-o /dev/null example.com/toy/cmd/broken",
			},
		},
		{
			"program that is a library",
			func(t *testing.T, toy *toy, c *Config) {
				toy.target.Module.Programs[0].Package = "example.com/toy/version"
				toy.target.Module.Stamp = nil
			},
			[]string{"no main packages to build", "example.com/toy/version"},
		},
		{
			"two programs of one name",
			func(t *testing.T, toy *toy, c *Config) {
				toy.target.Module.Programs = append(toy.target.Module.Programs, manifest.Program{Package: "example.com/toy/x/hello", Path: "/hello"})
			},
			[]string{"programs example.com/toy/cmd/hello and example.com/toy/x/hello are both called hello"},
		},
		{
			"no module",
			func(t *testing.T, toy *toy, c *Config) { toy.target.Module = nil },
			[]string{"hello names no Go module"},
		},
		{
			"no packages for cgo",
			func(t *testing.T, toy *toy, c *Config) {
				toy.target.Module.CGO = &manifest.CGO{Packages: []manifest.Listed{{Text: "libseccomp-dev"}}}
			},
			[]string{"BUG: cgo needs packages"},
		},
		{
			"no compiler",
			func(t *testing.T, toy *toy, c *Config) {
				toy.target.Module.CGO = &manifest.CGO{}
				c.Env = []string{"PATH=" + t.TempDir()}
			},
			[]string{"a C compiler for " + runtime.GOARCH + " is needed", "apt-get install gcc"},
		},
		{
			"compiler for another machine",
			func(t *testing.T, toy *toy, c *Config) {
				toy.target.Module.CGO = &manifest.CGO{}
				c.CC = script(t, "echo riscv64-linux-gnu")
			},
			[]string{"a C compiler for " + runtime.GOARCH + " is needed", "is for riscv64-linux-gnu"},
		},
		{
			"no C library",
			func(t *testing.T, toy *toy, c *Config) {
				needCC(t)
				toy.target.Module.CGO = &manifest.CGO{}
				toy.target.Packages = []manifest.LockedPackage{{Name: "libdemo-dev"}}
				c.Unpack = fakeDebs{"libdemo-dev": new(tree.Pack)}.unpack
			},
			[]string{"add libc6-dev and linux-libc-dev"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			toy := good.clone()
			var c Config
			test.change(t, toy, &c)
			_, _, err := toy.build(t.Context(), t, c)
			if err == nil {
				t.Fatalf("Build succeeded; want an error with %q", test.want)
			}
			for _, part := range test.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("Build: %v\nwant %q in it", err, part)
				}
			}
		})
	}
}

// clone returns a copy whose target and files may be changed.
func (toy *toy) clone() *toy {
	out := *toy
	module := *toy.target.Module
	module.Programs = append([]manifest.Program{}, module.Programs...)
	module.Stamp = map[string]string{}
	maps.Copy(module.Stamp, toy.target.Module.Stamp)
	out.target.Module = &module
	out.modfiles = fstest.MapFS{}
	maps.Copy(out.modfiles, toy.modfiles)
	return &out
}

func (toy *toy) replace(name, old, new string) {
	name = "modules/toy/" + name
	toy.modfiles[name] = &fstest.MapFile{Data: []byte(strings.Replace(string(toy.modfiles[name].Data), old, new, 1))}
}

// script writes a shell script that stands in for a program.
func script(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "script")
	filetest.Script(t, name, "#!/bin/sh\n"+text+"\n")
	return name
}

// TestPreflightErrors says what is noticed before anything slow.
func TestPreflightErrors(t *testing.T) {
	good := newToy(t)
	for _, test := range []struct {
		name string
		env  []string
		want string
	}{
		{"no go", []string{"PATH=/nonexistent"}, "preparing to build hello 1.2.3 from its Go module: go is needed"},
		{"no proxy", toyEnv(t, "file:///nonexistent"), "example.com/toy@v1.2.3"},
	} {
		b := newBuilder(t, Config{Env: test.env})
		err := b.Preflight(t.Context(), good.target, arch.Arch(runtime.GOARCH), good.modfiles)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: Preflight = %v; want %q in it", test.name, err, test.want)
		}
	}
}

// TestCancel stops a build whose compiler would take a long time. The compiler
// must be gone too, and so must everything that was written.
func TestCancel(t *testing.T) {
	toy := newToy(t)
	pids := filepath.Join(t.TempDir(), "pids")
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("stopped by the test")
	// Like go build: it starts a compiler and waits for it.
	slow := script(t, `case $1 in
env) if test "$2" = -json; then echo '{"GOVERSION":"`+runtime.Version()+`"}'; else echo `+runtime.Version()+`; fi ;;
*) sleep 1000 & echo $! >`+pids+`.new; mv `+pids+`.new `+pids+`; wait ;;
esac`)
	go func() {
		for {
			if _, err := os.Stat(pids); err == nil {
				cancel(stop)
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
	}()
	began := time.Now()
	_, _, err := toy.build(ctx, t, Config{Go: slow})
	if !errors.Is(err, stop) {
		t.Errorf("Build = %v; want %v", err, stop)
	}
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("Build returned after %v; want it at once", took)
	}
	data := filetest.Read(t, pids)
	for deadline := time.Now().Add(5 * time.Second); alive(strings.TrimSpace(string(data))); {
		if time.Now().After(deadline) {
			t.Fatal("the compiler still runs")
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// alive reports whether a process runs. One that was killed and not yet
// waited for does not.
func alive(pid string) bool {
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	return err == nil && !strings.Contains(string(stat), ") Z ")
}

// TestTurn makes sure that builds wait for each other, and that one which
// waits can be stopped.
func TestTurn(t *testing.T) {
	toy := newToy(t)
	b := newBuilder(t, Config{Env: toyEnv(t, toy.proxy)})
	b.turn <- struct{}{}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, _, err := b.Build(ctx, toy.target, arch.Arch(runtime.GOARCH), toy.modfiles); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Build while another runs = %v; want to wait until the deadline", err)
	}
}
