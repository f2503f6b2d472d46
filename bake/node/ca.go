package node

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/nodebake/bake/firstboot/pki"
)

// KeyType is the kind of a new private key.
type KeyType string

// The kinds of keys. All of them work with every Kubernetes that bake knows.
const (
	ECDSA KeyType = "ecdsa" // P-256
	RSA   KeyType = "rsa"   // 2048 bits, as in the guide
)

// DefaultValidity is how long a node's certificate is valid, as in the guide.
const DefaultValidity = 8760 * time.Hour

const (
	caValidity = 10 * DefaultValidity
	// backdate is for clocks that are a little behind; cfssl does the same.
	backdate = 5 * time.Minute
)

// CA is a certificate authority: what signs the certificates of a cluster.
type CA struct {
	cert    *x509.Certificate // the one that signs
	key     crypto.Signer
	certPEM []byte // with the other certificates of a bundle
	keyPEM  []byte
}

// CertificatePEM returns the certificates to trust: those the CA was loaded
// from, or the one that was made.
func (ca *CA) CertificatePEM() []byte { return ca.certPEM }

// KeyPEM returns the private key as it was loaded, or as PKCS#8.
func (ca *CA) KeyPEM() []byte { return ca.keyPEM }

// Certificate returns the certificate that signs.
func (ca *CA) Certificate() *x509.Certificate { return ca.cert }

// CAConfig describes a new CA.
type CAConfig struct {
	CommonName string        // default: kubernetes
	KeyType    KeyType       // default: ECDSA
	Validity   time.Duration // default: ten years
	Now        time.Time
}

// NewCA makes a self-signed CA.
func NewCA(c CAConfig) (*CA, error) {
	if c.CommonName == "" {
		c.CommonName = "kubernetes"
	}
	if c.Validity == 0 {
		c.Validity = caValidity
	}
	if c.Now.IsZero() {
		return nil, errors.New("making a CA: BUG: Now is not set")
	}
	key, keyPEM, err := newKey(c.KeyType)
	if err != nil {
		return nil, fmt.Errorf("making a CA: %w", err)
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: c.CommonName},
		NotBefore:             c.Now.Add(-backdate),
		NotAfter:              c.Now.Add(c.Validity),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("making a CA: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("making a CA: %w", err)
	}
	return &CA{cert: cert, key: key, certPEM: encodeCertificate(der), keyPEM: keyPEM}, nil
}

// LoadCA reads a CA from PEM: one certificate or several, and the private key of
// one of them as PKCS#1, PKCS#8 or SEC 1. Of several certificates for that key
// the one that lasts longest signs.
func LoadCA(certPEM, keyPEM []byte) (*CA, error) {
	certs, err := pki.ParseCertificates(certPEM)
	if err != nil {
		return nil, fmt.Errorf("reading the CA's certificate: %w", err)
	}
	key, err := pki.ParsePrivateKey(keyPEM)
	if err != nil {
		return nil, fmt.Errorf("reading the CA's key: %w", err)
	}
	// A CA that was renewed has several certificates for its key.
	var own *x509.Certificate
	var cannot error
	for _, cert := range certs {
		if !pki.KeyMatches(cert, key) {
			continue
		}
		if err := pki.CanSign(cert); err != nil {
			cannot = err
		} else if own == nil || cert.NotAfter.After(own.NotAfter) {
			own = cert
		}
	}
	switch {
	case own != nil:
		return &CA{cert: own, key: key, certPEM: certPEM, keyPEM: keyPEM}, nil
	case cannot != nil:
		return nil, fmt.Errorf("reading the CA's certificate: %w", cannot)
	}
	return nil, fmt.Errorf("reading the CA: its key belongs to none of its certificates (%s)", subjects(certs))
}

func subjects(certs []*x509.Certificate) string {
	var names []string
	for _, c := range certs {
		names = append(names, fmt.Sprintf("%q", c.Subject.String()))
	}
	return strings.Join(names, ", ")
}

// IssueConfig describes a certificate for the CA to sign.
type IssueConfig struct {
	CommonName    string
	Organizations []string
	DNSNames      []string
	IPs           []netip.Addr

	Client bool // for authenticating as a client
	Server bool // and as a server

	KeyType  KeyType       // default: ECDSA
	Validity time.Duration // default: DefaultValidity; never longer than the CA's
	Now      time.Time
}

// Issue makes a private key (PKCS#8) and a certificate for it.
func (ca *CA) Issue(c IssueConfig) (certPEM, keyPEM []byte, err error) {
	fail := func(err error) ([]byte, []byte, error) {
		return nil, nil, fmt.Errorf("issuing a certificate for %s: %w", c.CommonName, err)
	}
	if c.Validity == 0 {
		c.Validity = DefaultValidity
	}
	if c.Now.IsZero() {
		return fail(errors.New("BUG: Now is not set"))
	}
	if c.Validity < 0 {
		return fail(fmt.Errorf("a validity of %s ends before it begins", c.Validity))
	}
	if c.Now.After(ca.cert.NotAfter) {
		return fail(fmt.Errorf("the CA %q expired at %s", ca.cert.Subject.String(), ca.cert.NotAfter.Format(time.RFC3339)))
	}
	key, keyPEM, err := newKey(c.KeyType)
	if err != nil {
		return fail(err)
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: c.CommonName, Organization: c.Organizations},
		NotBefore:             c.Now.Add(-backdate),
		NotAfter:              earlier(c.Now.Add(c.Validity), ca.cert.NotAfter),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
		DNSNames:              c.DNSNames,
	}
	for _, ip := range c.IPs {
		template.IPAddresses = append(template.IPAddresses, ip.Unmap().AsSlice())
	}
	if c.Server {
		template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	}
	if c.Client {
		template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageClientAuth)
	}
	if _, ok := key.(*rsa.PrivateKey); ok {
		template.KeyUsage |= x509.KeyUsageKeyEncipherment
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, key.Public(), ca.key)
	if err != nil {
		return fail(err)
	}
	return encodeCertificate(der), keyPEM, nil
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// newKey makes a private key. It takes no source of randomness: since Go 1.26
// the standard library uses the system's, whatever it is given.
func newKey(t KeyType) (crypto.Signer, []byte, error) {
	var key crypto.Signer
	var err error
	switch t {
	case ECDSA, "":
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case RSA:
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	default:
		return nil, nil, fmt.Errorf("key type %q is unknown: want %s or %s", t, ECDSA, RSA)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("making a key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, fmt.Errorf("encoding a key: %w", err)
	}
	return key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

func encodeCertificate(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}
