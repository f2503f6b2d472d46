package metadata_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/nodebake/bake/firstboot/metadata"
	"github.com/nodebake/bake/firstboot/metadata/emulator"
)

const (
	keySecret  = "projects/example/secrets/worker-0-key"
	keyPayload = "-----BEGIN PRIVATE KEY-----\nnever in an error\n-----END PRIVATE KEY-----\n"
)

func newSecretWorld(t *testing.T) *world {
	t.Helper()
	w := newWorld(t, instance())
	w.secrets.AddVersion(keySecret, []byte("older"))
	w.secrets.AddVersion(keySecret, []byte(keyPayload))
	return w
}

// leaks reports tokens and payloads in what the client said.
func (w *world) leaks(t *testing.T, err error) {
	t.Helper()
	said := w.failed
	if err != nil {
		said = append(said, err.Error())
	}
	tokens := w.server.Tokens()
	for _, s := range said {
		if strings.Contains(s, "never in an error") {
			t.Errorf("the payload is in %q", s)
		}
		for _, token := range tokens {
			if strings.Contains(s, token) {
				t.Errorf("a token is in %q", s)
			}
		}
		if strings.ContainsAny(s, "\n\r") {
			t.Errorf("%q has more than one line", s)
		}
	}
}

func TestSecret(t *testing.T) {
	t.Parallel()
	w := newSecretWorld(t)
	w.secrets.AddVersion("projects/example/secrets/empty", nil)
	c := w.client(t, metadata.Config{})
	for _, test := range []struct{ version, want string }{
		{keySecret + "/versions/latest", keyPayload},
		{keySecret + "/versions/2", keyPayload},
		{keySecret + "/versions/1", "older"},
		{"projects/example/secrets/empty/versions/1", ""},
	} {
		if got, err := c.Secret(t.Context(), test.version); got != test.want || err != nil {
			t.Errorf("Secret(%s) = %q, %v; want %q", test.version, got, err, test.want)
		}
	}
	w.leaks(t, nil)
}

func TestSecretWaits(t *testing.T) {
	t.Parallel()
	const tokenPath = emulator.Root + "instance/service-accounts/default/token"
	for _, test := range []struct {
		name   string
		token  emulator.Fault // at the metadata server
		secret emulator.Fault // at Secret Manager
		want   string
	}{
		{name: "token 503", token: emulator.Fault{Kind: emulator.Status, Path: tokenPath}, want: "answered 503"},
		{name: "token portal", token: emulator.Fault{Kind: emulator.Portal}, want: "without Metadata-Flavor"},
		{name: "token cut", token: emulator.Fault{Kind: emulator.CutJSON}, want: "the service account's token cannot be read"},
		{name: "503", secret: emulator.Fault{Kind: emulator.Status}, want: "answered 503"},
		{name: "429", secret: emulator.Fault{Kind: emulator.Status, Status: 429}, want: "answered 429"},
		{name: "reset", secret: emulator.Fault{Kind: emulator.Reset}, want: ": "},
		{name: "truncated", secret: emulator.Fault{Kind: emulator.Truncate}, want: "the answer was cut short"},
		{name: "cut JSON", secret: emulator.Fault{Kind: emulator.CutJSON}, want: "its answer is not the JSON of a secret version"},
		{name: "portal", secret: emulator.Fault{Kind: emulator.Portal}, want: "its answer is not the JSON of a secret version"},
		{name: "redirect", secret: emulator.Fault{Kind: emulator.Redirect}, want: "answered 302 Found"},
		{name: "corrupt", secret: emulator.Fault{Kind: emulator.Corrupt}, want: "the payload does not match its checksum"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := newSecretWorld(t)
			for fault, set := range map[*emulator.Fault]func(...emulator.Fault){&test.token: w.server.SetFaults, &test.secret: w.secrets.SetFaults} {
				if fault.Kind != "" {
					fault.Times = 2
					set(*fault)
				}
			}
			got, err := w.client(t, metadata.Config{}).Secret(t.Context(), keySecret+"/versions/latest")
			if got != keyPayload || err != nil {
				t.Errorf("Secret = %q, %v; want the payload", got, err)
			}
			if len(w.failed) != 2 || !strings.Contains(w.failed[0], test.want) {
				t.Errorf("waited for %q; want two with %q", w.failed, test.want)
			}
			w.leaks(t, err)
		})
	}
}

