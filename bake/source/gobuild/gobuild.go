// Package gobuild builds the programs of a component or container image from its Go
// module, for hosts that cannot reach what was published.
//
// Everything that decides the bytes is pinned: the module and its version, the
// toolchain, and, by the go.mod and go.sum that are committed for it, every
// dependency. The go command runs with -mod=readonly, so that a module whose
// content is not the one in go.sum is refused, and the checksum database is
// asked only for toolchains (golang.org/ref/mod#authenticating). Builds are
// made with -trimpath, without VCS stamps and build IDs, and in an
// environment that has nothing of the user's but what env.go names: the same
// identity gives the same bytes, in any directory, for any user, from
// a cold or a warm build cache. The user's own module and build cache are used,
// because both are checked by content and save minutes.
//
// For hosts without a network, [Builder.Sources] and [Builder.Toolchain] find
// the files that a build takes from a module proxy, and Config.Proxy gives them
// back to it. Neither changes what is built. go.sum decides about modules as
// before; toolchains are verified by the answers of the checksum database,
// which are among the files.
//
// What somebody else chose is built with Config.Confined: see confine.go.
//
// What was built is kept as a pack under a key made of that identity.
//
// Limits. Only Linux programs are built, and only static ones. A toolchain is
// known by its version alone: a distribution that patches Go without saying so
// in `go version` gives other bytes. With cgo, the C library and headers come
// from locked Debian packages, but the compiler and the linker are the
// host's; their versions are part of the identity and are reported in [Built].
// Cgo builds need a host that runs shell scripts.
package gobuild

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/nodebake/bake/bake/arch"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/progress"
	"github.com/nodebake/bake/bake/tree"
)

// Packs keeps what was built. The store is one.
type Packs interface {
	HasPack(key string) bool
	Pack(ctx context.Context, key, name string, make func(context.Context, *tree.PackWriter) error) (*tree.Pack, error)
}

// Config is what a [Builder] needs.
type Config struct {
	Packs Packs    // nil: nothing can be built, only pinned
	Env   []string // as os.Environ gives it; what env.go names is taken from it
	Dir   string   // scratch, made if it is absent; the log of a failed build stays there as NAME-ARCH.log
	Go    string   // the go command; empty: "go" in Env's PATH
	CC    string   // the C compiler; empty: "cc" in Env's PATH, or TRIPLET-gcc for another architecture

	// Unpack returns the files of a Debian package; nil: a target with CGO cannot be built.
	Unpack func(ctx context.Context, p manifest.LockedPackage) (*tree.Pack, error)

	// Proxy fills the empty directory dir with those files of a module proxy
	// (go.dev/ref/mod#goproxy-protocol) that wants is true for, as far as they
	// are available; they may be symlinks. The go command asks it before the
	// user's GOPROXY, and puts modules into a module cache that is removed
	// after the build. nil: there is none.
	Proxy   func(ctx context.Context, dir string, wants func(path string) bool) error
	Offline bool // no network is asked, only Proxy

	// Confined is for modules that somebody else chose, who may mean harm. They come
	// from module proxies and from nowhere that they name themselves, and where the
	// host has namespaces they are compiled without a network.
	Confined bool

	Progress progress.Sink // nil: nobody watches
}

// Builder builds targets. One build runs at a time, since each uses all
// cores; further calls of Build wait.
type Builder struct {
	Config
	turn chan struct{} // holds one token while a build runs

	separation *separation // with Confined, once the first build has found it; kept by who has the turn
}

// New checks c.
func New(c Config) (*Builder, error) {
	if c.Dir == "" {
		return nil, errors.New("BUG: gobuild.Config.Dir is empty")
	}
	dir, err := filepath.Abs(c.Dir)
	if err != nil {
		return nil, fmt.Errorf("finding the scratch directory %s: %w", c.Dir, err)
	}
	c.Dir = dir
	if c.Progress == nil {
		c.Progress = progress.Discard{}
	}
	return &Builder{Config: c, turn: make(chan struct{}, 1)}, nil
}

// Built says how a target's programs came to be, for the SBOM.
type Built struct {
	Key       string // of the pack: the whole identity of the build
	Module    string // "k8s.io/kubernetes"
	Version   string // "v1.36.3"
	Sum       string // of the module's content, as in go.sum: "h1:..."
	Toolchain string // "go1.26.8"

	Compiler string                   // with cgo: compiler and linker, as they name themselves
	Packages []manifest.LockedPackage // with cgo: what was compiled and linked against

	Tools []Tool // of this host, as far as they are known
}

// Build returns the programs of t as a pack of root-owned executables at their
// install paths, from the store if it has them. modfiles is the directory of
// the versions file, in which t.Module.Dir has go.mod and go.sum.
func (b *Builder) Build(ctx context.Context, t Target, arch arch.Arch, modfiles fs.FS) (*tree.Pack, Built, error) {
	pack, built, err := b.build(ctx, t, arch, modfiles)
	if err != nil {
		return nil, Built{}, fmt.Errorf("building %s %s from its Go module: %w", t.Name, t.Version, err)
	}
	return pack, built, nil
}

