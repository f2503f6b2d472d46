// Package source brings what a versions file and its lock name, whatever it
// takes: downloads, unpacking, building. What comes out are packs: files whose
// content is in the store and known by its digest.
//
//	store     what is kept between bakes, by content
//	release   published artifacts, over HTTP
//	debian    Debian's packages and their indices
//	gobuild   programs built from Go modules
//	oci       container images, from registries or assembled
//	layers    the files of images that are made of Debian packages
//	mirror    a directory that has all of these by digest, for who has no network
//
// This file is the package's entry point. [Source.Plan] decides where every part comes
// from and proves that it is available; [Source.Fetch] brings the parts.
package source

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"slices"

	"github.com/google/go-containerregistry/pkg/authn"
	"golang.org/x/sync/errgroup"

	"github.com/nodebake/bake/bake/arch"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/progress"
	"github.com/nodebake/bake/bake/source/debian"
	"github.com/nodebake/bake/bake/source/fetch"
	"github.com/nodebake/bake/bake/source/gobuild"
	"github.com/nodebake/bake/bake/source/mirror"
	"github.com/nodebake/bake/bake/source/store"
	"github.com/nodebake/bake/bake/tree"
)

// Origin says where a component's files come from.
type Origin string

// The origins of components.
const (
	FromRelease Origin = "release" // the published artifact
	FromSource  Origin = "source"  // built from the Go module
	FromPackage Origin = "package" // taken out of a Debian package
)

// ParseOrigin reads the name of an origin that can be forced; "" forces none.
func ParseOrigin(s string) (Origin, error) {
	switch o := Origin(s); o {
	case "", FromRelease, FromSource:
		return o, nil
	}
	return "", fmt.Errorf("origin %q is unknown: want %s or %s", s, FromRelease, FromSource)
}

// Config is what a Source works with.
type Config struct {
	Choice
	Arch             arch.Arch
	Store            *store.Store
	Fetcher          *fetch.Fetcher
	DebianMirrors    debian.MirrorList
	HasOfflineMirror bool            // Fetcher asks a mirror of everything, so that Mirrors may be empty
	Indices          []*mirror.Index // what mirrors say that files are: which version's a digest is
	Builder          *gobuild.Builder
	Modules          fs.FS                                             // the versions file's directory, with modules/NAME/go.mod
	Keychain         authn.Keychain                                    // credentials for registries; nil: anonymous
	Insecure         []string                                          // registries that may speak http: see oci.Config
	Program          func(name string, arch arch.Arch) ([]byte, error) // programs of bake's own that images are assembled from
	LockCommand      string                                            // makes the lock again, for errors; "": there is none
	Jobs             int                                               // how many packages are unpacked at once
	Progress         progress.Sink
}

// Source brings parts.
type Source struct {
	Config
	packs *packs
}

// New returns a Source for c.
func New(c Config) *Source {
	return &Source{c, &packs{Store: c.Store, forgotten: map[string]bool{}}}
}

// Packs is the store's packs.
func (s *Source) Packs() gobuild.Packs { return s.packs }

// Forget drops the pack with key, as a tree.CorruptError has it, from the store, so
// that the next Fetch makes it again. It does so once for each pack and returns false
// afterwards: more often would not help.
func (s *Source) Forget(key string) (bool, error) { return s.packs.forget(key) }

// Package is an OS package and its files.
type Package struct {
	manifest.LockedPackage
	Pack *tree.Pack
}

// Component is a component, its files at their install paths, and how they
// came to be.
type Component struct {
	manifest.Component
	Origin    Origin
	From      string // URL, module@version or package
	Toolchain string // FromSource: what built it
	Pack      *tree.Pack

	Sums  []manifest.Digest       // FromRelease: of the artifact
	Built *gobuild.Built          // FromSource
	Deb   *manifest.LockedPackage // FromPackage
}

// Parts is everything that an image consists of and that came from elsewhere.
type Parts struct {
	Packages   []Package        // in the lock's order
	Components []Component      // in the versions file's order
	Images     []ContainerImage // likewise
	Missing    []Missing        // components, then images, that are not what was asked for first
}

// Plan is the decision where each part comes from.
type Plan struct {
	packages   []manifest.LockedPackage
	components []plannedComponent
	images     []plannedImage
	requests   []fetch.Request // what is not in the store
	confirms   []fetch.Request // what the store has, and must be asked for all the same: see claim
	missing    []Missing
}

type plannedComponent struct {
	RequiredComponent
	origin  Origin
	request fetch.Request // FromRelease
	claim   *claim        // FromRelease: what request is said to be
	build   bool          // FromSource: the store does not have it
	missing *Missing      // why it is built, where its release was asked for first
}

