//go:build unix

package gobuild

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/nodebake/bake/bake/arch"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/test/filetest"
)

// proxyFiles are the files of a module proxy by their paths.
type proxyFiles map[string]string

// add is an argument of Builder.Sources and Builder.Toolchain.
func (p proxyFiles) add(t *testing.T) func(f File, open func() (io.ReadCloser, error)) error {
	return func(f File, open func() (io.ReadCloser, error)) error {
		r, err := open()
		if err != nil {
			return err
		}
		defer r.Close()
		data, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		if sum := manifest.SHA256(sha256.Sum256(data)); sum != f.SHA256 || int64(len(data)) != f.Size {
			t.Errorf("%s is %s with %d bytes; want %s with %d", f.Path, sum, len(data), f.SHA256, f.Size)
		}
		if _, twice := p[f.Path]; twice {
			t.Errorf("%s was added twice", f.Path)
		}
		p[f.Path] = string(data)
		return nil
	}
}

// proxy is a Config.Proxy. As the real one does it makes symlinks.
func (p proxyFiles) proxy(t *testing.T) func(ctx context.Context, dir string, wants func(path string) bool) error {
	kept := t.TempDir()
	return func(_ context.Context, dir string, wants func(path string) bool) error {
		for i, name := range slices.Sorted(maps.Keys(p)) {
			if !wants(name) {
				continue
			}
			file := filepath.Join(kept, string(rune('a'+i)))
			if err := os.WriteFile(file, []byte(p[name]), 0o444); err != nil && !errors.Is(err, os.ErrPermission) {
				return err
			}
			link := filepath.Join(dir, filepath.FromSlash(name))
			if err := os.MkdirAll(filepath.Dir(link), 0o777); err != nil {
				return err
			}
			if err := os.Symlink(file, link); err != nil {
				return err
			}
		}
		return nil
	}
}

// listToy finds the sources of toy, for both architectures.
func listToy(t *testing.T, toy *toy) proxyFiles {
	t.Helper()
	files := proxyFiles{}
	b := newBuilder(t, Config{Env: toyEnv(t, toy.proxy)})
	if err := b.Sources(t.Context(), []Target{toy.target}, []arch.Arch{arch.ARM64, arch.AMD64}, toy.modfiles, files.add(t)); err != nil {
		t.Fatal(err)
	}
	return files
}

// noNetwork is the configuration of a user who has no network, whose GOPROXY
// would not answer, and whose module cache is empty.
func noNetwork(t *testing.T, files proxyFiles) Config {
	t.Helper()
	return Config{Env: toyEnv(t, "https://proxy.invalid"), Proxy: files.proxy(t), Offline: true, Go: unshared(t)}
}

// unshared returns a go command without any network, not even a loopback
// interface that is up.
func unshared(t *testing.T) string {
	t.Helper()
	if runtime.GOOS != "linux" {
		return "" // GOPROXY alone must keep it from asking
	}
	if out, err := exec.Command("unshare", "--map-root-user", "--net", "true").CombinedOutput(); err != nil {
		why := fmt.Sprintf("network namespaces can't be made here (apt-get install util-linux): %v: %s", err, out)
		if os.Getenv("CI") != "" {
			t.Fatal(why)
		}
		t.Skip(why)
	}
	return script(t, `exec unshare --map-root-user --net go "$@"`)
}

// preflightAndBuild does what a bake does.
func (toy *toy) preflightAndBuild(t *testing.T, c Config) (string, Built, error) {
	t.Helper()
	if err := newBuilder(t, c).Preflight(t.Context(), toy.target, arch.Arch(runtime.GOARCH), toy.modfiles); err != nil {
		return "", Built{}, err
	}
	return toy.build(t.Context(), t, c)
}

