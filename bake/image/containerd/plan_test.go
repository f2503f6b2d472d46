package containerd_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/rand"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/types"
	bolt "go.etcd.io/bbolt"

	"github.com/nodebake/bake/bake/image/containerd"
	"github.com/nodebake/bake/bake/image/containerd/containerdtest"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/tree"
	"github.com/nodebake/bake/bake/tree/treetest"
)

const epoch = 1_700_000_000

// seeded makes the same layers every time.
func seeded(seed int64) random.Option { return random.WithSource(rand.NewSource(seed)) }

// testImage has layers of its own, seeded, and those that are given.
func testImage(t *testing.T, seed int64, own int64, shared ...v1.Layer) v1.Image {
	t.Helper()
	image, err := random.Image(500, own, seeded(seed))
	if err != nil {
		t.Fatal(err)
	}
	if image, err = mutate.AppendLayers(image, shared...); err != nil {
		t.Fatal(err)
	}
	return image
}

func testLayer(t *testing.T, seed int64) v1.Layer {
	t.Helper()
	layer, err := random.Layer(700, types.DockerLayer, seeded(seed))
	if err != nil {
		t.Fatal(err)
	}
	return layer
}

// testIndex names images for amd64 and arm64.
func testIndex(t *testing.T, amd64, arm64 v1.Image) v1.ImageIndex {
	t.Helper()
	return mutate.AppendManifests(empty.Index,
		mutate.IndexAddendum{Add: arm64, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "arm64"}}},
		mutate.IndexAddendum{Add: amd64, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "amd64"}}},
	)
}

func fromImage(t *testing.T, reference string, image v1.Image) containerd.ContainerImage {
	t.Helper()
	out, err := containerdtest.FromImage(reference, image)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// pair is two images that share a layer, the second one by an index, and pinned.
func pair(t *testing.T) []containerd.ContainerImage {
	t.Helper()
	shared := testLayer(t, 9)
	first := fromImage(t, "registry.example.com:5000/dns/coredns:v1", testImage(t, 1, 2, shared))
	second, err := containerdtest.FromIndex("bake.invalid/pause:3",
		testIndex(t, testImage(t, 2, 1, shared), testImage(t, 3, 1)), v1.Platform{OS: "linux", Architecture: "amd64"})
	if err != nil {
		t.Fatal(err)
	}
	second.Pinned = true
	return []containerd.ContainerImage{first, second}
}

func plan(t *testing.T, images ...containerd.ContainerImage) []tree.Entry {
	t.Helper()
	entries, err := containerd.Plan(images, epoch)
	if err != nil {
		t.Fatal(err)
	}
	return entries
}

const (
	blobs    = "var/lib/containerd/io.containerd.content.v1.content/blobs/sha256"
	database = "var/lib/containerd/io.containerd.metadata.v1.bolt/meta.db"
)

func metaDB(t *testing.T, entries []tree.Entry) []byte {
	t.Helper()
	for _, e := range entries {
		if e.Path == database {
			return treetest.Content(t, &e)
		}
	}
	t.Fatalf("no %s", database)
	return nil
}

// open opens a database with bbolt, after bbolt's checker has looked at it.
func open(t *testing.T, data []byte) *bolt.DB {
	t.Helper()
	db, err := tryOpen(t, data)
	if err != nil {
		t.Fatal(err)
	}
	return db
}

func tryOpen(t *testing.T, data []byte) (*bolt.DB, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "meta.db")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	db, err := bolt.Open(file, 0o600, &bolt.Options{Timeout: time.Second})
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { db.Close() })
	return db, db.View(func(tx *bolt.Tx) error {
		for err := range tx.Check() {
			return err
		}
		return nil
	})
}

