package resolver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/nodebake/bake/bake/relation"
)

// Resolve returns the packages that wants and the base's essential packages
// need, sorted by name. groups[0] is the base; the others are the suites that
// packages may be pinned to.
//
// A pinned package comes from its group. What it depends on comes from the base
// where the base fulfils it, else from that group. Where the base's version of
// a package is chosen already and will not do, the group's replaces it for
// everybody.
//
// The error is an [UnsolvableError] where no set was found.
func Resolve(ctx context.Context, arch string, groups []Group, wants []Want) ([]Choice, error) {
	return resolve(ctx, arch, groups, wants, true)
}

// Closure returns what wants need and nothing else: essential packages where something
// depends on them, which packages may leave out. It is otherwise as [Resolve].
func Closure(ctx context.Context, arch string, groups []Group, wants []Want) ([]Choice, error) {
	return resolve(ctx, arch, groups, wants, false)
}

func resolve(ctx context.Context, arch string, groups []Group, wants []Want, essential bool) ([]Choice, error) {
	u, err := newUniverse(arch, groups)
	if err != nil {
		return nil, err
	}
	for {
		choices, err := u.resolve(ctx, wants, essential)
		var unsolvable *UnsolvableError
		if err == nil || !errors.As(err, &unsolvable) {
			return choices, err
		}
		// One version fewer is held in each round, so this ends.
		if ok, releaseErr := u.release(unsolvable); releaseErr != nil {
			return nil, releaseErr
		} else if !ok {
			return nil, err
		}
	}
}

// release gives up the held versions that keep a solution from being found, all
// of them where it is not known which. It returns false where none are held.
func (u *universe) release(e *UnsolvableError) (bool, error) {
	held := slices.DeleteFunc(slices.Clone(e.held), func(c *candidate) bool { return u.groups[c.group].byName[c.Name] != c })
	if len(held) == 0 {
		for _, g := range u.groups {
			for _, c := range g.byName {
				if c.held {
					held = append(held, c)
				}
			}
		}
	}
	for _, c := range held {
		if u.groups[c.group].byName[c.Name] != c {
			continue // it stands twice
		}
		if err := u.groups[c.group].release(c, e.Problem); err != nil {
			return false, err
		}
	}
	return len(held) > 0, nil
}

// resolve is Resolve or Closure with the versions that are held now.
func (u *universe) resolve(ctx context.Context, wants []Want, essential bool) ([]Choice, error) {
	pins, roots, err := u.roots(wants, essential)
	if err != nil {
		return nil, err
	}
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		s := newState(u, pins)
		err := s.solve(ctx, roots)
		if replace, ok := errors.AsType[*replaceError](err); ok {
			// One more name is pinned in each round, so this ends.
			pins[replace.with.Name] = replace.with.group
			continue
		}
		if err != nil {
			return nil, err
		}
		return s.choices(), nil
	}
}

// Find returns the highest version of a package in a group, without looking at
// what it depends on.
func Find(group Group, want Want) (Choice, error) {
	g, err := indexGroup(&group, 0)
	if err != nil {
		return Choice{}, err
	}
	c := g.byName[want.Name]
	if c == nil {
		return Choice{}, &UnsolvableError{Chain: []string{want.From}, Problem: g.missing(want.Name), Missing: &want}
	}
	return Choice{Package: *c.Package, Archive: c.archive, Suite: c.suite, Why: []string{want.From}}, nil
}

// root is a package that is wanted for itself.
type root struct {
	*candidate
	from string
}

// roots returns what is wanted, with essential what is that as well, sorted by name,
// and which names are pinned to which group.
func (u *universe) roots(wants []Want, essential bool) (pins map[string]int, roots []root, err error) {
	pins = make(map[string]int)
	asked := make(map[string]Want)
	for _, w := range wants {
		if w.Suite == "" {
			w.Suite = u.groups[0].Suite
		}
		if before, twice := asked[w.Name]; twice && before.Suite != w.Suite {
			return nil, nil, &UnsolvableError{Chain: []string{w.From}, Problem: fmt.Sprintf("%s is wanted from %s, and by %s from %s", w.Name, w.Suite, before.From, before.Suite)}
		} else if twice {
			continue
		}
		asked[w.Name] = w
		group := slices.IndexFunc(u.groups, func(g groupIndex) bool { return g.Suite == w.Suite })
		if group < 0 {
			return nil, nil, fmt.Errorf("BUG: no index of suite %s for package %s", w.Suite, w.Name)
		}
		c := u.groups[group].byName[w.Name]
		if c == nil {
			return nil, nil, &UnsolvableError{Chain: []string{w.From}, Problem: u.groups[group].missing(w.Name), Missing: &w}
		}
		if group > 0 {
			pins[w.Name] = group
		}
		roots = append(roots, root{c, w.From})
	}
	if broken := u.groups[0].essential; essential && len(broken) > 0 {
		return nil, nil, &UnsolvableError{Chain: []string{"essential"}, Problem: u.groups[0].broken[broken[0]]}
	}
	for _, c := range u.groups[0].byName {
		if _, twice := asked[c.Name]; essential && c.Essential && !twice {
			roots = append(roots, root{c, "essential"})
		}
	}
	slices.SortFunc(roots, func(a, b root) int { return strings.Compare(a.Name, b.Name) })
	return pins, roots, nil
}

