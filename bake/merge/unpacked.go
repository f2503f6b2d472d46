package merge

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

// Unpacked is a package whose control file was read.
type Unpacked struct {
	Package
	Control  Control
	Members  map[string]tree.Entry // control members by name: "conffiles"
	own      map[string]string     // paths of the package by where they are in the image, where that is elsewhere
	Lost     map[string]bool       // paths of the package that belong to one that replaces it
	confs    []Conffile            // see conffiles
	confRead bool
}

// controlDir is where a pack has the control members.
const controlDir = "DEBIAN/"

func open(p Package) (*Unpacked, error) {
	u := &Unpacked{Package: p, Members: map[string]tree.Entry{}, own: map[string]string{}, Lost: map[string]bool{}}
	for _, e := range p.Pack.Entries {
		if name, ok := strings.CutPrefix(e.Path, controlDir); ok && e.Type == tree.File {
			u.Members[name] = e
		}
	}
	if _, ok := u.Members["control"]; !ok {
		return nil, errors.New("no control file")
	}
	return u, nil
}

// readControls reads the control files of all packages. They are kept together
// once read: each stands in another pack, of which a whole chunk would have to
// be read and verified every time.
func (l *Layout) readControls(derive Derive) error {
	key := sha256.New()
	for _, u := range l.Sorted {
		fmt.Fprintf(key, "%s %s\n", u.Name, u.Members["control"].SHA256)
	}
	pack, err := derive("control files 1 "+hex.EncodeToString(key.Sum(nil)), func(w *tree.PackWriter) error {
		var content Reader
		for _, u := range l.Sorted {
			text, err := content.Read(u.Members["control"])
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
	if len(pack.Entries) != len(l.Sorted) {
		return fmt.Errorf("BUG: %d control files for %d packages", len(pack.Entries), len(l.Sorted))
	}
	var errs []error
	for i, u := range l.Sorted {
		text, err := l.Content.Read(pack.Entries[i])
		if err == nil {
			err = u.parse(text)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("package %s: control file: %w", u.Name, err))
		}
	}
	return errors.Join(errs...)
}

func (u *Unpacked) parse(text []byte) error {
	var err error
	if u.Control, err = ParseControl(text); err != nil {
		return err
	}
	for _, want := range []struct{ field, value string }{
		{"Package", u.Name}, {"Version", u.Version}, {"Architecture", u.Arch},
	} {
		if got := u.Control.Get(want.field); got != want.value {
			return fmt.Errorf("%s is %q, in the lock %q", want.field, got, want.value)
		}
	}
	return relation.ValidVersion(u.Version)
}

// Data returns the entries that are files of the image.
func (u *Unpacked) Data() []tree.Entry {
	return slices.DeleteFunc(slices.Clone(u.Pack.Entries), func(e tree.Entry) bool {
		return e.Path == "DEBIAN" || strings.HasPrefix(e.Path, controlDir)
	})
}

// DatabaseName is how dpkg names the package's files in its database.
func (u *Unpacked) DatabaseName() string {
	if u.Control.Get("Multi-Arch") == "same" {
		return u.Name + ":" + u.Arch
	}
	return u.Name
}

// Conffile is a configuration file, which dpkg asks about before it changes it.
type Conffile struct {
	Path   string // absolute
	Remove bool   // this version no longer has it; dpkg removes it when it upgrades
}

// Conffiles returns what the control member of that name lists (deb-conffiles(5)).
func (u *Unpacked) Conffiles(r *Reader) ([]Conffile, error) {
	member, ok := u.Members["conffiles"]
	if !ok || u.confRead {
		return u.confs, nil
	}
	text, err := r.Read(member)
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
		u.confs = append(u.confs, Conffile{p, remove})
	}
	u.confRead = true
	return u.confs, nil
}

func (u *Unpacked) IsConffile(r *Reader, p string) (bool, error) {
	confs, err := u.Conffiles(r)
	return slices.Contains(confs, Conffile{Path: p}), err
}

// lose says that what is at p in the image is another package's.
func (u *Unpacked) lose(p string) {
	if own, ok := u.own[p]; ok {
		p = own
	}
	u.Lost[p] = true
}

// replaces says whether u's Replaces field names other in its version.
func (u *Unpacked) replaces(other *Unpacked) (bool, error) {
	clauses, err := relation.Parse(u.Control.Get("Replaces"))
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
