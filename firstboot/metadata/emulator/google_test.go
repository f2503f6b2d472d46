package emulator_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/compute/metadata"
	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/firstboot/metadata/emulator"
)

// toServer sends every request to host: Google's client takes its server from
// the environment or not at all.
type toServer struct{ host string }

func (s toServer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.URL.Host = s.host
	return http.DefaultTransport.RoundTrip(r)
}

// TestGooglesClient is the emulator's outside check: Google's own Go client
// reads from it what it reads from the real one.
func TestGooglesClient(t *testing.T) {
	t.Parallel()
	server := emulator.NewServer(emulator.Instance{
		Name: "worker-0", ID: 7876421912356789123, Project: "example", Zone: "us-west1-c", IP: "10.240.0.20", ExternalIP: "203.0.113.7", Tags: []string{"worker", "pool-a"},
		Attributes:        map[string]string{"pod-cidr": "10.200.0.0/24", "empty": ""},
		ProjectAttributes: map[string]string{"cluster-dns": "10.32.0.10"},
		ServiceAccounts:   []emulator.ServiceAccount{{Email: "worker@example.iam.gserviceaccount.com", Scopes: []string{emulator.CloudPlatform, "https://www.googleapis.com/auth/logging.write"}}},
	})
	hs := httptest.NewServer(server)
	defer hs.Close()
	c := metadata.NewClient(&http.Client{Transport: toServer{strings.TrimPrefix(hs.URL, "http://")}})
	ctx := t.Context()

	attribute := func(name string) func(context.Context) (string, error) {
		return func(ctx context.Context) (string, error) { return c.InstanceAttributeValueWithContext(ctx, name) }
	}
	for _, test := range []struct {
		what string
		get  func(context.Context) (string, error)
		want string
	}{
		{"Hostname", c.HostnameWithContext, "worker-0.us-west1-c.c.example.internal"},
		{"InstanceName", c.InstanceNameWithContext, "worker-0"},
		{"Zone", c.ZoneWithContext, "us-west1-c"},
		{"InternalIP", c.InternalIPWithContext, "10.240.0.20"},
		{"ExternalIP", c.ExternalIPWithContext, "203.0.113.7"},
		{"an attribute", attribute("pod-cidr"), "10.200.0.0/24"},
		{"an empty attribute", attribute("empty"), ""},
		{"Email", func(ctx context.Context) (string, error) { return c.EmailWithContext(ctx, "") }, "worker@example.iam.gserviceaccount.com"},
	} {
		if got, err := test.get(ctx); got != test.want || err != nil {
			t.Errorf("%s = %q, %v; want %q", test.what, got, err, test.want)
		}
	}
	for _, test := range []struct {
		what string
		get  func(context.Context) ([]string, error)
		want []string
	}{
		{"InstanceTags", c.InstanceTagsWithContext, []string{"worker", "pool-a"}},
		{"InstanceAttributes", c.InstanceAttributesWithContext, []string{"empty", "pod-cidr"}},
		{"ProjectAttributes", c.ProjectAttributesWithContext, []string{"cluster-dns"}},
		{"Scopes", func(ctx context.Context) ([]string, error) { return c.ScopesWithContext(ctx, "default") }, []string{emulator.CloudPlatform, "https://www.googleapis.com/auth/logging.write"}},
	} {
		got, err := test.get(ctx)
		if diff := cmp.Diff(test.want, got); diff != "" || err != nil {
			t.Errorf("%s: %v (-want +got):\n%s", test.what, err, diff)
		}
	}
	var undefined metadata.NotDefinedError
	if _, err := c.InstanceAttributeValueWithContext(ctx, "none"); !errors.As(err, &undefined) {
		t.Errorf("an attribute that is not there: %v; want NotDefinedError", err)
	}

	// Subscribing is wait_for_change with last_etag, again and again.
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var seen []string
	err := c.SubscribeWithContext(ctx, "instance/attributes/pod-cidr", func(_ context.Context, v string, ok bool) error {
		switch seen = append(seen, v); len(seen) {
		case 1:
			server.SetAttribute("unrelated", "1")
			server.SetAttribute("pod-cidr", "10.200.1.0/24")
		case 2:
			server.DeleteAttribute("pod-cidr")
		case 3:
			if ok {
				t.Error("a deleted attribute is said to be there")
			}
			return context.Canceled
		}
		return nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("subscribing ended with %v", err)
	}
	if diff := cmp.Diff([]string{"10.200.0.0/24", "10.200.1.0/24", ""}, seen); diff != "" {
		t.Errorf("seen by subscribing (-want +got):\n%s", diff)
	}
}
