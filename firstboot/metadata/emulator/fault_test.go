package emulator

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// try makes one request as a client does, without keeping connections.
func try(t *testing.T, url string, header http.Header) (*http.Response, string, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header = header
	req.Close = true
	client := &http.Client{
		Timeout:       time.Minute,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp, string(body), err
}

func flavor() http.Header { return http.Header{"Metadata-Flavor": {"Google"}} }

func TestFaultsOfAnAnswer(t *testing.T) {
	t.Parallel()
	s, url := start(t)
	const path = "instance/?recursive=true"
	_, right, err := try(t, url+Root+path, flavor())
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		fault      Fault
		status     int
		flavor     string
		body       string // what it begins with
		length     int
		retryAfter string
	}{
		{Fault{Kind: Status}, 503, "Google", "Service Unavailable\n", 20, ""},
		{Fault{Kind: Status, Status: 429, RetryAfter: 3}, 429, "Google", "Too Many Requests\n", 18, "3"},
		{Fault{Kind: CutJSON}, 200, "Google", right[:100], len(right) / 2, ""},
		{Fault{Kind: NoFlavor}, 200, "", right, len(right), ""},
		{Fault{Kind: Slow, Delay: 20 * time.Millisecond}, 200, "Google", right, len(right), ""},
		{Fault{Kind: Portal}, 200, "", "<!DOCTYPE html>", 64, ""},
		{Fault{Kind: Redirect}, 302, "", "<a href=\"http://portal.example/login\">", 50, ""},
		{Fault{Kind: TooLarge}, 200, "Google", "   ", 8 << 20, ""},
	} {
		s.SetFaults(test.fault)
		resp, body, err := try(t, url+Root+path, flavor())
		if err != nil {
			t.Errorf("%s: %v", test.fault.Kind, err)
			continue
		}
		if resp.StatusCode != test.status || resp.Header.Get("Metadata-Flavor") != test.flavor || resp.Header.Get("Retry-After") != test.retryAfter {
			t.Errorf("%s = %d, header %v; want %d, flavor %q, Retry-After %q", test.fault.Kind, resp.StatusCode, resp.Header, test.status, test.flavor, test.retryAfter)
		}
		if !strings.HasPrefix(body, test.body) || len(body) != test.length {
			t.Errorf("%s: %d bytes, %.60q; want %d, %.60q", test.fault.Kind, len(body), body, test.length, test.body)
		}
	}
	s.SetFaults(Fault{Kind: Corrupt})
	if _, body, _ := try(t, url+Root+path, flavor()); body == right || len(body) != len(right) {
		t.Errorf("corrupt = %d bytes, the right ones: %t; want %d others", len(body), body == right, len(right))
	}
	s.SetFaults()
	if _, body, err := try(t, url+Root+path, flavor()); body != right || err != nil {
		t.Errorf("without faults = %.60q, %v; want the right answer", body, err)
	}
}

func TestFaultsOfAConnection(t *testing.T) {
	t.Parallel()
	s, url := start(t)
	url += Root + "instance/?recursive=true"
	s.SetFaults(Fault{Kind: Reset})
	if _, _, err := try(t, url, flavor()); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("reset = %v; want ECONNRESET", err)
	}
	s.SetFaults(Fault{Kind: Truncate})
	if _, body, err := try(t, url, flavor()); !errors.Is(err, io.ErrUnexpectedEOF) || !strings.HasPrefix(body, `{"attributes"`) {
		t.Errorf("truncate = %.60q, %v; want a beginning and ErrUnexpectedEOF", body, err)
	}
	s.SetFaults(Fault{Kind: Hang, Delay: 20 * time.Millisecond})
	if _, _, err := try(t, url, flavor()); !errors.Is(err, io.EOF) {
		t.Errorf("hang of 20 ms = %v; want a connection closed then", err)
	}
}

