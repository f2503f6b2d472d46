package repo

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// maxSignatures is how many signatures are tried. Debian makes two or three.
const maxSignatures = 16

// Verify checks a clearsigned file (RFC 9580, section 7) and returns the text
// that is signed. One good signature by one of keys is enough: while Debian
// changes keys it signs with the old and the new one. A signature that is
// expired at now, or whose key is expired or revoked, is not good, nor is one
// by an unknown key or over SHA-1.
//
// The file must be the signed message and nothing else, so that no reader can
// take text from outside of the signature for signed.
func Verify(file []byte, keys openpgp.EntityList, now time.Time) ([]byte, error) {
	if !bytes.HasPrefix(file, []byte("-----BEGIN PGP SIGNED MESSAGE-----")) {
		return nil, errors.New("it does not start with an OpenPGP clearsigned message: the mirror serves something else")
	}
	block, rest := clearsign.Decode(file)
	if block == nil {
		return nil, errors.New("the OpenPGP clearsigned message is damaged or cut short")
	}
	if len(bytes.TrimSpace(rest)) > 0 {
		return nil, errors.New("there is text after the OpenPGP signature")
	}
	var problems []string
	signatures := packet.NewReader(block.ArmoredSignature.Body)
	for range maxSignatures {
		p, err := signatures.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("reading the OpenPGP signature: %w", err)
		}
		signature, ok := p.(*packet.Signature)
		if !ok {
			return nil, fmt.Errorf("the OpenPGP signature holds a packet of another kind (%T)", p)
		}
		err = check(signature, block.Bytes, keys, now)
		if err == nil {
			return block.Plaintext, nil
		}
		problems = append(problems, err.Error())
	}
	if len(problems) == 0 {
		return nil, errors.New("the OpenPGP message has no signature")
	}
	return nil, fmt.Errorf("none of its signatures is good: %s", strings.Join(problems, "; "))
}

// Plaintext returns the text of a clearsigned file whose signatures need no
// checking, because the caller knows the file by its digest or has had it from
// Verify.
func Plaintext(file []byte) ([]byte, error) {
	block, _ := clearsign.Decode(file)
	if block == nil {
		return nil, errors.New("the OpenPGP clearsigned message is damaged or cut short")
	}
	return block.Plaintext, nil
}

// check verifies one signature. The library's own loop over several stops at
// the first whose key it knows, good or bad.
func check(signature *packet.Signature, text []byte, keys openpgp.EntityList, now time.Time) error {
	var key string
	switch {
	case len(signature.IssuerFingerprint) > 0:
		key = fmt.Sprintf("key %X", signature.IssuerFingerprint)
	case signature.IssuerKeyId != nil:
		key = fmt.Sprintf("key %016X", *signature.IssuerKeyId)
	default:
		return errors.New("a signature that does not name its key")
	}
	switch signature.Hash {
	case crypto.SHA256, crypto.SHA384, crypto.SHA512:
	default:
		// apt trusts no weaker one either.
		return fmt.Errorf("%s: made over %v", key, signature.Hash)
	}
	var one bytes.Buffer
	if err := signature.Serialize(&one); err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	config := &packet.Config{Time: func() time.Time { return now }}
	if _, err := openpgp.CheckDetachedSignature(keys, bytes.NewReader(text), &one, config); err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	return nil
}
