//go:build components

package gomod

import (
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/tree"
)

// TestComponentSources finds the modules of real components, when asked as
// TestComponents is, for both architectures:
//
//	go test -tags components -run ComponentSources -v -timeout 1h ./bake/source/gomod -components runc,crictl
func TestComponentSources(t *testing.T) {
	builder, err := New(Config{Env: os.Environ(), Dir: t.TempDir(), Progress: &logSink{t: t}})
	if err != nil {
		t.Fatal(err)
	}
	forComponents(t, func(t *testing.T, c manifest.Component, modfiles fs.FS) {
		began := time.Now()
		count := map[string]int{}
		var size int64
		err := builder.Sources(t.Context(), []manifest.Component{c}, []manifest.Arch{manifest.AMD64, manifest.ARM64}, modfiles,
			func(f File, open func() (io.ReadCloser, error)) error {
				count[filepath.Ext(f.Path)]++
				size += f.Size
				return nil
			})
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %v, %d bytes, after %v", c.Name, count, size, time.Since(began).Round(time.Second/10))
	})
}

// forComponents runs test for each of -components.
func forComponents(t *testing.T, test func(t *testing.T, c manifest.Component, modfiles fs.FS)) {
	if *componentsFlag == "" {
		t.Fatal("say which components: -components runc,crictl")
	}
	data, err := os.ReadFile(*versionsFlag)
	if err != nil {
		t.Fatal(err)
	}
	versions, err := manifest.ParseVersions(*versionsFlag, data)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range versions.Components {
		if c.Module == nil || *componentsFlag != "all" && !slices.Contains(strings.Split(*componentsFlag, ","), c.Name) {
			continue
		}
		t.Run(c.Name, func(t *testing.T) { test(t, c, os.DirFS(filepath.Dir(*versionsFlag))) })
	}
}

// TestComponentsOffline builds real components twice, as usual, and without a
// network from what Sources and Toolchain found, with an empty module cache: the
// same programs must come out. A toolchain that is not the host's own must be
// verified by what was found of the checksum database. Asked for as
// TestComponents is:
//
//	go test -tags components -run ComponentsOffline -v -timeout 1h ./bake/source/gomod -components crictl
func TestComponentsOffline(t *testing.T) {
	forComponents(t, func(t *testing.T, c manifest.Component, modfiles fs.FS) {
		arch := manifest.Arch(*archFlag)
		env := os.Environ()
		usual, built, err := newBuilder(t, Config{Env: env, Debs: aptDebs{t.TempDir()}}).Build(t.Context(), c, arch, modfiles)
		if err != nil {
			t.Fatal(err)
		}
		files := proxyFiles{}
		b := newBuilder(t, Config{Env: env})
		if err := b.Sources(t.Context(), []manifest.Component{c}, []manifest.Arch{arch}, modfiles, files.add(t)); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if err := b.Toolchain(t.Context(), c.Module.Toolchain, runtime.GOOS+"-"+runtime.GOARCH, files.add(t)); err != nil {
			t.Fatal(err)
		}
		t.Logf("toolchain after %v", time.Since(began).Round(time.Second/10))
		offline := func(files proxyFiles) (*tree.Pack, Built, error) {
			offlineEnv := append(slices.Clone(env), "GOMODCACHE="+filepath.Join(t.TempDir(), "mod"), "GOPROXY=https://proxy.invalid")
			b := newBuilder(t, Config{Env: offlineEnv, Debs: aptDebs{t.TempDir()}, Proxy: files.proxy(t), Offline: true, Go: unshared(t), Progress: &logSink{t: t}})
			began := time.Now()
			if err := b.Preflight(t.Context(), c, arch, modfiles); err != nil {
				return nil, Built{}, err
			}
			t.Logf("Preflight after %v", time.Since(began).Round(time.Second/10))
			defer func() { t.Logf("Build after %v", time.Since(began).Round(time.Second/10)) }()
			return b.Build(t.Context(), c, arch, modfiles)
		}
		pack, again, err := offline(files)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(usual.Chunks, pack.Chunks); diff != "" {
			t.Errorf("programs (-usual +offline):\n%s", diff)
		}
		if diff := cmp.Diff(built, again); diff != "" {
			t.Errorf("the builds describe themselves (-usual +offline):\n%s", diff)
		}
		t.Logf("%v", pack.Chunks[0])

		if c.Module.Toolchain == runtime.Version() {
			return
		}
		// Every file of the checksum database is needed, and believed only with
		// its signature.
		for _, name := range slices.Sorted(maps.Keys(files)) {
			if !strings.HasPrefix(name, "sumdb/") {
				continue
			}
			less := maps.Clone(files)
			delete(less, name)
			if _, _, err := offline(less); err == nil || !strings.Contains(err.Error(), "golang.org/toolchain@v0.0.1-"+c.Module.Toolchain) {
				t.Errorf("without %s: %v; want that the toolchain can't be verified", name, err)
			}
			altered := []byte(files[name])
			altered[len(altered)/3] ^= 1
			less[name] = string(altered)
			if _, _, err := offline(less); err == nil {
				t.Errorf("with %s altered: no error; want that the toolchain can't be verified", name)
			} else {
				t.Logf("with %s altered: %v", name, err)
			}
		}
	})
}
