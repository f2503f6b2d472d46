package metadata_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/firstboot/metadata"
	"github.com/nodebake/bake/firstboot/metadata/emulator"
	"github.com/nodebake/bake/test/must"
)

// world is an emulator behind a real HTTP server, and a client of it whose
// pauses pass at once.
type world struct {
	server  *emulator.Server
	secrets *emulator.SecretServer
	url     string

	mu     sync.Mutex
	paused []time.Duration
	failed []string // what Waiting was told
}

func instance() emulator.Instance {
	return emulator.Instance{
		Name: "worker-0", Project: "example", Zone: "us-west1-c", IP: "10.240.0.20", ExternalIP: "203.0.113.7",
		AliasRanges:       []string{"10.200.0.0/24"},
		Attributes:        map[string]string{"pod-cidr": "10.200.0.0/24", "empty": ""},
		ProjectAttributes: map[string]string{"cluster-dns": "10.32.0.10", "pod-cidr": "10.9.0.0/16", "empty": "project"},
		ServiceAccounts:   []emulator.ServiceAccount{{Email: "worker@example.iam.gserviceaccount.com"}},
	}
}

func newWorld(t *testing.T, in emulator.Instance) *world {
	t.Helper()
	w := &world{server: emulator.NewServer(in)}
	w.secrets = emulator.NewSecretServer(w.server)
	w.url = serve(t, w.server)
	return w
}

func serve(t *testing.T, h http.Handler) string {
	t.Helper()
	hs := httptest.NewServer(h)
	t.Cleanup(hs.Close)
	return hs.URL
}

func (w *world) client(t *testing.T, c metadata.Config) *metadata.Client {
	t.Helper()
	if c.Endpoints == nil {
		c.Endpoints = []string{w.url}
	}
	if c.SecretManager == "" {
		c.SecretManager = serve(t, w.secrets)
	}
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	c.Transport = transport
	c.Waiting = func(err error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.failed = append(w.failed, err.Error())
	}
	if c.Sleep == nil {
		c.Sleep = func(_ context.Context, d time.Duration) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.paused = append(w.paused, d)
		}
	}
	return metadata.New(c)
}

// closedPort is a URL at which nothing listens. Where all of 127.0.0.0/8 is the
// loopback, it is at an address of its own: a port of 127.0.0.1 that was just
// closed may be the next that another test gets.
func closedPort(t *testing.T) string {
	t.Helper()
	host := "127.0.0.1"
	if runtime.GOOS == "linux" {
		host = fmt.Sprintf("127.%d.%d.%d", 1+rand.IntN(254), rand.IntN(256), 1+rand.IntN(254))
	}
	l := must.Get(net.Listen("tcp", net.JoinHostPort(host, "0")))
	defer l.Close()
	return "http://" + l.Addr().String()
}

func TestGet(t *testing.T) {
	t.Parallel()
	w := newWorld(t, instance())
	m, err := w.client(t, metadata.Config{}).Get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	m.Instance.Zone = m.Instance.Zone[strings.LastIndexByte(m.Instance.Zone, '/')+1:]
	want := &metadata.Metadata{
		Instance: metadata.Instance{
			Name: "worker-0", Hostname: "worker-0.us-west1-c.c.example.internal", Zone: "us-west1-c",
			Attributes: map[string]string{"pod-cidr": "10.200.0.0/24", "empty": ""},
			NetworkInterfaces: []metadata.NetworkInterface{{
				IP: "10.240.0.20", MAC: "42:01:0a:f0:00:14", MTU: 1460, IPAliases: []string{"10.200.0.0/24"},
				AccessConfigs: []metadata.AccessConfig{{ExternalIP: "203.0.113.7", Type: "ONE_TO_ONE_NAT"}},
			}},
		},
		Project: metadata.Project{ProjectID: "example", Attributes: map[string]string{"cluster-dns": "10.32.0.10", "pod-cidr": "10.9.0.0/16", "empty": "project"}},
	}
	if diff := cmp.Diff(want, m); diff != "" {
		t.Errorf("Get (-want +got):\n%s", diff)
	}
	if got, want := w.server.Requests(), []string{"GET /computeMetadata/v1/?recursive=true&alt=json"}; !slices.Equal(got, want) {
		t.Errorf("requests = %q; want %q", got, want)
	}
	for _, test := range []struct {
		key, want string
		ok        bool
	}{{"pod-cidr", "10.200.0.0/24", true}, {"cluster-dns", "10.32.0.10", true}, {"empty", "", true}, {"none", "", false}} {
		if got, ok := m.Attribute(test.key); got != test.want || ok != test.ok {
			t.Errorf("Attribute(%s) = %q, %t; want %q, %t", test.key, got, ok, test.want, test.ok)
		}
	}
}

