package containerd

import (
	"encoding/binary"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/nodebake/bake/bake/manifest"
)

const (
	schema        = "v1"
	schemaVersion = 3
	namespace     = "k8s.io"
)

// Labels that containerd and its CRI plugin go by (internal/cri/labels,
// core/images/mediatypes.go, pkg/labels).
const (
	managedLabel      = "io.cri-containerd.image"
	managedValue      = "managed"
	pinnedLabel       = "io.cri-containerd.pinned"
	pinnedValue       = "pinned"
	contentLabel      = "containerd.io/gc.ref.content"
	distributionLabel = "containerd.io/distribution.source"
	maxLabel          = 4096 // bytes of a key and its value
)

// metadata returns the database that says what images there are: the buckets of
// core/metadata/buckets.go.
func metadata(images []ContainerImage, contents map[manifest.Digest]*content, epoch int64) *bucket {
	root := newBucket()
	v1 := root.at(schema)
	v1.values["version"] = varint(schemaVersion)
	inside := v1.at(namespace)
	stamp := timestamp(epoch)

	pinned := map[string]bool{}
	for _, image := range images {
		for _, name := range image.names() {
			pinned[name] = pinned[name] || image.Pinned
			b := inside.at("images", name)
			b.values["createdat"], b.values["updatedat"] = stamp, stamp
			// Where two images are of one configuration, the last counts, as with pulls.
			target := b.at("target")
			target.values["digest"] = []byte(image.Target.Digest)
			target.values["mediatype"] = []byte(image.Target.MediaType)
			target.values["size"] = varint(image.Target.Size)
			labels := b.at("labels")
			labels.values[managedLabel] = []byte(managedValue)
			if pinned[name] {
				labels.values[pinnedLabel] = []byte(pinnedValue)
			}
		}
	}
	for digest, c := range contents {
		b := inside.at("content", "blob", string(digest))
		b.values["createdat"], b.values["updatedat"] = stamp, stamp
		b.values["size"] = varint(c.Size)
		for key, value := range c.labels() {
			b.at("labels").values[key] = []byte(value)
		}
	}
	return root
}

// names are those under which the CRI plugin has an image after a pull: by tag,
// by digest, and the ID, which is the configuration's digest.
func (image ContainerImage) names() []string {
	locator, _, err := splitReference(image.Reference)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return []string{image.Reference, locator + "@" + string(image.Target.Digest), string(image.Config.Digest)}
}

// content is a blob, whichever images hold it.
type content struct {
	Blob
	sources map[string][]string // registries: repositories by host
}

// merge returns the blobs of all images, each once. Where two images hold
// different parts of an index, it has the children of both. The images were
// checked.
func merge(images []ContainerImage) map[manifest.Digest]*content {
	out := map[manifest.Digest]*content{}
	for _, image := range images {
		host, repository := source(image.Reference)
		for _, b := range image.Blobs {
			c := out[b.Digest]
			if c == nil {
				c = &content{Blob: b, sources: map[string][]string{}}
				out[b.Digest] = c
			}
			for _, child := range b.Children {
				if !slices.ContainsFunc(c.Children, func(d Descriptor) bool { return d.Digest == child.Digest }) {
					c.Children = append(slices.Clip(c.Children), child)
				}
			}
			if host != "" {
				c.sources[host] = append(c.sources[host], repository)
			}
		}
	}
	return out
}

// labels keep garbage collection from taking what the blob refers to, and say at
// which registries it is.
func (c *content) labels() map[string]string {
	labels := childLabels(c.Children)
	for host, repositories := range c.sources {
		slices.Sort(repositories)
		key, value := distributionLabel+"."+host, strings.Join(slices.Compact(repositories), ",")
		// It only saves containerd transfers. Where it is too long, a pull leaves
		// it out too.
		if len(key)+len(value) <= maxLabel {
			labels[key] = value
		}
	}
	return labels
}

// source returns the host, without a port, and the repository that a reference
// names; nothing for a name of our own, which no registry has (RFC 2606).
func source(reference string) (host, repository string) {
	locator, _, err := splitReference(reference)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	host, repository, _ = strings.Cut(locator, "/")
	host = (&url.URL{Host: host}).Hostname()
	if strings.HasSuffix(host, ".invalid") {
		return "", ""
	}
	return host, repository
}

// childLabels are the labels of a blob that name its children, as a pull
// numbers them (ChildGCLabels and SetChildrenMappedLabels in core/images).
func childLabels(children []Descriptor) map[string]string {
	out, next := map[string]string{}, map[string]int{}
	for _, child := range children {
		key := contentLabel + "."
		switch kind := child.MediaType; {
		case isConfig(kind):
			key = contentLabel + ".config"
		case kind == "application/vnd.docker.distribution.manifest.v2+json", kind == "application/vnd.oci.image.manifest.v1+json":
			key = contentLabel + ".m."
		case strings.HasPrefix(kind, "application/vnd.oci.image.layer."), strings.HasPrefix(kind, "application/vnd.docker.image.rootfs."):
			key = contentLabel + ".l."
		}
		index := next[key]
		next[key]++
		if index > 0 || strings.HasSuffix(key, ".") {
			key = fmt.Sprintf("%s%d", key, index)
		}
		out[key] = string(child.Digest)
	}
	return out
}

func isConfig(mediaType string) bool {
	return mediaType == "application/vnd.docker.container.image.v1+json" || mediaType == "application/vnd.oci.image.config.v1+json"
}

// varint is how containerd writes numbers (encodeInt in core/metadata).
func varint(n int64) []byte { return binary.AppendVarint(nil, n) }

// timestamp is how containerd writes times (core/metadata/boltutil): Go's binary
// form of a UTC time.
func timestamp(epoch int64) []byte {
	b, err := time.Unix(epoch, 0).UTC().MarshalBinary()
	if err != nil {
		panic("BUG: " + err.Error()) // only for zones whose offset has fractions of a minute
	}
	return b
}
