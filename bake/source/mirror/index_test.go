package mirror

import (
	"bytes"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/bake/arch"
	"github.com/nodebake/bake/bake/manifest/manifesttest"
	"github.com/nodebake/bake/test/must"
)

func TestIndexIsWrittenOneWay(t *testing.T) {
	t.Parallel()
	w := newWorld()
	want := must.Get(w.index.Encode())
	x := must.Get(ParseIndex(want))
	if got := must.Get(x.Encode()); !bytes.Equal(got, want) {
		t.Errorf("an index that was read is written as\n%s\nwant\n%s", got, want)
	}
	for range 10 {
		y := w.index.clone()
		rand.Shuffle(len(y.Entries), func(i, j int) { y.Entries[i], y.Entries[j] = y.Entries[j], y.Entries[i] })
		rand.Shuffle(len(y.Sets), func(i, j int) { y.Sets[i], y.Sets[j] = y.Sets[j], y.Sets[i] })
		for _, e := range y.Entries {
			rand.Shuffle(len(e.Sets), func(i, j int) { e.Sets[i], e.Sets[j] = e.Sets[j], e.Sets[i] })
		}
		if got := must.Get(y.Encode()); !bytes.Equal(got, want) {
			t.Fatalf("the same index in another order is written as\n%s\nwant\n%s", got, want)
		}
	}
	if lines := bytes.Count(want, []byte("\n")); lines != len(x.Sets)+len(x.Entries)+7 {
		t.Errorf("the index has %d lines; want one for each of %d sets and %d entries", lines, len(x.Sets), len(x.Entries))
	}
}

// small is the text of a valid index.
const small = `{
"schema": 1,
"sets": [
{"name":"a","versions":"sha256:` + sumV + `","lock":"sha256:` + sumL + `","archs":["amd64","arm64"],"sources":false}
],
"entries": [
{"kind":"versions","name":"a","path":"a/versions.yaml","sha256":"sha256:` + sumV + `","size":3,"sets":["a"]},
{"kind":"lock","name":"a & its lock","path":"a/versions.lock.yaml","sha256":"sha256:` + sumL + `","size":4,"sets":["a"]}
]
}
`

const (
	sumV = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	sumL = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
)

func TestParseIndex(t *testing.T) {
	t.Parallel()
	got, err := ParseIndex([]byte(small))
	if err != nil {
		t.Fatalf("ParseIndex = %v", err)
	}
	want := &Index{Schema: 1,
		Sets: []Set{{Name: "a", Versions: "sha256:" + sumV, Lock: "sha256:" + sumL, Archs: []arch.Arch{"amd64", "arm64"}}},
		Entries: []Entry{
			{Kind: Versions, Name: "a", Path: "a/versions.yaml", SHA256: "sha256:" + sumV, Size: 3, Sets: []string{"a"}},
			{Kind: Lock, Name: "a & its lock", Path: "a/versions.lock.yaml", SHA256: "sha256:" + sumL, Size: 4, Sets: []string{"a"}},
		}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("ParseIndex (-want +got):\n%s", diff)
	}
	empty := "{\n\"schema\": 1,\n\"sets\": [],\n\"entries\": []\n}\n"
	if x, err := ParseIndex([]byte(empty)); err != nil || len(x.Entries) != 0 {
		t.Errorf("ParseIndex of an empty index = %v, %v", x, err)
	}
}

// notLocal is the whole error for a path of the first entry.
func notLocal(path string) string {
	return fmt.Sprintf("entry 1 (\"a\"): path %q is no path below a directory (want no / or - at its beginning, no ., .., // or \\ in it); "+harm, path)
}

const harm = "`bake mirror` writes no such thing: don't use this mirror, get it from where it was made"