// TestGetWaits shows every failure that passes with time to a client: it gets
// what it asked for, having said what it waits for.
func TestGetWaits(t *testing.T) {
	t.Parallel()
	const url = "URL"
	for _, test := range []struct {
		name  string
		fault emulator.Fault
		want  string // said three times; more often where it is about time
	}{
		{"503", emulator.Fault{Kind: emulator.Status, Status: 503}, url + ": answered 503 Service Unavailable"},
		{"500", emulator.Fault{Kind: emulator.Status, Status: 500}, url + ": answered 500 Internal Server Error"},
		{"502", emulator.Fault{Kind: emulator.Status, Status: 502}, url + ": answered 502 Bad Gateway"},
		{"504", emulator.Fault{Kind: emulator.Status, Status: 504}, url + ": answered 504 Gateway Timeout"},
		{"429", emulator.Fault{Kind: emulator.Status, Status: 429}, url + ": answered 429 Too Many Requests"},
		{"408", emulator.Fault{Kind: emulator.Status, Status: 408}, url + ": answered 408 Request Timeout"},
		{"206", emulator.Fault{Kind: emulator.Status, Status: 206}, url + ": answered 206 Partial Content"},
		{"reset", emulator.Fault{Kind: emulator.Reset}, url + ": connection reset by peer"},
		{"truncated", emulator.Fault{Kind: emulator.Truncate}, url + ": the answer was cut short"},
		{"cut JSON", emulator.Fault{Kind: emulator.CutJSON}, "parsing metadata: the JSON is cut short"},
		{"hang", emulator.Fault{Kind: emulator.Hang}, url + ": no answer in time"},
		{"slow", emulator.Fault{Kind: emulator.Slow, Delay: 10 * time.Second}, url + ": no answer in time"},
		{"portal", emulator.Fault{Kind: emulator.Portal}, url + ": answered 200 OK (a web page) without Metadata-Flavor: Google: something else answers at this address"},
		{"redirect", emulator.Fault{Kind: emulator.Redirect}, url + ": answered 302 Found (a web page) without Metadata-Flavor: Google: something else answers at this address"},
		{"no header", emulator.Fault{Kind: emulator.NoFlavor}, url + ": answered 200 OK without Metadata-Flavor: Google: something else answers at this address"},
		{"too large", emulator.Fault{Kind: emulator.TooLarge}, url + ": the answer has more than 4194304 bytes"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, instance())
			test.fault.Times = 3
			w.server.SetFaults(test.fault)
			c := metadata.Config{}
			aboutTime := strings.HasSuffix(test.want, "in time")
			if aboutTime {
				c.TryTimeout = 100 * time.Millisecond
			}
			m, err := w.client(t, c).Get(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if m.Instance.Name != "worker-0" {
				t.Errorf("name = %q; want worker-0", m.Instance.Name)
			}
			want := slices.Repeat([]string{strings.Replace(test.want, url, w.url, 1)}, 3)
			if aboutTime && len(w.failed) > 3 {
				want = slices.Repeat(want[:1], len(w.failed))
			}
			if test.name == "reset" {
				// The kernel tells of it as it pleases: reading or writing.
				for i := range w.failed {
					w.failed[i] = strings.Replace(w.failed[i], "broken pipe", "connection reset by peer", 1)
				}
			}
			if diff := cmp.Diff(want, w.failed); diff != "" {
				t.Errorf("waited for (-want +got):\n%s", diff)
			}
		})
	}
}

