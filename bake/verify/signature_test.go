package verify_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/bake"
	"github.com/nodebake/bake/bake/baketest"
	"github.com/nodebake/bake/bake/progress/progresstest"
	"github.com/nodebake/bake/bake/sbom/slsa"
	"github.com/nodebake/bake/bake/sign"
	"github.com/nodebake/bake/bake/verify"
	"github.com/nodebake/bake/test/filetest"
)

// signedWorld is an image with its signature.
func signedWorld(t *testing.T) (c bake.Config, image *bake.Result, key, public []byte) {
	t.Helper()
	w := baketest.NewLocked(t)
	private, public := baketest.NewKey(t, "")
	c = w.Config()
	c.Sign = private
	image = w.Image(c)
	return w.Config(), image, filetest.Read(t, private), public
}

// TestVerifyStatements signs other statements with the key of the image's owner.
func TestVerifyStatements(t *testing.T) {
	t.Parallel()
	config, image, private, public := signedWorld(t)
	key, err := sign.ParseKey("key.pem", private, nil)
	if err != nil {
		t.Fatal(err)
	}
	good := string(filetest.Read(t, image.Provenance))
	provenance, err := slsa.Read([]byte(good))
	if err != nil {
		t.Fatal(err)
	}
	const (
		other  = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
		remedy = ": it is not provenance of this image (want what `bake image --sign` writes)"
	)
	for _, test := range []struct {
		name, old, new string
		want           verify.Signature // but for Bundle
	}{
		{"as it was made", "", "", verify.Signature{Valid: true, Files: []string{baketest.ImageName, baketest.RecordName, baketest.SPDXName}}},
		{"other predicate type", slsa.PredicateType, "https://in-toto.io/attestation/test-result/v0.1",
			verify.Signature{OtherStatement: true, Error: `the signed statement is of type "https://in-toto.io/attestation/test-result/v0.1"` + remedy}},
		{"other build type", slsa.BuildType, "https://example.com/ci",
			verify.Signature{OtherStatement: true, Error: `the signed statement has build type "https://example.com/ci"` + remedy}},
		{"image without a SHA-256", `{
   "digest": {
    "sha256": "` + image.SHA256.Hex() + `"
   },
   "name": "` + baketest.ImageName + `"
  }`, `{"digest": {"gitCommit": "0123456789abcdef0123456789abcdef01234567"}, "name": "x"}`, verify.Signature{Error: `reading the statement: subject "x" has no SHA-256`}},
		{"another image", image.SHA256.Hex(), other,
			verify.Signature{Error: baketest.ImageName + " is not the one that was signed: digest is " + string(image.SHA256) + "; want sha256:" + other}},
		{"other lock", provenance.Lock.Hex(), other,
			verify.Signature{OtherStatement: true, Error: "the signed statement says that the lock is sha256:" + other + ", and the image holds " + string(provenance.Lock) + remedy}},
		{"other versions file", provenance.Versions.Hex(), other,
			verify.Signature{OtherStatement: true, Error: "the signed statement says that the versions file is sha256:" + other + ", and the image holds " + string(provenance.Versions) + remedy}},
	} {
		text := strings.ReplaceAll(good, test.old, test.new)
		if test.old == "" {
			text = good
		} else if text == good {
			t.Fatalf("%s: the statement lacks %s", test.name, test.old)
		}
		bundle, err := sign.Sign(t.Context(), []byte(text), key)
		if err != nil {
			t.Fatal(err)
		}
		test.want.Bundle = filepath.Join(t.TempDir(), "other.json")
		filetest.Write(t, test.want.Bundle, bundle)
		c := baketest.VerifyConfig(t, config, image.Path)
		c.Key, c.Bundle, c.SignatureOnly = public, test.want.Bundle, true
		result, err := verify.Run(t.Context(), c)
		if err != nil {
			t.Errorf("%s: Verify = %v", test.name, err)
			continue
		}
		if diff := cmp.Diff(&test.want, result.Signature); diff != "" {
			t.Errorf("%s: signature (-want +got):\n%s", test.name, diff)
		}
		filetest.WantEmpty(t, c.TmpDir)
	}
}

// TestVerifyReplaced replaces the image between the check of its signature and
// all that follows: what was hashed is what is compared.
func TestVerifyReplaced(t *testing.T) {
	t.Parallel()
	config, image, _, public := signedWorld(t)
	content := filetest.Read(t, image.Path)
	for _, before := range []struct {
		name    string
		content []byte
		same    bool
	}{
		{"good, then damaged", content, true},
		{"damaged, then good", append(bytes.Clone(content), 0), false},
	} {
		filetest.Write(t, image.Path, before.content)
		with := filepath.Join(t.TempDir(), "with")
		filetest.Write(t, with, content)
		if before.same {
			filetest.Write(t, with, content[:len(content)/2])
		}
		c := baketest.VerifyConfig(t, config, image.Path)
		if before.same {
			c.Key = public
		}
		c.Progress = &progresstest.Recorder{OnStart: func(string) { os.Rename(with, image.Path) }} // the first time, then there is none
		result, err := verify.Run(t.Context(), c)
		if err != nil {
			t.Fatalf("%s: Verify = %v", before.name, err)
		}
		if result.Identical != before.same || before.same && (result.SHA256 != image.SHA256 || !result.Signature.Valid) {
			t.Errorf("%s: result is %+v; want identical: %v, by what was there first", before.name, result, before.same)
		}
		if got := filetest.Read(t, image.Path); len(got) == len(before.content) {
			t.Fatalf("%s: the file was not replaced", before.name)
		}
	}
}
