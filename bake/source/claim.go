package source

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/nodebake/bake/bake/arch"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/source/fetch"
	"github.com/nodebake/bake/bake/source/mirror"
	"github.com/nodebake/bake/bake/source/store"
)

// A digest says which bytes are right, and not that they are of the version that
// stands beside it: a version that was changed without its digest has the old
// bytes, which the store or a mirror may have. So both are asked what these bytes
// were fetched as. Where that is something else, or nothing is known, the
// release's own URL decides, once; where it is what the versions file says,
// nobody is asked.

// claim is what a versions file says that the bytes of a digest are.
type claim struct {
	fetched store.Fetched // what it says
	sums    []manifest.Digest
	known   bool         // it is so, by the store or a mirror
	other   *knownAs     // what they are known as instead; nil: nothing is known, or known
	place   manifest.Pos // of the digest in the versions file
	key     string
	fix     string // what should stand there

	unproven error // why the URL could not be asked, where the store's bytes are taken all the same
}

// knownAs is what the bytes with a digest were fetched as.
type knownAs struct {
	store.Fetched
	sum manifest.Digest
}

// knownAs returns all that is known of bytes that have one of sums, the latest
// last.
func (s *Source) knownAs(kind mirror.Kind, sums []manifest.Digest) []knownAs {
	var known []knownAs
	for _, sum := range sums {
		for _, index := range s.Indices {
			for _, e := range index.Entries {
				if e.Kind == kind && (e.SHA256 == sum || e.SHA512 == sum) {
					fetched := store.Fetched{Name: e.Name, URL: e.Path}
					if kind == mirror.Image {
						fetched = store.Fetched{Name: e.Path} // the reference
					}
					known = append(known, knownAs{fetched, sum})
				}
			}
		}
		for _, fetched := range s.Store.FetchedAs(sum) {
			known = append(known, knownAs{fetched, sum})
		}
	}
	return known
}

// releaseRequest returns the request of c's release, and what is claimed of it.
// Until that is known to be so, its URL is what is asked.
func (s *Source) releaseRequest(c manifest.Component) (fetch.Request, *claim, error) {
	url, sums, err := c.Release.For(s.Arch)
	if err != nil {
		return fetch.Request{}, nil, err
	}
	who := c.Name + " " + c.Version
	request := fetch.Request{Name: who, URLs: []string{url}, Sums: sums}
	made := &claim{fetched: store.Fetched{Name: releaseName(c, s.Arch), URL: url}, sums: sums}
	known := s.knownAs(mirror.Release, sums)
	if made.known = slices.ContainsFunc(known, func(k knownAs) bool { return sameRelease(k.Fetched, made.fetched) }); made.known {
		return request, made, nil
	}
	request.As = made.fetched.Name
	if len(known) == 0 {
		return request, made, nil
	}
	// The most telling is another version of the same.
	other := known[len(known)-1]
	for _, k := range known {
		if component, _, _ := strings.Cut(k.Name, " "); component == c.Name {
			other = k
		}
	}
	made.other = &other
	made.place, made.key = c.Release.Digests[other.sum], c.Release.DigestKey(other.sum, s.Arch)
	made.fix = "replace it by the digest that the project published for " + c.Version
	if len(sums) > 1 {
		made.fix = "replace all digests of the component by those that the project published for " + c.Version
	}
	return request, made, nil
}

// releaseName is what a release is called in the store and in mirrors.
func releaseName(c manifest.Component, arch arch.Arch) string {
	return c.Name + " " + c.Version + " " + string(arch)
}

// sameRelease reports whether what was fetched as h is what want says: the same
// version of a component, from wherever, or what another component takes from
// the same URL.
func sameRelease(h, want store.Fetched) bool {
	a, b := strings.Fields(h.Name), strings.Fields(want.Name)
	if len(a) != 3 || len(b) != 3 || a[0] != b[0] {
		return h.URL == want.URL
	}
	return strings.TrimPrefix(a[1], "v") == strings.TrimPrefix(b[1], "v") && a[2] == b[2]
}

