// Package bake composes Compute Engine images. It is the orchestration that
// `bake image`, `bake lock`, `bake verify` and `bake mirror` are faces of. An image
// is made in a few steps that can be read from top to bottom:
//
//	plan     read the versions file, its lock and the definition; decide where
//	         each part comes from, and prove that it can be had   (manifest, source)
//	fetch    bring the parts into the store, unpacked             (source)
//	compose  lay out the root file system and the disk            (image)
//	write    stream the disk to what ships, and record it         (image/archive, record)
//
// The digest of what is written is a function of the versions file, the lock,
// the definition, the units, the guest programs, the image's name and the origin
// of each component and container image. `bake verify` (verify.go) takes the first three steps from
// what an image records, and compares; `bake mirror` (mirror.go) plans, and puts
// what would be fetched into a directory.
package bake

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/nodebake/bake/bake/embedded"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/progress"
	"github.com/nodebake/bake/bake/sign"
	"github.com/nodebake/bake/bake/source"
	"github.com/nodebake/bake/bake/source/debian"
	"github.com/nodebake/bake/bake/source/fetch"
	"github.com/nodebake/bake/bake/source/gobuild"
	"github.com/nodebake/bake/bake/source/mirror"
	"github.com/nodebake/bake/bake/source/store"
)

// Config says what to make, of what, and with what. Versions, Definition, Units,
// Arch and Cache are required.
type Config struct {
	Versions   string        // the versions file
	Lock       string        // its lock; beside it where empty (see manifest.LockFile)
	Definition fs.FS         // the image definition of a versions file that names none: images/worker
	Units      fs.FS         // the units of our own
	Arch       manifest.Arch //
	Cache      string        // directory of the store

	Programs embedded.Programs // those of our own; zero: what is embedded

	Mirror  string // absolute directory or URL that `bake mirror` made, asked before everything else; "": none
	Offline bool   // nothing but Mirror is asked

	Mirrors []string // Debian mirrors, before those of the host (see debian.Mirrors)
	Apt     fs.FS    // root of a file system with an apt configuration; nil: none
	Keyring []byte   // armored keys that sign the mirrors' indices, for archives other than Debian's own; nil: Debian's

	AllowOlder bool     // take indices that are older than those of the lock that is there
	UpgradeAll bool     // lock what is newest, whatever was locked before
	Upgrade    []string // the same for packages of these names and what they need

	Origin       source.Origin  // of every component; "" chooses, see source.Config
	Origins      source.Origins // of single components and images, whatever Origin says; zero: of none
	BuildMissing bool           // build components and images that can't be had
	BuildNamed   []string       // with BuildMissing: these alone, by their names in the versions file; empty: all
	Env          []string       // for the go command and the C compiler, which get little of it: os.Environ()

	Confined bool                 // the inputs came out of an image: see gobuild.Config
	inside   *manifest.Definition // likewise, whatever the versions file names; nil: the inputs are the user's

	Sign         string                 // file of the private key that signs what is made; "": nothing is signed
	SignPassword func() ([]byte, error) // of that key, asked only where it is encrypted; nil: there is none

	Out    string // directory that the image goes to
	Name   string // of the image, a template (see manifest.ImageName); "": the versions file's, or the definition's
	Format Format // TarGz where empty
	Force  bool   // replace another image of that name in Out

	Keychain authn.Keychain // who we are at registries of container images; nil: nobody
	// InsecureRegistries may speak http, "HOST" or "HOST:PORT"; they are told no
	// password then. Those of this machine may in any case.
	InsecureRegistries []string

	PublicOnly bool // URLs of the versions file lead to public addresses alone: see fetch.Config

	Proxy     func(*http.Request) (*url.URL, error) // nil: none
	UserAgent string
	Jobs      int // how many things are done at once; 1 where 0
	Progress  progress.Sink
}

// Format is the form of an image.
type Format string

// The formats.
const (
	TarGz Format = "tar.gz" // what Compute Engine imports
	Raw   Format = "raw"    // a sparse disk
)

// ParseFormat reads a format's name.
func ParseFormat(s string) (Format, error) {
	switch f := Format(s); f {
	case TarGz, Raw:
		return f, nil
	}
	return "", fmt.Errorf("format %q is unknown: want %s or %s", s, TarGz, Raw)
}

// ParseOrigin reads the name of an origin that can be forced; "" forces none.
func ParseOrigin(s string) (source.Origin, error) {
	switch o := source.Origin(s); o {
	case "", source.FromRelease, source.FromSource:
		return o, nil
	}
	return "", fmt.Errorf("origin %q is unknown: want %s or %s", s, source.FromRelease, source.FromSource)
}

// SupersededError says that the lock names packages that no mirror has.
type SupersededError = source.SupersededError

// Missing is a part that is unavailable, and what was made in its place.
type Missing = source.Missing

// SayMissing says of several in one line why, and what was made.
func SayMissing(missing []Missing) string { return source.SayMissing(missing) }