// SupersededError says that no mirror has some packages of a lock any more.
type SupersededError struct {
	Packages []string // "bash 5.2.37-2"
	Err      error    // one line for each
	Command  string   // see Config.LockCommand
}

func (e *SupersededError) Error() string {
	remedy := "give a snapshot archive by --debian-mirror"
	if e.Command != "" {
		remedy += ", or take newer ones in their place, run: " + e.Command
	}
	return fmt.Sprintf("%v\nlocked packages that are unavailable: %d; mirrors drop what was superseded (%s)", e.Err, len(e.Packages), remedy)
}

func (e *SupersededError) Unwrap() error { return e.Err }

// Plan decides where each part of v and locked comes from. Everything that
// must be downloaded has answered when it returns; the error names every part
// and URL that has not.
func (s *Source) Plan(ctx context.Context, v *manifest.Versions, locked *manifest.LockedArch) (*Plan, error) {
	required, err := Require(v, locked, s.Arch, s.LockCommand)
	if err != nil {
		return nil, err
	}
	p := &Plan{packages: required.Packages, components: make([]plannedComponent, len(required.Components))}
	errs := make([]error, len(required.Components))
	needed := slices.Clone(required.Packages)
	for _, c := range required.Components {
		if c.Package != nil && !s.Store.HasPack(fromDebKey(c)) {
			needed = append(needed, c.extra...)
		}
	}
	for _, image := range required.Images {
		needed = append(needed, required.ImagePackages[image.Name]...)
	}
	needed = unique(needed)
	debs, err := s.missingDebs(needed)
	if err != nil {
		return nil, err
	}
	p.requests = append(p.requests, debs...)

	var group errgroup.Group
	var packagesErr error
	var imageErrs []error
	group.Go(func() error {
		packagesErr = s.preflightDebs(ctx, debs)
		return nil
	})
	group.Go(func() error {
		p.images, imageErrs = s.planImages(ctx, required)
		return nil
	})
	for i, c := range required.Components {
		group.Go(func() error {
			p.components[i], errs[i] = s.planComponent(ctx, c)
			return nil
		})
	}
	group.Wait()
	// A lock that must be made again is not the reason to report while a
	// component is missing: locking would not help.
	if err := JoinParts(append(errs, imageErrs...)...); err != nil {
		if superseded, ok := errors.AsType[*SupersededError](packagesErr); ok {
			packagesErr = superseded.Err
		}
		return nil, errors.Join(err, packagesErr)
	}
	if packagesErr != nil {
		return nil, packagesErr
	}
	// What must be built was not known before, and with it what that needs.
	var cgo []manifest.LockedPackage
	for _, c := range p.components {
		if c.build {
			cgo = append(cgo, c.extra...)
		}
		if c.missing != nil {
			p.missing = append(p.missing, *c.missing)
		}
	}
	for _, i := range p.images {
		if i.missing != nil {
			p.missing = append(p.missing, *i.missing)
		}
	}
	if len(p.missing) > 0 {
		s.Progress.Note("%s", SayMissing(p.missing))
	}
	cgo = slices.DeleteFunc(cgo, func(p manifest.LockedPackage) bool {
		return slices.ContainsFunc(needed, func(n manifest.LockedPackage) bool { return n.SHA256 == p.SHA256 })
	})
	if debs, err = s.missingDebs(cgo); err != nil {
		return nil, err
	}
	if err := s.preflightDebs(ctx, debs); err != nil {
		return nil, err
	}
	p.requests = append(p.requests, debs...)
	var claims []*claim
	for _, c := range p.components {
		claims = append(claims, c.claim)
		switch {
		case c.origin != FromRelease:
		case !s.Store.HasPack(releaseKey(c)):
			p.requests = append(p.requests, c.request)
		case c.request.As != "":
			p.confirms = append(p.confirms, c.request)
		}
	}
	s.noteUnproven(claims)
	return p, nil
}

// missingDebs returns the downloads of packages that are not unpacked yet.
func (s *Source) missingDebs(packages []manifest.LockedPackage) ([]fetch.Request, error) {
	missing := slices.DeleteFunc(unique(packages), func(p manifest.LockedPackage) bool {
		return s.Store.HasPack(debian.PackKey(p.SHA256))
	})
	requests, err := debian.Requests(s.DebianMirrors, missing, s.HasOfflineMirror)
	if err != nil {
		return nil, err
	}
	out := make([]fetch.Request, len(requests))
	for i, r := range requests {
		out[i] = fetch.Request(r)
	}
	return out, nil
}

