// Package fetch brings files from web servers into the store and unpacks
// published artifacts to packs.
//
// A [Fetcher] downloads several files at once. Each is pinned by digest, may
// be available at several URLs, is resumed where an earlier attempt ended, and is
// verified while it is read; what has the wrong digest is never kept.
// [Fetcher.Preflight] asks for every file without downloading it, so that a
// wrong URL shows in the first seconds and not after half of the work.
//
// [Pack] takes members out of a tar archive, which may be compressed with
// gzip, xz or zstd, or takes the artifact as it is. An archive is taken for
// hostile until it is unpacked: see unpack.go for what is refused.
//
// A [Mirror] is asked for every file before its URLs. It is believed no more
// than others: what it sends is verified in the same way.
//
// The package knows no Debian mirrors, no signatures and no versions files,
// and speaks HTTP only, but for file URLs below the directory of a mirror. It
// reads neither environment nor clock: the proxy comes with [Config], and a
// Retry-After date is measured against the Date of the same response.
package fetch

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"

	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/progress"
	"github.com/nodebake/bake/bake/source/store"
)

// Config says how files are fetched. Zero values mean the defaults given.
type Config struct {
	Store *store.Store // where downloads go; required

	Proxy     func(*http.Request) (*url.URL, error) // nil: no proxy; http.ProxyFromEnvironment in a program
	RootCAs   *x509.CertPool                        // nil: those of the host
	UserAgent string                                // "bake"

	Parallel int // downloads at once: 8

	Retries int            // times that every URL is tried again where that may help: 4
	Backoff time.Duration  // before the first of them, doubled for each further one: 500 ms
	Jitter  func() float64 // in [0, 1): spreads the retries of several bakes; nil: random

	Connect time.Duration // to reach a server, TLS included: 10 s
	Stall   time.Duration // without a byte, before a request is given up: 30 s
	Answer  time.Duration // for an answer to Preflight: 5 s
	Turn    time.Duration // for an answer, where another server can be turned to first: 2 s

	// Mirror is asked for every file before its own URLs; nil: there is none.
	Mirror  Mirror
	Offline bool // nothing but Mirror is asked

	// PublicOnly is for URLs that somebody chose who is not trusted: they lead to
	// public addresses alone, whatever their names resolve to and wherever servers
	// redirect to, and not from https to http. Exempt are requests that are Own, and
	// what is in Mirror.
	PublicOnly bool

	Progress progress.Sink // nil: progress.Discard
}

// Request is one file to fetch.
type Request struct {
	Name string            // for people: "kubelet v1.36.3"
	URLs []string          // where it may be, best first; none: in a mirror only
	Sums []manifest.Digest // that it must have, all of them; at least one
	Size int64             // bytes, 0 where that is not known
	Own  bool              // URLs are of a server that the user named: see Config.PublicOnly

	// As is what the file must be fetched as, from the first of URLs: it is asked for
	// there, whatever the store and a mirror have of the same digest, until the
	// store knows that it was (see store.Fetched). Empty: the digest is all that counts.
	As string
}

// check reports a request that no server could serve.
func (r *Request) check() error {
	if len(r.Sums) == 0 {
		return fmt.Errorf("BUG: request for %s has no digest", r.Name)
	}
	if r.As != "" && len(r.URLs) == 0 {
		return fmt.Errorf("BUG: request for %s has no URL that it could be fetched from", r.Name)
	}
	return nil
}

// fetched is what the store knows of the file of r once it was fetched as r.As.
func (r *Request) fetched() store.Fetched { return store.Fetched{Name: r.As, URL: redact(r.URLs[0])} }

// artifact returns what errors of unpacking call the file of r.
func (r *Request) artifact() string {
	if len(r.URLs) == 0 {
		return r.Name
	}
	return path.Base(r.URLs[0])
}

// Fetcher downloads files. Its methods may be called from several goroutines.
type Fetcher struct {
	config    Config
	client    *http.Client
	hosts     *hosts
	announcer *announcer
}

// The defaults of Config.
const (
	defaultParallel = 8
	defaultRetries  = 4
	defaultBackoff  = 500 * time.Millisecond
	defaultConnect  = 10 * time.Second
	defaultStall    = 30 * time.Second
	defaultAnswer   = 5 * time.Second
	defaultTurn     = 2 * time.Second
)

// maxRedirects bounds how often a server may send us on. Releases need two.
const maxRedirects = 10

var errRedirects = fmt.Errorf("more than %d redirects", maxRedirects)

