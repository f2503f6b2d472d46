package bake_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	spdxjson "github.com/spdx/tools-golang/json"

	"github.com/nodebake/bake/bake/baketest"
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
		f, err := os.Open(result.SPDX)
		if err != nil {
			t.Fatal(err)
		}
		d, err := spdxjson.Read(f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]string{}
		for _, p := range d.Packages {
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
		wantSame(t, inspected(c), result)
	}
}
