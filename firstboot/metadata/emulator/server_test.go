package emulator

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/test/filetest"
)

func start(t *testing.T) (*Server, string) {
	t.Helper()
	s := NewServer(Instance{
		Name: "worker-0", Project: "example", Zone: "us-west1-c", IP: "10.240.0.20",
		AliasRanges: []string{"10.200.0.0/24"},
		Attributes:  map[string]string{"pod-cidr": "10.200.0.0/24", "enable-guest-attributes": "TRUE"},
	})
	hs := httptest.NewServer(s)
	t.Cleanup(hs.Close)
	return s, hs.URL
}

func get(t *testing.T, url string, header ...string) (int, string, http.Header) {
	t.Helper()
	req, err := http.NewRequest("GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(header) == 0 {
		header = []string{"Metadata-Flavor", "Google"}
	}
	req.Header.Set(header[0], header[1])
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body := filetest.ReadAll(t, resp.Body)
	return resp.StatusCode, string(body), resp.Header
}

func TestAnswers(t *testing.T) {
	_, url := start(t)
	for _, test := range []struct {
		path       string
		wantStatus int
		wantBody   string
	}{
		{"instance/hostname", 200, "worker-0.us-west1-c.c.example.internal"},
		{"instance/attributes/", 200, "enable-guest-attributes\npod-cidr\n"},
		{"instance/attributes", 301, ""},
		{"instance/attributes/none", 404, "no such key: instance/attributes/none\n"},
		{"instance/hostname/", 404, "not a directory: instance/hostname/\n"},
		{"instance/network-interfaces/", 200, "0/\n"},
		{"instance/network-interfaces/0/mtu", 200, "1460"},
		{"instance/network-interfaces/0/ip-aliases/0", 200, "10.200.0.0/24"},
		{"instance/attributes/?recursive=true&alt=text", 200, "enable-guest-attributes TRUE\npod-cidr 10.200.0.0/24\n"},
		{"project/project-id?alt=json", 200, `"example"`},
	} {
		status, body, header := get(t, url+Root+test.path)
		if test.wantStatus == 301 {
			body = ""
		}
		if status != test.wantStatus || body != test.wantBody {
			t.Errorf("GET %s = %d %q; want %d %q", test.path, status, body, test.wantStatus, test.wantBody)
		}
		if got := header.Get("Metadata-Flavor"); got != "Google" {
			t.Errorf("GET %s: Metadata-Flavor = %q; want Google", test.path, got)
		}
	}
}

func TestRecursiveJSONIsCamelCaseButForAttributes(t *testing.T) {
	_, url := start(t)
	_, body, _ := get(t, url+Root+"instance/?recursive=true")
	var got struct {
		Attributes        map[string]string
		NetworkInterfaces []struct {
			IPAliases []string `json:"ipAliases"`
			MTU       int
		}
	}
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"10.200.0.0/24"}, got.NetworkInterfaces[0].IPAliases); diff != "" {
		t.Errorf("ipAliases (-want +got):\n%s", diff)
	}
	if got := got.Attributes["pod-cidr"]; got != "10.200.0.0/24" {
		t.Errorf("attributes[pod-cidr] = %q; want 10.200.0.0/24", got)
	}
}

func TestHeadersAreRequired(t *testing.T) {
	_, url := start(t)
	for _, header := range [][]string{{"X-Nothing", "1"}, {"Metadata-Flavor", "google?"}} {
		if status, _, _ := get(t, url+Root, header...); status != http.StatusForbidden {
			t.Errorf("GET with %v = %d; want 403", header, status)
		}
	}
}

func TestWaitForChange(t *testing.T) {
	s, url := start(t)
	path := url + Root + "instance/attributes/?recursive=true&wait_for_change=true"
	_, _, header := get(t, url+Root+"instance/attributes/?recursive=true")
	etag := header.Get("ETag")

	if status, _, h := get(t, path+"&timeout_sec=0&last_etag="+etag); status != 200 || h.Get("ETag") != etag {
		t.Errorf("unchanged after the timeout = %d, ETag %s; want 200 with the same ETag %s", status, h.Get("ETag"), etag)
	}
	done := make(chan string)
	go func() {
		_, body, _ := get(t, path+"&last_etag="+etag)
		done <- body
	}()
	select {
	case body := <-done:
		t.Fatalf("answered before a change: %s", body)
	case <-time.After(50 * time.Millisecond):
	}
	s.SetAttribute("ssh-keys", "alice:key")
	select {
	case body := <-done:
		if !strings.Contains(body, "alice:key") {
			t.Errorf("after the change = %s; want the new key", body)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("no answer after a change")
	}
}

func TestGuestAttributes(t *testing.T) {
	s, url := start(t)
	put := func() int {
		req, _ := http.NewRequest("PUT", url+Root+"instance/guest-attributes/firstboot/state", strings.NewReader("ready"))
		req.Header.Set("Metadata-Flavor", "Google")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	if got := put(); got != 200 {
		t.Errorf("PUT = %d; want 200", got)
	}
	if got, _ := s.GuestAttribute("firstboot", "state"); got != "ready" {
		t.Errorf("GuestAttribute = %q; want ready", got)
	}
	s.DeleteAttribute("enable-guest-attributes")
	if got := put(); got != http.StatusForbidden {
		t.Errorf("PUT while disabled = %d; want 403", got)
	}
}