// TestSources lists what a build needs and builds without a network: the same
// programs under the same key. Without any one of the files it must fail, and
// say which module is missing.
func TestSources(t *testing.T) {
	toy := newToy(t)
	toy.target.Module.Programs = append(toy.target.Module.Programs,
		manifest.Program{Package: "example.com/toy/cmd/bye/v2", Path: "/opt/bye", Tags: []string{"polite"}})
	files := listToy(t, toy)
	want := []string{
		"example.com/fork/@v/v1.1.0.mod",
		"example.com/fork/@v/v1.1.0.zip",
		"example.com/toy/@v/v1.2.3.info",
		"example.com/toy/@v/v1.2.3.mod",
		"example.com/toy/@v/v1.2.3.zip",
	}
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(files))); diff != "" {
		t.Errorf("sources (-want +got):\n%s", diff)
	}

	usual, usualBuilt, err := toy.build(t.Context(), t, Config{})
	if err != nil {
		t.Fatal(err)
	}
	got, built, err := toy.preflightAndBuild(t, noNetwork(t, files))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(usual, got); diff != "" {
		t.Errorf("the build without a network (-usual +got):\n%s", diff)
	}
	if diff := cmp.Diff(usualBuilt, built, cmpopts.IgnoreFields(Built{}, "Tools")); diff != "" { // go is found in another way
		t.Errorf("the build without a network describes itself (-usual +got):\n%s", diff)
	}

	for _, missing := range slices.Sorted(maps.Keys(files)) {
		less := maps.Clone(files)
		delete(less, missing)
		_, _, err := toy.preflightAndBuild(t, noNetwork(t, less))
		name, _, _ := strings.Cut(missing, "/@v/")
		if _, ok := errors.AsType[*NotMirroredError](err); !ok || !strings.Contains(err.Error(), name+"@v1.") || !strings.Contains(err.Error(), "make it with --sources") {
			t.Errorf("without %s: %v; want a NotMirroredError that names the module", missing, err)
		}
	}
}

// TestSourcesErrors builds without a network from what no mirror should have.
// Nothing may be kept.
func TestSourcesErrors(t *testing.T) {
	toy := newToy(t)
	good := listToy(t, toy)
	for _, test := range []struct {
		name   string
		change func(c *Config, files proxyFiles)
		want   []string // parts of the error
	}{
		{
			"altered module",
			func(_ *Config, files proxyFiles) {
				files["example.com/toy/@v/v1.2.3.zip"] = evilToy(t)
			},
			[]string{"verifying example.com/toy@v1.2.3: checksum mismatch", "SECURITY ERROR"},
		},
		{
			"altered go.mod",
			func(_ *Config, files proxyFiles) { files["example.com/fork/@v/v1.1.0.mod"] += "// more\n" },
			[]string{"verifying example.com/fork@v1.1.0/go.mod: checksum mismatch", "SECURITY ERROR"},
		},
		{
			"module that is cut off",
			func(_ *Config, files proxyFiles) {
				file := "example.com/fork/@v/v1.1.0.zip"
				files[file] = files[file][:len(files[file])/2]
			},
			[]string{"downloading example.com/fork v1.1.0", "zip: not a valid zip file"},
		},
		{
			"information of another version",
			func(_ *Config, files proxyFiles) {
				files["example.com/toy/@v/v1.2.3.info"] = `{"Version":"v1.2.4"}`
			},
			[]string{"example.com/toy@v1.2.3", "v1.2.4"},
		},
		{
			"no module",
			func(_ *Config, files proxyFiles) { clear(files) },
			[]string{"the mirror has no module example.com/toy@v1.2.3", "make it with --sources"},
		},
		{
			"no mirror",
			func(c *Config, _ proxyFiles) { c.Proxy = nil },
			[]string{"the mirror has no module example.com/toy@v1.2.3", "make it with --sources"},
		},
		{
			"mirror that can't be read",
			func(c *Config, _ proxyFiles) {
				c.Proxy = func(context.Context, string, func(string) bool) error { return errors.New("no disk") }
			},
			[]string{"hello 1.2.3 from its Go module: no disk"},
		},
		{
			"no toolchain",
			func(c *Config, _ proxyFiles) { c.Go = otherGo(t) },
			[]string{"the mirror has no toolchain " + runtime.Version() + " for linux-amd64, and go here is go1.22.0", "make it with --sources"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			files := maps.Clone(good)
			c := noNetwork(t, files)
			test.change(&c, files)
			_, built, err := toy.preflightAndBuild(t, c)
			if err == nil {
				t.Fatalf("it was built: %+v", built)
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("Build = %v; want %q in it", err, want)
				}
			}
			if left, err := os.ReadDir(userModules(c.Env)); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the user's module cache has %v, %v; want it untouched", left, err)
			}
		})
	}
}