// refute returns the error of a digest that belongs to something else, as far as
// err, which asking for c's file has led to, says that it does.
func (c *claim) refute(err error) error {
	if c == nil || c.other == nil || err == nil {
		return err
	}
	digest, unreachable := (*fetch.DigestError)(nil), (*fetch.UnreachableError)(nil)
	var why string
	switch {
	case errors.As(err, &digest):
		why = "is " + digest.Got
	case errors.As(err, &unreachable):
		why = fmt.Sprintf("is unavailable: %v", reason(unreachable))
	default:
		return err
	}
	was := c.other.Name
	if c.other.URL != "" {
		was += " from " + c.other.URL
	}
	return &manifest.InputError{Pos: c.place, Key: c.key, Problem: fmt.Sprintf(
		"it is the digest of %s, and %s %s (%s)", was, c.fetched.URL, why, c.fix)}
}

// reason is why a file with one URL is unavailable.
func reason(e *fetch.UnreachableError) error {
	if len(e.Tried) == 0 {
		return fmt.Errorf("nothing but the mirror %s may be asked (--offline)", e.Lacking)
	}
	return e.Tried[0].Err
}

// record has the store know what was fetched, where it does not.
func (s *Source) record(ctx context.Context, c *claim) {
	if c == nil || c.unproven != nil {
		return
	}
	if err := s.Store.RecordFetched(ctx, c.sums, c.fetched); err != nil && ctx.Err() == nil {
		s.Progress.Note("what %s was fetched as could not be kept for next time: %v", c.fetched.Name, err)
	}
}

// forgive takes the bytes that the store has for a release whose URL can't be
// asked, which err says, where nothing else is known of them: an older bake has
// brought them. A server that answers that it does not have the file was asked.
func (s *Source) forgive(ctx context.Context, c *claim, have bool, err error) bool {
	unreachable := (*fetch.UnreachableError)(nil)
	if c.known || c.other != nil || !errors.As(err, &unreachable) || gone(unreachable) {
		return false
	}
	if !have {
		if _, found, findErr := s.Store.Find(ctx, c.sums); findErr != nil || !found {
			return false
		}
	}
	c.unproven = reason(unreachable)
	return true
}

// noteUnproven says which releases are taken from the store though it does not
// know what they are.
func (s *Source) noteUnproven(claims []*claim) {
	var names []string
	var why error
	for _, c := range claims {
		if c != nil && c.unproven != nil {
			names = append(names, c.fetched.Name)
			why = c.unproven
		}
	}
	if len(names) > 0 {
		s.Progress.Note("taken from the store by digest alone, since it does not know where an older bake got it and the URL can't be asked (%v): %s", why, strings.Join(names, ", "))
	}
}

// imageClaim is what a versions file says of an image's digest.
func imageClaim(image manifest.ContainerImage) *claim {
	return &claim{fetched: store.Fetched{Name: image.Reference}, sums: []manifest.Digest{image.Digest}}
}

// checkTag reports an image whose digest is known as that of another tag in the
// same repository, unless the registry has it under both. Otherwise no tag is
// asked for: the digest says what is wanted, and somebody may have moved the tag
// since.
func (s *Source) checkTag(ctx context.Context, image manifest.ContainerImage) error {
	other := ""
	for _, k := range s.knownAs(mirror.Image, []manifest.Digest{image.Digest}) {
		switch {
		case k.Name == image.Reference:
			return nil
		case strings.HasPrefix(k.Name, strings.TrimSuffix(image.Reference, image.Tag())):
			other = k.Name
		}
	}
	if other == "" {
		return nil
	}
	tagged, err := s.puller().Tagged(ctx, image, s.Arch)
	unreachable := (*fetch.UnreachableError)(nil)
	switch {
	case err == nil && slices.Contains(tagged, image.Digest):
		return nil // it is recorded once it was pulled
	case err == nil:
		err = fmt.Errorf("%s is %s", image.Reference, tagged[0])
	case errors.As(err, &unreachable):
		err = fmt.Errorf("what %s is can't be asked: %w", image.Reference, err)
	default:
		return fmt.Errorf("image %s %s: %w", image.Name, image.Reference, err)
	}
	return &manifest.InputError{Pos: image.DigestPos, Key: "images." + image.Name + ".digest", Problem: fmt.Sprintf(
		"it is the digest of %s, and %v (replace it by the digest that the project published for %s)", other, err, image.Tag())}
}
