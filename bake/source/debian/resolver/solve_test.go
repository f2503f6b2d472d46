package resolver

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/bake/relation"
)

// index makes an Index of lines "NAME VERSION; Field: value; ...".
func index(archive, suite string, lines ...string) Index {
	x := Index{Archive: archive, Suite: suite}
	for _, line := range lines {
		parts := strings.Split(line, ";")
		p := Package{Arch: "amd64"}
		p.Name, p.Version, _ = strings.Cut(strings.TrimSpace(parts[0]), " ")
		for _, part := range parts[1:] {
			name, value, _ := strings.Cut(strings.TrimSpace(part), ":")
			value = strings.TrimSpace(value)
			switch name {
			case "Essential":
				p.Essential = true
			case "Depends":
				p.Depends = value
			case "Pre-Depends":
				p.PreDepends = value
			case "Conflicts":
				p.Conflicts = value
			case "Breaks":
				p.Breaks = value
			case "Provides":
				p.Provides = value
			case "Priority":
				p.Priority = value
			case "Multi-Arch":
				p.MultiArch = value
			default:
				panic("unknown field " + name)
			}
		}
		x.Packages = append(x.Packages, p)
	}
	return x
}

// base is a group of one index.
func base(lines ...string) []Group {
	return []Group{{Suite: "trixie", Indices: []Index{index("debian", "trixie", lines...)}}}
}

func want(names ...string) []Want {
	var list []Want
	for _, n := range names {
		name, suite, _ := strings.Cut(n, "/")
		list = append(list, Want{Name: name, Suite: suite, From: "worker list"})
	}
	return list
}

// names lists choices as "name" or, outside of trixie, "name/suite".
func names(choices []Choice) string {
	var list []string
	for _, c := range choices {
		text := c.Name
		if c.Suite != "trixie" {
			text += "/" + c.Suite
		}
		list = append(list, text)
	}
	return strings.Join(list, " ")
}

