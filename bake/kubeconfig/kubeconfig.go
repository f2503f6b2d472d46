// Package kubeconfig makes the administrator's kubeconfig, checks it, and puts its
// entries into the files that kubectl reads, or takes them out of there.
//
// What it changes in a file it changes in places: comments, fields that it doesn't
// know, order and blank lines of everything else stay byte by byte, where kubectl
// writes the file anew. Which files those are, and the lock that keeps writers
// apart, are kubectl's (k8s.io/client-go/tools/clientcmd/config.go, loader.go).
//
// An entry is known as the cluster's by what it holds, not by its name: a server
// and a CA, or a certificate that this CA signed. Credentials that a kubeconfig
// keeps in files of their own are nobody's here and stay.
package kubeconfig

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nodebake/bake/bake/node"
	"github.com/nodebake/bake/firstboot/pki"
)

// The guide's names, and what makes its user the administrator.
const (
	DefaultName = "kubernetes-the-hard-way" // of cluster and context
	DefaultUser = "admin"
	Group       = "system:masters"
)

// Issue has the CA sign for an administrator, and returns the certificate and its
// key in PEM.
func Issue(ca *node.CA, keyType node.KeyType, validity time.Duration, now time.Time) (certPEM, keyPEM []byte, err error) {
	return ca.Issue(node.IssueConfig{
		CommonName: "admin", Organizations: []string{Group}, Client: true,
		KeyType: keyType, Validity: validity, Now: now,
	})
}

// Check returns what is wrong with k at a time, a *node.InputError for the first
// mistake: its Field is server, certificate-authority, client-certificate or
// client-key. No server is asked.
func Check(k node.Kubeconfig, now time.Time) error {
	fail := func(field string, err error) error { return &node.InputError{Field: field, Err: err} }
	if err := CheckServer(k.Server); err != nil {
		return fail("server", err)
	}
	roots, err := authorities(k.CA, now)
	if err != nil {
		return fail("certificate-authority", err)
	}
	certs, err := pki.ParseCertificates(k.Certificate)
	if err != nil {
		return fail("client-certificate", err)
	}
	key, err := pki.ParsePrivateKey(k.Key)
	if err != nil {
		return fail("client-key", err)
	}
	if !pki.KeyMatches(certs[0], key) {
		return fail("client-key", fmt.Errorf("is not the key of the certificate of %q", certs[0].Subject.String()))
	}
	if err := checkClient(certs, roots, now); err != nil {
		return fail("client-certificate", err)
	}
	return nil
}

// authorities returns the CA's certificates, one of which must be valid.
func authorities(caPEM []byte, now time.Time) ([]*x509.Certificate, error) {
	certs, err := pki.ParseCertificates(caPEM)
	if err != nil {
		return nil, err
	}
	for _, cert := range certs {
		if err := pki.CanSign(cert); err != nil {
			return nil, err
		}
	}
	if !slices.ContainsFunc(certs, func(c *x509.Certificate) bool { return checkTime(c, now) == nil }) {
		return nil, checkTime(certs[0], now)
	}
	return certs, nil
}

// checkClient wants a certificate that an API server takes from a client.
func checkClient(certs, roots []*x509.Certificate, now time.Time) error {
	cert := certs[0]
	if err := checkTime(cert, now); err != nil {
		return err
	}
	options := x509.VerifyOptions{
		Roots: pool(roots), Intermediates: pool(certs[1:]), CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if _, err := cert.Verify(options); err == nil {
		return nil
	}
	options.KeyUsages = []x509.ExtKeyUsage{x509.ExtKeyUsageAny}
	if _, err := cert.Verify(options); err == nil {
		return fmt.Errorf("the certificate of %q is not for clients: its extended key usage lacks clientAuth", cert.Subject.String())
	}
	return fmt.Errorf("the certificate of %q %s", cert.Subject.String(), signedByAnother(cert, roots))
}

// signedByAnother says whose signature a certificate has in place of the CA's.
func signedByAnother(cert *x509.Certificate, roots []*x509.Certificate) string {
	text := fmt.Sprintf("was signed by %q, and not by this CA, %s", cert.Issuer.String(), subjects(roots))
	if slices.ContainsFunc(roots, func(c *x509.Certificate) bool { return c.Subject.String() == cert.Issuer.String() }) {
		text += ": the name is the same, the key is not"
	}
	return text
}

func checkTime(cert *x509.Certificate, now time.Time) error {
	switch {
	case now.Before(cert.NotBefore):
		return fmt.Errorf("the certificate of %q is valid from %s on", cert.Subject.String(), stamp(cert.NotBefore))
	case now.After(cert.NotAfter):
		return fmt.Errorf("the certificate of %q expired at %s", cert.Subject.String(), stamp(cert.NotAfter))
	}
	return nil
}

func pool(certs []*x509.Certificate) *x509.CertPool {
	p := x509.NewCertPool()
	for _, cert := range certs {
		p.AddCert(cert)
	}
	return p
}

func subjects(certs []*x509.Certificate) string {
	var names []string
	for _, cert := range certs {
		names = append(names, strconv.Quote(cert.Subject.String()))
	}
	return strings.Join(names, ", ")
}

// Subject is whom a client certificate is for, and until when.
type Subject struct {
	Name     string    `json:"name"`
	Groups   []string  `json:"groups"`
	NotAfter time.Time `json:"notAfter"`
}

// ReadSubject reads a certificate in PEM that Check accepted.
func ReadSubject(certPEM []byte) (Subject, error) {
	certs, err := pki.ParseCertificates(certPEM)
	if err != nil {
		return Subject{}, err
	}
	return Subject{certs[0].Subject.CommonName, certs[0].Subject.Organization, certs[0].NotAfter.UTC()}, nil
}

// CheckServer checks an API server's URL as clients of this host want it: other
// than for a worker it may be on the loopback.
func CheckServer(server string) error {
	u, err := url.Parse(server)
	if err != nil || u.User != nil || !isLoopback(u.Hostname()) {
		return pki.CheckServer(server)
	}
	const elsewhere = "203.0.113.1"
	host := strings.TrimSuffix(u.Host, ":"+u.Port())
	u.Host = elsewhere + strings.TrimPrefix(u.Host, host)
	if err := pki.CheckServer(u.String()); err != nil {
		return errors.New(strings.ReplaceAll(err.Error(), elsewhere, host))
	}
	return nil
}

func isLoopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback() || strings.EqualFold(host, "localhost")
}
