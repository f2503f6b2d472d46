package gobuild

import (
	"archive/zip"
	"bytes"
	"context"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/fstest"

	"golang.org/x/tools/txtar"

	"github.com/nodebake/bake/bake/arch"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/source/store"
	"github.com/nodebake/bake/test/filetest"
	"github.com/nodebake/bake/test/must"
)

// toyModules are the modules that the tests' proxy has. Files are named
// MODULE@VERSION/FILE. toy's own go.mod replaces dep by fork: a wrapper that
// does not repeat this builds another program.
const toyModules = `
-- example.com/toy@v1.2.3/go.mod --
module example.com/toy

go 1.21

require example.com/dep v1.0.0

replace example.com/dep => example.com/fork v1.1.0
-- example.com/toy@v1.2.3/LICENSE --
Toy's own license.
-- example.com/toy@v1.2.3/version/NOTICE.txt --
A notice about versions.
-- example.com/toy@v1.2.3/unused/LICENSE --
Of nothing that is linked.
-- example.com/toy@v1.2.3/unused/unused.go --
package unused
-- example.com/toy@v1.2.3/version/version.go --
package version

var Version = "unknown"
-- example.com/toy@v1.2.3/cmd/hello/main.go --
package main

import (
	"example.com/dep"
	"example.com/toy/version"
)

func main() { println("hello", version.Version, dep.Name()) }
-- example.com/toy@v1.2.3/cmd/bye/v2/main.go --
package main

func main() { println(word) }
-- example.com/toy@v1.2.3/cmd/bye/v2/polite.go --
//go:build polite

package main

const word = "goodbye"
-- example.com/toy@v1.2.3/cmd/bye/v2/curt.go --
//go:build !polite

package main

const word = "bye"
-- example.com/toy@v1.2.3/cmd/broken/main.go --
package main

func main() { println(undefinedName) }
-- example.com/dep@v1.0.0/go.mod --
module example.com/dep

go 1.21
-- example.com/dep@v1.0.0/dep.go --
package dep

func Name() string { return "dep" }
-- example.com/fork@v1.1.0/go.mod --
module example.com/dep

go 1.21
-- example.com/fork@v1.1.0/COPYING --
The fork's license.
-- example.com/fork@v1.1.0/dep.go --
package dep

func Name() string { return "fork" }
`

// writeProxy writes modules as a module proxy in a directory of its own
// (go.dev/ref/mod#module-proxy) and returns its URL for GOPROXY.
func writeProxy(t *testing.T, modules string) string {
	t.Helper()
	dir := t.TempDir()
	zips := map[string]*zip.Writer{}
	bufs := map[string]*bytes.Buffer{}
	for _, f := range txtar.Parse([]byte(modules)).Files {
		at := strings.Index(f.Name, "@")
		name, rest := f.Name[:at], f.Name[at+1:]
		version, _, _ := strings.Cut(rest, "/")
		base := filepath.Join(dir, name, "@v", version)
		if zips[base] == nil {
			filetest.Mkdir(t, filepath.Dir(base))
			bufs[base] = new(bytes.Buffer)
			zips[base] = zip.NewWriter(bufs[base])
			writeFile(t, base+".info", `{"Version":"`+version+`"}`)
		}
		if path.Base(f.Name) == "go.mod" {
			writeFile(t, base+".mod", string(f.Data))
		}
		w, err := zips[base].Create(f.Name)
		if err != nil {
			t.Fatal(err)
		}
		must.Get(w.Write(f.Data))
	}
	for base, w := range zips {
		must.Do(w.Close())
		writeFile(t, base+".zip", bufs[base].String())
	}
	return "file://" + filepath.ToSlash(dir)
}

func writeFile(t *testing.T, name, text string) {
	t.Helper()
	filetest.Write(t, name, text)
}

// toyEnv is the environment of a user whose modules come from proxy and who
// has none yet. The build cache is that of whoever runs the test.
func toyEnv(t *testing.T, proxy string) []string {
	t.Helper()
	cache := filepath.Join(t.TempDir(), "mod")
	t.Cleanup(func() {
		// The go command makes the module cache read-only.
		filepath.WalkDir(cache, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				os.Chmod(path, 0o777)
			}
			return nil
		})
	})
	return append(os.Environ(), "GOPROXY="+proxy, "GOMODCACHE="+cache, "GOSUMDB=off", "GOFLAGS=-tags=surprise", "GOENV=off")
}

// toolchain is the go command that runs the test.
func toolchain(t *testing.T) string {
	t.Helper()
	if _, err := exec.LookPath("go"); err != nil {
		t.Fatal("the tests of building Go modules need go")
	}
	return runtime.Version()
}

// toy is a target of the proxy's modules and what pins it.
type toy struct {
	target   Target
	modfiles fstest.MapFS
	proxy    string
}

// newToy pins example.com/toy.
func newToy(t *testing.T) *toy {
	t.Helper()
	return newToyOf(t, toyModules, "example.com/toy/cmd/hello", "example.com/toy/cmd/bye/v2", "example.com/toy/cmd/broken")
}

// newToyOf pins example.com/toy as modules have it, for programs.
func newToyOf(t *testing.T, modules string, programs ...string) *toy {
	t.Helper()
	toy := &toy{proxy: writeProxy(t, modules)}
	toy.target = Target{
		Name:    "hello",
		Version: "1.2.3",
		Module: &manifest.Module{
			Path:      "example.com/toy",
			Version:   "v1.2.3",
			Toolchain: toolchain(t),
			Dir:       "modules/toy",
			Programs:  []manifest.Program{{Package: "example.com/toy/cmd/hello", Path: "/usr/local/bin/hello"}},
			Stamp:     map[string]string{"example.com/toy/version.Version": "v1.2.3"},
		},
	}
	b := newBuilder(t, Config{Env: toyEnv(t, toy.proxy)})
	pinned, err := b.Pin(t.Context(), "toy", "example.com/toy", "v1.2.3", toolchain(t), programs)
	if err != nil {
		t.Fatal(err)
	}
	toy.modfiles = fstest.MapFS{
		"modules/toy/go.mod": {Data: pinned.GoMod},
		"modules/toy/go.sum": {Data: pinned.GoSum},
	}
	return toy
}

// newBuilder completes c with a store and a scratch directory, which it checks
// to be left empty but for logs.
func newBuilder(t *testing.T, c Config) *Builder {
	t.Helper()
	if c.Packs == nil {
		packs := must.Get(store.Open(t.TempDir()))
		t.Cleanup(func() { packs.Close() })
		c.Packs = packs
	}
	if c.Dir == "" {
		c.Dir = filepath.Join(t.TempDir(), "scratch with a space")
	}
	t.Cleanup(func() {
		left, _ := os.ReadDir(c.Dir)
		for _, e := range left {
			if filepath.Ext(e.Name()) != ".log" {
				t.Errorf("%s is left in the scratch directory", e.Name())
			}
		}
	})
	b, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// build builds toy as it is now.
func (toy *toy) build(ctx context.Context, t *testing.T, c Config) (string, Built, error) {
	t.Helper()
	if c.Env == nil {
		c.Env = toyEnv(t, toy.proxy)
	}
	pack, built, err := newBuilder(t, c).Build(ctx, toy.target, arch.Arch(runtime.GOARCH), toy.modfiles)
	if err != nil {
		return "", Built{}, err
	}
	var out strings.Builder
	for _, e := range pack.Entries {
		out.WriteString(e.SHA256.String() + " " + e.Path + "\n")
	}
	return out.String(), built, nil
}
