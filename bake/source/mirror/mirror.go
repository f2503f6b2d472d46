// Package mirror is the format of what `bake mirror` makes: a directory of all
// files that an offline bake needs, which any static file server or bucket can
// serve as well.
//
//	oci-layout, index.json    the container images, as an OCI image layout
//	blobs/sha256/HEX          every file, once, by the SHA-256 of its bytes
//	mirror.json               what the files are: see Index
//	index.html                the same for people
//	.lock                     held by whoever writes
//	.tmp-*                    what is being written
//
// Sets of versions share the files that they share. A blob appears by rename,
// synced and verified; mirror.json is replaced last, also by rename, so that a
// crash at any moment leaves the mirror of before, and a server never has half
// a file under a final name.
//
// A [Writer] adds files, [Check] reads every byte again, [Open] reads the index
// of a directory or URL for who fetches from it. Nothing is believed because a
// mirror says so: whoever asks for a file knows its digest from elsewhere.
// Nothing in a mirror's directory may lead out of it, symbolic links included.
//
// The package knows no versions files, registries or archives, and downloads
// nothing: what is downloaded in part is the store's business. It reads neither
// environment nor clock. Limits: an index of at most 64 MiB; flock(2) must
// work on the filesystem that a mirror is written to.
package mirror

import (
	"github.com/nodebake/bake/bake/arch"
	"github.com/nodebake/bake/bake/manifest"
)

// The files of a mirror.
const (
	indexFile     = "mirror.json"
	pageFile      = "index.html"
	ociLayoutFile = "oci-layout" // OCI image layout specification, "oci-layout file"
	ociIndexFile  = "index.json" // the same, "index.json file"
	blobsDir      = "blobs/sha256"
	lockFile      = ".lock"
	tmpPrefix     = ".tmp-"
)

// Schema is the format that this package writes and reads.
const Schema = 1

// maxIndex bounds mirror.json and the OCI index. One set has about 400 entries
// of 300 bytes.
const maxIndex = 64 << 20 // bytes

// Kind says what an entry is.
type Kind string

// The kinds, in the order in which people see them.
const (
	Versions   Kind = "versions"   // a versions file
	Lock       Kind = "lock"       // its lock
	Definition Kind = "definition" // a file of the image definition that it names
	Release    Kind = "release"    // an artifact of a component
	Image      Kind = "image"      // a blob of a container image
	Archive    Kind = "index"      // InRelease, Packages, Sources of an archive
	Package    Kind = "package"    // a .deb
	Toolchain  Kind = "toolchain"  // a Go toolchain
	Module     Kind = "module"     // a file of the Go module proxy protocol
)

// kinds returns all kinds in their order.
func kinds() []Kind {
	return []Kind{Versions, Lock, Definition, Release, Image, Archive, Package, Toolchain, Module}
}

// Entry is one file and what it is for. Several entries may have one digest.
type Entry struct {
	Kind   Kind            `json:"kind"`
	Name   string          `json:"name"`             // for people: "kubelet v1.36.3 amd64"
	Path   string          `json:"path"`             // at its origin: a URL, "debian/pool/...", a path of GOPROXY, the reference of an image
	SHA256 manifest.Digest `json:"sha256"`           // of its bytes, names the blob
	SHA512 manifest.Digest `json:"sha512,omitempty"` // where who asks knows this one
	Size   int64           `json:"size"`             // bytes
	Sets   []string        `json:"sets"`             // that need it, by name; at least one
}

// Set is what one bake needs.
type Set struct {
	Name     string          `json:"name"`     // of the versions file: "kubernetes-1.36"
	Versions manifest.Digest `json:"versions"` // the versions file, an entry
	Lock     manifest.Digest `json:"lock"`     // its lock, an entry
	Archs    []arch.Arch     `json:"archs"`    // at least one
	Sources  bool            `json:"sources"`  // modules and toolchains are there as well
}

// OCIImage is a container image that a mirror's index.json names.
type OCIImage struct {
	Reference string // "registry.k8s.io/pause:3.10.2"
	MediaType string // of what Digest names, an index or a manifest
	Digest    manifest.Digest
	Size      int64     // of what Digest names, bytes
	Arch      arch.Arch // of a manifest; of an index it says nothing, since an index names its architectures
}
