package manifest

import (
	"path"
	"strings"
)

// PackageScripts is what the maintainer scripts of one package would have done
// to a new root. It counts if the package is in the image.
type PackageScripts struct {
	Package string
	Suite   string // counts for images of this suite only; "" for all
	Pos     Pos

	Groups       []Group
	Users        []User
	Directories  []PathSpec
	Empty        []PathSpec // empty files
	Copies       []Copy
	Symlinks     []Link
	Permissions  []PathSpec // chown and chmod
	Overrides    []PathSpec // dpkg-statoverride: the same, and dpkg keeps it so
	Diversions   []Link     // dpkg-divert, from Path to To
	Alternatives []Alternative
}

// Group is a line of /etc/group.
type Group struct {
	Name string
	ID   uint32
}

// User is a line of /etc/passwd. A user without Group is in one of its own
// name, with the ID GroupID.
type User struct {
	Name    string
	ID      uint32
	Group   string
	GroupID uint32
	Comment string
	Home    string
}

// PathSpec is a directory, an empty file, or the owner and mode of a file that a
// package brought. Paths in package scripts are absolute.
type PathSpec struct {
	Path  string
	Owner string
	Group string
	Mode  uint16
	Pos   Pos
}

// Copy makes a file of one that a package brought.
type Copy struct {
	From string
	To   string
	Mode uint16 // 0: as From
	Pos  Pos
}

// Link is a symbolic link at Path, or a diversion.
type Link struct {
	Path string
	To   string
	Pos  Pos
}

// Alternative is what one call of update-alternatives --install registers.
type Alternative struct {
	Name     string // "awk"
	Link     string // "/usr/bin/awk"
	Path     string // "/usr/bin/mawk"
	Priority int
	Slaves   []Alternative // without Priority and Slaves
	Pos      Pos
}

func (d *Definition) parseConfigure(top *mapping) {
	for _, item := range top.entries() {
		name, suite, hasSuite := strings.Cut(item.name, "/")
		if err := checkPackageName(name); err != nil {
			item.errorf("%v", err)
			continue
		}
		if hasSuite {
			if err := checkSuite(suite); err != nil {
				item.errorf("%v", err)
				continue
			}
		}
		d.Configure = append(d.Configure, item.mapping().packageScripts(name, suite))
	}
}

func (m *mapping) packageScripts(name, suite string) PackageScripts {
	s := PackageScripts{Package: name, Suite: suite, Pos: m.pos}
	for _, item := range m.optional("groups").list() {
		g := item.mapping()
		s.Groups = append(s.Groups, Group{g.required("name").text(), g.required("id").id()})
	}
	for _, item := range m.optional("users").list() {
		s.Users = append(s.Users, item.mapping().user())
	}
	s.Directories = m.optional("directories").nodes(0o755)
	s.Empty = m.optional("empty").nodes(0o644)
	s.Permissions = m.optional("permissions").nodes(0o644)
	s.Overrides = m.optional("overrides").nodes(0o644)
	for _, item := range m.optional("copies").list() {
		c := item.mapping()
		out := Copy{From: c.required("from").absolute(), To: c.required("to").absolute(), Pos: item.pos()}
		out.Mode = c.optional("mode").mode()
		s.Copies = append(s.Copies, out)
	}
	s.Symlinks = m.optional("symlinks").links()
	s.Diversions = m.optional("diversions").links()
	for _, item := range m.optional("alternatives").list() {
		s.Alternatives = append(s.Alternatives, item.mapping().alternative())
	}
	return s
}

func (m *mapping) user() User {
	u := User{
		Name:    m.required("name").text(),
		ID:      m.required("id").id(),
		Group:   m.optional("group").text(),
		GroupID: m.optional("group-id").id(),
		Comment: m.optional("comment").text(),
		Home:    "/nonexistent",
	}
	if home := m.optional("home"); home.present() {
		u.Home = home.absolute()
	}
	if m.optional("group").present() == m.optional("group-id").present() {
		m.errorf("want one of group (one that exists) and group-id (for a group of the user's own)")
	}
	for _, s := range []string{u.Name, u.Comment} {
		if strings.Contains(s, ":") {
			m.errorf("%q has a colon, which separates the fields of /etc/passwd", s)
		}
	}
	return u
}

func (m *mapping) alternative() Alternative {
	a := Alternative{
		Name:     m.required("name").text(),
		Link:     m.required("link").absolute(),
		Path:     m.required("path").absolute(),
		Priority: int(m.required("priority").integer(-1<<31, 1<<31-1)),
		Pos:      m.pos,
	}
	for _, item := range m.optional("slaves").list() {
		slave := item.mapping()
		a.Slaves = append(a.Slaves, Alternative{
			Name: slave.required("name").text(),
			Link: slave.required("link").absolute(),
			Path: slave.required("path").absolute(),
			Pos:  item.pos(),
		})
	}
	return a
}

// nodes reads a list of paths with owners and modes.
func (v value) nodes(mode uint16) []PathSpec {
	var out []PathSpec
	for _, item := range v.list() {
		m := item.mapping()
		n := PathSpec{Path: m.required("path").absolute(), Owner: "root", Group: "root", Mode: mode, Pos: item.pos()}
		if owner := m.optional("owner"); owner.present() {
			n.Owner = owner.text()
		}
		if group := m.optional("group"); group.present() {
			n.Group = group.text()
		}
		if mode := m.optional("mode"); mode.present() {
			n.Mode = mode.mode()
		}
		out = append(out, n)
	}
	return out
}

// links reads a list of {path, to}. A link's text may be relative.
func (v value) links() []Link {
	var out []Link
	for _, item := range v.list() {
		m := item.mapping()
		out = append(out, Link{m.required("path").absolute(), m.required("to").text(), item.pos()})
	}
	return out
}

// absolute returns a clean path below the root.
func (v value) absolute() string {
	s := v.text()
	if s != "" && (!strings.HasPrefix(s, "/") || s == "/" || path.Clean(s) != s) {
		v.errorf("%q is not a clean absolute path", s)
		return ""
	}
	return s
}

// id returns a user's or group's number. 65535 and 2^32-1 stand for "none".
func (v value) id() uint32 {
	return uint32(v.integer(0, 65534))
}
