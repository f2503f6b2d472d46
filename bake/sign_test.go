package bake_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	spdxjson "github.com/spdx/tools-golang/json"

	"github.com/nodebake/bake/bake"
	"github.com/nodebake/bake/bake/baketest"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/manifest/manifesttest"
	"github.com/nodebake/bake/bake/progress/progresstest"
	"github.com/nodebake/bake/bake/sign"
	"github.com/nodebake/bake/test/filetest"
)

// TestSigned bakes with a key: the image and everything beside it are those
// that are made without one, and the signature is about them.
func TestSigned(t *testing.T) {
	t.Parallel()
	w, want := baketest.NewBaked(t)
	plain := w.Config()
	w.Image(plain)
	key, public := baketest.NewKey(t, "secret")
	c := w.Config()
	c.Out = filepath.Join(t.TempDir(), "signed")
	c.Sign, c.SignPassword = key, func() ([]byte, error) { return []byte("secret"), nil }
	result := w.Image(c)
	if result.SHA256 != want || result.Bundle != filepath.Join(c.Out, baketest.BundleName) {
		t.Errorf("result is %+v; want an image with digest %s and its bundle", result, want)
	}
	files := []string{baketest.ImageName, baketest.RecordName, baketest.SPDXName, baketest.ProvenanceName}
	if diff := cmp.Diff(slices.Sorted(slices.Values(append(slices.Clone(files), baketest.BundleName))), filetest.Names(t, c.Out)); diff != "" {
		t.Errorf("output directory (-want +got):\n%s", diff)
	}
	subjects := map[string]manifest.Digest{}
	for _, name := range files {
		got := manifesttest.DigestFile(t, filepath.Join(c.Out, name))
		if without := manifesttest.DigestFile(t, filepath.Join(plain.Out, name)); got != without {
			t.Errorf("%s has digest %s; want %s, as without a key", name, got, without)
		}
		if name != baketest.ProvenanceName {
			subjects[name] = got
		}
	}
	bundle := filetest.Read(t, result.Bundle)
	statement, err := sign.Verify(bundle, public, subjects)
	if err != nil || !bytes.Equal(statement, filetest.Read(t, result.Provenance)) {
		t.Errorf("Verify = %s, %v; want what %s has", statement, err, baketest.ProvenanceName)
	}
	subjects[baketest.ImageName] = subjects[baketest.RecordName]
	if _, err := sign.Verify(bundle, public, subjects); err == nil || !strings.Contains(err.Error(), baketest.ImageName+" is not the one that was signed") {
		t.Errorf("Verify of another image = %v; want an error that names it", err)
	}

	// Without the key the same image leaves the signature as it is.
	c.Sign = ""
	var sink progresstest.Recorder
	c.Progress = &sink
	w.Image(c)
	if got := filetest.Read(t, result.Bundle); !bytes.Equal(got, bundle) || slices.ContainsFunc(sink.Lines(), func(l string) bool { return strings.Contains(l, "signature") }) {
		t.Errorf("after the same bake without a key the bundle changed or was noted: %q", sink.Lines())
	}
	// Of another image it is noted.
	filetest.Write(t, result.Bundle, "{}")
	sink = progresstest.Recorder{}
	w.Image(c)
	if !slices.ContainsFunc(sink.Lines(), func(l string) bool {
		return strings.Contains(l, baketest.BundleName+" is the signature of another image")
	}) {
		t.Errorf("notes are %q; want one of the old signature", sink.Lines())
	}
}

// TestKeyIsCheckedFirst gives keys that can't sign: the error comes before
// anything is asked for.
func TestKeyIsCheckedFirst(t *testing.T) {
	t.Parallel()
	w := baketest.NewLocked(t)
	key, public := baketest.NewKey(t, "secret")
	publicFile := filepath.Join(t.TempDir(), "key.pub")
	filetest.Write(t, publicFile, public)
	for name, test := range map[string]struct {
		key      string
		password func() ([]byte, error)
		want     string
	}{
		"no file":        {filepath.Join(t.TempDir(), "none.pem"), nil, "reading the key to sign with"},
		"public key":     {publicFile, nil, "it is a public key"},
		"no password":    {key, nil, "no password was given"},
		"wrong password": {key, func() ([]byte, error) { return []byte("guess"), nil }, "is the password right?"},
	} {
		c := w.Config()
		c.Sign, c.SignPassword = test.key, test.password
		b, err := bake.New(c)
		if _, ok := errors.AsType[*manifest.ArgumentError](err); !ok || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: New = %v; want an manifest.ArgumentError with %q", name, err, test.want)
		}
		if err == nil {
			b.Close()
		}
	}
}

// TestEmbeddedSBOM compares what the image holds with what is beside it.
func TestEmbeddedSBOM(t *testing.T) {
	t.Parallel()
	w := baketest.NewLocked(t)
	c := w.Config()
	result := w.Image(c)
	m := baketest.Open(t, result.Path)
	inside := func(name string) []byte { return baketest.ReadFile(t, m, "/"+name) }
	sbom := inside("usr/lib/bake/sbom.spdx.json")
	in, err := spdxjson.Read(bytes.NewReader(sbom))
	if err != nil {
		t.Fatal(err)
	}
	beside, err := spdxjson.Read(bytes.NewReader(filetest.Read(t, result.SPDX)))
	if err != nil {
		t.Fatal(err)
	}
	if in.DocumentNamespace == beside.DocumentNamespace {
		t.Errorf("both documents are called %s", in.DocumentNamespace)
	}
	first := beside.Packages[0]
	if len(first.PackageChecksums) != 1 || "sha256:"+first.PackageChecksums[0].Value != string(result.SHA256) || first.PackageFileName != baketest.ImageName {
		t.Errorf("the image is %s %v beside it; want its name and digest", first.PackageFileName, first.PackageChecksums)
	}
	// But for that they are the same.
	first.PackageChecksums, first.PackageFileName, beside.DocumentNamespace = nil, "", in.DocumentNamespace
	if diff := cmp.Diff(beside, in, cmp.AllowUnexported(*first)); diff != "" {
		t.Errorf("SBOM (-beside +inside):\n%s", diff)
	}

	var statement struct {
		Subject []struct {
			Name   string
			Digest map[string]string
		}
	}
	text := inside("usr/lib/bake/provenance.json")
	if err := json.Unmarshal(text, &statement); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, s := range statement.Subject {
		got[s.Name] = "sha256:" + s.Digest["sha256"]
	}
	want := map[string]string{
		"/usr/lib/bake/image.json":     string(manifest.SHA256(sha256.Sum256(inside("usr/lib/bake/image.json")))),
		"/usr/lib/bake/sbom.spdx.json": string(manifest.SHA256(sha256.Sum256(sbom))),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("subjects inside (-want +got):\n%s", diff)
	}
	// An image is the same in whatever it is packed.
	if bytes.Contains(text, []byte(`"format"`)) || !bytes.Contains(filetest.Read(t, result.Provenance), []byte(`"format": "tar.gz"`)) {
		t.Error("the statement inside has a format, or the one beside has none")
	}
}
