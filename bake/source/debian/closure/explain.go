package closure

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
	}
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
	}
}
