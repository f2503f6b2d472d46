package rootfs

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/coreos/go-systemd/v22/unit"

	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/merge"
	"github.com/nodebake/bake/bake/tree"
)

// addUnits installs the units where the guide has them. Their programs are
// looked for when everything is in place, by enableUnits.
func (l *layout) addUnits() error {
	if l.Units == nil {
		return nil
	}
	entries, err := fs.ReadDir(l.Units, ".")
	if err != nil {
		return err
	}
	m := merge.NewMemory("units")
	var errs []error
	for _, entry := range entries {
		name := entry.Name()
		if !isUnit(name) {
			continue // a Go file that embeds them, say
		}
		text, err := fs.ReadFile(l.Units, name)
		if err != nil {
			return err
		}
		e := m.Add(tree.Entry{
			Path: path.Join(unitDir, name), Type: tree.File, Perm: 0o644, Size: int64(len(text)), Owner: "unit " + name,
		}, text)
		_, err = l.Add(e)
		errs = append(errs, err)
	}
	errs = append(errs, m.Close())
	return errors.Join(errs...)
}

func isUnit(name string) bool {
	return slices.Contains([]string{".service", ".socket", ".target", ".timer", ".mount", ".path", ".slice", ".automount"}, path.Ext(name))
}

// enableUnits checks the units that are ours, makes the links that enable
// units, as systemctl(1) does, and masks others.
func (l *layout) enableUnits() error {
	errs := []error{l.checkUnits()}
	for _, u := range l.Definition.Units.Mask {
		p := path.Join(unitDir, u.Name)
		if strings.HasSuffix(u.Name, "-generator") {
			p = path.Join("etc/systemd/system-generators", u.Name)
		}
		if old, ok := l.Entries[p]; ok {
			errs = append(errs, at(u.Pos, fmt.Errorf("%s cannot be masked: /%s is from %s", u.Name, p, old.Owner)))
			continue
		}
		l.link(p, "/dev/null")
	}
	for _, u := range l.Definition.Units.Enable {
		errs = append(errs, at(u.Pos, l.enable(u, map[string]bool{})))
	}
	return errors.Join(errs...)
}

// unitFile returns the file of a unit, which for an instance is its template's.
func (l *layout) unitFile(name string) (tree.Entry, error) {
	names := []string{name}
	if prefix, rest, ok := strings.Cut(name, "@"); ok {
		names = append(names, prefix+"@"+path.Ext(rest))
	}
	for _, n := range names {
		for _, dir := range []string{unitDir, vendorUnitDir} {
			if e, ok := l.Entries[path.Join(dir, n)]; ok {
				return e, nil
			}
		}
	}
	return tree.Entry{}, fmt.Errorf("no unit %s in the image", name)
}

// enable makes the links that a unit's [Install] section asks for. Drop-ins
// are not read.
func (l *layout) enable(u manifest.UnitName, done map[string]bool) error {
	if done[u.Name] {
		return nil
	}
	done[u.Name] = true
	file, err := l.unitFile(u.Name)
	if err != nil {
		return err
	}
	if file.Type == tree.Symlink {
		return fmt.Errorf("%s is a link to %s: it is masked, or another name of that unit", u.Name, file.Link)
	}
	text, err := l.Read(file.Path)
	if err != nil {
		return err
	}
	options, err := unit.DeserializeOptions(bytes.NewReader(text))
	if err != nil {
		return fmt.Errorf("%s: %w", u.Name, err)
	}
	links := 0
	for _, o := range options {
		if o.Section != "Install" {
			continue
		}
		for value := range strings.FieldsSeq(o.Value) {
			if strings.Contains(value, "%") {
				return fmt.Errorf("%s: %s=%s: specifiers are not supported", u.Name, o.Name, value)
			}
			p := ""
			switch o.Name {
			case "WantedBy":
				p = path.Join(unitDir, value+".wants", u.Name)
			case "RequiredBy":
				p = path.Join(unitDir, value+".requires", u.Name)
			case "UpheldBy":
				p = path.Join(unitDir, value+".upholds", u.Name)
			case "Alias":
				p = path.Join(unitDir, value)
			case "Also":
				if l.masked(value) {
					continue
				}
				if err := l.enable(manifest.UnitName{Name: value, Pos: u.Pos}, done); err != nil {
					return err
				}
				links++
				continue
			default:
				return fmt.Errorf("%s: [Install] has %s=, which is not supported", u.Name, o.Name)
			}
			l.link(p, "/"+file.Path)
			links++
		}
	}
	if links == 0 {
		return fmt.Errorf("%s has no [Install] section, so that it cannot be enabled: something else starts it", u.Name)
	}
	return nil
}

