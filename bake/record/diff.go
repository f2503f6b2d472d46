package record

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Change is one thing in which two images differ. Old is empty for what was
// added, New for what was removed.
type Change struct {
	Kind string `json:"kind"` // "input", "kernel argument", "node", "component", "container image", "package", "partition", "file"
	Name string `json:"name"`
	Old  string `json:"old,omitempty"`
	New  string `json:"new,omitempty"`
}

// String writes c as a line: "+ package jq 1.7.1-6", "- file /etc/motd",
// "~ component kubelet: v1.36.3 -> v1.36.4".
func (c Change) String() string {
	switch {
	case c.Old == "":
		return strings.TrimSpace(fmt.Sprintf("+ %s %s %s", c.Kind, c.Name, c.New))
	case c.New == "":
		return strings.TrimSpace(fmt.Sprintf("- %s %s %s", c.Kind, c.Name, c.Old))
	}
	return fmt.Sprintf("~ %s %s: %s -> %s", c.Kind, c.Name, c.Old, c.New)
}

// Diff returns in what b differs from a: inputs, kernel arguments, the node's
// settings, components, container images, packages, partitions, then files, each
// sorted by name. Records without files, such as the one inside an image, are
// compared as far as they go.
func Diff(a, b *Record) []Change {
	var changes []Change
	for _, kind := range []struct {
		name string
		of   func(*Record) map[string]string
	}{
		{"input", inputs},
		{"kernel argument", kernelArguments},
		{"node", node},
		{"component", components},
		{"container image", images},
		{"package", packages},
		{"partition", partitions},
		{"file", files},
	} {
		changes = append(changes, diff(kind.name, kind.of(a), kind.of(b))...)
	}
	return changes
}

// Summary is the short form of a comparison: which components, container images
// and packages differ, and how many things of every kind.
type Summary struct {
	Components []Change `json:"components"`
	Images     []Change `json:"images"`
	Packages   []Change `json:"packages"`
	Counts     []Count  `json:"counts"` // of the kinds that have changes, in their order
}

// Count says how many things of a kind differ.
type Count struct {
	Kind    string `json:"kind"` // of Change
	Added   int    `json:"added"`
	Removed int    `json:"removed"`
	Changed int    `json:"changed"`
}

// String writes c without its kind: "2 added, 1 changed".
func (c Count) String() string {
	var parts []string
	for _, p := range []struct {
		n    int
		what string
	}{{c.Added, "added"}, {c.Removed, "removed"}, {c.Changed, "changed"}} {
		if p.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", p.n, p.what))
		}
	}
	return strings.Join(parts, ", ")
}

// Summarize sums up what Diff returned.
func Summarize(changes []Change) Summary {
	s := Summary{Components: []Change{}, Images: []Change{}, Packages: []Change{}, Counts: []Count{}}
	for _, c := range changes {
		switch c.Kind {
		case "component":
			s.Components = append(s.Components, c)
		case "container image":
			s.Images = append(s.Images, c)
		case "package":
			s.Packages = append(s.Packages, c)
		}
		if n := len(s.Counts); n == 0 || s.Counts[n-1].Kind != c.Kind {
			s.Counts = append(s.Counts, Count{Kind: c.Kind})
		}
		count := &s.Counts[len(s.Counts)-1]
		switch {
		case c.Old == "":
			count.Added++
		case c.New == "":
			count.Removed++
		default:
			count.Changed++
		}
	}
	return s
}

func diff(kind string, old, new map[string]string) []Change {
	var changes []Change
	for name, o := range old {
		if n, ok := new[name]; !ok || n != o {
			changes = append(changes, Change{kind, name, o, n})
		}
	}
	for name, n := range new {
		if _, ok := old[name]; !ok {
			changes = append(changes, Change{kind, name, "", n})
		}
	}
	slices.SortFunc(changes, func(x, y Change) int { return cmp.Compare(x.Name, y.Name) })
	return changes
}

func inputs(m *Record) map[string]string {
	out := map[string]string{
		"versions":   string(m.Inputs.Versions),
		"lock":       string(m.Inputs.Lock),
		"definition": string(m.Inputs.Definition),
		"units":      string(m.Inputs.Units),
	}
	if m.Inputs.DefinitionFrom != "" {
		out["definition's directory"] = m.Inputs.DefinitionFrom
	}
	for name, sum := range m.Inputs.Programs {
		out[name] = string(sum)
	}
	for name, sum := range m.Inputs.Modules {
		out[name] = string(sum)
	}
	return out
}

func kernelArguments(m *Record) map[string]string {
	out := map[string]string{}
	for _, a := range m.KernelArguments {
		name, value, _ := strings.Cut(a, "=")
		// An argument may stand twice, as console= does.
		out[name] = strings.TrimSpace(out[name] + " " + cmp.Or(value, "set"))
	}
	return out
}

func node(m *Record) map[string]string {
	out := map[string]string{}
	if m.Node.RuntimeType != "" {
		out["runtime type"] = m.Node.RuntimeType
	}
	if m.Node.CgroupDriver != "" {
		out["cgroup driver"] = m.Node.CgroupDriver
	}
	if m.Node.SandboxImage != "" {
		out["sandbox image"] = m.Node.SandboxImage
	}
	return out
}

func components(m *Record) map[string]string {
	out := map[string]string{}
	for _, c := range m.Components {
		text := c.Version + " (" + c.Origin
		if c.Toolchain != "" {
			text += ", " + c.Toolchain
		}
		if c.Reports != nil {
			text += ", says " + c.Reports.Version
		}
		out[c.Name] = text + ")"
	}
	return out
}

func images(m *Record) map[string]string {
	out := map[string]string{}
	for _, c := range m.Images {
		text := c.Reference + "@" + string(c.Digest) + " (" + c.Origin
		if c.Toolchain != "" {
			text += ", " + c.Toolchain
		}
		out[c.Name] = text + ")"
	}
	return out
}

func packages(m *Record) map[string]string {
	out := map[string]string{}
	for _, p := range m.Packages {
		out[p.Name] = p.Version
	}
	for _, c := range m.Images {
		for _, p := range c.Packages {
			out[p.Name+" (image "+c.Name+")"] = p.Version
		}
	}
	return out
}

func partitions(m *Record) map[string]string {
	out := map[string]string{}
	for _, p := range m.Disk.Partitions {
		out[p.Name] = fmt.Sprintf("%s, %d bytes at %d", p.Type, p.Size, p.Start)
	}
	return out
}

func files(m *Record) map[string]string {
	out := make(map[string]string, len(m.Files))
	for _, e := range m.Files {
		text := fmt.Sprintf("%s %s %d:%d", e.Type, e.Mode, e.UID, e.GID)
		switch {
		case e.SHA256 != "":
			text += fmt.Sprintf(" %d bytes sha256:%s", e.Size, e.SHA256[:12])
		case e.Link != "":
			text += " to " + e.Link
		}
		for _, name := range slices.Sorted(maps.Keys(e.Xattrs)) {
			text += fmt.Sprintf(" %s=%x", name, e.Xattrs[name])
		}
		out[e.Path] = text
	}
	return out
}
