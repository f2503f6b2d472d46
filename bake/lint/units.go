package lint

import (
	"fmt"
	"path"
	"strings"

	"github.com/coreos/go-systemd/v22/unit"

	"github.com/nodebake/bake/bake/tree"
)

// unitDirs are where systemd looks for units, the first one first
// (systemd.unit(5)).
func unitDirs() []string {
	return []string{"etc/systemd/system", "usr/local/lib/systemd/system", "usr/lib/systemd/system"}
}

// options reads a file in the syntax of units (systemd.syntax(7)).
func (f *files) options(p string) ([]*unit.UnitOption, error) {
	text, err := f.Text(p)
	if err != nil {
		return nil, err
	}
	options, err := unit.DeserializeOptions(strings.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("/%s: %w", p, err)
	}
	return options, nil
}

// values returns all values of an option, from the last empty one on.
func values(options []*unit.UnitOption, section, name string) []string {
	var all []string
	for _, o := range options {
		switch {
		case o.Section != section || o.Name != name:
		case o.Value == "":
			all = nil
		default:
			all = append(all, o.Value)
		}
	}
	return all
}

// last returns the value that counts of an option that takes one.
func last(options []*unit.UnitOption, section, name string) string {
	all := values(options, section, name)
	if len(all) == 0 {
		return ""
	}
	return all[len(all)-1]
}

// unitFile returns the path of a unit's file, and whether the unit is masked.
// "" means that there is none.
func (f *files) unitFile(name string) (p string, masked bool) {
	for _, dir := range unitDirs() {
		p := path.Join(dir, name)
		n := f.Lookup(p)
		if n == nil {
			continue
		}
		if n.Type == tree.Symlink && n.Link == "/dev/null" || n.Type == tree.File && n.Size == 0 {
			return p, true
		}
		if _, err := f.Resolve(p); err == nil {
			return p, false
		}
	}
	return "", false
}

// pulledBy returns the links that make systemd start a unit: in directories
// NAME.wants, .requires and .upholds, unless the unit is masked.
func (f *files) pulledBy(name string) []string {
	if _, masked := f.unitFile(name); masked {
		return nil
	}
	var links []string
	for _, dir := range unitDirs() {
		for n := range f.In(dir) {
			switch path.Ext(n.Path) {
			case ".wants", ".requires", ".upholds":
				if link := path.Join(n.Path, name); f.Lookup(link) != nil {
					links = append(links, link)
				}
			}
		}
	}
	return links
}

// checkUnit says what is wrong with a unit that must be there: it is masked, its
// program is missing, or it is or is not started at boot.
func (f *files) checkUnit(name string, started bool) []string {
	var p problems
	file, masked := f.unitFile(name)
	switch {
	case file == "":
		p.add("there is no unit %s", name)
		return p
	case masked:
		p.add("%s is masked by /%s", name, file)
		return p
	}
	options, err := f.options(file)
	if err != nil {
		return wrong(err)
	}
	for _, command := range values(options, "Service", "ExecStart") {
		program, _, _ := strings.Cut(strings.TrimLeft(command, "@-:+!|"), " ")
		n, err := f.Resolve(program)
		switch {
		case err != nil:
			p.add("%s starts %s, which is not there", name, program)
		case n.Type != tree.File || n.Perm&0o111 == 0:
			p.add("%s starts %s, which is not a program", name, program)
		}
	}
	switch links := f.pulledBy(name); {
	case started && len(links) == 0:
		p.add("%s is not enabled", name)
	case !started && len(links) > 0:
		p.add("%s is enabled by /%s", name, strings.Join(links, ", /"))
	}
	return p
}
