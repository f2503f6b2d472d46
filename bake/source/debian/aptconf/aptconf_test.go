package aptconf

import (
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

func TestParseLines(t *testing.T) {
	const key = "/usr/share/keyrings/debian-archive-keyring.gpg"
	tests := []struct {
		name, text string
		want       []Source
	}{
		{"empty", "", nil},
		{"comments", "# deb http://mirror.example/debian trixie main\n\n  # x\n", nil},
		{"plain", "deb http://mirror.example/debian trixie main contrib\n", []Source{{"http://mirror.example/debian", []string{"trixie"}, []string{"main", "contrib"}, ""}}},
		{"comment after", "deb http://mirror.example/debian trixie main # contrib", []Source{{"http://mirror.example/debian", []string{"trixie"}, []string{"main"}, ""}}},
		{"tabs", "\tdeb\thttp://mirror.example/debian\ttrixie\tmain", []Source{{"http://mirror.example/debian", []string{"trixie"}, []string{"main"}, ""}}},
		{"sources", "deb-src http://mirror.example/debian trixie main", nil},
		{"options", "deb [ arch=amd64,i386 signed-by=" + key + " trusted=no ] http://mirror.example/debian trixie main",
			[]Source{{"http://mirror.example/debian", []string{"trixie"}, []string{"main"}, key}}},
		{"options without blanks", "deb [signed-by=" + key + "]http://mirror.example/debian trixie main",
			[]Source{{"http://mirror.example/debian", []string{"trixie"}, []string{"main"}, key}}},
		{"options not closed", "deb [ arch=amd64 http://mirror.example/debian trixie main", nil},
		{"exact path", "deb http://mirror.example/repo ./", []Source{{"http://mirror.example/repo", []string{"./"}, []string{}, ""}}},
		{"no suite", "deb http://mirror.example/debian", nil},
		{"nonsense", "http://mirror.example/debian\ndebx y z\n[\n", nil},
		{"several", "deb http://a.example/debian trixie main\ndeb http://b.example/debian trixie main",
			[]Source{{"http://a.example/debian", []string{"trixie"}, []string{"main"}, ""}, {"http://b.example/debian", []string{"trixie"}, []string{"main"}, ""}}},
	}
	for _, test := range tests {
		if diff := cmp.Diff(test.want, ParseLines([]byte(test.text))); diff != "" {
			t.Errorf("%s: ParseLines (-want +got):\n%s", test.name, diff)
		}
	}
}

func TestParseStanzas(t *testing.T) {
	tests := []struct {
		name, text string
		want       []Source
	}{
		{"empty", "", nil},
		{"as Debian ships it", `# Modernized
Types: deb deb-src
# http://snapshot.example/archive/debian/20250520T000000Z
URIs: http://mirror.example/debian
Suites: trixie trixie-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example/debian-security
Suites: trixie-security
Components: main
`, []Source{
			{"http://mirror.example/debian", []string{"trixie", "trixie-updates"}, []string{"main"}, "/usr/share/keyrings/debian-archive-keyring.gpg"},
			{"http://mirror.example/debian-security", []string{"trixie-security"}, []string{"main"}, ""},
		}},
		{"two URIs", "Types: deb\nURIs: http://a.example/debian\n http://b.example/debian\nSuites: trixie\nComponents: main\n", []Source{
			{"http://a.example/debian", []string{"trixie"}, []string{"main"}, ""},
			{"http://b.example/debian", []string{"trixie"}, []string{"main"}, ""},
		}},
		{"disabled", "Enabled: no\nTypes: deb\nURIs: http://a.example/debian\nSuites: trixie\n\nEnabled: FALSE\nTypes: deb\nURIs: http://a.example/debian\nSuites: x\n", nil},
		{"enabled", "Enabled: yes\ntypes: deb\nuris: http://a.example/debian\nsuites: trixie\n", []Source{{"http://a.example/debian", []string{"trixie"}, nil, ""}}},
		{"sources only", "Types: deb-src\nURIs: http://a.example/debian\nSuites: trixie\n", nil},
		{"embedded key", "Types: deb\nURIs: http://a.example/debian\nSuites: trixie\nSigned-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mDME\n", []Source{
			{"http://a.example/debian", []string{"trixie"}, nil, "-----BEGIN PGP PUBLIC KEY BLOCK-----\n.\nmDME"},
		}},
		{"broken after a good one", "Types: deb\nURIs: http://a.example/debian\nSuites: trixie\n\nnonsense\n", []Source{{"http://a.example/debian", []string{"trixie"}, nil, ""}}},
	}
	for _, test := range tests {
		got := ParseStanzas([]byte(test.text))
		for i := range got {
			if len(got[i].Components) == 0 {
				got[i].Components = nil
			}
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s: ParseStanzas (-want +got):\n%s", test.name, diff)
		}
	}
}

func uris(sources []Source) string {
	var list []string
	for _, s := range sources {
		list = append(list, s.URI)
	}
	return strings.Join(list, " ")
}

func TestRead(t *testing.T) {
	line := func(host string) *fstest.MapFile {
		return &fstest.MapFile{Data: []byte("deb http://" + host + "/debian trixie main\n")}
	}
	host := fstest.MapFS{
		"etc/apt/sources.list":                   line("first"),
		"etc/apt/sources.list.d/b.list":          line("b"),
		"etc/apt/sources.list.d/a.sources":       {Data: []byte("Types: deb\nURIs: mirror+file:///etc/apt/mirrors/debian.list\nSuites: trixie\nComponents: main\n")},
		"etc/apt/sources.list.d/c.list.disabled": line("disabled"),
		"etc/apt/sources.list.d/c.list~":         line("backup"),
		"etc/apt/sources.list.d/c d.list":        line("blank"),
		"etc/apt/sources.list.d/README":          line("readme"),
		"etc/apt/mirrors/debian.list":            {Data: []byte("# mirrors\nhttp://m1/debian\thigh\nhttp://m2/debian\n")},
	}
	got, err := Read(host)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := uris(got), "http://first/debian http://m1/debian http://m2/debian http://b/debian"; got != want {
		t.Errorf("Read = %s; want %s", got, want)
	}
	if got, err := Read(fstest.MapFS{}); err != nil || len(got) > 0 {
		t.Errorf("Read of a host without apt = %v, %v; want none", got, err)
	}
	if got, err := Read(denied{host}); err != nil || uris(got) != "http://m1/debian http://m2/debian http://b/debian" {
		t.Errorf("Read where a file is not to be read = %s, %v", uris(got), err)
	}
	outside := fstest.MapFS{"etc/apt/sources.list": {Data: []byte("deb mirror+file:/../../x trixie main\ndeb mirror+file:../x trixie main\n")}}
	if got, err := Read(outside); err != nil || len(got) > 0 {
		t.Errorf("Read of lists outside of the root = %v, %v; want none", got, err)
	}
}

// denied does not let sources.list be read.
type denied struct{ fstest.MapFS }

func (d denied) Open(name string) (fs.File, error) {
	if name == "etc/apt/sources.list" {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrPermission}
	}
	return d.MapFS.Open(name)
}

func (d denied) ReadFile(name string) ([]byte, error) {
	if name == "etc/apt/sources.list" {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrPermission}
	}
	return d.MapFS.ReadFile(name)
}

func FuzzParse(f *testing.F) {
	f.Add("deb [ arch=amd64 ] http://mirror.example/debian trixie main # x\n")
	f.Add("Types: deb\nURIs: http://a.example/debian\nSuites: trixie\nComponents: main\nEnabled: no\n")
	f.Fuzz(func(t *testing.T, text string) {
		for _, list := range [][]Source{ParseLines([]byte(text)), ParseStanzas([]byte(text))} {
			for _, s := range list {
				if s.URI == "" || strings.ContainsAny(s.URI, " \t\n") {
					t.Errorf("URI %q", s.URI)
				}
			}
		}
	})
}