// TestGetIsPreciseOnWhatDoesNotPass shows the answers that waiting does not change.
func TestGetIsPreciseOnWhatDoesNotPass(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		code int
		want string
	}{
		{400, "answered 400 Bad Request: it does not understand the request"},
		{403, "answered 403 Forbidden: it refuses this machine's requests; is there a proxy between"},
		{404, "answered 404 Not Found: it has no metadata of version v1"},
		{405, "answered 405 Method Not Allowed: it allows no GET"},
		{410, "answered 410 Gone (it says: Gone)"},
	} {
		w := newWorld(t, instance())
		w.server.SetFaults(emulator.Fault{Kind: emulator.Status, Status: test.code})
		_, err := w.client(t, metadata.Config{}).Get(t.Context())
		if status, ok := errors.AsType[*metadata.StatusError](err); !ok || status.Code != test.code || !strings.Contains(err.Error(), w.url+"/computeMetadata/v1/?recursive=true&alt=json "+test.want) {
			t.Errorf("Get at %d = %v; want a StatusError with %q", test.code, err, test.want)
		}
		if n := len(w.server.Requests()); n != 1 {
			t.Errorf("Get at %d asked %d times; want once", test.code, n)
		}
	}
	// The same from a stranger passes: it is not the metadata server's.
	w := newWorld(t, instance())
	strange := true
	url := serve(t, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if strange {
			strange = false
			http.Error(rw, "blocked", http.StatusForbidden)
			return
		}
		w.server.ServeHTTP(rw, r)
	}))
	if _, err := w.client(t, metadata.Config{Endpoints: []string{url}}).Get(t.Context()); err != nil {
		t.Errorf("Get after a stranger's 403 = %v; want success", err)
	}
}

// TestGetWaitsForALateServer has the server's port refuse connections until a
// minute has passed, as the client counts.
func TestGetWaitsForALateServer(t *testing.T) {
	t.Parallel()
	w := newWorld(t, instance())
	url := closedPort(t)
	var passed time.Duration
	var pauses []time.Duration
	c := w.client(t, metadata.Config{Endpoints: []string{url}, Sleep: func(_ context.Context, d time.Duration) {
		before := passed
		passed += d
		pauses = append(pauses, d)
		if before < time.Minute && passed >= time.Minute {
			l, err := net.Listen("tcp", strings.TrimPrefix(url, "http://"))
			if err != nil {
				t.Error(err)
				return
			}
			hs := &httptest.Server{Listener: l, Config: &http.Server{Handler: w.server}}
			hs.Start()
			t.Cleanup(hs.Close)
		}
	}})
	if _, err := c.Get(t.Context()); err != nil {
		t.Fatal(err)
	}
	if late := passed - time.Minute; late < 0 || late > 250*time.Millisecond {
		t.Errorf("the client came %s after the server did; want at most 250ms", late)
	}
	for i, d := range pauses {
		if d > 250*time.Millisecond {
			t.Errorf("pause %d = %s; want at most 250ms while nothing listens", i, d)
		}
	}
	want := url + ": connection refused"
	if i := slices.IndexFunc(w.failed, func(s string) bool { return s != want }); i >= 0 || len(w.failed) != len(pauses) {
		t.Errorf("%d failures for %d pauses, among them %q; want %q", len(w.failed), len(pauses), w.failed[max(i, 0)], want)
	}
}

// TestPauses shows how long the client waits between two tries.
func TestPauses(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	for _, test := range []struct {
		name  string
		fault emulator.Fault
		want  []time.Duration // at most; at least half
	}{
		{"503", emulator.Fault{Kind: emulator.Status}, []time.Duration{100 * ms, 200 * ms, 400 * ms, 800 * ms, 1600 * ms, 3200 * ms, 5000 * ms, 5000 * ms}},
		{"429", emulator.Fault{Kind: emulator.Status, Status: 429}, []time.Duration{1000 * ms, 2000 * ms, 4000 * ms, 8000 * ms, 16000 * ms, 30000 * ms, 30000 * ms}},
	} {
		w := newWorld(t, instance())
		test.fault.Times = len(test.want)
		w.server.SetFaults(test.fault)
		if _, err := w.client(t, metadata.Config{}).Get(t.Context()); err != nil {
			t.Fatal(err)
		}
		for i, d := range w.paused {
			if d > test.want[i] || d < test.want[i]/2 {
				t.Errorf("%s: pause %d = %s; want %s to %s", test.name, i, d, test.want[i]/2, test.want[i])
			}
		}
	}
	// Retry-After is the least, within reason.
	for _, test := range []struct {
		seconds   int
		low, high time.Duration
	}{{7, 7 * time.Second, 7 * time.Second}, {600, 30 * time.Second, 30 * time.Second}} {
		w := newWorld(t, instance())
		w.server.SetFaults(emulator.Fault{Kind: emulator.Status, Times: 1, RetryAfter: test.seconds})
		if _, err := w.client(t, metadata.Config{}).Get(t.Context()); err != nil {
			t.Fatal(err)
		}
		if d := w.paused[0]; d < test.low || d > test.high {
			t.Errorf("pause at Retry-After: %d = %s; want %s to %s", test.seconds, d, test.low, test.high)
		}
	}
}