// New returns a Fetcher.
func New(c Config) (*Fetcher, error) {
	if c.Store == nil {
		return nil, errors.New("BUG: fetch.Config without a Store")
	}
	if c.Offline && c.Mirror == nil {
		return nil, errors.New("working offline: there is no mirror; name one with --mirror")
	}
	orDefault(&c.UserAgent, "bake")
	orDefault(&c.Parallel, defaultParallel)
	orDefault(&c.Retries, defaultRetries)
	orDefault(&c.Backoff, defaultBackoff)
	orDefault(&c.Connect, defaultConnect)
	orDefault(&c.Stall, defaultStall)
	orDefault(&c.Answer, defaultAnswer)
	orDefault(&c.Turn, defaultTurn)
	if c.Jitter == nil {
		c.Jitter = rand.Float64
	}
	if c.Progress == nil {
		c.Progress = progress.Discard{}
	}
	transport := &http.Transport{
		Proxy:                  c.Proxy,
		OnProxyConnectResponse: onConnect,
		DialContext:            (&net.Dialer{Timeout: c.Connect}).DialContext,
		TLSHandshakeTimeout:    c.Connect,
		TLSClientConfig:        &tls.Config{RootCAs: c.RootCAs},
		ForceAttemptHTTP2:      true,
		MaxIdleConnsPerHost:    max(c.Parallel, preflightParallel),
		IdleConnTimeout:        time.Minute,
		// A .tar.gz must arrive as it was published.
		DisableCompression: true,
	}
	files := fileTransport{}
	if c.Mirror != nil {
		files.base = c.Mirror.Base()
	}
	transport.RegisterProtocol("file", files)
	f := &Fetcher{config: c, hosts: newHosts(), announcer: newAnnouncer(c.Progress)}
	f.client = &http.Client{Transport: transport, CheckRedirect: f.checkRedirect}
	if c.PublicOnly {
		public := transport.Clone()
		public.Proxy = nil
		public.DialContext = (&net.Dialer{Timeout: c.Connect, Control: dialPublic}).DialContext
		f.client.Transport = routes{all: transport, public: public, proxy: c.Proxy}
	}
	return f, nil
}

func orDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

// Attempt is what became of one URL.
type Attempt struct {
	URL    string // without a password
	Err    error  // a *StatusError, a *DigestError, or an error of the network
	Mirror string // names the mirror whose URL it is, where its index promised more; else empty
}

// UnreachableError says that a file is unavailable at any of its URLs.
type UnreachableError struct {
	Name    string
	Tried   []Attempt
	Lacking string // names the mirror that does not have the file, where nothing else may be asked
}

func (e *UnreachableError) Error() string {
	switch {
	case e.Lacking != "":
		return fmt.Sprintf("%s is not in the mirror %s, and nothing else may be asked (--offline)", e.Name, e.Lacking)
	case len(e.Tried) == 0:
		return fmt.Sprintf("%s is unavailable: no URL is known for it", e.Name)
	case len(e.Tried) == 1 && e.Tried[0].URL == e.Name: // it has no other name
		return fmt.Sprintf("%s is unavailable: %v", e.Name, e.Tried[0].Err)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s is unavailable:", e.Name)
	for _, t := range e.Tried {
		fmt.Fprintf(&b, "\n  %s: ", t.URL)
		digest := (*DigestError)(nil)
		switch {
		case errors.As(t.Err, &digest): // its own text begins with name and URL
			fmt.Fprintf(&b, "it is %s, want %s", digest.Got, digest.Want)
		default:
			fmt.Fprint(&b, t.Err)
		}
		if t.Mirror != "" {
			fmt.Fprintf(&b, "; the mirror %s is not as its index says: copy or make it again (%s)", t.Mirror, checkCommand(t.Mirror))
		}
	}
	return b.String()
}

func (e *UnreachableError) Unwrap() []error {
	var errs []error
	for _, t := range e.Tried {
		errs = append(errs, t.Err)
	}
	return errs
}

// lasting reports whether trying again later would not help.
func (e *UnreachableError) lasting() bool {
	for _, t := range e.Tried {
		if !permanent(t.Err) {
			return false
		}
	}
	return true
}

// DigestError says that a server sent something else than what was pinned. It
// was not kept.
type DigestError struct {
	Name      string
	URL       string
	Got, Want string // digests, or "93 bytes"
	Mirror    string // names the mirror that it is from; empty: it is from elsewhere
}

func (e *DigestError) Error() string {
	if e.Mirror != "" {
		return fmt.Sprintf("%s from %s is %s, want %s: nothing was kept; the mirror %s is damaged: copy or make it again (%s)",
			e.Name, e.URL, e.Got, e.Want, e.Mirror, checkCommand(e.Mirror))
	}
	return fmt.Sprintf("%s from %s is %s, want %s: nothing was kept; compare with what the publisher states, "+
		"and correct the versions file or the lock if that is wrong, else a mirror or proxy altered the file",
		e.Name, e.URL, e.Got, e.Want)
}

// checkCommand says how to find out what else is wrong with a mirror.
func checkCommand(name string) string {
	if strings.Contains(name, "://") {
		return "where its directory is, `bake mirror check DIR` says what else is wrong"
	}
	return "what else is wrong, run: " + manifest.Command("bake", "mirror", "check", name)
}

// StatusError is an answer of a server that is not the file.
type StatusError struct {
	Code       int
	RetryAfter time.Duration // as the server asks; 0: it does not
	Reason     string        // in the server's words; "": it gives none that we look for
}

func (e *StatusError) Error() string {
	text := strings.TrimSpace(fmt.Sprintf("%d %s", e.Code, http.StatusText(e.Code)))
	if e.Reason != "" {
		text += " (" + e.Reason + ")"
	}
	return text
}

// FatalError is what a transport (see Through) fails with where that is no
// server's fault and no other URL would help, such as a broken configuration:
// it ends the work.
type FatalError struct{ Err error }

func (e *FatalError) Error() string { return e.Err.Error() }
func (e *FatalError) Unwrap() error { return e.Err }
