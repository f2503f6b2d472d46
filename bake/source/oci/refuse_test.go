package oci_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/nodebake/bake/bake/arch"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/source/fetch"
	"github.com/nodebake/bake/bake/source/oci/ocitest"
)

// raw returns manifest and configuration of an image, decoded loosely so that a
// test can change anything.
func raw(t *testing.T, image v1.Image) (m, config map[string]any) {
	t.Helper()
	text, err := image.RawManifest()
	if err == nil {
		err = json.Unmarshal(text, &m)
	}
	if err == nil {
		text, err = image.RawConfigFile()
	}
	if err == nil {
		err = json.Unmarshal(text, &config)
	}
	if err != nil {
		t.Fatal(err)
	}
	return m, config
}

func encode(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestRefuses shows images that are what their digest says, and not what a node
// could run.
func TestRefuses(t *testing.T) {
	t.Parallel()
	r := ocitest.New(t)
	image := ocitest.Image("amd64", ocitest.Layer(types.OCILayer, "/program", "program"), ocitest.Layer(types.OCIUncompressedLayer, "/data", "data"))
	index := ocitest.Index(map[string]v1.Image{"linux/amd64": image, "linux/arm/v7": image, "windows/amd64": image, "unknown/unknown": image})
	r.Push("thing", "v1", index)
	layers := func(m map[string]any) []any { return m["layers"].([]any) }
	layer := func(m map[string]any) map[string]any { return layers(m)[0].(map[string]any) }
	// changed serves the image with another manifest and configuration.
	changed := func(change func(m, config map[string]any)) func() string {
		return func() string {
			m, config := raw(t, image)
			change(m, config)
			encoded := encode(t, config)
			d := m["config"].(map[string]any)
			d["digest"], d["size"] = r.Serve("thing", encoded), len(encoded)
			return r.Serve("thing", encode(t, m))
		}
	}
	text := func(s string) func() string { return func() string { return r.Serve("thing", []byte(s)) } }
	for _, test := range []struct {
		name   string
		digest func() string
		arch   arch.Arch
		want   string
	}{
		{"index without the architecture", func() string { h, _ := index.Digest(); return h.String() }, "arm64",
			"the index has nothing for linux/arm64, only for linux/amd64, linux/arm/v7, windows/amd64"},
		{"index of nothing", text(`{"schemaVersion":2,"manifests":[]}`), "amd64", "the index has nothing for linux/amd64: it names no platform"},
		{"index in an index", func() string {
			h, _ := index.Digest()
			return r.Serve("thing", fmt.Appendf(nil, `{"schemaVersion":2,"manifests":[{"mediaType":%q,"digest":%q,"size":5,"platform":{"os":"linux","architecture":"amd64"}}]}`, types.OCIImageIndex, h))
		}, "amd64", "what the index has for linux/amd64 is of type \"application/vnd.oci.image.index.v1+json\"; want a manifest"},
		{"manifest of another type than the index says", func() string {
			h, _ := image.Digest()
			size, _ := image.Size()
			return r.Serve("thing", fmt.Appendf(nil, `{"schemaVersion":2,"manifests":[{"mediaType":%q,"digest":%q,"size":%d,"platform":{"os":"linux","architecture":"amd64"}}]}`, types.DockerManifestSchema2, h, size))
		}, "amd64", "it is no application/vnd.docker.distribution.manifest.v2+json, as the index says"},
		{"manifest of another size than the index says", func() string {
			h, _ := image.Digest()
			return r.Serve("thing", fmt.Appendf(nil, `{"schemaVersion":2,"manifests":[{"mediaType":%q,"digest":%q,"size":7,"platform":{"os":"linux","architecture":"amd64"}}]}`, types.OCIManifestSchema1, h))
		}, "amd64", "want 7 bytes"},
		{"manifest for another architecture", changed(func(m, config map[string]any) {}), "arm64", "the image is for linux/amd64; want linux/arm64"},
		{"variant that not all machines run", changed(func(m, config map[string]any) { config["variant"] = "v3" }), "amd64", "the image is for linux/amd64/v3; want linux/amd64"},
		{"Windows", changed(func(m, config map[string]any) { config["os"] = "windows" }), "amd64", "the image is for windows/amd64"},
		{"schema 1", text(`{"schemaVersion":1,"name":"thing","fsLayers":[{"blobSum":"sha256:00"}]}`), "amd64", "it is a manifest of Docker's schema 1"},
		{"schema 3", text(`{"schemaVersion":3,"manifests":[]}`), "amd64", "it has schemaVersion 3; want 2"},
		{"no JSON", text(`<html>`), "amd64", "it is neither a manifest nor an index"},
		{"JSON and more", text(`{"schemaVersion":2,"manifests":[]} {}`), "amd64", "something follows the end of the JSON"},
		{"nothing of both", text(`{"schemaVersion":2}`), "amd64", "it has neither manifests nor layers"},
		{"both", changed(func(m, config map[string]any) { m["manifests"] = []any{} }), "amd64", "it can be read both as an index and as a manifest"},
		{"a type of the other", changed(func(m, config map[string]any) { m["mediaType"] = types.OCIImageIndex }), "amd64", "has the form of another"},
		{"no layers", changed(func(m, config map[string]any) { m["layers"] = []any{} }), "amd64", "the manifest has no layers"},
		{"no image", changed(func(m, config map[string]any) {
			m["config"].(map[string]any)["mediaType"] = "application/vnd.cncf.helm.config.v1+json"
		}), "amd64", "its configuration is of type \"application/vnd.cncf.helm.config.v1+json\": it is no container image"},
		{"zstd", changed(func(m, config map[string]any) { layer(m)["mediaType"] = types.OCILayerZStd }), "amd64", "layer 1 of 2: it is compressed with zstd, which containerd before 1.5 can't unpack"},
		{"foreign layer", changed(func(m, config map[string]any) { layer(m)["mediaType"] = types.DockerForeignLayer }), "amd64", "it may not be distributed"},
		{"nondistributable layer", changed(func(m, config map[string]any) { layer(m)["mediaType"] = types.OCIRestrictedLayer }), "amd64", "it may not be distributed"},
		{"layer of no type", changed(func(m, config map[string]any) { layer(m)["mediaType"] = "" }), "amd64", "it is of the unknown type \"\""},
		{"negative size", changed(func(m, config map[string]any) { layer(m)["size"] = -1 }), "amd64", "has -1 bytes; want 1 to"},
		{"enormous size", changed(func(m, config map[string]any) { layer(m)["size"] = int64(1) << 50 }), "amd64", "has 1125899906842624 bytes; want 1 to"},
		{"other size", changed(func(m, config map[string]any) { layer(m)["size"] = 10 }), "amd64", "want 10 bytes"},
		{"SHA-512", changed(func(m, config map[string]any) { layer(m)["digest"] = "sha512:" + strings.Repeat("0", 128) }), "amd64", "content is named by SHA-256"},
		{"path as a digest", changed(func(m, config map[string]any) { layer(m)["digest"] = "sha256:../../../../etc/passwd" }), "amd64", "reading the manifest"},
		{"fewer layers in the configuration", changed(func(m, config map[string]any) { config["rootfs"].(map[string]any)["diff_ids"] = []any{} }), "amd64",
			"the configuration has 0 layers and the manifest 2 layers"},
		{"altered diff_id", changed(func(m, config map[string]any) {
			config["rootfs"].(map[string]any)["diff_ids"].([]any)[0] = "sha256:" + strings.Repeat("1", 64)
		}), "amd64", "and the image's configuration says sha256:" + strings.Repeat("1", 64) + ": no node would take it"},
		{"altered diff_id of a plain layer", changed(func(m, config map[string]any) {
			config["rootfs"].(map[string]any)["diff_ids"].([]any)[1] = "sha256:" + strings.Repeat("1", 64)
		}), "amd64", "image thing: layer 2 of 2 (sha256:"},
		{"gzip that is none", changed(func(m, config map[string]any) { layers(m)[1].(map[string]any)["mediaType"] = types.OCILayer }), "amd64",
			"unpacking it: gzip: invalid header"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			digest := test.digest()
			_, err := newBench(t, nil).pull(t, r.Host+"/thing:v1", digest, test.arch)
			wantError(t, err, "image thing "+r.Host+"/thing:v1: ", test.want)
			if _, ok := errors.AsType[*fetch.UnreachableError](err); ok {
				t.Errorf("%v is an UnreachableError, as if the image could not be had", err)
			}
		})
	}
}

