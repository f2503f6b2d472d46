package sign_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/secure-systems-lab/go-securesystemslib/encrypted"

	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/manifest/manifesttest"
	"github.com/nodebake/bake/bake/sign"
	"github.com/nodebake/bake/test/filetest"
	"github.com/nodebake/bake/test/need"
)

const image = "worker.tar.gz"

// statement is about an image with the given content and its record.
func statement(content string) []byte {
	return fmt.Appendf(nil, `{"_type":"https://in-toto.io/Statement/v1","predicateType":"https://slsa.dev/provenance/v1",`+
		`"predicate":{"x":1},"subject":[{"name":%q,"digest":{"sha256":%q}},{"name":"worker.json","digest":{"sha256":%q}}]}`,
		image, manifesttest.Digest(content).Hex(), manifesttest.Digest("record").Hex())
}

func subjects(content string) map[string]manifest.Digest {
	return map[string]manifest.Digest{image: manifesttest.Digest(content), "worker.json": manifesttest.Digest("record")}
}

// openssl makes and uses keys: none of them is ours.
func openssl(t *testing.T, args ...string) []byte {
	t.Helper()
	path := need.Program(t, "openssl", "openssl")
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("openssl %q: %v: %s", args, err, stderr.String())
	}
	return stdout.Bytes()
}

// generate makes a key in dir: the file of the private one and the text of the
// public one.
func generate(t *testing.T, dir string, args ...string) (private string, public []byte) {
	t.Helper()
	private = filepath.Join(dir, "key.pem")
	openssl(t, append(append([]string{"genpkey"}, args...), "-out", private)...)
	return private, openssl(t, "pkey", "-in", private, "-pubout")
}

