package license

import (
	"bytes"
	"cmp"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/google/licensecheck"
)

// IsFile reports whether a file of a Go module is called like one that has its
// license.
func IsFile(name string) bool {
	return hasPrefix(name, "LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "UNLICENSE")
}

// IsNotice reports the same of files that go with a license and have to be handed
// on with it (Apache License 2.0, section 4.4).
func IsNotice(name string) bool { return hasPrefix(name, "NOTICE", "PATENTS") }

// hasPrefix goes by the names' beginning, without regard to case. Programs, and
// licenses of documentation, are none.
func hasPrefix(name string, prefixes ...string) bool {
	if slices.Contains([]string{".go", ".tmpl", ".docs"}, path.Ext(name)) {
		return false
	}
	return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(strings.ToUpper(name), p) })
}

// Directory is what a directory of a Go module has about its license.
type Directory struct {
	Module, Version string   // "k8s.io/kubernetes", "v1.36.3"
	Path            string   // in the module, "third_party/forked/golang"; "": all of it
	Licenses        [][]byte // the files that IsFile names, in their names' order
	Notices         [][]byte // those that IsNotice names
}

// What stands for the name of a license.
const (
	unknownText = "unknown"   // of one that was not recognized
	noText      = "as-module" // of a directory that has but a notice
)

// Copyright writes what directories have about their licenses as a copyright file
// of DEP-5 that is about component. Directories of which all is the same are
// together. Names of licenses are those that package licensecheck finds; what it
// does not find at least three quarters of is "unknown".
func Copyright(component, source string, directories []Directory) []byte {
	type paragraph struct{ license, text, notice string }
	of := map[paragraph][]string{}
	for _, d := range directories {
		p := paragraph{identify(d.Licenses), join(d.Licenses), join(d.Notices)}
		of[p] = append(of[p], path.Join(d.Module+"@"+d.Version, d.Path)+"/*")
	}
	for p := range of {
		slices.Sort(of[p])
	}
	sorted := slices.SortedFunc(maps.Keys(of), func(a, b paragraph) int {
		return cmp.Or(slices.Compare(of[a], of[b]), strings.Compare(a.text, b.text), strings.Compare(a.notice, b.notice))
	})
	var out bytes.Buffer
	out.WriteString("Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n")
	out.WriteString("Upstream-Name: " + component + "\nSource: " + source + "\n")
	for _, p := range sorted {
		out.WriteString("\nFiles: " + strings.Join(of[p], " ") + "\n")
		out.WriteString("Copyright: " + strings.Join(copyrights(p.text), "\n ") + "\n")
		out.WriteString("License: " + p.license + "\n" + continued(p.text))
		if p.notice != "" {
			out.WriteString("Comment:\n" + continued(p.notice))
		}
	}
	return out.Bytes()
}

// identify returns the names of the licenses that texts are, as DEP-5 joins them.
func identify(texts [][]byte) string {
	if len(texts) == 0 {
		return noText
	}
	ids := identifiers()
	var names []string
	for _, text := range texts {
		found := licensecheck.Scan(text)
		if found.Percent < 75 {
			return unknownText
		}
		for _, m := range found.Match {
			id := identifier(ids, m.ID)
			if id == "" {
				return unknownText
			}
			names = append(names, id)
		}
	}
	if len(names) == 0 {
		return unknownText
	}
	slices.Sort(names)
	return strings.Join(slices.Compact(names), " and ")
}

func join(texts [][]byte) string {
	var all []string
	for _, text := range texts {
		clean := strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(strings.ToValidUTF8(string(text), "?"))
		all = append(all, strings.Trim(clean, "\n"))
	}
	return strings.Join(all, "\n\n")
}

// continued returns text as lines that continue a field (Debian policy 5.6.13).
func continued(text string) string {
	var out strings.Builder
	for line := range strings.SplitSeq(text, "\n") {
		line = strings.TrimRight(line, " \t")
		if line == "" {
			line = "."
		}
		out.WriteString(" " + line + "\n")
	}
	return out.String()
}

var copyrightLine = regexp.MustCompile(`(?i)^\W*copyright( \(c\)| ©)? \d{4}.*$`)

// copyrights returns the lines of a text that say whose it is.
func copyrights(text string) []string {
	var out []string
	for line := range strings.SplitSeq(text, "\n") {
		line = strings.TrimSpace(line)
		if copyrightLine.MatchString(line) && !slices.Contains(out, line) {
			out = append(out, line)
		}
	}
	if len(out) == 0 {
		return []string{"see the license"}
	}
	return out
}

// Modules returns what a file that Copyright wrote says of each module, by
// MODULE@VERSION. Of a module with a license that was not recognized it says
// nothing.
func Modules(text []byte) map[string]License {
	found := map[string]*expression{}
	for _, p := range split(string(text)) {
		for files := range strings.FieldsSeq(p["files"]) {
			name, rest, _ := strings.Cut(files, "@")
			version, _, _ := strings.Cut(rest, "/")
			e := found[name+"@"+version]
			if e == nil {
				e = &expression{refs: map[string]string{}, ids: identifiers()}
				found[name+"@"+version] = e
			}
			switch p["license"] {
			case noText:
			case unknownText:
				e.add("")
			default:
				e.add(p["license"])
			}
		}
	}
	out := map[string]License{}
	for name, e := range found {
		if l := e.license(); l.Expression != "" {
			out[name] = l
		}
	}
	return out
}
