// Package ocitest is a registry of container images on this machine, for tests:
// go-containerregistry's own, over real HTTP. It can be told to want a user, and
// to answer wrongly.
package ocitest

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/nodebake/bake/test/must"
)

// Registry is a registry. Its methods end the test where they fail.
type Registry struct {
	Host string // "127.0.0.1:PORT"

	t       testing.TB
	server  *httptest.Server
	handler http.Handler
	mu      sync.Mutex
	faults  map[string]http.HandlerFunc
	auth    http.HandlerFunc // writes an answer where a request may not pass
	got     []*http.Request
}

// New starts a registry that has nothing and lets everybody in.
func New(t testing.TB) *Registry {
	t.Helper()
	r := &Registry{t: t, handler: registry.New(registry.Logger(log.New(io.Discard, "", 0))), faults: map[string]http.HandlerFunc{}}
	r.server = httptest.NewServer(r)
	t.Cleanup(r.server.Close)
	r.Host = r.server.Listener.Addr().String()
	return r
}

// ServeHTTP implements http.Handler.
func (r *Registry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	r.got = append(r.got, req)
	fault, auth := r.faults[req.URL.Path], r.auth
	r.mu.Unlock()
	if auth != nil {
		watched := &wroteHeader{ResponseWriter: w}
		if auth(watched, req); watched.wrote {
			return
		}
	}
	if fault != nil {
		fault(w, req)
		return
	}
	r.handler.ServeHTTP(w, req)
}

type wroteHeader struct {
	http.ResponseWriter
	wrote bool
}

func (w *wroteHeader) WriteHeader(code int) {
	w.wrote = true
	w.ResponseWriter.WriteHeader(code)
}

func (w *wroteHeader) Write(b []byte) (int, error) {
	w.wrote = true
	return w.ResponseWriter.Write(b)
}

// Close stops the registry: nobody listens any more.
func (r *Registry) Close() { r.server.Close() }

// Fault has h answer for a path, such as Blob's; nil ends that.
func (r *Registry) Fault(path string, h http.HandlerFunc) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.faults[path] = h
	if h == nil {
		delete(r.faults, path)
	}
}

// Pass has the registry answer as it would without Fault.
func (r *Registry) Pass(w http.ResponseWriter, req *http.Request) { r.handler.ServeHTTP(w, req) }

// Manifest is the path of a manifest or an index, and Blob of what those name.
func Manifest(repository string, digest any) string {
	return fmt.Sprintf("/v2/%s/manifests/%v", repository, digest)
}

// Blob is Manifest for configurations and layers.
func Blob(repository string, digest any) string {
	return fmt.Sprintf("/v2/%s/blobs/%v", repository, digest)
}

// Serve has the registry send content for the manifest that content is, and
// returns its digest: for what no registry takes.
func (r *Registry) Serve(repository string, content []byte) string {
	digest := fmt.Sprintf("sha256:%x", sha256.Sum256(content))
	for _, path := range []string{Manifest(repository, digest), Blob(repository, digest)} {
		r.Fault(path, func(w http.ResponseWriter, req *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(len(content)))
			w.Write(content)
		})
	}
	return digest
}

// Got returns what was asked since it was called last: "GET /v2/...".
func (r *Registry) Got() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var lines []string
	for _, req := range r.got {
		lines = append(lines, req.Method+" "+req.URL.Path)
	}
	r.got = nil
	return lines
}

// Basic has the registry want user and password (RFC 7617).
func (r *Registry) Basic(user, password string) {
	r.setAuth(func(w http.ResponseWriter, req *http.Request) {
		if u, p, ok := req.BasicAuth(); !ok || u != user || p != password {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			http.Error(w, `{"errors":[{"code":"UNAUTHORIZED","message":"who are you"}]}`, http.StatusUnauthorized)
		}
	})
}

