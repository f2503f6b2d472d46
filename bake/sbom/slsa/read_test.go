package slsa_test

import (
	"strings"
	"testing"

	"github.com/nodebake/bake/bake/record"
	"github.com/nodebake/bake/bake/sbom"
	"github.com/nodebake/bake/bake/sbom/slsa"
)

func TestRead(t *testing.T) {
	t.Parallel()
	b := contents()
	b.Record.Images = append(b.Record.Images, record.ContainerImage{Name: "lock", Reference: "registry.example/lock:1", Origin: "release", Digest: sum("8")})
	b.Images = append(b.Images, sbom.BuildInfo{})
	got, err := slsa.Read(statement(t, b))
	if want := (slsa.Inputs{Versions: sum("a"), Lock: sum("b")}); err != nil || got != want {
		t.Errorf("Read = %+v, %v; want %+v", got, err, want)
	}
}

// TestReadRefuses shows what somebody may sign with the same key.
func TestReadRefuses(t *testing.T) {
	t.Parallel()
	good := string(statement(t, contents()))
	dependency := func(name string) string { return `"name": "` + name + `"` }
	for _, test := range []struct{ name, old, new, want string }{
		{"other predicate", slsa.PredicateType, "https://slsa.dev/verification_summary/v1", `the statement is of type "https://slsa.dev/verification_summary/v1"`},
		{"older predicate", slsa.PredicateType, "https://slsa.dev/provenance/v0.2", `the statement is of type "https://slsa.dev/provenance/v0.2"`},
		{"no predicate type", slsa.PredicateType, "", `the statement is of type ""`},
		{"other type of statement", "https://in-toto.io/Statement/v1", "https://in-toto.io/Statement/v0.1", `the statement is of type "https://slsa.dev/provenance/v1"`},
		{"other build type", slsa.BuildType, "https://example.com/ci\\u001b[2J", "the statement has build type \"https://example.com/ci\x1b[2J\""},
		{"no build type", `"buildType"`, `"buildtype"`, `the statement has build type ""`},
		{"no lock", dependency("lock"), dependency("lick"), "reading the statement: no dependency is called lock"},
		{"two locks", dependency("units"), dependency("lock"), "reading the statement: two dependencies are called lock"},
		{"lock without a digest", sum("b").Hex(), "bb", `reading the statement: dependency lock: `},
		{"two versions files", `"versionsFile": "` + string(sum("a")), `"versionsFile": "` + string(sum("b")),
			`reading the statement: the versions file is "` + string(sum("b")) + `" among the parameters and ` + string(sum("a")) + ` among the dependencies`},
		{"no JSON", good, "hello", "reading the statement: "},
		{"field twice", `"predicateType"`, `"predicateType": "x", "predicateType"`, "reading the statement: "},
	} {
		text := strings.Replace(good, test.old, test.new, 1)
		if text == good {
			t.Fatalf("%s: the statement lacks %s", test.name, test.old)
		}
		got, err := slsa.Read([]byte(text))
		if err == nil || !strings.HasPrefix(err.Error(), test.want) {
			t.Errorf("%s: Read = %+v, %v; want an error %s", test.name, got, err, test.want)
		}
	}
}

func FuzzRead(f *testing.F) {
	text, err := slsa.Statement(contents(), subjects())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(`{"_type":"https://in-toto.io/Statement/v1","predicateType":"https://slsa.dev/provenance/v1","predicate":{"buildDefinition":null}}`))
	f.Fuzz(func(t *testing.T, statement []byte) {
		in, err := slsa.Read(statement)
		if err == nil && (in.Versions.Algorithm() != "sha256" || in.Lock.Algorithm() != "sha256") {
			t.Errorf("Read(%q) = %+v; want two digests", statement, in)
		}
	})
}
