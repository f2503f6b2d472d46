package oci_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/authn"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/nodebake/bake/bake/arch"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/source/fetch"
	"github.com/nodebake/bake/bake/source/oci"
	"github.com/nodebake/bake/bake/source/oci/ocitest"
	"github.com/nodebake/bake/bake/source/store"
	"github.com/nodebake/bake/bake/tree"
	"github.com/nodebake/bake/test/filetest"
)

// bench is a puller and its store.
type bench struct {
	*oci.Puller
	*store.Store
}

// newBench returns a puller that has nothing yet.
func newBench(t *testing.T, keychain authn.Keychain) bench {
	t.Helper()
	return benchIn(t, newStore(t), 30*time.Second, keychain)
}

// benchIn returns a puller that waits so long for a byte.
func benchIn(t *testing.T, st *store.Store, patience time.Duration, keychain authn.Keychain) bench {
	t.Helper()
	fetcher, err := fetch.New(fetch.Config{
		Store: st, Retries: 1, Backoff: time.Millisecond, Stall: patience, Answer: patience, UserAgent: "bake/test",
	})
	if err != nil {
		t.Fatal(err)
	}
	return bench{oci.New(oci.Config{Packs: st, Fetcher: fetcher, Keychain: keychain}), st}
}

// pull resolves and pulls an image.
func (b bench) pull(t *testing.T, reference, digest string, arch arch.Arch) (*oci.Image, error) {
	t.Helper()
	image := manifest.ContainerImage{Name: "thing", Reference: reference, Digest: manifest.Digest(digest)}
	resolved, err := b.Resolve(t.Context(), image, arch)
	if err != nil {
		return nil, err
	}
	return b.Pull(t.Context(), resolved)
}

// wantPull pulls an image, which must succeed.
func (b bench) wantPull(t *testing.T, reference, digest string, arch arch.Arch) *oci.Image {
	t.Helper()
	image, err := b.pull(t, reference, digest, arch)
	if err != nil {
		t.Fatalf("pulling %s = %v", reference, err)
	}
	return image
}

// summary is an image in short: for each blob its media type, size and children,
// after its content was found to be its own.
func summary(t *testing.T, image *oci.Image) []string {
	t.Helper()
	var lines []string
	for _, b := range image.Blobs {
		content, err := io.ReadAll(b.Content.Content())
		if err != nil {
			t.Fatal(err)
		}
		if got, _, _ := v1.SHA256(bytes.NewReader(content)); got.String() != string(b.Digest) || int64(len(content)) != b.Size {
			t.Errorf("blob %s of %d bytes has %d bytes with %s", b.Digest, b.Size, len(content), got)
		}
		line := fmt.Sprintf("%s %s", b.MediaType[strings.LastIndexByte(b.MediaType, '/')+1:], b.Digest)
		for _, c := range b.Children {
			line += "\n  " + string(c.Digest)
		}
		lines = append(lines, line)
	}
	return lines
}

// wantSummary is what summary should give for image, below index if it is not
// empty.
func wantSummary(t *testing.T, index string, image v1.Image) []string {
	t.Helper()
	m, err := image.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	digest, err := image.Digest()
	if err != nil {
		t.Fatal(err)
	}
	short := func(t types.MediaType) string { return strings.TrimPrefix(string(t), "application/") }
	var lines []string
	if index != "" {
		lines = append(lines, fmt.Sprintf("vnd.oci.image.index.v1+json %s\n  %s", index, digest))
	}
	line := fmt.Sprintf("%s %s\n  %s", short(m.MediaType), digest, m.Config.Digest)
	for _, l := range m.Layers {
		line += "\n  " + l.Digest.String()
	}
	lines = append(lines, line, fmt.Sprintf("%s %s", short(m.Config.MediaType), m.Config.Digest))
	for _, l := range m.Layers {
		lines = append(lines, fmt.Sprintf("%s %s", short(l.MediaType), l.Digest))
	}
	return lines
}