func TestSecretIsPreciseOnWhatDoesNotPass(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		spoil   func(w *world)
		in      func(*emulator.Instance)
		version string
		code    int
		want    []string
	}{
		{"no role", func(w *world) { w.secrets.Deny(keySecret) }, nil, "latest", 403,
			[]string{"needs roles/secretmanager.secretAccessor on secret worker-0-key of project example", "scope cloud-platform", "Permission 'secretmanager.versions.access' denied"}},
		{"no scope", nil, func(in *emulator.Instance) {
			in.ServiceAccounts[0].Scopes = []string{"https://www.googleapis.com/auth/logging.write"}
		}, "latest", 403, []string{"access scopes are too narrow", "--scopes=cloud-platform"}},
		{"not enabled", func(w *world) { w.secrets.SetEnabled(false) }, nil, "latest", 403, []string{"gcloud services enable secretmanager.googleapis.com"}},
		{"no version", nil, nil, "7", 404, []string{"there is no such secret or version", "gcloud secrets versions list worker-0-key --project=example", "Secret Version [projects/example/secrets/worker-0-key/versions/7] not found."}},
		{"disabled", func(w *world) { w.secrets.Disable(keySecret + "/versions/1") }, nil, "1", 400, []string{"is it disabled or destroyed", "is in DISABLED state"}},
		{"no service account", nil, func(in *emulator.Instance) { in.ServiceAccounts = nil }, "latest", 404, []string{"this instance has no service account", "gcloud compute instances set-service-account"}},
		{"tokens refused", func(w *world) { w.secrets.SetFaults(emulator.Fault{Kind: emulator.Status, Status: 401}) }, nil, "latest", 401, []string{"is the account disabled or deleted"}},
	} {
		in := instance()
		if test.in != nil {
			test.in(&in)
		}
		w := newWorld(t, in)
		w.secrets.AddVersion(keySecret, []byte("older"))
		w.secrets.AddVersion(keySecret, []byte(keyPayload))
		if test.spoil != nil {
			test.spoil(w)
		}
		version := keySecret + "/versions/" + test.version
		_, err := w.client(t, metadata.Config{}).Secret(t.Context(), version)
		if status, ok := errors.AsType[*metadata.StatusError](err); !ok || status.Code != test.code {
			t.Errorf("%s: Secret = %v; want a StatusError of %d", test.name, err, test.code)
			continue
		}
		for _, want := range append(test.want, "fetching secret "+version+": http") {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: Secret = %v; want %q in it", test.name, err, want)
			}
		}
		w.leaks(t, err)
	}
}

// TestSecretWithAFreshToken has tokens end between their making and their use,
// twice.
func TestSecretWithAFreshToken(t *testing.T) {
	t.Parallel()
	w := newSecretWorld(t)
	times := 0
	url := serve(t, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if times++; times <= 2 {
			w.server.RevokeTokens()
		}
		w.secrets.ServeHTTP(rw, r)
	}))
	got, err := w.client(t, metadata.Config{SecretManager: url}).Secret(t.Context(), keySecret+"/versions/2")
	if got != keyPayload || err != nil || times != 3 {
		t.Errorf("Secret = %q, %v after %d tries; want the payload at the third", got, err, times)
	}
}

// TestErrorsHideTokens has Secret Manager quote the token that it refuses.
func TestErrorsHideTokens(t *testing.T) {
	t.Parallel()
	w := newSecretWorld(t)
	url := serve(t, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		http.Error(rw, "not for\n"+r.Header.Get("Authorization"), http.StatusForbidden)
	}))
	_, err := w.client(t, metadata.Config{SecretManager: url}).Secret(t.Context(), keySecret+"/versions/2")
	if err == nil || !strings.Contains(err.Error(), "not for Bearer [token]") {
		t.Errorf("Secret = %v; want an error with [token]", err)
	}
	w.leaks(t, err)
}

func TestCheckSecretVersion(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		"projects/example/secrets/k/versions/latest", "projects/123456/secrets/a_B-9/versions/12", "projects/example.com:app/secrets/k/versions/prod",
	} {
		if err := metadata.CheckSecretVersion(name); err != nil {
			t.Errorf("CheckSecretVersion(%s) = %v; want nil", name, err)
		}
	}
	for _, test := range []struct{ name, want string }{
		{"", "has the wrong form"},
		{"worker-0-key", "has the wrong form; want projects/PROJECT/secrets/SECRET/versions/VERSION"},
		{"projects/example/secrets/k", "has the wrong form"},
		{"projects/example/secrets/k/versions/1/", "has the wrong form"},
		{"projects/example/locations/europe-west1/secrets/k/versions/1", "is a regional one"},
		{"projects/Example/secrets/k/versions/1", `"Example" is no name of a project`},
		{"projects/../secrets/k/versions/1", `".." is no name of a project`},
		{"projects/example/secrets/k?x/versions/1", `"k?x" is no name of a secret`},
		{"projects/example/secrets//versions/1", `"" is no name of a secret`},
		{"projects/example/secrets/k/versions/0", `"0" is no name of a version`},
		{"projects/example/secrets/k/versions/latest\n", `"latest\n" is no name of a version`},
	} {
		if err := metadata.CheckSecretVersion(test.name); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("CheckSecretVersion(%q) = %v; want %q", test.name, err, test.want)
		}
	}
	w := newSecretWorld(t)
	if _, err := w.client(t, metadata.Config{}).Secret(t.Context(), "worker-0-key"); err == nil || len(w.server.Requests()) != 0 {
		t.Errorf("Secret(worker-0-key) = %v after %d requests; want an error before any", err, len(w.server.Requests()))
	}
}
