package emulator

import (
	"fmt"
	"hash/crc32"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// SecretServer is the part of Secret Manager's REST API that a worker uses: GET
// /v1/projects/P/secrets/S/versions/V:access, where V is a number or "latest",
// with an access token that its [Server] issued.
// https://cloud.google.com/secret-manager/docs/reference/rest/v1/projects.secrets.versions/access
//
// It knows no aliases, regional secrets or other methods. Roles are per secret
// and for every account: a new secret can be read, until Deny.
type SecretServer struct {
	tokens *Server
	faults

	mu      sync.Mutex
	secrets map[string]*secret // by "projects/P/secrets/S"
	off     bool               // the API is not enabled
}

type secret struct {
	versions []version // number 1 first
	denied   bool
}

type version struct {
	payload []byte
	state   string // ENABLED, DISABLED, DESTROYED
}

// NewSecretServer returns a SecretServer without secrets that accepts the
// tokens of server.
func NewSecretServer(server *Server) *SecretServer {
	return &SecretServer{tokens: server, secrets: map[string]*secret{}}
}

// AddVersion adds a version to a secret, named "projects/P/secrets/S" and made
// where there is none, and returns the version's name.
func (s *SecretServer) AddVersion(name string, payload []byte) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.secrets[name] == nil {
		s.secrets[name] = &secret{}
	}
	s.secrets[name].versions = append(s.secrets[name].versions, version{slices.Clone(payload), "ENABLED"})
	return fmt.Sprintf("%s/versions/%d", name, len(s.secrets[name].versions))
}

// Disable makes a version unreadable, named as AddVersion returned it.
func (s *SecretServer) Disable(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	secretName, number, _ := strings.Cut(name, "/versions/")
	if v := s.secrets[secretName].version(number); v != nil {
		v.state = "DISABLED"
	}
}

// Deny takes the role roles/secretmanager.secretAccessor on a secret away;
// Allow gives it back.
func (s *SecretServer) Deny(name string) { s.setDenied(name, true) }

// Allow undoes Deny.
func (s *SecretServer) Allow(name string) { s.setDenied(name, false) }

func (s *SecretServer) setDenied(name string, denied bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.secrets[name] == nil {
		s.secrets[name] = &secret{}
	}
	s.secrets[name].denied = denied
}

// SetEnabled says whether the project has the API enabled, as it has at first.
func (s *SecretServer) SetEnabled(enabled bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.off = !enabled
}

// ServeHTTP implements http.Handler.
func (s *SecretServer) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.answer(w, r, s.serve) }

func (s *SecretServer) serve(w http.ResponseWriter, r *http.Request) {
	name, isAccess := strings.CutSuffix(strings.TrimPrefix(r.URL.Path, "/v1/"), ":access")
	secretName, number, isVersion := strings.Cut(name, "/versions/")
	if !isAccess || !isVersion || !strings.HasPrefix(r.URL.Path, "/v1/projects/") || r.Method != http.MethodGet {
		w.Header().Set("Content-Type", "text/html; charset=UTF-8") // the frontend's answer, not the API's
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, "<!DOCTYPE html><title>Error 404 (Not Found)!!1</title>")
		return
	}
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	_, scopes, known := s.tokens.account(token)
	if !ok || !known {
		w.Header().Set("WWW-Authenticate", `Bearer realm="https://accounts.google.com/", error="invalid_token"`)
		apiError(w, http.StatusUnauthorized, "UNAUTHENTICATED", "ACCESS_TOKEN_TYPE_UNSUPPORTED", "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid authentication credential.")
		return
	}
	if !slices.Contains(scopes, CloudPlatform) {
		w.Header().Set("WWW-Authenticate", `Bearer realm="https://accounts.google.com/", error="insufficient_scope", scope="`+CloudPlatform+`"`)
		apiError(w, http.StatusForbidden, "PERMISSION_DENIED", "ACCESS_TOKEN_SCOPE_INSUFFICIENT", "Request had insufficient authentication scopes.")
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	sec := s.secrets[secretName]
	v := sec.version(number)
	switch {
	case s.off:
		apiError(w, http.StatusForbidden, "PERMISSION_DENIED", "SERVICE_DISABLED", "Secret Manager API has not been used in this project before or it is disabled.")
	case sec != nil && sec.denied:
		apiError(w, http.StatusForbidden, "PERMISSION_DENIED", "IAM_PERMISSION_DENIED", fmt.Sprintf("Permission 'secretmanager.versions.access' denied for resource '%s' (or it may not exist).", name))
	case sec == nil || len(sec.versions) == 0:
		apiError(w, http.StatusNotFound, "NOT_FOUND", "", fmt.Sprintf("Secret [%s] not found or has no versions.", secretName))
	case v == nil:
		apiError(w, http.StatusNotFound, "NOT_FOUND", "", fmt.Sprintf("Secret Version [%s] not found.", name))
	case v.state != "ENABLED":
		apiError(w, http.StatusBadRequest, "FAILED_PRECONDITION", "", fmt.Sprintf("Secret Version [%s] is in %s state.", name, v.state))
	default:
		if number == "latest" {
			number = strconv.Itoa(len(sec.versions))
		}
		w.Header().Set("Content-Type", "application/json; charset=UTF-8")
		fmt.Fprint(w, mustJSON(map[string]any{
			"name": secretName + "/versions/" + number,
			"payload": map[string]any{
				"data":       v.payload,
				"dataCrc32c": strconv.FormatUint(uint64(crc32.Checksum(v.payload, crc32.MakeTable(crc32.Castagnoli))), 10),
			},
		}))
	}
}

func (s *secret) version(number string) *version {
	if s == nil {
		return nil
	}
	if number == "latest" {
		number = strconv.Itoa(len(s.versions))
	}
	n, err := strconv.Atoi(number)
	if err != nil || n < 1 || n > len(s.versions) {
		return nil
	}
	return &s.versions[n-1]
}

// apiError answers as Google's APIs do: https://cloud.google.com/apis/design/errors
func apiError(w http.ResponseWriter, code int, status, reason, message string) {
	e := map[string]any{"code": code, "message": message, "status": status}
	if reason != "" {
		e["details"] = []any{map[string]any{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "domain": "googleapis.com"}}
	}
	w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	w.WriteHeader(code)
	fmt.Fprint(w, mustJSON(map[string]any{"error": e}))
}
