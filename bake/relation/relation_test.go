package relation

import (
	"math/rand/v2"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/test/need"
)

func TestParse(t *testing.T) {
	tests := []struct {
		field string
		want  []Clause
	}{
		{"", nil},
		{" \n ", nil},
		{"a", []Clause{{{Name: "a"}}}},
		{"a, b|c", []Clause{{{Name: "a"}}, {{Name: "b"}, {Name: "c"}}}},
		{"libc6 (>= 2.38),\nlibstdc++6(<<5~),", []Clause{{{"libc6", "", ">=", "2.38"}}, {{"libstdc++6", "", "<<", "5~"}}}},
		{"python3:any (>= 3.11~), x:amd64", []Clause{{{"python3", "any", ">=", "3.11~"}}, {{Name: "x", Arch: "amd64"}}}},
		{"a (= 1:2-3), b ( >>  4 ) , c (<= 5)", []Clause{{{"a", "", "=", "1:2-3"}}, {{"b", "", ">>", "4"}}, {{"c", "", "<=", "5"}}}},
	}
	for _, test := range tests {
		got, err := Parse(test.field)
		if err != nil {
			t.Errorf("Parse(%q): %v", test.field, err)
			continue
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("Parse(%q) (-want +got):\n%s", test.field, diff)
		}
	}
}

func TestParseErrors(t *testing.T) {
	for _, field := range []string{
		"A", "a b", "a |", "| a", "a (1)", "a (> 1)", "a (< 1)", "a (>= )", "a (>= 1", "a >= 1)", "a (>= 1) b", "a (== 1)",
		"a:", "a:Any", "a [amd64]", "a <!nocheck>", "a (>= x)", "a (>= 1 2)", "a (>= 1234567890123456789)", "-a", "${misc:Depends}",
	} {
		if got, err := Parse(field); err == nil {
			t.Errorf("Parse(%q) = %v; want an error", field, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("libc6 (>= 2.38), python3:any | python3-minimal:any (>= 3.11~), x (= 1:2-3)")
	f.Add("a(<<5~),")
	f.Fuzz(func(t *testing.T, field string) {
		first, err := Parse(field)
		if err != nil {
			return
		}
		texts := make([]string, len(first))
		for i, c := range first {
			texts[i] = c.String()
			for _, r := range c {
				r.Allows(MustVersion("1:2.3-4")) // does not panic
			}
		}
		second, err := Parse(strings.Join(texts, ", "))
		if err != nil {
			t.Fatalf("parsing %q again: %v", texts, err)
		}
		if diff := cmp.Diff(first, second); diff != "" {
			t.Errorf("relations of %q (-first +second):\n%s", field, diff)
		}
	})
}

// versions of the archive, and others in which an order is easily wrong.
func testVersions() []string {
	return []string{
		"0", "0.0", "1", "1.0", "1.0-0", "1.0-1", "1.0-1+b1", "1.0-1+b10", "1.0-1~bpo12+1", "1.0-1.1", "1.0+dfsg-1", "1.0~rc1-1", "1.0~~", "1.0~",
		"1:0", "1:0.9-1", "2:0.1", "1.0a", "1.0a1", "1.0+", "1.0-1deb1", "1.00", "01.0", "1.10", "1.9", "5.2.37-2+b10", "3.3.dfsg+really1.3.1-1+deb13u1",
		"6.12.107-1", "6.12.57-1", "257.13-1~deb13u1", "257.13-1", "1.51~1+deb13u1+16.1-2~deb13u1", "2.4+20151223.gitfa8646d.1-2+b5", "20250419+deb13u1",
		"1-2-3", "1-2", "1.2.3-a", "1.2.3-A", "1.2.3-~", "1.2.3-+", "1.2.3-.", "123456789012345678", "123456789012345677",
	}
}

// TestCompareVersions asks dpkg about pairs of versions.
func TestCompareVersions(t *testing.T) {
	need.Program(t, "dpkg", "dpkg")
	if err := exec.CommandContext(t.Context(), "dpkg", "--compare-versions", "1.9", "gt", "1.10").Run(); err == nil {
		t.Fatal("dpkg agrees with what is wrong")
	}
	random := rand.New(rand.NewPCG(1, 2))
	all := testVersions()
	for range 300 {
		a, b := all[random.IntN(len(all))], all[random.IntN(len(all))]
		for _, v := range []string{a, b} {
			if err := ValidVersion(v); err != nil {
				t.Fatal(err)
			}
		}
		got := CompareVersions(a, b)
		op := map[bool]string{got < 0: "lt", got == 0: "eq", got > 0: "gt"}[true]
		if err := exec.CommandContext(t.Context(), "dpkg", "--compare-versions", a, op, b).Run(); err != nil {
			t.Errorf("CompareVersions(%q, %q) = %d; dpkg does not agree that it is %s", a, b, got, op)
		}
		if back := CompareVersions(b, a); (back < 0) != (got > 0) || (back > 0) != (got < 0) {
			t.Errorf("CompareVersions(%q, %q) = %d, and %d the other way round", a, b, got, back)
		}
	}
}

func TestValidVersion(t *testing.T) {
	for _, v := range []string{"", " ", "a", "1 2", "1\n", "x:1", "-1:1", ":1", "1:", "1_2é", "1.0-", "12345678901234567890", "1/2"} {
		if err := ValidVersion(v); err == nil {
			t.Errorf("ValidVersion(%q) = nil; want an error", v)
		}
	}
}
