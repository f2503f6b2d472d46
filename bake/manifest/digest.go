package manifest

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"hash"
	"strings"
)

// Digest is a digest in the form ALGORITHM:HEX, "sha256:" or "sha512:" (FIPS
// 180-4) and 64 or 128 lower-case hexadecimal digits. Digests of a parsed file
// are valid; one from elsewhere must go through [ParseDigest].
type Digest string

// The algorithms of a Digest.
const (
	sha256Name = "sha256"
	sha512Name = "sha512"
)

// ParseDigest checks that s is a Digest.
func ParseDigest(s string) (Digest, error) {
	algorithm, digits, ok := strings.Cut(s, ":")
	if !ok || algorithm != sha256Name && algorithm != sha512Name {
		return "", fmt.Errorf("%q is not a digest (want sha256: or sha512: and hexadecimal digits)", s)
	}
	return newDigest(algorithm, digits)
}

// newDigest makes a Digest of the digits alone.
func newDigest(algorithm, digits string) (Digest, error) {
	want := 2 * sha256.Size
	if algorithm == sha512Name {
		want = 2 * sha512.Size
	}
	if prefix, rest, ok := strings.Cut(digits, ":"); ok && len(rest) == want {
		return "", fmt.Errorf("want the digits of the %s alone (remove %q)", algorithm, prefix+":")
	}
	for i, c := range []byte(digits) {
		switch {
		case c >= '0' && c <= '9' || c >= 'a' && c <= 'f':
		case c >= 'A' && c <= 'F':
			return "", fmt.Errorf("%s has the upper-case digit %q at %d (write it in lower case)", algorithm, c, i+1)
		default:
			return "", fmt.Errorf("%s has %q at %d, which is no hexadecimal digit", algorithm, c, i+1)
		}
	}
	if len(digits) != want {
		return "", fmt.Errorf("%s has %d hexadecimal digits; want %d", algorithm, len(digits), want)
	}
	return Digest(algorithm + ":" + digits), nil
}

// SHA256 returns the Digest of a sum made with crypto/sha256.
func SHA256(digest [sha256.Size]byte) Digest {
	return Digest(sha256Name + ":" + hex.EncodeToString(digest[:]))
}

// Algorithm returns "sha256" or "sha512".
func (s Digest) Algorithm() string {
	algorithm, _, _ := strings.Cut(string(s), ":")
	return algorithm
}

// Hex returns the digits.
func (s Digest) Hex() string {
	_, digits, _ := strings.Cut(string(s), ":")
	return digits
}

// NewHash returns a hash of s's algorithm, with nothing written to it. It
// panics for a Digest that was never checked.
func (s Digest) NewHash() hash.Hash {
	switch s.Algorithm() {
	case sha256Name:
		return sha256.New()
	case sha512Name:
		return sha512.New()
	}
	panic(fmt.Sprintf("BUG: sum %q was not checked", string(s)))
}

// Check returns a *DigestError unless what was written to h, which NewHash made,
// has the digest s.
func (s Digest) Check(h hash.Hash) error {
	got := Digest(s.Algorithm() + ":" + hex.EncodeToString(h.Sum(nil)))
	if got != s {
		return &DigestError{Want: s, Got: got}
	}
	return nil
}

// DigestError says that content is not what was asked for.
type DigestError struct {
	Want, Got Digest
}

func (e *DigestError) Error() string {
	return fmt.Sprintf("digest is %s; want %s", e.Got, e.Want)
}