func (l *layout) masked(name string) bool {
	return slices.ContainsFunc(l.Definition.Units.Mask, func(u manifest.UnitName) bool { return u.Name == name })
}

// checkUnits parses the units of the definition and of Units.
func (l *layout) checkUnits() error {
	var errs []error
	for _, p := range l.Below(unitDir) {
		e := l.Entries[p]
		ours := e.Owner == definitionOrigin || strings.HasPrefix(e.Owner, "unit ")
		if _, ok := l.File(p); path.Dir(p) != unitDir || !ok || !ours || !isUnit(p) {
			continue
		}
		text, err := l.Read(p)
		if err != nil {
			return err
		}
		errs = append(errs, checkUnit(path.Base(p), text, func(program string) bool {
			e, ok := l.File(program)
			return ok && e.Perm&0o111 != 0
		}))
	}
	return errors.Join(errs...)
}

// checkUnit parses a unit and looks for the programs that it runs. Errors
// begin with file and line.
func checkUnit(name string, text []byte, executable func(path string) bool) error {
	options, err := unit.DeserializeOptions(bytes.NewReader(text))
	if err != nil {
		return fmt.Errorf("%s:%d: %w", name, errorLine(text, err), err)
	}
	var errs []error
	start := false
	for _, o := range options {
		if !knownSection(o.Section) {
			errs = append(errs, fmt.Errorf("%s:%d: unknown section [%s]", name, lineOf(text, "["+o.Section+"]"), o.Section))
			continue
		}
		if o.Section != "Service" || !strings.HasPrefix(o.Name, "Exec") || o.Value == "" {
			continue
		}
		start = start || o.Name == "ExecStart"
		words := strings.Fields(o.Value)
		program := strings.TrimLeft(words[0], "@:+!|")
		if optional := strings.HasPrefix(program, "-"); optional {
			continue
		}
		line := lineOf(text, o.Name+"="+words[0])
		switch {
		case !strings.HasPrefix(program, "/"):
			errs = append(errs, fmt.Errorf("%s:%d: %s: want the absolute path of a program, found %q", name, line, o.Name, program))
		case !executable(program):
			errs = append(errs, fmt.Errorf("%s:%d: %s: %s is not an executable file of the image", name, line, o.Name, program))
		}
	}
	if path.Ext(name) == ".service" && !start {
		errs = append(errs, fmt.Errorf("%s:1: no ExecStart= in [Service]", name))
	}
	return errors.Join(errs...)
}

func knownSection(s string) bool {
	return strings.HasPrefix(s, "X-") ||
		slices.Contains([]string{"Unit", "Service", "Install", "Socket", "Timer", "Path", "Mount", "Automount", "Slice", "Scope"}, s)
}

// errorLine finds the line of a parse error, which the parser does not tell:
// the first line that, with those before it, gives the same error.
func errorLine(text []byte, want error) int {
	line := 0
	for i, b := range text {
		if b != '\n' && i < len(text)-1 {
			continue
		}
		line++
		if _, err := unit.DeserializeOptions(bytes.NewReader(text[:i+1])); err != nil && err.Error() == want.Error() {
			return line
		}
	}
	return max(line, 1)
}

func lineOf(text []byte, prefix string) int {
	number := 0
	for line := range bytes.Lines(text) {
		number++
		if bytes.HasPrefix(bytes.TrimSpace(line), []byte(prefix)) {
			return number
		}
	}
	return 1
}
