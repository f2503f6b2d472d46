// Package metadata reads what Compute Engine tells an instance of itself.
package metadata

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// Config says how a Client works. The zero value is a real instance's.
type Config struct {
	// Endpoints are base URLs of the metadata server, asked in turn; nil means
	// http://169.254.169.254 and http://[fd20:ce::254].
	Endpoints []string
	// SecretManager is Secret Manager's base URL; empty means
	// https://secretmanager.googleapis.com.
	SecretManager string
	// Transport carries the requests; nil means one of the Client's own,
	// without a proxy.
	Transport http.RoundTripper
	// Waiting, if set, is called with the error of every failed try that is
	// going to be repeated.
	Waiting func(error)

	FirstPause time.Duration // before the second try; 0 means 100 ms
	MaxPause   time.Duration // the longest between two tries; 0 means 5 s
	TryTimeout time.Duration // for one try, with its answer; 0 means 5 s
	// Sleep waits for d or until ctx ends; nil means by the clock.
	Sleep func(ctx context.Context, d time.Duration)
}

// Client asks the metadata server and Secret Manager. Make one with [New].
type Client struct {
	config Config
}

// New returns a Client.
func New(c Config) *Client { return &Client{config: c} }

// StatusError is an answer that waiting does not change.
type StatusError struct {
	URL  string
	Code int    // HTTP status
	Body string // the answer's text, shortened

	hint string // what it means here and what to do
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("%s answered %d %s", e.URL, e.Code, http.StatusText(e.Code))
}

// ErrDisabled is in the errors of PutGuestAttribute where the instance and its
// project have no enable-guest-attributes=TRUE.
var ErrDisabled = errors.New("guest attributes are not enabled")

// Get returns the instance's metadata. It asks until there is an answer: it
// returns an error only where waiting cannot help (a *StatusError) or ctx ended.
func (c *Client) Get(ctx context.Context) (*Metadata, error) {
	return nil, errors.New("not written yet")
}

// Secret returns the payload of a Secret Manager version, named
// "projects/P/secrets/S/versions/V", as the instance's service account. It is
// as patient as Get.
func (c *Client) Secret(ctx context.Context, version string) (string, error) {
	return "", errors.New("not written yet")
}

// PutGuestAttribute writes one guest attribute. It tries once: guest
// attributes are a courtesy, and limited to ten requests a minute.
func (c *Client) PutGuestAttribute(ctx context.Context, namespace, key, value string) error {
	return errors.New("not written yet")
}
