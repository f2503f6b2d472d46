// Package firstboot configures a worker from its instance's metadata.
//
// So far it waits for the metadata server, sets the host name, and says so;
// writing the node's files and starting its services come next. It never gives
// up on a server that does not answer, and nothing in the boot waits for it.
package firstboot

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// metadataURL asks for everything at once, by address: name resolution may
// not be up yet.
const metadataURL = "http://169.254.169.254/computeMetadata/v1/?recursive=true&alt=json"

// maxMetadata bounds the answer: Compute Engine allows 512 KiB of attributes
// for an instance and as much for its project; the rest is small.
const maxMetadata = 4 << 20

// Config says what Run uses. The zero value is a real worker.
type Config struct {
	URL    string        // of the metadata request; metadataURL where empty
	Client *http.Client  // a plain one where nil
	Pause  time.Duration // between two tries; a second where 0
	Log    io.Writer     // one line per event; required

	// SetHostname sets the system's host name; the kernel's where nil.
	SetHostname func(string) error
}

// Run configures the machine that it runs on.
func Run(ctx context.Context, c Config) error {
	if c.URL == "" {
		c.URL = metadataURL
	}
	if c.Client == nil {
		c.Client = &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{}}
	}
	if c.Pause == 0 {
		c.Pause = time.Second
	}
	if c.SetHostname == nil {
		c.SetHostname = setHostname
	}
	m, err := waitForMetadata(ctx, c)
	if err != nil {
		return err
	}
	name, err := nodeName(m.Instance.Hostname)
	if err != nil {
		return fmt.Errorf("metadata key instance/hostname: %w", err)
	}
	if err := c.SetHostname(name); err != nil {
		return fmt.Errorf("setting the host name to %s: %w", name, err)
	}
	fmt.Fprintf(c.Log, "firstboot: host name is %s\n", name)
	return nil
}

// metadata is the part of the answer that is used.
type metadata struct {
	Instance struct {
		Hostname string
	}
}

// waitForMetadata tries until the server answers or ctx ends. It logs the
// first failure of each kind, not each try.
func waitForMetadata(ctx context.Context, c Config) (*metadata, error) {
	said := map[string]bool{}
	for {
		m, err := fetchMetadata(ctx, c)
		if err == nil {
			return m, nil
		}
		if !said[err.Error()] {
			said[err.Error()] = true
			fmt.Fprintf(c.Log, "firstboot: waiting for the metadata server: %v\n", err)
		}
		select {
		case <-time.After(c.Pause):
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for the metadata server: %w", ctx.Err())
		}
	}
}

func fetchMetadata(ctx context.Context, c Config) (*metadata, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.URL, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Metadata-Flavor", "Google")
	resp, err := c.Client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("it answered %s", resp.Status)
	}
	if resp.Header.Get("Metadata-Flavor") != "Google" {
		return nil, fmt.Errorf("the answer has no Metadata-Flavor: Google header, something else serves this address")
	}
	var m metadata
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxMetadata)).Decode(&m); err != nil {
		return nil, fmt.Errorf("reading its answer: %w", err)
	}
	return &m, nil
}

// nodeName is the first label of an instance's fully qualified name, which may
// end in a dot. A label has at most 63 characters (RFC 1035 section 2.3.4).
func nodeName(fqdn string) (string, error) {
	label, _, _ := strings.Cut(fqdn, ".")
	switch {
	case label == "":
		return "", fmt.Errorf("%q has no first label; want a name such as worker-0.us-west1-c.c.example.internal", fqdn)
	case len(label) > 63:
		return "", fmt.Errorf("its first label %q has %d characters, a host name has at most 63", label, len(label))
	}
	return label, nil
}