// Token has the registry want a token, which it gives out for user and password
// at /token (distribution's token authentication).
func (r *Registry) Token(user, password string) {
	const token = "c2VjcmV0"
	r.setAuth(func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/token" {
			if u, p, ok := req.BasicAuth(); !ok || u != user || p != password {
				http.Error(w, `{"errors":[{"code":"UNAUTHORIZED","message":"who are you"}]}`, http.StatusUnauthorized)
				return
			}
			fmt.Fprintf(w, `{"token":%q,"expires_in":60}`, token)
			return
		}
		if req.Header.Get("Authorization") != "Bearer "+token {
			w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="http://%s/token",service="test"`, r.Host))
			http.Error(w, `{"errors":[{"code":"UNAUTHORIZED","message":"no token"}]}`, http.StatusUnauthorized)
		}
	})
}

func (r *Registry) setAuth(auth http.HandlerFunc) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.auth = auth
}

// Push pushes an image (a v1.Image or a v1.ImageIndex) and returns its digest.
// It must be called before Basic and Token.
func (r *Registry) Push(repository, tag string, image any) string {
	r.t.Helper()
	ref, err := name.ParseReference(r.Host + "/" + repository + ":" + tag)
	if err != nil {
		r.t.Fatal(err)
	}
	var digest v1.Hash
	switch image := image.(type) {
	case v1.Image:
		if err = remote.Write(ref, image); err == nil {
			digest, err = image.Digest()
		}
	case v1.ImageIndex:
		if err = remote.WriteIndex(ref, image); err == nil {
			digest, err = image.Digest()
		}
	default:
		err = fmt.Errorf("BUG: a %T is no image", image)
	}
	if err != nil {
		r.t.Fatalf("pushing %s: %v", ref, err)
	}
	r.Got()
	return digest.String()
}

// Layer is a layer of files, given as path and content in turn.
func Layer(mediaType types.MediaType, files ...string) v1.Layer {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i := 0; i < len(files); i += 2 {
		must.Do(w.WriteHeader(&tar.Header{Name: strings.TrimPrefix(files[i], "/"), Mode: 0o755, Size: int64(len(files[i+1])), Typeflag: tar.TypeReg}))
		must.Get(io.WriteString(w, files[i+1]))
	}
	must.Do(w.Close())
	if mediaType == types.OCIUncompressedLayer || mediaType == types.DockerUncompressedLayer {
		return uncompressed{b.Bytes(), mediaType}
	}
	layer := must.Get(tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil }, tarball.WithMediaType(mediaType)))
	return layer
}

// uncompressed is a layer as it is.
type uncompressed struct {
	content   []byte
	mediaType types.MediaType
}

func (u uncompressed) Digest() (v1.Hash, error) {
	h, _, err := v1.SHA256(bytes.NewReader(u.content))
	return h, err
}
func (u uncompressed) DiffID() (v1.Hash, error) { return u.Digest() }
func (u uncompressed) Compressed() (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(u.content)), nil
}
func (u uncompressed) Uncompressed() (io.ReadCloser, error) { return u.Compressed() }
func (u uncompressed) Size() (int64, error)                 { return int64(len(u.content)), nil }
func (u uncompressed) MediaType() (types.MediaType, error)  { return u.mediaType, nil }

// Image is an image for linux on arch.
func Image(arch string, layers ...v1.Layer) v1.Image {
	image := must.Get(mutate.AppendLayers(mutate.MediaType(mutate.ConfigMediaType(empty.Image, types.OCIConfigJSON), types.OCIManifestSchema1), layers...))
	config := must.Get(image.ConfigFile())
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Config.Entrypoint = "linux", arch, []string{"/program"}
	image = must.Get(mutate.ConfigFile(image, config))
	return image
}

// Index is an index of images by their platforms, such as "linux/arm64/v8".
func Index(images map[string]v1.Image) v1.ImageIndex {
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, platform := range slices.Sorted(maps.Keys(images)) {
		p := must.Get(v1.ParsePlatform(platform))
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: images[platform], Descriptor: v1.Descriptor{Platform: p}})
	}
	return index
}
