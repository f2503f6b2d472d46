package controlplane

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/nodebake/bake/bake/unixsocket"
)

// requestTime is what one request to etcd or the API server may take.
const requestTime = 10 * time.Second

// makeClient returns a client of the API server with the administrator's
// rights.
func makeClient(caPEM, certPEM, keyPEM []byte) (*http.Client, error) {
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(caPEM) {
		return nil, errors.New("the CA has no certificate")
	}
	return &http.Client{
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}}},
		Timeout:   requestTime,
	}, nil
}

// etcdIsHealthy asks etcd whether it serves.
func (c *ControlPlane) etcdIsHealthy(ctx context.Context) error {
	client := &http.Client{Timeout: requestTime, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return unixsocket.Dial(ctx, c.config.Dir, strings.TrimPrefix(etcdClients, "unix://"))
		},
	}}
	_, err := send(ctx, client, http.MethodGet, "http://etcd/health", "")
	return err
}

// Client returns a client of the API server at LocalURL, with the administrator's
// rights.
func (c *ControlPlane) Client() *http.Client { return c.client }

// Get asks the API server for a path, "/api/v1/nodes", as the administrator.
func (c *ControlPlane) Get(ctx context.Context, path string) ([]byte, error) {
	return send(ctx, c.client, http.MethodGet, c.LocalURL()+path, "")
}

// create creates an object, in YAML, of the resource at path.
func (c *ControlPlane) create(ctx context.Context, path, object string) error {
	_, err := send(ctx, c.client, http.MethodPost, c.LocalURL()+path, object)
	return err
}

// send returns the body of a response that is 200 or, to a POST, 201. The body of a
// request is YAML.
func send(ctx context.Context, client *http.Client, method, url, body string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	if body != "" {
		request.Header.Set("Content-Type", "application/yaml")
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	want := http.StatusOK
	if method == http.MethodPost {
		want = http.StatusCreated
	}
	if response.StatusCode != want {
		return nil, fmt.Errorf("%s %s answered %s: %s", method, url, response.Status, text)
	}
	return text, nil
}
