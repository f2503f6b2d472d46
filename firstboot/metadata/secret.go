package metadata

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// maxRefusals is how often Secret Manager may refuse a fresh token before that
// is final: a token may end just as it is handed out, and only then.
const maxRefusals = 3

// CheckSecretVersion checks the form of a secret version's name,
// "projects/PROJECT/secrets/SECRET/versions/VERSION", where VERSION is a number,
// an alias or "latest". Regional secrets (projects/P/locations/...) are served
// elsewhere and are refused.
// https://cloud.google.com/secret-manager/docs/reference/rest/v1/projects.secrets.versions/access
func CheckSecretVersion(name string) error {
	const want = "want projects/PROJECT/secrets/SECRET/versions/VERSION, such as projects/example/secrets/worker-0-key/versions/latest"
	parts := strings.Split(name, "/")
	if len(parts) > 2 && parts[2] == "locations" {
		return fmt.Errorf("secret version %q is a regional one, which is not supported; %s", name, want)
	}
	if len(parts) != 6 || parts[0] != "projects" || parts[2] != "secrets" || parts[4] != "versions" {
		return fmt.Errorf("secret version %q has the wrong form; %s", name, want)
	}
	for _, part := range []struct{ what, value, pattern string }{
		{"project", parts[1], `^([a-z0-9.-]+:)?[a-z0-9-]{1,63}$`}, // an id, one in a domain, or a number
		{"secret", parts[3], `^[A-Za-z0-9_-]{1,255}$`},
		{"version", parts[5], `^([1-9][0-9]{0,18}|[A-Za-z][A-Za-z0-9_-]{0,62})$`},
	} {
		if !regexp.MustCompile(part.pattern).MatchString(part.value) {
			return fmt.Errorf("secret version %q: %q is no name of a %s; %s", name, part.value, part.what, want)
		}
	}
	return nil
}

// Secret returns the payload of a Secret Manager version, named as
// CheckSecretVersion says, as the instance's own service account. It is as
// patient as Get: an error is a name of the wrong form, a *StatusError or the
// end of ctx. No error contains a token or a payload.
func (c *Client) Secret(ctx context.Context, version string) (string, error) {
	if err := CheckSecretVersion(version); err != nil {
		return "", err
	}
	var payload string
	refusals := 0
	err := c.retry(ctx, "waiting for "+version, func(ctx context.Context, timeout time.Duration) error {
		// The metadata server keeps tokens, so that asking again costs nothing
		// and never yields one that has ended.
		body, err := c.ask(ctx, timeout, http.MethodGet, root+"instance/service-accounts/default/token", "", tokenHint)
		if err != nil {
			return err
		}
		token, err := parseToken(body)
		if err != nil {
			return err
		}
		url := c.config.SecretManager + "/v1/" + version + ":access"
		body, err = c.do(ctx, timeout, http.MethodGet, url, "", http.Header{"Authorization": {"Bearer " + token}}, func(resp *http.Response, body []byte) error {
			return classifySecret(resp, body, token, version, &refusals)
		})
		if err != nil {
			return err
		}
		payload, err = parsePayload(body)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("fetching secret %s: %w", version, err)
	}
	return payload, nil
}

// errAnswer is for answers of the right status that cannot be read.
func errAnswer(at, text string) error {
	return &tryError{at: at, kind: strange, text: text}
}

func parseToken(body []byte) (string, error) {
	var answer struct {
		AccessToken string `json:"access_token"`
	}
	// The JSON's error may quote a piece of the token, and is not passed on.
	if json.Unmarshal(body, &answer) != nil || answer.AccessToken == "" || strings.ContainsFunc(answer.AccessToken, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", errAnswer("metadata server", "the service account's token cannot be read from the answer")
	}
	return answer.AccessToken, nil
}

// tokenHint says what a status of the metadata server means for a token.
func tokenHint(code int) string {
	switch code {
	case http.StatusNotFound:
		return "this instance has no service account, and needs one to read secrets; stop it and give it one with `gcloud compute instances set-service-account`"
	case http.StatusForbidden:
		return "the metadata server gives this machine no token; is its service account disabled or deleted?"
	}
	return metadataHint(code)
}

func parsePayload(body []byte) (string, error) {
	var answer struct {
		Payload *struct {
			Data       []byte
			DataCRC32C string `json:"dataCrc32c"` // an int64, which JSON has as a string
		}
	}
	const at = "Secret Manager"
	// The JSON's error may quote a piece of the payload, and is not passed on.
	if json.NewDecoder(bytes.NewReader(body)).Decode(&answer) != nil || answer.Payload == nil {
		return "", errAnswer(at, "its answer is not the JSON of a secret version")
	}
	sum, err := strconv.ParseInt(answer.Payload.DataCRC32C, 10, 64)
	if err != nil {
		return "", errAnswer(at, "its answer has no checksum (payload.dataCrc32c)")
	}
	if int64(crc32.Checksum(answer.Payload.Data, crc32.MakeTable(crc32.Castagnoli))) != sum {
		return "", errAnswer(at, "the payload does not match its checksum (payload.dataCrc32c)")
	}
	return string(answer.Payload.Data), nil
}

// classifySecret is classify for an answer of Secret Manager, whose errors are JSON.
// https://cloud.google.com/apis/design/errors#http_mapping
func classifySecret(resp *http.Response, body []byte, token, version string, refusals *int) error {
	err := classify(resp, body, nil)
	var status *StatusError
	if !errors.As(err, &status) {
		return err
	}
	if status.Code == http.StatusUnauthorized {
		if *refusals++; *refusals < maxRefusals {
			return &tryError{at: origin(resp), kind: busy, text: "the access token was refused"}
		}
	}
	var answer struct {
		Error struct {
			Message string
			Details []struct{ Reason string }
		}
	}
	var reasons []string
	if json.Unmarshal(body, &answer) == nil && answer.Error.Message != "" {
		status.Body = oneLine(answer.Error.Message)
		for _, d := range answer.Error.Details {
			reasons = append(reasons, d.Reason)
		}
	}
	status.Body = strings.ReplaceAll(status.Body, token, "[token]")
	status.hint = secretHint(status.Code, strings.Join(reasons, " "), resp.Header.Get("WWW-Authenticate"), version)
	return status
}

// secretHint says what is missing. reasons are those of google.rpc.ErrorInfo.
func secretHint(code int, reasons, challenge, version string) string {
	project := strings.Split(version, "/")[1]
	secret := strings.Split(version, "/")[3]
	switch {
	case code == http.StatusForbidden && (strings.Contains(reasons, "ACCESS_TOKEN_SCOPE_INSUFFICIENT") || strings.Contains(challenge, "insufficient_scope")):
		return "the instance's access scopes are too narrow; stop it and give it the scope cloud-platform with `gcloud compute instances set-service-account --scopes=cloud-platform`"
	case code == http.StatusForbidden && strings.Contains(reasons, "SERVICE_DISABLED"):
		return "the Secret Manager API is not enabled; run `gcloud services enable secretmanager.googleapis.com`"
	case code == http.StatusForbidden:
		return "the instance's service account needs roles/secretmanager.secretAccessor on secret " + secret + " of project " + project + ", and the instance the scope cloud-platform"
	case code == http.StatusNotFound:
		return "there is no such secret or version; compare with `gcloud secrets versions list " + secret + " --project=" + project + "`"
	case code == http.StatusBadRequest:
		return "the version cannot be read; is it disabled or destroyed?"
	case code == http.StatusUnauthorized:
		return "the token of the instance's service account is refused; is the account disabled or deleted?"
	}
	return ""
}
