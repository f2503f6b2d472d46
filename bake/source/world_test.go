package source

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"golang.org/x/tools/txtar"

	"github.com/nodebake/bake/bake/arch"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/progress"
	"github.com/nodebake/bake/bake/source/fetch"
	"github.com/nodebake/bake/bake/source/gobuild"
	"github.com/nodebake/bake/bake/source/mirror"
	"github.com/nodebake/bake/bake/source/store"
	"github.com/nodebake/bake/test/filetest"
	"github.com/nodebake/bake/test/must"
)

// worldModules are files of modules, MODULE@VERSION/FILE. Two components are built
// from one and an image from another. They have a third in common.
const worldModules = `
-- example.com/hello@v1.0.0/go.mod --
module example.com/hello

go 1.21

require example.com/Word v0.1.0
-- example.com/hello@v1.0.0/main.go --
package main

import word "example.com/Word"

func main() { println("hello", word.Word) }
-- example.com/hello@v1.0.0/again/main.go --
package main

import word "example.com/Word"

func main() { println("hello again", word.Word) }
-- example.com/pod@v1.1.0/go.mod --
module example.com/pod

go 1.21

require example.com/Word v0.1.0
-- example.com/pod@v1.1.0/main.go --
package main

import word "example.com/Word"

func main() { println("pod", word.Word) }
-- example.com/Word@v0.1.0/go.mod --
module example.com/Word

go 1.21
-- example.com/Word@v0.1.0/word.go --
package word

const Word = "world"
`

// world is a versions file's module directory, its components and image, and the
// user's environment with modules at hand.
type world struct {
	versions manifest.Versions
	modules  fstest.MapFS
	env      []string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{modules: fstest.MapFS{}, env: userEnv(t, writeModules(t, worldModules))}
	module := func(name, version string) *manifest.Module {
		pins, err := gobuild.New(gobuild.Config{Env: w.env, Dir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		m := &manifest.Module{
			Path: "example.com/" + name, Version: version, Toolchain: runtime.Version(), Dir: "modules/" + name,
			Programs: []manifest.Program{{Package: "example.com/" + name, Path: "/bin/" + name}},
		}
		pinned, err := pins.Pin(t.Context(), name, m.Path, version, m.Toolchain, []string{m.Path})
		if err != nil {
			t.Fatal(err)
		}
		w.modules[m.Dir+"/go.mod"] = &fstest.MapFile{Data: pinned.GoMod}
		w.modules[m.Dir+"/go.sum"] = &fstest.MapFile{Data: pinned.GoSum}
		return m
	}
	hello := module("hello", "v1.0.0")
	again := *hello
	again.Programs = []manifest.Program{{Package: "example.com/hello/again", Path: "/bin/again"}}
	w.versions.Components = []manifest.Component{
		{Name: "hello", Version: "v1.0.0", Module: hello},
		{Name: "other", Version: "v1.0.0"},
		{Name: "again", Version: "v1.0.0", Module: &again},
	}
	w.versions.Images = []manifest.ContainerImage{
		{Name: "pod", Reference: "registry.invalid/pod:v1.1.0", Module: module("pod", "v1.1.0")},
	}
	return w
}

// userEnv is the environment of a user without modules. GOSUMDB is off, so that
// no toolchain can be mirrored.
func userEnv(t *testing.T, proxy string) []string {
	cache := filepath.Join(t.TempDir(), "mod")
	t.Cleanup(func() {
		filepath.WalkDir(cache, func(name string, d os.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				os.Chmod(name, 0o777)
			}
			return nil
		})
	})
	return append(os.Environ(), "GOPROXY="+proxy, "GOMODCACHE="+cache, "GOSUMDB=off", "GOENV=off")
}

// writeModules writes a module proxy and returns its URL.
func writeModules(t *testing.T, modules string) string {
	t.Helper()
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		filetest.Write(t, name, text)
	}
	archives := map[string]*bytes.Buffer{}
	var order []*zip.Writer
	writers := map[string]*zip.Writer{}
	for _, f := range txtar.Parse([]byte(modules)).Files {
		name, rest, _ := strings.Cut(f.Name, "@")
		version, _, _ := strings.Cut(rest, "/")
		base := filepath.Join(dir, filepath.FromSlash(strings.ReplaceAll(name, "W", "!w")), "@v", version)
		if writers[base] == nil {
			filetest.Mkdir(t, filepath.Dir(base))
			archives[base] = new(bytes.Buffer)
			writers[base] = zip.NewWriter(archives[base])
			order = append(order, writers[base])
			write(base+".info", `{"Version":"`+version+`"}`)
		}
		if path.Base(f.Name) == "go.mod" {
			write(base+".mod", string(f.Data))
		}
		z, err := writers[base].Create(f.Name)
		if err != nil {
			t.Fatal(err)
		}
		must.Get(z.Write(f.Data))
	}
	for _, z := range order {
		must.Do(z.Close())
	}
	for base, buf := range archives {
		write(base+".zip", buf.String())
	}
	return "file://" + filepath.ToSlash(dir)
}

