package manifest

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// whiteout begins the name of a file that says, in a layer of an image, that
// another one is gone (OCI image specification, "Whiteouts").
const whiteout = ".wh."

// maxLinkText is the longest text of a symbolic link in bytes: PATH_MAX without
// its NUL.
const maxLinkText = 4095

// readPackagesImage reads what an image of Debian packages has beside what every
// image has.
func readPackagesImage(c *ContainerImage, m *mapping, packages value) {
	entrypoint, command := m.optional("entrypoint"), m.optional("command")
	user, environment, paths := m.optional("user"), m.optional("environment"), m.optional("paths")
	if !packages.present() {
		for _, v := range []value{entrypoint, command, user, environment, paths} {
			if v.present() {
				v.report(v.pos(), v.key, v.name+" is for images of packages (add packages, or remove it)")
			}
		}
		return
	}
	c.PackagesPos = packages.pos()
	if c.Packages = packages.packages(); packages.emptyList() {
		packages.errorf("empty (name a package)")
	}
	c.Entrypoint, c.Command = entrypoint.arguments(), command.arguments()
	switch {
	case entrypoint.present():
		c.StartPos = entrypoint.pos()
	case command.present():
		c.StartPos = command.pos()
	}
	if user.present() {
		c.User = user.checked(checkImageUser)
	}
	c.Environment = environment.environment()
	c.Paths = paths.imagePaths(c.Module)
}

// arguments reads a program and its arguments, or arguments.
func (v value) arguments() []string {
	var out []string
	if v.emptyList() {
		v.errorf("empty (write a list such as [/usr/bin/tool, -v], or remove the key)")
	}
	for i, item := range v.list() {
		s, ok := item.string()
		switch {
		case strings.ContainsRune(s, 0):
			item.errorf("an argument can't have a NUL byte (remove it)")
		case i == 0 && ok && s == "":
			item.errorf("empty (write a program or an argument)")
		}
		out = append(out, s)
	}
	return out
}

// checkImageUser checks a user of an image by its numbers. Names are not taken:
// Kubernetes' runAsNonRoot does not look them up.
func checkImageUser(s string) error {
	if _, _, err := parseOwner(s); err != nil {
		return fmt.Errorf("%q is not a user (write numbers, UID or UID:GID, such as 33:33)", s)
	}
	return nil
}

// parseOwner reads "UID" or "UID:GID"; the group is the user's number where there
// is none.
func parseOwner(s string) (uid, gid uint32, err error) {
	user, group, both := strings.Cut(s, ":")
	if !both {
		group = user
	}
	var n [2]uint32
	for i, text := range []string{user, group} {
		// 2^32-1 stands for "none".
		id, err := strconv.ParseUint(text, 10, 32)
		if err != nil || id > 1<<32-2 || strconv.FormatUint(id, 10) != text {
			return 0, 0, fmt.Errorf("%q is no number of a user or group", text)
		}
		n[i] = uint32(id)
	}
	return n[0], n[1], nil
}

// environment reads variables by their names.
func (v value) environment() []string {
	var out []string
	for _, item := range v.mapping().entries() {
		if !variableName.MatchString(item.name) {
			v.report(item.pos(), item.key, fmt.Sprintf("%s is not the name of a variable (letters, digits and _, no digit first)", shown(item.name)))
			continue
		}
		text := item.anyText()
		if strings.ContainsRune(text, 0) {
			item.errorf("a variable can't have a NUL byte (remove it)")
		}
		out = append(out, item.name+"="+text)
	}
	slices.Sort(out)
	return out
}

// imagePaths reads directories and links. mod's programs are in the image as well.
func (v value) imagePaths(mod *Module) []ImagePath {
	var out []ImagePath
	lines := map[string]int{}  // of each path
	leaves := map[string]int{} // of each that nothing can be below
	if mod != nil {
		for _, p := range mod.Programs {
			lines[p.Path], leaves[p.Path] = p.Pos.Line, p.Pos.Line
		}
	}
	for _, item := range v.list() {
		p, at := readImagePath(item)
		if p.Path == "" {
			continue
		}
		if line, ok := lines[p.Path]; ok {
			at.errorf("%s stands twice, first on line %d (remove one)", p.Path, line)
			continue
		}
		lines[p.Path] = p.Pos.Line
		if p.Link != "" {
			leaves[p.Path] = p.Pos.Line
		}
		out = append(out, p)
	}
	below := func(pos Pos, key, of string) {
		for dir := path.Dir(of); dir != "/"; dir = path.Dir(dir) {
			if line, ok := leaves[dir]; ok {
				v.report(pos, key, fmt.Sprintf("%s is below %s, which is no directory by line %d (give one of them another path)", of, dir, line))
			}
		}
	}
	for _, p := range out {
		below(p.Pos, p.Key, p.Path)
	}
	if mod != nil {
		for _, p := range mod.Programs {
			if path.IsAbs(p.Path) { // else that is reported
				below(p.Pos, strings.TrimSuffix(v.key, v.name)+"module.programs", p.Path)
			}
		}
	}
	return out
}

// readImagePath returns one of paths, and where its path stands.
func readImagePath(v value) (ImagePath, value) {
	m := v.mapping()
	at, link, mode, owner := m.required("path"), m.optional("link"), m.optional("mode"), m.optional("owner")
	p := ImagePath{Path: at.checked(checkImagePath), Mode: 0o755, Pos: v.pos(), Key: v.key}
	if link.present() {
		p.Link = link.checked(func(s string) error {
			if len(s) > maxLinkText {
				return fmt.Errorf("a link's text has at most %d bytes, this one has %d (shorten it)", maxLinkText, len(s))
			}
			return nil
		})
		for _, v := range []value{mode, owner} {
			if v.present() {
				v.errorf("a link has no %s (remove it)", v.name)
			}
		}
		return p, at
	}
	if mode.present() {
		p.Mode = mode.mode()
	}
	if owner.present() {
		s := owner.text()
		var err error
		if p.UID, p.GID, err = parseOwner(s); err != nil && s != "" {
			owner.errorf("%q is not an owner (write numbers, UID or UID:GID, such as 33:33)", s)
		}
	}
	return p, at
}

// checkImagePath checks a path in a container image.
func checkImagePath(s string) error {
	if !strings.HasPrefix(s, "/") || s == "/" || path.Clean(s) != s {
		return fmt.Errorf("%q is not a clean absolute path (begin with /; no . or .., no //, no / at the end, and not / itself)", s)
	}
	return checkWhiteout(s)
}

// checkWhiteout refuses names that delete files of the layers below.
func checkWhiteout(s string) error {
	for name := range strings.SplitSeq(s, "/") {
		if strings.HasPrefix(name, whiteout) {
			return fmt.Errorf("%q: in an image a name that begins with %s deletes another file (use another name)", s, whiteout)
		}
	}
	return nil
}

var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