func (s *Source) preflightDebs(ctx context.Context, requests []fetch.Request) error {
	err := s.Fetcher.Preflight(ctx, requests)
	if err == nil || ctx.Err() != nil {
		return err
	}
	superseded := &SupersededError{Err: err, Command: s.LockCommand}
	var all *fetch.PreflightError
	if !errors.As(err, &all) {
		return err
	}
	for _, unreachable := range all.Requests {
		if !gone(unreachable) {
			return err // a mirror that can't be reached at all is no reason to lock again
		}
		superseded.Packages = append(superseded.Packages, unreachable.Name)
	}
	return superseded
}

// gone reports whether Debian's mirrors said of every URL that they do not have
// the file. What a mirror of bake's says is no reason to lock again.
func gone(e *fetch.UnreachableError) bool {
	asked := 0
	for _, t := range e.Tried {
		if t.Mirror != "" {
			continue
		}
		asked++
		if status, ok := errors.AsType[*fetch.StatusError](t.Err); !ok || status.Code != http.StatusNotFound && status.Code != http.StatusGone {
			return false
		}
	}
	return asked > 0
}

func flatten(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	return []error{err}
}

// planComponent decides between a component's release and its module, where it has
// one of them.
func (s *Source) planComponent(ctx context.Context, c RequiredComponent) (plannedComponent, error) {
	planned := plannedComponent{RequiredComponent: c, origin: FromPackage}
	if c.Package != nil {
		return planned, nil
	}
	forced := s.Origins.component(c.Name, s.Origin)
	if forced == FromSource {
		if c.Module == nil {
			return planned, fmt.Errorf("%s: component %s has no module that it could be built from (add one, or leave --origin source out)", c.Pos, c.Name)
		}
		return planned, s.planSource(ctx, &planned)
	}
	err := s.planRelease(ctx, &planned)
	var noArch *manifest.MissingArchError
	var input *manifest.InputError
	who := "component " + c.Name + " " + c.Version
	unavailable := func(why string, err error) error { return &PartError{Name: c.Name, Why: why, Err: err} }
	switch {
	case err == nil:
		planned.origin = FromRelease
		return planned, nil
	case ctx.Err() != nil, errors.As(err, &input):
		return planned, err
	case forced == FromRelease:
		return planned, unavailable("", fmt.Errorf("%s: %w", who, err))
	case !fetch.Gone(err) && !errors.Is(err, errNoRelease) && !errors.As(err, &noArch):
		doubt := s.doubt(c.Name, c.Module != nil)
		return planned, unavailable(doubt, fmt.Errorf("%s: %w%s", who, err, semicolon(doubt)))
	case c.Module == nil:
		return planned, unavailable("there are no modules to build them from", fmt.Errorf("%s: %w; there is no module to build it from (%s)", who, err, c.Pos))
	case !s.builds(c.Name):
		return planned, unavailable("--build-missing would build them from source", fmt.Errorf("%s: %w; %s would build it from %s %s", who, err, s.buildFlag(c.Name), c.Module.Path, c.Module.Version))
	}
	planned.missing = &Missing{Name: who, Reason: whyMissing(err), Else: c.Module.Path + " " + c.Module.Version, Causes: Causes(err)}
	progress.Explain(s.Progress, "%s", planned.missing)
	if buildErr := s.planSource(ctx, &planned); buildErr != nil {
		buildErr = shortBuildError(buildErr)
		return planned, unavailable(fmt.Sprintf("nor can they be built (%v)", buildErr), fmt.Errorf("%s: %w; nor can it be built: %w", who, err, buildErr))
	}
	return planned, nil
}

// builds reports whether a component or image is built where it is unavailable.
func (s *Source) builds(name string) bool {
	return s.BuildMissing && (len(s.BuildNamed) == 0 || slices.Contains(s.BuildNamed, name))
}

// buildFlag is what has bake image build the component or image called name.
func (s *Source) buildFlag(name string) string {
	if s.BuildMissing {
		return "--build-missing=" + name
	}
	return "--build-missing"
}

// doubt is what an error adds where something is not built that could be.
func (s *Source) doubt(name string, could bool) string {
	if !could || !s.builds(name) {
		return ""
	}
	return "this does not say that it is gone, so nothing is built in its place"
}

// planSource proves that a component was built from its module, or can be.
func (s *Source) planSource(ctx context.Context, c *plannedComponent) (err error) {
	c.origin = FromSource
	c.build, err = s.mustBuild(ctx, c.target())
	return err
}

