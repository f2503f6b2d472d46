package fetch

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nodebake/bake/bake/source/store"
)

// maxRetryAfter bounds what a server may ask us to wait.
const maxRetryAfter = time.Minute

// request sends one request and returns the response with its head read, which
// is awaited for as long as patience says. Its body fails once no byte came for
// Config.Stall.
func (f *Fetcher) request(ctx context.Context, method, rawURL string, header http.Header, patience time.Duration) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	w := &watched{cancel: cancel, cause: func() error { return context.Cause(ctx) }, patience: patience}
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { w.connected.Store(true) },
	})
	w.timer = time.AfterFunc(patience, w.expire)
	req, err := http.NewRequestWithContext(ctx, method, rawURL, nil)
	if err != nil {
		w.Close()
		if u, ok := errors.AsType[*url.Error](err); ok {
			err = u.Err // it quotes all of the URL
		}
		return nil, &invalidURLError{err}
	}
	if req.URL.Scheme != "http" && req.URL.Scheme != "https" && req.URL.Scheme != "file" {
		w.Close()
		return nil, &invalidURLError{fmt.Errorf("scheme %q is neither http nor https", req.URL.Scheme)}
	}
	if err := f.allowed(rawURL); err != nil {
		w.Close()
		return nil, err
	}
	maps.Copy(req.Header, header)
	req.Header.Set("User-Agent", f.config.UserAgent)
	resp, err := f.client.Do(req)
	w.timer.Stop()
	if err != nil {
		err = w.explain(err)
		w.Close()
		return nil, err
	}
	w.body, resp.Body, w.patience = resp.Body, w, f.config.Stall
	return resp, nil
}

// invalidURLError says that no request was sent.
type invalidURLError struct{ err error }

func (e *invalidURLError) Error() string { return e.err.Error() }

// stallError says that a server went silent.
type stallError struct {
	after     time.Duration
	connected bool // else nobody was there to be silent
}

func (e *stallError) Error() string { return fmt.Sprintf("not a byte came for %v", e.after) }

// watched is a response body that ends the request where a read takes too
// long.
type watched struct {
	body     io.ReadCloser // nil until the head was read
	cancel   context.CancelCauseFunc
	cause    func() error // why the request was ended, if it was
	timer    *time.Timer
	patience time.Duration

	connected atomic.Bool
}

func (w *watched) expire() { w.cancel(&stallError{w.patience, w.connected.Load()}) }

func (w *watched) Read(b []byte) (int, error) {
	w.timer.Reset(w.patience)
	n, err := w.body.Read(b)
	w.timer.Stop()
	if err != nil && err != io.EOF {
		err = w.explain(err)
	}
	return n, err
}

func (w *watched) Close() error {
	w.timer.Stop()
	w.cancel(nil)
	if w.body == nil {
		return nil
	}
	return w.body.Close()
}

// explain says why a request failed, without the method and URL that
// net/http puts before it: our callers say which URL it was.
func (w *watched) explain(err error) error {
	if cause := w.cause(); cause != nil {
		return cause
	}
	if errors.Is(err, errRedirects) {
		return errRedirects
	}
	if address, ok := errors.AsType[*addressError](err); ok {
		return address
	}
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	if unknown := (x509.UnknownAuthorityError{}); errors.As(err, &unknown) {
		return fmt.Errorf("%w (where a proxy or a server of yours has a CA of its own, add that to this machine's, or name a file with its certificate in SSL_CERT_FILE)", err)
	}
	return err
}

// NewStatusError returns the error that resp, which is not the file, stands for.
func NewStatusError(resp *http.Response) *StatusError {
	e := &StatusError{Code: resp.StatusCode}
	after := resp.Header.Get("Retry-After") // RFC 9110, section 10.2.3: seconds or a date
	if seconds, err := strconv.Atoi(after); err == nil && seconds > 0 {
		e.RetryAfter = min(time.Duration(seconds)*time.Second, maxRetryAfter)
	} else if until, err := http.ParseTime(after); err == nil {
		if date, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
			e.RetryAfter = min(max(until.Sub(date), 0), maxRetryAfter)
		}
	}
	return e
}

// permanent reports whether trying the same URL again can't help.
func permanent(err error) bool {
	if status, ok := errors.AsType[*StatusError](err); ok {
		switch status.Code {
		case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests,
			http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
			return false
		}
		return true
	}
	if isAddress(err) {
		return true
	}
	if refused, ok := errors.AsType[*proxyError](err); ok {
		return refused.code < http.StatusInternalServerError
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		return dns.IsNotFound
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return true
	}
	if notTLS := (tls.RecordHeaderError{}); errors.As(err, &notTLS) {
		return true
	}
	if _, ok := errors.AsType[*DigestError](err); ok {
		return true
	}
	if _, ok := errors.AsType[*invalidURLError](err); ok {
		return true
	}
	if _, ok := errors.AsType[*fileError](err); ok {
		return true
	}
	if _, ok := errors.AsType[*redirectError](err); ok {
		return true
	}
	if _, ok := errors.AsType[*rejectedError](err); ok {
		return true
	}
	return errors.Is(err, http.ErrSchemeMismatch) || errors.Is(err, errRedirects) || errors.Is(err, ErrTooLarge)
}