// TestBrokenRegistry shows a registry that does not send what it should. Nothing
// of it is kept, and once it is well again the image is available.
func TestBrokenRegistry(t *testing.T) {
	t.Parallel()
	const patience = 500 * time.Millisecond
	layer := ocitest.Layer(types.OCILayer, "/program", strings.Repeat("program", 100_000))
	layerDigest, _ := layer.Digest()
	compressed, err := layer.Compressed()
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(compressed)
	if err != nil {
		t.Fatal(err)
	}
	altered := append([]byte{content[0] ^ 1}, content[1:]...)
	image := ocitest.Image("amd64", layer)
	text, _ := image.RawManifest()
	send := func(length int, body []byte) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(length))
			if r.Method == http.MethodGet {
				w.Write(body)
			}
		}
	}
	// chunked does not say how long it is.
	chunked := func(body []byte) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.(http.Flusher).Flush()
			io.Copy(w, bytes.NewReader(body))
		}
	}
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(code) }
	}
	hang := func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	hangInside := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(len(content)))
		if r.Method == http.MethodGet {
			w.Write(content[:100])
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}
	}
	huge := append(bytes.Clone(text), bytes.Repeat([]byte(" "), 5<<20)...)
	for _, test := range []struct {
		name        string
		what        string // "", "manifest" or "layer": what is answered so; "": the first question
		answer      http.HandlerFunc
		unreachable bool
		want        string
	}{
		{"other manifest", "manifest", send(len(text), bytes.ToUpper(text)), false, "want sha256:"},
		{"manifest that is cut off", "manifest", send(len(text), text[:100]), true, "the connection ended after 100 of"},
		{"manifest that has more", "manifest", chunked(append(bytes.Clone(text), ' ')), false, "want sha256:"},
		{"huge manifest", "manifest", send(len(huge), huge), false, "is longer, want at most 4194304 bytes"},
		{"huge manifest of unknown length", "manifest", chunked(huge), false, "is longer, want at most 4194304 bytes"},
		{"no manifest", "manifest", status(http.StatusNotFound), true, "404 Not Found"},
		{"forbidden manifest", "manifest", status(http.StatusForbidden), true, "docker login"},
		{"manifest that never comes", "manifest", hang, true, "not a byte came for 500ms"},
		{"altered layer", "layer", send(len(content), altered), false, "want " + layerDigest.String()},
		{"layer that is cut off", "layer", send(len(content), content[:100]), true, fmt.Sprintf("the connection ended after 100 of %d bytes", len(content))},
		{"layer that ends early", "layer", chunked(content[:100]), true, fmt.Sprintf("the connection ended after 100 of %d bytes", len(content))},
		{"layer said to be longer", "layer", send(len(content)+1, content), false, fmt.Sprintf("is %d bytes, want %d bytes", len(content)+1, len(content))},
		{"layer that is longer", "layer", chunked(append(bytes.Clone(content), 0)), false, fmt.Sprintf("want %d bytes", len(content))},
		{"no layer", "layer", status(http.StatusNotFound), true, ": layer 1 of 1 is unavailable at http://"},
		{"layer that never comes", "layer", hang, true, "not a byte came for 500ms"},
		{"layer that stops", "layer", hangInside, true, "not a byte came for 500ms"},
		{"registry that is down", "", status(http.StatusServiceUnavailable), true, "503 Service Unavailable"},
		{"registry that is silent", "", hang, true, "not a byte came for 500ms"},
		{"registry that is none", "", status(http.StatusTeapot), true, "418 I'm a teapot"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := ocitest.New(t)
			digest := r.Push("thing", "v1", image)
			path := map[string]string{"": "/v2/", "manifest": ocitest.Manifest("thing", digest), "layer": ocitest.Blob("thing", layerDigest)}[test.what]
			r.Fault(path, test.answer)
			b := newBench(t, nil)
			impatient := b
			if strings.HasPrefix(test.want, "not a byte") {
				impatient = benchIn(t, b.Store, patience, nil)
			}
			_, err := impatient.pull(t, r.Host+"/thing:v1", digest, "amd64")
			wantError(t, err, "image thing "+r.Host+"/thing:v1: ", test.want)
			var missing *fetch.UnreachableError
			if got := errors.As(err, &missing); got != test.unreachable {
				t.Errorf("%v is an UnreachableError: %t; want %t", err, got, test.unreachable)
			}
			wrong := layerDigest.Hex
			if test.what != "layer" {
				wrong = strings.TrimPrefix(digest, "sha256:")
			}
			if kept, _ := filepath.Glob(filepath.Join(b.Dir(), "files/sha256/*", wrong)); kept != nil {
				t.Errorf("%q was kept", kept)
			}
			r.Fault(path, nil)
			summary(t, b.wantPull(t, r.Host+"/thing:v1", digest, "amd64"))
		})
	}
}