// mustBuild proves that t was built, or can be. It returns whether it is still to be.
func (s *Source) mustBuild(ctx context.Context, t gobuild.Target) (bool, error) {
	have, err := s.Builder.Have(ctx, t, s.Arch, s.Modules)
	if have || err != nil {
		return false, err
	}
	return true, s.Builder.Preflight(ctx, t, s.Arch, s.Modules)
}

// planRelease fills in the request of a component and proves that its release
// is in the store, as what it is, or is available.
func (s *Source) planRelease(ctx context.Context, c *plannedComponent) error {
	if c.Release == nil {
		return errNoRelease
	}
	var err error
	if c.request, c.claim, err = s.releaseRequest(c.Component); err != nil {
		return err
	}
	have := s.Store.HasPack(releaseKey(*c))
	if have && c.claim.known {
		return nil
	}
	err = s.Fetcher.Preflight(ctx, []fetch.Request{c.request})
	var unreachable *fetch.UnreachableError
	switch {
	case err == nil:
		return nil
	case s.forgive(ctx, c.claim, have, err):
		c.request.As = ""
		return nil
	case c.claim.other != nil:
		return c.claim.refute(err)
	case errors.As(err, &unreachable):
		return releaseError(c.request.URLs[0], unreachable)
	}
	return err
}

// errNoRelease says that there is no file to ask for.
var errNoRelease = errors.New("it has no release")

// releaseError says that a release is unavailable, in one line where it was asked
// for at one URL.
func releaseError(url string, err *fetch.UnreachableError) error {
	if len(err.Tried) != 1 {
		return err
	}
	return &otherWords{fmt.Sprintf("its release is unavailable at %s: %v", url, err.Tried[0].Err), err}
}

// releaseKey identifies the files of a release in the store.
func releaseKey(c plannedComponent) string {
	return fetch.PackKey(c.request.Sums, c.Release.Files)
}

// Fetch brings the parts of p.
func (s *Source) Fetch(ctx context.Context, p *Plan) (*Parts, error) {
	parts := &Parts{
		Packages:   make([]Package, len(p.packages)),
		Components: make([]Component, len(p.components)),
		Missing:    p.missing,
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		var err error
		parts.Images, err = s.images(ctx, p.images)
		return err
	})
	group.Go(func() error { return s.fetchFiles(ctx, p, parts) })
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return parts, nil
}

// fetchFiles brings packages and components.
func (s *Source) fetchFiles(ctx context.Context, p *Plan, parts *Parts) error {
	// First what may prove to be the wrong file.
	for _, c := range p.components {
		if c.claim != nil && c.claim.other != nil {
			if err := s.Fetcher.Fetch(ctx, []fetch.Request{c.request}); err != nil {
				return c.claim.refute(err)
			}
		}
	}
	progress.Expect(s.Progress, len(p.requests)) // each is unpacked; fetching and building announce themselves
	if err := s.Fetcher.Fetch(ctx, slices.Concat(p.requests, p.confirms)); err != nil {
		return err
	}
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(max(1, s.Jobs))
	for _, i := range bySize(p.packages) {
		group.Go(func() error {
			locked := p.packages[i]
			pack, err := s.Unpack(groupCtx, locked)
			parts.Packages[i] = Package{locked, pack}
			return err
		})
	}
	for i, c := range p.components {
		group.Go(func() error {
			var err error
			parts.Components[i], err = s.component(groupCtx, c)
			return err
		})
	}
	return group.Wait()
}

// bySize orders packages with the largest first, so that none is left to be
// unpacked alone at the end.
func bySize(packages []manifest.LockedPackage) []int {
	order := make([]int, len(packages))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return int(packages[b].Size - packages[a].Size) })
	return order
}

func (s *Source) component(ctx context.Context, c plannedComponent) (Component, error) {
	out := Component{Component: c.Component, Origin: c.origin}
	var err error
	switch c.origin {
	case FromRelease:
		out.From, out.Sums = c.request.URLs[0], c.request.Sums
		if out.Pack, err = s.Fetcher.Pack(ctx, c.request, "component "+c.Name, c.Release.Files); err == nil {
			s.record(ctx, c.claim)
		}
	case FromSource:
		var built gobuild.Built
		out.Pack, built, err = s.Builder.Build(ctx, c.target(), s.Arch, s.Modules)
		out.From, out.Built = built.Module+"@"+built.Version, &built
		out.Toolchain = built.Toolchain
		if built.Compiler != "" {
			out.Toolchain += ", " + built.Compiler
		}
	case FromPackage:
		out.Deb = &c.extra[0]
		out.From = out.Deb.Name + " " + out.Deb.Version
		out.Pack, err = s.fromDeb(ctx, c.RequiredComponent)
	}
	return out, err
}
