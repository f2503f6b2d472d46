// Package record says what is in an image: the record that `bake image` writes
// beside it as NAME.json, and that `bake inspect` shows and compares.
//
// The record holds nothing but what the image is a function of and what it
// consists of: no date, host or user of the bake.
package record

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/nodebake/bake/bake/arch"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/tree"
)

// Schema is the version of the record's form. It grows when a field changes
// its meaning or goes away.
const Schema = 1

// Record is what is recorded about one image.
type Record struct {
	Schema int       `json:"schema"`
	Name   string    `json:"name"` // "k8s-worker-v1-36-3-amd64"
	Arch   arch.Arch `json:"arch"`
	File   *File     `json:"file,omitempty"` // absent in the record inside the image
	Disk   Disk      `json:"disk,omitzero"`  // likewise
	Inputs Inputs    `json:"inputs"`

	KernelArguments []string         `json:"kernelArguments"`
	Node            Node             `json:"node,omitzero"`    // as the versions file has it
	Components      []Component      `json:"components"`       // in the versions file's order
	Images          []ContainerImage `json:"images,omitempty"` // in the versions file's order
	Packages        []Package        `json:"packages"`         // sorted by name
	Files           []Entry          `json:"files,omitempty"`  // every file of the root filesystem, in tree order; absent inside
}

// File is what was written.
type File struct {
	Name   string          `json:"name"`   // "k8s-worker-v1-36-3-amd64.tar.gz"
	Format string          `json:"format"` // "tar.gz" or "raw"
	Size   int64           `json:"size"`   // bytes
	SHA256 manifest.Digest `json:"sha256"`
}

// Disk is the disk that the file holds.
type Disk struct {
	Size       int64       `json:"size"` // bytes
	Partitions []Partition `json:"partitions"`
}

// Partition is one partition of the disk.
type Partition struct {
	Name  string `json:"name"`
	Type  string `json:"type"` // "esp", "root"
	GUID  string `json:"guid"`
	Start int64  `json:"start"` // bytes
	Size  int64  `json:"size"`  // bytes
}

// Inputs are the digests of what the image was made from.
type Inputs struct {
	Versions        manifest.Digest            `json:"versions"`
	Lock            manifest.Digest            `json:"lock"`
	Definition      manifest.Digest            `json:"definition"`               // over all its files: see manifest.ParseDefinition
	DefinitionFrom  string                     `json:"definitionFrom,omitempty"` // its directory as the versions file names it, "../images/worker", or "embedded"
	DefinitionFiles map[string]manifest.Digest `json:"definitionFiles,omitempty"`
	Units           manifest.Digest            `json:"units"`
	Programs        map[string]manifest.Digest `json:"programs"`          // firstboot and init; pause, where an image was assembled of it
	Modules         map[string]manifest.Digest `json:"modules,omitempty"` // go.mod and go.sum of what was built from source, by their paths beside the versions file
}

// Node is what containerd and kubelet are to be configured with; firstboot reads
// it from the record inside the image.
type Node struct {
	RuntimeType  string `json:"runtimeType"`            // containerd's: "io.containerd.runc.v2"
	CgroupDriver string `json:"cgroupDriver"`           // of both: "systemd" or "cgroupfs"
	SandboxImage string `json:"sandboxImage,omitempty"` // that is baked in: "registry.k8s.io/pause:3.10.2"
}

// ContainerImage is a container image that containerd has before it starts for
// the first time.
type ContainerImage struct {
	Name      string `json:"name"`                // "pause"
	Reference string `json:"reference"`           // that pods name it by: "registry.k8s.io/pause:3.10.2", or of our own where it was assembled
	Origin    string `json:"origin"`              // "release": from the registry; "source": assembled by bake
	From      string `json:"from"`                // "registry.k8s.io/pause@sha256:...", module@version, "bake's program pause", or "Debian packages"
	Toolchain string `json:"toolchain,omitempty"` // source: what built it

	Digest   manifest.Digest   `json:"digest"`   // of what Reference names: an index or a manifest
	Manifest manifest.Digest   `json:"manifest"` // of the manifest for the image's architecture
	Config   manifest.Digest   `json:"config"`
	Layers   []manifest.Digest `json:"layers"` // as they are stored, compressed or not
	Size     int64             `json:"size"`   // bytes of all blobs

	Packages []Package `json:"packages,omitempty"` // Debian packages that it is made of
}

// Component is one component and how it came here.
type Component struct {
	Name      string    `json:"name"`
	Version   string    `json:"version"`
	Origin    string    `json:"origin"`              // "release", "source" or "package"
	From      string    `json:"from"`                // URL, module@version or package
	Toolchain string    `json:"toolchain,omitempty"` // source: what built it
	Reports   *Reports  `json:"reports,omitempty"`   // what its programs say instead of Version, where the versions file accepts that
	Files     []Program `json:"files"`
}