func TestResolve(t *testing.T) {
	updated := []Group{{Suite: "trixie", Indices: []Index{
		index("debian", "trixie", "a 1; Depends: b", "b 1", "c 2", "d 1"),
		index("debian", "trixie-updates", "b 2; Depends: d"),
		index("debian-security", "trixie-security", "b 1.5", "c 1", "d 1"),
	}}}
	pinned := []Group{
		{Suite: "trixie", Indices: []Index{index("debian", "trixie", "a 1; Depends: lib", "lib 1", "tool 1", "user 1; Depends: lib (= 1)")}},
		{Suite: "forky", Indices: []Index{index("debian", "forky", "a 2; Depends: lib", "lib 2", "tool 2; Depends: lib (>= 2), new", "new 1", "plain 1; Depends: lib")}},
	}
	tests := []struct {
		name   string
		groups []Group
		wants  []Want
		want   string
	}{
		{"nothing", base("a 1"), nil, ""},
		{"essential and what it needs", base("a 1; Essential; Pre-Depends: b", "b 1; Depends: c", "c 1", "d 1"), nil, "a b c"},
		{"wanted", base("a 1; Essential", "b 1; Depends: c", "c 1", "d 1"), want("b"), "a b c"},
		{"wanted twice", base("a 1"), want("a", "a"), "a"},
		{"cycle", base("a 1; Depends: b", "b 1; Depends: a"), want("a"), "a b"},
		{"first alternative", base("a 1; Depends: b | c", "b 1", "c 1"), want("a"), "a b"},
		{"alternative that is wanted", base("a 1; Depends: b | c", "b 1", "c 1"), want("a", "c"), "a c"},
		{"alternative that comes in later", base("a 1; Depends: b | c, d", "b 1", "c 1", "d 1; Depends: c"), want("a"), "a c d"},
		{"alternative that comes in last", base("a 1; Depends: b | c", "b 1", "c 1", "z 1; Depends: y", "y 1; Depends: c"), want("a", "z"), "a c y z"},
		{"first is not there", base("a 1; Depends: b | c", "c 1"), want("a"), "a c"},
		{"first is too old", base("a 1; Depends: b (>= 2) | c", "b 1", "c 1"), want("a"), "a c"},
		{"first cannot be installed", base("a 1; Depends: b | c", "b 1; Depends: d", "c 1"), want("a"), "a c"},
		{"first conflicts", base("a 1; Depends: b | c; Conflicts: b", "b 1", "c 1"), want("a"), "a c"},
		{"first is broken by another", base("a 1; Depends: b | c", "b 1", "c 1", "d 1; Breaks: b (<< 2)"), want("a", "d"), "a c d"},
		{"deep failure of the first", base("a 1; Depends: b | c", "b 1; Depends: d", "d 1; Depends: e", "c 1"), want("a"), "a c"},
		{"virtual", base("a 1; Depends: v", "b 1; Provides: v"), want("a"), "a b"},
		{"real before virtual", base("a 1; Depends: v", "b 1; Provides: v", "v 1"), want("a"), "a v"},
		{"virtual that is chosen", base("a 1; Depends: v", "b 1; Provides: v", "v 1"), want("a", "b"), "a b"},
		{"virtual by priority", base("a 1; Depends: v", "b 1; Provides: v; Priority: optional", "c 1; Provides: v; Priority: required"), want("a"), "a c"},
		{"virtual by name", base("a 1; Depends: v", "c 1; Provides: v", "b 1; Provides: v"), want("a"), "a b"},
		{"provided version", base("a 1; Depends: v (>= 2)", "b 1; Provides: v", "c 1; Provides: v (= 1)", "d 1; Provides: v (= 2)"), want("a"), "a d"},
		{"provides itself in another version", base("a 1; Depends: b (>= 2)", "b 1; Provides: b (= 2)"), want("a"), "a b"},
		{"any", base("a 1; Depends: p:any", "p 1; Multi-Arch: allowed"), want("a"), "a p"},
		{"native and named architecture", base("a 1; Depends: p:native, q:amd64", "p 1", "q 1"), want("a"), "a p q"},
		{"conflict with what it provides", base("a 1; Provides: mta; Conflicts: mta"), want("a"), "a"},
		{"conflict with other versions", base("a 1; Conflicts: b (<< 1)", "b 1"), want("a", "b"), "a b"},
		{"versioned conflict with something provided", base("a 1; Breaks: v (<< 9)", "b 1; Provides: v"), want("a", "b"), "a b"},
		{"conflict with another architecture", base("a 1; Conflicts: b:i386", "b 1"), want("a", "b"), "a b"},
		{"updates win", updated, want("a"), "a b/trixie-updates d"},
		{"equal versions come from the suite", updated, want("d"), "d"},
		{"a lower one in security", updated, want("c"), "c"},
		{"pinned", pinned, want("a/forky"), "a/forky lib"},
		{"dependency from the base", pinned, want("plain/forky"), "lib plain/forky"},
		{"dependency that the base lacks", pinned, want("tool/forky"), "lib/forky new/forky tool/forky"},
		{"dependency that replaces the base's", pinned, want("a", "tool/forky"), "a lib/forky new/forky tool/forky"},
		{"pinned to the base", pinned, want("a/trixie"), "a lib"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			choices, err := Resolve(t.Context(), "amd64", test.groups, test.wants)
			if err != nil {
				t.Fatal(err)
			}
			if got := names(choices); got != test.want {
				t.Errorf("Resolve = %q; want %q", got, test.want)
			}
		})
	}
}

