package rootfs

import (
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/nodebake/bake/bake/merge"
	"github.com/nodebake/bake/bake/tree"
)

// Where dpkg and apt keep what they know.
const (
	dpkgDir        = "var/lib/dpkg"
	dpkgInfo       = dpkgDir + "/info"
	extendedStates = "var/lib/apt/extended_states"
)

// addDatabase makes dpkg's database as if it had installed every package.
// Control members are the packs' own files; the rest is derived once for a set
// of packages.
func (l *layout) addDatabase() error {
	for _, u := range l.Sorted {
		for name, e := range u.Members {
			if name == "control" {
				continue
			}
			e.Path = path.Join(dpkgInfo, u.DatabaseName()+"."+name)
			e.Owner = merge.Owner(u.Name)
			l.Put(e)
		}
	}
	pack, err := l.Derive("dpkg database 2 "+l.packagesKey(), func(w *tree.PackWriter) error {
		d := database{packages: slices.SortedFunc(slices.Values(l.Sorted), func(a, b *merge.Unpacked) int {
			return strings.Compare(a.Name, b.Name)
		}), requested: l.Requested, arch: string(l.Arch), w: w}
		return d.write()
	})
	if err != nil {
		return err
	}
	for _, e := range pack.Entries {
		e.Owner = "dpkg database"
		l.Put(e)
	}
	l.makeDatabaseRest()
	return nil
}

// makeDatabaseRest makes what depends on the definition and not on the packages.
func (l *layout) makeDatabaseRest() {
	var diversions, overrides strings.Builder
	fmt.Fprintf(&diversions, "%s\n%[1]s.distrib\n%s\n", releasePath, local)
	for _, s := range l.scripts() {
		for _, d := range s.Diversions {
			fmt.Fprintf(&diversions, "%s\n%s\n%s\n", d.Path, d.To, s.Package)
		}
		for _, o := range s.Overrides {
			fmt.Fprintf(&overrides, "%s %s %o %s\n", o.Owner, o.Group, o.Mode, o.Path)
		}
	}
	for _, dir := range []string{"updates", "parts"} {
		l.Put(tree.Entry{Path: path.Join(dpkgDir, dir), Type: tree.Dir, Perm: 0o755, Owner: definitionOrigin})
	}
	for _, f := range []struct {
		name    string
		mode    uint16
		content string
	}{
		{"available", 0o644, ""},
		{"arch", 0o644, string(l.Arch) + "\n"},
		{"arch-native", 0o644, string(l.Arch) + "\n"},
		{"diversions", 0o644, diversions.String()},
		{"statoverride", 0o644, overrides.String()},
		{"lock", 0o640, ""},
		{"lock-frontend", 0o640, ""},
		{"triggers/Lock", 0o600, ""},
		{"triggers/Unincorp", 0o644, ""},
	} {
		l.make(path.Join(dpkgDir, f.name), f.mode, []byte(f.content))
	}
}

// packagesKey identifies what the derived part of the database is made of.
func (l *layout) packagesKey() string {
	h := sha256.New()
	for _, u := range l.Sorted {
		fmt.Fprintf(h, "package %s %s %d\n", u.Name, u.Version, len(u.Pack.Entries))
		for _, e := range u.Pack.Entries {
			fmt.Fprintf(h, "%q %s %s\n", e.Path, e.Type, e.SHA256)
		}
		for _, p := range sortedKeys(u.Lost) {
			fmt.Fprintf(h, "lost %q\n", p)
		}
	}
	fmt.Fprintf(h, "%s %q\n", l.Arch, l.Requested)
	return hex.EncodeToString(h.Sum(nil))
}

// database writes the part of dpkg's and apt's databases that packages give.
type database struct {
	packages  []*merge.Unpacked
	requested []string
	arch      string
	content   merge.Reader
	w         *tree.PackWriter
}

