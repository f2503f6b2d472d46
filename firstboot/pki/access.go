package pki

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"net/url"
	"time"
)

// Access is the way to an API server that a kubeconfig's current context names.
type Access struct {
	Server string
	CAFile string // where kubernetes-ca lies, or empty
	CA     []byte // PEM, where CAFile is empty
	Proxy  string // URL, or empty
	Token  string

	ClientCertificate, ClientKey []byte // PEM, where there is no token
	ClientCertificateFile        string // on the node
}

// ReadAccess reads a kubeconfig that CheckNode accepted, or one that kubelet
// wrote.
func ReadAccess(kubeconfig []byte) (Access, error) {
	k, err := parseKubeconfig(kubeconfig)
	if err != nil {
		return Access{}, err
	}
	cluster, user, _, err := k.current()
	if err != nil {
		return Access{}, err
	}
	return Access{
		Server: cluster.server, CAFile: cluster.certificateAuthority, CA: cluster.authorityData, Proxy: cluster.proxyURL,
		Token: user.token, ClientCertificate: user.certificateData, ClientKey: user.keyData, ClientCertificateFile: user.clientCertificate,
	}, nil
}

// Transport connects as a says and trusts a.CA alone.
func (a Access) Transport() (*http.Transport, error) {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(a.CA) {
		return nil, errors.New("BUG: no CA to verify the API server with")
	}
	config := &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	if len(a.ClientCertificate) > 0 {
		pair, err := tls.X509KeyPair(a.ClientCertificate, a.ClientKey)
		if err != nil {
			return nil, errors.New("reading the client certificate of the kubeconfig: it and its key can't be used")
		}
		config.Certificates = []tls.Certificate{pair}
	}
	transport := &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}
	if a.Proxy != "" {
		proxy, err := url.Parse(a.Proxy)
		if err != nil {
			return nil, errors.New("reading the proxy-url of the kubeconfig: it is not a URL")
		}
		transport.Proxy = http.ProxyURL(proxy)
	}
	return transport, nil
}

// Issued says whether one of authorities (PEM) signed certs[0], through the
// others of certs if need be, at one of the times given.
func Issued(certs []*x509.Certificate, authorities []byte, at ...time.Time) bool {
	roots, err := ParseCertificates(authorities)
	if err != nil || len(certs) == 0 {
		return false
	}
	for _, now := range at {
		_, err := certs[0].Verify(x509.VerifyOptions{Roots: pool(roots), Intermediates: pool(certs[1:]), CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
		if err == nil {
			return true
		}
	}
	return false
}
