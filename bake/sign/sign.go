// Package sign signs in-toto statements with a private key of the user's own
// and verifies them, with sigstore's libraries: what it writes is a sigstore
// bundle, version 0.3, with the statement in a DSSE envelope.
//
// Nothing asks a network: there is no certificate, no transparency log and no
// timestamp, so that both sides work where there is none. A bundle therefore
// says who signed, by the key that verifies it, and not when. ECDSA
// signatures are random, so a bundle is not reproducible; all of it but the
// signature is.
//
// Formats: sigstore's protobuf-specs, bundle/v1; DSSE, "Signature Definition";
// in-toto attestation framework, statement v1.
package sign

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/root"
	sigstore "github.com/sigstore/sigstore-go/pkg/sign"
	"github.com/sigstore/sigstore-go/pkg/verify"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/nodebake/bake/bake/manifest"
)

// Sign wraps statement, the JSON of an in-toto statement, in a DSSE envelope
// and returns the bundle that holds it with its signature by key.
func Sign(ctx context.Context, statement []byte, key *Key) ([]byte, error) {
	content := &sigstore.DSSEData{Data: statement, PayloadType: bundle.IntotoMediaType}
	signed, err := sigstore.Bundle(content, keypair{key}, sigstore.BundleOptions{Context: ctx})
	if err != nil {
		return nil, fmt.Errorf("signing with %s: %w", key.name, err)
	}
	text, err := protojson.Marshal(signed)
	if err != nil {
		return nil, fmt.Errorf("signing with %s: %w", key.name, err)
	}
	// protojson puts spaces where it likes, so that nobody relies on its bytes.
	var compact bytes.Buffer
	if err := json.Compact(&compact, text); err != nil {
		return nil, fmt.Errorf("BUG: %w", err)
	}
	compact.WriteByte('\n')
	return compact.Bytes(), nil
}

// Verify checks that the bundle is signed by the owner of publicKey (PEM) and
// is about every one of subjects, SHA-256 digests by the names that the
// statement gives them. It returns the statement's JSON, byte for byte as it
// was signed, also with the error where only its subjects are wrong. What else
// the statement says is for the caller to check.
func Verify(signed, publicKey []byte, subjects map[string]manifest.Digest) ([]byte, error) {
	trusted, err := trust(publicKey)
	if err != nil {
		return nil, err
	}
	var b bundle.Bundle
	if err := b.UnmarshalJSON(signed); err != nil {
		return nil, fmt.Errorf("reading the bundle: %w", err)
	}
	envelope, err := b.Envelope()
	if err != nil {
		return nil, fmt.Errorf("reading the bundle: it holds no DSSE envelope: %w", err)
	}
	verifier, err := verify.NewVerifier(trusted, verify.WithNoObserverTimestamps())
	if err != nil {
		return nil, fmt.Errorf("BUG: %w", err)
	}
	// Which file has which digest is compared below: the library knows no names.
	result, err := verifier.Verify(&b, verify.NewPolicy(verify.WithoutArtifactUnsafe(), verify.WithKey()))
	if err != nil {
		return nil, fmt.Errorf("checking the signature: %w (was it signed with another key, or altered?)", err)
	}
	statement, err := envelope.DecodeB64Payload()
	if err != nil {
		return nil, fmt.Errorf("reading the statement: %w", err)
	}
	if err := result.Statement.Validate(); err != nil {
		return nil, fmt.Errorf("reading the statement: %w", err)
	}
	signedSums := map[string]manifest.Digest{}
	for _, s := range result.Statement.GetSubject() {
		digest, err := hex.DecodeString(s.GetDigest()["sha256"])
		if err != nil || len(digest) != 32 {
			return statement, fmt.Errorf("reading the statement: subject %q has no SHA-256", s.GetName())
		}
		if _, twice := signedSums[s.GetName()]; twice {
			return statement, fmt.Errorf("reading the statement: subject %q is there twice", s.GetName())
		}
		signedSums[s.GetName()] = manifest.SHA256([32]byte(digest))
	}
	return statement, compare(subjects, signedSums)
}

// compare returns in which subjects what is there is not what was signed.
func compare(there, signed map[string]manifest.Digest) error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(there)) {
		switch sum, ok := signed[name]; {
		case !ok:
			errs = append(errs, fmt.Errorf("the signature is not about %s, but about %q", name, slices.Sorted(maps.Keys(signed))))
		case sum != there[name]:
			errs = append(errs, fmt.Errorf("%s is not the one that was signed: %w", name, &manifest.DigestError{Want: sum, Got: there[name]}))
		}
	}
	return errors.Join(errs...)
}

// trust makes the one key sigstore's trusted material.
func trust(publicKey []byte) (root.TrustedMaterial, error) {
	verifier, err := parsePublic(publicKey)
	if err != nil {
		return nil, err
	}
	return root.NewTrustedPublicKeyMaterial(func(string) (root.TimeConstrainedVerifier, error) {
		return always{verifier}, nil // whatever the bundle calls its key: only this one counts
	}), nil
}
