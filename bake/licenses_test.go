package bake_test

import (
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	spdxjson "github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdx/v2/v2_3"

	"github.com/nodebake/bake/bake"
	"github.com/nodebake/bake/bake/baketest"
	"github.com/nodebake/bake/bake/record"
	"github.com/nodebake/bake/bake/source"
	"github.com/nodebake/bake/test/filetest"
)

// TestLicensesOfPackages bakes packages with copyright files of every kind; the
// second time from what is kept, whatever became of the files' content.
func TestLicensesOfPackages(t *testing.T) {
	t.Parallel()
	w := baketest.New(t)
	doc := func(name, license string) []baketest.File {
		return []baketest.File{{Path: "usr/share/doc/"}, {Path: "usr/share/doc/" + name + "/"}, {Path: "usr/share/doc/" + name + "/copyright",
			Content: "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\nFiles: *\nCopyright: nobody\nLicense: " + license + "\n Text.\n"}}
	}
	tool := w.Package("tool")
	tool.Files = append(tool.Files, doc("tool", "GPL-2+ or Expat")...)
	base := w.Package("base-files")
	base.Files = append(base.Files, baketest.File{Path: "usr/share/doc/"}, baketest.File{Path: "usr/share/doc/base-files", Link: "tool"})
	w.Publish()
	w.Lock()
	c := w.Config()
	for _, again := range []string{"", "again"} {
		c.Out = filepath.Join(filepath.Dir(c.Cache), "out"+again)
		result := w.Image(c)
		got := map[string]string{}
		for _, p := range readSPDX(t, result).Packages {
			if p.PackageSupplier != nil { // Debian
				got[p.PackageName] = p.PackageLicenseDeclared
			}
		}
		want := map[string]string{}
		for _, p := range w.Packages {
			if _, ok := got[p.Name]; ok {
				want[p.Name] = ""
			}
		}
		want["tool"], want["base-files"] = "GPL-2.0-or-later OR MIT", "GPL-2.0-or-later OR MIT"
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("bake %s: declared licenses (-want +got):\n%s", again, diff)
		}
		baketest.WantSame(t, c, result)
	}
}

func readSPDX(t *testing.T, result *bake.Result) *v2_3.Document {
	t.Helper()
	f := filetest.Open(t, result.SPDX)
	d, err := spdxjson.Read(f)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestLicensesOfModules bakes a component from its release, which says nothing about
// its module's license, and from source, which does, as an image does that is
// assembled of the module.
func TestLicensesOfModules(t *testing.T) {
	t.Parallel()
	w := baketest.NewAssembling(t)
	declared := func(c bake.Config) map[string]string {
		got := map[string]string{}
		for _, p := range readSPDX(t, w.Image(c)).Packages {
			if p.PackageName == "kubelet" || p.PackageName == "example.com/kubelet" {
				got[p.PackageName] = p.PackageLicenseDeclared
			}
		}
		return got
	}
	c := w.Config()
	if diff := cmp.Diff(map[string]string{"kubelet": ""}, declared(c)); diff != "" {
		t.Errorf("of a release (-want +got):\n%s", diff)
	}
	c.Origins.Images = map[string]source.Origin{"dns": source.FromSource}
	c.Out = filepath.Join(t.TempDir(), "image")
	if diff := cmp.Diff(map[string]string{"kubelet": "", "example.com/kubelet": "0BSD"}, declared(c)); diff != "" {
		t.Errorf("of an image's module (-want +got):\n%s", diff)
	}
	c.Origins = kubeletFromSource()
	c.Out = filepath.Join(t.TempDir(), "component")
	if diff := cmp.Diff(map[string]string{"kubelet": "0BSD", "example.com/kubelet": "0BSD"}, declared(c)); diff != "" {
		t.Errorf("of a component's module (-want +got):\n%s", diff)
	}
	file := "/usr/lib/bake/licenses/kubelet"
	if !slices.ContainsFunc(baketest.ReadRecord(t, c).Files, func(e record.Entry) bool {
		return e.Path == file && e.Mode == "0644" && e.Owner == "component kubelet"
	}) {
		t.Errorf("the image has no %s", file)
	}
}
