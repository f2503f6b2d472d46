package manifest_test

import (
	"errors"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/bake/arch"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/images/worker"
)

// definition returns a small image definition with some files replaced.
func definition(files map[string]string) fstest.MapFS {
	fsys := fstest.MapFS{
		"image.yaml": {Data: []byte(`name: node
packages: [systemd, "linux-image-cloud-{arch}"]
suites:
  trixie:
    packages: [systemd-repart]
kernel:
  arguments: [console=ttyS0]
  modules: [sd_mod]
units:
  enable:
    ssh.service: access
  mask:
    systemd-gpt-auto-generator: not needed
modes:
  /etc/tool: 0755
`)},
		"configure.yaml":   {Data: []byte("base-files:\n  directories:\n  - {path: /mnt}\n")},
		"differences.yaml": {Data: []byte("differences: []\n")},
		"files/etc/tool":   {Data: []byte("tool")},
		"files/etc/conf":   {Data: []byte("conf")},
	}
	for name, text := range files {
		fsys[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return fsys
}

func TestParseDefinition(t *testing.T) {
	d, err := manifest.ParseDefinition("", definition(nil))
	if err != nil {
		t.Fatal(err)
	}
	refs, err := d.PackagesFor(arch.ARM64, "trixie")
	if err != nil {
		t.Fatal(err)
	}
	at := func(line, column int) manifest.Pos {
		return manifest.Pos{File: "image.yaml", Line: line, Column: column}
	}
	want := []manifest.PackageRef{
		{Name: "systemd", Pos: at(2, 12), Key: "packages[0]"}, {Name: "linux-image-cloud-arm64", Pos: at(2, 21), Key: "packages[1]"},
		{Name: "systemd-repart", Pos: at(5, 16), Key: "suites.trixie.packages[0]"},
	}
	if diff := cmp.Diff(want, refs); diff != "" {
		t.Errorf("PackagesFor(arm64, trixie) (-want +got):\n%s", diff)
	}
	overlay := []manifest.OverlayFile{{Path: "etc/conf", Mode: 0o644, Content: []byte("conf")}, {Path: "etc/tool", Mode: 0o755, Content: []byte("tool")}}
	if diff := cmp.Diff(overlay, d.Overlay); diff != "" {
		t.Errorf("Overlay (-want +got):\n%s", diff)
	}
	node := manifest.PathSpec{Path: "/mnt", Owner: "root", Group: "root", Mode: 0o755}
	if diff := cmp.Diff(node, d.Configure[0].Directories[0], cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".Pos" }, cmp.Ignore())); diff != "" {
		t.Errorf("Directories (-want +got):\n%s", diff)
	}
}

func TestDefinitionSum(t *testing.T) {
	sum := func(files map[string]string) manifest.Digest {
		d, err := manifest.ParseDefinition("", definition(files))
		if err != nil {
			t.Fatal(err)
		}
		return d.Sum
	}
	base := sum(nil)
	if got := sum(map[string]string{"differences.yaml": "differences:\n- {path: /x, reason: y}\n", "README.md": "x"}); got != base {
		t.Error("the sum depends on what no image depends on")
	}
	if sum(map[string]string{"files/etc/conf": "conf2"}) == base || sum(map[string]string{"files/etc/new": ""}) == base {
		t.Error("the sum does not depend on a file of the image")
	}
}

func TestParseDefinitionErrors(t *testing.T) {
	for _, test := range []struct{ name, file, text, want string }{
		{"unknown key", "configure.yaml", "base-files:\n  directorys: []\n", `configure.yaml:2:3: base-files.directorys: unknown key (did you mean "directories"?)`},
		{"relative path", "configure.yaml", "less:\n  symlinks:\n  - {path: var/run, to: /run}\n", `"var/run" is not a clean absolute path`},
		{"mode", "configure.yaml", "less:\n  permissions:\n  - {path: /x, mode: 644}\n", "four octal digits"},
		{"user without a group", "configure.yaml", "less:\n  users:\n  - {name: x, id: 100}\n", "want one of group"},
		{"colon", "configure.yaml", "less:\n  users:\n  - {name: x, id: 100, group-id: 100, comment: 'a:b'}\n", "has a colon"},
		{"suite", "configure.yaml", "less/Trixie!: {}\n", "not the name of a Debian suite"},
		{"mode of no file", "image.yaml", "name: n\npackages: []\nkernel: {arguments: [], modules: []}\nunits: {enable: {}, mask: {}}\nmodes: {/etc/none: 0755}\n", "image.yaml:5:20: modes./etc/none: no such file"},
		{"unit", "image.yaml", "name: n\npackages: []\nkernel: {arguments: [], modules: []}\nunits: {enable: {ssh: x}, mask: {}}\n", "is not the name of a unit"},
		{"pattern", "differences.yaml", "differences:\n- {path: '/a/**/b', reason: x}\n", "path.Match"},
		{"stray file", "etc/passwd", "", "unexpected file etc/passwd"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := manifest.ParseDefinition("", definition(map[string]string{test.file: test.text}))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("ParseDefinition = %v; want an error with %q", err, test.want)
			}
		})
	}
	missing := definition(nil)
	delete(missing, "configure.yaml")
	if _, err := manifest.ParseDefinition("", missing); err == nil || !strings.Contains(err.Error(), "no configure.yaml") {
		t.Errorf("without configure.yaml: %v", err)
	}
}

// TestWorkerDefinition reads the definition that bake carries.
func TestWorkerDefinition(t *testing.T) {
	d, err := manifest.ParseDefinition("", worker.FS())
	if err != nil {
		t.Fatal(err)
	}
	if d.Name != "k8s-worker" || len(d.Configure) == 0 || len(d.Overlay) == 0 {
		t.Errorf("the worker's definition is %q with %d packages' scripts and %d files", d.Name, len(d.Configure), len(d.Overlay))
	}
}

func FuzzParseDefinition(f *testing.F) {
	for _, file := range []string{"image.yaml", "configure.yaml", "differences.yaml"} {
		f.Add(file, string(definition(nil)[file].Data))
	}
	f.Fuzz(func(t *testing.T, file, text string) {
		if file != "image.yaml" && file != "configure.yaml" && file != "differences.yaml" {
			t.Skip()
		}
		d, err := manifest.ParseDefinition("", definition(map[string]string{file: text}))
		var input *manifest.InputError
		switch {
		case err == nil && d.Sum == "":
			t.Error("no sum")
		case err != nil && !errors.As(err, &input):
			t.Errorf("error without a place: %v", err)
		}
	})
}
