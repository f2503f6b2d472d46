package resolver

import (
	"fmt"
	"slices"
	"strings"
)

// replaceError asks for another round in which a name is pinned to a group.
type replaceError struct {
	old, with *candidate
}

func (e *replaceError) Error() string {
	return fmt.Sprintf("BUG: %s was to be replaced by %s", e.old, e.with)
}

// chain says why c was chosen, from who asked.
func (s *state) chain(c *candidate) []string {
	chain := s.chainTo(s.parent[c])
	if s.parent[c].from == nil {
		chain = append(chain, c.Name)
	}
	return chain
}

// chainTo is the chain that ends with l.
func (s *state) chainTo(l link) []string {
	var chain []string
	for {
		chain = append(chain, l.text)
		if l.from == nil {
			break
		}
		if up := s.parent[l.from]; up.from == nil {
			chain = append(chain, l.from.Name, up.text)
			break
		}
		l = s.parent[l.from]
	}
	slices.Reverse(chain)
	return chain
}

// unmet explains a demand that no package fulfils.
func (s *state) unmet(d demand) error {
	return &UnsolvableError{
		Chain:   append(s.chain(d.from), d.Clause.String()),
		Problem: fmt.Sprintf("%s of %s: %s", d.field, d.from, s.lacking(d)),
		held:    s.unmetHeld(d),
	}
}

// unmetHeld returns the held versions because of which nothing fulfils d: those
// that others than them may fulfil it in place of, else who has the demand.
func (s *state) unmetHeld(d demand) []*candidate {
	var held []*candidate
	for _, r := range d.Clause {
		for _, g := range s.lookIn(r.Name, d.from) {
			for _, c := range append(slices.Clip(s.u.groups[g].provider[r.Name]), s.u.groups[g].byName[r.Name]) {
				if c != nil && c.held {
					held = append(held, c)
				}
			}
		}
	}
	if len(held) > 0 {
		return held
	}
	return s.inTheWay(d.from)
}

// inTheWay returns those of candidates that are held; where none is, the nearest
// held ones among those that led to them.
func (s *state) inTheWay(candidates ...*candidate) []*candidate {
	for len(candidates) > 0 {
		var held, up []*candidate
		for _, c := range candidates {
			if c.held {
				held = append(held, c)
			}
			if from := s.parent[c].from; from != nil {
				up = append(up, from)
			}
		}
		if len(held) > 0 {
			return held
		}
		candidates = up
	}
	return nil
}

// lacking says for each alternative of d what there is instead.
func (s *state) lacking(d demand) string {
	var texts []string
	for _, r := range d.Clause {
		var have []string
		for _, g := range s.lookIn(r.Name, d.from) {
			if text := s.u.groups[g].broken[r.Name]; text != "" {
				have = append(have, text)
			}
		}
		if len(have) > 0 {
			texts = append(texts, strings.Join(have, " and "))
			continue
		}
		for _, g := range s.lookIn(r.Name, d.from) {
			if c := s.u.groups[g].byName[r.Name]; c != nil {
				text := c.Version + " in " + c.suite
				if !s.u.archSatisfies(c, r.Arch) {
					text += ", for " + s.u.arch + " only"
				}
				have = append(have, text)
			}
		}
		if len(have) > 0 {
			texts = append(texts, fmt.Sprintf("of %s there is %s", r.Name, strings.Join(have, " and ")))
			continue
		}
		var where []string
		for _, g := range s.lookIn(r.Name, d.from) {
			where = append(where, s.u.groups[g].suites())
		}
		texts = append(texts, fmt.Sprintf("nothing in %s is or provides %s", strings.Join(where, ", "), r.Name))
	}
	return strings.Join(texts, "; ")
}

// clash explains that r refuses c.
func (s *state) clash(c *candidate, r refusal) error {
	return &UnsolvableError{
		Chain:   s.chain(r.from),
		Problem: fmt.Sprintf("%s has %s: %s, and %s is chosen: %s", r.from, r.field, r.Relation, c, strings.Join(s.chain(c), " -> ")),
		held:    s.inTheWay(r.from, c),
	}
}
