// Package license reads what copyright files say about licenses, where they are
// machine-readable (DEP-5), and says it as SPDX does. Those of Debian packages are as
// they are; for what is built from Go modules, Copyright makes one of the modules' license files.
//
// It goes by names: a short name of DEP-5 is an SPDX identifier where the table has
// it, and otherwise a reference to what the copyright file says under that name. No
// text of a Debian package is compared with any license's. What a copyright file says is about the
// source package: a binary package may hold less.
//
// Limits. A copyright file that is not machine-readable says nothing here, nor
// does one above 1 MiB.
//
// Sources: Debian copyright-format 1.0 (www.debian.org/doc/packaging-manuals/copyright-format/1.0);
// SPDX 2.3, annex D (license expressions) and clause 10.1 (references).
package license

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
)

// License is what is said about the licenses of a package or a module.
type License struct {
	Expression string `json:"expression,omitempty"` // of SPDX; "": nothing
	Refs       []Ref  `json:"refs,omitempty"`       // the references in it, sorted
}

// Ref is a license that SPDX has no identifier for.
type Ref struct {
	ID   string `json:"id"`   // "LicenseRef-Debian-public-domain"
	Name string `json:"name"` // as the copyright file has it
}

// MaxSize is that of the largest copyright file that is read, in bytes.
const MaxSize = 1 << 20

// Debian returns what a copyright file says: the license of the package as a
// whole, if its header has one, or else all licenses of its files together.
func Debian(text []byte) License {
	if len(text) > MaxSize {
		return License{}
	}
	paragraphs := split(string(text))
	if len(paragraphs) == 0 || !isFormat(paragraphs[0]["format"]) {
		return License{}
	}
	e := expression{refs: map[string]string{}, ids: identifiers()}
	if whole := paragraphs[0]["license"]; whole != "" {
		e.add(whole)
		return e.license()
	}
	for _, p := range paragraphs[1:] {
		if _, ok := p["files"]; ok {
			e.add(p["license"])
		}
	}
	return e.license()
}

// isFormat recognises version 1.0 and the URL that it had before.
func isFormat(format string) bool {
	_, rest, ok := strings.Cut(format, "://")
	rest = strings.TrimSuffix(rest, "/")
	return ok && (strings.HasSuffix(rest, "debian.org/doc/packaging-manuals/copyright-format/1.0") || rest == "dep.debian.net/deps/dep5")
}

// split returns the fields of each paragraph by their names in lower case: of each
// its first line, which is all that says something here. Of a field that stands
// twice the first counts.
func split(text string) []map[string]string {
	var all []map[string]string
	var p map[string]string
	for line := range strings.SplitSeq(strings.ReplaceAll(text, "\r\n", "\n"), "\n") {
		switch {
		case strings.TrimSpace(line) == "":
			p = nil
		case line[0] == '#' || line[0] == ' ' || line[0] == '\t':
		default:
			name, value, ok := strings.Cut(line, ":")
			name = strings.ToLower(strings.TrimSpace(name))
			if !ok {
				continue
			}
			if p == nil {
				p = map[string]string{}
				all = append(all, p)
			}
			if _, twice := p[name]; !twice {
				p[name] = strings.Join(strings.Fields(value), " ")
			}
		}
	}
	return all
}

// expression is a conjunction of licenses under way.
type expression struct {
	all  []string          // licenses and choices, which are in parentheses
	refs map[string]string // names by their IDs
	ids  map[string]string // see identifiers
}

// add adds what one License field says. An empty one says nothing, so that all
// others together are not all of it either.
func (e *expression) add(line string) {
	if line == "" {
		e.all = append(e.all, "NOASSERTION")
		return
	}
	p := parser{words: strings.Fields(line), expression: e}
	tree, ok := p.choice(true)
	if !ok || len(p.words) > 0 {
		tree = node{name: e.ref(line)}
	}
	e.all = append(e.all, tree.conjuncts()...)
}

func (e *expression) license() License {
	slices.Sort(e.all)
	all := slices.Compact(e.all)
	if len(all) == 0 || slices.Contains(all, "NOASSERTION") {
		return License{}
	}
	l := License{Expression: strings.Join(all, " AND ")}
	if len(all) == 1 {
		l.Expression = strings.TrimSuffix(strings.TrimPrefix(l.Expression, "("), ")")
	}
	for id, name := range e.refs {
		// A line that could not be read whole may have left one behind.
		if slices.ContainsFunc(all, func(s string) bool { return slices.Contains(strings.FieldsFunc(s, isBetween), id) }) {
			l.Refs = append(l.Refs, Ref{ID: id, Name: name})
		}
	}
	slices.SortFunc(l.Refs, func(a, b Ref) int { return strings.Compare(a.ID, b.ID) })
	return l
}