func TestParseIndexRefuses(t *testing.T) {
	t.Parallel()
	lines := strings.SplitAfter(small, "\n")
	swap := func(i, j int) string {
		l := append([]string(nil), lines...)
		l[i], l[j] = strings.TrimSuffix(l[j], "\n")+",\n", strings.ReplaceAll(l[i], ",\n", "\n")
		return strings.Join(l, "")
	}
	for _, test := range []struct{ name, from, to, want string }{
		{"nothing", small, "", "no index of a mirror"},
		{"a page", small, "<html>", "no index of a mirror"},
		{"a list", small, "[]", "no index of a mirror"},
		{"cut off", "]\n}\n", "", "no index of a mirror"},
		{"no schema", "\"schema\": 1,\n", "", "no schema"},
		{"schema 2", "\"schema\": 1", "\"schema\": 2", "a newer bake made it"},
		{"schema 2 with more", "\"schema\": 1", "\"schema\": 2, \"new\": true", "a newer bake made it"},
		{"schema 0", "\"schema\": 1", "\"schema\": 0", "want 1"},
		{"unknown key", `"size":3`, `"size":3,"mode":7`, `unknown field "mode"`},
		{"unknown key of the top", `"schema": 1`, `"schema": 1, "date": ""`, `unknown field "date"`},
		{"a key in another case", `"size":3`, `"Size":3`, "not as `bake mirror` writes it"},
		{"a key twice", `"size":3`, `"size":5,"size":3`, "not as `bake mirror` writes it"},
		{"other spaces", `"size":3`, `"size": 3`, "not as `bake mirror` writes it"},
		{"other line ends", "\n", "\r\n", "not as `bake mirror` writes it"},
		{"null", `"entries": [`, `"entries": null, "x": [`, "unknown field"},
		{"trailing", "]\n}\n", "]\n}\n{}\n", "no index of a mirror"},
		{"fraction", `"size":3`, `"size":3.5`, "cannot unmarshal"},
		{"negative size", `"size":3`, `"size":-3`, "is negative"},
		{"huge size", `"size":3`, `"size":9223372036854775808`, "cannot unmarshal"},
		{"unknown kind", `"kind":"lock"`, `"kind":"key"`, `kind "key" is none of`},
		{"no name", `"name":"a & its lock"`, `"name":""`, "name is empty"},
		{"control character", `a & its lock`, `a\u001b[2J`, "control character"},
		{"no path", `"path":"a/versions.yaml"`, `"path":""`, "path is empty"},
		{"path upward", `a/versions.yaml`, `../versions.yaml`, notLocal("../versions.yaml")},
		{"path upward in the middle", `a/versions.yaml`, `a/../../versions.yaml`, notLocal("a/../../versions.yaml")},
		{"absolute path", `a/versions.yaml`, `/etc/cron.d/versions.yaml`, notLocal("/etc/cron.d/versions.yaml")},
		{"path that is a flag", `a/versions.yaml`, `-t/versions.yaml`, notLocal("-t/versions.yaml")},
		{"path with a backslash", `a/versions.yaml`, `a/..\\versions.yaml`, notLocal(`a/..\versions.yaml`)},
		{"path that is not clean", `a/versions.yaml`, `a//versions.yaml`, notLocal("a//versions.yaml")},
		{"path of the directory itself", `a/versions.yaml`, `.`, notLocal(".")},
		{"path of another set", `a/versions.yaml`, `b/versions.yaml`, `path "b/versions.yaml" is not below "a/", as a file of that set; ` + harm},
		{"path twice", `a/versions.lock.yaml`, `a/versions.yaml`, `path "a/versions.yaml" is that of two files; ` + harm},
		{"name upward", `a & its lock`, `../lock`, `name "../lock" is no path below a directory`},
		{"name that is a flag", `a & its lock`, `--help`, `name "--help" is no path below a directory`},
		{"absolute path of a package", `"kind":"lock","name":"a & its lock","path":"a/versions.lock.yaml"`, `"kind":"package","name":"a","path":"/debian/pool/a.deb"`, `path "/debian/pool/a.deb" is no path below a directory`},
		{"release without a URL", `"kind":"lock","name":"a & its lock","path":"a/versions.lock.yaml"`, `"kind":"release","name":"a","path":"/etc/passwd"`, `path "/etc/passwd" is no http or https URL; ` + harm},
		{"release of a file", `"kind":"lock","name":"a & its lock","path":"a/versions.lock.yaml"`, `"kind":"release","name":"a","path":"file:///etc/passwd"`, `path "file:///etc/passwd" is no http or https URL`},
		{"set upward", `"a"`, `".."`, `set 1: name ".." is no path below a directory`},
		{"set with a slash", `"a"`, `"a/b"`, `set 1: name "a/b" has a slash; ` + harm},
		{"set that is a flag", `"a"`, `"-a"`, `set 1: name "-a" is no path below a directory`},
		{"digest of another kind", `"sha256":"sha256:` + sumL, `"sha256":"sha512:` + sumL + sumL, "is no sha256"},
		{"digest upward", `"sha256":"sha256:` + sumL, `"sha256":"sha256:../../../etc/passwd`, "no hexadecimal digit"},
		{"short digest", `"sha256":"sha256:` + sumL, `"sha256":"sha256:bb`, "2 hexadecimal digits"},
		{"SHA-512 that is none", `"size":4`, `"sha512":"sha256:` + sumL + `","size":4`, "is no sha512"},
		{"no set", `"size":3,"sets":["a"]`, `"size":3,"sets":[]`, "no set needs it"},
		{"unknown set", `"size":3,"sets":["a"]`, `"size":3,"sets":["b"]`, `set "b" is not in the index`},
		{"set twice", `"size":3,"sets":["a"]`, `"size":3,"sets":["a","a"]`, "not sorted"},
		{"no versions file", `"versions":"sha256:` + sumV, `"versions":"sha256:` + sumL, "its versions file"},
		{"no lock", `"lock":"sha256:` + sumL, `"lock":"sha256:` + sumV, "its lock"},
		{"no architecture", `["amd64","arm64"]`, `[]`, "no architecture"},
		{"another architecture", `["amd64","arm64"]`, `["s390x"]`, `architecture "s390x" is neither`},
		{"architectures unsorted", `["amd64","arm64"]`, `["arm64","amd64"]`, "not sorted"},
		{"an entry twice", lines[6], lines[6] + lines[6], "it comes twice"},
		{"sizes that differ", lines[6], lines[6] + strings.NewReplacer(`"size":3`, `"size":4`, "a/versions", "b/versions").Replace(lines[6]), "with the same digest has 3"},
		{"entries unsorted", small, swap(6, 7), "not in order"},
	} {
		text := strings.ReplaceAll(small, test.from, test.to)
		if text == small {
			t.Fatalf("BUG: %s changes nothing", test.name)
		}
		if x, err := ParseIndex([]byte(text)); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: ParseIndex = %v, %v; want an error with %q", test.name, x, err, test.want)
		}
	}
	invalid := strings.Replace(small, "a & its", "a \xff its", 1)
	if _, err := ParseIndex([]byte(invalid)); err == nil {
		t.Error("ParseIndex of invalid UTF-8 = nil; want an error")
	}
}