func TestPull(t *testing.T) {
	t.Parallel()
	r := ocitest.New(t)
	first := ocitest.Layer(types.OCILayer, "/program", "amd64's")
	other := ocitest.Layer(types.OCILayer, "/program", strings.Repeat("arm64's ", 100_000))
	data := ocitest.Layer(types.OCILayer, "/data", "everybody's")
	amd64, arm64 := ocitest.Image("amd64", first, data), ocitest.Image("arm64", other, data)
	index := r.Push("library/thing", "v1", ocitest.Index(map[string]v1.Image{
		"linux/amd64": amd64, "linux/arm64/v8": arm64, "windows/amd64": ocitest.Image("amd64", first), "unknown/unknown": ocitest.Image("amd64", data),
	}))
	docker := mutate.MediaType(mutate.ConfigMediaType(
		ocitest.Image("amd64", ocitest.Layer(types.DockerLayer, "/a", "a"), ocitest.Layer(types.DockerUncompressedLayer, "/b", "b")),
		types.DockerConfigJSON), types.DockerManifestSchema2)
	dockerDigest := r.Push("docker", "v1", docker)
	plain := ocitest.Image("arm64", ocitest.Layer(types.OCIUncompressedLayer, "/c", "c"), other)
	plainDigest := r.Push("a/b/c", "v1", plain)

	for _, test := range []struct {
		name, reference, digest string
		arch                    arch.Arch
		want                    []string
	}{
		{"index, amd64", "library/thing:v1", index, arch.AMD64, wantSummary(t, index, amd64)},
		{"index, arm64", "library/thing:v1", index, arch.ARM64, wantSummary(t, index, arm64)},
		{"Docker's schema 2", "docker:v1", dockerDigest, arch.AMD64, wantSummary(t, "", docker)},
		{"plain manifest", "a/b/c:v1", plainDigest, arch.ARM64, wantSummary(t, "", plain)},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := newBench(t, nil)
			image := b.wantPull(t, r.Host+"/"+test.reference, test.digest, test.arch)
			if diff := cmp.Diff(test.want, summary(t, image)); diff != "" {
				t.Errorf("blobs (-want +got):\n%s", diff)
			}
			if got := string(image.Target.Digest); got != test.digest || image.Target != image.Blobs[0].Descriptor {
				t.Errorf("Target is %s; want %s, the first blob", got, test.digest)
			}
		})
	}
}

// TestNothingTwice pulls images that share layers, and then again where nobody
// listens.
func TestNothingTwice(t *testing.T) {
	t.Parallel()
	r := ocitest.New(t)
	shared := ocitest.Layer(types.OCILayer, "/shared", strings.Repeat("x", 1000))
	one, two := ocitest.Image("amd64", shared, ocitest.Layer(types.OCILayer, "/1", "1"), shared), ocitest.Image("amd64", shared)
	digests := []string{r.Push("one", "v1", one), r.Push("two", "v1", two)}
	b := newBench(t, nil)
	first := []*oci.Image{b.wantPull(t, r.Host+"/one:v1", digests[0], "amd64"), b.wantPull(t, r.Host+"/two:v1", digests[1], "amd64")}
	layer, _ := shared.Digest()
	fetched := 0
	for _, line := range r.Got() {
		if strings.HasPrefix(line, "GET ") && strings.HasSuffix(line, layer.String()) {
			fetched++
		}
	}
	if fetched != 1 {
		t.Errorf("the shared layer was fetched %d times; want once", fetched)
	}
	if len(first[0].Layers) != 3 || len(first[0].Blobs) != 4 {
		t.Errorf("an image that has a layer twice has %d layers and %d blobs; want 3 and 4", len(first[0].Layers), len(first[0].Blobs))
	}

	r.Close()
	for i, name := range []string{"one", "two"} {
		again := b.wantPull(t, r.Host+"/"+name+":v1", digests[i], "amd64")
		if diff := cmp.Diff(summary(t, first[i]), summary(t, again)); diff != "" {
			t.Errorf("again (-first +again):\n%s", diff)
		}
	}
	if got := r.Got(); got != nil {
		t.Errorf("the second time, the registry was asked %q", got)
	}
	// The same store still wants a registry for what it does not have.
	_, err := b.pull(t, r.Host+"/two:v1", "sha256:"+strings.Repeat("0", 64), "amd64")
	if _, ok := errors.AsType[*fetch.UnreachableError](err); !ok {
		t.Errorf("pulling another image = %v; want an UnreachableError", err)
	}
}

