package verify

import (
	"crypto/sha256"
	"maps"
	"path"
	"strings"
	"testing"

	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/record"
)

// TestVouch decides who vouches for what.
func TestVouch(t *testing.T) {
	image := map[string]manifest.Digest{record.VersionsName: "sha256:a", record.LockName: "sha256:b", "modules/x/go.sum": "sha256:c"}
	given := func(versions, lock, sum manifest.Digest) map[string]input {
		out := map[string]input{}
		for name, sum := range map[string]manifest.Digest{record.VersionsName: versions, record.LockName: lock, "modules/x/go.sum": sum} {
			if sum != "" {
				out[name] = input{"my/" + name, sum}
			}
		}
		return out
	}
	const nobody = "nothing says that they are harmless (give --key that signed them, --versions that you know, or --trust-inputs)"
	for _, test := range []struct {
		name string
		v    vouchers
		want string
	}{
		{"nobody", vouchers{}, nobody},
		{"a signature", vouchers{signed: true}, ""},
		{"the user", vouchers{trust: true}, ""},
		{"his inputs", vouchers{given: given("sha256:a", "sha256:b", "sha256:c")}, ""},
		{"his versions file alone", vouchers{given: given("sha256:a", "", "")}, ""},
		{"another versions file", vouchers{given: given("sha256:z", "sha256:z", "")}, "my/versions.yaml is sha256:z, and the image was made from sha256:a"},
		{"another lock", vouchers{given: given("sha256:a", "sha256:z", "sha256:c")}, "my/versions.lock is sha256:z, and the image was made from sha256:b"},
		{"another go.sum", vouchers{given: given("sha256:a", "sha256:b", "sha256:z")}, "my/modules/x/go.sum is sha256:z, and the image was made from sha256:c"},
		{"a signature of others than his", vouchers{signed: true, given: given("sha256:z", "", "")}, "my/versions.yaml is sha256:z, and the image was made from sha256:a"},
		{"the user, of others than his", vouchers{trust: true, given: given("sha256:z", "", "")}, "my/versions.yaml is sha256:z, and the image was made from sha256:a"},
	} {
		got := ""
		if err := test.v.vouch(image); err != nil {
			got = err.Error()
		}
		if got != test.want {
			t.Errorf("%s: vouch = %q; want %q", test.name, got, test.want)
		}
	}
}

// TestReadDefinition has records of strangers name what no definition has.
func TestReadDefinition(t *testing.T) {
	sum := func(s string) manifest.Digest { return manifest.SHA256(sha256.Sum256([]byte(s))) }
	whole := map[string]string{
		"image.yaml":     "name: n\npackages: []\nkernel: {arguments: [], modules: []}\nunits: {enable: {}, mask: {}}\n",
		"configure.yaml": "{}\n",
	}
	with := func(name, content string) map[string]string {
		files := maps.Clone(whole)
		files[name] = content
		return files
	}
	for _, test := range []struct {
		name  string
		files map[string]string
		want  string
	}{
		{"good", whole, ""},
		{"a path that leads out", with("files/../../../etc/passwd", ""), `reading /usr/lib/bake/image.json in x.raw: "files/../../../etc/passwd" is no path of a file of an image definition`},
		{"an absolute path", with("/etc/passwd", ""), `reading /usr/lib/bake/image.json in x.raw: "/etc/passwd" is no path of a file of an image definition`},
		{"a stray file", with("etc/passwd", ""), "reading what the image was made from: reading the image definition x.raw: /usr/lib/bake/inputs/definition: unexpected file etc/passwd (files for the image go below files/)"},
		{"too large", with("files/large", strings.Repeat("x", manifest.MaxDefinitionSize)), "reading /usr/lib/bake/inputs/definition in x.raw: it has more than 16777216 bytes"},
		{"not ours", with("image.yaml", "name: [n]\n"), `reading what the image was made from: x.raw: /usr/lib/bake/inputs/definition/image.yaml:1:1: packages: missing (add it)`},
	} {
		in := &embeddedInputs{path: "x.raw", record: &record.Record{}}
		in.record.Inputs.DefinitionFiles = map[string]manifest.Digest{}
		byPath := map[string][]byte{}
		for name, content := range test.files {
			in.record.Inputs.DefinitionFiles[name] = sum(content)
			byPath[path.Join(record.InputsDir, record.DefinitionName, name)] = []byte(content)
		}
		if d, err := manifest.ParseDefinitionFiles("", map[string][]byte{"image.yaml": []byte(whole["image.yaml"]), "configure.yaml": []byte(whole["configure.yaml"])}); err == nil {
			in.record.Inputs.Definition = d.Sum
		}
		err := in.readDefinition(func(name string, _ manifest.Digest) ([]byte, error) { return byPath[name], nil })
		got := ""
		if err != nil {
			got, _, _ = strings.Cut(err.Error(), "\n")
		}
		if got != test.want {
			t.Errorf("%s: readDefinition = %q; want %q", test.name, got, test.want)
		}
		if (in.definition != nil) != (test.want == "") {
			t.Errorf("%s: the definition is %v", test.name, in.definition)
		}
	}
	in := &embeddedInputs{path: "x.raw", record: &record.Record{}}
	in.record.Inputs.Definition = "sha256:a"
	in.record.Inputs.DefinitionFiles = map[string]manifest.Digest{"image.yaml": "", "configure.yaml": ""}
	err := in.readDefinition(func(name string, _ manifest.Digest) ([]byte, error) { return []byte(whole[path.Base(name)]), nil })
	if err != nil || in.definition != nil || in.altered == nil || !strings.Contains(in.altered.What, "says sha256:a: one of the two was changed") {
		t.Errorf("with another digest in the record: readDefinition = %v, %+v; want that one was changed", err, in.altered)
	}
}