func TestFaultsAreChosen(t *testing.T) {
	t.Parallel()
	s, url := start(t)
	status := func(path string) int {
		t.Helper()
		resp, _, err := try(t, url+Root+path, flavor())
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode
	}
	// By path and number, the first that applies.
	s.SetFaults(Fault{Kind: Status, Status: 500, Path: Root + "instance/id", Times: 1}, Fault{Kind: Status, Status: 502, Path: Root + "instance/", Times: 2})
	var got []int
	for _, path := range []string{"project/project-id", "instance/id", "instance/id", "instance/name", "instance/id"} {
		got = append(got, status(path))
	}
	if diff := cmp.Diff([]int{200, 500, 502, 502, 200}, got); diff != "" {
		t.Errorf("statuses (-want +got):\n%s", diff)
	}
	// By time.
	s.SetFaults(Fault{Kind: Status, For: time.Second})
	if got := status("instance/id"); got != 503 {
		t.Errorf("at once = %d; want 503", got)
	}
	for deadline := time.Now().Add(time.Minute); status("instance/id") != 200; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("a fault for a second is there after a minute")
		}
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	half := strings.Repeat("x", 256<<10)
	for _, test := range []struct {
		name string
		in   Instance
		want string
	}{
		{"fine", Instance{Attributes: map[string]string{"a-Z_9": half, strings.Repeat("k", 127): "", "b": half[:200<<10]}}, ""},
		{"empty key", Instance{Attributes: map[string]string{"": "x"}}, `instance metadata: key "": want 1 to 127 characters`},
		{"dot", Instance{ProjectAttributes: map[string]string{"ca.pem": "x"}}, `project metadata: key "ca.pem": want`},
		{"long key", Instance{Attributes: map[string]string{strings.Repeat("k", 128): ""}}, "want 1 to 127 characters"},
		{"long value", Instance{Attributes: map[string]string{"k": half + "x"}}, "key k: the value has 262145 bytes, a value has at most 262144"},
		{"too much", Instance{Attributes: map[string]string{"a": half, "b": half}}, "all keys and values have 524290 bytes, they may have 524287 together"},
	} {
		err := test.in.Check()
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: Check() = %v; want %q", test.name, err, test.want)
		}
	}
	for name, f := range map[string]func(){
		"NewServer":    func() { NewServer(Instance{Attributes: map[string]string{"a b": ""}}) },
		"SetAttribute": func() { NewServer(Instance{Attributes: map[string]string{"a": half}}).SetAttribute("b", half) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s accepts what Compute Engine refuses; want a panic", name)
				}
			}()
			f()
		}()
	}
	NewServer(Instance{Attributes: map[string]string{"a": half, "b": half[:1000]}}).SetAttribute("a", half) // replaced, not added
}

func TestServiceAccounts(t *testing.T) {
	t.Parallel()
	s := NewServer(Instance{Name: "worker-0", ServiceAccounts: []ServiceAccount{
		{Email: "a-b@example.com"}, {Email: "c@example.com", Scopes: []string{"https://one", "https://two"}},
	}})
	hs := httptest.NewServer(s)
	t.Cleanup(hs.Close)
	const accounts = "instance/service-accounts/"
	for _, test := range []struct {
		path   string
		status int
		want   string
	}{
		{accounts, 200, "a-b@example.com/\nc@example.com/\ndefault/\n"},
		{accounts + "default/", 200, "aliases\nemail\nscopes\ntoken\n"},
		{accounts + "default/email", 200, "a-b@example.com"},
		{accounts + "c@example.com/scopes", 200, "https://one\nhttps://two\n"},
		{accounts + "?recursive=true", 200, `{"a-b@example.com":{"aliases":["default"],"email":"a-b@example.com","scopes":["` + CloudPlatform + `"]},` +
			`"c@example.com":{"aliases":[],"email":"c@example.com","scopes":["https://one","https://two"]},` +
			`"default":{"aliases":["default"],"email":"a-b@example.com","scopes":["` + CloudPlatform + `"]}}`},
		{accounts + "c@example.com/?recursive=true&alt=text", 200, "email c@example.com\nscopes https://one\nscopes https://two\n"},
		{accounts + "none/token", 404, "no such key: instance/service-accounts/none/token\n"},
	} {
		status, body, _ := get(t, hs.URL+Root+test.path)
		if status != test.status || body != test.want {
			t.Errorf("GET %s = %d %q; want %d %q", test.path, status, body, test.status, test.want)
		}
	}
	if _, body, _ := get(t, hs.URL+Root+"?recursive=true"); strings.Contains(body, "token\"") || strings.Contains(body, "ya29") {
		t.Errorf("the recursive answer has a token: %s", body)
	}
	var token struct {
		AccessToken string `json:"access_token"`
		ExpiresIn   int    `json:"expires_in"`
		TokenType   string `json:"token_type"`
	}
	_, body, _ := get(t, hs.URL+Root+accounts+"default/token")
	if err := json.Unmarshal([]byte(body), &token); err != nil || token.AccessToken == "" || token.ExpiresIn != 3599 || token.TokenType != "Bearer" {
		t.Errorf("token = %s, %v; want access_token, expires_in 3599, token_type Bearer", body, err)
	}
	if diff := cmp.Diff([]string{token.AccessToken}, s.Tokens()); diff != "" {
		t.Errorf("tokens (-want +got):\n%s", diff)
	}
}

