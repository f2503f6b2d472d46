// Package aptconf reads which archives a host's apt fetches from, in both of
// its formats (sources.list(5)): one line per source, and deb822 stanzas.
//
// It reads the directory of apt's defaults, not apt.conf. An entry or a file
// that it does not understand is skipped: a host's configuration is not our
// input to check, and apt itself reports what is wrong with it.
package aptconf

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/nodebake/bake/bake/source/debian/deb822"
)

// Source is one URI of an entry for binary packages.
type Source struct {
	URI        string
	Suites     []string
	Components []string
	SignedBy   string // a path, several, fingerprints or a key; "": any key that apt trusts
}

// Read returns the enabled sources for binary packages in the order in which
// apt reads them. fsys is rooted at the root directory of the host. Files that
// are not there or may not be read count as empty.
func Read(fsys fs.FS) ([]Source, error) {
	var sources []Source
	names := []string{"etc/apt/sources.list"}
	const parts = "etc/apt/sources.list.d"
	entries, err := fs.ReadDir(fsys, parts)
	if err := ignorable(err); err != nil {
		return nil, fmt.Errorf("reading apt's sources: %w", err)
	}
	for _, e := range entries { // sorted by name
		if validName(e.Name()) {
			names = append(names, path.Join(parts, e.Name()))
		}
	}
	for _, name := range names {
		data, err := fs.ReadFile(fsys, name)
		if err := ignorable(err); err != nil {
			return nil, fmt.Errorf("reading apt's sources: %w", err)
		}
		if strings.HasSuffix(name, ".sources") {
			sources = append(sources, ParseStanzas(data)...)
		} else {
			sources = append(sources, ParseLines(data)...)
		}
	}
	return expandLists(fsys, sources)
}

// ignorable drops the errors of a file that is not there, or is kept from us,
// as one with a password in it is.
func ignorable(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return nil
	}
	return err
}

// validName reports whether apt reads a file of that name: letters, digits,
// "_", "-" and ".", and one of two extensions.
func validName(name string) bool {
	if ext := path.Ext(name); ext != ".list" && ext != ".sources" {
		return false
	}
	for i := range len(name) {
		c := name[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("_-.", c) >= 0) {
			return false
		}
	}
	return true
}

// ParseLines parses the one-line format:
//
//	deb [ option=value ... ] URI SUITE [COMPONENT ...]
func ParseLines(data []byte) []Source {
	var sources []Source
	for line := range strings.Lines(string(data)) {
		line, _, _ = strings.Cut(line, "#")
		rest, ok := strings.CutPrefix(strings.TrimSpace(line), "deb")
		if !ok || strings.TrimLeft(rest, " \t") == rest {
			continue // empty, deb-src, or something else
		}
		var s Source
		rest = strings.TrimSpace(rest)
		if inner, ok := strings.CutPrefix(rest, "["); ok {
			options, after, closed := strings.Cut(inner, "]")
			if !closed {
				continue
			}
			rest = after
			for option := range strings.FieldsSeq(options) {
				switch key, value, _ := strings.Cut(option, "="); strings.ToLower(key) {
				case "signed-by":
					s.SignedBy = value
				}
			}
		}
		fields := strings.Fields(rest)
		if len(fields) < 2 {
			continue
		}
		s.URI, s.Suites, s.Components = fields[0], fields[1:2], fields[2:]
		sources = append(sources, s)
	}
	return sources
}

// ParseStanzas parses the deb822 format. What follows a line that breaks the
// format is lost.
func ParseStanzas(data []byte) []Source {
	var sources []Source
	reader := deb822.NewReader(bytes.NewReader(data), "Types", "URIs", "Suites", "Components", "Signed-By", "Enabled")
	reader.Comments = true
	for {
		s, err := reader.Next()
		if err != nil { // io.EOF among them
			return sources
		}
		if disabled(s.Get("Enabled")) || !slices.Contains(strings.Fields(s.Get("Types")), "deb") {
			continue
		}
		for uri := range strings.FieldsSeq(s.Get("URIs")) {
			sources = append(sources, Source{
				URI:        uri,
				Suites:     strings.Fields(s.Get("Suites")),
				Components: strings.Fields(s.Get("Components")),
				SignedBy:   strings.TrimSpace(s.Get("Signed-By")),
			})
		}
	}
}

// disabled knows the words that apt takes for "no".
func disabled(s string) bool {
	switch strings.ToLower(s) {
	case "no", "false", "without", "off", "disable", "0":
		return true
	}
	return false
}

// expandLists replaces each mirror+file: URI, as Debian's cloud images have
// them, by the mirrors that the file names (apt-transport-mirror(1)).
func expandLists(fsys fs.FS, sources []Source) ([]Source, error) {
	var expanded []Source
	for _, s := range sources {
		name, ok := strings.CutPrefix(s.URI, "mirror+file:")
		if !ok {
			expanded = append(expanded, s)
			continue
		}
		name = path.Clean(strings.TrimLeft(name, "/"))
		if !fs.ValidPath(name) {
			continue
		}
		data, err := fs.ReadFile(fsys, name)
		if err := ignorable(err); err != nil {
			return nil, fmt.Errorf("reading apt's list of mirrors: %w", err)
		}
		for line := range strings.Lines(string(data)) {
			line, _, _ = strings.Cut(line, "#")
			if fields := strings.Fields(line); len(fields) > 0 {
				one := s
				one.URI = fields[0]
				expanded = append(expanded, one)
			}
		}
	}
	return expanded, nil
}
