package deb

import (
	"archive/tar"
	"crypto/md5"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/nodebake/bake/bake/tree"
)

// maxLink is the longest text of a symbolic link in bytes, PATH_MAX without
// its NUL.
const maxLink = 4095

// xattrPrefix starts the PAX record of an extended attribute. dpkg writes none
// and refuses to read any, but other builders of packages make them.
const xattrPrefix = "SCHILY.xattr."

// data is what is known of data.tar so far.
type data struct {
	w       *tree.PackWriter
	max     limits
	entries map[string]seen
	size    int64                     // of the files, as declared
	want    map[string][md5.Size]byte // md5sums
	got     map[string][md5.Size]byte // of the files that md5sums names
}

// seen is a path that an entry has, or that lies above one.
type seen struct {
	typ  tree.Type
	file string // of a hard link, the file that it is another name of
	only bool   // there is no entry, only some below it
}

// addData adds the members of data.tar to w and compares them with sums.
func addData(r io.Reader, sums map[string][md5.Size]byte, max limits, w *tree.PackWriter) error {
	d := &data{w: w, max: max, entries: make(map[string]seen), want: sums, got: make(map[string][md5.Size]byte)}
	archive := tar.NewReader(r)
	for count := 1; ; count++ {
		h, err := archive.Next()
		if err == io.EOF {
			return d.checkSums()
		}
		if err != nil {
			return err
		}
		if count > max.entries {
			return fmt.Errorf("it has more than %d members", max.entries)
		}
		if err := d.add(h, archive); err != nil {
			return fmt.Errorf("member %q: %w", h.Name, err)
		}
	}
}

func (d *data) add(h *tar.Header, content io.Reader) error {
	e, err := entry(h)
	if err != nil {
		return err
	}
	if e.Path == "DEBIAN" || strings.HasPrefix(e.Path, "DEBIAN/") {
		return fmt.Errorf("the directory DEBIAN is for control files")
	}
	if e.Type == tree.Hardlink {
		target := d.entries[e.Link]
		switch {
		case target.typ == tree.Hardlink:
			e.Link = target.file
		case target.typ != tree.File:
			return fmt.Errorf("it is a hard link to %s, which is not a file before it", e.Link)
		}
	}
	if err := d.place(e); err != nil {
		return err
	}
	if e.Type != tree.File {
		return d.w.Add(e, nil)
	}
	if d.size += e.Size; d.size > d.max.data {
		return fmt.Errorf("the files have more than %d bytes", d.max.data)
	}
	if _, listed := d.want[e.Path]; !listed {
		return d.w.Add(e, content)
	}
	sum := md5.New()
	if err := d.w.Add(e, io.TeeReader(content, sum)); err != nil {
		return err
	}
	d.got[e.Path] = [md5.Size]byte(sum.Sum(nil))
	return nil
}

// entry translates a header.
func entry(h *tar.Header) (tree.Entry, error) {
	name, err := cleanName(h.Name)
	if err != nil {
		return tree.Entry{}, err
	}
	e := tree.Entry{Path: name, Perm: uint16(h.Mode & 0o7777), MTime: h.ModTime.Unix()}
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeGNUSparse:
		e.Type, e.Size = tree.File, h.Size
	case tar.TypeDir:
		e.Type = tree.Dir
	case tar.TypeSymlink:
		e.Type, e.Link = tree.Symlink, h.Linkname
		if e.Link == "" || len(e.Link) > maxLink || strings.ContainsRune(e.Link, 0) {
			return e, fmt.Errorf("it is a symbolic link to %q", e.Link)
		}
	case tar.TypeLink:
		e.Type = tree.Hardlink
		if e.Link, err = cleanName(h.Linkname); err != nil {
			return e, fmt.Errorf("hard link: %w", err)
		}
	default:
		// Devices and FIFOs among them, which no package may ship (Policy 10.6).
		return e, fmt.Errorf("its type %q is not one that a package has", h.Typeflag)
	}
	if e.Path == "." && e.Type != tree.Dir {
		return e, fmt.Errorf("the root is not a directory")
	}
	if e.UID, err = owner(h.Uname, h.Uid, fixedUsers); err != nil {
		return e, fmt.Errorf("user: %w", err)
	}
	if e.GID, err = owner(h.Gname, h.Gid, fixedGroups); err != nil {
		return e, fmt.Errorf("group: %w", err)
	}
	for key, value := range h.PAXRecords {
		if name, ok := strings.CutPrefix(key, xattrPrefix); ok {
			if e.Xattrs == nil {
				e.Xattrs = make(map[string][]byte)
			}
			e.Xattrs[name] = []byte(value)
		}
	}
	return e, nil
}

// place records e's path, and refuses one that is taken or lies below what is
// not a directory: unpacking it would write through a symbolic link.
func (d *data) place(e tree.Entry) error {
	if old, taken := d.entries[e.Path]; taken {
		if !old.only {
			return fmt.Errorf("it is there twice")
		}
		if e.Type != tree.Dir {
			return fmt.Errorf("it is no directory, and there are files below it")
		}
	}
	d.entries[e.Path] = seen{typ: e.Type, file: e.Link}
	for p := path.Dir(e.Path); p != "."; p = path.Dir(p) {
		old, known := d.entries[p]
		if known && old.typ != tree.Dir {
			return fmt.Errorf("it lies below %s, which is not a directory", p)
		}
		if known {
			break // and so is everything above
		}
		d.entries[p] = seen{typ: tree.Dir, only: true}
	}
	return nil
}

// checkSums compares the content with md5sums, which lists regular files and
// hard links but not conffiles.
func (d *data) checkSums() error {
	var lies []string
	for name, want := range d.want {
		file := name
		if d.entries[name].typ == tree.Hardlink {
			file = d.entries[name].file
			if _, ok := d.got[file]; !ok {
				continue // md5sums names this link and not the file it shares
			}
		}
		switch got, ok := d.got[file]; {
		case !ok:
			lies = append(lies, name+" is not there")
		case got != want:
			lies = append(lies, fmt.Sprintf("%s has MD5 %x, want %x", name, got, want))
		}
	}
	if len(lies) == 0 {
		return nil
	}
	slices.Sort(lies)
	if n := len(lies); n > 5 {
		lies = append(lies[:5], fmt.Sprintf("and %d more", n-5))
	}
	return fmt.Errorf("it does not hold what md5sums says: %s", strings.Join(lies, "; "))
}

// cleanName returns the path of a member without the "./" that dpkg-deb puts
// before and the slash that tar puts after directories.
func cleanName(name string) (string, error) {
	trimmed := strings.TrimPrefix(strings.TrimSuffix(name, "/"), "./")
	if trimmed == "" && (name == "./" || name == ".") {
		trimmed = "."
	}
	if err := tree.ValidPath(trimmed); err != nil {
		return "", fmt.Errorf("%q: %w", name, err)
	}
	return trimmed, nil
}
