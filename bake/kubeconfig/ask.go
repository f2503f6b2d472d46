package kubeconfig

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/nodebake/bake/bake/node"
	"github.com/nodebake/bake/firstboot/pki"
)

// askTime is how long a server may take to answer.
const askTime = 10 * time.Second

// SilentError says why a server did not answer, which says nothing of a
// kubeconfig.
type SilentError struct{ Err error }

func (e *SilentError) Error() string { return e.Err.Error() }

func (e *SilentError) Unwrap() error { return e.Err }

// Ask connects to the server as k's user, by a proxy where there is one, and
// returns what does not fit: the server's certificate, or the user's for the
// server. A server that does not answer gives a *SilentError. The user's
// certificate is shown to no server but the cluster's.
func Ask(ctx context.Context, k node.Kubeconfig, proxy func(*http.Request) (*url.URL, error)) error {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	transport, err := pki.Access{Server: k.Server, CA: k.CA, ClientCertificate: k.Certificate, ClientKey: k.Key}.Transport()
	if err != nil {
		return err
	}
	transport.Proxy = proxy
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(k.Server, "/")+"/version", nil)
	if err != nil {
		return err
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return explain(request.URL.Hostname(), k.CA, err)
	}
	defer response.Body.Close()
	if response.StatusCode == http.StatusUnauthorized {
		return errors.New("the server does not take the client certificate (401 Unauthorized): it trusts another CA for clients (--client-ca-file), or its clock is wrong")
	}
	return nil
}

// explain says what does not fit about a server's certificate.
func explain(host string, caPEM []byte, err error) error {
	wrong, ok := errors.AsType[*tls.CertificateVerificationError](err)
	if !ok {
		if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
			return errors.New("the server there does not speak TLS (want the API server's port: https://HOST:6443)")
		}
		return &SilentError{err}
	}
	cert := wrong.UnverifiedCertificates[0]
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return fmt.Errorf("the server's certificate is for %s, and not for %s (reach it by one of these, or make it a certificate for %s too)", namesOf(cert), host, host)
	}
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok && invalid.Reason == x509.Expired {
		return fmt.Errorf("the server's certificate is not valid now: from %s to %s", stamp(cert.NotBefore), stamp(cert.NotAfter))
	}
	roots, parseErr := pki.ParseCertificates(caPEM)
	if parseErr != nil {
		return parseErr
	}
	return fmt.Errorf("the server's certificate, of %q, %s (give the CA of this server's cluster)", cert.Subject.String(), signedByAnother(cert, roots))
}

// namesOf lists what a certificate is valid for.
func namesOf(cert *x509.Certificate) string {
	names := slices.Clone(cert.DNSNames)
	for _, ip := range cert.IPAddresses {
		names = append(names, ip.String())
	}
	if len(names) == 0 {
		return "no name and no address"
	}
	return strings.Join(names, ", ")
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