// TestClosure has essential packages, which only come where something needs them.
func TestClosure(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		lines []string
		wants []Want
		want  string
		err   string
	}{
		{"nothing", []string{"a 1; Essential"}, nil, "", ""},
		{"essential", []string{"a 1; Essential; Pre-Depends: c", "b 1; Depends: d", "c 1", "d 1"}, want("b"), "b d", ""},
		{"essential and needed", []string{"a 1; Essential; Pre-Depends: c", "b 1; Depends: a", "c 1"}, want("b"), "a b c", ""},
		{"essential and wanted", []string{"a 1; Essential; Pre-Depends: c", "b 1", "c 1"}, want("a"), "a c", ""},
		{"conflicts with an essential one", []string{"a 1; Essential", "b 1; Conflicts: a"}, want("b"), "b", ""},
		{"alternatives, one of which is essential", []string{"a 1; Essential", "b 1; Depends: c | a", "c 1"}, want("b"), "b c", ""},
		{"an essential one that can't be installed", []string{"a 1; Essential; Depends: x", "b 1"}, want("b"), "b", ""},
		{"an essential one that is malformed", []string{"m 1; Essential:", "b 1"}, want("b"), "b", ""},
		{"one that is needed and malformed", []string{"m 1; Essential:", "b 1; Depends: m"}, want("b"), "", "worker list -> b -> m: Depends of b 1: package m 1 is malformed"},
		{"conflict", []string{"b 1", "c 1; Conflicts: b"}, want("b", "c"), "", "c 1 has Conflicts: b, and b 1 is chosen"},
		{"not there", []string{"b 1; Essential"}, want("c"), "", "worker list: there is no package c in trixie"},
	} {
		groups := base(test.lines...)
		for i := range groups[0].Indices[0].Packages {
			if p := &groups[0].Indices[0].Packages[i]; p.Name == "m" {
				p.Malformed = errors.New("line 1: field Size is missing")
			}
		}
		choices, err := Closure(t.Context(), "amd64", groups, test.wants)
		if (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
			t.Errorf("%s: Closure: error is %v; want %q", test.name, err, test.err)
		}
		if got := names(choices); got != test.want {
			t.Errorf("%s: Closure = %q; want %q", test.name, got, test.want)
		}
	}
}

func TestResolveErrors(t *testing.T) {
	pinned := []Group{
		{Suite: "trixie", Indices: []Index{index("debian", "trixie", "lib 1", "user 1; Depends: lib (= 1)")}},
		{Suite: "forky", Indices: []Index{index("debian", "forky", "lib 2", "tool 2; Depends: lib (>= 2)")}},
	}
	tests := []struct {
		name   string
		groups []Group
		wants  []Want
		want   string
	}{
		{"not there", base("a 1"), want("b"), "worker list: there is no package b in trixie"},
		{"virtual", base("a 1; Provides: v", "b 1; Provides: v"), want("v"), "worker list: there is no package v in trixie; it is provided by a, b: name one of them"},
		{"dependency not there", base("a 1; Depends: b", "b 1; Depends: c"), want("a"),
			"worker list -> a -> b -> c: Depends of b 1: nothing in trixie is or provides c"},
		{"too old", base("a 1; Depends: b (>= 2)", "b 1"), want("a"), "worker list -> a -> b (>= 2): Depends of a 1: of b there is 1 in trixie"},
		{"unversioned provides", base("a 1; Depends: v (>= 2)", "b 1; Provides: v"), want("a"), "nothing in trixie is or provides v"},
		{"provided by one that cannot be had", base("a 1; Depends: v", "b 1; Provides: v; Depends: c"), want("a"),
			"worker list -> a -> b for v -> c: Depends of b 1: nothing in trixie is or provides c"},
		{"all alternatives", base("a 1; Depends: b | c", "b 1; Depends: x", "c 1; Depends: y"), want("a"),
			"worker list -> a: Depends b | c: b will not do (Depends of b 1: nothing in trixie is or provides x); c will not do (Depends of c 1: nothing in trixie is or provides y)"},
		{"any", base("a 1; Depends: p:any", "p 1; Multi-Arch: foreign"), want("a"), "of p there is 1 in trixie, for amd64 only"},
		{"another architecture", base("a 1; Depends: p:i386", "p 1"), want("a"), "for amd64 only"},
		{"conflict", base("a 1; Depends: c", "b 1; Depends: d", "c 1; Conflicts: d", "d 1"), want("a", "b"),
			"worker list -> a -> c: c 1 has Conflicts: d, and d 1 is chosen: worker list -> b -> d"},
		{"breaks", base("a 1; Breaks: b (<< 2)", "b 1"), want("a", "b"), "a 1 has Breaks: b (<< 2), and b 1 is chosen"},
		{"conflict the other way round", base("a 1", "b 1; Conflicts: a"), want("a", "b"), "b 1 has Conflicts: a, and a 1 is chosen"},
		{"conflict with something provided", base("a 1; Provides: mta", "b 1; Provides: mta; Conflicts: mta"), want("a", "b"), "b 1 has Conflicts: mta, and a 1 is chosen"},
		{"essential", base("a 1; Essential; Depends: b"), nil, "essential -> a -> b: Depends of a 1"},
		{"pinned to two", pinned, want("lib", "lib/forky"), "lib is wanted from forky, and by worker list from trixie"},
		{"replaced below another", pinned, want("tool/forky", "user"), "lib"},
		{"syntax", base("a 1; Depends: b c"), want("a"), `worker list -> a: package a 1 is malformed in the index of trixie: field Depends: "b c" does not start with a package name`},
		{"alternatives in Conflicts", base("a 1; Conflicts: b | c"), want("a"), "field Conflicts"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			choices, err := Resolve(t.Context(), "amd64", test.groups, test.wants)
			if err == nil {
				t.Fatalf("Resolve = %q; want an error", names(choices))
			}
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("error is\n%v\nwant\n%s", err, test.want)
			}
			if _, ok := errors.AsType[*UnsolvableError](err); !ok {
				t.Errorf("error is a %T; want an UnsolvableError", err)
			}
		})
	}
}

