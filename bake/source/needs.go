package source

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/source/debian"
	"github.com/nodebake/bake/bake/source/fetch"
	"github.com/nodebake/bake/bake/source/mirror"
	"github.com/nodebake/bake/bake/source/oci"
)

// Need is a file that a bake takes from elsewhere.
type Need struct {
	mirror.Entry // without Sets; SHA256 and Size only where they are known
	fetch.Request

	// Else is what does in its place, "its module example.com/m v1.2.3"; "":
	// nothing.
	Else string

	claim *claim // of a release
}

// Sum returns the SHA-256 of the file that n is, "" where another digest is
// all that is known.
func (n *Need) Sum() manifest.Digest { return n.Entry.SHA256 }

// Needs lists the releases and packages of required, whether the store has them or
// not. It asks nobody. With sources it lists what modules are compiled against as well.
func (s *Source) Needs(required *Requirements, sources bool) (releases, packages []Need, err error) {
	var errs []error
	wanted := slices.Clone(required.Packages)
	for _, c := range required.Components {
		if c.Release != nil {
			n, err := s.releaseNeed(c.Component)
			errs = append(errs, err)
			releases = append(releases, n)
		}
		if c.Package != nil || sources {
			wanted = append(wanted, c.extra...)
		}
	}
	for _, image := range required.Images {
		wanted = append(wanted, required.ImagePackages[image.Name]...)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, nil, err
	}
	wanted = unique(wanted)
	requests, err := debian.Requests(s.DebianMirrors, wanted, true)
	if err != nil {
		return nil, nil, err
	}
	for i, p := range wanted {
		packages = append(packages, Need{
			Entry: mirror.Entry{
				Kind: mirror.Package, Name: p.Name + " " + p.Version + " " + p.Arch, Path: p.Archive + "/" + p.Path,
				SHA256: p.SHA256, Size: p.Size,
			},
			Request: requests[i],
		})
	}
	return releases, packages, nil
}

func (s *Source) releaseNeed(c manifest.Component) (Need, error) {
	request, claim, err := s.releaseRequest(c)
	if err != nil {
		return Need{}, err
	}
	n := Need{
		Entry:   mirror.Entry{Kind: mirror.Release, Name: releaseName(c, s.Arch), Path: request.URLs[0]},
		Request: request,
		claim:   claim,
	}
	for _, sum := range request.Sums {
		switch sum.Algorithm() {
		case "sha256":
			n.Entry.SHA256 = sum
		case "sha512":
			n.Entry.SHA512 = sum
		}
	}
	if c.Module != nil {
		n.Else = fmt.Sprintf("its module %s %s", c.Module.Path, c.Module.Version)
	}
	return n, nil
}

// Asked returns the request of n as it is, once Unreachable has asked for it.
func (n *Need) Asked() fetch.Request {
	request := n.Request
	if n.claim != nil && n.claim.unproven != nil {
		request.As = ""
	}
	return request
}

// Open returns the file of n, which is downloaded where the store does not have
// it.
func (s *Source) Open(ctx context.Context, n Need) (*os.File, error) {
	file, err := s.Fetcher.Open(ctx, n.Asked())
	if err != nil {
		return nil, n.claim.refute(err)
	}
	s.record(ctx, n.claim)
	return file, nil
}

// Unreachable asks for those of releases and packages that the store lacks,
// without downloading any. It returns the reason of each release that is unavailable,
// by its path; see fetch.Gone. An InputError among these says that the
// release's digest is another's. That a package is unavailable is an error, a
// SupersededError where mirrors have dropped it.
func (s *Source) Unreachable(ctx context.Context, releases, packages []Need) (map[string]error, error) {
	requests := make([]fetch.Request, len(packages))
	for i, n := range packages {
		requests[i] = n.Request
		if len(n.URLs) > 0 || s.HasOfflineMirror {
			continue
		}
		if _, ok, err := s.Store.Find(ctx, n.Sums); err != nil {
			return nil, err
		} else if !ok {
			archive, _, _ := strings.Cut(n.Path, "/")
			return nil, fmt.Errorf("package %s: %w", n.Entry.Name, &debian.NoMirrorError{Archive: archive})
		}
	}
	var group errgroup.Group
	var packagesErr, releasesErr error
	group.Go(func() error {
		packagesErr = s.preflightDebs(ctx, requests)
		return nil
	})
	out := map[string]error{}
	group.Go(func() error {
		out, releasesErr = s.unreachableReleases(ctx, releases)
		return nil
	})
	group.Wait()
	return out, errors.Join(releasesErr, packagesErr)
}

func (s *Source) unreachableReleases(ctx context.Context, releases []Need) (map[string]error, error) {
	out := map[string]error{}
	requests := make([]fetch.Request, len(releases))
	for i, n := range releases {
		requests[i] = n.Request
	}
	err := s.Fetcher.Preflight(ctx, requests)
	var failed *fetch.PreflightError
	if !errors.As(err, &failed) {
		return out, err
	}
	var claims []*claim
	for _, unreachable := range failed.Requests {
		i := slices.IndexFunc(releases, func(n Need) bool { return n.Request.Name == unreachable.Name })
		n := &releases[i]
		claims = append(claims, n.claim)
		switch {
		case n.claim.other != nil:
			out[n.Path] = n.claim.refute(unreachable)
		case !s.forgive(ctx, n.claim, false, unreachable):
			out[n.Path] = releaseError(n.URLs[0], unreachable)
		}
	}
	s.noteUnproven(claims)
	return out, nil
}

// NeededImage is a container image that a bake takes from a registry.
type NeededImage struct {
	manifest.ContainerImage
	Else     string // as in Need
	resolved *oci.Resolved
}

// ImageDescriptor is [oci.Descriptor].
type ImageDescriptor = oci.Descriptor

// NeedImage finds out what image consists of, and that its registry or the
// fetcher's mirror has it. There is a fetch.UnreachableError in the error
// where it is unavailable, and Else is filled in then, too.
func (s *Source) NeedImage(ctx context.Context, image manifest.ContainerImage) (NeededImage, error) {
	n := NeededImage{ContainerImage: image}
	if image.Module != nil || image.Program != "" {
		n.Else = assembledFrom(image)
	}
	err := s.checkTag(ctx, image)
	if err == nil {
		n.resolved, err = s.puller().Resolve(ctx, image, s.Arch)
	}
	return n, err
}

// PullImage brings an image with all its blobs.
func (s *Source) PullImage(ctx context.Context, n NeededImage) (*oci.Image, error) {
	pulled, err := s.puller().Pull(ctx, n.resolved)
	if err == nil {
		s.record(ctx, imageClaim(n.ContainerImage))
	}
	return pulled, err
}

// whyMissing is err where something else is made in its place: what a mirror
// made with sources lacks is no mistake of whoever made it.
func whyMissing(err error) string {
	if unreachable, ok := errors.AsType[*fetch.UnreachableError](err); ok && unreachable.Lacking != "" {
		return fmt.Sprintf("%s is not in the mirror %s", unreachable.Name, unreachable.Lacking)
	}
	return err.Error()
}