// Baker makes images and locks from one configuration.
type Baker struct {
	config     Config
	given      given
	versions   *manifest.Versions
	definition *manifest.Definition
	mirrors    debian.MirrorList
	store      *store.Store
	fetcher    *fetch.Fetcher
	mirror     *mirror.Mirror // nil until openMirror
	key        *sign.Key      // nil: nothing is signed
	guests     guests
}

// given are the inputs as they were read, for the image to carry.
type given struct{ versions, lock []byte }

// New reads and checks the inputs, and opens the store. Close it after use.
func New(c Config) (*Baker, error) {
	if c.Lock == "" {
		c.Lock = manifest.LockFile(c.Versions)
	}
	if c.Format == "" {
		c.Format = TarGz
	}
	if c.Jobs == 0 {
		c.Jobs = 1
	}
	if c.Progress == nil {
		c.Progress = progress.Discard{}
	}
	if c.Offline && c.Mirror == "" {
		return nil, &manifest.ArgumentError{Err: errors.New("offline, everything comes from a mirror, and none was given (give the one that `bake mirror` made by --mirror)")}
	}
	b := &Baker{config: c, guests: guests{arch: c.Arch, programs: c.Programs}}
	if err := b.readInputs(); err != nil {
		return nil, err
	}
	var err error
	if b.key, err = readKey(c.Sign, c.SignPassword); err != nil {
		return nil, err
	}
	if b.mirrors, err = debian.Mirrors(c.Mirrors, c.Apt); err != nil {
		return nil, &manifest.ArgumentError{Err: err}
	}
	if b.store, err = store.OpenTelling(c.Cache, func(w store.Wait) { c.Progress.Note("%v", w) }); err != nil {
		if dir := (*store.DirError)(nil); errors.As(err, &dir) {
			return nil, &manifest.ArgumentError{Err: err}
		}
		return nil, err
	}
	if b.fetcher, err = b.newFetcher(nil); err != nil {
		b.Close()
		return nil, err
	}
	return b, nil
}

// Close gives the store free.
func (b *Baker) Close() error { return b.store.Close() }

func (b *Baker) readInputs() error {
	data, err := os.ReadFile(b.config.Versions)
	if err != nil {
		return &manifest.ArgumentError{Err: fmt.Errorf("reading the versions file: %w", err)}
	}
	b.given.versions = data
	if b.versions, err = manifest.ParseVersions(b.config.Versions, data); err != nil {
		return err
	}
	if b.definition, err = b.config.readDefinition(b.versions); err != nil {
		return err
	}
	return b.versions.Require(required(b.definition))
}

// checkNamed requires that there is what BuildNamed names.
func (b *Baker) checkNamed() error {
	var have []string
	for _, c := range b.versions.Components {
		have = append(have, c.Name)
	}
	for _, i := range b.versions.Images {
		have = append(have, i.Name)
	}
	for _, name := range b.config.BuildNamed {
		if !slices.Contains(have, name) {
			return &manifest.ArgumentError{Err: fmt.Errorf("%s has no component and no image %q to build where it is missing (it has: %s)", b.config.Versions, name, strings.Join(have, ", "))}
		}
	}
	return nil
}

// readLock reads the lock and requires that it fits the inputs.
func (b *Baker) readLock() (*manifest.Lock, *manifest.LockedArch, error) {
	lock, data, err := b.readLockBytes()
	if err != nil {
		return nil, nil, err
	}
	b.given.lock = data
	locked, err := lock.For(b.config.Arch)
	if err != nil {
		return nil, nil, b.lockArch(err, lock)
	}
	return lock, locked, b.Stale(lock)
}

// Stale returns a *manifest.StaleError unless lock has for the architecture what
// the inputs ask for.
func (b *Baker) Stale(lock *manifest.Lock) error {
	config, err := b.resolveConfig(b.config.Arch, time.Time{})
	if err != nil {
		return err
	}
	var wanted []string
	for _, ref := range slices.Concat(config.Packages, config.Extra) {
		wanted = append(wanted, ref.Name)
	}
	return lock.Stale(b.versions, b.config.Arch, config.Request(), wanted)
}

// lockCommand is the command that makes the lock; "" where it is an image's.
func (b *Baker) lockCommand() string {
	if b.config.inside != nil {
		return ""
	}
	return manifest.LockCommand(b.config.Versions, b.config.Lock)
}

// lockArch adds to an error that lock has nothing for the architecture how it is
// made for that as well.
func (b *Baker) lockArch(err error, lock *manifest.Lock) error {
	arches := string(b.config.Arch)
	for _, arch := range slices.Sorted(maps.Keys(lock.Archs)) {
		arches = string(arch) + "," + arches
	}
	return fmt.Errorf("%w (run: %s)", err, manifest.LockCommand(b.config.Versions, b.config.Lock, "--arches", arches))
}

func readLockFile(path string) (*manifest.Lock, error) {
	lock, _, err := readLockBytes(path)
	return lock, err
}

