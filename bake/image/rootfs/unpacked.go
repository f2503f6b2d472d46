package rootfs

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/nodebake/bake/bake/relation"
	"github.com/nodebake/bake/bake/tree"
)

// unpacked is a package whose control file was read.
type unpacked struct {
	Package
	control  control
	members  map[string]tree.Entry // control members by name: "conffiles"
	own      map[string]string     // paths of the package by where they are in the image, where that is elsewhere
	lost     map[string]bool       // paths of the package that belong to one that replaces it
	confs    []conffile            // see conffiles
	confRead bool
}

// controlDir is where a pack has the control members.
const controlDir = "DEBIAN/"

func open(p Package) (*unpacked, error) {
	u := &unpacked{Package: p, members: map[string]tree.Entry{}, own: map[string]string{}, lost: map[string]bool{}}
	for _, e := range p.Pack.Entries {
		if name, ok := strings.CutPrefix(e.Path, controlDir); ok && e.Type == tree.File {
			u.members[name] = e
		}
	}
	if _, ok := u.members["control"]; !ok {
		return nil, errors.New("no control file")
	}
	return u, nil
}

// readControls reads the control files of all packages. They are kept together
// once read: each stands in another pack, of which a whole chunk would have to
// be read and verified every time.
func (l *layout) readControls() error {
	key := sha256.New()
	for _, u := range l.sorted {
		fmt.Fprintf(key, "%s %s\n", u.Name, u.members["control"].SHA256)
	}
	pack, err := l.Derive("control files 1 "+hex.EncodeToString(key.Sum(nil)), func(w *tree.PackWriter) error {
		var content reader
		for _, u := range l.sorted {
			text, err := content.read(u.members["control"])
			if err != nil {
				return fmt.Errorf("package %s: %w", u.Name, err)
			}
			e := tree.Entry{Path: u.Name, Type: tree.File, Size: int64(len(text))}
			if err := w.Add(e, bytes.NewReader(text)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if len(pack.Entries) != len(l.sorted) {
		return fmt.Errorf("BUG: %d control files for %d packages", len(pack.Entries), len(l.sorted))
	}
	var errs []error
	for i, u := range l.sorted {
		text, err := l.content.read(pack.Entries[i])
		if err == nil {
			err = u.parse(text)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("package %s: control file: %w", u.Name, err))
		}
	}
	return errors.Join(errs...)
}

func (u *unpacked) parse(text []byte) error {
	var err error
	if u.control, err = parseControl(text); err != nil {
		return err
	}
	for _, want := range []struct{ field, value string }{
		{"Package", u.Name}, {"Version", u.Version}, {"Architecture", u.Arch},
	} {
		if got := u.control.get(want.field); got != want.value {
			return fmt.Errorf("%s is %q, in the lock %q", want.field, got, want.value)
		}
	}
	return relation.ValidVersion(u.Version)
}

// data returns the entries that are files of the image.
func (u *unpacked) data() []tree.Entry {
	return slices.DeleteFunc(slices.Clone(u.Pack.Entries), func(e tree.Entry) bool {
		return e.Path == "DEBIAN" || strings.HasPrefix(e.Path, controlDir)
	})
}

// databaseName is how dpkg names the package's files in its database.
func (u *unpacked) databaseName() string {
	if u.control.get("Multi-Arch") == "same" {
		return u.Name + ":" + u.Arch
	}
	return u.Name
}

// conffile is a configuration file, which dpkg asks about before it changes it.
type conffile struct {
	path   string // absolute
	remove bool   // this version no longer has it; dpkg removes it when it upgrades
}

// conffiles returns what the control member of that name lists (deb-conffiles(5)).
func (u *unpacked) conffiles(r *reader) ([]conffile, error) {
	member, ok := u.members["conffiles"]
	if !ok || u.confRead {
		return u.confs, nil
	}
	text, err := r.read(member)
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimRight(line, " \t\n")
		if line == "" {
			continue
		}
		p, remove := strings.CutPrefix(line, "remove-on-upgrade ")
		if !strings.HasPrefix(p, "/") {
			return nil, fmt.Errorf("conffiles: %q is not an absolute path", line)
		}
		u.confs = append(u.confs, conffile{p, remove})
	}
	u.confRead = true
	return u.confs, nil
}

func (u *unpacked) isConffile(r *reader, p string) (bool, error) {
	confs, err := u.conffiles(r)
	return slices.Contains(confs, conffile{path: p}), err
}

// lose says that what is at p in the image is another package's.
func (u *unpacked) lose(p string) {
	if own, ok := u.own[p]; ok {
		p = own
	}
	u.lost[p] = true
}

// replaces says whether u's Replaces field names other in its version.
func (u *unpacked) replaces(other *unpacked) (bool, error) {
	clauses, err := relation.Parse(u.control.get("Replaces"))
	if err != nil {
		return false, fmt.Errorf("package %s: field Replaces: %w", u.Name, err)
	}
	for _, clause := range clauses {
		for _, r := range clause {
			if r.Name == other.Name && r.Allows(relation.MustVersion(other.Version)) {
				return true, nil
			}
		}
	}
	return false, nil
}
