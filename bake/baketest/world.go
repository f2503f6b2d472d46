// Package baketest is a tiny world to bake in, for tests that go the whole way
// without a network: a signed archive of made-up Debian packages and a server of
// releases on this machine, a Go module proxy in a directory, an image
// definition and a versions file.
//
// Everything has the form of the real thing and no meaning: the kernel does not
// boot and the programs do not run. Firstboot and init are the real ones, which
// `make` builds; a test that composes an image fails where they are missing.
package baketest

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nodebake/bake/bake"
	"github.com/nodebake/bake/bake/arch"
	"github.com/nodebake/bake/bake/inputs"
	"github.com/nodebake/bake/bake/lock"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/source"
	"github.com/nodebake/bake/bake/source/debian/debiantest"
	"github.com/nodebake/bake/bake/source/oci/ocitest"
	"github.com/nodebake/bake/images/worker"
	"github.com/nodebake/bake/units"
)

// World is what bake sees of the world, until a test changes it. Its methods
// end the test where they fail.
type World struct {
	Dir      string // holds versions.yaml, definition/ and modules/
	Versions string // path of versions.yaml
	*Server         // archives, releases

	Now      time.Time  // while the archive's indices are valid
	Keyring  []byte     // armored public key of the archive
	Packages []*Package // in the archive, once Publish has run
	ARM64    bool       // its indices have the same for arm64, of which there are no files

	Kubelet    []byte // its release: a program
	Containerd []byte // its release: a tar.gz

	Registry *ocitest.Registry // nil until AddImages

	t         testing.TB
	publisher *debiantest.Publisher
	proxy     string // of Go modules, a URL

	images     string // of the versions file; "" for none
	definition string // directory of the image definition
}

// New returns a world with its archive published and its files written. Only
// the lock is missing.
func New(t testing.TB) *World {
	t.Helper()
	w := &World{
		Dir: t.TempDir(), Server: newServer(t), t: t,
		Now:        time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC),
		Kubelet:    program("kubelet", 300_000),
		Containerd: Tarball(File{Path: "bin/containerd", Mode: 0o755, Content: string(program("containerd", 1_400_000))}),
		Packages:   packages(),
	}
	w.Versions, w.definition = filepath.Join(w.Dir, "versions.yaml"), filepath.Join(w.Dir, "definition")
	w.publisher = debiantest.NewPublisher(t, w.Now.AddDate(-1, 0, 0))
	w.Keyring = w.publisher.Keyring
	w.Publish()
	w.makeModule()
	w.WriteVersions()
	for name, text := range definition {
		w.write(filepath.Join("definition", name), text)
	}
	return w
}

// NewLocked returns a world with its lock made.
func NewLocked(t testing.TB) *World {
	t.Helper()
	w := New(t)
	w.Lock()
	return w
}

// NewBaked returns a world with its lock made, and the digest of its image.
func NewBaked(t testing.TB) (*World, manifest.Digest) {
	t.Helper()
	w := NewLocked(t)
	c := w.Config()
	result := w.Image(c)
	WantImage(t, c, result, result.SHA256)
	return w, result.SHA256
}

// Shutdown ends all servers of the world.
func (w *World) Shutdown() {
	w.server.Close()
	if w.Registry != nil {
		w.Registry.Close()
	}
}

// definition is what images/worker is to the real world: the versions file names
// it.
var definition = map[string]string{
	"image.yaml": `name: tiny
packages:
- linux-image-{arch}
- shim-signed
- systemd-boot-efi-{arch}-signed
- tool
kernel:
  arguments:
  - console=ttyS0,38400n8d
  modules:
  - virtio_scsi
units:
  enable:
    firstboot.service: it is the point
  mask:
    kexec.service: for the sake of one
modes:
  /etc/tiny.secret: 0600
`,
	"configure.yaml": `base-files:
  directories:
  - {path: /srv, group: shadow, mode: 2775}
  symlinks:
  - {path: /var/run, to: /run}
tool:
  users:
  - {name: tool, id: 101, group-id: 101, comment: Tool, home: /var/lib/tool}
  permissions:
  - {path: /usr/bin/tool, group: tool, mode: 2755}
  alternatives:
  - {name: t, link: /usr/bin/t, path: /usr/bin/tool, priority: 10}
`,
	"differences.yaml":      "differences: []\n",
	"files/etc/tiny.secret": "secret\n",
	"files/etc/tool.conf":   "changed = yes\n",
}

// Config is a configuration to bake this world with, with an empty store and
// an output directory that is not there yet.
func (w *World) Config() bake.Config {
	w.t.Helper()
	dir := w.t.TempDir()
	return bake.Config{
		Files: inputs.Files{
			Versions:   w.Versions,
			Definition: worker.FS(), // the versions file names another
			Arch:       arch.AMD64,
		},
		Options: source.Options{Cache: filepath.Join(dir, "cache"), DebianMirrors: []string{w.URL}, Env: w.Env(), Jobs: 2},
		Units:   units.FS(),
		Out:     filepath.Join(dir, "out"),
	}
}