// TestResolveMalformed has packages that are malformed in an index, or have a
// field that is, wanted, needed or neither.
func TestResolveMalformed(t *testing.T) {
	const why = `is malformed in the index of trixie: line 1: field Size is missing (take the package off the list, or another mirror, until its archive mends it)`
	for _, test := range []struct {
		name      string
		lines     []string
		malformed string // "NAME VERSION"
		want      string // the choices, or
		err       string
	}{
		{"nobody wants it", []string{"a 1", "x 1"}, "x 1", "a", ""},
		{"wanted", []string{"a 1", "x 1"}, "a 1", "", "worker list: package a 1 " + why},
		{"needed", []string{"a 1; Depends: x (>= 1)", "x 1"}, "x 1", "", "worker list -> a -> x (>= 1): Depends of a 1: package x 1 " + why},
		{"essential", []string{"a 1", "x 1; Essential:"}, "x 1", "", "essential: package x 1 " + why},
		{"there is another alternative", []string{"a 1; Depends: x | y", "x 1", "y 1"}, "x 1", "a y", ""},
		{"another provides it", []string{"a 1; Depends: x", "x 1", "y 1; Provides: x"}, "x 1", "a y", ""},
		{"a field of an alternative", []string{"a 1; Depends: x | y", "x 1; Depends: (", "y 1"}, "", "a y", ""},
		{"a lower version", []string{"a 2", "a 1"}, "a 1", "a", ""},
		{"a higher version", []string{"a 2", "a 1"}, "a 2", "", "worker list: package a 2 " + why},
		{"a version that is none", []string{"a 2", "a x"}, "a x", "", "worker list: package a x " + why},
	} {
		t.Run(test.name, func(t *testing.T) {
			groups := base(test.lines...)
			for i := range groups[0].Indices[0].Packages {
				if p := &groups[0].Indices[0].Packages[i]; p.Name+" "+p.Version == test.malformed {
					p.Malformed = errors.New("line 1: field Size is missing")
				}
			}
			choices, err := Resolve(t.Context(), "amd64", groups, want("a"))
			text := ""
			if err != nil {
				text = err.Error()
			}
			if names(choices) != test.want || text != test.err {
				t.Errorf("Resolve = %q, %s; want %q, %s", names(choices), text, test.want, test.err)
			}
			if _, err := Find(groups[0], Want{Name: "a", From: "worker list"}); strings.HasPrefix(test.err, "worker list: ") != (err != nil) {
				t.Errorf("Find = %v; want an error where it is malformed", err)
			}
		})
	}
}

func TestWhy(t *testing.T) {
	choices, err := Resolve(t.Context(), "amd64", base("a 1; Depends: v (>= 1) | c", "b 1; Provides: v (= 2)"), want("a"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"worker list", "a", "b for v (>= 1)"}, choices[1].Why); diff != "" {
		t.Errorf("Why (-want +got):\n%s", diff)
	}
}