// TestHead shows registries that have what they deny when they are asked by HEAD.
func TestHead(t *testing.T) {
	t.Parallel()
	r := ocitest.New(t)
	layer := ocitest.Layer(types.OCILayer, "/program", "program")
	layerDigest, _ := layer.Digest()
	digest := r.Push("thing", "v1", ocitest.Image("amd64", layer))
	for _, code := range []int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusNotFound, http.StatusInternalServerError} {
		for _, path := range []string{ocitest.Manifest("thing", digest), ocitest.Blob("thing", layerDigest)} {
			r.Fault(path, func(w http.ResponseWriter, req *http.Request) {
				if req.Method == http.MethodHead {
					w.WriteHeader(code)
					return
				}
				r.Pass(w, req)
			})
		}
		newBench(t, nil).wantPull(t, r.Host+"/thing:v1", digest, "amd64")
	}
}

// TestResume ends the connection inside a layer, once.
func TestResume(t *testing.T) {
	t.Parallel()
	r := ocitest.New(t)
	layer := ocitest.Layer(types.OCIUncompressedLayer, "/program", strings.Repeat("program", 100_000))
	digest := r.Push("thing", "v1", ocitest.Image("amd64", layer))
	layerDigest, _ := layer.Digest()
	compressed, _ := layer.Compressed()
	content, err := io.ReadAll(compressed)
	if err != nil {
		t.Fatal(err)
	}
	path := ocitest.Blob("thing", layerDigest)
	ranges := make(chan string, 10)
	r.Fault(path, func(w http.ResponseWriter, req *http.Request) {
		if req.Method != http.MethodGet {
			return
		}
		if got := req.UserAgent(); got != "bake/test" {
			t.Errorf("User-Agent is %q; want bake/test", got)
		}
		ranges <- req.Header.Get("Range")
		if len(ranges) == 1 {
			w.Header().Set("Content-Length", fmt.Sprint(len(content)))
			w.Write(content[:300_000])
			return
		}
		http.ServeContent(w, req, "", time.Time{}, bytes.NewReader(content))
	})
	summary(t, newBench(t, nil).wantPull(t, r.Host+"/thing:v1", digest, "amd64"))
	close(ranges)
	var got []string
	for s := range ranges {
		got = append(got, s)
	}
	if want := "[ bytes=300000-]"; fmt.Sprint(got) != want {
		t.Errorf("ranges asked for are %q; want %s", got, want)
	}
}

func TestCancel(t *testing.T) {
	t.Parallel()
	r := ocitest.New(t)
	digest := r.Push("thing", "v1", ocitest.Image("amd64", ocitest.Layer(types.OCILayer, "/program", "program")))
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("enough")
	r.Fault("/v2/", func(http.ResponseWriter, *http.Request) { cancel(stop) })
	image := manifest.ContainerImage{Name: "thing", Reference: r.Host + "/thing:v1", Digest: manifest.Digest(digest)}
	_, err := newBench(t, nil).Resolve(ctx, image, "amd64")
	if !errors.Is(err, stop) {
		t.Errorf("Resolve() = %v; want it to say %v", err, stop)
	}
}
