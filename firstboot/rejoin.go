package firstboot

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/nodebake/bake/firstboot/config"
	"github.com/nodebake/bake/firstboot/files"
	"github.com/nodebake/bake/firstboot/pki"
)

// askTimeout bounds one question to the API server.
const askTimeout = 15 * time.Second

// rejoin reads what kubelet made of an earlier bootstrap, and decides what
// becomes of it.
func rejoin(root string, node *config.Node) (config.Rejoin, error) {
	if node.Credentials != config.TLSBootstrap {
		return config.Rejoin{}, nil
	}
	paths := config.JoinedPaths()
	var kept [len(paths)]config.Kept
	for i, path := range paths {
		var err error
		if kept[i].Content, kept[i].Target, err = files.Read(root, path); err != nil {
			return config.Rejoin{}, err
		}
	}
	return node.Rejoin(config.Joined{Kubeconfig: kept[0].Content, CA: kept[1].Content, Client: kept[2], Serving: kept[3]})
}

// MayBootstrap asks the API server whether credentials may ask for certificates:
// it answers 401 to a token that it does not know, and says what a known one
// may (SelfSubjectAccessReview, which every user may make). Errors quote nothing
// of the token.
func MayBootstrap(ctx context.Context, access pki.Access) error {
	transport, err := access.Transport()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	const review = `{"apiVersion":"authorization.k8s.io/v1","kind":"SelfSubjectAccessReview","spec":{"resourceAttributes":{"group":"certificates.k8s.io","resource":"certificatesigningrequests","verb":"create"}}}`
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(access.Server, "/")+"/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", bytes.NewReader([]byte(review)))
	if err != nil {
		return errors.New("the server's URL can't be asked")
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
		return fmt.Errorf("asking the API server %s: %w", access.Server, err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, 1<<20))
	switch {
	case answer.StatusCode == http.StatusUnauthorized:
		return fmt.Errorf("the API server %s does not take the token (401)", access.Server)
	case answer.StatusCode != http.StatusCreated:
		return fmt.Errorf("the API server %s answers %d", access.Server, answer.StatusCode)
	case err != nil:
		return fmt.Errorf("asking the API server %s: %w", access.Server, err)
	}
	var says struct{ Status struct{ Allowed bool } }
	if err := json.Unmarshal(text, &says); err != nil {
		return fmt.Errorf("the API server %s answers with something else than a review", access.Server)
	}
	if !says.Status.Allowed {
		return fmt.Errorf("the API server %s knows the token, which may not ask for certificates there", access.Server)
	}
	return nil
}
