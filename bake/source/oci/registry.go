package oci

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/source/release"
)

// repository is where a registry has an image (OCI distribution specification
// 1.1, "Pulling").
type repository struct {
	name.Repository
	fetcher *release.Fetcher // that says who asks
}

// repository returns the place of reference, HOST/REPOSITORY:TAG. Nothing is
// asked yet: an image that a mirror or the store has needs no registry.
func (p *Puller) repository(reference string) (*repository, error) {
	repo, err := name.NewRepository(reference[:strings.LastIndexByte(reference, ':')])
	if err != nil {
		return nil, err
	}
	return &repository{repo, p.Fetcher.Through(func(base http.RoundTripper) http.RoundTripper {
		return &loggedIn{base: base, repo: repo, keychain: p.Keychain, turn: make(chan struct{}, 1)}
	})}, nil
}

// request names one blob; kind is "manifests" or "blobs".
func (r *repository) request(who, kind string, d Descriptor) release.Request {
	return release.Request{
		Name: who,
		URLs: []string{fmt.Sprintf("%s://%s/v2/%s/%s/%s", r.Scheme(), r.RegistryStr(), r.RepositoryStr(), kind, d.Digest)},
		Sums: []manifest.Sum{d.Digest}, Size: d.Size,
	}
}

// explain adds to an error what can be done about it, and takes the lines from
// the error of a file that has one URL.
func (r *repository) explain(image manifest.ContainerImage, err error) error {
	var missing *release.UnreachableError
	if !errors.As(err, &missing) {
		return err
	}
	e := &unreachableError{text: err.Error(), err: err}
	var all *release.PreflightError
	if several := errors.As(err, &all) && len(all.Requests) > 1; !several && len(missing.Tried) == 1 && missing.Tried[0].Mirror == "" {
		e.text = fmt.Sprintf("%s can't be had from %s: %v",
			strings.TrimPrefix(missing.Name, "image "+image.Name+": "), missing.Tried[0].URL, missing.Tried[0].Err)
	}
	for _, tried := range missing.Tried {
		var refused *release.StatusError
		if tried.Mirror == "" && errors.As(tried.Err, &refused) && (refused.Code == http.StatusUnauthorized || refused.Code == http.StatusForbidden) {
			e.text += fmt.Sprintf(" (the registry wants to know who asks: run `docker login %s`, or podman's, whose configuration bake reads; some registries say so of what they don't have, too)", r.Registry)
			break
		}
	}
	return e
}

// unreachableError is a release.UnreachableError in other words.
type unreachableError struct {
	text string
	err  error
}

func (e *unreachableError) Error() string { return e.text }
func (e *unreachableError) Unwrap() error { return e.err }

// loggedIn sends requests to a registry on behalf of whoever the keychain knows
// there, and all others as base does. It asks the registry how to log in when it
// is needed for the first time.
type loggedIn struct {
	base     http.RoundTripper
	repo     name.Repository
	keychain authn.Keychain // nil: nobody
	turn     chan struct{}  // holds one token while login is made or looked at
	login    http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (l *loggedIn) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Host != l.repo.RegistryStr() || !strings.HasPrefix(r.URL.Path, "/v2/") {
		return l.base.RoundTrip(r) // a mirror, or where the registry has its blobs
	}
	login, err := l.get(r.Context())
	if err != nil {
		return nil, loginError(err)
	}
	r = r.Clone(r.Context()) // login changes it
	isManifest := strings.Contains(r.URL.Path, "/manifests/")
	if isManifest {
		// Without it, a registry may say that it has none, or send another.
		for _, t := range []types.MediaType{types.OCIImageIndex, types.OCIManifestSchema1, types.DockerManifestList, types.DockerManifestSchema2} {
			r.Header.Add("Accept", string(t))
		}
	}
	resp, err := login.RoundTrip(r)
	if err != nil {
		return nil, loginError(err)
	}
	if isManifest && resp.StatusCode == http.StatusOK && r.Method == http.MethodGet {
		resp.Body = &limited{ReadCloser: resp.Body, left: maxMetadata, url: r.URL.String()}
	}
	return resp, nil
}

// get returns what sends requests as somebody. An attempt that fails is not the
// last.
func (l *loggedIn) get(ctx context.Context) (http.RoundTripper, error) {
	select {
	case l.turn <- struct{}{}:
		defer func() { <-l.turn }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if l.login != nil {
		return l.login, nil
	}
	auth := authn.Anonymous
	if l.keychain != nil {
		var err error
		if auth, err = authn.Resolve(ctx, l.keychain, l.repo); err != nil {
			return nil, &keychainError{l.repo.RegistryStr(), err}
		}
	}
	login, err := transport.NewWithContext(ctx, l.repo.Registry, auth, l.base, []string{l.repo.Scope(transport.PullScope)})
	if err != nil {
		return nil, err
	}
	l.login = login
	return login, nil
}

// loginError makes an answer of the registry, or of who gives out its tokens, one
// that package release knows, so that only what may pass is tried again.
func loginError(err error) error {
	var answer *transport.Error
	var sending *url.Error
	switch {
	case errors.As(err, &answer):
	case errors.As(err, &sending):
		return sending.Err // without its URL: our caller's says which registry it is
	default:
		return err
	}
	status := &release.StatusError{Code: answer.StatusCode}
	if len(answer.Errors) > 0 {
		return fmt.Errorf("logging in: %w (%s)", status, answer.Errors[0])
	}
	return fmt.Errorf("logging in: %w", status)
}

// keychainError says that the user's docker configuration can't be used.
type keychainError struct {
	registry string
	err      error
}

func (e *keychainError) Error() string {
	return fmt.Sprintf("finding credentials for %s in the docker configuration: %v", e.registry, e.err)
}

func (e *keychainError) Unwrap() error { return e.err }

// limited ends a body of metadata that is too long.
type limited struct {
	io.ReadCloser
	left int64 // bytes
	url  string
}

func (l *limited) Read(b []byte) (int, error) {
	n, err := l.ReadCloser.Read(b)
	if l.left -= int64(n); l.left < 0 {
		return 0, &release.DigestError{Name: "a manifest", URL: l.url, Got: "longer", Want: fmt.Sprintf("at most %d bytes", maxMetadata)}
	}
	return n, err
}
