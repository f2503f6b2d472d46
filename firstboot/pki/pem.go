package pki

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
)

// block is one PEM block and the line that it begins at, from 1.
type block struct {
	*pem.Block
	line int
}

// blocks reads all PEM blocks of data. Text before a block is a comment, as
// RFC 7468 has it and `openssl x509 -text` writes it; anything else that is not
// part of a block is an error, where encoding/pem would skip a damaged block
// in silence.
func blocks(data []byte) ([]block, error) {
	text := strings.TrimSpace(string(data))
	switch {
	case text == "":
		return nil, errors.New("is empty")
	case strings.HasPrefix(text, "\ufeff"):
		return nil, errors.New("begins with a byte order mark; save it as plain ASCII")
	case strings.HasPrefix(text, "\xff\xfe") || strings.HasPrefix(text, "\xfe\xff"):
		return nil, errors.New("is UTF-16; save it as plain ASCII")
	case strings.HasPrefix(text, "{") || strings.HasPrefix(text, "["):
		return nil, errors.New("is JSON and no PEM (-----BEGIN ...-----)")
	case strings.HasPrefix(text, "/") && !strings.ContainsAny(text, " \r\n"):
		return nil, errors.New("is the name of a file, where its content belongs (gcloud's --metadata-from-file takes files)")
	case strings.HasPrefix(text, "LS0tLS1CRUdJTi"): // -----BEGIN in base64
		return nil, errors.New("is PEM encoded as base64 once more; decode it with `base64 -d`")
	case strings.HasPrefix(text, "-----BEGIN") && !strings.ContainsAny(text, "\r\n"):
		return nil, errors.New("is PEM in a single line; its line breaks got lost")
	}
	var found []block
	line, rest := 1, data
	for {
		begin := indexLine(rest, "-----BEGIN ")
		if begin < 0 {
			break
		}
		if at := indexLine(rest[:begin], "-----"); at >= 0 {
			return nil, fmt.Errorf("line %d is a damaged boundary of a PEM block", line+lines(rest[:at]))
		}
		line += lines(rest[:begin])
		rest = rest[begin:]
		// What this block may take ends where the next one begins.
		one := rest
		if next := indexLine(rest[1:], "-----BEGIN "); next >= 0 {
			one = rest[:1+next]
		}
		p, after := pem.Decode(one)
		if p == nil {
			return nil, fmt.Errorf("the PEM block that begins at line %d is damaged or incomplete", line)
		}
		found = append(found, block{p, line})
		used := len(one) - len(after)
		line += lines(rest[:used])
		rest = rest[used:]
	}
	if len(found) == 0 {
		return nil, errors.New("holds no PEM block (-----BEGIN ...-----)")
	}
	if text := bytes.TrimLeft(rest, " \t\r\n"); len(text) > 0 {
		return nil, fmt.Errorf("line %d: something follows the last PEM block", line+lines(rest[:len(rest)-len(text)]))
	}
	return found, nil
}

// indexLine returns where the first line that begins with prefix begins, or -1.
func indexLine(data []byte, prefix string) int {
	if bytes.HasPrefix(data, []byte(prefix)) {
		return 0
	}
	if i := bytes.Index(data, []byte("\n"+prefix)); i >= 0 {
		return i + 1
	}
	return -1
}

func lines(data []byte) int { return bytes.Count(data, []byte("\n")) }

// ParseCertificates reads one or more certificates in PEM and nothing else.
func ParseCertificates(data []byte) ([]*x509.Certificate, error) {
	found, err := blocks(data)
	if err != nil {
		return nil, err
	}
	var certs []*x509.Certificate
	at := map[string]int{}
	for _, b := range found {
		if b.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("line %d: a %s stands where only certificates belong", b.line, b.Type)
		}
		if len(b.Headers) > 0 {
			return nil, fmt.Errorf("line %d: the certificate has headers, for which Kubernetes ignores it; remove the lines up to the first empty one", b.line)
		}
		if first, ok := at[string(b.Bytes)]; ok {
			return nil, fmt.Errorf("line %d: the certificate at line %d comes a second time", b.line, first)
		}
		at[string(b.Bytes)] = b.line
		cert, err := x509.ParseCertificate(b.Bytes)
		if err != nil {
			return nil, fmt.Errorf("the certificate at line %d is malformed: %w", b.line, err)
		}
		certs = append(certs, cert)
	}
	return certs, nil
}