// missing says that g has no package name, and what comes close.
func (g *groupIndex) missing(name string) string {
	if text := g.broken[name]; text != "" {
		return text
	}
	text := fmt.Sprintf("there is no package %s in %s", name, g.suites())
	if list := g.provider[name]; len(list) > 0 {
		names := make([]string, len(list))
		for i, c := range list {
			names[i] = c.Name
		}
		text += "; it is provided by " + strings.Join(names, ", ") + ": name one of them"
	}
	return text
}

// demand is a clause that somebody chosen depends on.
type demand struct {
	from  *candidate
	field string
	relation.Clause
}

// state is a partial solution. Trials work on copies.
type state struct {
	u        *universe
	pins     map[string]int
	chosen   map[string]*candidate   // by name
	provided map[string][]*candidate // chosen, by a name they provide
	refusals map[string][]refusal    // by the name that is refused
	parent   map[*candidate]link
	open     []demand // in the order in which they came up
}

// refusal is a Conflicts or Breaks of a chosen package.
type refusal struct {
	from  *candidate
	field string
	relation.Relation
}

// link says why a package was chosen: for a relation of another, or for itself.
type link struct {
	from *candidate // nil: for itself
	text string     // the relation, or who wants it
}

func newState(u *universe, pins map[string]int) *state {
	return &state{
		u: u, pins: pins,
		chosen:   make(map[string]*candidate),
		provided: make(map[string][]*candidate),
		refusals: make(map[string][]refusal),
		parent:   make(map[*candidate]link),
	}
}

// clone copies s; the lists in its maps are only ever appended to, and clipped
// so that appending copies them.
func (s *state) clone() *state {
	c := &state{
		u: s.u, pins: s.pins,
		chosen:   maps.Clone(s.chosen),
		provided: maps.Clone(s.provided),
		refusals: maps.Clone(s.refusals),
		parent:   maps.Clone(s.parent),
		open:     slices.Clone(s.open),
	}
	return c
}

func (s *state) solve(ctx context.Context, roots []root) error {
	for _, r := range roots {
		if err := s.choose(r.candidate, link{text: r.from}); err != nil {
			return err
		}
	}
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := s.propagate(); err != nil {
			return err
		}
		if len(s.open) == 0 {
			return nil
		}
		next, err := s.decide(s.open[0])
		if err != nil {
			return err
		}
		*s = *next
	}
}

// propagate chooses what is forced, until every open demand leaves a choice.
func (s *state) propagate() error {
	for again := true; again; {
		again = false
		pending := s.open
		s.open = nil // choose appends
		for _, d := range pending {
			if s.fulfilled(d) {
				continue
			}
			options := s.options(d)
			switch len(options) {
			case 0:
				return s.unmet(d)
			case 1:
				if err := s.choose(options[0].candidate, link{d.from, options[0].text}); err != nil {
					return err
				}
				again = true
			default:
				s.open = append(s.open, d)
			}
		}
	}
	return nil
}

// decide tries the options of d in turn, and returns the state after the first
// whose forced consequences hold.
func (s *state) decide(d demand) (*state, error) {
	var failed []string
	var held []*candidate
	var replace *replaceError // the last resort
	for _, o := range s.options(d) {
		t := s.clone()
		err := t.choose(o.candidate, link{d.from, o.text})
		if err == nil {
			err = t.propagate()
		}
		if err == nil {
			return t, nil
		}
		var unsolvable *UnsolvableError
		switch {
		case errors.As(err, &unsolvable):
			failed = append(failed, fmt.Sprintf("%s will not do (%s)", o.Name, unsolvable.Problem))
			held = append(held, unsolvable.held...)
		case replace == nil && errors.As(err, &replace):
		case replace == nil:
			return nil, err
		}
	}
	if replace != nil {
		return nil, replace
	}
	return nil, &UnsolvableError{Chain: s.chain(d.from), Problem: fmt.Sprintf("%s %s: %s", d.field, d.Clause, strings.Join(failed, "; ")), held: held}
}

func (s *state) fulfilled(d demand) bool {
	for _, r := range d.Clause {
		if c := s.chosen[r.Name]; c != nil && s.u.satisfies(c, r) {
			return true
		}
		for _, c := range s.provided[r.Name] {
			if s.u.satisfies(c, r) {
				return true
			}
		}
	}
	return false
}

// option is a candidate that fulfils a demand.
type option struct {
	*candidate
	text string // the relation that it fulfils, for Why
}

