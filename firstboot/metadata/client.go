// Package metadata asks Compute Engine's metadata server, and Secret Manager,
// for what configures this machine.
//
// It retries: at boot there may be no route yet, the server may be migrating
// or a stranger may answer at its address, and all of that passes. Get and
// Secret return an error only for what does not pass (a [StatusError], a name
// of the wrong form) or when their context ends. They ask by address, never by
// name, and never look at the machine's firmware to guess where they run.
//
// It does not check what the values mean, write anything but guest attributes,
// follow redirects, use proxies, or wait for changes.
//
// Why not cloud.google.com/go/compute/metadata (v0.10.0): it adds only 120 KB,
// but gives up after five repetitions, about 3 s; does not repeat on "network
// is unreachable", which is what a machine without a route yet says; takes
// any 200, also a captive portal's, since it does not check the answer's
// header; reads bodies without a limit; knows IPv4 only; and takes its server
// from the environment. Each of those would need working around from outside,
// and what is left of it is a GET. It serves as the emulator's outside check,
// in the emulator's tests.
//
// The server's rules are those of
// https://cloud.google.com/compute/docs/metadata/querying-metadata, the errors
// that do and do not pass those of
// https://cloud.google.com/compute/docs/troubleshooting/troubleshoot-metadata-server.
package metadata

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"
)

const (
	root = "/computeMetadata/v1/"

	// maxBody bounds every answer. Compute Engine allows 512 KiB of attributes
	// for an instance and as much for its project; a secret has 64 KiB.
	maxBody = 4 << 20
)

// Config says how a Client works. The zero value is a real instance's.
type Config struct {
	// Endpoints are base URLs of the metadata server. A try asks one after the
	// other until one answers. nil means http://169.254.169.254 and
	// http://[fd20:ce::254].
	Endpoints []string
	// SecretManager is Secret Manager's base URL; empty means
	// https://secretmanager.googleapis.com.
	SecretManager string
	// Transport carries the requests; nil means one of the Client's own,
	// without a proxy and with the system's certificate authorities.
	Transport http.RoundTripper
	// Waiting, if set, is called after every failed try that will be repeated.
	// Equal reasons have equal texts, without ports or times.
	Waiting func(error)

	FirstPause time.Duration // before the second try; 0 means 100 ms
	MaxPause   time.Duration // the longest between two tries; 0 means 5 s, six times that where the server says 429
	TryTimeout time.Duration // for one request with its answer; 0 means 5 s; it doubles, three times at most, as tries run into it
	// Sleep waits for d or until ctx ends; nil means by the clock.
	Sleep func(ctx context.Context, d time.Duration)
}

// Client asks the metadata server and Secret Manager. Make one with [New]. It is
// safe for concurrent use.
type Client struct {
	config   Config
	http     *http.Client
	answered atomic.Int32 // index of the endpoint that answered last
}

// New returns a Client.
func New(c Config) *Client {
	if c.Endpoints == nil {
		c.Endpoints = []string{"http://169.254.169.254", "http://[fd20:ce::254]"}
	}
	if c.SecretManager == "" {
		c.SecretManager = "https://secretmanager.googleapis.com"
	}
	if c.Transport == nil {
		// A server beside the machine accepts at once or not at all.
		dialer := &net.Dialer{Timeout: 3 * time.Second}
		c.Transport = &http.Transport{DialContext: dialer.DialContext, IdleConnTimeout: 10 * time.Second}
	}
	if c.Waiting == nil {
		c.Waiting = func(error) {}
	}
	if c.FirstPause == 0 {
		c.FirstPause = 100 * time.Millisecond
	}
	if c.MaxPause == 0 {
		c.MaxPause = 5 * time.Second
	}
	if c.TryTimeout == 0 {
		c.TryTimeout = 5 * time.Second
	}
	if c.Sleep == nil {
		c.Sleep = sleep
	}
	return &Client{config: c, http: &http.Client{
		Transport:     c.Transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Get returns the instance's metadata, all of it as of one moment. It asks until
// there is an answer: an error is a *StatusError or the end of ctx.
func (c *Client) Get(ctx context.Context) (*Metadata, error) {
	var m *Metadata
	err := c.retry(ctx, "waiting for the metadata server", func(ctx context.Context, timeout time.Duration) error {
		body, err := c.ask(ctx, timeout, http.MethodGet, root+"?recursive=true&alt=json", "", metadataHint)
		if err != nil {
			return err
		}
		m, err = Parse(body)
		return err
	})
	return m, err
}

// ErrDisabled is in the errors of PutGuestAttribute where neither the instance
// nor its project has enable-guest-attributes=TRUE.
var ErrDisabled = errors.New("guest attributes are not enabled")

// PutGuestAttribute writes one guest attribute. It tries once, for at most
// TryTimeout at each endpoint: guest attributes are a courtesy, and limited to
// ten requests a minute.
// https://cloud.google.com/compute/docs/metadata/manage-guest-attributes
func (c *Client) PutGuestAttribute(ctx context.Context, namespace, key, value string) error {
	_, err := c.ask(ctx, c.config.TryTimeout, http.MethodPut, root+"instance/guest-attributes/"+namespace+"/"+key, value, nil)
	var status *StatusError
	if errors.As(err, &status) && status.Code == http.StatusForbidden {
		err = fmt.Errorf("%w: set enable-guest-attributes=TRUE in the metadata: %w", ErrDisabled, err)
	}
	if err != nil {
		return fmt.Errorf("writing guest attribute %s/%s: %w", namespace, key, err)
	}
	return nil
}

// ask makes one request of each endpoint, beginning with the one that answered
// last, until one answers for good or ill. Where all fail it returns the most
// telling error: on an IPv4 network, having no route over IPv6 is no news.
func (c *Client) ask(ctx context.Context, timeout time.Duration, method, path, body string, hint func(code int) string) ([]byte, error) {
	var telling *tryError
	first := int(c.answered.Load())
	for i := range c.config.Endpoints {
		index := (first + i) % len(c.config.Endpoints)
		endpoint := c.config.Endpoints[index]
		data, err := c.do(ctx, timeout, method, endpoint+path, body, http.Header{"Metadata-Flavor": {"Google"}}, func(resp *http.Response, data []byte) error {
			if resp.Header.Get("Metadata-Flavor") != "Google" {
				return &tryError{at: endpoint, kind: strange, text: fmt.Sprintf("%s without Metadata-Flavor: Google: something else answers at this address", describe(resp))}
			}
			return classify(resp, data, hint)
		})
		if err == nil {
			c.answered.Store(int32(index))
			return data, nil
		}
		var try *tryError
		if !errors.As(err, &try) {
			return nil, err
		}
		if telling == nil || try.kind > telling.kind {
			telling = try
		}
	}
	if telling == nil {
		return nil, errors.New("asking the metadata server: no endpoints are configured")
	}
	return nil, telling
}

// do makes one request and hands its answer to classify. What passes with time
// comes back as a *tryError.
func (c *Client) do(ctx context.Context, timeout time.Duration, method, url, body string, header http.Header, classify func(*http.Response, []byte) error) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header = header
	at := req.URL.Scheme + "://" + req.URL.Host
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, transportError(at, err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	if err != nil {
		return nil, transportError(at, err)
	}
	if len(data) > maxBody {
		return nil, &tryError{at: at, kind: strange, text: fmt.Sprintf("the answer has more than %d bytes", maxBody)}
	}
	return data, classify(resp, data)
}

func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