// ParsePrivateKey reads one private key in PEM: RSA, ECDSA or Ed25519 as
// PKCS#8, or as PKCS#1 or SEC 1. Parameters that openssl ecparam writes before
// a key may stand there. Errors don't quote the key.
func ParsePrivateKey(data []byte) (crypto.Signer, error) {
	found, err := blocks(data)
	if err != nil {
		return nil, err
	}
	var key crypto.Signer
	at := 0
	for _, b := range found {
		if b.Type == "EC PARAMETERS" && key == nil {
			continue
		}
		if key != nil {
			return nil, fmt.Errorf("line %d: a %s follows the private key of line %d; want one key and nothing else", b.line, b.Type, at)
		}
		if key, err = parseKeyBlock(b.Block); err != nil {
			return nil, fmt.Errorf("line %d: %w", b.line, err)
		}
		at = b.line
	}
	if key == nil {
		return nil, errors.New("holds parameters and no private key")
	}
	return key, nil
}

func parseKeyBlock(b *pem.Block) (crypto.Signer, error) {
	if b.Type == "ENCRYPTED PRIVATE KEY" || b.Headers["DEK-Info"] != "" || strings.Contains(b.Headers["Proc-Type"], "ENCRYPTED") {
		return nil, errors.New("the private key is encrypted, and nobody types its passphrase when a machine boots; decrypt it with `openssl pkey -in FILE -out NEW`")
	}
	var parsed any
	var err error
	switch b.Type {
	case "PRIVATE KEY":
		parsed, err = x509.ParsePKCS8PrivateKey(b.Bytes)
	case "RSA PRIVATE KEY":
		parsed, err = x509.ParsePKCS1PrivateKey(b.Bytes)
	case "EC PRIVATE KEY":
		parsed, err = x509.ParseECPrivateKey(b.Bytes)
	case "OPENSSH PRIVATE KEY":
		return nil, errors.New("the private key is in OpenSSH's own format; convert it with `ssh-keygen -p -m PKCS8 -f FILE`")
	default:
		return nil, fmt.Errorf("a %s stands where a private key belongs", b.Type)
	}
	if err != nil {
		// The standard library's errors here name algorithms and structure,
		// but are not promised to hold nothing of the key.
		return nil, fmt.Errorf("the %s is malformed", strings.ToLower(b.Type))
	}
	switch key := parsed.(type) {
	case *rsa.PrivateKey:
		if bits := key.N.BitLen(); bits < minRSA {
			return nil, fmt.Errorf("the RSA key has %d bits; want 2048 or more", bits)
		}
		return key, nil
	case *ecdsa.PrivateKey:
		return key, nil
	case ed25519.PrivateKey:
		return key, nil
	}
	return nil, fmt.Errorf("the private key (%T) can't sign; want RSA, ECDSA or Ed25519", parsed)
}

// forTLS is an error for a key that can sign and that no TLS connection takes.
func forTLS(key crypto.Signer) error {
	if k, ok := key.(*ecdsa.PrivateKey); ok && k.Curve == elliptic.P224() {
		return errors.New("the ECDSA key is on the curve P-224, which TLS has not; want P-256, P-384 or P-521")
	}
	return nil
}

// minRSA is the least that Go's TLS works with.
const minRSA = 1024

// KeyMatches says whether key is the private key of cert.
func KeyMatches(cert *x509.Certificate, key crypto.Signer) bool {
	public, ok := cert.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	return ok && public.Equal(key.Public())
}

// CanSign is an error if cert may not sign certificates. Old CAs of X.509
// version 1 don't say so and may, as for OpenSSL.
func CanSign(cert *x509.Certificate) error {
	switch {
	case cert.BasicConstraintsValid && !cert.IsCA, !cert.BasicConstraintsValid && cert.Version == 3:
		return fmt.Errorf("the certificate %q is not a CA's (no CA:TRUE in its basic constraints)", cert.Subject.String())
	case cert.KeyUsage != 0 && cert.KeyUsage&x509.KeyUsageCertSign == 0:
		return fmt.Errorf("the certificate %q may not sign certificates (its key usage)", cert.Subject.String())
	}
	return nil
}