// readLockBytes returns the lock and its bytes.
func (b *Baker) readLockBytes() (*manifest.Lock, []byte, error) {
	lock, data, err := readLockBytes(b.config.Lock)
	if errors.Is(err, fs.ErrNotExist) {
		err = &manifest.ArgumentError{Err: fmt.Errorf("there is no lock %s (run: %s)", b.config.Lock, b.lockCommand())}
	} else if input := (*manifest.InputError)(nil); errors.As(err, &input) && b.lockCommand() != "" {
		err = fmt.Errorf("%w\nnobody edits a lock (run: %s)", err, b.lockCommand())
	}
	return lock, data, err
}

// readLockBytes returns a lock and its bytes.
func readLockBytes(path string) (*manifest.Lock, []byte, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, &manifest.ArgumentError{Err: fmt.Errorf("reading the lock: %w", err)}
	}
	lock, err := manifest.ParseLock(path, data)
	return lock, data, err
}

// newSource returns what brings the parts that locked names.
func (b *Baker) newSource(ctx context.Context, locked *manifest.LockedArch) (*source.Source, error) {
	if err := b.openMirror(ctx); err != nil {
		return nil, err
	}
	s := source.New(source.Config{
		Arch:         b.config.Arch,
		Store:        b.store,
		Fetcher:      b.fetcher,
		Mirrors:      b.mirrors,
		Mirrored:     b.config.Mirror != "",
		Modules:      os.DirFS(filepath.Dir(b.config.Versions)),
		Origin:       b.config.Origin,
		Origins:      b.config.Origins,
		BuildMissing: b.config.BuildMissing,
		BuildNamed:   b.config.BuildNamed,
		Keychain:     b.config.Keychain,
		Insecure:     b.config.InsecureRegistries,
		Program:      b.config.Programs.Program,
		LockCommand:  b.lockCommand(),
		Jobs:         b.config.Jobs,
		Progress:     b.config.Progress,
	})
	config := gobuild.Config{
		Packs: s.Packs(), Debs: s.Debs(locked), Env: b.config.Env,
		Dir: filepath.Join(b.store.Dir(), "build"), Progress: b.config.Progress,
		Offline: b.config.Offline, Confined: b.config.Confined,
	}
	if b.mirror != nil {
		s.Indices = []*mirror.Index{b.mirror.Index()}
		config.Proxy = s.ModuleProxy(b.mirror.Index(), b.config.Offline)
	}
	var err error
	s.Builder, err = gobuild.New(config)
	return s, err
}

// epoch is the time of everything that an image holds and that has no older
// time of its own: when the newest of the locked indices was published, in
// seconds since 1970.
func epoch(locked *manifest.LockedArch) int64 {
	var newest time.Time
	for _, r := range locked.Releases {
		if r.Date.After(newest) {
			newest = r.Date
		}
	}
	return newest.Unix()
}

// Image makes the image and its record.
func (b *Baker) Image(ctx context.Context) (*Result, error) {
	if err := b.checkNamed(); err != nil {
		return nil, err
	}
	lock, locked, err := b.readLock()
	if err != nil {
		return nil, err
	}
	out, err := b.prepareOutput(lock)
	if err != nil {
		return nil, err
	}
	if err := b.mayBegin(out, lock); err != nil {
		return nil, err
	}
	go b.guests.prepare()
	sources, err := b.newSource(ctx, locked)
	if err != nil {
		return nil, err
	}
	var result *Result
	err = b.mending(sources, func() error {
		composed, err := b.assemble(ctx, sources, lock, locked, out.name, out.given)
		if err != nil {
			return err
		}
		progress.Phase(b.config.Progress, "write")
		result, err = b.write(ctx, composed, out)
		return err
	})
	if err != nil {
		return nil, err
	}
	progress.Phase(b.config.Progress, "")
	return result, nil
}

// mending calls do. What the store holds is verified when it is read, which may
// be as late as when it is written to the image. A damaged entry is made anew,
// once. That begins with a new plan: what it was made of may be gone by now.
func (b *Baker) mending(sources *source.Source, do func() error) error {
	for {
		err := do()
		name, ok := damaged(err)
		if !ok {
			return err
		}
		if ok, forgetErr := sources.Forget(name); !ok || forgetErr != nil {
			return errors.Join(err, forgetErr)
		}
		b.config.Progress.Note("%v: making it again", err)
	}
}

// assemble plans, fetches and composes. What is still to be done is one task.
func (b *Baker) assemble(ctx context.Context, sources *source.Source, lock *manifest.Lock, locked *manifest.LockedArch, name string, given bool) (*composed, error) {
	progress.Phase(b.config.Progress, "plan")
	plan, err := sources.Plan(ctx, b.versions, locked)
	if err != nil {
		return nil, b.explainMirror(err, lock)
	}
	progress.Phase(b.config.Progress, "fetch")
	progress.Expect(b.config.Progress, 1) // writing the image
	parts, err := sources.Fetch(ctx, plan)
	if err != nil {
		return nil, b.explainMirror(err, lock)
	}
	progress.Phase(b.config.Progress, "compose")
	c, err := b.compose(ctx, sources, parts, lock, locked, name, given)
	if err != nil {
		return nil, err
	}
	c.missing = parts.Missing
	return c, nil
}