// options lists what could fulfil d, the preferred first, each package once.
func (s *state) options(d demand) []option {
	var list []option
	add := func(c *candidate, r relation.Relation) {
		if c == nil || !s.u.satisfies(c, r) || s.u.groups[c.group].byName[c.Name] != c {
			return
		}
		if group, pinned := s.pins[c.Name]; pinned && group != c.group {
			return
		}
		if slices.ContainsFunc(list, func(o option) bool { return o.Name == c.Name }) {
			return
		}
		text := r.String()
		if c.Name != r.Name {
			text = c.Name + " for " + text
		}
		list = append(list, option{c, text})
	}
	for _, r := range d.Clause {
		for _, g := range s.lookIn(r.Name, d.from) {
			add(s.u.groups[g].byName[r.Name], r)
			for _, c := range s.u.groups[g].provider[r.Name] {
				add(c, r)
			}
		}
	}
	// What was there before stays.
	slices.SortStableFunc(list, func(a, b option) int { return cmp.Compare(s.u.before(a.candidate), s.u.before(b.candidate)) })
	return list
}

// lookIn returns the groups in which a dependency of from on name is looked
// for, in order of preference.
func (s *state) lookIn(name string, from *candidate) []int {
	groups := []int{0}
	if g, pinned := s.pins[name]; pinned {
		groups = []int{g, 0} // the base may still provide the name
	}
	if !slices.Contains(groups, from.group) {
		groups = append(groups, from.group)
	}
	return groups
}

// choose adds c, checks it against everything chosen and opens its demands.
func (s *state) choose(c *candidate, why link) error {
	if old := s.chosen[c.Name]; old == c {
		return nil
	} else if old != nil {
		if c.group > 0 && old.group == 0 {
			return &replaceError{old: old, with: c}
		}
		chain := append(s.chainTo(why), c.String())
		return &UnsolvableError{Chain: chain, Problem: fmt.Sprintf("%s is chosen already: %s", old, strings.Join(s.chain(old), " -> ")), held: s.inTheWay(c, old)}
	}
	s.parent[c] = why
	s.chosen[c.Name] = c
	for _, p := range c.provides {
		if list := s.provided[p.Name]; !slices.Contains(list, c) {
			s.provided[p.Name] = append(slices.Clip(list), c)
		}
	}
	for _, f := range []struct{ name, text string }{{"Pre-Depends", c.PreDepends}, {"Depends", c.Depends}} {
		clauses, err := relation.Parse(f.text)
		if err != nil {
			return s.fieldError(c, f.name, err)
		}
		for _, clause := range clauses {
			s.open = append(s.open, demand{c, f.name, clause})
		}
	}
	return s.refuse(c)
}

// fieldError says that c, just chosen, has a field that can't be read.
func (s *state) fieldError(c *candidate, field string, err error) error {
	return &UnsolvableError{Chain: s.chain(c), Problem: fmt.Sprintf("package %s is malformed in the index of %s: field %s: %v", c, c.suite, field, err), held: s.inTheWay(c)}
}

// refuse checks Conflicts and Breaks between c, just chosen, and the others, in
// both directions.
func (s *state) refuse(c *candidate) error {
	names := []string{c.Name}
	for _, p := range c.provides {
		names = append(names, p.Name)
	}
	for _, name := range names {
		for _, r := range s.refusals[name] {
			if r.from != c && s.u.satisfies(c, r.Relation) {
				return s.clash(c, r)
			}
		}
	}
	for _, f := range []struct{ name, text string }{{"Conflicts", c.Conflicts}, {"Breaks", c.Breaks}} {
		clauses, err := relation.Parse(f.text)
		if err != nil {
			return s.fieldError(c, f.name, err)
		}
		for _, clause := range clauses {
			if len(clause) != 1 {
				return s.fieldError(c, f.name, fmt.Errorf("%q has alternatives", clause))
			}
			r := refusal{c, f.name, clause[0]}
			s.refusals[r.Name] = append(slices.Clip(s.refusals[r.Name]), r)
			if other := s.chosen[r.Name]; other != nil && other != c && s.u.satisfies(other, r.Relation) {
				return s.clash(other, r)
			}
			for _, other := range s.provided[r.Name] {
				// A package may conflict with a name that it provides itself
				// (Policy 7.4).
				if other != c && s.u.satisfies(other, r.Relation) {
					return s.clash(other, r)
				}
			}
		}
	}
	return nil
}

// choices returns the solution sorted by name.
func (s *state) choices() []Choice {
	list := make([]Choice, 0, len(s.chosen))
	for _, c := range s.chosen {
		list = append(list, Choice{Package: *c.Package, Archive: c.archive, Suite: c.suite, Why: s.chain(c), Released: s.u.groups[c.group].released[c.Name]})
	}
	slices.SortFunc(list, func(a, b Choice) int { return strings.Compare(a.Name, b.Name) })
	return list
}