// evilToy is the archive of toy with another program.
func evilToy(t *testing.T) string {
	t.Helper()
	proxy := writeProxy(t, strings.Replace(toyModules, `println("hello"`, `println("evil"`, 1))
	data := filetest.Read(t, filepath.Join(strings.TrimPrefix(proxy, "file://"), "example.com/toy/@v/v1.2.3.zip"))
	return string(data)
}

// otherGo is a go command of another version.
func otherGo(t *testing.T) string {
	return script(t, `test "$2" = -json && echo '{"GOVERSION":"go1.22.0","GOHOSTOS":"linux","GOHOSTARCH":"amd64"}'`)
}

// userModules is the user's module cache, as toyEnv sets it.
func userModules(env []string) string {
	dir := ""
	for _, kv := range env {
		if v, ok := strings.CutPrefix(kv, "GOMODCACHE="); ok {
			dir = v
		}
	}
	return dir
}

// TestProxyFirst builds with a network and a mirror: the mirror is asked first,
// the user's GOPROXY for what it lacks.
func TestProxyFirst(t *testing.T) {
	toy := newToy(t)
	files := listToy(t, toy)
	usual, _, err := toy.build(t.Context(), t, Config{})
	if err != nil {
		t.Fatal(err)
	}
	// All of it is there: the user's proxy need not answer.
	got, _, err := toy.preflightAndBuild(t, Config{Env: toyEnv(t, "https://proxy.invalid"), Proxy: files.proxy(t), Go: unshared(t)})
	if err != nil || got != usual {
		t.Errorf("from the mirror alone: %v, %s; want %s", err, got, usual)
	}
	delete(files, "example.com/fork/@v/v1.1.0.zip")
	got, _, err = toy.preflightAndBuild(t, Config{Env: toyEnv(t, toy.proxy), Proxy: files.proxy(t)})
	if err != nil || got != usual {
		t.Errorf("from the mirror and another proxy: %v, %s; want %s", err, got, usual)
	}
	// What the user has is not downloaded again where the mirror lacks it.
	env := toyEnv(t, toy.proxy)
	if _, _, err := toy.build(t.Context(), t, Config{Env: env}); err != nil {
		t.Fatal(err)
	}
	got, _, err = toy.preflightAndBuild(t, Config{Env: append(env, "GOPROXY=https://proxy.invalid"), Go: unshared(t), Proxy: proxyFiles{}.proxy(t)})
	if err != nil || got != usual {
		t.Errorf("from the user's module cache: %v, %s; want %s", err, got, usual)
	}
	// What it has wrong is an error, and no reason to ask further.
	files["example.com/fork/@v/v1.1.0.mod"] += "// more\n"
	_, _, err = toy.preflightAndBuild(t, Config{Env: toyEnv(t, toy.proxy), Proxy: files.proxy(t)})
	if err == nil || !strings.Contains(err.Error(), "verifying example.com/fork@v1.1.0/go.mod: checksum mismatch") {
		t.Errorf("from an altered mirror: %v; want a checksum mismatch", err)
	}
}

// TestSourcesOf has Sources meet what builds refuse as well.
func TestSourcesOf(t *testing.T) {
	toy := newToy(t)
	toy.replace("go.sum", "example.com/fork v1.1.0 h1", "x.org/x v1.1.0 h1")
	files := proxyFiles{}
	err := newBuilder(t, Config{Env: toyEnv(t, toy.proxy)}).Sources(t.Context(), []Target{toy.target}, []arch.Arch{arch.AMD64}, toy.modfiles, files.add(t))
	if err == nil || !strings.Contains(err.Error(), "finding the Go modules of hello 1.2.3: ") || !strings.Contains(err.Error(), "missing go.sum entry") || len(files) > 0 {
		t.Errorf("Sources = %v, %d files; want a missing go.sum entry", err, len(files))
	}
	stop := errors.New("stopped by the test")
	toy = newToy(t)
	err = newBuilder(t, Config{Env: toyEnv(t, toy.proxy)}).Sources(t.Context(), []Target{toy.target}, []arch.Arch{arch.AMD64}, toy.modfiles,
		func(File, func() (io.ReadCloser, error)) error { return stop })
	if !errors.Is(err, stop) {
		t.Errorf("Sources = %v; want %v", err, stop)
	}
}

