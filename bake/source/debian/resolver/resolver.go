// Package resolver computes which Debian packages make up a system: those that
// are essential, those that are asked for, and everything that these depend on.
// It is pure; package repo reads the indices that it chooses from.
//
// Depends and Pre-Depends are followed in full, Recommends and Suggests never.
// There is one native architecture. Where a dependency leaves a choice, a
// package that is chosen anyway wins, then the first alternative that can be
// had, a package of that name before one that only provides it. Packages whose
// dependencies leave no choice are therefore chosen first; the result does not
// depend on the order in which packages are asked for.
//
// The search tries an alternative as far as its consequences are forced and
// never takes back a choice that was made before: it may fail to find a
// solution where an exhaustive search (SAT) finds one, and then says which
// dependency it could not meet. On Debian's stable suites that does not happen
// for lists of packages that can be installed together.
//
// Versions that are held ([Held]) come before higher ones. Where they can't be
// had together with what is wanted, those that are in the way are let go and the
// search begins again, until there are none in the way; so a package that nothing
// forces stays, though perhaps not as many as could.
package resolver

import (
	"fmt"
	"strings"

	"github.com/nodebake/bake/bake/relation"
	"github.com/nodebake/bake/bake/tree"
)

// Package is what a Packages index says of one binary package, as far as it
// matters here. Relationship fields are as written.
type Package struct {
	Name      string
	Version   string
	Arch      string // the native architecture or "all"
	MultiArch string // "", "no", "same", "foreign", "allowed"
	Priority  string // "required", ..., "optional"
	Essential bool

	Depends, PreDepends, Conflicts, Breaks, Provides string

	Path   string // below the archive
	Size   int64  // bytes
	SHA256 tree.Digest

	// Malformed says what is wrong with it in the index; nil: nothing. Such a
	// package is chosen by nobody, and is an error where it is wanted or needed.
	Malformed error
}

// Check says what is wrong with the fields of p that decide what others get.
func (p *Package) Check() error {
	if err := relation.ValidVersion(p.Version); err != nil {
		return fmt.Errorf("field Version: %w", err)
	}
	_, err := p.provides()
	return err
}

// provides parses Provides: names with at most one exact version.
func (p *Package) provides() ([]relation.Relation, error) {
	clauses, err := relation.Parse(p.Provides)
	if err != nil {
		return nil, fmt.Errorf("field Provides: %w", err)
	}
	var list []relation.Relation
	for _, clause := range clauses {
		if len(clause) != 1 || clause[0].Op != "" && clause[0].Op != "=" {
			return nil, fmt.Errorf("field Provides: %q is no name with at most one exact version", clause)
		}
		list = append(list, clause[0])
	}
	return list, nil
}

// Index is the packages of one suite of one archive.
type Index struct {
	Archive  string // "debian" or "debian-security"
	Suite    string // "trixie", "trixie-updates", "trixie-security"
	Packages []Package
}

// Group is a suite with its updates: the indices among which the highest
// version of a package wins. At equal versions the first index wins, so put the
// suite itself first: its pool files stay on mirrors longest.
type Group struct {
	Suite   string // the suite that gives the group its name
	Indices []Index
	Held    []Held // what is taken in place of the highest versions, each name once
}

// Held is a version of a package that is taken as long as all others will have
// it, though there are higher ones or the indices don't list it any more.
type Held struct {
	Package
	Archive string
	Suite   string
}

// suites names the group's indices for an error.
func (g *Group) suites() string {
	s := make([]string, len(g.Indices))
	for i, x := range g.Indices {
		s[i] = x.Suite
	}
	return strings.Join(s, ", ")
}

// Want asks for a package.
type Want struct {
	Name  string
	Suite string // the group to take it from; "": the base
	From  string // who asks, for errors: "images/worker/image.yaml:12"
}

// Choice is a package of the result.
type Choice struct {
	Package
	Archive string
	Suite   string   // of the index it was found in
	Why     []string // the chain that led to it, from who asked: "essential", "base-files", "mawk (for awk)"

	// Released says why it is not the version that was held; "": it is, or none was.
	Released string
}

// UnsolvableError says that no set of packages fulfils what is wanted.
type UnsolvableError struct {
	Chain   []string // from who asked to the package that has the problem
	Problem string

	Missing *Want // the package that is asked for and that there is none of; nil: the problem is another

	held []*candidate // whose other versions may not have the problem
}

func (e *UnsolvableError) Error() string {
	return strings.Join(e.Chain, " -> ") + ": " + e.Problem
}
