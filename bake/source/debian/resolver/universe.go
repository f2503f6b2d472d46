package resolver

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/nodebake/bake/bake/relation"
)

// candidate is the one version of a package that a group offers: the highest,
// or the one that is held.
type candidate struct {
	*Package
	version  relation.Version
	group    int // index into universe.groups
	archive  string
	suite    string
	provides []relation.Relation
	held     bool // there is another one in groupIndex.highest, or none
}

func (c *candidate) String() string { return c.Name + " " + c.Version }

// universe is the groups, indexed. Group 0 is the base.
type universe struct {
	arch   string
	groups []groupIndex
}

type groupIndex struct {
	*Group
	byName    map[string]*candidate
	broken    map[string]string       // by name: what is malformed and might be the version to take
	essential []string                // of those
	provider  map[string][]*candidate // by the name that they provide; the best first

	highest  map[string]*candidate // by name: those that others are held in place of; nil: there is none
	released map[string]string     // by name: why a version is not held any more
	known    map[string]bool       // names of which a version was to be held
}

func newUniverse(arch string, groups []Group) (*universe, error) {
	u := &universe{arch: arch, groups: make([]groupIndex, len(groups))}
	for i := range groups {
		g, err := indexGroup(&groups[i], i)
		if err != nil {
			return nil, err
		}
		u.groups[i] = g
	}
	return u, nil
}

func indexGroup(group *Group, number int) (groupIndex, error) {
	g := groupIndex{Group: group, broken: make(map[string]string), provider: make(map[string][]*candidate)}
	type where struct {
		*Package
		index *Index
	}
	var malformed []where
	n := 0
	for _, x := range group.Indices {
		n = max(n, len(x.Packages))
	}
	g.byName = make(map[string]*candidate, n)
	for i := range group.Indices {
		x := &group.Indices[i]
		for j := range x.Packages {
			p := &x.Packages[j]
			if p.Malformed != nil {
				malformed = append(malformed, where{p, x})
				continue
			}
			if err := relation.ValidVersion(p.Version); err != nil {
				return g, fmt.Errorf("BUG: package %s of %s was not checked: %w", p.Name, x.Suite, err)
			}
			c := &candidate{Package: p, version: relation.MustVersion(p.Version), group: number, archive: x.Archive, suite: x.Suite}
			if old := g.byName[p.Name]; old == nil || c.version.Compare(old.version) > 0 {
				g.byName[p.Name] = c
			}
		}
	}
	// A version that is lower than a good one would not be taken anyway.
	for _, m := range malformed {
		best := g.byName[m.Name]
		if best != nil && relation.ValidVersion(m.Version) == nil && relation.MustVersion(m.Version).Compare(best.version) < 0 {
			continue
		}
		if m.Essential || best != nil && best.Essential {
			g.essential = append(g.essential, m.Name)
		}
		delete(g.byName, m.Name)
		g.broken[m.Name] = fmt.Sprintf("package %s %s is malformed in the index of %s: %v (take the package off the list, or another mirror, until its archive mends it)",
			m.Name, m.Version, m.index.Suite, m.Malformed)
	}
	if err := g.hold(group.Held, number); err != nil {
		return g, err
	}
	for _, c := range g.byName {
		if err := g.provide(c); err != nil {
			return g, err
		}
	}
	// A name that several packages provide goes to the one that Debian itself
	// installs by default, which Priority says (Policy 2.5).
	for _, list := range g.provider {
		sortProviders(list)
	}
	return g, nil
}

func sortProviders(list []*candidate) {
	slices.SortFunc(list, func(a, b *candidate) int {
		return cmp.Or(cmp.Compare(priority(a.Priority), priority(b.Priority)), strings.Compare(a.Name, b.Name))
	})
}

// provide adds c to the providers of the names that it provides.
func (g *groupIndex) provide(c *candidate) error {
	if c.Provides == "" {
		return nil
	}
	var err error
	if c.provides, err = c.Package.provides(); err != nil {
		return fmt.Errorf("BUG: package %s of %s was not checked: %w", c, c.suite, err)
	}
	for _, r := range c.provides {
		if list := g.provider[r.Name]; len(list) == 0 || list[len(list)-1] != c {
			g.provider[r.Name] = append(list, c)
		}
	}
	return nil
}

// hold puts held in place of the highest versions.
func (g *groupIndex) hold(held []Held, number int) error {
	g.highest, g.released, g.known = make(map[string]*candidate), make(map[string]string), make(map[string]bool)
	for i := range held {
		h := &held[i]
		g.known[h.Name] = true
		if err := relation.ValidVersion(h.Version); err != nil {
			return fmt.Errorf("BUG: held package %s was not checked: %w", h.Name, err)
		}
		best := g.byName[h.Name]
		if best != nil && best.Version == h.Version && best.SHA256 == h.SHA256 && best.archive == h.Archive && best.suite == h.Suite {
			continue
		}
		g.highest[h.Name] = best
		g.byName[h.Name] = &candidate{Package: &h.Package, version: relation.MustVersion(h.Version), group: number, archive: h.Archive, suite: h.Suite, held: true}
		g.essential = slices.DeleteFunc(g.essential, func(name string) bool { return name == h.Name })
	}
	return nil
}

// before ranks packages that were there before ahead of others.
func (u *universe) before(c *candidate) int {
	if u.groups[c.group].known[c.Name] {
		return 0
	}
	return 1
}

// release gives up a version that was held for the highest one.
func (g *groupIndex) release(c *candidate, why string) error {
	g.released[c.Name] = why
	for _, p := range c.provides {
		g.provider[p.Name] = slices.DeleteFunc(g.provider[p.Name], func(other *candidate) bool { return other == c })
	}
	best := g.highest[c.Name]
	if best == nil {
		delete(g.byName, c.Name)
		return nil
	}
	g.byName[c.Name] = best
	if err := g.provide(best); err != nil {
		return err
	}
	for _, p := range best.provides {
		sortProviders(g.provider[p.Name])
	}
	return nil
}

// priority ranks the values of Priority; unknown ones come last.
func priority(p string) int {
	if i := slices.Index([]string{"required", "important", "standard", "optional"}, p); i >= 0 {
		return i
	}
	return 4
}

// satisfies reports whether c fulfils r, by its own name or one it provides.
//
// A version in r is never met by a name that is provided without a version
// (Policy 7.5).
func (u *universe) satisfies(c *candidate, r relation.Relation) bool {
	if !u.archSatisfies(c, r.Arch) {
		return false
	}
	if c.Name == r.Name && r.Allows(c.version) {
		return true
	}
	for _, p := range c.provides {
		if p.Name != r.Name {
			continue
		}
		if r.Op == "" || p.Op == "=" && r.Allows(relation.MustVersion(p.Version)) {
			return true
		}
	}
	return false
}

// archSatisfies reports whether c may stand for a dependency with the given
// qualifier. Architecture "all" counts as native. With one architecture,
// Multi-Arch: foreign and same change nothing; "any" asks for
// Multi-Arch: allowed (deb-control(5), Multi-Arch).
func (u *universe) archSatisfies(c *candidate, qualifier string) bool {
	switch qualifier {
	case "", "native", u.arch:
		return true
	case "any":
		return c.MultiArch == "allowed"
	}
	return false
}