// TestSourcesKey changes what decides which modules are needed, and what does
// not.
func TestSourcesKey(t *testing.T) {
	toy := newToy(t)
	both := []arch.Arch{arch.AMD64, arch.ARM64}
	key := func(archs ...arch.Arch) string {
		t.Helper()
		key, err := SourcesKey([]Target{toy.target}, archs, toy.modfiles)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	first := key(both...)
	if got := key(arch.ARM64, arch.AMD64, arch.ARM64); got != first {
		t.Errorf("SourcesKey with architectures in another order = %s; want %s", got, first)
	}
	toy.target.Module.Stamp = nil
	if got := key(both...); got != first {
		t.Errorf("SourcesKey without stamps = %s; want %s", got, first)
	}
	if key(arch.AMD64) == first {
		t.Error("SourcesKey is the same for fewer architectures")
	}
	toy.target.Module.Tags = []string{"polite"}
	if key(both...) == first {
		t.Error("SourcesKey is the same with another tag")
	}
	toy.target.Module.Tags = nil
	toy.target.Module.CGO = &manifest.CGO{}
	if key(both...) == first {
		t.Error("SourcesKey is the same with cgo")
	}
}

// TestToolchainErrors asks for toolchains that are unavailable. Getting one takes a
// network: see TestComponentsOffline.
func TestToolchainErrors(t *testing.T) {
	for _, test := range []struct {
		toolchain, host string
		env             []string
		want            string
	}{
		{"go1.26", "linux-amd64", nil, `"go1.26" is a version of the language, not a toolchain (write go1.26.0 or later)`},
		{"go1.26.8", "linux/amd64", nil, `host "linux/amd64" is not one`},
		{"go1.26.8", "linux-amd64", []string{"GOSUMDB=off"}, "can't be verified with GOSUMDB=off and is left out"},
		{"go1.26.8", "linux-amd64", []string{"GOSUMDB=sum.golang.org"}, "golang.org/toolchain@v0.0.1-go1.26.8.linux-amd64: "},
	} {
		files := proxyFiles{}
		b := newBuilder(t, Config{Env: append(toyEnv(t, writeProxy(t, toyModules)), test.env...)})
		err := b.Toolchain(t.Context(), test.toolchain, test.host, files.add(t))
		if err == nil || !strings.Contains(err.Error(), test.want) || len(files) > 0 {
			t.Errorf("Toolchain(%s, %s) = %v, %d files; want %q", test.toolchain, test.host, err, len(files), test.want)
		}
	}
}

func TestChecksumDatabase(t *testing.T) {
	const key = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8"
	for gosumdb, want := range map[string][2]string{
		"":                                  {"", ""},
		"off":                               {"", ""},
		"sum.golang.org":                    {"sum.golang.org", "sum.golang.org"},
		"sum.golang.org https://db.invalid": {"sum.golang.org", "sum.golang.org"},
		"sum.golang.google.cn":              {"sum.golang.org", "sum.golang.org"},
		key:                                 {"sum.golang.org", key},
	} {
		name, got := checksumDatabase(gosumdb)
		if diff := cmp.Diff(want, [2]string{name, got}); diff != "" {
			t.Errorf("checksumDatabase(%q) (-want +got):\n%s", gosumdb, diff)
		}
	}
}

func TestFileURL(t *testing.T) {
	for dir, want := range map[string]string{
		"/home/a b/mod":   "file:///home/a%20b/mod",
		"/tmp/one,two|3%": "file:///tmp/one%2Ctwo%7C3%25",
	} {
		if got := fileURL(dir); got != want {
			t.Errorf("fileURL(%q) = %q; want %q", dir, got, want)
		}
	}
}
