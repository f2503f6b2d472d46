// Package relation reads relationship fields of Debian packages and compares
// versions. It does not know which packages there are.
package relation

import (
	"errors"
	"fmt"
	"strings"

	debversion "github.com/knqyf263/go-deb-version"
)

// Relation names a package, perhaps in certain versions only:
// "libc6 (>= 2.38)", "python3:any".
type Relation struct {
	Name    string
	Arch    string // after the colon: "any", "native" or an architecture; "": any that dpkg takes without asking
	Op      string // "<<", "<=", "=", ">=", ">>"; "": every version
	Version string // with Op
}

func (r Relation) String() string {
	s := r.Name
	if r.Arch != "" {
		s += ":" + r.Arch
	}
	if r.Op != "" {
		s += " (" + r.Op + " " + r.Version + ")"
	}
	return s
}

// Clause is a list of alternatives, the preferred one first.
type Clause []Relation

func (c Clause) String() string {
	s := make([]string, len(c))
	for i, r := range c {
		s[i] = r.String()
	}
	return strings.Join(s, " | ")
}

// Parse parses a relationship field as binary packages have them
// (Debian Policy 7.1): clauses separated by commas, alternatives by bars.
// Architecture lists in brackets and build profiles, which only source
// packages have, are errors, as are the operators "<" and ">" that Policy
// deprecates.
func Parse(field string) ([]Clause, error) {
	if strings.TrimSpace(field) == "" {
		return nil, nil
	}
	var clauses []Clause
	for part := range strings.SplitSeq(field, ",") {
		// Policy does not allow a trailing comma, dpkg does, and packages in
		// the archive have one.
		if strings.TrimSpace(part) == "" {
			continue
		}
		var clause Clause
		for text := range strings.SplitSeq(part, "|") {
			r, err := parseRelation(text)
			if err != nil {
				return nil, err
			}
			clause = append(clause, r)
		}
		clauses = append(clauses, clause)
	}
	return clauses, nil
}

func parseRelation(text string) (Relation, error) {
	text = strings.Trim(text, " \t\n")
	var r Relation
	name, constraint, versioned := strings.Cut(text, "(")
	name = strings.TrimRight(name, " \t\n")
	r.Name, r.Arch, _ = strings.Cut(name, ":")
	if !ValidName(r.Name) || strings.HasSuffix(name, ":") || r.Arch != "" && !ValidName(r.Arch) {
		return Relation{}, fmt.Errorf("%q does not start with a package name", text)
	}
	if !versioned {
		return r, nil
	}
	constraint, closed := strings.CutSuffix(constraint, ")")
	constraint = strings.Trim(constraint, " \t\n")
	if !closed {
		return Relation{}, fmt.Errorf("%q has no closing parenthesis at its end", text)
	}
	for _, op := range []string{"<<", "<=", ">=", ">>", "="} {
		version, ok := strings.CutPrefix(constraint, op)
		if !ok {
			continue
		}
		r.Op, r.Version = op, strings.Trim(version, " \t\n")
		if err := ValidVersion(r.Version); err != nil {
			return Relation{}, fmt.Errorf("%q: %w", text, err)
		}
		return r, nil
	}
	return Relation{}, fmt.Errorf("%q has none of the operators <<, <=, =, >=, >>", text)
}

// ValidName reports whether s is a package name by Debian Policy 5.6.1: lower
// case letters, digits, "+", "-" and ".", the first alphanumeric. One
// character is accepted, as dpkg does.
func ValidName(s string) bool {
	for i := range len(s) {
		c := s[i]
		alnum := 'a' <= c && c <= 'z' || '0' <= c && c <= '9'
		if !alnum && (i == 0 || c != '+' && c != '-' && c != '.') {
			return false
		}
	}
	return s != ""
}

// maxDigits is the longest run of digits in a version that compares exactly:
// go-deb-version keeps each run in an int.
const maxDigits = 18

// ValidVersion says why s is not a version that [CompareVersions] takes, or nil.
func ValidVersion(s string) error {
	digits := 0
	for i := range len(s) {
		switch c := s[i]; {
		case '0' <= c && c <= '9':
			if digits++; digits > maxDigits {
				return fmt.Errorf("version %q has more than %d digits in a row", s, maxDigits)
			}
		case c <= ' ' || c > '~':
			// go-deb-version trims blanks and takes letters beyond ASCII.
			return fmt.Errorf("version %q has a character that is not allowed", s)
		default:
			digits = 0
		}
	}
	switch {
	case s == "":
		return errors.New("version is empty")
	case strings.HasSuffix(s, "-"):
		return fmt.Errorf("version %q has an empty revision", s) // which go-deb-version takes
	}
	if _, err := debversion.NewVersion(s); err != nil {
		return fmt.Errorf("version %q: %w", s, err)
	}
	return nil
}

// CompareVersions compares two versions as deb-version(7) orders them. Both
// must be valid.
func CompareVersions(a, b string) int {
	if a == b {
		return 0
	}
	return MustVersion(a).Compare(MustVersion(b))
}

// Version is a parsed version that keeps its text.
type Version struct {
	text   string
	parsed debversion.Version
}

func MustVersion(s string) Version {
	v, err := debversion.NewVersion(s)
	if err != nil {
		panic(fmt.Sprintf("BUG: version %q was not checked: %v", s, err))
	}
	return Version{s, v}
}

func (v Version) Compare(w Version) int {
	if v.text == w.text {
		return 0
	}
	return v.parsed.Compare(w.parsed)
}

// Allows reports whether v fulfils r's constraint.
func (r Relation) Allows(v Version) bool {
	if r.Op == "" {
		return true
	}
	d := v.Compare(MustVersion(r.Version))
	switch r.Op {
	case "<<":
		return d < 0
	case "<=":
		return d <= 0
	case "=":
		return d == 0
	case ">=":
		return d >= 0
	default:
		return d > 0
	}
}
