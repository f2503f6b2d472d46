package manifest

import (
	"crypto/sha256"
	"errors"
	"io"
	"testing"
)

// The digests of "abc" in FIPS 180-4's examples.
const (
	abc256 Digest = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
	abc512 Digest = "sha512:ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f"
)

func TestSum(t *testing.T) {
	for _, sum := range []Digest{abc256, abc512} {
		if got, err := ParseDigest(string(sum)); got != sum || err != nil {
			t.Errorf("ParseSum(%q) = %q, %v; want itself", sum, got, err)
		}
		h := sum.NewHash()
		io.WriteString(h, "abc")
		if err := sum.Check(h); err != nil {
			t.Errorf("Check(abc) = %v; want nil", err)
		}
		h = sum.NewHash()
		io.WriteString(h, "abd")
		err := sum.Check(h)
		if mismatch, ok := errors.AsType[*DigestError](err); !ok || mismatch.Want != sum || mismatch.Got.Algorithm() != sum.Algorithm() {
			t.Errorf("Check(abd) = %v; want a *SumError for %s", err, sum)
		}
		if got := Digest(sum.Algorithm() + ":" + sum.Hex()); got != sum {
			t.Errorf("Algorithm and Hex give %s; want %s", got, sum)
		}
	}
	if got := SHA256(sha256.Sum256([]byte("abc"))); got != abc256 {
		t.Errorf("SHA256(abc) = %s; want %s", got, abc256)
	}
}

func TestParseSumErrors(t *testing.T) {
	for _, test := range []struct{ in, want string }{
		{"", `"" is not a digest (want sha256: or sha512: and hexadecimal digits)`},
		{sumA, `"` + sumA + `" is not a digest (want sha256: or sha512: and hexadecimal digits)`},
		{"md5:abc", `"md5:abc" is not a digest (want sha256: or sha512: and hexadecimal digits)`},
		{"sha256:", "sha256 has 0 hexadecimal digits; want 64"},
		{"sha256:" + sumA + "a", "sha256 has 65 hexadecimal digits; want 64"},
		{"sha512:" + sumA, "sha512 has 64 hexadecimal digits; want 128"},
		{"sha256:" + sumA[:63] + "A", "sha256 has the upper-case digit 'A' at 64 (write it in lower case)"},
		{"sha256:" + sumA[:63] + " ", "sha256 has ' ' at 64, which is no hexadecimal digit"},
		{"sha256:sha256:" + sumA, `want the digits of the sha256 alone (remove "sha256:")`},
	} {
		if got, err := ParseDigest(test.in); got != "" || text(err) != test.want {
			t.Errorf("ParseSum(%q) = %q, %v; want %s", test.in, got, err, test.want)
		}
	}
}

func TestNewHashOfUncheckedSum(t *testing.T) {
	defer func() {
		if got, want := recover(), `BUG: sum "abc" was not checked`; got != want {
			t.Errorf("NewHash panicked with %v; want %s", got, want)
		}
	}()
	Digest("abc").NewHash()
}