func TestFind(t *testing.T) {
	group := Group{Suite: "trixie", Indices: []Index{
		index("debian", "trixie", "a 1; Depends: nothing"),
		index("debian-security", "trixie-security", "a 2; Depends: nothing"),
	}}
	c, err := Find(group, Want{Name: "a", From: "extra packages"})
	if err != nil {
		t.Fatal(err)
	}
	if c.Version != "2" || c.Suite != "trixie-security" {
		t.Errorf("Find(a) = %s from %s; want 2 from trixie-security", c.Version, c.Suite)
	}
	if _, err := Find(group, Want{Name: "b", From: "extra packages"}); err == nil || !strings.Contains(err.Error(), "extra packages: there is no package b in trixie, trixie-security") {
		t.Errorf("Find(b): error is %v", err)
	}
}

// TestResolveIsSound makes random archives, and checks each solution against
// the rules by a direct reading of them, and against another order of the
// question.
func TestResolveIsSound(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	solved := 0
	for round := range 500 {
		lines := make([]string, 30)
		pick := func() string { return fmt.Sprintf("p%d", random.IntN(len(lines)+2)) }
		for i := range lines {
			line := fmt.Sprintf("p%d %d", i, 1+random.IntN(3))
			var deps []string
			for range random.IntN(3) {
				dep := pick()
				if random.IntN(3) == 0 {
					dep += fmt.Sprintf(" (>= %d)", 1+random.IntN(2))
				}
				if random.IntN(2) == 0 {
					dep += " | " + pick()
				}
				deps = append(deps, dep)
			}
			line += "; Depends: " + strings.Join(deps, ", ")
			if random.IntN(8) == 0 {
				line += "; Conflicts: " + pick()
			}
			if random.IntN(8) == 0 {
				line += "; Provides: " + pick()
			}
			lines[i] = line
		}
		groups, wants := base(lines...), want("p0", "p1", "p2")
		choices, err := Resolve(t.Context(), "amd64", groups, wants)
		if _, ok := errors.AsType[*UnsolvableError](err); ok {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		solved++
		checkSolution(t, choices)
		random.Shuffle(len(wants), func(i, j int) { wants[i], wants[j] = wants[j], wants[i] })
		x := groups[0].Indices[0].Packages
		random.Shuffle(len(x), func(i, j int) { x[i], x[j] = x[j], x[i] })
		again, err := Resolve(t.Context(), "amd64", groups, wants)
		if err != nil {
			t.Fatalf("round %d: in another order: %v", round, err)
		}
		if names(again) != names(choices) {
			t.Errorf("round %d: Resolve = %s; in another order %s", round, names(choices), names(again))
		}
	}
	if solved < 100 {
		t.Errorf("only %d of the archives had a solution; the test proves too little", solved)
	}
}

func checkSolution(t *testing.T, choices []Choice) {
	t.Helper()
	u := &universe{arch: "amd64"}
	var all []*candidate
	for i := range choices {
		c := &candidate{Package: &choices[i].Package, version: relation.MustVersion(choices[i].Version)}
		clauses, _ := relation.Parse(c.Provides)
		for _, clause := range clauses {
			c.provides = append(c.provides, clause[0])
		}
		all = append(all, c)
	}
	met := func(r relation.Relation, except *candidate) bool {
		for _, c := range all {
			if c != except && u.satisfies(c, r) {
				return true
			}
		}
		return false
	}
	for _, c := range all {
		depends, _ := relation.Parse(c.Depends)
		for _, clause := range depends {
			ok := false
			for _, r := range clause {
				ok = ok || met(r, nil)
			}
			if !ok {
				t.Errorf("the solution does not fulfil %s of %s", clause, c)
			}
		}
		conflicts, _ := relation.Parse(c.Conflicts)
		for _, clause := range conflicts {
			if met(clause[0], c) {
				t.Errorf("the solution has what %s conflicts with: %s", c, clause)
			}
		}
	}
}

// TestHeld has versions that were chosen before stay as long as they will do.
func TestHeld(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		lines []string // of the index
		held  []string
		wants []Want
		want  string // names with versions, and why one was let go
	}{
		{"higher in the index", []string{"a 2; Depends: b", "b 2"}, []string{"a 1; Depends: b", "b 1"}, want("a"), "a=1 b=1"},
		{"not in the index", []string{"b 2"}, []string{"a 1; Depends: b", "b 1"}, want("a"), "a=1 b=1"},
		{"nobody wants it", []string{"a 2", "b 2"}, []string{"a 1", "b 1"}, want("a"), "a=1"},
		{"essential", []string{"a 2"}, []string{"a 1; Essential"}, nil, "a=1"},
		{"too old for a new one", []string{"a 2", "b 2", "n 1; Depends: b (>= 2)"}, []string{"a 1", "b 1"}, want("a", "n"),
			"a=1 b=2 (Depends of n 1: of b there is 1 in trixie) n=1"},
		{"its friends follow", []string{"a 2; Depends: b (= 2)", "b 2", "n 1; Depends: b (>= 2)"}, []string{"a 1; Depends: b (= 1)", "b 1"}, want("a", "n"),
			"a=2 (Depends of a 1: of b there is 2 in trixie) b=2 (Depends of n 1: of b there is 1 in trixie) n=1"},
		{"broken by a new one", []string{"a 2", "n 1; Breaks: a (<< 2)"}, []string{"a 1"}, want("a", "n"),
			"a=2 (n 1 has Breaks: a (<< 2), and a 1 is chosen: worker list -> a) n=1"},
		{"breaks a new one", []string{"a 2", "n 1"}, []string{"a 1; Conflicts: n"}, want("a", "n"), "a=2 (a 1 has Conflicts: n, and n 1 is chosen: worker list -> n) n=1"},
		{"what it needs is gone", []string{"a 2"}, []string{"a 1; Depends: b"}, want("a"), "a=2 (Depends of a 1: nothing in trixie is or provides b)"},
		{"an alternative that was there stays", []string{"a 2; Depends: b | c", "b 1", "c 1"}, []string{"a 1; Depends: b | c", "c 1"}, want("a"), "a=1 c=1"},
		{"a provider that was there stays", []string{"a 1; Depends: v", "b 1; Provides: v; Priority: required", "c 2; Provides: v"}, []string{"a 1; Depends: v", "c 1; Provides: v"}, want("a"), "a=1 c=1"},
		{"a version that only the higher provides", []string{"a 1; Depends: v (>= 2)", "c 2; Provides: v (= 2)"}, []string{"c 1; Provides: v (= 1)"}, want("a"),
			"a=1 c=2 (Depends of a 1: nothing in trixie is or provides v)"},
		{"one that is in nobody's way", []string{"a 2", "b 2", "n 1; Depends: b (>= 2)"}, []string{"a 1", "b 1"}, want("n"), "b=2 (Depends of n 1: of b there is 1 in trixie) n=1"},
		{"the highest is malformed", []string{"a 2"}, []string{"a 1"}, want("a"), "a=1"},
		{"the alternatives of all kinds fail", []string{"a 1; Depends: b (>= 2) | c (>= 2)", "b 2", "c 2"}, []string{"b 1", "c 1"}, want("a"), "a=1 b=2 (Depends of a 1: of b there is 1 in trixie; of c there is 1 in trixie)"},
	} {
		groups := base(test.lines...)
		if test.name == "the highest is malformed" {
			groups[0].Indices[0].Packages[0].Malformed = errors.New("bad")
		}
		for _, p := range index("debian", "trixie", test.held...).Packages {
			groups[0].Held = append(groups[0].Held, Held{p, "debian", "trixie"})
		}
		choices, err := Resolve(t.Context(), "amd64", groups, test.wants)
		if err != nil {
			t.Errorf("%s: Resolve = %v", test.name, err)
			continue
		}
		var got []string
		for _, c := range choices {
			text := c.Name + "=" + c.Version
			if c.Released != "" {
				text += " (" + c.Released + ")"
			}
			got = append(got, text)
		}
		if got := strings.Join(got, " "); got != test.want {
			t.Errorf("%s: Resolve = %s; want %s", test.name, got, test.want)
		}
	}
	// What can't be resolved without held versions can't be resolved at all.
	groups := base("a 1; Depends: b (>= 2)", "b 1")
	groups[0].Held = []Held{{index("debian", "trixie", "b 0.5").Packages[0], "debian", "trixie"}}
	_, err := Resolve(t.Context(), "amd64", groups, want("a"))
	if want := "worker list -> a -> b (>= 2): Depends of a 1: of b there is 1 in trixie"; err == nil || err.Error() != want {
		t.Errorf("Resolve = %v; want %s", err, want)
	}
}