func (d *database) write() error {
	var status, states strings.Builder
	triggers := map[string]string{}
	for _, u := range d.packages {
		conffiles, err := d.conffiles(u)
		if err != nil {
			return fmt.Errorf("package %s: %w", u.Name, err)
		}
		status.WriteString(u.Control.Status(conffiles) + "\n")
		if err := d.file(path.Join(dpkgInfo, u.DatabaseName()+".list"), list(u)); err != nil {
			return err
		}
		if err := d.interests(u, triggers); err != nil {
			return fmt.Errorf("package %s: triggers: %w", u.Name, err)
		}
		if !slices.Contains(d.requested, u.Name) && u.Control.Get("Essential") != "yes" {
			// apt writes its own architecture also for packages of "all".
			fmt.Fprintf(&states, "Package: %s\nArchitecture: %s\nAuto-Installed: 1\n\n", u.Name, d.arch)
		}
	}
	for _, name := range sortedKeys(triggers) {
		if err := d.file(path.Join(dpkgDir, "triggers", name), triggers[name]); err != nil {
			return err
		}
	}
	for _, f := range [][2]string{
		{path.Join(dpkgDir, "status"), status.String()},
		{path.Join(dpkgInfo, "format"), "1\n"},
		{extendedStates, states.String()},
	} {
		if err := d.file(f[0], f[1]); err != nil {
			return err
		}
	}
	return nil
}

func (d *database) file(p, content string) error {
	return d.w.Add(tree.Entry{Path: p, Type: tree.File, Perm: 0o644, Size: int64(len(content))}, strings.NewReader(content))
}

// list returns the paths of the package in the order of its archive, as it
// wrote them, which is not where merged /usr puts them.
func list(u *merge.Unpacked) string {
	var out strings.Builder
	for _, e := range u.Data() {
		if u.Lost[e.Path] {
			continue
		}
		if e.Path == "." {
			out.WriteString("/.\n")
			continue
		}
		out.WriteString("/" + e.Path + "\n")
	}
	return out.String()
}

// conffiles returns the lines of the Conffiles field: path and MD5 of what the
// package brought, by which dpkg tells whether somebody changed the file.
func (d *database) conffiles(u *merge.Unpacked) ([]string, error) {
	confs, err := u.Conffiles(&d.content)
	if err != nil {
		return nil, err
	}
	files := map[string]tree.Entry{}
	for _, e := range u.Data() {
		files["/"+e.Path] = e
	}
	var lines []string
	for _, c := range confs {
		if c.Remove {
			lines = append(lines, " "+c.Path+" newconffile remove-on-upgrade")
			continue
		}
		e, ok := files[c.Path]
		if ok && e.Type == tree.Hardlink {
			e = files["/"+e.Link]
		}
		if !ok {
			return nil, fmt.Errorf("%s is a configuration file that the package does not hold", c.Path)
		}
		text, err := d.content.Read(e)
		if err != nil {
			return nil, err
		}
		lines = append(lines, fmt.Sprintf(" %s %x", c.Path, md5.Sum(text)))
	}
	return lines, nil
}

// interests reads which triggers the package waits for (deb-triggers(5)) and
// adds them to dpkg's index: a file by the trigger's name for each, and one
// named File for the triggers that are paths.
func (d *database) interests(u *merge.Unpacked, index map[string]string) error {
	member, ok := u.Members["triggers"]
	if !ok {
		return nil
	}
	text, err := d.content.Read(member)
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(text)) {
		line, _, _ = strings.Cut(line, "#")
		words := strings.Fields(line)
		if len(words) == 0 || strings.HasPrefix(words[0], "activate") {
			continue
		}
		if len(words) != 2 {
			return fmt.Errorf("%q is not a directive and a name", strings.TrimSpace(line))
		}
		waiter := u.DatabaseName()
		switch words[0] {
		case "interest", "interest-await":
		case "interest-noawait":
			waiter += "/noawait"
		default:
			return fmt.Errorf("unknown directive %q", words[0])
		}
		if name := words[1]; strings.HasPrefix(name, "/") {
			index["File"] += name + " " + waiter + "\n"
		} else if path.Base(name) != name || name == "File" {
			return fmt.Errorf("%q is not the name of a trigger", name)
		} else {
			index[name] += waiter + "\n"
		}
	}
	return nil
}