func parse(t *testing.T, path string, password func() ([]byte, error)) *sign.Key {
	t.Helper()
	key, err := sign.ParseKey(path, filetest.Read(t, path), password)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func write(t *testing.T, path string, content []byte) string {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func signed(t *testing.T, statement []byte, key *sign.Key) []byte {
	t.Helper()
	b, err := sign.Sign(t.Context(), statement, key)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// envelope is what of a bundle is signed, read without sigstore's libraries.
type envelope struct {
	DSSE struct {
		Payload     []byte `json:"payload"`
		PayloadType string `json:"payloadType"`
		Signatures  []struct {
			Sig []byte `json:"sig"`
		} `json:"signatures"`
	} `json:"dsseEnvelope"`
	MediaType string `json:"mediaType"`
}

// pae is DSSE's pre-authentication encoding, the bytes that are signed.
func (e *envelope) pae() []byte {
	return fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(e.DSSE.PayloadType), e.DSSE.PayloadType, len(e.DSSE.Payload), e.DSSE.Payload)
}

// TestOpenSSLVerifies has every kind of key made by openssl, and openssl check
// what was signed with it.
func TestOpenSSLVerifies(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		make   []string
		verify []string
	}{
		{"ECDSA P-256", []string{"-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"}, []string{"-rawin", "-digest", "sha256"}},
		{"ECDSA P-384", []string{"-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"}, []string{"-rawin", "-digest", "sha384"}},
		{"ECDSA P-521", []string{"-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-521"}, []string{"-rawin", "-digest", "sha512"}},
		{"Ed25519", []string{"-algorithm", "ED25519"}, []string{"-rawin"}},
		{"RSA", []string{"-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:3072"}, []string{"-rawin", "-digest", "sha256"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			private, public := generate(t, dir, test.make...)
			key := parse(t, private, nil)
			if !bytes.Equal(key.PublicPEM(), public) {
				t.Errorf("PublicPEM = %s; want %s", key.PublicPEM(), public)
			}
			bundle := signed(t, statement("image"), key)
			got, err := sign.Verify(bundle, public, subjects("image"))
			if err != nil || !bytes.Equal(got, statement("image")) {
				t.Fatalf("Verify = %s, %v; want the statement", got, err)
			}
			var e envelope
			if err := json.Unmarshal(bundle, &e); err != nil {
				t.Fatal(err)
			}
			if e.MediaType != "application/vnd.dev.sigstore.bundle.v0.3+json" || e.DSSE.PayloadType != "application/vnd.in-toto+json" || len(e.DSSE.Signatures) != 1 {
				t.Fatalf("bundle is %s; want a signed statement of version 0.3", bundle)
			}
			args := append([]string{
				"pkeyutl", "-verify", "-pubin", "-inkey", write(t, filepath.Join(dir, "key.pub"), public),
				"-sigfile", write(t, filepath.Join(dir, "sig"), e.DSSE.Signatures[0].Sig),
				"-in", write(t, filepath.Join(dir, "pae"), e.pae()),
			}, test.verify...)
			openssl(t, args...)
			write(t, filepath.Join(dir, "pae"), append(e.pae(), ' '))
			if out, err := exec.Command("openssl", args...).CombinedOutput(); err == nil {
				t.Errorf("openssl takes other bytes too: %s", out)
			}
		})
	}
}

func TestVerifyRefuses(t *testing.T) {
	t.Parallel()
	private, public := generate(t, t.TempDir(), "-algorithm", "ED25519")
	_, other := generate(t, t.TempDir(), "-algorithm", "ED25519")
	_, otherKind := generate(t, t.TempDir(), "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")
	key := parse(t, private, nil)
	good := signed(t, statement("image"), key)
	payload := func(statement []byte) string { return base64.StdEncoding.EncodeToString(statement) }
	swapped := strings.Replace(string(good), payload(statement("image")), payload(statement("other")), 1)
	if swapped == string(good) {
		t.Fatal("the bundle does not hold the statement as base64")
	}
	var e envelope
	if err := json.Unmarshal(good, &e); err != nil {
		t.Fatal(err)
	}
	sig := base64.StdEncoding.EncodeToString(e.DSSE.Signatures[0].Sig)
	with := func(old, new string) []byte { return []byte(strings.Replace(string(good), old, new, 1)) }
	more := subjects("image")
	more["worker.spdx.json"] = manifesttest.Digest("sbom")
	for _, test := range []struct {
		name     string
		bundle   []byte
		key      []byte
		subjects map[string]manifest.Digest
		want     string
	}{
		{"altered image", good, public, subjects("other"), "worker.tar.gz is not the one that was signed: digest is " + string(manifesttest.Digest("other"))},
		{"altered statement", []byte(swapped), public, subjects("other"), "checking the signature"},
		{"other key", good, other, subjects("image"), "checking the signature"},
		{"key of another kind", good, otherKind, subjects("image"), "checking the signature"},
		{"cut short", good[:len(good)/2], public, subjects("image"), "reading the bundle"},
		{"empty", nil, public, subjects("image"), "reading the bundle"},
		{"of another form", with("bundle.v0.3", "bundle.x"), public, subjects("image"), "version"},
		{"unknown field", with(`"mediaType"`, `"other":1,"mediaType"`), public, subjects("image"), "reading the bundle"},
		{"no signature", with(`{"sig":"`+sig+`"}`, ``), public, subjects("image"), "signature"},
		{"empty signature", with(sig, ``), public, subjects("image"), "checking the signature"},
		{"two signatures", with(`{"sig":"`+sig+`"}`, `{"sig":"`+sig+`"},{"sig":"`+sig+`"}`), public, subjects("image"), "exactly one signature"},
		{"subject missing", good, public, more, `not about worker.spdx.json, but about ["worker.json" "worker.tar.gz"]`},
		{"subject of no digest", signed(t, replace(statement("image"), `"sha256"`, `"gitCommit"`), key), public, subjects("image"), "reading the statement"},
		{"subject twice", signed(t, replace(statement("image"), `"worker.json"`, `"worker.tar.gz"`), key), public, subjects("image"), "twice"},
		{"signed, but no statement", signed(t, []byte(`"hello"`), key), public, nil, "statement"},
		{"statement without subjects", signed(t, []byte(`{"_type":"https://in-toto.io/Statement/v1","predicateType":"x","predicate":{}}`), key), public, nil, "subject"},
		{"key that is none", good, []byte("ssh-ed25519 AAAA"), subjects("image"), "reading the public key"},
		{"private key as the public one", good, filetest.Read(t, private), subjects("image"), "reading the public key"},
	} {
		got, err := sign.Verify(test.bundle, test.key, test.subjects)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: Verify = %s, %v; want an error with %q", test.name, got, err, test.want)
		}
	}
}

func replace(text []byte, old, new string) []byte {
	return []byte(strings.Replace(string(text), old, new, 1))
}

