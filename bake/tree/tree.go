// Package tree says what files an image holds: names, owners, modes, links,
// extended attributes, and where their content is. It knows neither where the
// files came from (package source) nor how a disk stores them (package image).
//
// Content lives in blobs (see [Blob]): immutable, cut into chunks of
// [ChunkSize], each chunk known by its SHA-256 before it is read. A plan for a
// whole disk can therefore be made, compared and cached without reading a
// payload byte, and nothing can be read that was not verified.
package tree

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
)

// Align is the alignment in bytes of every file's content inside a pack's
// blob. It equals the block size of our filesystems, so that a run of files
// goes to the disk as one extent.
const Align = 4096

// Type is the kind of an [Entry].
type Type string

// The kinds of files that an image holds. Sockets are not among them: no
// package ships one.
const (
	Dir      Type = "dir"
	File     Type = "file"
	Symlink  Type = "symlink"
	Hardlink Type = "hardlink"
	Char     Type = "char"
	Block    Type = "block"
	Fifo     Type = "fifo"
)

// Permission bits of Entry.Perm above the nine usual ones, as in stat(2).
const (
	SetUID = 0o4000
	SetGID = 0o2000
	Sticky = 0o1000
)

// Entry is one file. The zero time is the epoch of the image, set by the
// composer; the zero owner is root.
type Entry struct {
	Path   string            `json:"path"`             // slash-separated, no leading slash, clean; "." is the root directory
	Type   Type              `json:"type"`             //
	Perm   uint16            `json:"perm"`             // permission bits with SetUID, SetGID and Sticky: 0 to 07777
	UID    uint32            `json:"uid,omitempty"`    //
	GID    uint32            `json:"gid,omitempty"`    //
	MTime  int64             `json:"mtime,omitempty"`  // seconds since 1970-01-01 UTC
	Link   string            `json:"link,omitempty"`   // Symlink: its text. Hardlink: the Path of the File it is another name of
	Major  uint32            `json:"major,omitempty"`  // Char and Block
	Minor  uint32            `json:"minor,omitempty"`  // Char and Block
	Xattrs map[string][]byte `json:"xattrs,omitempty"` // full names, such as "security.capability"

	Size   int64  `json:"size,omitempty"`   // File: length of the content in bytes
	SHA256 Digest `json:"sha256,omitzero"`  // File: of the content
	Offset int64  `json:"offset,omitempty"` // File: where the content starts in Blob, a multiple of Align; in its last block it is followed by zeroes
	Blob   *Blob  `json:"-"`                // File: holds the content; nil only where Size is 0

	Owner string `json:"-"` // who brought it: "package libc6", "component kubelet", "definition"
}

// Tree is a set of files, sorted by path with every parent before its
// children. Make one with [New].
type Tree struct {
	Entries []Entry
}

// New sorts entries into a Tree and checks them: clean relative paths, each
// at most once, every parent present and a directory, hard links that name a
// File of the same tree. The error joins everything that is wrong.
func New(entries []Entry) (*Tree, error) {
	sorted := slices.Clone(entries)
	slices.SortFunc(sorted, func(a, b Entry) int { return ComparePaths(a.Path, b.Path) })
	t := &Tree{Entries: sorted}
	return t, t.check()
}

// ComparePaths orders paths so that a directory comes right before what it
// holds: "a" < "a/b" < "a-b", which plain byte order does not give.
func ComparePaths(a, b string) int {
	if a == b {
		return 0
	}
	if a == "." {
		return -1
	}
	if b == "." {
		return 1
	}
	n := min(len(a), len(b))
	for i := range n {
		if a[i] == b[i] {
			continue
		}
		if a[i] == '/' {
			return -1
		}
		if b[i] == '/' {
			return 1
		}
		return int(a[i]) - int(b[i])
	}
	return len(a) - len(b)
}

// Lookup returns the entry at path, or nil.
func (t *Tree) Lookup(path string) *Entry {
	i, found := slices.BinarySearchFunc(t.Entries, path, func(e Entry, p string) int {
		return ComparePaths(e.Path, p)
	})
	if !found {
		return nil
	}
	return &t.Entries[i]
}

// ValidPath says why p cannot be the path of an entry, or nil.
func ValidPath(p string) error {
	switch {
	case p == "":
		return errors.New("path is empty")
	case strings.HasPrefix(p, "/"):
		return fmt.Errorf("path %q is absolute", p)
	case p == ".." || strings.HasPrefix(p, "../"):
		return fmt.Errorf("path %q leaves the root", p)
	case path.Clean(p) != p:
		return fmt.Errorf("path %q is not clean (want %q)", p, path.Clean(p))
	case strings.ContainsRune(p, 0):
		return fmt.Errorf("path %q has a NUL byte", p)
	}
	return nil
}

func (t *Tree) check() error {
	var errs []error
	types := make(map[string]Type, len(t.Entries))
	for i, e := range t.Entries {
		if err := ValidPath(e.Path); err != nil {
			errs = append(errs, err)
			continue
		}
		if i > 0 && t.Entries[i-1].Path == e.Path {
			errs = append(errs, fmt.Errorf("%s: twice, from %s and %s", e.Path, t.Entries[i-1].Owner, e.Owner))
		}
		if e.Path != "." {
			if parent := path.Dir(e.Path); types[parent] != Dir {
				errs = append(errs, t.parentError(e, parent))
			}
		}
		if err := e.check(); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", e.Path, err))
		}
		types[e.Path] = e.Type
	}
	for _, e := range t.Entries {
		if e.Type == Hardlink && types[e.Link] != File {
			errs = append(errs, fmt.Errorf("%s: hard link to %s, which is not a file of the tree", e.Path, e.Link))
		}
	}
	return errors.Join(errs...)
}

// parentError names who brought a file, and what it lies below.
func (t *Tree) parentError(e Entry, parent string) error {
	p := t.Lookup(parent)
	if p == nil {
		return fmt.Errorf("%s%s: its parent %s is not there", e.Path, from(e), parent)
	}
	return fmt.Errorf("%s%s: its parent %s is a %s%s, not a directory", e.Path, from(e), parent, p.Type, from(*p))
}

func from(e Entry) string {
	if e.Owner == "" {
		return ""
	}
	return " from " + e.Owner
}

func (e *Entry) check() error {
	switch e.Type {
	case File:
		if e.Size < 0 || e.Offset < 0 || e.Offset%Align != 0 {
			return fmt.Errorf("content at offset %d, %d bytes", e.Offset, e.Size)
		}
		if e.Size > 0 && (e.Blob == nil || e.Offset+e.Size > e.Blob.Size) {
			return errors.New("content is outside its blob")
		}
	case Symlink, Hardlink:
		if e.Link == "" {
			return errors.New("link without a target")
		}
	case Dir, Char, Block, Fifo:
	default:
		return fmt.Errorf("unknown type %q", e.Type)
	}
	if e.Perm > 0o7777 {
		return fmt.Errorf("permission bits %#o", e.Perm)
	}
	return nil
}
