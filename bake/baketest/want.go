package baketest

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/bake"
	"github.com/nodebake/bake/bake/inspect"
	"github.com/nodebake/bake/bake/lock"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/manifest/manifesttest"
	"github.com/nodebake/bake/bake/record"
	"github.com/nodebake/bake/bake/source"
	"github.com/nodebake/bake/bake/verify"
	"github.com/nodebake/bake/test/filetest"
)

// The files of the world's image.
const (
	ImageName      = "tiny-v1-30-0-amd64.tar.gz"
	RawName        = "tiny-v1-30-0-amd64.raw"
	RecordName     = "tiny-v1-30-0-amd64.json"
	SPDXName       = "tiny-v1-30-0-amd64.spdx.json"
	ProvenanceName = "tiny-v1-30-0-amd64.provenance.json"
	BundleName     = "tiny-v1-30-0-amd64.sigstore.json"
)

// WantImage fails unless c's output directory has the image with digest want, a
// record that says so, its SBOM and statement, and nothing else, and result says
// the same.
func WantImage(t testing.TB, c bake.Config, result *bake.Result, want manifest.Digest) {
	t.Helper()
	name, format := ImageName, bake.TarGz
	if c.Format == bake.Raw {
		name, format = RawName, bake.Raw
	}
	if diff := cmp.Diff(slices.Sorted(slices.Values([]string{RecordName, ProvenanceName, name, SPDXName})), filetest.Names(t, c.Out)); diff != "" {
		t.Errorf("output directory (-want +got):\n%s", diff)
	}
	path := filepath.Join(c.Out, name)
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	got := &bake.Result{
		SHA256: manifesttest.DigestFile(t, path), Path: path, Size: info.Size(), Record: filepath.Join(c.Out, RecordName),
		SPDX: filepath.Join(c.Out, SPDXName), Provenance: filepath.Join(c.Out, ProvenanceName),
		Missing: result.Missing, // is in no file
	}
	if got.SHA256 != want {
		t.Errorf("the image has digest %s; want %s", got.SHA256, want)
	}
	if diff := cmp.Diff(got, result); diff != "" {
		t.Errorf("result differs from what is there (-there +result):\n%s", diff)
	}
	if diff := cmp.Diff(&record.File{Name: name, Format: string(format), Size: info.Size(), SHA256: got.SHA256}, RecordAt(t, got.Record).File); diff != "" {
		t.Errorf("the record differs from what is there (-there +record):\n%s", diff)
	}
	WantClean(t, c.Cache)
}

// WantNothing fails if c's output directory holds anything, under whatever name.
func WantNothing(t testing.TB, c bake.Config) {
	t.Helper()
	filetest.WantEmpty(t, c.Out)
	WantClean(t, c.Cache)
}

// WantClean fails if a store has something half-done other than downloads, which
// are resumed.
func WantClean(t testing.TB, cache string) {
	t.Helper()
	for _, dir := range []string{"tmp", "build"} {
		for _, name := range filetest.Names(t, filepath.Join(cache, dir)) {
			if filepath.Ext(name) != ".log" {
				t.Errorf("the store has left %s in %s", name, dir)
			}
		}
	}
}

// ReadRecord reads the record in c's output directory.
func ReadRecord(t testing.TB, c bake.Config) *record.Record {
	t.Helper()
	return RecordAt(t, filepath.Join(c.Out, RecordName))
}

// RecordAt reads the record at path.
func RecordAt(t testing.TB, path string) *record.Record {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rec, err := record.Read(path, f)
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

// Open opens an image.
func Open(t testing.TB, path string) *inspect.Image {
	t.Helper()
	m, err := inspect.Open(t.Context(), path, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// ReadFile returns the content of a file of an image's root.
func ReadFile(t testing.TB, m *inspect.Image, path string) []byte {
	t.Helper()
	r, err := m.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// Kind is what cmd/bake makes an exit code of.
func Kind(err error) string {
	var input *manifest.InputError
	var badInput *manifest.ArgumentError
	var noArch *manifest.MissingArchError
	var stale *manifest.StaleError
	var outdated *lock.OutdatedError
	var superseded *source.SupersededError
	switch {
	case err == nil:
		return "done"
	case errors.As(err, &stale):
		return "stale"
	case errors.As(err, &outdated):
		return "outdated"
	case errors.As(err, &superseded):
		return "superseded"
	case errors.As(err, &input) || errors.As(err, &badInput) || errors.As(err, &noArch):
		return "input"
	}
	return "failed"
}

// WantError fails unless err is of that kind and its text has all of want.
func WantError(t testing.TB, err error, wantKind string, want ...string) {
	t.Helper()
	if got := Kind(err); got != wantKind {
		t.Errorf("the error is of kind %q; want %q: %v", got, wantKind, err)
	}
	if err == nil {
		return
	}
	for _, part := range want {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error lacks %q:\n%v", part, err)
		}
	}
}

// VerifyConfig is a configuration to verify an image with what c bakes with,
// trusting its inputs.
func VerifyConfig(t testing.TB, c bake.Config, image string) verify.Config {
	return verify.Config{Image: image, TmpDir: t.TempDir(), TrustInputs: true, Options: c.Options, Units: c.Units, Definition: c.Definition}
}

// Verify verifies an image with c and fails where it leaves anything behind.
func Verify(t testing.TB, c bake.Config, image string) (*verify.Result, error) {
	t.Helper()
	v := VerifyConfig(t, c, image)
	result, err := verify.Run(t.Context(), v)
	filetest.WantEmpty(t, v.TmpDir)
	WantClean(t, c.Cache)
	return result, err
}

// WantSame fails unless an image is found to be what its inputs make.
func WantSame(t testing.TB, c bake.Config, image *bake.Result) {
	t.Helper()
	got, err := Verify(t, c, image.Path)
	if err != nil {
		t.Fatalf("Verify(%s) = %v", image.Path, err)
	}
	want := &verify.Result{Image: image.Path, SHA256: image.SHA256, Size: image.Size, Rebuilt: true, Identical: true}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Verify(%s) (-want +got):\n%s", image.Path, diff)
	}
}