// LockConfig is a configuration to lock with what c bakes with.
func (w *World) LockConfig(c bake.Config) lock.Config {
	return lock.Config{Files: c.Files, Options: c.Options, Keyring: w.Keyring, Now: w.Now}
}

// Definition is the directory of the image definition.
func (w *World) Definition() string { return w.definition }

// Checkout lays the world out as a checkout of this project is, without a lock:
// the versions file is in manifests/, the image definition in images/worker/.
func (w *World) Checkout() {
	w.t.Helper()
	w.Edit("versions.yaml", "definition: definition\n", "definition: ../images/worker\n")
	for _, dir := range []string{"manifests", "images"} {
		if err := os.Mkdir(filepath.Join(w.Dir, dir), 0o755); err != nil {
			w.t.Fatal(err)
		}
	}
	w.Versions, w.definition = filepath.Join(w.Dir, "manifests", "versions.yaml"), filepath.Join(w.Dir, "images", "worker")
	for from, to := range map[string]string{"versions.yaml": w.Versions, "modules": filepath.Join(w.Dir, "manifests", "modules"), "definition": w.definition} {
		if err := os.Rename(filepath.Join(w.Dir, from), to); err != nil {
			w.t.Fatal(err)
		}
	}
}

// LockFile is the path of the lock that Lock writes.
func (w *World) LockFile() string { return manifest.LockFile(w.Versions) }

// Lock makes the lock of what is newest.
func (w *World) Lock() {
	w.t.Helper()
	c := w.LockConfig(w.Config())
	c.UpgradeAll = true
	w.LockWith(c)
}

// LockWith makes a lock by c.
func (w *World) LockWith(c lock.Config) {
	w.t.Helper()
	if _, err := Lock(w.t.Context(), c, arch.AMD64); err != nil {
		w.t.Fatalf("Lock() = %v", err)
	}
}

// Lock locks.
func Lock(ctx context.Context, c lock.Config, arches ...arch.Arch) (*lock.Result, error) {
	l, err := lock.New(c)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	return l.Lock(ctx, arches)
}

// CheckLock checks a lock.
func CheckLock(ctx context.Context, c lock.Config) (*lock.Report, error) {
	l, err := lock.New(c)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	return l.Check(ctx)
}

// Image bakes.
func Image(ctx context.Context, c bake.Config) (*bake.Result, error) {
	b, err := bake.New(c)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	return b.Image(ctx)
}

// Image bakes, and must succeed.
func (w *World) Image(c bake.Config) *bake.Result {
	w.t.Helper()
	result, err := Image(w.t.Context(), c)
	if err != nil {
		w.t.Fatalf("Image() = %v", err)
	}
	return result
}

// Snapshot returns a function that makes the world what it is now again.
func (w *World) Snapshot() (restore func()) {
	w.t.Helper()
	w.mu.Lock()
	served := maps.Clone(w.files)
	w.mu.Unlock()
	packages, now, kubelet, containerd := clone(w.Packages), w.Now, w.Kubelet, w.Containerd
	saved := filepath.Join(w.t.TempDir(), "world")
	if err := os.CopyFS(saved, os.DirFS(w.Dir)); err != nil {
		w.t.Fatal(err)
	}
	return func() {
		w.t.Helper()
		w.mu.Lock()
		w.files, w.faults, w.got = maps.Clone(served), map[string]http.HandlerFunc{}, nil
		w.mu.Unlock()
		w.Packages, w.Now, w.Kubelet, w.Containerd = clone(packages), now, kubelet, containerd
		if err := errors.Join(os.RemoveAll(w.Dir), os.CopyFS(w.Dir, os.DirFS(saved))); err != nil {
			w.t.Fatal(err)
		}
	}
}

func clone(packages []*Package) []*Package {
	var out []*Package
	for _, p := range packages {
		c := *p
		c.Files = slices.Clone(p.Files)
		out = append(out, &c)
	}
	return out
}

// Edit replaces text in a file of Dir, in which it must stand once.
func (w *World) Edit(file, old, new string) {
	w.t.Helper()
	text, err := os.ReadFile(filepath.Join(w.Dir, file))
	if err != nil {
		w.t.Fatal(err)
	}
	if n := strings.Count(string(text), old); n != 1 {
		w.t.Fatalf("%q stands %d times in %s; want once", old, n, file)
	}
	w.write(file, strings.Replace(string(text), old, new, 1))
}

func (w *World) write(file, text string) {
	w.t.Helper()
	path := filepath.Join(w.Dir, file)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		w.t.Fatal(err)
	}
}
