package fetch

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync"

	"golang.org/x/sync/errgroup"
)

// preflightParallel is how many servers' answers are awaited at once. They are
// small, so what bounds them is round trips.
const preflightParallel = 16

// PreflightError names all that is unavailable; where that is many files for one
// reason, in one line.
type PreflightError struct {
	Requests []*UnreachableError // in the order of the requests
}

func (e *PreflightError) Error() string   { return errors.Join(e.Unwrap()...).Error() }
func (e *PreflightError) Unwrap() []error { return group(e.Requests) }

// Preflight asks, for every request that the store can't serve, whether one of
// its URLs has the file. It downloads none. The error is a PreflightError that
// has each file that is unavailable, with the reason for each URL.
func (f *Fetcher) Preflight(ctx context.Context, reqs []Request) error {
	p := &preflight{Fetcher: f, alive: map[string]bool{}, dead: map[string]error{}}
	results := make([]*UnreachableError, len(reqs))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(preflightParallel)
	for i, req := range reqs {
		group.Go(func() error {
			_, ok, err := f.find(ctx, req)
			if ok || err != nil {
				return err
			}
			results[i], err = p.ask(ctx, req)
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return err
		})
	}
	switch err := group.Wait(); {
	case fatal(err):
		return err
	case err != nil:
		return fmt.Errorf("asking for %d files: %w", len(reqs), err)
	}
	e := &PreflightError{}
	for _, r := range results {
		if r != nil {
			e.Requests = append(e.Requests, r)
		}
	}
	if len(e.Requests) > 0 {
		return e
	}
	return nil
}

// preflight is one run of Preflight.
type preflight struct {
	*Fetcher
	mu    sync.Mutex
	alive map[string]bool  // hosts that answered anything
	dead  map[string]error // hosts that could not be reached at all, and why
}

// ask returns nil as soon as one URL has the file. The error is one that ends
// the work.
func (p *preflight) ask(ctx context.Context, req Request) (*UnreachableError, error) {
	e := &UnreachableError{Name: req.Name}
	urls, err := p.urls(req)
	if errors.As(err, &e) {
		return e, nil
	}
	urls = p.downLast(urls)
	var left []string // not waited for, since others could be asked
	for i, u := range urls {
		err, hurried := p.askInTurn(ctx, req, u, urls[i+1:])
		switch {
		case err == nil:
			return nil, nil
		case fatal(err):
			return nil, err
		case hurried:
			left = append(left, u)
		default:
			e.Tried = append(e.Tried, p.attempt(u, err))
		}
	}
	for _, u := range left {
		err := p.askURL(ctx, req, u)
		switch {
		case err == nil:
			return nil, nil
		case fatal(err):
			return nil, err
		}
		e.Tried = append(e.Tried, p.attempt(u, err))
	}
	return e, nil
}

// askInTurn is askURL that does not wait for long where others can be asked,
// and says whether that is why there is an error.
func (p *preflight) askInTurn(ctx context.Context, req Request, rawURL string, others []string) (_ error, hurried bool) {
	if !p.turnsTo(rawURL, others) || p.config.Turn >= p.config.Answer {
		return p.askURL(ctx, req, rawURL), false
	}
	turn := &stallError{after: p.config.Turn}
	short, stop := context.WithTimeoutCause(ctx, p.config.Turn, turn)
	defer stop()
	err := p.askURL(short, req, rawURL)
	if err == nil || short.Err() == nil || ctx.Err() != nil {
		return err, false
	}
	p.blame(rawURL, turn, false)
	return turn, true
}

func (p *preflight) askURL(ctx context.Context, req Request, rawURL string) error {
	host := rawURL
	if u, err := url.Parse(rawURL); err == nil {
		host = u.Scheme + "://" + u.Host
		if u.Scheme == "file" {
			host = rawURL // nothing that is waited for
		}
	}
	// A host that is down is waited for once, not for each of its 200 files.
	p.mu.Lock()
	err := p.dead[host]
	p.mu.Unlock()
	if err != nil {
		return err
	}
	err = p.probe(ctx, req, rawURL)
	if ctx.Err() != nil || fatal(err) {
		return err
	}
	status, digest, redirect := (*StatusError)(nil), (*DigestError)(nil), (*redirectError)(nil)
	answered := err == nil || errors.As(err, &status) || errors.As(err, &digest) || errors.As(err, &redirect) || errors.Is(err, errRedirects) || isAddress(err)
	p.mu.Lock()
	defer p.mu.Unlock()
	if answered {
		p.alive[host] = true
	} else if !p.alive[host] {
		p.dead[host] = err
		p.blame(rawURL, err, false)
	}
	if busy(err) {
		// The server is there and does not deny the file: Fetch, which is
		// patient, will see.
		return nil
	}
	return err
}

// busy reports whether a server asks us to come again.
func busy(err error) bool {
	status, ok := errors.AsType[*StatusError](err)
	return ok &&
		(status.Code == http.StatusTooManyRequests || status.Code == http.StatusServiceUnavailable && status.RetryAfter > 0)
}

func stalled(err error) bool {
	_, ok := errors.AsType[*stallError](err)
	return ok
}

// probe asks for a file by HEAD, of which only a yes is believed. Servers that
// have a file answer HEAD with 400, 401, 403, 404, 405 and 500: proxies that
// fetch a file when somebody wants it, stores whose URLs are signed for GET, and
// such as nobody ever tried. What counts is GET, of one byte.
func (p *preflight) probe(ctx context.Context, req Request, url string) error {
	method, paused := http.MethodHead, false
	for {
		err := p.askBy(ctx, method, req, url)
		status, digest := (*StatusError)(nil), (*DigestError)(nil)
		answered := errors.As(err, &status) || errors.As(err, &digest)
		switch {
		case err == nil, ctx.Err() != nil, stalled(err), busy(err), fatal(err):
			return err
		case method == http.MethodHead && answered:
		case permanent(err), paused:
			return err
		default:
			if err := sleep(ctx, p.config.Backoff); err != nil {
				return err
			}
			paused = true
		}
		method = http.MethodGet
	}
}

// askBy asks for a file by one method and reads nothing of it.
func (p *preflight) askBy(ctx context.Context, method string, req Request, url string) error {
	var header http.Header
	if method == http.MethodGet {
		header = http.Header{"Range": {"bytes=0-0"}}
	}
	resp, err := p.request(p.choose(ctx, req, url), method, url, header, p.config.Answer)
	if err != nil {
		return err
	}
	resp.Body.Close()
	size := int64(-1)
	switch resp.StatusCode {
	case http.StatusOK:
		size = resp.ContentLength
	case http.StatusPartialContent:
		if _, all, ok := parseContentRange(resp.Header.Get("Content-Range")); ok {
			size = all
		}
	default:
		return NewStatusError(resp)
	}
	// Some servers answer HEAD with a length of 0 for all files.
	if req.Size > 0 && size > 0 && size != req.Size {
		return &DigestError{
			Name: req.Name, URL: redact(url), Mirror: p.mirrorOf(url),
			Got: fmt.Sprintf("%d bytes", size), Want: fmt.Sprintf("%d bytes", req.Size),
		}
	}
	return nil
}
