package firstboot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/nodebake/bake/firstboot/pki"
)

// askTimeout bounds one question to the API server.
const askTimeout = 15 * time.Second

// errUnauthorized is the answer to credentials that an API server does not know.
var errUnauthorized = errors.New("unauthorized")

// review asks an API server whether credentials may do what attributes (JSON,
// authorization.k8s.io/v1 ResourceAttributes) say, by SelfSubjectAccessReview,
// which every user may make. Errors quote nothing of the credentials.
func review(ctx context.Context, access pki.Access, attributes string) (allowed bool, err error) {
	transport, err := access.Transport()
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	body := strings.NewReader(`{"apiVersion":"authorization.k8s.io/v1","kind":"SelfSubjectAccessReview","spec":{"resourceAttributes":` + attributes + `}}`)
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(access.Server, "/")+"/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", body)
	if err != nil {
		return false, errors.New("the server's URL can't be asked")
	}
	request.Header.Set("Content-Type", "application/json")
	if access.Token != "" {
		request.Header.Set("Authorization", "Bearer "+access.Token)
	}
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	answer, err := client.Do(request)
	var asked *url.Error
	if errors.As(err, &asked) {
		err = asked.Err
	}
	if err != nil {
		return false, fmt.Errorf("asking the API server %s: %w", access.Server, err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, 1<<20))
	switch {
	case answer.StatusCode == http.StatusUnauthorized:
		return false, fmt.Errorf("asking the API server %s: %w", access.Server, errUnauthorized)
	case answer.StatusCode != http.StatusCreated:
		return false, fmt.Errorf("the API server %s answers %d", access.Server, answer.StatusCode)
	case err != nil:
		return false, fmt.Errorf("asking the API server %s: %w", access.Server, err)
	}
	var says struct{ Status struct{ Allowed bool } }
	if err := json.Unmarshal(text, &says); err != nil {
		return false, fmt.Errorf("the API server %s answers with something else than a review", access.Server)
	}
	return says.Status.Allowed, nil
}
