//go:build system

package gobuild_test

import (
	"context"
	"crypto/sha256"
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

	"github.com/nodebake/bake/bake/arch"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/source/gobuild"
	"github.com/nodebake/bake/bake/source/store"
	"github.com/nodebake/bake/bake/tree"
	"github.com/nodebake/bake/test/filetest"
	"github.com/nodebake/bake/test/must"
)

// TestComponentSources finds the modules of real components for both
// architectures.
func TestComponentSources(t *testing.T) {
	builder, err := gobuild.New(gobuild.Config{Env: os.Environ(), Dir: t.TempDir(), Progress: sink(t)})
	if err != nil {
		t.Fatal(err)
	}
	forComponents(t, func(t *testing.T, target gobuild.Target, modfiles fs.FS) {
		began := time.Now()
		count := map[string]int{}
		var size int64
		err := builder.Sources(t.Context(), []gobuild.Target{target}, []arch.Arch{arch.AMD64, arch.ARM64}, modfiles,
			func(f gobuild.File, open func() (io.ReadCloser, error)) error {
				count[filepath.Ext(f.Path)]++
				size += f.Size
				return nil
			})
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %v, %d bytes, after %v", target.Name, count, size, time.Since(began).Round(time.Second/10))
	})
}

// TestComponentsOffline builds real components twice, as usual, and without a
// network from what Sources and Toolchain found, with an empty module cache: the
// same programs must come out. A toolchain that is not the host's own must be
// verified by what was found of the checksum database.
func TestComponentsOffline(t *testing.T) {
	forComponents(t, func(t *testing.T, target gobuild.Target, modfiles fs.FS) {
		a := arch.Arch(*archFlag)
		env := os.Environ()
		usual, built, err := newBuilder(t, gobuild.Config{Env: env, Unpack: unpackDeb}).Build(t.Context(), target, a, modfiles)
		if err != nil {
			t.Fatal(err)
		}
		files := proxyFiles{}
		b := newBuilder(t, gobuild.Config{Env: env})
		if err := b.Sources(t.Context(), []gobuild.Target{target}, []arch.Arch{a}, modfiles, files.add(t)); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if err := b.Toolchain(t.Context(), target.Module.Toolchain, runtime.GOOS+"-"+runtime.GOARCH, files.add(t)); err != nil {
			t.Fatal(err)
		}
		t.Logf("toolchain after %v", time.Since(began).Round(time.Second/10))
		offline := func(files proxyFiles) (*tree.Pack, gobuild.Built, error) {
			offlineEnv := append(slices.Clone(env), "GOMODCACHE="+filepath.Join(t.TempDir(), "mod"), "GOPROXY=https://proxy.invalid")
			b := newBuilder(t, gobuild.Config{Env: offlineEnv, Unpack: unpackDeb, Proxy: files.proxy, Offline: true, Go: unshared(t), Progress: sink(t)})
			began := time.Now()
			if err := b.Preflight(t.Context(), target, a, modfiles); err != nil {
				return nil, gobuild.Built{}, err
			}
			t.Logf("Preflight after %v", time.Since(began).Round(time.Second/10))
			defer func() { t.Logf("Build after %v", time.Since(began).Round(time.Second/10)) }()
			return b.Build(t.Context(), target, a, modfiles)
		}
		pack, again, err := offline(files)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(usual.Chunks, pack.Chunks); diff != "" {
			t.Errorf("programs (-usual +offline):\n%s", diff)
		}
		// The host's toolchain is a file of the host, and a mirror's a module.
		built.Tools, again.Tools = nil, nil
		if diff := cmp.Diff(built, again); diff != "" {
			t.Errorf("the builds describe themselves (-usual +offline):\n%s", diff)
		}
		t.Logf("%v", pack.Chunks[0])

		if target.Module.Toolchain == runtime.Version() {
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
			if _, _, err := offline(less); err == nil || !strings.Contains(err.Error(), "golang.org/toolchain@v0.0.1-"+target.Module.Toolchain) {
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

// newBuilder completes c with a store and a scratch directory.
func newBuilder(t *testing.T, c gobuild.Config) *gobuild.Builder {
	t.Helper()
	packs := must.Get(store.Open(t.TempDir()))
	t.Cleanup(func() { packs.Close() })
	c.Packs, c.Dir = packs, t.TempDir()
	b, err := gobuild.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// proxyFiles are the files of a module proxy by their paths.
type proxyFiles map[string]string

// add is an argument of Builder.Sources and Builder.Toolchain.
func (p proxyFiles) add(t *testing.T) func(f gobuild.File, open func() (io.ReadCloser, error)) error {
	return func(f gobuild.File, open func() (io.ReadCloser, error)) error {
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
		p[f.Path] = string(data)
		return nil
	}
}

// proxy is a Config.Proxy.
func (p proxyFiles) proxy(_ context.Context, dir string, wants func(path string) bool) error {
	for name, content := range p {
		if !wants(name) {
			continue
		}
		file := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o777); err != nil {
			return err
		}
		if err := os.WriteFile(file, []byte(content), 0o444); err != nil {
			return err
		}
	}
	return nil
}

// unshared returns a go command without any network.
func unshared(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "go")
	filetest.Script(t, file, "#!/bin/sh\nexec unshare --map-root-user --net go \"$@\"\n")
	return file
}