func isBetween(r rune) bool { return r == ' ' || r == '(' || r == ')' }

// ref returns the reference to what is called name.
func (e *expression) ref(name string) string {
	clean := strings.Trim(strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '-' {
			return r
		}
		return '-'
	}, name), "-")
	if clean != name || len(clean) > 40 { // what it can't say, a digest tells apart
		clean = fmt.Sprintf("%s-%x", strings.Trim(clean[:min(40, len(clean))], "-"), sha256.Sum256([]byte(name)))
		clean = strings.TrimPrefix(clean[:len(clean)-56], "-")
	}
	id := "LicenseRef-Debian-" + clean
	e.refs[id] = strings.ToValidUTF8(name, "?")
	return id
}

// node is a license, or several of which all or one count.
type node struct {
	name string
	all  bool
	of   []node
}

// conjuncts returns the licenses and choices that count together.
func (n node) conjuncts() []string {
	switch {
	case len(n.of) == 0:
		return []string{n.name}
	case !n.all:
		return []string{"(" + n.text() + ")"}
	}
	var out []string
	for _, part := range n.of {
		out = append(out, part.conjuncts()...)
	}
	return out
}

func (n node) text() string {
	if len(n.of) == 0 {
		return n.name
	}
	var parts []string
	for _, part := range n.of {
		text := part.text()
		if len(part.of) > 0 && part.all != n.all {
			text = "(" + text + ")"
		}
		parts = append(parts, text)
	}
	slices.Sort(parts)
	operator := " OR "
	if n.all {
		operator = " AND "
	}
	return strings.Join(slices.Compact(parts), operator)
}

// parser reads the license names of one line: NAME, NAME with X exception, joined
// by "and" and "or", of which "and" binds closer; with a comma before them both
// bind less than all without.
type parser struct {
	words []string
	*expression
}

func (p *parser) choice(comma bool) (node, bool) {
	return p.joined("or", comma, func() (node, bool) {
		return p.joined("and", comma, func() (node, bool) {
			if comma {
				return p.choice(false)
			}
			return p.one()
		})
	})
}

// joined reads parts between an operator.
func (p *parser) joined(operator string, comma bool, part func() (node, bool)) (node, bool) {
	first, ok := part()
	n := node{all: operator == "and", of: []node{first}}
	for ok && p.take(operator, comma) {
		var next node
		next, ok = part()
		n.of = append(n.of, next)
	}
	if len(n.of) == 1 {
		n = first
	}
	return n, ok
}

// take takes the operator if it is next, behind a comma or without one.
func (p *parser) take(operator string, comma bool) bool {
	words := p.words
	if comma != (len(words) > 0 && words[0] == ",") {
		return false
	}
	if comma {
		words = words[1:]
	}
	if len(words) == 0 || !strings.EqualFold(words[0], operator) {
		return false
	}
	p.words = words[1:]
	return true
}

// next takes a word. A comma at its end becomes the next one.
func (p *parser) next() (string, bool) {
	if len(p.words) == 0 {
		return "", false
	}
	word := p.words[0]
	p.words = p.words[1:]
	if before, ok := strings.CutSuffix(word, ","); ok && before != "" {
		p.words = append([]string{","}, p.words...)
		return before, true
	}
	return word, word != ","
}

// one reads a license, with its exception.
func (p *parser) one() (node, bool) {
	name, ok := p.next()
	if !ok || strings.EqualFold(name, "and") || strings.EqualFold(name, "or") || strings.EqualFold(name, "with") || strings.ContainsAny(name, "|()/") {
		return node{}, false
	}
	if len(p.words) == 0 || !strings.EqualFold(p.words[0], "with") {
		if id := identifier(p.ids, name); id != "" {
			return node{name: id}, true
		}
		return node{name: p.ref(name)}, true
	}
	p.words = p.words[1:]
	var exception []string
	for {
		word, ok := p.next()
		if !ok {
			return node{}, false
		}
		exception = append(exception, word)
		if last := strings.ToLower(word); strings.Contains(last, "exception") || last == "linux-syscall-note" {
			break
		}
	}
	what := strings.Join(exception, " ")
	id, with := identifier(p.ids, name), exceptionFor(name, what)
	if id == "" || with == "" {
		return node{name: p.ref(name + " with " + what)}, true
	}
	return node{name: id + " WITH " + with}, true
}
