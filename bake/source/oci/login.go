package oci

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"unicode"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/nodebake/bake/bake/source/fetch"
)

// loggedIn sends requests to a registry on behalf of whoever the keychain knows
// there, and all others as base does. It asks the registry how to log in when it
// is needed for the first time.
//
// Passwords and tokens go over TLS, or to this machine. A registry that may speak
// http and does is told nothing of who asks.
type loggedIn struct {
	base     http.RoundTripper
	repo     name.Repository
	keychain authn.Keychain // nil: nobody
	insecure []string       // hosts that may speak http
	turn     chan struct{}  // holds one token while login is made or looked at
	login    http.RoundTripper
	withheld atomic.Bool // there are credentials, which were not sent
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
	var refused *fetch.StatusError
	switch {
	case errors.As(err, &refused): // of guard, whatever it is about
		return nil, refused
	case err != nil:
		return nil, loginError(err)
	case resp.StatusCode >= http.StatusBadRequest && resp.StatusCode != http.StatusRequestedRangeNotSatisfiable && r.Method == http.MethodGet:
		return nil, refusal(resp)
	case isManifest && resp.StatusCode == http.StatusOK && r.Method == http.MethodGet:
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
	auth, err := l.auth(ctx)
	if err != nil {
		return nil, err
	}
	login, err := transport.NewWithContext(ctx, l.repo.Registry, auth, l.guard(auth == authn.Anonymous), []string{l.repo.Scope(transport.PullScope)})
	if err != nil {
		return nil, err
	}
	l.login = login
	return login, nil
}

// auth returns the credentials for the registry, as far as it may be told.
func (l *loggedIn) auth(ctx context.Context) (authn.Authenticator, error) {
	host := l.repo.RegistryStr()
	if l.keychain == nil {
		return authn.Anonymous, nil
	}
	auth, err := authn.Resolve(ctx, l.keychain, l.repo)
	if err != nil {
		return nil, &fetch.FatalError{Err: &keychainError{host, err}}
	}
	if auth == authn.Anonymous || loopback(host) || !slices.Contains(l.insecure, host) {
		return auth, nil
	}
	spoken, err := transport.Ping(ctx, l.repo.Registry, l.guard(true))
	if err != nil {
		return nil, err
	}
	l.withheld.Store(spoken.Insecure)
	if spoken.Insecure {
		return authn.Anonymous, nil
	}
	return auth, nil
}

// guard lets http through where it may be spoken: for nobody to hosts that were
// named, for somebody to this machine alone.
func (l *loggedIn) guard(nobody bool) http.RoundTripper {
	return guard{l.base, func(host string) bool { return loopback(host) || nobody && slices.Contains(l.insecure, host) }}
}

// guard sends requests that have to do with a login, token servers' included.
type guard struct {
	base  http.RoundTripper
	plain func(host string) bool // http may be spoken there
}

// RoundTrip implements http.RoundTripper.
func (g guard) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "https" && !g.plain(r.URL.Host) {
		return nil, fmt.Errorf("%s is not asked over http (--insecure-registry %s allows it, without passwords)", r.URL.Host, r.URL.Host)
	}
	resp, err := g.base.RoundTrip(r)
	if err == nil && (resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode == http.StatusServiceUnavailable) {
		return nil, refusal(resp) // has Retry-After, which transport.Error has not
	}
	return resp, err
}

// loopback reports whether host, perhaps with a port, is this machine. Names
// below localhost are not: who resolves them is not known.
func loopback(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	addr, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return host == "localhost" || err == nil && addr.Unmap().IsLoopback()
}

// loginError makes an answer of the registry, or of who gives out its tokens, one
// that package release knows, so that only what may pass is tried again.
func loginError(err error) error {
	var answer *transport.Error
	var sending *url.Error
	var refused *fetch.StatusError
	switch {
	case errors.As(err, &refused):
		return fmt.Errorf("logging in: %w", refused)
	case errors.As(err, &answer):
		refused = &fetch.StatusError{Code: answer.StatusCode}
		if len(answer.Errors) > 0 {
			refused.Reason = reason(string(answer.Errors[0].Code), answer.Errors[0].Message)
		}
		return fmt.Errorf("logging in: %w", refused)
	case errors.As(err, &sending):
		return sending.Err // without its URL: our caller's says which registry it is
	}
	return err
}

// maxRefusal bounds what is read of an answer that is not what was asked for.
const maxRefusal = 64 << 10

// refusal returns the error that resp stands for, with the registry's reason (OCI
// distribution specification 1.1, "Error Codes"), and ends resp.
func refusal(resp *http.Response) error {
	defer resp.Body.Close()
	e := fetch.NewStatusError(resp)
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxRefusal)) // without it there is no reason, and that is all
	var answer struct {
		Errors []struct{ Code, Message string }
	}
	mediaType, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	switch err := json.Unmarshal(body, &answer); {
	case err == nil && len(answer.Errors) > 0:
		e.Reason = reason(answer.Errors[0].Code, answer.Errors[0].Message)
	case mediaType == "text/plain":
		e.Reason = reason("", string(body))
	}
	return e
}

// maxReason bounds a reason, in characters.
const maxReason = 200

// reason is a registry's reason as people see it: one line.
func reason(code, message string) string {
	text := strings.TrimSpace(message)
	if code != "" {
		text = strings.TrimSuffix(code+": "+text, ": ")
	}
	shown := []rune(strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, text))
	if len(shown) > maxReason {
		shown = append(shown[:maxReason], []rune("...")...)
	}
	return string(shown)
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
