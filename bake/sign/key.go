package sign

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	protocommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/sigstore/sigstore/pkg/signature"
)

// Key is a private key that signs.
type Key struct {
	name    string // its file, for errors
	signer  crypto.Signer
	details signature.AlgorithmDetails
	hint    string
	public  []byte // PEM
}

// ParseKey reads a private key in PEM: ECDSA on P-256, P-384 or P-521, Ed25519
// or RSA of 2048, 3072 or 4096 bits, as PKCS #8, SEC 1 or PKCS #1, or encrypted as
// cosign's generate-key-pair or openssl's pkcs8 write it. password is called
// only where the key is encrypted. name is for errors.
func ParseKey(name string, text []byte, password func() ([]byte, error)) (*Key, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("reading key %s: it is no PEM (want a private key such as `cosign generate-key-pair` or `openssl genpkey` make)", name)
	}
	if block.Type == "PUBLIC KEY" {
		return nil, fmt.Errorf("reading key %s: it is a public key (to sign takes the private one)", name)
	}
	asked := false
	ask := func(bool) (given []byte, err error) {
		if password == nil {
			return nil, errors.New("it is encrypted, and no password was given")
		}
		given, err = password()
		asked = err == nil
		return given, err
	}
	private, err := cryptoutils.UnmarshalPEMToPrivateKey(text, ask)
	if err != nil && asked {
		return nil, fmt.Errorf("reading key %s: %w (is the password right?)", name, err)
	}
	if err != nil {
		return nil, fmt.Errorf("reading key %s: %w", name, err)
	}
	signer, ok := private.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("reading key %s: a %T can't sign", name, private)
	}
	k := &Key{name: name, signer: signer}
	if err := supported(signer.Public()); err != nil {
		return nil, fmt.Errorf("reading key %s: %w", name, err)
	}
	if k.details, err = signature.GetDefaultAlgorithmDetails(signer.Public()); err != nil {
		return nil, fmt.Errorf("reading key %s: %w", name, err)
	}
	if k.public, err = cryptoutils.MarshalPublicKeyToPEM(signer.Public()); err != nil {
		return nil, fmt.Errorf("reading key %s: %w", name, err)
	}
	der, err := cryptoutils.MarshalPublicKeyToDER(signer.Public())
	if err != nil {
		return nil, fmt.Errorf("reading key %s: %w", name, err)
	}
	sum := sha256.Sum256(der)
	k.hint = base64.StdEncoding.EncodeToString(sum[:])
	return k, nil
}

// PublicPEM returns the public half, which Verify takes.
func (k *Key) PublicPEM() []byte { return k.public }

// supported says why a key's kind is not taken, or nil.
func supported(public crypto.PublicKey) error {
	switch p := public.(type) {
	case *ecdsa.PublicKey:
		if p.Curve != elliptic.P256() && p.Curve != elliptic.P384() && p.Curve != elliptic.P521() {
			return fmt.Errorf("its curve is %s (want P-256, P-384 or P-521)", p.Params().Name)
		}
		return nil
	case *rsa.PublicKey:
		switch p.N.BitLen() {
		case 2048, 3072, 4096: // those that sigstore's registry of algorithms has
			return nil
		}
		return fmt.Errorf("it has %d bits (want 2048, 3072 or 4096)", p.N.BitLen())
	case ed25519.PublicKey:
		return nil
	}
	return fmt.Errorf("a %T is not known (want ECDSA, Ed25519 or RSA)", public)
}

// parsePublic reads a public key in PEM.
func parsePublic(text []byte) (signature.Verifier, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("reading the public key: it is no PEM (want what `cosign public-key` or `openssl pkey -pubout` write)")
	}
	public, err := cryptoutils.UnmarshalPEMToPublicKey(text)
	if err != nil {
		return nil, fmt.Errorf("reading the public key: %w", err)
	}
	if err := supported(public); err != nil {
		return nil, fmt.Errorf("reading the public key: %w", err)
	}
	verifier, err := signature.LoadDefaultVerifier(public)
	if err != nil {
		return nil, fmt.Errorf("reading the public key: %w", err)
	}
	return verifier, nil
}

// keypair is a Key as sigstore-go signs with it.
type keypair struct{ *Key }

func (k keypair) GetHashAlgorithm() protocommon.HashAlgorithm { return k.details.GetProtoHashType() }

func (k keypair) GetSigningAlgorithm() protocommon.PublicKeyDetails {
	return k.details.GetSignatureAlgorithm()
}

func (k keypair) GetHint() []byte { return []byte(k.hint) }

func (k keypair) GetKeyAlgorithm() string {
	switch k.details.GetKeyType() {
	case signature.ECDSA:
		return "ECDSA"
	case signature.RSA:
		return "RSA"
	case signature.ED25519:
		return "ED25519"
	}
	return ""
}

func (k keypair) GetPublicKey() crypto.PublicKey { return k.signer.Public() }

func (k keypair) GetPublicKeyPem() (string, error) { return string(k.public), nil }

// SignData returns the signature of data and what was signed: its digest, or
// data itself with Ed25519, which hashes for itself (RFC 8032, section 5.1.6).
func (k keypair) SignData(_ context.Context, data []byte) ([]byte, []byte, error) {
	hash := k.details.GetHashType()
	if hash != crypto.Hash(0) {
		h := hash.New()
		h.Write(data)
		data = h.Sum(nil)
	}
	signed, err := k.signer.Sign(rand.Reader, data, hash)
	return signed, data, err
}

// always is a key without an end.
type always struct{ signature.Verifier }

func (always) ValidAtTime(time.Time) bool { return true }
