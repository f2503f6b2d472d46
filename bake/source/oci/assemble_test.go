package oci_test

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/source/oci"
	"github.com/nodebake/bake/bake/source/oci/ocitest"
	"github.com/nodebake/bake/bake/source/store"
	"github.com/nodebake/bake/bake/tree"
	"github.com/nodebake/bake/bake/tree/treetest"
	"github.com/nodebake/bake/test/filetest"
	"github.com/nodebake/bake/test/need"
)

func program(path string, content []byte) oci.Program {
	return oci.Program{Path: path, Content: tree.Entry{
		Path: strings.TrimPrefix(path, "/"), Type: tree.File, Perm: 0o755,
		Size: int64(len(content)), SHA256: sha256.Sum256(content), Blob: tree.Bytes(path, content),
	}}
}

func recipe() oci.Recipe {
	return oci.Recipe{Name: "thing", Version: "v1.2.3", Source: "pkg:golang/example.com/thing@v1.2.3", Arch: "arm64", User: "65535:65535", Programs: []oci.Program{
		program("/usr/bin/thing", []byte("the program")), program("/opt/thing/helper", []byte("its helper")), program("/usr/bin/a", nil),
	}}
}

func newStore(t *testing.T) *store.Store {
	t.Helper()
	st, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	return st
}

func assemble(t *testing.T, r oci.Recipe) *oci.Image {
	t.Helper()
	image, err := oci.Assemble(t.Context(), newStore(t), r)
	if err != nil {
		t.Fatal(err)
	}
	return image
}