// dump returns everything that is in a database, a line for each value.
func dump(t *testing.T, db *bolt.DB) []string {
	t.Helper()
	var out []string
	var walk func(prefix string, b *bolt.Bucket) error
	walk = func(prefix string, b *bolt.Bucket) error {
		return b.ForEach(func(k, v []byte) error {
			name := prefix + " " + string(k)
			if v == nil {
				return walk(name, b.Bucket(k))
			}
			switch string(k) {
			case "createdat", "updatedat":
				var at time.Time
				if err := at.UnmarshalBinary(v); err != nil {
					return err
				}
				out = append(out, name+" = "+at.Format(time.RFC3339Nano))
			case "size", "version":
				n, used := binary.Varint(v)
				if used != len(v) {
					t.Errorf("%s is %x; want a varint", name, v)
				}
				out = append(out, fmt.Sprint(name, " = ", n))
			default:
				out = append(out, fmt.Sprintf("%s = %s", name, v))
			}
			return nil
		})
	}
	err := db.View(func(tx *bolt.Tx) error {
		return tx.ForEach(func(name []byte, b *bolt.Bucket) error { return walk(string(name), b) })
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestPlanOfNothing(t *testing.T) {
	t.Parallel()
	if entries, err := containerd.Plan(nil, epoch); err != nil || entries != nil {
		t.Errorf("Plan of no images = %v, %v; want nothing", entries, err)
	}
}

func TestEntries(t *testing.T) {
	t.Parallel()
	images := pair(t)
	entries := plan(t, images...)
	if _, err := tree.New(append(entries,
		tree.Entry{Path: ".", Type: tree.Dir}, tree.Entry{Path: "var", Type: tree.Dir}, tree.Entry{Path: "var/lib", Type: tree.Dir})); err != nil {
		t.Errorf("the entries make no tree: %v", err)
	}
	want := map[string]int64{}
	for _, image := range images {
		for _, b := range image.Blobs {
			want[b.Digest.Hex()] = b.Size
		}
	}
	if all := len(images[0].Blobs) + len(images[1].Blobs); len(want) != all-1 {
		t.Fatalf("the images have %d blobs, %d different ones; want one that they share", all, len(want))
	}
	got := map[string]int64{}
	for _, e := range entries {
		if path.Dir(e.Path) != blobs {
			continue
		}
		got[path.Base(e.Path)] = e.Size
		if e.Perm != 0o444 || e.UID != 0 || e.GID != 0 {
			t.Errorf("%s has mode %04o and owner %d:%d; want 0444, 0:0", e.Path, e.Perm, e.UID, e.GID)
		}
		if sum := sha256.Sum256(treetest.Content(t, &e)); hex.EncodeToString(sum[:]) != path.Base(e.Path) {
			t.Errorf("%s has content of digest %x", e.Path, sum)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("blobs and their sizes (-want +got):\n%s", diff)
	}
}

// TestContentStaysWhereItIs: nothing is copied, a blob may lie anywhere in a pack.
func TestContentStaysWhereItIs(t *testing.T) {
	t.Parallel()
	image := fromImage(t, "registry.example.com/one:1", testImage(t, 1, 1))
	layer := &image.Blobs[len(image.Blobs)-1]
	pack := tree.Bytes("a pack", append(make([]byte, tree.Align), treetest.Content(t, &layer.Content)...))
	layer.Content.Blob, layer.Content.Offset = pack, tree.Align
	layer.Content.UID, layer.Content.MTime, layer.Content.Perm = 7, 7, 0o777
	for _, e := range plan(t, image) {
		if path.Base(e.Path) == layer.Digest.Hex() && (e.Blob != pack || e.Offset != tree.Align || e.UID != 0 || e.MTime != 0) {
			t.Errorf("entry %+v; want the content where it was, and nothing else of the pack's", e)
		}
	}
}

func TestMetadata(t *testing.T) {
	t.Parallel()
	images := pair(t)
	got := dump(t, open(t, metaDB(t, plan(t, images...))))
	const at = "2023-11-14T22:13:20Z"
	want := []string{"v1 version = 3"}
	add := func(format string, args ...any) { want = append(want, fmt.Sprintf("v1 k8s.io "+format, args...)) }
	for i, locator := range []string{"registry.example.com:5000/dns/coredns", "bake.invalid/pause"} {
		image := images[i]
		for _, name := range []string{image.Reference, locator + "@" + string(image.Target.Digest), string(image.Config.Digest)} {
			add("images %s createdat = %s", name, at)
			add("images %s updatedat = %s", name, at)
			add("images %s labels io.cri-containerd.image = managed", name)
			if image.Pinned {
				add("images %s labels io.cri-containerd.pinned = pinned", name)
			}
			add("images %s target digest = %s", name, image.Target.Digest)
			add("images %s target mediatype = %s", name, image.Target.MediaType)
			add("images %s target size = %d", name, image.Target.Size)
		}
	}
	coredns, pause := images[0].Blobs, images[1].Blobs
	// An index, of which we have one of two manifests; a manifest with two layers; its
	// configuration; its layers, of which the other image has the last one too.
	add("content blob %s labels containerd.io/gc.ref.content.m.0 = %s", pause[0].Digest, pause[1].Digest)
	for _, manifest := range []containerd.Blob{coredns[0], pause[1]} {
		add("content blob %s labels containerd.io/gc.ref.content.config = %s", manifest.Digest, manifest.Children[0].Digest)
		for i, layer := range manifest.Children[1:] {
			add("content blob %s labels containerd.io/gc.ref.content.l.%d = %s", manifest.Digest, i, layer.Digest)
		}
	}
	seen := map[manifest.Digest]bool{}
	for i, b := range slices.Concat(coredns, pause) {
		if seen[b.Digest] {
			continue
		}
		seen[b.Digest] = true
		add("content blob %s createdat = %s", b.Digest, at)
		add("content blob %s updatedat = %s", b.Digest, at)
		add("content blob %s size = %d", b.Digest, b.Size)
		if i < len(coredns) {
			add("content blob %s labels containerd.io/distribution.source.registry.example.com = dns/coredns", b.Digest)
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("database (-want +got):\n%s", diff)
	}
}

// TestSharedNames: two tags of one image, of which one is pinned.
func TestSharedNames(t *testing.T) {
	t.Parallel()
	image := testImage(t, 1, 1)
	one, two := fromImage(t, "registry.example.com/b/app:1", image), fromImage(t, "registry.example.com/a/app:2", image)
	one.Pinned = true
	text := strings.Join(dump(t, open(t, metaDB(t, plan(t, one, two)))), "\n") + "\n"
	for line, want := range map[string]bool{
		"images registry.example.com/b/app:1 labels io.cri-containerd.pinned = pinned":                             true,
		"images registry.example.com/a/app:2 labels io.cri-containerd.pinned = pinned":                             false,
		"images " + string(one.Config.Digest) + " labels io.cri-containerd.pinned = pinned":                        true,
		string(one.Target.Digest) + " labels containerd.io/distribution.source.registry.example.com = a/app,b/app": true,
	} {
		if got := strings.Contains(text, line+"\n"); got != want {
			t.Errorf("the database has %q: %v; want %v", line, got, want)
		}
	}
}

// TestDeterministic: the order of images is no part of what containerd gets, but
// where they have a name in common, and neither is chance.
func TestDeterministic(t *testing.T) {
	t.Parallel()
	images := pair(t)
	one := plan(t, images...)
	slices.Reverse(images)
	for range 10 {
		two := plan(t, images...)
		if diff := cmp.Diff(paths(one), paths(two)); diff != "" {
			t.Fatalf("files differ (-one +other):\n%s", diff)
		}
	}
}

// paths returns the digests of entries by path.
func paths(entries []tree.Entry) map[string]string {
	out := map[string]string{}
	for _, e := range entries {
		out[e.Path] = fmt.Sprintf("%04o %d %s", e.Perm, e.Size, e.SHA256)
	}
	return out
}

// TestGolden: the database has these bytes whatever the host's system, page size
// or byte order. Blobs are made up here, so that no compressor decides.
func TestGolden(t *testing.T) {
	t.Parallel()
	const want = "2c7be101f1100a0cc3b700d4a32d418bc4f0ee51f622a429e53664463bda28a8"
	blob := func(kind, text string, children ...containerd.Descriptor) containerd.Blob {
		sum := sha256.Sum256([]byte(text))
		return containerd.Blob{
			Descriptor: containerd.Descriptor{MediaType: kind, Digest: manifest.SHA256(sum), Size: int64(len(text))},
			Content:    tree.Entry{Type: tree.File, Size: int64(len(text)), SHA256: sum, Blob: tree.Bytes("test", []byte(text))},
			Children:   children,
		}
	}
	config := blob("application/vnd.oci.image.config.v1+json", "{}")
	image := containerd.ContainerImage{Reference: "registry.example.com/many:1", Config: config.Descriptor, Pinned: true}
	children := []containerd.Descriptor{config.Descriptor}
	for i := range 100 { // enough for several pages
		layer := blob("application/vnd.oci.image.layer.v1.tar", strings.Repeat("layer ", i+1))
		image.Blobs = append(image.Blobs, layer)
		children = append(children, layer.Descriptor)
	}
	m := blob("application/vnd.oci.image.manifest.v1+json", "manifest", children...)
	image.Target, image.Blobs = m.Descriptor, append(image.Blobs, config, m)
	data := metaDB(t, plan(t, image))
	if got := fmt.Sprintf("%x", sha256.Sum256(data)); got != want {
		t.Errorf("meta.db has SHA-256 %s; want %s", got, want)
	}
	if got := len(dump(t, open(t, data))); got < 500 {
		t.Errorf("the database has %d values; want those of 102 blobs", got)
	}
}

func TestPlanRefuses(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		change func(images []containerd.ContainerImage)
		want   string
	}{
		{"a reference twice", func(i []containerd.ContainerImage) { i[1].Reference = i[0].Reference }, "is there twice"},
		{"no tag", func(i []containerd.ContainerImage) { i[0].Reference = "registry.example.com/app" }, "is not HOST/REPOSITORY:TAG"},
		{"a port and no tag", func(i []containerd.ContainerImage) { i[0].Reference = "registry.example.com:5000/app" }, "is not HOST/REPOSITORY:TAG"},
		{"a digest", func(i []containerd.ContainerImage) { i[0].Reference += "@" + string(i[0].Target.Digest) }, "has a digest"},
		{"no host", func(i []containerd.ContainerImage) { i[0].Reference = "coredns/coredns:1" }, "docker.io/coredns/coredns:1"},
		{"no namespace", func(i []containerd.ContainerImage) { i[0].Reference = "docker.io/busybox:1" }, "library"},
		{"no target", func(i []containerd.ContainerImage) { i[0].Blobs = i[0].Blobs[1:] }, "is not among its blobs"},
		{"no configuration", func(i []containerd.ContainerImage) { i[0].Config = i[1].Config }, "is not among its blobs"},
		{"no layer", func(i []containerd.ContainerImage) { i[0].Blobs = i[0].Blobs[:len(i[0].Blobs)-1] }, "to which"},
		{"a blob twice", func(i []containerd.ContainerImage) { i[0].Blobs = append(i[0].Blobs, i[0].Blobs[1]) }, "is there twice"},
		{"a blob of nobody", func(i []containerd.ContainerImage) { i[1].Blobs = append(i[1].Blobs, i[0].Blobs[1]) }, "nothing refers to blob"},
		{"another size", func(i []containerd.ContainerImage) { i[0].Blobs[2].Content.Size++ }, "its content is a file of"},
		{"other content", func(i []containerd.ContainerImage) { i[0].Blobs[2].Content.SHA256[0]++ }, "has content of digest"},
		{"no file", func(i []containerd.ContainerImage) { i[0].Blobs[2].Content.Type = tree.Symlink }, "its content is a symlink"},
		{"no digest", func(i []containerd.ContainerImage) { i[0].Blobs[2].Digest = "latest" }, "has no SHA-256"},
		{"no media type", func(i []containerd.ContainerImage) { i[0].Blobs[2].MediaType = "" }, "has no media type"},
	} {
		images := pair(t)
		test.change(images)
		entries, err := containerd.Plan(images, epoch)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: Plan = %d entries, %v; want an error with %q", test.name, len(entries), err, test.want)
		}
	}
}

// TestCheckerLooks shows that what approves of the database refuses a broken one.
func TestCheckerLooks(t *testing.T) {
	t.Parallel()
	data := metaDB(t, plan(t, pair(t)...))
	flip := func(at int) []byte {
		broken := bytes.Clone(data)
		broken[at] ^= 1
		return broken
	}
	for name, broken := range map[string][]byte{
		"both meta pages altered": func() []byte { b := flip(20); b[4096+20] ^= 1; return b }(),
		"keys out of order":       bytes.Replace(data, []byte("images"), []byte("bmages"), 1),
	} {
		if _, err := tryOpen(t, broken); err == nil {
			t.Errorf("%s: bbolt found nothing wrong", name)
		}
	}
}