// fatal reports whether no URL can help: the disk is full or the store fails, or
// a FatalError says so.
func fatal(err error) bool {
	full, failed, other := (*store.FullError)(nil), (*storeError)(nil), (*FatalError)(nil)
	return errors.As(err, &full) || errors.As(err, &failed) || errors.As(err, &other)
}

// storeError is an error of the store, which no server is to blame for.
type storeError struct{ err error }

func (e *storeError) Error() string { return e.err.Error() }
func (e *storeError) Unwrap() error { return e.err }

// tryAll calls try with each URL until one succeeds, and with how long an answer
// is to be awaited. URLs whose failure may pass are tried again after a pause, up
// to Retries times. A server that does not answer is left for the next URL's
// after Turn, asked last from then on, and given all patience where no other has
// the file; once in a run, then it is as good as gone.
func (f *Fetcher) tryAll(ctx context.Context, name string, urls []string, try func(ctx context.Context, url string, patience time.Duration) error) error {
	urls = f.downLast(urls)
	last := make([]error, len(urls))
	settled := false
	for round := 0; ; round++ {
		hope, pause := false, time.Duration(0)
		for i, url := range urls {
			if last[i] != nil && permanent(last[i]) {
				continue
			}
			_, spent := f.isDown(url)
			// Alone, it is asked as if nothing had been.
			spent = spent && slices.ContainsFunc(urls, func(other string) bool { return hostOf(other) != hostOf(url) })
			hurry := settled || spent || round < f.config.Retries && f.turnsTo(url, hopeful(urls[i+1:], last[i+1:]))
			err := try(ctx, url, f.patience(f.config.Stall, hurry))
			switch {
			case err == nil:
				f.answered(url)
				return nil
			case ctx.Err() != nil:
				return fmt.Errorf("fetching %s: %w", name, context.Cause(ctx))
			case fatal(err):
				return fmt.Errorf("fetching %s: %w", name, err)
			}
			last[i] = err
			if unanswered(err) {
				f.blame(url, err, !hurry && stalled(err) || round == f.config.Retries)
			} else {
				f.answered(url)
			}
			settled = settled || errors.Is(err, ErrSettle)
			if !permanent(err) && !spent {
				hope = true
				if status, ok := errors.AsType[*StatusError](err); ok {
					pause = max(pause, status.RetryAfter)
				}
			}
			if i+1 < len(urls) {
				f.noteFirst("next", url, err, "%s: %s: %v; trying the next URL", name, redact(url), err)
			}
		}
		hope = hope && !settled
		if !hope || round == f.config.Retries {
			return f.failure(name, urls, last)
		}
		// Half of each pause is fixed, the other half by chance.
		backoff := min(f.config.Backoff<<round, maxRetryAfter)
		pause = max(pause, time.Duration(float64(backoff)*(0.5+f.config.Jitter()/2)))
		f.noteFirst("again", urls[len(urls)-1], last[len(last)-1], "%s: %v; retry in %v", name, last[len(last)-1], pause.Round(10*time.Millisecond))
		if err := sleep(ctx, pause); err != nil {
			return fmt.Errorf("fetching %s: %w", name, err)
		}
	}
}

// hopeful returns those of urls whose last error is none, or may pass.
func hopeful(urls []string, last []error) (list []string) {
	for i, url := range urls {
		if last[i] == nil || !permanent(last[i]) {
			list = append(list, url)
		}
	}
	return list
}

// failure returns what the caller is told after every URL failed. A digest
// that is wrong is the more alarming news than a server that is down.
func (f *Fetcher) failure(name string, urls []string, errs []error) error {
	e := &UnreachableError{Name: name}
	var wrong []error
	for i, url := range urls {
		e.Tried = append(e.Tried, f.attempt(url, errs[i]))
		if digest := (*DigestError)(nil); errors.As(errs[i], &digest) {
			wrong = append(wrong, errs[i])
		}
	}
	if len(wrong) > 0 {
		return errors.Join(wrong...)
	}
	return e
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// validator returns what If-Range can carry for resp (RFC 9110, section
// 13.1.5): a strong entity tag, else the modification date, else nothing.
func validator(resp *http.Response) string {
	if tag := resp.Header.Get("ETag"); strings.HasPrefix(tag, `"`) {
		return tag
	}
	return resp.Header.Get("Last-Modified")
}

// proxyError is a proxy's answer to CONNECT where it does not connect.
type proxyError struct{ code int }

func (e *proxyError) Error() string {
	return strings.TrimSpace(fmt.Sprintf("the proxy does not connect to it: %d %s", e.code, http.StatusText(e.code)))
}

// onConnect reads the answer of a proxy (http.Transport.OnProxyConnectResponse).
func onConnect(_ context.Context, _ *url.URL, _ *http.Request, resp *http.Response) error {
	if resp.StatusCode != http.StatusOK {
		return &proxyError{resp.StatusCode}
	}
	return nil
}
