package program

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
)

// Verdict is what a program's own words are worth beside a component's version.
type Verdict int

// The verdicts.
const (
	SaysNothing Verdict = iota
	Agrees
	Disagrees
)

// Version compares what a program says with the version that it should have.
func (s Says) Version(want string) Verdict {
	switch {
	case len(s.Versions) == 0 || !isVersion(want): // "2026a": nothing to compare
		return SaysNothing
	case slices.ContainsFunc(slices.Concat(s.Versions, s.Others), func(said string) bool { return sameVersion(said, want) }):
		return Agrees
	}
	return Disagrees
}

// CheckVersion says what is wrong with a program that should have version want,
// and may say accepted instead where that is not empty.
func (s Says) CheckVersion(want, accepted string) error {
	if s.Version(want) != Disagrees || accepted != "" && s.Version(accepted) == Agrees {
		return nil
	}
	const shown = 4
	said := s.Versions
	if len(said) > shown {
		said = append(slices.Clone(said[:shown]), "...")
	}
	return fmt.Errorf("it says %s, and the versions file says %s", strings.Join(said, " or "), want)
}

// CheckPackage says what is wrong with a program that should be made of the
// package want. Projects move: the name of the program counts, not the module.
func (s Says) CheckPackage(want string) error {
	if s.Package == "" || programName(s.Package) == programName(want) {
		return nil
	}
	return fmt.Errorf("it is %s, and the versions file's module has %s there", s.Package, want)
}

// programName is what go build would call the program of a package.
func programName(pkg string) string {
	name := path.Base(pkg)
	if majorVersion.MatchString(name) {
		name = path.Base(path.Dir(pkg))
	}
	return name
}

var (
	majorVersion   = regexp.MustCompile(`^v[0-9]+$`)
	debianRevision = regexp.MustCompile(`-[0-9][0-9.]*$`)
)

// sameVersion compares versions without the v that some projects write, and
// without what builders put behind: +dirty, and in Debian ~ds1 and a revision.
func sameVersion(a, b string) bool { return baseVersion(a) == baseVersion(b) }

func baseVersion(v string) string {
	v = strings.TrimPrefix(v, "v")
	if i := strings.IndexAny(v, "~+"); i >= 0 {
		v = v[:i]
	}
	return debianRevision.ReplaceAllString(v, "")
}
