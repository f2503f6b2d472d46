package manifest

import (
	"fmt"
	"io/fs"
	"path"
	"strings"
)

// files reads the list of members to take out of an artifact.
func (v value) files() []File {
	items := v.list()
	if len(items) == 0 {
		v.errorf("empty (say at least one file)")
	}
	out := make([]File, 0, len(items))
	for _, item := range items {
		out = append(out, readFile(item))
	}
	return out
}

func readFile(v value) File {
	m := v.mapping()
	f := File{Mode: 0o755, Pos: v.pos()}
	member, target := m.optional("member"), m.required("path")
	f.Member = member.checked(checkMember)
	f.Path = target.checked(func(s string) error { return checkInstallPath(s, member.present()) })
	if mode := m.optional("mode"); mode.present() {
		f.Mode = mode.mode()
	}
	if isPattern(f.Member) && f.Path != "" && !strings.HasSuffix(f.Path, "/") {
		target.errorf("%q may be several files, and they go to a directory (write %s/)", f.Member, f.Path)
	}
	return f
}

// checkMember checks a pattern of archive members, as path.Match takes it.
func checkMember(s string) error {
	switch _, err := path.Match(s, ""); {
	case err != nil:
		return fmt.Errorf("%q is not a pattern (an unclosed [ or a \\ at its end; see the package documentation of Go's path.Match)", s)
	case strings.ContainsAny(s, "{}"):
		return fmt.Errorf("%q has a placeholder, which members have none of (write * for what varies)", s)
	case strings.HasPrefix(s, "/"):
		return fmt.Errorf("%q is absolute; members are not (remove the /)", s)
	case !fs.ValidPath(s) || s == ".":
		return fmt.Errorf("%q is not clean (no ./, no .., no // and no / at the end)", s)
	}
	return nil
}

// checkInstallPath checks a path of the image: absolute and clean. Where a
// directory may stand for the files in it, it may end with a slash.
func checkInstallPath(s string, dirAllowed bool) error {
	clean := s
	if dirAllowed {
		clean = strings.TrimSuffix(s, "/")
	}
	switch {
	case !strings.HasPrefix(s, "/"):
		return fmt.Errorf("%q is not absolute (begin with /)", s)
	case strings.HasSuffix(s, "/") && !dirAllowed:
		return fmt.Errorf("%q is a directory (write the whole path of the file)", s)
	case path.Clean(s) == "/" || path.Clean(clean) != clean:
		return fmt.Errorf("%q is not clean (no . or .., no //, and not / itself)", s)
	}
	return nil
}

// isPattern says whether a member may match more than the name it spells.
func isPattern(member string) bool { return strings.ContainsAny(member, `*?[\`) }

// target is the path that f installs to, or "" where only the artifact tells.
func (f File) target() string {
	switch {
	case !strings.HasSuffix(f.Path, "/"):
		return f.Path
	case isPattern(f.Member):
		return ""
	}
	return f.Path + path.Base(f.Member)
}

// mayInstall says whether f can be what installs the file at target.
func (f File) mayInstall(target string) bool {
	if t := f.target(); t != "" {
		return t == target
	}
	ok, err := path.Match(path.Base(f.Member), path.Base(target))
	return err == nil && ok && path.Dir(target)+"/" == f.Path
}

// checkPaths reports files that would be installed twice, and programs of a
// module that the release of the same component does not have: the image would
// have other files when it is built from source.
func checkPaths(d *document, components []Component) {
	type owner struct {
		component, origin string
		line              int
	}
	owners := map[string][]owner{} // by installed path
	claim := func(component, origin, target string, pos Pos) {
		if target == "" {
			return
		}
		for _, o := range owners[target] {
			if o.component != component || o.origin == origin {
				d.report(pos, "components."+component+"."+origin, fmt.Sprintf(
					"%s is already installed by %s on line %d", target, o.component, o.line))
				return
			}
		}
		owners[target] = append(owners[target], owner{component, origin, pos.Line})
	}
	for _, c := range components {
		if c.Release != nil {
			for _, f := range c.Release.Files {
				claim(c.Name, "release", f.target(), f.Pos)
			}
		}
		if c.Package != nil {
			for _, f := range c.Package.Files {
				claim(c.Name, "package", f.target(), f.Pos)
			}
		}
		if c.Module == nil {
			continue
		}
		for _, p := range c.Module.Programs {
			claim(c.Name, "module", p.Path, p.Pos)
			if c.Release != nil && !c.Release.mayInstall(p.Path) {
				d.report(p.Pos, "components."+c.Name+".module.programs", fmt.Sprintf(
					"%s is built, but the release installs nothing there (make the paths equal)", p.Path))
			}
		}
	}
}

// mayInstall says whether r can have the file at target. It says yes where a
// mistake, which was reported, keeps it from knowing.
func (r *Release) mayInstall(target string) bool {
	for _, f := range r.Files {
		if f.Path == "" || f.mayInstall(target) {
			return true
		}
	}
	return len(r.Files) == 0 || target == ""
}