func (b *Builder) build(ctx context.Context, t Target, arch arch.Arch, modfiles fs.FS) (*tree.Pack, Built, error) {
	r, err := b.recipe(ctx, t, arch, modfiles)
	if err != nil {
		return nil, Built{}, err
	}
	built := r.built()
	built.Tools = b.goTools(r.toolchain)
	if r.cgo != nil {
		built.Tools = append(built.Tools, r.cgo.tools...)
	}
	var failed error // the build's own error, without the store's words around it
	pack, err := b.Packs.Pack(ctx, built.Key, t.pack(), func(ctx context.Context, w *tree.PackWriter) error {
		progress.Expect(b.Progress, 2) // fetching modules and building
		select {
		case b.turn <- struct{}{}:
			defer func() { <-b.turn }()
			failed = b.make(ctx, r, w)
		case <-ctx.Done():
			failed = context.Cause(ctx)
		}
		return failed
	})
	if failed != nil {
		err = failed
	}
	return pack, built, err
}

// Have reports whether what Build would return is there already, so that
// nothing is needed to have it.
func (b *Builder) Have(ctx context.Context, t Target, arch arch.Arch, modfiles fs.FS) (bool, error) {
	r, err := b.recipe(ctx, t, arch, modfiles)
	if err != nil {
		return false, fmt.Errorf("preparing to build %s %s from its Go module: %w", t.Name, t.Version, err)
	}
	return b.Packs.HasPack(r.built().Key), nil
}

// Preflight makes sure, in seconds, that t can be built: that go and, for cgo,
// a C compiler are there, that the pinned toolchain runs, and that the module
// is available. What the store has needs nothing of this.
func (b *Builder) Preflight(ctx context.Context, t Target, arch arch.Arch, modfiles fs.FS) error {
	if err := b.preflight(ctx, t, arch, modfiles); err != nil {
		return fmt.Errorf("preparing to build %s %s from its Go module: %w", t.Name, t.Version, err)
	}
	return nil
}

func (b *Builder) preflight(ctx context.Context, t Target, arch arch.Arch, modfiles fs.FS) error {
	r, err := b.recipe(ctx, t, arch, modfiles)
	if err != nil {
		return err
	}
	if b.Packs.HasPack(r.built().Key) {
		return nil
	}
	return b.scratch(r.target, func(dir string) error {
		g, err := b.newGoFor(ctx, r, dir)
		if err != nil {
			return err
		}
		return g.lookFor(ctx, r)
	})
}

// lookFor makes sure that r's module is available.
func (g *gocmd) lookFor(ctx context.Context, r *recipe) error {
	if err := g.writeModule(r.goMod, r.goSum); err != nil {
		return err
	}
	_, err := g.run(ctx, "list", "-m", r.module.String())
	return err
}

// recipe reads and checks all that decides what building t gives.
func (b *Builder) recipe(ctx context.Context, t Target, arch arch.Arch, modfiles fs.FS) (*recipe, error) {
	r, err := newRecipe(t, arch, modfiles)
	if err != nil {
		return nil, err
	}
	if t.Module.CGO != nil {
		return r, b.identifyCGO(ctx, r, t)
	}
	return r, nil
}

// make builds the programs of r and adds them to w.
func (b *Builder) make(ctx context.Context, r *recipe, w *tree.PackWriter) error {
	return b.scratch(r.target, func(dir string) error {
		g, err := b.newGoFor(ctx, r, dir)
		if err != nil {
			return err
		}
		g.env = append(g.env, r.env()...)
		if err := g.writeModule(r.goMod, r.goSum); err != nil {
			return err
		}
		if r.cgo != nil {
			sysroot, err := b.unpackSysroot(ctx, r, filepath.Join(dir, "sysroot"))
			if err != nil {
				return err
			}
			g.env = append(g.env, sysroot.env(r.cgo)...)
		}
		return b.compile(ctx, g, r, w)
	})
}

// scratch calls use with a directory that is gone afterwards.
func (b *Builder) scratch(name string, use func(dir string) error) (err error) {
	if err := os.MkdirAll(b.Dir, 0o777); err != nil {
		return fmt.Errorf("making the scratch directory: %w", err)
	}
	dir, err := os.MkdirTemp(b.Dir, name+"-")
	if err != nil {
		return fmt.Errorf("making a scratch directory: %w", err)
	}
	defer func() {
		if rerr := removeAll(dir); rerr != nil && err == nil {
			err = fmt.Errorf("removing the scratch directory: %w", rerr)
		}
	}()
	return use(dir)
}

// removeAll removes dir. A module cache has directories that are read-only.
func removeAll(dir string) error {
	if err := os.RemoveAll(dir); err == nil {
		return nil
	}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		return os.Chmod(path, 0o700)
	})
	return errors.Join(err, os.RemoveAll(dir))
}
