package deb

import (
	"archive/tar"
	"bytes"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/nodebake/bake/bake/source/debian/deb822"
	"github.com/nodebake/bake/bake/tree"
)

// Control is a package's control file (deb-control(5)).
type Control struct {
	Package      string
	Version      string
	Architecture string
	deb822.Stanza

	md5sums map[string][md5.Size]byte // by path
}

// ParseControl parses a control file: one stanza, with at least the three
// fields that identify a package.
func ParseControl(r io.Reader) (*Control, error) {
	s, err := deb822.ReadOne(r)
	if err != nil {
		return nil, err
	}
	c := &Control{Stanza: s}
	for _, f := range []struct {
		name string
		to   *string
	}{{"Package", &c.Package}, {"Version", &c.Version}, {"Architecture", &c.Architecture}} {
		if *f.to = s.Get(f.name); *f.to == "" || strings.ContainsAny(*f.to, " \t\n/") {
			return nil, fmt.Errorf("field %s is %q", f.name, *f.to)
		}
	}
	return c, nil
}

// Check compares what the package says of itself with what it was taken for.
func (c *Control) Check(name, version, arch string) error {
	if c.Package != name || c.Version != version || c.Architecture != arch {
		return fmt.Errorf("the package says that it is %s %s for %s, want %s %s for %s",
			c.Package, c.Version, c.Architecture, name, version, arch)
	}
	return nil
}

// controlFile is a member of control.tar.
type controlFile struct {
	name    string
	perm    uint16
	mtime   int64
	content []byte
}

// readControlTar reads control.tar, whose size the caller bounds.
func readControlTar(r io.Reader) ([]controlFile, error) {
	var files []controlFile
	seen := make(map[string]bool)
	archive := tar.NewReader(r)
	for {
		h, err := archive.Next()
		if err == io.EOF {
			return files, nil
		}
		if err != nil {
			return nil, err
		}
		name, err := cleanName(h.Name)
		switch {
		case err != nil:
			return nil, err
		case name == "." && h.Typeflag == tar.TypeDir:
			continue
		case h.Typeflag != tar.TypeReg || strings.Contains(name, "/") || name == ".":
			return nil, fmt.Errorf("%s is not a plain file at the top", name)
		case seen[name]:
			return nil, fmt.Errorf("%s is there twice", name)
		}
		seen[name] = true
		content, err := io.ReadAll(archive)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		files = append(files, controlFile{name, uint16(h.Mode & 0o7777), h.ModTime.Unix(), content})
	}
}

// addControl adds files to the pack, after checking the two that matter here.
func addControl(files []controlFile, w *tree.PackWriter) (*Control, error) {
	var c *Control
	var sums map[string][md5.Size]byte
	for _, f := range files {
		var err error
		switch f.name {
		case "control":
			c, err = ParseControl(bytes.NewReader(f.content))
		case "md5sums":
			sums, err = parseMD5Sums(f.content)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.name, err)
		}
	}
	if c == nil {
		return nil, errors.New("there is no file control")
	}
	c.md5sums = sums
	for _, f := range files {
		e := tree.Entry{Path: "DEBIAN/" + f.name, Type: tree.File, Perm: f.perm, MTime: f.mtime, Size: int64(len(f.content))}
		if err := w.Add(e, bytes.NewReader(f.content)); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// parseMD5Sums parses the file that dh_md5sums(1) makes: a digest and a path
// on each line. It guards against a package that was put together wrongly, not
// against an attacker: MD5 does not.
func parseMD5Sums(content []byte) (map[string][md5.Size]byte, error) {
	sums := make(map[string][md5.Size]byte)
	line := 0
	for text := range strings.Lines(string(content)) {
		line++
		text = strings.TrimSuffix(text, "\n")
		digits, name, ok := strings.Cut(text, " ")
		var sum [md5.Size]byte
		if !ok || len(digits) != hex.EncodedLen(md5.Size) || len(name) < 2 || name[0] != ' ' && name[0] != '*' {
			return nil, fmt.Errorf("line %d is not a digest and a path", line)
		}
		if _, err := hex.Decode(sum[:], []byte(digits)); err != nil {
			return nil, fmt.Errorf("line %d: %w", line, err)
		}
		name, err := cleanName(name[1:])
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", line, err)
		}
		if before, twice := sums[name]; twice && before != sum {
			return nil, fmt.Errorf("line %d: %s is there twice, with different digests", line, name)
		}
		sums[name] = sum
	}
	return sums, nil
}