func TestFind(t *testing.T) {
	t.Parallel()
	x := newWorld().index.clone()
	again := x.Entries[0]
	again.SHA256 = manifesttest.Digest([]byte("the same path at another time"))
	x.Entries = append(x.Entries, again)
	x.sort()
	for _, e := range x.Entries {
		found := x.Find(e.Kind, e.Path)
		ok := false
		for _, f := range found {
			ok = ok || f.SHA256 == e.SHA256
			if f.Kind != e.Kind || f.Path != e.Path {
				t.Errorf("Find(%s, %s) has %s %s", e.Kind, e.Path, f.Kind, f.Path)
			}
		}
		if !ok {
			t.Errorf("Find(%s, %s) = %v; want %s in it", e.Kind, e.Path, found, e.SHA256)
		}
	}
	if got := len(x.Find(again.Kind, again.Path)); got != 2 {
		t.Errorf("Find of a path that had other bytes finds %d entries; want 2", got)
	}
	for _, path := range []string{"", "zzz", "debian/pool/main/b/bash/"} {
		if found := x.Find(Package, path); len(found) > 0 {
			t.Errorf("Find(%q) = %v; want none", path, found)
		}
	}
}

func FuzzParseIndex(f *testing.F) {
	f.Add([]byte(small))
	f.Add(must.Get(newWorld().index.Encode()))
	f.Add([]byte("{\n\"schema\": 1,\n\"sets\": [],\n\"entries\": []\n}\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		x, err := ParseIndex(b)
		if err != nil {
			return
		}
		if again, err := x.Encode(); err != nil || !bytes.Equal(again, b) {
			t.Errorf("ParseIndex accepts %q, which is written as %q, %v", b, again, err)
		}
		dir := t.TempDir()
		for _, e := range x.Entries {
			if path := e.Path; e.Kind != Release && (!fs.ValidPath(path) || strings.ContainsAny(path, `\`) || path[0] == '-') {
				t.Errorf("entry %q has the path %q", e.Name, path)
			}
			if path := blobFile(dir, e); filepath.Dir(path) != filepath.Join(dir, "blobs", "sha256") {
				t.Errorf("entry %q lies at %s", e.Name, path)
			}
		}
		if _, err := encodePage(x); err != nil {
			t.Errorf("the page of %q = %v", b, err)
		}
	})
}
