package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdx/v2/common"
	"github.com/spdx/tools-golang/spdxlib"

	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/sign"
	"github.com/nodebake/bake/test/filetest"
	"github.com/nodebake/bake/test/must"
	"github.com/nodebake/bake/test/need"
)

// released returns a directory with this test as a release of two programs, one
// that they embed, and a key with its public half.
func released(t *testing.T) (dir, embedded, key string, public []byte) {
	t.Helper()
	self := must.Get(os.Executable())
	program := filetest.Read(t, self)
	dir, embedded = t.TempDir(), t.TempDir()
	write(t, filepath.Join(dir, "bake-linux-amd64"), program)
	write(t, filepath.Join(dir, "bake-windows-amd64.exe"), program)
	write(t, filepath.Join(embedded, "arm64", "init"), program)

	private := must.Get(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	der := must.Get(x509.MarshalPKCS8PrivateKey(private))
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	key = filepath.Join(t.TempDir(), "key.pem")
	write(t, key, text)
	parsed, err := sign.ParseKey(key, text, nil)
	if err != nil {
		t.Fatal(err)
	}
	return dir, embedded, key, parsed.PublicPEM()
}

func TestRelease(t *testing.T) {
	dir, embedded, key, public := released(t)
	args := []string{"-embedded", embedded, "-time", "1700000000", "-key", key, dir}
	var stdout bytes.Buffer
	if err := run(t.Context(), args, &stdout, func(string) string { return "" }); err != nil {
		t.Fatal(err)
	}
	if stdout.Len() > 0 {
		t.Errorf("it printed %q; want nothing", &stdout)
	}
	if diff := cmp.Diff([]string{
		sums, signature, "bake-linux-amd64", "bake-linux-amd64.spdx.json", "bake-windows-amd64.exe", "bake-windows-amd64.exe.spdx.json",
	}, list(t, dir)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}

	// The digests, by the program that people check them with.
	if out, err := check(t, dir); err != nil {
		t.Errorf("sha256sum -c: %v\n%s", err, out)
	}

	// The signature is of the digests.
	digests, bundle := read(t, filepath.Join(dir, sums)), read(t, filepath.Join(dir, signature))
	if _, err := sign.Verify(bundle, public, subject(digests)); err != nil {
		t.Errorf("verifying the signature: %v", err)
	}
	if _, err := sign.Verify(bundle, public, subject(append(digests, 'x'))); err == nil {
		t.Error("the signature is of other digests as well")
	}

	// A second run writes the same bytes, and takes none of the first's files for a program.
	first := contents(t, dir)
	if err := run(t.Context(), args, &stdout, func(string) string { return "" }); err != nil {
		t.Fatal(err)
	}
	second := contents(t, dir)
	delete(first, signature) // which is random
	delete(second, signature)
	if diff := cmp.Diff(first, second); diff != "" {
		t.Errorf("a second run (-first +second):\n%s", diff)
	}

	write(t, filepath.Join(dir, "bake-linux-amd64"), []byte("another"))
	if out, err := check(t, dir); err == nil {
		t.Errorf("sha256sum -c accepts another program:\n%s", out)
	}
}

func TestSBOM(t *testing.T) {
	dir, embedded, _, _ := released(t)
	var stdout bytes.Buffer
	if err := run(t.Context(), []string{"-embedded", embedded, "-time", "1700000000", dir}, &stdout, func(string) string { return "" }); err != nil {
		t.Fatal(err)
	}
	if want := "is not signed"; !strings.Contains(stdout.String(), want) {
		t.Errorf("without a key it says %q; want %q", &stdout, want)
	}
	doc, err := json.Read(bytes.NewReader(read(t, filepath.Join(dir, "bake-linux-amd64.spdx.json"))))
	if err != nil {
		t.Fatal(err)
	}
	if err := spdxlib.ValidateDocument(doc); err != nil {
		t.Errorf("the document is not valid: %v", err)
	}
	if got, want := doc.CreationInfo.Created, "2023-11-14T22:13:20Z"; got != want {
		t.Errorf("it was created at %s; want %s", got, want)
	}
	purls := map[common.ElementID]string{}
	for _, p := range doc.Packages {
		purls[p.PackageSPDXIdentifier] = p.PackageExternalReferences[0].Locator
	}
	got := map[string]bool{}
	for _, r := range doc.Relationships {
		from, to := purls[r.RefA.ElementRefID], purls[r.RefB.ElementRefID]
		if from == "" && r.Relationship != common.TypeRelationshipDescribe || to == "" {
			t.Errorf("a relation is of what is not there: %+v", r)
		}
		module, _, _ := strings.Cut(to, "@")
		got[string(r.RefA.ElementRefID)+" "+r.Relationship+" "+module] = true
	}
	for _, want := range []string{
		"DOCUMENT DESCRIBES pkg:golang/github.com/nodebake/bake",
		"Program-bake-linux-amd64 STATIC_LINK pkg:golang/github.com/spdx/tools-golang",
		"Program-bake-linux-amd64 STATIC_LINK pkg:golang/stdlib",
		"Program-bake-linux-amd64 CONTAINS pkg:golang/github.com/nodebake/bake",
		"Program-init-linux-arm64 STATIC_LINK pkg:golang/stdlib",
	} {
		if !got[want] {
			t.Errorf("the document does not say %q, but %d other things", want, len(got))
		}
	}
}

func TestNotReleased(t *testing.T) {
	empty, other := t.TempDir(), t.TempDir()
	write(t, filepath.Join(other, "README"), []byte("no program"))
	for _, test := range []struct {
		want string
		args []string
	}{
		{"want one argument", nil},
		{"has no programs", []string{empty}},
		{"should be a program that Go built", []string{other}},
		{"has no programs in directories", []string{"-embedded", empty, other}},
		{"reading the key to sign with", []string{"-key", filepath.Join(empty, "key"), other}},
	} {
		err := run(t.Context(), test.args, &bytes.Buffer{}, func(string) string { return "" })
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("release %q = %v; want an error with %q", test.args, err, test.want)
		}
	}
}

func subject(digests []byte) map[string]manifest.Digest {
	return map[string]manifest.Digest{sums: manifest.SHA256(sha256.Sum256(digests))}
}

func check(t *testing.T, dir string) ([]byte, error) {
	t.Helper()
	need.Program(t, "sha256sum", "coreutils")
	cmd := exec.CommandContext(t.Context(), "sha256sum", "-c", "--strict", sums)
	cmd.Dir = dir
	return cmd.CombinedOutput()
}

func write(t *testing.T, file string, data []byte) {
	t.Helper()
	filetest.Write(t, file, data)
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	data := filetest.Read(t, file)
	return data
}

func list(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func contents(t *testing.T, dir string) map[string][32]byte {
	t.Helper()
	out := map[string][32]byte{}
	for _, name := range list(t, dir) {
		out[name] = sha256.Sum256(read(t, filepath.Join(dir, name)))
	}
	return out
}
