package repo

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// epoch is when the tests' keys are made, before everything else.
func epoch() time.Time { return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC) }

func at(day int) time.Time { return epoch().AddDate(0, 0, day) }

// newKey makes a key that is valid for so many days; 0 for ever. It is the
// same for the same name, so that every process that fuzzes has the keys of the
// seeds.
func newKey(t testing.TB, name string, days int) *openpgp.Entity {
	t.Helper()
	e, err := openpgp.NewEntity(name, "", name+"@debian.example", &packet.Config{
		Time: epoch, Rand: rand.NewChaCha8(sha256.Sum256([]byte(name))), Algorithm: packet.PubKeyAlgoEdDSA, KeyLifetimeSecs: uint32(days * 86400),
	})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func sign(t testing.TB, text string, when time.Time, hash crypto.Hash, keys ...*openpgp.Entity) []byte {
	t.Helper()
	var private []*packet.PrivateKey
	for _, k := range keys {
		private = append(private, k.PrivateKey)
	}
	var b bytes.Buffer
	w, err := clearsign.EncodeMulti(&b, private, &packet.Config{Time: func() time.Time { return when }, DefaultHash: hash})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return append(b.Bytes(), '\n')
}

func TestVerify(t *testing.T) {
	oldKey, key, other := newKey(t, "old", 100), newKey(t, "current", 0), newKey(t, "other", 0)
	keys := openpgp.EntityList{oldKey, key}
	const text = "Suite: stable\n- dashed\n\nCodename: trixie\n"
	good := sign(t, text, at(10), crypto.SHA256, key)
	const begin = "-----BEGIN PGP SIGNED MESSAGE-----\n"
	swap := func(b []byte, old, new string) []byte {
		t.Helper()
		if !bytes.Contains(b, []byte(old)) {
			t.Fatalf("BUG: %q is not in the message", old)
		}
		return bytes.Replace(b, []byte(old), []byte(new), 1)
	}
	tests := []struct {
		name string
		file []byte
		day  int
		want string // of the error; "": none
	}{
		{"good", good, 20, ""},
		{"SHA-512", sign(t, text, at(10), crypto.SHA512, key), 20, ""},
		{"unknown key first", sign(t, text, at(10), crypto.SHA256, other, key), 20, ""},
		{"unknown key last", sign(t, text, at(10), crypto.SHA256, key, other), 20, ""},
		{"expired key first", sign(t, text, at(10), crypto.SHA256, oldKey, key), 200, ""},
		{"key not yet expired", sign(t, text, at(10), crypto.SHA256, oldKey), 99, ""},
		{"expired key", sign(t, text, at(10), crypto.SHA256, oldKey), 200, "key expired"},
		{"unknown key", sign(t, text, at(10), crypto.SHA256, other), 20, "unknown entity"},
		{"made in the future", good, 9, "expired"},
		{"tampered text", swap(good, "Codename: trixie", "Codename: forky"), 20, "none of its signatures is good"},
		{"added line", swap(good, "Suite: stable", "Suite: stable\nX: y"), 20, "none of its signatures is good"},
		{"text before", append([]byte("Suite: evil\n\n"), good...), 20, "does not start with"},
		{"blank line before", append([]byte("\n"), good...), 20, "does not start with"},
		{"text after", append(bytes.Clone(good), "Suite: evil\n"...), 20, "after the OpenPGP signature"},
		{"a second message", append(bytes.Clone(good), good...), 20, "after the OpenPGP signature"},
		{"header beside Hash", swap(good, "Hash: SHA256\n", "Hash: SHA256\nSuite: evil\n"), 20, "damaged"},
		{"cut in the text", good[:len(begin)+20], 20, "damaged"},
		{"cut in the signature", good[:len(good)-40], 20, "damaged"},
		{"not signed", []byte(text), 20, "does not start with"},
		{"HTML", []byte("<html>"), 20, "does not start with"},
		{"empty", nil, 20, "does not start with"},
		{"marker only", []byte(begin), 20, "damaged"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := Verify(test.file, keys, at(test.day))
			if test.want != "" {
				if err == nil || !strings.Contains(err.Error(), test.want) {
					t.Errorf("Verify: error is %v; want %q", err, test.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != text {
				t.Errorf("Verify = %q; want %q", got, text)
			}
		})
	}
}

// TestVerifyFlippedBits flips every byte of a signed file: it must be refused,
// or give the text that was signed.
func TestVerifyFlippedBits(t *testing.T) {
	key := newKey(t, "current", 0)
	const text = "Suite: stable\nCodename: trixie"
	good := sign(t, text, at(10), crypto.SHA256, key)
	accepted := 0
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 0x04
		got, err := Verify(bad, openpgp.EntityList{key}, at(20))
		if err != nil {
			continue
		}
		accepted++
		if string(got) != text {
			t.Fatalf("Verify with byte %d flipped = %q; want %q or an error", i, got, text)
		}
	}
	if accepted == len(good) {
		t.Error("no flipped byte was noticed")
	}
}

// TestVerifyWeakHash: a signature over SHA-1 is not even tried.
func TestVerifyWeakHash(t *testing.T) {
	key := newKey(t, "current", 0)
	block, _ := clearsign.Decode(sign(t, "text", at(10), crypto.SHA256, key))
	p, err := packet.NewReader(block.ArmoredSignature.Body).Next()
	if err != nil {
		t.Fatal(err)
	}
	signature := p.(*packet.Signature)
	if err := check(signature, block.Bytes, openpgp.EntityList{key}, at(20)); err != nil {
		t.Fatalf("check of a signature over SHA-256: %v", err)
	}
	signature.Hash = crypto.SHA1
	err = check(signature, block.Bytes, openpgp.EntityList{key}, at(20))
	if err == nil || !strings.Contains(err.Error(), "SHA-1") {
		t.Errorf("check of a signature over SHA-1: error is %v", err)
	}
}

func FuzzVerify(f *testing.F) {
	key := newKey(f, "current", 0)
	other := newKey(f, "other", 0)
	const text = "Suite: stable\nCodename: trixie"
	f.Add(sign(f, text, at(10), crypto.SHA256, key))
	f.Add(sign(f, text, at(10), crypto.SHA256, other, key))
	f.Add([]byte("-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nx\n-----BEGIN PGP SIGNATURE-----\n\n-----END PGP SIGNATURE-----\n"))
	f.Fuzz(func(t *testing.T, file []byte) {
		got, err := Verify(file, openpgp.EntityList{key}, at(20))
		if err == nil && string(got) != text {
			t.Fatalf("Verify took %q for signed", got)
		}
	})
}
