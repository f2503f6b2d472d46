package merge

import (
	"fmt"
	"slices"
	"strings"
)

// control is a stanza of fields, in their order (deb-control(5)). A value that
// goes on over several lines keeps its line breaks and the blank before each
// further line.
type Control []field

type field struct{ name, value string }

// Get returns the value of a field, or "".
func (c Control) Get(name string) string {
	for _, f := range c {
		if strings.EqualFold(f.name, name) {
			return f.value
		}
	}
	return ""
}

// ParseControl reads a package's control file, which holds one stanza.
func ParseControl(text []byte) (Control, error) {
	var c Control
	for line := range strings.Lines(strings.TrimRight(string(text), "\n")) {
		line = strings.TrimRight(line, " \t\n")
		switch {
		case line == "":
			return nil, fmt.Errorf("an empty line ends the stanza, and more follows")
		case line[0] == ' ' || line[0] == '\t':
			if len(c) == 0 {
				return nil, fmt.Errorf("first line %q continues nothing", line)
			}
			c[len(c)-1].value += "\n" + line
		default:
			name, value, ok := strings.Cut(line, ":")
			if !ok || name == "" || strings.ContainsAny(name, " \t") {
				return nil, fmt.Errorf("%q is not a field", line)
			}
			if c.Get(name) != "" {
				return nil, fmt.Errorf("field %s stands twice", name)
			}
			c = append(c, field{name, strings.TrimLeft(value, " \t")})
		}
	}
	return c, nil
}

// statusOrder is the order in which dpkg writes the fields that it knows to
// its status file (dpkg, lib/dpkg/parse.c). Others follow as they came.
var statusOrder = [...]string{
	"Package", "Essential", "Protected", "Status", "Priority", "Section", "Installed-Size", "Origin", "Maintainer",
	"Bugs", "Architecture", "Multi-Arch", "Source", "Version", "Config-Version", "Replaces", "Provides", "Depends",
	"Pre-Depends", "Recommends", "Suggests", "Breaks", "Conflicts", "Enhances", "Conffiles", "Description",
}

// Status returns the stanza of an installed package in dpkg's status file.
// conffiles holds lines " PATH MD5".
func (c Control) Status(conffiles []string) string {
	c = append(slices.Clone(c), field{"Status", "install ok installed"})
	if len(conffiles) > 0 {
		c = append(c, field{"Conffiles", "\n" + strings.Join(conffiles, "\n")})
	}
	rank := func(f field) int {
		if i := slices.IndexFunc(statusOrder[:], func(name string) bool { return strings.EqualFold(name, f.name) }); i >= 0 {
			return i
		}
		return len(statusOrder)
	}
	slices.SortStableFunc(c, func(a, b field) int { return rank(a) - rank(b) })
	var out strings.Builder
	for _, f := range c {
		out.WriteString(f.name + ":")
		if !strings.HasPrefix(f.value, "\n") && f.value != "" {
			out.WriteString(" ")
		}
		out.WriteString(f.value + "\n")
	}
	return out.String()
}
