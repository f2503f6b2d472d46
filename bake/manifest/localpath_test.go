package manifest

import (
	"strings"
	"testing"
)

func TestCheckLocalPath(t *testing.T) {
	t.Parallel()
	for _, p := range []string{"a", "a/b.yaml", "registry.k8s.io/pause:3.10", "golang.org/x/sys/@v/v0.1.0.zip", "a-b", "a/-b", "..a", "a b"} {
		if err := CheckLocalPath(p); err != nil {
			t.Errorf("CheckLocalPath(%q) = %v; want nil", p, err)
		}
	}
	for _, p := range []string{"", ".", "..", "/", "/a", "a/", "a//b", "./a", "a/.", "../a", "a/..", "a/../b", "-a", "--a/b", `a\b`, `..\a`, `C:\a`, "a\xff"} {
		if err := CheckLocalPath(p); err == nil {
			t.Errorf("CheckLocalPath(%q) = nil; want an error", p)
		}
	}
	const want = `"/etc/cron.d/x" is no path below a directory (want no / or - at its beginning, no ., .., // or \ in it)`
	if err := CheckLocalPath("/etc/cron.d/x"); err == nil || err.Error() != want {
		t.Errorf("CheckLocalPath = %v; want %s", err, want)
	}
}

func TestDefinitionKey(t *testing.T) {
	t.Parallel()
	parse := func(line string) (*Versions, error) {
		return ParseVersions("m/v.yaml", []byte("os: {distribution: debian, suite: trixie}\n"+line+"components: {}\n"))
	}
	for _, test := range []struct{ line, want, dir string }{
		{"", "", ""},
		{"definition: ../images/worker\n", "../images/worker", "images/worker"},
		{"definition: ../../a b/worker\n", "../../a b/worker", "../a b/worker"},
		{"definition: worker\n", "worker", "m/worker"},
		{"definition: a/..b\n", "a/..b", "m/a/..b"},
	} {
		v, err := parse(test.line)
		if err != nil {
			t.Errorf("ParseVersions with %q = %v", test.line, err)
			continue
		}
		if dir := strings.ReplaceAll(v.DefinitionDir(), `\`, "/"); v.Definition != test.want || dir != test.dir {
			t.Errorf("ParseVersions with %q: definition %q in %q; want %q in %q", test.line, v.Definition, dir, test.want, test.dir)
		}
	}
	const unclean = ` is not the path of a directory as it is written here (want names with a / between them, such as ../images/worker: .. at the beginning only, no . or \, no / at the end)`
	for text, want := range map[string]string{
		`/etc`:        `"/etc" is absolute (write it relative to the directory of this file, such as ../images/worker)`,
		`C:/worker`:   `"C:/worker" is absolute (write it relative to the directory of this file, such as ../images/worker)`,
		`../worker/`:  `"../worker/"` + unclean,
		`.`:           `"."` + unclean,
		`..`:          `".."` + unclean,
		`./worker`:    `"./worker"` + unclean,
		`a/../worker`: `"a/../worker"` + unclean,
		`.././worker`: `".././worker"` + unclean,
		`../-worker`:  `"../-worker"` + unclean,
		`..\worker`:   `"..\\worker"` + unclean,
		`..//worker`:  `"..//worker"` + unclean,
	} {
		_, err := parse("definition: '" + text + "'\n")
		if want := "m/v.yaml:2:13: definition: " + want; err == nil || err.Error() != want {
			t.Errorf("ParseVersions with definition %q = %v; want %s", text, err, want)
		}
	}
	_, err := parse("definition: [worker]\n")
	if want := "m/v.yaml:2:13: definition: want text, found a list"; err == nil || err.Error() != want {
		t.Errorf("ParseVersions = %v; want %s", err, want)
	}
}
