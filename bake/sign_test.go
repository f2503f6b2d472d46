package bake_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	spdxjson "github.com/spdx/tools-golang/json"

	"github.com/nodebake/bake/bake"
	"github.com/nodebake/bake/bake/image/archive"
	"github.com/nodebake/bake/bake/image/ext4"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/sign"
)

const bundleName = "tiny-v1-30-0-amd64.sigstore.json"

// newKey makes a key with openssl, encrypted where a password is given.
func newKey(t *testing.T, password string) (private string, public []byte) {
	t.Helper()
	if _, err := exec.LookPath("openssl"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("openssl is missing: apt-get install openssl")
		}
		t.Skip("openssl is missing: apt-get install openssl")
	}
	private = filepath.Join(t.TempDir(), "key.pem")
	args := []string{"genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", private}
	if password != "" {
		args = append(args, "-aes-256-cbc", "-pass", "pass:"+password)
	}
	for _, args := range [][]string{args, {"pkey", "-in", private, "-passin", "pass:" + password, "-pubout"}} {
		var err error
		if public, err = exec.CommandContext(t.Context(), "openssl", args...).Output(); err != nil {
			t.Fatalf("openssl %q: %v", args, err)
		}
	}
	return private, public
}

// TestSigned bakes with a key: the image and everything beside it are those
// that are made without one, and the signature is about them.
func TestSigned(t *testing.T) {
	t.Parallel()
	w, want := newWorld(t)
	plain := w.Config()
	w.Image(plain)
	key, public := newKey(t, "secret")
	c := w.Config()
	c.Out = filepath.Join(t.TempDir(), "signed")
	c.Sign, c.SignPassword = key, func() ([]byte, error) { return []byte("secret"), nil }
	result := w.Image(c)
	if result.SHA256 != want || result.Bundle != filepath.Join(c.Out, bundleName) {
		t.Errorf("result is %+v; want an image with digest %s and its bundle", result, want)
	}
	files := []string{imageName, recordName, spdxName, madeName}
	if diff := cmp.Diff(slices.Sorted(slices.Values(append(slices.Clone(files), bundleName))), list(t, c.Out)); diff != "" {
		t.Errorf("output directory (-want +got):\n%s", diff)
	}
	subjects := map[string]manifest.Digest{}
	for _, name := range files {
		got := sumFile(t, filepath.Join(c.Out, name))
		if without := sumFile(t, filepath.Join(plain.Out, name)); got != without {
			t.Errorf("%s has digest %s; want %s, as without a key", name, got, without)
		}
		if name != madeName {
			subjects[name] = got
		}
	}
	bundle := readFile(t, result.Bundle)
	statement, err := sign.Verify(bundle, public, subjects)
	if err != nil || !bytes.Equal(statement, readFile(t, result.Provenance)) {
		t.Errorf("Verify = %s, %v; want what %s has", statement, err, madeName)
	}
	subjects[imageName] = subjects[recordName]
	if _, err := sign.Verify(bundle, public, subjects); err == nil || !strings.Contains(err.Error(), imageName+" is not the one that was signed") {
		t.Errorf("Verify of another image = %v; want an error that names it", err)
	}

	// Without the key the same image leaves the signature as it is.
	c.Sign = ""
	var sink recorder
	c.Progress = &sink
	w.Image(c)
	if got := readFile(t, result.Bundle); !bytes.Equal(got, bundle) || slices.ContainsFunc(sink.lines(), func(l string) bool { return strings.Contains(l, "signature") }) {
		t.Errorf("after the same bake without a key the bundle changed or was noted: %q", sink.lines())
	}
	// Of another image it is noted.
	if err := os.WriteFile(result.Bundle, []byte("{}"), 0o644); err != nil {
		t.Fatal(err)
	}
	sink = recorder{}
	w.Image(c)
	if !slices.ContainsFunc(sink.lines(), func(l string) bool { return strings.Contains(l, bundleName+" is the signature of another image") }) {
		t.Errorf("notes are %q; want one of the old signature", sink.lines())
	}
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestKeyIsCheckedFirst gives keys that can't sign: the error comes before
// anything is asked for.
func TestKeyIsCheckedFirst(t *testing.T) {
	t.Parallel()
	w := lockedWorld(t)
	key, public := newKey(t, "secret")
	publicFile := filepath.Join(t.TempDir(), "key.pub")
	if err := os.WriteFile(publicFile, public, 0o644); err != nil {
		t.Fatal(err)
	}
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
	w := lockedWorld(t)
	c := w.Config()
	result := w.Image(c)
	root := openRoot(t, c, result)
	inside := func(name string) []byte {
		t.Helper()
		n, err := root.Lookup(name)
		if err != nil {
			t.Fatal(err)
		}
		content, err := root.Content(n)
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if _, err := out.ReadFrom(content); err != nil {
			t.Fatal(err)
		}
		return out.Bytes()
	}
	sbom := inside("usr/lib/bake/sbom.spdx.json")
	in, err := spdxjson.Read(bytes.NewReader(sbom))
	if err != nil {
		t.Fatal(err)
	}
	beside, err := spdxjson.Read(bytes.NewReader(readFile(t, result.SPDX)))
	if err != nil {
		t.Fatal(err)
	}
	if in.DocumentNamespace == beside.DocumentNamespace {
		t.Errorf("both documents are called %s", in.DocumentNamespace)
	}
	first := beside.Packages[0]
	if len(first.PackageChecksums) != 1 || "sha256:"+first.PackageChecksums[0].Value != string(result.SHA256) || first.PackageFileName != imageName {
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
	if bytes.Contains(text, []byte(`"format"`)) || !bytes.Contains(readFile(t, result.Provenance), []byte(`"format": "tar.gz"`)) {
		t.Error("the statement inside has a format, or the one beside has none")
	}
}

// openRoot opens the root filesystem of an archive.
func openRoot(t *testing.T, c bake.Config, result *bake.Result) *ext4.FS {
	t.Helper()
	disk, err := archive.OpenTarGz(t.Context(), result.Path, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { disk.Close() })
	p := readRecord(t, c).Disk.Partitions[1]
	root, err := ext4.Open(io.NewSectionReader(disk, p.Start, p.Size))
	if err != nil {
		t.Fatal(err)
	}
	return root
}
