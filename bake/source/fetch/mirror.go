package fetch

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/nodebake/bake/bake/manifest"
)

// Mirror holds files by their digests.
type Mirror interface {
	// URL returns where the file that has all of sums is: an http, https or
	// file URL, below the mirror's own. It is false where the mirror has none.
	URL(sums []manifest.Digest) (string, bool)
	// Base returns the URL of the mirror itself, which ends in a slash. File
	// URLs are followed only below it, and with Offline any.
	Base() string
	// String names the mirror for people.
	String() string
}

// Mirrored reports whether the mirror's index has the file of req.
func (f *Fetcher) Mirrored(req Request) bool {
	if f.config.Mirror == nil {
		return false
	}
	_, ok := f.config.Mirror.URL(req.Sums)
	return ok
}

// urls returns where to ask for the file of req, the mirror first.
func (f *Fetcher) urls(req Request) ([]string, error) {
	if f.config.Mirror == nil {
		return req.URLs, nil
	}
	first, ok := f.config.Mirror.URL(req.Sums)
	ok = ok && req.As == ""
	switch {
	case f.config.Offline && !ok:
		return nil, &UnreachableError{Name: req.Name, Lacking: f.config.Mirror.String()}
	case f.config.Offline:
		return []string{first}, nil
	case !ok:
		return req.URLs, nil
	}
	return append([]string{first}, req.URLs...), nil
}

// attempt returns what the caller is told of a URL.
func (f *Fetcher) attempt(rawURL string, err error) Attempt {
	a := Attempt{URL: redact(rawURL), Err: err}
	file, status, digest := (*fileError)(nil), (*StatusError)(nil), (*DigestError)(nil)
	if errors.As(err, &file) || errors.As(err, &status) || errors.As(err, &digest) {
		a.Mirror = f.mirrorOf(rawURL)
	}
	return a
}

// mirrorOf names the mirror where rawURL is of it, else it is empty.
func (f *Fetcher) mirrorOf(rawURL string) string {
	if f.config.Mirror == nil || !strings.HasPrefix(rawURL, f.config.Mirror.Base()) {
		return ""
	}
	return f.config.Mirror.String()
}

// noteLacking says which files the mirror does not have, where others are asked
// for them.
func (f *Fetcher) noteLacking(missing []Request) {
	if f.config.Mirror == nil || f.config.Offline {
		return
	}
	var lacking []string
	for _, req := range missing {
		if !f.Mirrored(req) {
			lacking = append(lacking, req.Name)
		}
	}
	count := len(lacking)
	switch {
	case count == 0:
		return
	case count > 3:
		lacking = append(lacking[:3], fmt.Sprintf("%d more", count-3))
	}
	f.config.Progress.Note("the mirror %s lacks %d of %d files, which are fetched from elsewhere: %s",
		f.config.Mirror, count, len(missing), strings.Join(lacking, ", "))
}

// errOffline says that a URL is not asked.
var errOffline = errors.New("it is not asked, since nothing but the mirror may be (--offline)")

// allowed returns an error where rawURL must not be asked.
func (f *Fetcher) allowed(rawURL string) error {
	if f.config.Offline && f.mirrorOf(rawURL) == "" {
		return &invalidURLError{errOffline}
	}
	return nil
}

// redirectError says that a server sends us where we don't go.
type redirectError struct{ to string }

func (e *redirectError) Error() string {
	return fmt.Sprintf("it redirects to %s, which is not followed", e.to)
}

// checkRedirect decides whether to follow a server that sends us on. A web
// server must not make us read files, and offline a mirror must not lead away
// from itself.
func (f *Fetcher) checkRedirect(req *http.Request, via []*http.Request) error {
	if len(via) > maxRedirects {
		return errRedirects
	}
	if scheme := req.URL.Scheme; scheme != "http" && scheme != "https" ||
		f.config.Offline && (scheme != via[0].URL.Scheme || req.URL.Host != via[0].URL.Host) {
		return &redirectError{req.URL.Redacted()}
	}
	if f.config.PublicOnly && !isOurs(req.Context()) && req.URL.Scheme == "http" && via[len(via)-1].URL.Scheme == "https" {
		return &redirectError{req.URL.Redacted()}
	}
	return nil
}

// redact returns a URL as errors and notes show it, without a password.
func redact(rawURL string) string {
	u, err := url.Parse(rawURL)
	if i := strings.LastIndex(rawURL, "@"); err != nil && i >= 0 {
		return "xxxxx" + rawURL[i:] // who knows what is before it
	}
	if err == nil && u.User != nil {
		return u.Redacted()
	}
	return rawURL
}