// TestLogin pulls from registries that want to know who asks, as the docker
// configuration says.
func TestLogin(t *testing.T) {
	for _, method := range []string{"basic", "token"} {
		t.Run(method, func(t *testing.T) {
			r := ocitest.New(t)
			elsewhere := ocitest.New(t) // where the registry has its blobs
			layer := ocitest.Layer(types.OCILayer, "/program", "secret")
			image := ocitest.Image("amd64", layer)
			digest := r.Push("private/thing", "v1", image)
			elsewhere.Push("private/thing", "v1", image)
			layerDigest, _ := layer.Digest()
			blob := ocitest.Blob("private/thing", layerDigest)
			r.Fault(blob, func(w http.ResponseWriter, req *http.Request) {
				http.Redirect(w, req, "http://"+elsewhere.Host+blob, http.StatusTemporaryRedirect)
			})
			told := make(chan string, 10)
			elsewhere.Fault(blob, func(w http.ResponseWriter, req *http.Request) {
				told <- req.Header.Get("Authorization")
				content, _ := layer.Compressed()
				defer content.Close()
				io.Copy(w, content)
			})
			if method == "basic" {
				r.Basic("user", "right")
			} else {
				r.Token("user", "right")
			}

			dir := t.TempDir()
			t.Setenv("DOCKER_CONFIG", dir)
			for _, config := range []string{
				`{}`,
				fmt.Sprintf(`{"auths":{%q:{"username":"user","password":"wrong"}}}`, r.Host),
			} {
				writeFile(t, filepath.Join(dir, "config.json"), config)
				_, err := newBench(t, authn.DefaultKeychain).pull(t, r.Host+"/private/thing:v1", digest, "amd64")
				wantError(t, err, "image thing "+r.Host+"/private/thing:v1", "401 Unauthorized", "run `docker login "+r.Host+"`")
			}
			writeFile(t, filepath.Join(dir, "config.json"), "{")
			_, err := newBench(t, authn.DefaultKeychain).pull(t, r.Host+"/private/thing:v1", digest, "amd64")
			wantError(t, err, "finding credentials for "+r.Host+" in the docker configuration")

			writeFile(t, filepath.Join(dir, "config.json"), fmt.Sprintf(`{"auths":{%q:{"username":"user","password":"right"}}}`, r.Host))
			newBench(t, authn.DefaultKeychain).wantPull(t, r.Host+"/private/thing:v1", digest, "amd64")
			_, err = newBench(t, nil).pull(t, r.Host+"/private/thing:v1", digest, "amd64")
			wantError(t, err, "docker login")
			close(told)
			for header := range told {
				if header != "" {
					t.Errorf("the other host was told %q; want nothing", header)
				}
			}
		})
	}
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func wantError(t *testing.T, err error, want ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("there is no error; want one with %q", want)
		return
	}
	for _, text := range want {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("error %q; want it to have %q", err, text)
		}
	}
}

// TestDamage flips a bit in every pack of the store: each is found, and made
// again without asking anybody.
func TestDamage(t *testing.T) {
	t.Parallel()
	r := ocitest.New(t)
	digest := r.Push("thing", "v1", ocitest.Image("amd64", ocitest.Layer(types.OCILayer, "/program", "program")))
	b := newBench(t, nil)
	b.wantPull(t, r.Host+"/thing:v1", digest, "amd64")
	r.Close()
	packs, err := filepath.Glob(filepath.Join(b.Dir(), "packs/*/*/data"))
	if err != nil || len(packs) != 3 {
		t.Fatalf("packs are %q, %v; want 3", packs, err)
	}
	for _, file := range packs {
		good := filetest.Read(t, file)
		bad := slices.Clone(good)
		bad[1] ^= 1
		filetest.Write(t, file, bad)
		image, err := b.pull(t, r.Host+"/thing:v1", digest, "amd64")
		if err == nil {
			_, err = io.Copy(io.Discard, image.Blobs[2].Content.Content())
		}
		if corrupt, ok := errors.AsType[*tree.CorruptError](err); !ok || !strings.HasPrefix(corrupt.Name, "image blob sha256:") {
			t.Errorf("reading a damaged pack = %v; want a CorruptError", err)
		}
		filetest.Remove(t, filepath.Dir(file))
		summary(t, b.wantPull(t, r.Host+"/thing:v1", digest, "amd64"))
	}
}
