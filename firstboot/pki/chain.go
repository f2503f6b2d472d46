package pki

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"
)

// chain checks that certs[0] is valid now, that a certificate of kubernetes-ca
// signed it, through the others of certs if need be, and that it is for usage.
// name says in errors which certificate is meant.
func (c *checker) chain(key, name string, certs []*x509.Certificate, usage x509.ExtKeyUsage) error {
	leaf := certs[0]
	if err := c.validity(key, name, leaf); err != nil {
		return err
	}
	for _, cert := range certs {
		switch cert.SignatureAlgorithm {
		case x509.UnknownSignatureAlgorithm:
			return c.fail(key, "%s %s", name, unchecked)
		case x509.MD5WithRSA, x509.SHA1WithRSA, x509.ECDSAWithSHA1, x509.DSAWithSHA1:
			return c.fail(key, "%s is signed with %s, which Kubernetes no longer accepts; want SHA-256 or better", name, cert.SignatureAlgorithm)
		}
	}
	options := x509.VerifyOptions{
		Roots:         pool(c.roots),
		Intermediates: pool(certs[1:]),
		CurrentTime:   c.Now,
		KeyUsages:     []x509.ExtKeyUsage{usage},
	}
	_, err := leaf.Verify(options)
	if err == nil {
		return nil
	}
	// Whether it is for the usage alone that it fails, another try shows.
	options.KeyUsages = []x509.ExtKeyUsage{x509.ExtKeyUsageAny}
	if _, err := leaf.Verify(options); err != nil {
		return c.explain(key, name, leaf, err)
	}
	want := "client authentication (clientAuth)"
	if usage == x509.ExtKeyUsageServerAuth {
		want = "server authentication (serverAuth)"
	}
	return c.fail(key, "%s is not for %s: its extended key usage, or that of a certificate above it, says otherwise", name, want)
}

// unchecked says why nothing of Kubernetes takes a certificate.
const unchecked = "is signed with an algorithm that Kubernetes can't check (as SHA-224, and RSA-PSS with a salt of another length than the digest's); want SHA-256 or better, with RSA or ECDSA"

// explain turns what the standard library says of a chain into what is to be
// known of it.
func (c *checker) explain(key, name string, leaf *x509.Certificate, err error) error {
	var invalid x509.CertificateInvalidError
	if errors.As(err, &invalid) {
		at := invalid.Cert
		if at != nil && invalid.Reason == x509.Expired {
			where := key
			if contains(c.roots, at) {
				where = keyCA
			}
			if err := c.validity(where, fmt.Sprintf("%q, which signed for %q,", at.Subject.String(), leaf.Subject.String()), at); err != nil {
				return err
			}
		}
		return c.fail(key, "%s can't be verified: %v", name, invalid)
	}
	var unknown x509.UnknownAuthorityError
	if !errors.As(err, &unknown) {
		return c.fail(key, "%s can't be verified: %v", name, err)
	}
	issuer := leaf.Issuer.String()
	for _, root := range c.roots {
		if bytes.Equal(root.RawSubject, leaf.RawIssuer) {
			return c.fail(key, "%s was signed by a CA named %q as the one in %s is, but with another key: two CAs were made under one name", name, issuer, keyCA)
		}
	}
	by := fmt.Sprintf("was signed by %q", issuer)
	if bytes.Equal(leaf.RawIssuer, leaf.RawSubject) {
		by = "is self-signed"
	}
	return c.fail(key, "%s %s, and %s holds %s", name, by, keyCA, subjects(c.roots))
}

// validity checks cert's dates against the machine's clock.
func (c *checker) validity(key, name string, cert *x509.Certificate) error {
	switch {
	case c.Now.Before(cert.NotBefore):
		return &Error{
			Key: key,
			Problem: fmt.Sprintf("%s is not yet valid: it begins at %s, and this machine's clock reads %s",
				name, stamp(cert.NotBefore), stamp(c.Now)),
			Remedy: "if the clock is wrong, time synchronization (chrony) is about to set it and a later try will do; if it is right, " + c.remedy(key),
			Clock:  true,
		}
	case c.Now.After(cert.NotAfter):
		return c.fail(key, "%s expired at %s, %s ago: this machine's clock reads %s",
			name, stamp(cert.NotAfter), age(c.Now.Sub(cert.NotAfter)), stamp(c.Now))
	}
	return nil
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// age writes a duration as people say it.
func age(d time.Duration) string {
	switch days := int(d / (24 * time.Hour)); {
	case days == 1:
		return "1 day"
	case days > 1:
		return fmt.Sprintf("%d days", days)
	}
	return d.Truncate(time.Second).String()
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
		names = append(names, fmt.Sprintf("%q", cert.Subject.String()))
	}
	return strings.Join(names, ", ")
}

// describeKey says what kind of key public belongs to.
func describeKey(public crypto.PublicKey) string {
	switch k := public.(type) {
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA %d", k.N.BitLen())
	case *ecdsa.PublicKey:
		return "ECDSA " + k.Curve.Params().Name
	case ed25519.PublicKey:
		return "Ed25519"
	}
	return fmt.Sprintf("%T", public)
}