// asLayout writes image as an OCI image layout, and returns what
// go-containerregistry reads from it.
func asLayout(t *testing.T, image *oci.Image) (v1.Image, string) {
	t.Helper()
	dir := t.TempDir()
	blobs := filepath.Join(dir, "blobs/sha256")
	filetest.Mkdir(t, blobs)
	for _, b := range image.Blobs {
		content, err := io.ReadAll(b.Content.Content())
		if err != nil {
			t.Fatal(err)
		}
		writeFile(t, filepath.Join(blobs, b.Digest.Hex()), string(content))
	}
	writeFile(t, filepath.Join(dir, "oci-layout"), `{"imageLayoutVersion":"1.0.0"}`)
	writeFile(t, filepath.Join(dir, "index.json"), fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"manifests":[{"mediaType":%q,"digest":%q,"size":%d}]}`,
		types.OCIImageIndex, image.Target.MediaType, image.Target.Digest, image.Target.Size))
	return readLayout(t, dir, image), filepath.Join(blobs, image.Layers[0].Digest.Hex())
}

func readLayout(t *testing.T, dir string, image *oci.Image) v1.Image {
	t.Helper()
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	digest, err := v1.NewHash(string(image.Target.Digest))
	if err != nil {
		t.Fatal(err)
	}
	read, err := index.Image(digest)
	if err != nil {
		t.Fatal(err)
	}
	return read
}

func TestAssemble(t *testing.T) {
	t.Parallel()
	image := assemble(t, recipe())
	read, layerFile := asLayout(t, image)
	// Its check of layers, which Fast leaves out, takes all for gzipped.
	if err := validate.Image(read, validate.Fast); err != nil {
		t.Errorf("validating the image: %v", err)
	}
	config, err := read.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	want := &v1.ConfigFile{
		OS: "linux", Architecture: "arm64", Variant: "v8",
		Config: v1.Config{
			Entrypoint: []string{"/usr/bin/thing"}, User: "65535:65535", WorkingDir: "/",
			Env: []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
			Labels: map[string]string{
				"org.opencontainers.image.title":   "thing",
				"org.opencontainers.image.version": "v1.2.3",
				"org.opencontainers.image.source":  "pkg:golang/example.com/thing@v1.2.3",
			},
		},
	}
	got := &v1.ConfigFile{OS: config.OS, Architecture: config.Architecture, Variant: config.Variant, Config: config.Config}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("configuration (-want +got):\n%s", diff)
	}
	if config.Created.Unix() != 0 {
		t.Errorf("created %v; want 1970", config.Created)
	}

	var members []string
	extracted := mutate.Extract(read)
	defer extracted.Close()
	for r := tar.NewReader(extracted); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		members = append(members, fmt.Sprintf("%s %o %d:%d %d %q", h.Name, h.Mode, h.Uid, h.Gid, h.ModTime.Unix(), content))
	}
	if diff := cmp.Diff([]string{
		`opt 755 0:0 0 ""`, `opt/thing 755 0:0 0 ""`, `opt/thing/helper 755 0:0 0 "its helper"`,
		`usr 755 0:0 0 ""`, `usr/bin 755 0:0 0 ""`, `usr/bin/a 755 0:0 0 ""`, `usr/bin/thing 755 0:0 0 "the program"`,
	}, members); diff != "" {
		t.Errorf("members (-want +got):\n%s", diff)
	}

	// What else reads layers is a registry, which wants their digests right.
	ocitest.New(t).Push("thing", "v1", read)

	// The checkers look.
	layer := filetest.Read(t, layerFile)
	layer[len(layer)/2] ^= 1
	writeFile(t, layerFile, string(layer))
	ref, err := name.ParseReference(ocitest.New(t).Host + "/thing:v1")
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, read); err == nil {
		t.Error("a registry takes an altered layer")
	}
	blobs := filepath.Dir(layerFile)
	writeFile(t, filepath.Join(blobs, image.Config.Digest.Hex()), "{}")
	if err := validate.Image(readLayout(t, filepath.Join(blobs, "../.."), image), validate.Fast); err == nil {
		t.Error("an image with another configuration is valid")
	}
}

// TestAssembleAgain wants the same bytes of the same recipe in every store, and
// others of another. The digest is what images on nodes are called by: where it
// changes, assembleFormat must.
func TestAssembleAgain(t *testing.T) {
	t.Parallel()
	const want = "sha256:80be7137ee3665dc68cbbe7036c89b4d96643c711c004033f5e66ac29dd75724"
	first := assemble(t, recipe())
	if got := string(first.Target.Digest); got != want {
		t.Errorf("the image is %s; want %s", got, want)
	}
	seen := map[manifest.Digest]string{first.Target.Digest: "the recipe"}
	for what, change := range map[string]func(*oci.Recipe){
		"version":     func(r *oci.Recipe) { r.Version = "v1.2.4" },
		"arch":        func(r *oci.Recipe) { r.Arch = "amd64" },
		"user":        func(r *oci.Recipe) { r.User = "" },
		"source":      func(r *oci.Recipe) { r.Source = "" },
		"entry point": func(r *oci.Recipe) { r.Programs[0], r.Programs[1] = r.Programs[1], r.Programs[0] },
		"content":     func(r *oci.Recipe) { r.Programs[0] = program("/usr/bin/thing", []byte("the Program")) },
		"path":        func(r *oci.Recipe) { r.Programs[0].Path = "/usr/bin/thong" },
	} {
		r := recipe()
		change(&r)
		digest := assemble(t, r).Target.Digest
		if other, same := seen[digest]; same {
			t.Errorf("another %s gives the image of %s", what, other)
		}
		seen[digest] = what
	}
}

// TestAssembleOnce assembles in one store: the second time nothing is read.
func TestAssembleOnce(t *testing.T) {
	t.Parallel()
	st := newStore(t)
	r := recipe()
	first, err := oci.Assemble(t.Context(), st, r)
	if err != nil {
		t.Fatal(err)
	}
	for i := range r.Programs {
		r.Programs[i].Content.Blob = &tree.Blob{Name: "gone", Size: r.Programs[i].Content.Size, Chunks: make([]tree.Digest, 1), R: strings.NewReader("")}
	}
	again, err := oci.Assemble(t.Context(), st, r)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(summary(t, first), summary(t, again)); diff != "" {
		t.Errorf("again (-first +again):\n%s", diff)
	}
	// Another store has to read them, and finds that they are damaged.
	if _, err := oci.Assemble(t.Context(), newStore(t), r); err == nil || !strings.Contains(err.Error(), "assembling image thing") {
		t.Errorf("Assemble() without its programs = %v; want an error", err)
	}
}

func TestAssembleRefuses(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		paths []string
		want  string
	}{
		{"nothing", nil, "BUG"},
		{"the root", []string{"/"}, "can't be a program's path"},
		{"a way out", []string{"/../x"}, "can't be a program's path"},
		{"one path twice", []string{"/x", "/x"}, "/x is there twice"},
		{"a program and a directory", []string{"/x", "/x/y"}, "/x is a program and a directory"},
		{"a directory and a program", []string{"/x/y", "/x"}, "/x is there twice"},
	} {
		r := oci.Recipe{Name: "thing", Arch: "amd64"}
		for _, path := range test.paths {
			r.Programs = append(r.Programs, program(path, []byte("x")))
		}
		_, err := oci.Assemble(t.Context(), newStore(t), r)
		wantError(t, err, "assembling image thing: ", test.want)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("enough")
	cancel(stop)
	if _, err := oci.Assemble(ctx, newStore(t), recipe()); !errors.Is(err, stop) {
		t.Errorf("Assemble() = %v; want %v", err, stop)
	}
}

// TestAssembledRuns unpacks an image, as a container runtime does, and runs its
// entry point: this test.
func TestAssembledRuns(t *testing.T) {
	t.Parallel()
	need.Program(t, "tar", "tar")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	content := filetest.Read(t, self)
	read, _ := asLayout(t, assemble(t, oci.Recipe{Name: "thing", Version: "v1", Arch: "amd64", Programs: []oci.Program{program("/bin/test", content)}}))
	root := t.TempDir()
	extract := exec.CommandContext(t.Context(), "tar", "-x", "-C", root)
	extracted := mutate.Extract(read)
	defer extracted.Close()
	extract.Stdin = extracted
	if out, err := extract.CombinedOutput(); err != nil {
		t.Fatalf("tar: %v: %s", err, out)
	}
	config, err := read.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), filepath.Join(root, config.Config.Entrypoint[0]), "-test.list=^TestAssembledRuns$").Output()
	if err != nil || !strings.HasPrefix(string(out), "TestAssembledRuns\n") {
		t.Errorf("the entry point says %q, %v", out, err)
	}
}

// TestAssembledPushed takes the way round: what bake assembled, a registry takes,
// and bake pulls it like any other image.
func TestAssembledPushed(t *testing.T) {
	t.Parallel()
	image := assemble(t, recipe())
	read, _ := asLayout(t, image)
	r := ocitest.New(t)
	digest := r.Push("thing", "v1.2.3", read)
	pulled := newBench(t, nil).wantPull(t, r.Host+"/thing:v1.2.3", digest, "arm64")
	if diff := cmp.Diff(summary(t, image), summary(t, pulled)); diff != "" {
		t.Errorf("pulled (-assembled +pulled):\n%s", diff)
	}
}

// filesRecipe is an image with files: a file with another name that sorts before
// it, a capability, a link, a directory of somebody.
func filesRecipe(t *testing.T, programs ...oci.Program) oci.Recipe {
	t.Helper()
	file := treetest.File("usr/lib/b", 0o4755, "the file")
	file.Xattrs = map[string][]byte{"security.capability": []byte("\x01\x00\x00\x02\x00")}
	owned := treetest.Dir("var")
	owned.UID, owned.GID, owned.Perm = 33, 34, 0o1770
	return oci.Recipe{
		Name: "thing", Version: "1", Arch: "amd64", Command: []string{"/usr/lib/b", "-v"}, Environment: []string{"A=b"}, Programs: programs,
		Files: treetest.New(t, treetest.Dir("."), treetest.Dir("usr"), treetest.Dir("usr/lib"), file, owned,
			tree.Entry{Path: "usr/lib/a", Type: tree.Hardlink, Perm: 0o4755, Link: "usr/lib/b"},
			tree.Entry{Path: "lib", Type: tree.Symlink, Perm: 0o777, Link: "usr/lib"}),
	}
}

// TestAssembleFiles makes images of files, with programs and without: the layer of
// the files is the same, below that of the programs.
func TestAssembleFiles(t *testing.T) {
	t.Parallel()
	alone := assemble(t, filesRecipe(t))
	both := assemble(t, filesRecipe(t, program("/tool", []byte("the tool"))))
	if len(alone.Layers) != 1 || len(both.Layers) != 2 || alone.Layers[0] != both.Layers[0] {
		t.Fatalf("the layers are %v, and with a program %v; want the same first", alone.Layers, both.Layers)
	}
	if again := assemble(t, filesRecipe(t)); again.Target != alone.Target {
		t.Errorf("another store makes %v; want %v", again.Target, alone.Target)
	}
	for _, test := range []struct {
		image      *oci.Image
		entrypoint []string
		layers     int
	}{{alone, nil, 1}, {both, []string{"/tool"}, 2}} {
		read, _ := asLayout(t, test.image)
		if err := validate.Image(read, validate.Fast); err != nil {
			t.Errorf("validating the image: %v", err)
		}
		config, err := read.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		want := v1.Config{
			Entrypoint: test.entrypoint, Cmd: []string{"/usr/lib/b", "-v"}, WorkingDir: "/",
			Env:    []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "A=b"},
			Labels: map[string]string{"org.opencontainers.image.title": "thing", "org.opencontainers.image.version": "1"},
		}
		if diff := cmp.Diff(want, config.Config); diff != "" || len(config.RootFS.DiffIDs) != test.layers {
			t.Errorf("%d layers, configuration (-want +got):\n%s", len(config.RootFS.DiffIDs), diff)
		}
	}

	_, layer := asLayout(t, alone)
	var got []string
	for r := tar.NewReader(filetest.Open(t, layer)); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprintf("%c %s %o %d:%d %q %q %d", h.Typeflag, h.Name, h.Mode, h.Uid, h.Gid, h.Linkname, h.PAXRecords["SCHILY.xattr.security.capability"], h.ModTime.Unix()))
	}
	want := []string{
		`2 lib 777 0:0 "usr/lib" "" 0`, `5 usr/ 755 0:0 "" "" 0`, `5 usr/lib/ 755 0:0 "" "" 0`,
		`0 usr/lib/b 4755 0:0 "" "\x01\x00\x00\x02\x00" 0`, `5 var/ 1770 33:34 "" "" 0`, `1 usr/lib/a 4755 0:0 "usr/lib/b" "" 0`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the layer (-want +got):\n%s", diff)
	}
}
