package pki_test

import (
	"bytes"
	"encoding/pem"
	"strings"
	"testing"

	"github.com/nodebake/bake/firstboot/pki"
)

func FuzzParseCertificates(f *testing.F) {
	w := newWorld(f)
	cert := w.files.Certificate
	f.Add(cert)
	f.Add(append(bytes.Clone(cert), w.files.CA...))
	f.Add(w.files.Key)
	f.Add([]byte("comment\n" + string(cert)))
	f.Add(bytes.ReplaceAll(cert, []byte("\n"), []byte("\r\n")))
	f.Add([]byte("-----BEGIN CERTIFICATE-----\n-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))
	f.Add([]byte("-----BEGIN X-----\na: b\n\nAAAA\n-----END X-----\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		certs, err := pki.ParseCertificates(data)
		if err != nil {
			checkLine(t, err)
			return
		}
		// What is accepted, the standard library reads to the end, and sees the same.
		var raw [][]byte
		rest := data
		for {
			var b *pem.Block
			if b, rest = pem.Decode(rest); b == nil {
				break
			}
			raw = append(raw, b.Bytes)
		}
		if len(raw) != len(certs) || len(bytes.TrimSpace(rest)) > 0 {
			t.Fatalf("ParseCertificates has %d certificates, encoding/pem %d and the rest %q", len(certs), len(raw), rest)
		}
		for i, c := range certs {
			if !bytes.Equal(c.Raw, raw[i]) {
				t.Errorf("certificate %d is another for encoding/pem", i)
			}
		}
	})
}

func FuzzParsePrivateKey(f *testing.F) {
	f.Add(pkcs8(f, newECDSA(f)))
	f.Add(pkcs8(f, newEd25519(f)))
	f.Add([]byte(shortRSA))
	f.Add([]byte("-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"))
	f.Add([]byte("-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END EC PRIVATE KEY-----\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		key, err := pki.ParsePrivateKey(data)
		if err != nil {
			checkLine(t, err)
			return
		}
		if key == nil || key.Public() == nil {
			t.Error("ParsePrivateKey returns no key and no error")
		}
	})
}

func checkLine(t *testing.T, err error) {
	t.Helper()
	if err.Error() == "" || strings.ContainsAny(err.Error(), "\n\r\x1b") {
		t.Errorf("the error %q is not one line", err)
	}
}
