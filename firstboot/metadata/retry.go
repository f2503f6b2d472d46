package metadata

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode"
)

// A tryError is a failure that passes with time.
type tryError struct {
	at      string // scheme and host
	text    string // the same for the same reason
	kind    kind
	timeout bool          // the request had too little time, perhaps
	after   time.Duration // what Retry-After asks for
}

func (e *tryError) Error() string { return e.at + ": " + e.text }

// kind orders failures by how much they tell of the server.
type kind int

const (
	unreachable kind = iota // no route yet, nothing listens: known at once, and over within a moment at boot
	silent                  // no answer in time, connection reset, cut short
	strange                 // an answer, not of the server we look for
	busy                    // the server says: later
	throttled               // the server says: less often
)

// eager is for how long a machine without a network is asked quickly: trying
// costs nothing there, and every pause delays the boot.
const (
	eager      = time.Minute
	eagerPause = 250 * time.Millisecond
)

// retry runs try until it succeeds, fails for good or ctx ends. It tells try
// how long a request may take.
func (c *Client) retry(ctx context.Context, waiting string, try func(ctx context.Context, timeout time.Duration) error) error {
	var waited time.Duration
	var timeouts uint
	pause, longPause := c.config.FirstPause, 10*c.config.FirstPause
	for {
		err := try(ctx, c.config.TryTimeout<<min(timeouts, 3))
		if err == nil || !passes(err) {
			return err
		}
		ended := func() error { return fmt.Errorf("%s: %w (last: %w)", waiting, ctx.Err(), err) }
		if ctx.Err() != nil {
			return ended()
		}
		c.config.Waiting(err)

		d := pause
		pause = min(2*pause, c.config.MaxPause)
		var t *tryError
		if !errors.As(err, &t) {
			t = &tryError{kind: strange}
		}
		if t.timeout {
			timeouts++
		}
		switch {
		case t.kind == unreachable && waited < eager:
			d = min(d, eagerPause)
		case t.kind == throttled:
			d = longPause
			longPause = min(2*longPause, 6*c.config.MaxPause)
		}
		// Half of a pause is jitter: machines that saw the same outage come
		// back at different moments.
		d = max(d/2+rand.N(d/2+1), min(t.after, 6*c.config.MaxPause))
		c.config.Sleep(ctx, d)
		if ctx.Err() != nil {
			return ended()
		}
		waited += d
	}
}

// passes says whether waiting may help against err.
func passes(err error) bool {
	var try *tryError
	var parse *ParseError
	return errors.As(err, &try) || errors.As(err, &parse)
}

// classify returns nil for 200, a *StatusError for what waiting does not change,
// and a *tryError for the rest.
func classify(resp *http.Response, body []byte, hint func(code int) string) error {
	code := resp.StatusCode
	switch {
	case code == http.StatusOK:
		return nil
	case code == http.StatusTooManyRequests:
		return &tryError{at: origin(resp), kind: throttled, text: describe(resp), after: retryAfter(resp)}
	case code >= 500 || code == http.StatusRequestTimeout || code == http.StatusTooEarly:
		return &tryError{at: origin(resp), kind: busy, text: describe(resp), after: retryAfter(resp)}
	case code < 400:
		return &tryError{at: origin(resp), kind: strange, text: describe(resp)}
	}
	e := &StatusError{URL: resp.Request.URL.String(), Code: code, Body: shorten(resp, body)}
	if hint != nil {
		e.hint = hint(code)
	}
	return e
}

func origin(resp *http.Response) string {
	return resp.Request.URL.Scheme + "://" + resp.Request.URL.Host
}

// describe is an answer's status and, where it is one for people, its type.
func describe(resp *http.Response) string {
	text := fmt.Sprintf("answered %d %s", resp.StatusCode, http.StatusText(resp.StatusCode))
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html") {
		text += " (a web page)"
	}
	return text
}

func retryAfter(resp *http.Response) time.Duration {
	seconds, err := strconv.Atoi(resp.Header.Get("Retry-After"))
	if err != nil || seconds < 0 || seconds > 3600 {
		return 0
	}
	return time.Duration(seconds) * time.Second
}

// transportError describes a request without an answer, without the ports and
// times that make every such error different.
func transportError(at string, err error) error {
	var errno syscall.Errno
	var dns *net.DNSError
	var timeout net.Error
	var wrapped *url.Error
	var certificate x509.CertificateInvalidError
	e := &tryError{at: at, kind: silent}
	switch {
	case errors.As(err, &dns):
		e.kind, e.text = unreachable, "looking up "+dns.Name+": "+afterPorts(dns.Err)
	case errors.As(err, &certificate) && certificate.Reason == x509.Expired:
		e.kind, e.text = strange, "its certificate is not valid at this machine's time; is the clock right?"
	case errors.As(err, &errno):
		e.text = errno.Error()
		switch errno {
		case syscall.ECONNREFUSED, syscall.ENETUNREACH, syscall.EHOSTUNREACH, syscall.EADDRNOTAVAIL, syscall.ENETDOWN, syscall.EAFNOSUPPORT:
			e.kind = unreachable
		}
	case errors.As(err, &timeout) && timeout.Timeout(), errors.Is(err, context.DeadlineExceeded):
		e.text, e.timeout = "no answer in time", true
	case errors.Is(err, io.ErrUnexpectedEOF):
		e.text = "the answer was cut short"
	case errors.Is(err, io.EOF):
		e.text = "the connection was closed without an answer"
	case errors.As(err, &wrapped):
		e.text = wrapped.Err.Error() // without the method and URL
	default:
		e.text = err.Error()
	}
	return e
}

// afterPorts is what a network error says after "read udp ADDRESS:PORT->...: ".
func afterPorts(text string) string {
	if i := strings.LastIndex(text, ": "); i >= 0 && strings.Contains(text[:i], "->") {
		return text[i+2:]
	}
	return text
}

// A StatusError is an answer that waiting does not change.
type StatusError struct {
	URL  string
	Code int    // HTTP status
	Body string // the answer's text in one line, shortened; what kind of page it is for HTML

	hint string // what it means here and what to do
}

func (e *StatusError) Error() string {
	text := fmt.Sprintf("%s answered %d %s", e.URL, e.Code, http.StatusText(e.Code))
	if e.hint != "" {
		text += ": " + e.hint
	}
	if e.Body != "" {
		text += fmt.Sprintf(" (it says: %s)", e.Body)
	}
	return text
}

// metadataHint says what a status of the metadata server means for Get.
func metadataHint(code int) string {
	switch code {
	case http.StatusBadRequest:
		return "it does not understand the request for all metadata as JSON; is it Compute Engine's?"
	case http.StatusForbidden:
		return "it refuses this machine's requests; is there a proxy between, adding X-Forwarded-For or removing Metadata-Flavor?"
	case http.StatusNotFound:
		return "it has no metadata of version v1; is it Compute Engine's?"
	case http.StatusMethodNotAllowed:
		return "it allows no GET; is it Compute Engine's?"
	}
	return ""
}

// shorten makes one line of an answer's text.
func shorten(resp *http.Response, body []byte) string {
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html") {
		return "a web page"
	}
	return oneLine(string(body))
}

const maxText = 400 // characters: what fits in a line of a console

func oneLine(s string) string {
	runes := []rune(strings.Join(strings.FieldsFunc(s, func(r rune) bool {
		return unicode.IsSpace(r) || !unicode.IsPrint(r)
	}), " "))
	if len(runes) > maxText {
		return string(runes[:maxText]) + "…"
	}
	return string(runes)
}
