package source

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"

	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/nodebake/bake/bake/arch"
	"github.com/nodebake/bake/bake/embedded"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/progress"
	"github.com/nodebake/bake/bake/source/debian"
	"github.com/nodebake/bake/bake/source/fetch"
	"github.com/nodebake/bake/bake/source/gobuild"
	"github.com/nodebake/bake/bake/source/mirror"
	"github.com/nodebake/bake/bake/source/store"
	"github.com/nodebake/bake/bake/tree"
)

// Options say from where parts are fetched, and with what they are built. Cache is
// required.
type Options struct {
	Cache    string            // directory of the store
	Programs embedded.Programs // of bake's own; zero: those that are embedded

	OfflineMirror string // absolute directory or URL that `bake mirror` made, asked before everything else; "": none
	Offline       bool   // nothing but OfflineMirror is asked

	DebianMirrors []string // before those of the host (see debian.Mirrors)
	Apt           fs.FS    // root of a filesystem with an apt configuration; nil: none

	Env      []string // for the go command and the C compiler, which get little of it: os.Environ()
	Confined bool     // the inputs came out of an image: see gobuild.Config

	Keychain authn.Keychain // credentials for registries of container images; nil: anonymous
	// InsecureRegistries may speak http, "HOST" or "HOST:PORT"; they are told no
	// password then. Those of this machine may in any case.
	InsecureRegistries []string

	PublicOnly bool // URLs of the versions file lead to public addresses alone: see fetch.Config

	Proxy     func(*http.Request) (*url.URL, error) // nil: none
	UserAgent string
	Jobs      int // how many things are done at once; 1 where 0
	Progress  progress.Sink
}

// Choice says where components and container images come from, where there is a
// choice.
type Choice struct {
	Origin       Origin   // of every component; "": release, else what BuildMissing allows
	Origins      Origins  // of single components and images, whatever Origin says; zero: of none
	BuildMissing bool     // components and images that are unavailable are built
	BuildNamed   []string // with BuildMissing: these alone, by their names in the versions file; empty: all
}

// Access is an open store, and what fetches into it. Close it after use.
type Access struct {
	Options
	Store         *store.Store
	Fetcher       *fetch.Fetcher // asks OfflineMirror first, once OpenMirror was called
	DebianMirrors debian.MirrorList
	Mirror        *mirror.Mirror // nil until OpenMirror was called, and where there is none
}

// Open opens the store. Nothing is asked for yet.
func Open(o Options) (*Access, error) {
	if o.Jobs == 0 {
		o.Jobs = 1
	}
	if o.Progress == nil {
		o.Progress = progress.Discard{}
	}
	if o.Offline && o.OfflineMirror == "" {
		return nil, &manifest.ArgumentError{Err: errors.New("offline, everything comes from a mirror, and none was given (give the one that `bake mirror` made by --mirror)")}
	}
	a := &Access{Options: o}
	var err error
	if a.DebianMirrors, err = debian.Mirrors(o.DebianMirrors, o.Apt); err != nil {
		return nil, &manifest.ArgumentError{Err: err}
	}
	if a.Store, err = store.OpenTelling(o.Cache, func(w store.Wait) { o.Progress.Note("%v", w) }); err != nil {
		if dir := (*store.DirError)(nil); errors.As(err, &dir) {
			return nil, &manifest.ArgumentError{Err: err}
		}
		return nil, err
	}
	if a.Fetcher, err = a.fetcher(); err != nil {
		a.Close()
		return nil, err
	}
	return a, nil
}

// Close releases the store.
func (a *Access) Close() error { return a.Store.Close() }

// fetcher returns what fetches, from Mirror first where it is open.
func (a *Access) fetcher() (*fetch.Fetcher, error) {
	config := fetch.Config{
		Store: a.Store, Proxy: a.Proxy, UserAgent: a.UserAgent, Progress: a.Progress, PublicOnly: a.PublicOnly,
	}
	if a.Mirror != nil {
		config.Mirror, config.Offline = a.Mirror, a.Offline
	}
	return fetch.New(config)
}

// OpenMirror reads the index of OfflineMirror, where one was given, and has
// everything fetched from it from then on.
func (a *Access) OpenMirror(ctx context.Context) error {
	if a.OfflineMirror == "" || a.Mirror != nil {
		return nil
	}
	m, err := mirror.Open(ctx, a.OfflineMirror, func(ctx context.Context, url string, limit int64) ([]byte, error) {
		return a.Fetcher.Get(ctx, []string{url}, limit, nil)
	})
	if err != nil {
		return err
	}
	a.Mirror = m
	a.Fetcher, err = a.fetcher()
	return err
}

// Source returns what brings the parts of a versions file for arch. versionsFile has the files beside it that pin Go modules; lockCommand is for
// errors: see Config.
func (a *Access) Source(ctx context.Context, versionsFile, lockCommand string, arch arch.Arch, choice Choice) (*Source, error) {
	if err := a.OpenMirror(ctx); err != nil {
		return nil, err
	}
	s := New(Config{
		Choice: choice, Arch: arch, Store: a.Store, Fetcher: a.Fetcher, DebianMirrors: a.DebianMirrors, HasOfflineMirror: a.Mirror != nil,
		Modules: os.DirFS(filepath.Dir(versionsFile)), Keychain: a.Keychain, Insecure: a.InsecureRegistries,
		Program: a.Programs.Program, LockCommand: lockCommand, Jobs: a.Jobs, Progress: a.Progress,
	})
	config := gobuild.Config{
		Packs: s.Packs(), Unpack: s.Unpack, Env: a.Env, Dir: filepath.Join(a.Store.Dir(), "build"),
		Offline: a.Offline, Confined: a.Confined, Progress: a.Progress,
	}
	if a.Mirror != nil {
		s.Indices = []*mirror.Index{a.Mirror.Index()}
		config.Proxy = s.ModuleProxy(a.Mirror.Index(), a.Offline)
	}
	var err error
	s.Builder, err = gobuild.New(config)
	return s, err
}

// Packages returns what fetches and unpacks Debian packages for arch, and brings
// nothing else.
func (a *Access) Packages(arch arch.Arch) *Source {
	return New(Config{Arch: arch, Store: a.Store, Fetcher: a.Fetcher, DebianMirrors: a.DebianMirrors, Jobs: a.Jobs, Progress: a.Progress})
}

// Retry calls do. What the store holds is verified when it is read, which may be as
// late as when it is written to the image. A corrupt entry is fetched or built
// again, once: that begins with a new plan, as what it was made of may be gone by
// now.
func (s *Source) Retry(do func() error) error {
	for {
		err := do()
		corrupt := (*tree.CorruptError)(nil)
		if !errors.As(err, &corrupt) || corrupt.Key == "" {
			return err
		}
		if ok, forgetErr := s.Forget(corrupt.Key); !ok || forgetErr != nil {
			return errors.Join(err, forgetErr)
		}
		s.Progress.Note("%v: rebuilding it", err)
	}
}
