package bake_test

import (
	"bytes"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/bake/baketest"
	"github.com/nodebake/bake/bake/record"
	"github.com/nodebake/bake/bake/source"
	"github.com/nodebake/bake/test/filetest"
	"github.com/nodebake/bake/test/goprogram"
)

// released builds the program of a package of example.com/kubelet as its project
// would publish it, which says that it is of version.
func released(t *testing.T, pkg, version string) []byte {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod": "module example.com/kubelet\n\ngo 1.21\n", pkg + "/main.go": "package main\n\nvar version string\n\nfunc main() { println(version) }\n",
	} {
		filetest.Write(t, filepath.Join(dir, filepath.FromSlash(name)), text)
	}
	return filetest.Read(t, goprogram.Build(t, "program", dir, "amd64", "-ldflags=-s -w -X main.version="+version, "./"+pkg))
}

// TestProgramsThatSayAnother bakes programs that say that they are something else
// than the versions file says.
func TestProgramsThatSayAnother(t *testing.T) {
	t.Parallel()
	w := baketest.NewLocked(t)
	at := func(place string) string {
		return w.Versions + place + ": component kubelet: "
	}
	from := at(":9:3") + "/usr/local/bin/kubelet from " + w.URL + baketest.KubeletRelease + ": "
	const remedy = " (correct the version or its digest; what is meant so is said by reports: see docs/versions.md)"
	right, old := released(t, "cmd/kubelet", "v1.30.0"), released(t, "cmd/kubelet", "v1.29.9")
	for _, test := range []struct {
		name    string
		kubelet []byte
		reports string // in the versions file
		want    string // the error; "": there is none
	}{
		{"the same", right, "", ""},
		{"without a v", released(t, "cmd/kubelet", "1.30.0"), "", ""},
		{"nothing", released(t, "cmd/kubelet", "unknown"), "", ""},
		{"another version", old, "", from + "it says v1.29.9, and the versions file says v1.30.0" + remedy},
		{"another version, accepted", old, "1.29.9", ""},
		{"a third version", old, "v1.29.8", from + "it says v1.29.9, and the versions file says v1.30.0" + remedy},
		{"accepted for nothing", right, "v1.29.9", at(":11:5") + "its programs say v1.30.0 themselves, as the versions file does (remove reports)"},
		{"another program", released(t, "cmd/kube-proxy", "v1.30.0"), "",
			from + "it is example.com/kubelet/cmd/kube-proxy, and the versions file's module has example.com/kubelet/cmd/kubelet there (is the digest that of another file?)"},
	} {
		w.Kubelet = test.kubelet
		w.WriteVersions()
		if test.reports != "" {
			w.Edit("versions.yaml", "  kubelet:\n    version: v1.30.0\n", "  kubelet:\n    version: v1.30.0\n    reports: {version: "+test.reports+", reason: it is patched}\n")
		}
		w.Lock()
		c := w.Config()
		for range 2 { // what was read of a program is kept
			_, err := baketest.Image(t.Context(), c)
			if test.want == "" && err != nil || test.want != "" && (err == nil || err.Error() != test.want) {
				t.Errorf("%s: Image() = %v; want %s", test.name, err, test.want)
			}
			if test.want != "" {
				baketest.WantError(t, err, "input")
				baketest.WantNothing(t, c)
			}
		}
		if test.want != "" {
			continue
		}
		var want *record.Reports
		if test.reports != "" {
			want = &record.Reports{Version: test.reports, Reason: "it is patched"}
		}
		if diff := cmp.Diff(want, baketest.ReadRecord(t, c).Components[0].Reports); diff != "" {
			t.Errorf("%s: reports in the record (-want +got):\n%s", test.name, diff)
		}
	}
}

// TestBuiltProgramsThatSayAnother builds what says another version than its
// component has, and accepts it. The release may say something else again.
func TestBuiltProgramsThatSayAnother(t *testing.T) {
	t.Parallel()
	w := baketest.New(t)
	c := w.Config()
	c.Origins.Components = map[string]source.Origin{"kubelet": source.FromSource}
	w.Edit("versions.yaml", "        main.version: \"{version}\"\n", "        main.version: v9.9.9\n")
	w.Edit("versions.yaml", "  kubelet:\n    version: v1.30.0\n", "  kubelet:\n    version: v1.30.1\n")
	w.Edit("versions.yaml", "      path: example.com/kubelet\n", "      path: example.com/kubelet\n      version: v1.30.0\n")
	w.Lock()
	_, err := baketest.Image(t.Context(), c)
	baketest.WantError(t, err, "input", "component kubelet: /usr/local/bin/kubelet from example.com/kubelet@v1.30.0: it says v1.30.0 or v9.9.9, and the versions file says v1.30.1 (")
	baketest.WantNothing(t, c)

	const accept = "    reports: {version: v9.9.9, reason: it is patched}\n"
	w.Edit("versions.yaml", "    version: v1.30.1\n", "    version: v1.30.1\n"+accept)
	w.Lock()
	w.Image(c)
	const recorded = "tiny-v1-30-1-amd64.json"
	r, err := record.Read(recorded, bytes.NewReader(filetest.Read(t, filepath.Join(c.Out, recorded))))
	if err != nil {
		t.Fatal(err)
	}
	if got := r.Components[0]; got.Toolchain != runtime.Version() || got.Reports == nil {
		t.Errorf("kubelet in the record is %+v; want it built, and accepted", got)
	}

	// What the release needs is not in the way of what is built.
	w.Edit("versions.yaml", "main.version: v9.9.9\n", "main.version: v1.30.1\n")
	w.Lock()
	c.Out = filepath.Join(t.TempDir(), "out")
	w.Image(c)
	text := string(filetest.Read(t, w.Versions))
	before, rest, _ := strings.Cut(text, "    release:\n")
	_, after, _ := strings.Cut(rest, "    module:\n")
	filetest.Write(t, w.Versions, before+"    module:\n"+after)
	w.Lock()
	c.Out = filepath.Join(t.TempDir(), "out")
	_, err = baketest.Image(t.Context(), c)
	baketest.WantError(t, err, "input", w.Versions+":11:5: component kubelet: its programs say v1.30.1 themselves, as the versions file does (remove reports)")
}
