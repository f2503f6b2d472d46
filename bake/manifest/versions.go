// Package manifest holds what is wanted: the versions file that a person
// edits, the lock that `bake lock` resolves it to, and the image definition
// (images/worker). It parses them strictly, with file and line in every error,
// and knows nothing of networks, stores or disks.
//
// Files are YAML within limits: one document, at most 1 MiB, no anchors,
// aliases, merge keys or tags; numbers and truth values are not taken for text.
package manifest

import (
	"path/filepath"
	"strings"

	"github.com/nodebake/bake/bake/arch"
)

// Versions is a versions file.
type Versions struct {
	File string // where it was read from, for errors
	Sum  Digest // sha256 of its bytes, as the lock records it

	Name string // template of the image's name, see ImageName; "" where the file has none
	// Definition is the directory of the image definition, a slash-separated path
	// relative to the file's directory that may begin with ../ elements; "": the
	// definition that is built into bake.
	Definition    string
	DefinitionPos Pos

	OS         OS
	Node       *NodeSettings    // nil where the file has none; a file with kubelet and containerd has one
	Components []Component      // in the file's order
	Images     []ContainerImage // in the file's order

	ComponentsPos Pos // of the key
}

// DefinitionDir returns the directory of the image definition as it is reached
// from where v.File is, "" for the built-in one.
func (v *Versions) DefinitionDir() string {
	if v.Definition == "" {
		return ""
	}
	return filepath.Join(filepath.Dir(v.File), filepath.FromSlash(v.Definition))
}

// OS names the distribution that the root filesystem comes from.
type OS struct {
	Distribution    string   // "debian", the only one there is
	Suite           string   // "trixie"
	Packages        []Listed // beside the definition's list; see PackagesFor
	KernelArguments []string // after the definition's
	APTSources      string   // sources.list(5) of the image in the deb822 style; "" for none
	Pos             Pos
}

// NodeSettings say what the components of a set must be told alike to work together.
// Versions do not tell it: it depends on the cgroup hierarchy that the kernel's
// arguments choose, too.
type NodeSettings struct {
	RuntimeType  string // containerd's, of its runtime "runc": "io.containerd.runc.v2"
	CgroupDriver string // of containerd and kubelet: "systemd" or "cgroupfs"
	Pos          Pos
}

// Component is one upstream project's part of the image. It says up to three
// ways to come by the same files: Release, Module, Package. The first two are
// alternatives chosen by origin; Package stands alone.
type Component struct {
	Name    string
	Version string // as upstream writes it: "v1.36.3", "2.3.4"
	Release *Release
	Module  *Module
	Package *Package
	Reports *Reports // nil: its programs say Version, or none
	Pos     Pos
}

// Reports accepts that programs say another version than that of their component.
type Reports struct {
	Version string // that they say
	Reason  string // why that is right
	Pos     Pos
}

// Release is a published artifact.
type Release struct {
	Component string               // its name, for errors
	URL       string               // template with {arch}; see For
	SHA256    map[arch.Arch]Digest // at least one of SHA256 and SHA512 per architecture
	SHA512    map[arch.Arch]Digest
	Digests   map[Digest]Pos // where each stands
	Files     []File
	Pos       Pos
}

// File takes one member, or all that match, out of an artifact to a path of
// the image.
type File struct {
	Member string // path.Match pattern of archive members, clean, without "./"; empty: the artifact itself is the file
	Path   string // absolute; with a trailing slash, the directory for members by their base names
	Mode   uint16 // 0755 unless given
	Pos    Pos
}

// Module is a Go module from which the component can be built.
type Module struct {
	Path      string            // of the main module: "k8s.io/kubernetes"
	Version   string            // "v1.36.3"
	Toolchain string            // "go1.26.8": part of the build's identity
	Dir       string            // the committed go.mod and go.sum, relative to the versions file: "modules/kubernetes"
	Programs  []Program         // what to build
	Tags      []string          // build tags
	Stamp     map[string]string // -X variables: IMPORT/PATH.NAME to value, its {version} etc. filled in
	CGO       *CGO              // nil: CGO_ENABLED=0
	Pos       Pos
}

// Program is one main package of a Module and where it installs.
type Program struct {
	Package string   // "k8s.io/kubernetes/cmd/kubelet"
	Path    string   // "/usr/local/bin/kubelet"
	Tags    []string // build tags beside the module's
	Pos     Pos
}

// CGO says what a C compiler needs: Debian packages, unpacked from the lock,
// never installed on the host.
type CGO struct {
	Packages []Listed // "libseccomp-dev"; their closure is not followed
	LDFlags  []string // for the external linker: "-static"
	Pos      Pos
}

// Package takes files out of a Debian package, without installing it.
type Package struct {
	Name  string // "containerd"; may hold {arch}, see ParsePackageRef
	Suite string // "bullseye"
	Files []File
	Pos   Pos
	Key   string // "components.runc.package"
}

// ContainerImage is a container image that is baked in, so that pods of it start
// without a registry. Module and Program say what it can be assembled from where
// the registry can't be reached; at most one of them is given. One of Packages is
// no registry's: it is always assembled.
type ContainerImage struct {
	Name      string // "pause"
	Reference string // repository and tag, as pods name it: "registry.k8s.io/pause:3.10.2"
	Digest    Digest // SHA-256 of the index or manifest that the registry has; "": it is of Packages
	DigestPos Pos
	Sandbox   bool    // every pod's first container is of it: what containerd calls the sandbox or pause image
	Module    *Module // its first program is the entry point
	Program   string  // one of bake's own: "pause"
	Pos       Pos

	// Packages are Debian packages that the image consists of, with all that they
	// need; nil: it is another kind of image, and what follows is zero. Module's
	// programs are in the image as well.
	Packages    []Listed
	PackagesPos Pos
	Entrypoint  []string // program and arguments; nil: Module's first program, or none
	Command     []string // arguments, or without an entry point program and arguments
	StartPos    Pos      // of entrypoint, or else command
	User        string   // "UID" or "UID:GID"; "": root
	Environment []string // "NAME=VALUE", sorted
	Paths       []ImagePath
}

// ImagePath is a directory or a symbolic link that an image of packages has beside
// their files.
type ImagePath struct {
	Path     string // absolute and clean
	Link     string // text of the symbolic link; "": it is a directory
	Mode     uint16 // of a directory
	UID, GID uint32 // likewise
	Pos      Pos
	Key      string // "images.nginx.paths[0]"
}

// Tag returns the tag of the image's reference.
func (c *ContainerImage) Tag() string {
	return c.Reference[strings.LastIndexByte(c.Reference, ':')+1:]
}

// Pos is a place in a file. Line and Column count from 1.
type Pos struct {
	File   string
	Line   int
	Column int
}
