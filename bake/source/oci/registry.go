package oci

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/nodebake/bake/bake/arch"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/source/fetch"
)

// repository is where a registry has an image (OCI distribution specification
// 1.1, "Pulling").
type repository struct {
	name.Repository
	plain   bool           // it may speak http
	fetcher *fetch.Fetcher // that says who asks
	login   *loggedIn
}

// repository returns the place of reference, HOST/REPOSITORY:TAG. Nothing is
// asked yet: an image that a mirror or the store has needs no registry.
func (p *Puller) repository(reference string) (*repository, error) {
	where := reference[:strings.LastIndexByte(reference, ':')]
	repo, err := name.NewRepository(where)
	if err != nil {
		return nil, err
	}
	r := &repository{Repository: repo, plain: loopback(repo.RegistryStr()) || slices.Contains(p.Insecure, repo.RegistryStr())}
	if r.plain {
		// Else package name knows of private addresses that may, which guard does not.
		if r.Repository, err = name.NewRepository(where, name.Insecure); err != nil {
			return nil, err
		}
	}
	r.fetcher = p.Fetcher.Through(func(base http.RoundTripper) http.RoundTripper {
		r.login = &loggedIn{base: base, repo: r.Repository, keychain: p.Keychain, insecure: p.Insecure, turn: make(chan struct{}, 1)}
		return r.login
	})
	return r, nil
}

// request names one blob; kind is "manifests" or "blobs".
func (r *repository) request(who, kind string, d Descriptor) fetch.Request {
	return fetch.Request{Name: who, URLs: []string{r.url(kind, string(d.Digest))}, Sums: []manifest.Digest{d.Digest}, Size: d.Size}
}

// Tagged asks the registry what image's tag names, and returns the digests of
// that: of an index, and of the manifest for arch in it; or of a manifest. The
// store and mirrors know digests alone.
func (p *Puller) Tagged(ctx context.Context, image manifest.ContainerImage, arch arch.Arch) ([]manifest.Digest, error) {
	repo, err := p.repository(image.Reference)
	if err != nil {
		return nil, err
	}
	data, err := repo.fetcher.GetForeign(ctx, repo.url("manifests", image.Tag()), maxMetadata)
	if missing, ok := errors.AsType[*fetch.UnreachableError](err); ok && len(missing.Tried) == 1 {
		e := &unreachableError{text: missing.Tried[0].Err.Error(), err: err}
		if hint := repo.hint(missing.Tried[0]); hint != "" {
			e.text += " (" + hint + ")"
		}
		return nil, e
	}
	if err != nil {
		return nil, err
	}
	sums := []manifest.Digest{manifest.SHA256(sha256.Sum256(data))}
	if index, _, err := parseTarget(data, arch); err == nil && index != nil {
		sums = append(sums, index.manifest.Digest)
	}
	return sums, nil
}

// url is where the registry has what is called name, a digest or a tag.
func (r *repository) url(kind, name string) string {
	scheme := "https"
	if r.plain {
		scheme = "http"
	}
	return fmt.Sprintf("%s://%s/v2/%s/%s/%s", scheme, r.RegistryStr(), r.RepositoryStr(), kind, name)
}

// explain adds to an error what can be done about it, and takes the lines from
// the error of a file that has one URL.
func (r *repository) explain(image manifest.ContainerImage, err error) error {
	var missing *fetch.UnreachableError
	if !errors.As(err, &missing) {
		return err
	}
	e := &unreachableError{text: err.Error(), err: err}
	var all *fetch.PreflightError
	if several := errors.As(err, &all) && len(all.Requests) > 1; !several && len(missing.Tried) == 1 && missing.Tried[0].Mirror == "" {
		e.text = fmt.Sprintf("%s is unavailable at %s: %v",
			strings.TrimPrefix(missing.Name, "image "+image.Name+": "), missing.Tried[0].URL, missing.Tried[0].Err)
	}
	for _, tried := range missing.Tried {
		if hint := r.hint(tried); hint != "" {
			e.text += " (" + hint + ")"
			break
		}
	}
	return e
}

// hint is what can be done about a registry's answer; "": nothing that we know.
func (r *repository) hint(tried fetch.Attempt) string {
	var refused *fetch.StatusError
	switch {
	case tried.Mirror != "":
		return ""
	case errors.Is(tried.Err, http.ErrSchemeMismatch):
		return fmt.Sprintf("it speaks http: where that is meant, give --insecure-registry %s; passwords are not sent then", r.Registry)
	case !errors.As(tried.Err, &refused):
		return ""
	case refused.Code == http.StatusTooManyRequests:
		return fmt.Sprintf("the registry limits how much is taken from it: try again later, or run `docker login %s`, which raises the limit at some", r.Registry)
	case refused.Code != http.StatusUnauthorized && refused.Code != http.StatusForbidden:
		return ""
	case r.login.withheld.Load():
		return fmt.Sprintf("there is a login for %s, but passwords don't go over http: it must speak https", r.Registry)
	}
	return fmt.Sprintf("the registry wants to know who asks: run `docker login %s`, or podman's, whose configuration bake reads; some registries say so of what they don't have, too", r.Registry)
}

// unreachableError is a fetch.UnreachableError in other words.
type unreachableError struct {
	text string
	err  error
}

func (e *unreachableError) Error() string { return e.text }
func (e *unreachableError) Unwrap() error { return e.err }

// limited ends a body of metadata that is too long.
type limited struct {
	io.ReadCloser
	left int64 // bytes
	url  string
}

func (l *limited) Read(b []byte) (int, error) {
	n, err := l.ReadCloser.Read(b)
	if l.left -= int64(n); l.left < 0 {
		return 0, &fetch.DigestError{Name: "a manifest", URL: l.url, Got: "longer", Want: fmt.Sprintf("at most %d bytes", maxMetadata)}
	}
	return n, err
}
