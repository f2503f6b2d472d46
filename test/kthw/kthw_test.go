// Package kthw has no code: it holds the versions file and the lock of the image
// with which tests join a worker of "Kubernetes the Hard Way" for 1.21, and
// checks that they are the guide's where they can be. To bake it:
//
//	make image VERSIONS=test/kthw/versions.yaml OUT=out/kthw
package kthw

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/test/filetest"
)

func parse(t *testing.T, file string) *manifest.Versions {
	t.Helper()
	data := filetest.Read(t, file)
	v, err := manifest.ParseVersions(file, data)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// What a worker of this set shows counts for the guide's own, which differs in
// containerd's origin and patch release and in crictl only.
func TestSetIsTheGuides(t *testing.T) {
	guide, ours := parse(t, "../../manifests/kthw-1.21.yaml"), parse(t, "versions.yaml")
	others := func(v *manifest.Versions) []manifest.Component {
		return slices.DeleteFunc(slices.Clone(v.Components), func(c manifest.Component) bool {
			return c.Name == "containerd" || c.Name == "crictl"
		})
	}
	ignore := cmpopts.IgnoreTypes(manifest.Pos{})
	if diff := cmp.Diff(guide.OS, ours.OS, ignore); diff != "" {
		t.Errorf("os (-guide +ours):\n%s", diff)
	}
	if diff := cmp.Diff(guide.Node, ours.Node, ignore); diff != "" {
		t.Errorf("node (-guide +ours):\n%s", diff)
	}
	if diff := cmp.Diff(others(guide), others(ours), ignore); diff != "" {
		t.Errorf("components (-guide +ours):\n%s", diff)
	}
	if diff := cmp.Diff(guide.Images, ours.Images, ignore); diff != "" {
		t.Errorf("images (-guide +ours):\n%s", diff)
	}
	installed := func(v *manifest.Versions) []string {
		c := v.Component("containerd")
		if c.Package != nil {
			var names []string
			for _, f := range c.Package.Files {
				names = append(names, f.Path)
			}
			return slices.Compact(names)
		}
		return []string{c.Release.Files[0].Path}
	}
	if diff := cmp.Diff(installed(guide), installed(ours)); diff != "" {
		t.Errorf("where containerd goes (-guide +ours):\n%s", diff)
	}
}
