package embedded

import (
	"archive/zip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/module"
	modzip "golang.org/x/mod/zip"

	"github.com/nodebake/bake/bake/arch"
	"github.com/nodebake/bake/test/filetest"
	"github.com/nodebake/bake/test/must"
)

func architectures() []arch.Arch { return []arch.Arch{arch.AMD64, arch.ARM64} }

// TestDigests requires that digests.txt, which is committed, is of the programs
// that `make` built.
func TestDigests(t *testing.T) {
	if !embeds(architectures()) {
		t.Skip("there are no embedded programs: run `make`")
	}
	for _, arch := range architectures() {
		for _, name := range names() {
			if _, err := (Programs{}).Program(name, arch); err != nil {
				t.Errorf("%v (run `go generate ./bake/embedded`, and commit bake/embedded/digests.txt)", err)
			}
		}
	}
	if got, want := strings.Count(digests, "\n"), len(architectures())*len(names()); got != want {
		t.Errorf("digests.txt has %d lines; want %d, one for each program", got, want)
	}
}

func TestProgramMissing(t *testing.T) {
	_, err := Programs{os.DirFS(t.TempDir())}.Program("init", arch.AMD64)
	if err == nil || !strings.Contains(err.Error(), "build it with `make`") {
		t.Errorf("Program where there is none = %v; want an error that says how to build it", err)
	}
}

// TestOpen builds the programs as a bake does that `go install` built: from the
// module, out of a module proxy that this test makes.
func TestOpen(t *testing.T) {
	if !embeds(architectures()) {
		t.Skip("there are no embedded programs: run `make`")
	}
	c := installed(t)
	ctx, a := t.Context(), arch.AMD64
	// Open would return what is embedded: build is what it calls without that.
	dir := filepath.Join(c.Dir, c.Info.Main.Version)
	if err := build(ctx, &c, dir, []arch.Arch{a}); err != nil {
		t.Fatal(err)
	}
	built := Programs{os.DirFS(dir)}
	if !built.have([]arch.Arch{a}) {
		t.Fatal("the programs that were built are not there")
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "tmp*")); left != nil {
		t.Errorf("%v is left", left)
	}

	// What is damaged is not handed out, and counts as missing.
	file := filepath.Join(dir, string(a), "init")
	data := filetest.Read(t, file)
	data[len(data)/2] ^= 1
	filetest.Script(t, file, string(data))
	if _, err := built.Program("init", a); err == nil || !strings.Contains(err.Error(), "amd64/init has the digest") {
		t.Errorf("Program of a damaged file = %v; want an error about its digest", err)
	}
	if built.have([]arch.Arch{a}) {
		t.Error("a damaged program counts as one that is there")
	}

	for _, test := range []struct {
		name, want string
		change     func(c *Config)
	}{
		{"another sum", "this bake was built from one with h1:other", func(c *Config) { c.Info.Main.Sum = "h1:other" }},
		{"a version that is nowhere", "v0.0.2", func(c *Config) { c.Info.Main.Version = "v0.0.2" }},
		{"offline", "module lookup disabled by GOPROXY=off", func(c *Config) {
			c.Offline, c.Env = true, append(c.Env, "GOMODCACHE="+t.TempDir())
		}},
	} {
		c, info := c, *c.Info
		c.Info = &info
		test.change(&c)
		dir := t.TempDir()
		err := build(ctx, &c, dir, []arch.Arch{a})
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: building = %v; want an error with %q", test.name, err, test.want)
		}
		if left, _ := os.ReadDir(dir); len(left) > 0 {
			t.Errorf("%s: %v is left", test.name, left)
		}
	}

	ctx, cancel := context.WithCancel(ctx)
	cancel()
	if err := build(ctx, &c, t.TempDir(), []arch.Arch{a}); !errors.Is(err, context.Canceled) {
		t.Errorf("building when it was cancelled = %v; want %v", err, context.Canceled)
	}
}

func TestNoGo(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	err := build(t.Context(), &Config{}, t.TempDir(), nil)
	if err == nil || !strings.Contains(err.Error(), "install Go") {
		t.Errorf("building without a go command = %v; want an error that says what to install", err)
	}
}

// installed returns the Config of a bake that was installed from a proxy: one
// directory with this module, packed as proxies pack it, beside the module
// cache's own downloads.
func installed(t *testing.T) Config {
	t.Helper()
	root := must.Get(filepath.Abs("../.."))
	version := module.Version{Path: "github.com/nodebake/bake", Version: "v0.0.1"}
	proxy := t.TempDir()
	dir := filepath.Join(proxy, filepath.FromSlash(version.Path), "@v")
	filetest.Mkdir(t, dir)
	pack(t, version, root, filepath.Join(dir, "v0.0.1.zip"))
	info := must.Get(json.Marshal(map[string]any{"Version": version.Version, "Time": time.Unix(0, 0).UTC()}))
	gomod := filetest.Read(t, filepath.Join(root, "go.mod"))
	for name, data := range map[string][]byte{"v0.0.1.info": info, "v0.0.1.mod": gomod, "list": []byte("v0.0.1\n")} {
		filetest.Write(t, filepath.Join(dir, name), data)
	}

	cache, err := exec.CommandContext(t.Context(), "go", "env", "GOMODCACHE").Output()
	if err != nil {
		t.Fatal(err)
	}
	mine := t.TempDir()
	t.Cleanup(func() { // the go command makes what it unpacks read-only
		_ = filepath.WalkDir(mine, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				err = os.Chmod(path, 0o777)
			}
			return err
		})
	})
	env := append(os.Environ(), "GOMODCACHE="+mine, "GONOSUMDB="+version.Path,
		"GOPROXY="+fileURL(proxy)+","+fileURL(filepath.Join(strings.TrimSpace(string(cache)), "cache", "download")))
	c := Config{Dir: t.TempDir(), Env: env, Info: &debug.BuildInfo{Main: debug.Module{Path: version.Path, Version: version.Version}}}
	out, err := c.run(t.Context(), proxy, []string{"GOFLAGS="}, "mod", "download", "-json", version.String())
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(out, &c.Info.Main); err != nil {
		t.Fatal(err)
	}
	return c
}

func fileURL(dir string) string { return "file:///" + strings.TrimPrefix(filepath.ToSlash(dir), "/") }

// pack packs the module below root, as it would be committed, into file.
func pack(t *testing.T, version module.Version, root, file string) {
	t.Helper()
	list := exec.CommandContext(t.Context(), "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	list.Dir = root
	names, err := list.Output()
	if err != nil {
		t.Skipf("git ls-files: %v: this needs git and a clone", err)
	}
	var files []modzip.File
	for name := range strings.SplitSeq(strings.TrimSuffix(string(names), "\x00"), "\x00") {
		if _, err := os.Lstat(filepath.Join(root, name)); err == nil { // not removed
			files = append(files, committed{root, name})
		}
	}
	f := filetest.Create(t, file)
	if err := modzip.Create(f, version, files); err != nil {
		t.Fatal(err)
	}
	// Nothing that is built by `make` may be in it.
	r, err := zip.OpenReader(file)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for _, f := range r.File {
		if strings.Contains(f.Name, "/embedded/bin/a") {
			t.Fatalf("the module has %s", f.Name)
		}
	}
}

// committed is a file of the module.
type committed struct{ root, name string }

func (f committed) Path() string                 { return f.name }
func (f committed) Lstat() (fs.FileInfo, error)  { return os.Lstat(filepath.Join(f.root, f.name)) }
func (f committed) Open() (io.ReadCloser, error) { return os.Open(filepath.Join(f.root, f.name)) }