// notes remembers what people were told, and how many tasks were announced.
type notes struct {
	mu       sync.Mutex
	lines    []string
	tasks    []string // "fetch modules of hello v1.0.0: done", as they ended
	expected int
	started  int
}

func (n *notes) Note(format string, args ...any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lines = append(n.lines, fmt.Sprintf(format, args...))
}

func (n *notes) Expect(tasks int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.expected += tasks
}

func (n *notes) Start(verb, name string, _ int64) progress.Task {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.started++
	return &notedTask{n, verb + " " + name}
}

type notedTask struct {
	*notes
	name string
}

func (*notedTask) Add(int64) {}

func (t *notedTask) End(result string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.tasks = append(t.tasks, t.name+": "+result)
}

// source returns a Source with a store in dir, whose modules come from m where
// it is not nil.
func (w *world) source(t *testing.T, dir string, env []string, m *mirror.Mirror, offline bool) *Source {
	t.Helper()
	kept := must.Get(store.Open(dir))
	t.Cleanup(func() { kept.Close() })
	said := &notes{}
	config := fetch.Config{Store: kept, Backoff: time.Millisecond, Retries: 1, Progress: said}
	if m != nil {
		config.Mirror, config.Offline = m, offline
	}
	fetcher, err := fetch.New(config)
	if err != nil {
		t.Fatal(err)
	}
	s := New(Config{Arch: arch.Arch(runtime.GOARCH), Store: kept, Fetcher: fetcher, Modules: w.modules, Progress: said})
	modules := gobuild.Config{Packs: s.Packs(), Env: env, Dir: filepath.Join(dir, "build"), Offline: offline, Progress: said}
	if m != nil {
		modules.Proxy = s.ModuleProxy(m.Index(), offline)
	}
	if s.Builder, err = gobuild.New(modules); err != nil {
		t.Fatal(err)
	}
	return s
}

// mirrored puts w's sources into a mirror, as `bake mirror --sources` does, and
// returns its directory and the paths of what is in it.
func (w *world) mirrored(t *testing.T, s *Source) (dir string, paths []string) {
	t.Helper()
	dir = t.TempDir()
	m, err := mirror.Create(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	index := &mirror.Index{Schema: mirror.Schema}
	add := func(e mirror.Entry, open func() (io.ReadCloser, error)) error {
		r, err := open()
		if err != nil {
			return err
		}
		defer r.Close()
		e.Sets = []string{"world"}
		index.Entries = append(index.Entries, e)
		return m.Add(t.Context(), e.SHA256, e.Size, r)
	}
	if err := s.Sources(t.Context(), gobuild.Targets(&w.versions), []arch.Arch{arch.AMD64, arch.ARM64}, nil, func(e mirror.Entry, open func() (io.ReadCloser, error)) error {
		paths = append(paths, e.Path+": "+e.Name)
		return add(e, open)
	}); err != nil {
		t.Fatal(err)
	}
	set := mirror.Set{Name: "world", Archs: []arch.Arch{arch.AMD64, arch.ARM64}, Sources: true}
	for kind, sum := range map[mirror.Kind]*manifest.Digest{mirror.Versions: &set.Versions, mirror.Lock: &set.Lock} {
		text := string(kind)
		*sum = manifest.SHA256(sha256.Sum256([]byte(text)))
		err := add(mirror.Entry{Kind: kind, Name: text, Path: "world/" + text, SHA256: *sum, Size: int64(len(text))},
			func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(text)), nil })
		if err != nil {
			t.Fatal(err)
		}
	}
	index.Sets = []mirror.Set{set}
	if err := m.Commit(t.Context(), index, nil); err != nil {
		t.Fatal(err)
	}
	return dir, paths
}

func openMirror(t *testing.T, location string) *mirror.Mirror {
	t.Helper()
	m, err := mirror.Open(t.Context(), location, func(ctx context.Context, url string, limit int64) ([]byte, error) {
		resp, err := http.Get(url)
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close()
		return io.ReadAll(io.LimitReader(resp.Body, limit))
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// build builds all of w and returns the digests of the programs.
func (w *world) build(t *testing.T, s *Source) (string, error) {
	t.Helper()
	var out strings.Builder
	for _, target := range gobuild.Targets(&w.versions) {
		if err := s.Builder.Preflight(t.Context(), target, s.Arch, s.Modules); err != nil {
			return "", err
		}
		pack, built, err := s.Builder.Build(t.Context(), target, s.Arch, s.Modules)
		if err != nil {
			return "", err
		}
		for _, e := range pack.Entries {
			fmt.Fprintf(&out, "%s %s %s\n", e.SHA256, e.Path, built.Key)
		}
	}
	return out.String(), nil
}
