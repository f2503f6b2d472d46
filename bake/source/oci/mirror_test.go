package oci_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/source/fetch"
	"github.com/nodebake/bake/bake/source/oci"
	"github.com/nodebake/bake/bake/source/oci/ocitest"
	"github.com/nodebake/bake/test/filetest"
)

// blobMirror is a directory of blobs by their SHA-256, at a URL.
type blobMirror struct{ dir, url string }

func (m blobMirror) URL(sums []manifest.Digest) (string, bool) {
	name := "blobs/sha256/" + sums[0].Hex()
	_, err := os.Stat(filepath.Join(m.dir, name))
	return m.url + name, err == nil
}
func (m blobMirror) Base() string   { return m.url }
func (m blobMirror) String() string { return m.dir }

// TestMirror pulls an index from a mirror, as an OCI image layout has its blobs,
// with and without a network.
func TestMirror(t *testing.T) {
	t.Parallel()
	r := ocitest.New(t)
	layer := ocitest.Layer(types.OCILayer, "/program", strings.Repeat("program", 10_000))
	image := ocitest.Index(map[string]v1.Image{"linux/amd64": ocitest.Image("amd64", layer)})
	digest := r.Push("thing", "v1", image)
	first := newBench(t, nil).wantPull(t, r.Host+"/thing:v1", digest, "amd64")
	want := summary(t, first)
	r.Basic("nobody", "enters")
	r.Got()

	dir := t.TempDir()
	blobs := filepath.Join(dir, "blobs/sha256")
	filetest.Mkdir(t, blobs)
	for _, b := range first.Blobs {
		content, err := io.ReadAll(b.Content.Content())
		if err != nil {
			t.Fatal(err)
		}
		writeFile(t, filepath.Join(blobs, b.Digest.Hex()), string(content))
	}
	server := httptest.NewServer(http.FileServer(http.Dir(dir)))
	defer server.Close()
	layerFile := filepath.Join(blobs, first.Layers[0].Digest.Hex())
	good := filetest.Read(t, layerFile)

	for _, url := range []string{server.URL + "/", "file://" + filepath.ToSlash(dir) + "/"} {
		puller := func(offline bool) bench {
			st := newStore(t)
			fetcher, err := fetch.New(fetch.Config{
				Store: st, Retries: 1, Backoff: time.Millisecond, Mirror: blobMirror{dir, url}, Offline: offline,
			})
			if err != nil {
				t.Fatal(err)
			}
			return bench{oci.New(oci.Config{Packs: st, Fetcher: fetcher}), st}
		}
		for _, offline := range []bool{false, true} {
			got := summary(t, puller(offline).wantPull(t, r.Host+"/thing:v1", digest, "amd64"))
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("from %s (-registry +mirror):\n%s", url, diff)
			}
			if got := r.Got(); got != nil {
				t.Errorf("with all in the mirror, the registry was asked %q", got)
			}
		}

		altered := append([]byte{good[0] ^ 1}, good[1:]...)
		writeFile(t, layerFile, string(altered))
		_, err := puller(true).pull(t, r.Host+"/thing:v1", digest, "amd64")
		wantError(t, err, "image thing: layer 1 of 1", "want "+string(first.Layers[0].Digest))
		writeFile(t, layerFile, string(good[:100]))
		_, err = puller(true).pull(t, r.Host+"/thing:v1", digest, "amd64")
		wantError(t, err, "image thing: layer 1 of 1")
		if err := os.Remove(layerFile); err != nil {
			t.Fatal(err)
		}
		_, err = puller(true).pull(t, r.Host+"/thing:v1", digest, "amd64")
		wantError(t, err, "image thing: layer 1 of 1", "not in the mirror")
		if _, ok := errors.AsType[*fetch.UnreachableError](err); !ok {
			t.Errorf("%v is no UnreachableError", err)
		}
		if got := r.Got(); got != nil {
			t.Errorf("offline, the registry was asked %q", got)
		}
		// With a network, the registry is next.
		_, err = puller(false).pull(t, r.Host+"/thing:v1", digest, "amd64")
		wantError(t, err, "docker login")
		writeFile(t, layerFile, string(good))
		r.Got()
	}
}