// TestSlowServer has answers take longer than a try may at first.
func TestSlowServer(t *testing.T) {
	t.Parallel()
	w := newWorld(t, instance())
	w.server.SetFaults(emulator.Fault{Kind: emulator.Slow, Delay: 300 * time.Millisecond})
	if _, err := w.client(t, metadata.Config{TryTimeout: 100 * time.Millisecond}).Get(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(w.failed) == 0 {
		t.Error("the first try succeeded; want it to run out of time")
	}
}

func TestSecondDoor(t *testing.T) {
	t.Parallel()
	w := newWorld(t, instance())
	closed := closedPort(t)
	c := w.client(t, metadata.Config{Endpoints: []string{closed, w.url}})
	for range 2 {
		if _, err := c.Get(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if len(w.failed) != 0 {
		t.Errorf("waited for %q; want the second endpoint within the same try", w.failed)
	}
	// An endpoint that hangs does not use up the other's time.
	hanging := newWorld(t, instance())
	hanging.server.SetFaults(emulator.Fault{Kind: emulator.Hang})
	c = w.client(t, metadata.Config{Endpoints: []string{hanging.url, w.url}, TryTimeout: time.Second})
	if _, err := c.Get(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Get(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := len(hanging.server.Requests()); n != 1 {
		t.Errorf("the endpoint that hangs was asked %d times; want once, and then the one that answers first", n)
	}
	// Where both fail, what the one that answers says is the reason.
	w.server.SetFaults(emulator.Fault{Kind: emulator.Status, Times: 1})
	w.failed = nil
	c = w.client(t, metadata.Config{Endpoints: []string{w.url, closed}})
	if _, err := c.Get(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{w.url + ": answered 503 Service Unavailable"}, w.failed); diff != "" {
		t.Errorf("waited for (-want +got):\n%s", diff)
	}
}

func TestGetEndsWithItsContext(t *testing.T) {
	t.Parallel()
	w := newWorld(t, instance())
	w.server.SetFaults(emulator.Fault{Kind: emulator.Hang})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := w.client(t, metadata.Config{}).Get(ctx)
	if !errors.Is(err, context.DeadlineExceeded) || !strings.HasPrefix(err.Error(), "waiting for the metadata server: ") {
		t.Errorf("Get = %v; want its context's end", err)
	}
	// In a pause, by the real clock.
	w.server.SetFaults(emulator.Fault{Kind: emulator.Status})
	ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	c := metadata.New(metadata.Config{
		Endpoints: []string{w.url}, FirstPause: time.Hour, MaxPause: time.Hour,
		Waiting: func(error) { time.AfterFunc(20*time.Millisecond, cancel) },
	})
	if _, err := c.Get(ctx); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "503") {
		t.Errorf("Get = %v; want its context's end, and the last failure", err)
	}
}

func TestPutGuestAttribute(t *testing.T) {
	t.Parallel()
	w := newWorld(t, instance())
	c := w.client(t, metadata.Config{Endpoints: []string{closedPort(t), w.url}, TryTimeout: 5 * time.Second})
	err := c.PutGuestAttribute(t.Context(), "firstboot", "state", "ready")
	if !errors.Is(err, metadata.ErrDisabled) {
		t.Errorf("PutGuestAttribute where disabled = %v; want ErrDisabled", err)
	}
	w.server.SetAttribute("enable-guest-attributes", "TRUE")
	if err := c.PutGuestAttribute(t.Context(), "firstboot", "state", "ready"); err != nil {
		t.Fatal(err)
	}
	if got, _ := w.server.GuestAttribute("firstboot", "state"); got != "ready" {
		t.Errorf("guest attribute = %q; want ready", got)
	}
	w.server.SetFaults(emulator.Fault{Kind: emulator.Status})
	before := len(w.server.Requests())
	if err := c.PutGuestAttribute(t.Context(), "firstboot", "state", "failed"); err == nil || !strings.Contains(err.Error(), "writing guest attribute firstboot/state: "+w.url+": answered 503") {
		t.Errorf("PutGuestAttribute at 503 = %v; want that", err)
	}
	if n := len(w.server.Requests()) - before; n != 1 {
		t.Errorf("PutGuestAttribute asked %d times; want once", n)
	}
}