// Reports is a version that programs say and their component does not have.
type Reports struct {
	Version string `json:"version"`
	Reason  string `json:"reason"` // why it is accepted
}

// Program is a file of a component.
type Program struct {
	Path   string `json:"path"`   // absolute
	SHA256 string `json:"sha256"` // hexadecimal
}

// Package is one Debian package.
type Package struct {
	Name    string          `json:"name"`
	Version string          `json:"version"`
	Arch    string          `json:"arch"`
	Suite   string          `json:"suite"`
	SHA256  manifest.Digest `json:"sha256"` // of the .deb
}

// Entry is one file.
type Entry struct {
	Path   string    `json:"path"` // absolute
	Type   tree.Type `json:"type"`
	Mode   string    `json:"mode"` // octal, with setuid, setgid and sticky bits: "0755"
	UID    uint32    `json:"uid,omitempty"`
	GID    uint32    `json:"gid,omitempty"`
	Size   int64     `json:"size,omitempty"`
	SHA256 string    `json:"sha256,omitempty"` // files: of the content, hexadecimal
	Link   string    `json:"link,omitempty"`   // symbolic and hard links
	Xattrs Xattrs    `json:"xattrs,omitempty"` // by full name
	Owner  string    `json:"owner,omitempty"`  // "package bash", "component kubelet", "definition"
}

// Xattrs are extended attributes by their full names, such as
// "security.capability".
type Xattrs map[string][]byte

// name is a name as JSON can have it: bytes that are not UTF-8, which images of
// others may have, are written as \xff. JSON's encoder would make all the same
// character of them, and several files one.
func name(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	for i, r := range s {
		if _, size := utf8.DecodeRuneInString(s[i:]); r == utf8.RuneError && size == 1 {
			fmt.Fprintf(&b, `\x%02x`, s[i])
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

// Entries turns a tree into the record's form.
func Entries(t *tree.Tree) []Entry {
	out := make([]Entry, len(t.Entries))
	for i, e := range t.Entries {
		out[i] = Entry{
			Path: "/" + strings.TrimPrefix(e.Path, "."), Type: e.Type, Mode: fmt.Sprintf("%04o", e.Perm),
			UID: e.UID, GID: e.GID, Size: e.Size, Link: name(e.Link), Xattrs: e.Xattrs, Owner: e.Owner,
		}
		if e.Path != "." {
			out[i].Path = "/" + name(e.Path)
		}
		if e.Type == tree.File {
			out[i].SHA256 = e.SHA256.String()
		}
	}
	return out
}

// Packages turns locked packages into the record's form.
func Packages(locked []manifest.LockedPackage) []Package {
	out := make([]Package, len(locked))
	for i, p := range locked {
		out[i] = Package{p.Name, p.Version, p.Arch, p.Suite, p.SHA256}
	}
	slices.SortFunc(out, func(a, b Package) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// Write writes m as JSON, each file on a line of its own, so that two records
// can be compared with line-based tools as well. It makes many small writes.
func (m *Record) Write(w io.Writer) error {
	head := *m
	head.Files = nil
	text, err := json.MarshalIndent(&head, "", " ")
	if err != nil {
		return err
	}
	if len(m.Files) == 0 {
		_, err := w.Write(append(text, '\n'))
		return err
	}
	// Files come last in Record, and are put before the closing brace.
	if _, err := fmt.Fprintf(w, "%s,\n \"files\": [\n", bytes.TrimSuffix(text, []byte("\n}"))); err != nil {
		return err
	}
	for i := range m.Files {
		line, err := json.Marshal(&m.Files[i])
		if err != nil {
			return err
		}
		end := ",\n"
		if i == len(m.Files)-1 {
			end = "\n ]\n}\n"
		}
		if _, err := fmt.Fprintf(w, "  %s%s", line, end); err != nil {
			return err
		}
	}
	return nil
}

// ReadHead reads what Write wrote but for the files, which come last and are most
// of it. name is for errors.
func ReadHead(name string, r io.Reader) (*Record, error) {
	dec := json.NewDecoder(r)
	head := map[string]json.RawMessage{}
	token, err := dec.Token()
	for err == nil && token != nil {
		if token, err = dec.Token(); err != nil || token == "files" || token == json.Delim('}') {
			break
		}
		key, _ := token.(string)
		var value json.RawMessage
		err = dec.Decode(&value)
		head[key] = value
	}
	var text []byte
	if err == nil {
		text, err = json.Marshal(head)
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	return Read(name, bytes.NewReader(text))
}

// Read reads what Write wrote. name is for errors.
func Read(name string, r io.Reader) (*Record, error) {
	var m Record
	dec := json.NewDecoder(r)
	dec.DisallowUnknownFields()
	if err := dec.Decode(&m); err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	if m.Schema != Schema {
		return nil, fmt.Errorf("reading %s: schema %d, this bake knows %d (use the bake that made it)", name, m.Schema, Schema)
	}
	return &m, nil
}