// TestParseKey reads keys in the forms that people have them in.
func TestParseKey(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	private, public := generate(t, dir, "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")
	secret := func() ([]byte, error) { return []byte("secret"), nil }
	wrong := func() ([]byte, error) { return []byte("guess"), nil }
	never := func() ([]byte, error) {
		t.Error("the password of a key without one was asked for")
		return nil, nil
	}
	der := openssl(t, "pkcs8", "-topk8", "-nocrypt", "-in", private, "-outform", "DER")
	box, err := encrypted.Encrypt(der, []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	// What `cosign generate-key-pair` writes.
	cosign := "-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\n" + base64.StdEncoding.EncodeToString(box) + "\n-----END ENCRYPTED SIGSTORE PRIVATE KEY-----\n"
	for name, test := range map[string]struct {
		text     []byte
		password func() ([]byte, error)
	}{
		"PKCS 8":             {filetest.Read(t, private), never},
		"SEC 1":              {openssl(t, "ec", "-in", private), never},
		"cosign's":           {[]byte(cosign), secret},
		"cosign's older":     {[]byte(strings.ReplaceAll(cosign, "SIGSTORE", "COSIGN")), secret},
		"encrypted PKCS 8":   {openssl(t, "pkcs8", "-topk8", "-in", private, "-passout", "pass:secret"), secret},
		"SEC 1 with comment": {append([]byte("a key of mine\n"), openssl(t, "ec", "-in", private)...), never},
	} {
		key, err := sign.ParseKey("k", test.text, test.password)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if _, err := sign.Verify(signed(t, statement("image"), key), public, subjects("image")); err != nil {
			t.Errorf("%s: Verify = %v", name, err)
		}
	}

	small := filepath.Join(dir, "small.pem")
	openssl(t, "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024", "-out", small)
	odd := filepath.Join(dir, "odd.pem")
	openssl(t, "genpkey", "-algorithm", "X25519", "-out", odd)
	p224 := filepath.Join(dir, "p224.pem")
	openssl(t, "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-224", "-out", p224)
	for name, test := range map[string]struct {
		text     []byte
		password func() ([]byte, error)
		want     string
	}{
		"wrong password":           {[]byte(cosign), wrong, "is the password right?"},
		"wrong password, PKCS 8":   {openssl(t, "pkcs8", "-topk8", "-in", private, "-passout", "pass:secret"), wrong, "is the password right?"},
		"no password":              {[]byte(cosign), nil, "it is encrypted, and no password was given"},
		"cut short":                {filetest.Read(t, private)[:60], nil, "no PEM"},
		"public key":               {public, nil, "it is a public key"},
		"short RSA key":            {filetest.Read(t, small), nil, "1024 bits"},
		"key for agreement":        {filetest.Read(t, odd), nil, "can't sign"},
		"short curve":              {filetest.Read(t, p224), nil, "P-224"},
		"certificate":              {[]byte("-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"), nil, "CERTIFICATE"},
		"empty":                    {nil, nil, "no PEM"},
		"PEM that holds something": {[]byte("-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n"), nil, "reading key k"},
	} {
		if _, err := sign.ParseKey("k", test.text, test.password); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: ParseKey = %v; want an error with %q", name, err, test.want)
		}
	}
}

// TestOnlyTheSignatureDiffers signs twice with a key whose signatures are
// random.
func TestOnlyTheSignatureDiffers(t *testing.T) {
	t.Parallel()
	private, _ := generate(t, t.TempDir(), "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")
	key := parse(t, private, nil)
	var texts []string
	for range 2 {
		b := signed(t, statement("image"), key)
		var e envelope
		if err := json.Unmarshal(b, &e); err != nil {
			t.Fatal(err)
		}
		texts = append(texts, strings.Replace(string(b), base64.StdEncoding.EncodeToString(e.DSSE.Signatures[0].Sig), "", 1))
	}
	if texts[0] != texts[1] {
		t.Errorf("two bundles without their signatures are\n%s\n%s\nwant them equal", texts[0], texts[1])
	}
}

func FuzzVerify(f *testing.F) {
	public := []byte("-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n-----END PUBLIC KEY-----\n") // RFC 8032, section 7.1, test 1
	f.Add([]byte(`{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","verificationMaterial":{"publicKey":{"hint":"x"}},"dsseEnvelope":{"payload":"e30=","payloadType":"application/vnd.in-toto+json","signatures":[{"sig":"AA=="}]}}`))
	f.Add([]byte(`{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","verificationMaterial":{"publicKey":{}},"messageSignature":{"signature":"AA=="}}`))
	f.Fuzz(func(t *testing.T, bundle []byte) {
		if s, err := sign.Verify(bundle, public, nil); err == nil {
			t.Errorf("Verify takes %q as signed: %s", bundle, s)
		}
	})
}