func TestSecretServer(t *testing.T) {
	t.Parallel()
	s := NewServer(Instance{Name: "worker-0", ServiceAccounts: []ServiceAccount{{Email: "a@example.com"}, {Email: "b@example.com", Scopes: []string{"https://one"}}}})
	hs := httptest.NewServer(s)
	t.Cleanup(hs.Close)
	token := func(account string) string {
		var answer struct {
			AccessToken string `json:"access_token"`
		}
		_, body, _ := get(t, hs.URL+Root+"instance/service-accounts/"+account+"/token")
		if err := json.Unmarshal([]byte(body), &answer); err != nil {
			t.Fatal(err)
		}
		return answer.AccessToken
	}
	secrets := NewSecretServer(s)
	ss := httptest.NewServer(secrets)
	t.Cleanup(ss.Close)
	const name = "projects/example/secrets/key"
	if got := secrets.AddVersion(name, []byte("one")); got != name+"/versions/1" {
		t.Errorf("AddVersion = %s; want version 1", got)
	}
	secrets.AddVersion(name, []byte("123456789"))
	secrets.AddVersion(name, []byte("three"))
	secrets.Disable(name + "/versions/3")
	secrets.Deny("projects/example/secrets/denied")
	good, narrow := token("default"), token("b@example.com")
	for _, test := range []struct {
		path, token string
		status      int
		want        string
	}{
		// The checksum of "123456789" is CRC-32C's check value, 0xe3069283.
		{name + "/versions/2:access", good, 200, `{"name":"projects/example/secrets/key/versions/2","payload":{"data":"MTIzNDU2Nzg5","dataCrc32c":"3808858755"}}`},
		{name + "/versions/latest:access", good, 400, `"status":"FAILED_PRECONDITION"`},
		{name + "/versions/9:access", good, 404, `"status":"NOT_FOUND"`},
		{"projects/example/secrets/none/versions/1:access", good, 404, "Secret [projects/example/secrets/none] not found or has no versions."},
		{"projects/example/secrets/denied/versions/1:access", good, 403, `"reason":"IAM_PERMISSION_DENIED"`},
		{name + "/versions/2:access", narrow, 403, `"reason":"ACCESS_TOKEN_SCOPE_INSUFFICIENT"`},
		{name + "/versions/2:access", "ya29.other", 401, `"status":"UNAUTHENTICATED"`},
		{name + "/versions/2", good, 404, "<!DOCTYPE html>"},
	} {
		resp, body, err := try(t, ss.URL+"/v1/"+test.path, http.Header{"Authorization": {"Bearer " + test.token}})
		if err != nil || resp.StatusCode != test.status || !strings.Contains(body, test.want) {
			t.Errorf("GET %s = %v %s, %v; want %d, %s", test.path, resp, body, err, test.status, test.want)
		}
	}
	s.RevokeTokens()
	if resp, _, err := try(t, ss.URL+"/v1/"+name+"/versions/2:access", http.Header{"Authorization": {"Bearer " + good}}); err != nil || resp.StatusCode != 401 {
		t.Errorf("with a revoked token = %v, %v; want 401", resp, err)
	}
	if n := len(secrets.Requests()); n != 9 {
		t.Errorf("%d requests are recorded; want 9", n)
	}
}

func TestGuestAttributeListings(t *testing.T) {
	t.Parallel()
	_, url := start(t)
	url += Root + "instance/guest-attributes/"
	for _, path := range []string{"firstboot/state", "hostkeys/ssh-rsa"} {
		req, err := http.NewRequestWithContext(t.Context(), "PUT", url+path, strings.NewReader("v"))
		if err != nil {
			t.Fatal(err)
		}
		req.Header = flavor()
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	for _, test := range []struct {
		path   string
		status int
		want   string
	}{
		{"", 200, "firstboot/\nhostkeys/\n"},
		{"firstboot/", 200, "state\n"},
		{"firstboot/state", 200, "v"},
		{"?recursive=true", 200, `{"firstboot":{"state":"v"},"hostkeys":{"ssh-rsa":"v"}}`},
		{"none/", 404, "no such guest attribute\n"},
		{"firstboot/state/", 404, "no such guest attribute\n"},
	} {
		if status, body, _ := get(t, url+test.path); status != test.status || body != test.want {
			t.Errorf("GET %s = %d %q; want %d %q", test.path, status, body, test.status, test.want)
		}
	}
}
