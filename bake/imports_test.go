package bake_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/nodebake/bake"

// rule says what packages may import of this module. Paths are relative to it.
// A pattern is one of path.Match; a last element ** stands for the directory
// before it and everything below.
type rule struct {
	packages string
	imports  []string
	why      string
}

// rules are the packages of docs/design.md: imports point down. The first rule that
// matches a package holds for it, and every package needs one. Tests may import
// what they like.
func rules() []rule {
	return []rule{
		{"cmd/bake", []string{"bake", "bake/*", "bake/source/store", "bake/image/archive", "bake/vm/vpc", "firstboot/metadata/emulator", "images/worker", "units"},
			"commands call the operations, and print what they return"},
		{"cmd/firstboot", []string{"firstboot/**"}, "it is tiny, and knows nothing of images"},
		{"cmd/init", []string{"initramfs"}, "the same"},
		{"cmd/pause", nil, "every pod has one"},
		{"firstboot/**", []string{"firstboot/**"}, "it runs on workers, and never imports bake"},
		{"initramfs", []string{"bake/image/gpt", "bake/image/extent", "bake/tree"}, "it reads partition tables, and nothing else of bake's"},
		{"release", []string{"bake/sbom/purl", "bake/sign"}, "a tool that describes and signs programs"},
		{"units", nil, "files"},
		{"images/*", nil, "files"},
		{"manifests", nil, "files"},
		{"manifests/modules/update", []string{"bake/manifest", "bake/source/gobuild"}, "a tool that pins modules"},

		// The operations.
		{"bake", []string{"bake/atomicfile", "bake/embedded", "bake/image", "bake/image/archive", "bake/image/containerd", "bake/image/extent", "bake/image/rootfs", "bake/inputs", "bake/license", "bake/arch", "bake/manifest", "bake/merge", "bake/program", "bake/progress", "bake/record", "bake/sbom", "bake/sbom/spdx", "bake/sbom/slsa", "bake/sign", "bake/source", "bake/source/fetch", "bake/source/gobuild", "bake/source/mirror", "bake/source/store", "bake/tree"},
			"it builds images"},
		{"bake/lock", []string{"bake/atomicfile", "bake/inputs", "bake/arch", "bake/manifest", "bake/progress", "bake/source", "bake/source/debian"}, "it resolves packages"},
		{"bake/verify", []string{"bake", "bake/embedded", "bake/image/archive", "bake/image/extent", "bake/inputs", "bake/inspect", "bake/gce", "bake/manifest", "bake/progress", "bake/record", "bake/sbom/slsa", "bake/sign", "bake/source", "bake/tree"}, "it builds an image to compare one with"},
		{"bake/mirrorsync", []string{"bake/inputs", "bake/lock", "bake/arch", "bake/manifest", "bake/progress", "bake/source", "bake/source/debian", "bake/source/fetch", "bake/source/mirror"}, "it brings what a bake would take"},
		{"bake/inputs", []string{"bake/arch", "bake/manifest", "bake/source/debian"}, "what a person gives"},
		{"bake/baketest", []string{"bake", "bake/*", "bake/inspect/inspecttest", "bake/manifest/manifesttest", "bake/source/debian/debiantest", "bake/source/oci/ocitest", "images/worker", "test/*test", "test/must", "test/need", "units"}, "a world for tests"},

		{"bake/connect", nil, "a protocol"},
		{"bake/unixsocket", nil, "addresses"},
		{"bake/controlplane", []string{"bake/connect", "bake/unixsocket", "bake/node", "bake/source", "bake/arch", "bake/manifest", "bake/tree"},
			"it brings programs and runs them, and starts no machines"},
		{"bake/cluster/clustertest", []string{"bake/controlplane", "bake/vm"}, "programs for tests"},
		{"bake/cluster", []string{"bake/atomicfile", "bake/connect", "bake/unixsocket", "bake/controlplane", "bake/dns", "bake/kubectl", "bake/node", "bake/vm/**", "bake/gce", "bake/inspect", "bake/image/archive", "bake/record", "bake/arch", "bake/manifest", "bake/printable", "bake/progress", "firstboot/config", "firstboot/metadata/emulator"},
			"it runs a control plane, a network and machines together"},

		// source, image and record know what is below them and not each other.
		{"bake/source", []string{"bake/embedded", "bake/source/**", "bake/arch", "bake/manifest", "bake/merge", "bake/progress", "bake/tree"}, "it calls the packages below it"},
		{"bake/source/debian", []string{"bake/source/debian/*", "bake/source/fetch", "bake/arch", "bake/manifest", "bake/progress", "bake/relation"}, "packages are downloads like others"},
		{"bake/source/debian/ar", nil, "a format"},
		{"bake/source/debian/deb822", nil, "a format"},
		{"bake/source/debian/debiantest", []string{"test/archivetest", "test/must"}, "archives for tests"},
		{"bake/source/debian/resolver", []string{"bake/relation", "bake/tree"}, "it computes"},
		{"bake/source/debian/*", []string{"bake/decompress", "bake/source/debian/ar", "bake/source/debian/deb822", "bake/source/debian/resolver", "bake/relation", "bake/tree"}, "they read formats, and fetch nothing"},
		{"bake/source/store", []string{"bake/manifest", "bake/tree"}, "it knows no networks"},
		{"bake/source/fetch", []string{"bake/decompress", "bake/source/store", "bake/manifest", "bake/progress", "bake/tree"}, "it brings files into the store"},
		{"bake/source/gobuild", []string{"bake/license", "bake/record", "bake/arch", "bake/manifest", "bake/progress", "bake/tree"}, "it is given the store and the packages as interfaces"},

		{"bake/source/oci", []string{"bake/decompress", "bake/source/fetch", "bake/arch", "bake/manifest", "bake/progress", "bake/tree"}, "images are blobs that are fetched like other files"},
		{"bake/source/oci/ocitest", []string{"test/must"}, "a registry for tests"},
		{"bake/source/layers", []string{"bake/accounts", "bake/manifest", "bake/merge", "bake/tree"}, "a tree in the end, whatever becomes of it"},
		{"bake/source/mirror", []string{"bake/arch", "bake/manifest", "bake/progress"}, "a directory of files by their digests"},

		{"bake/image", []string{"bake/image/*", "bake/arch", "bake/manifest", "bake/merge", "bake/tree"}, "it calls the packages below it"},
		{"bake/image/rootfs/**", []string{"bake/accounts", "bake/decompress", "bake/image/rootfs/*", "bake/arch", "bake/manifest", "bake/merge", "bake/relation", "bake/tree"}, "a tree in the end, whatever becomes of it"},
		{"bake/image/boot", []string{"bake/decompress", "bake/image/cpio", "bake/arch", "bake/tree", "initramfs"}, "the initramfs is a cpio archive, laid out as package initramfs wants it"},
		{"bake/image/disk", []string{"bake/image/gpt", "bake/image/extent", "bake/gce"}, "partitions are lists of extents"},
		{"bake/image/archive", []string{"bake/image/extent", "bake/progress", "bake/gce", "bake/tree"}, "it writes lists of extents"},
		// Formats know trees and extents, never plans, hosts or each other.
		{"bake/image/extent", []string{"bake/tree"}, "lists of ranges of blobs"},
		{"bake/image/extent/extenttest", []string{"bake/image/extent", "bake/tree"}, "disks for tests"},
		{"bake/image/ext4/ext4test", []string{"bake/image/extent", "bake/tree", "bake/tree/treetest", "test/need"}, "trees and tools for tests"},
		{"bake/image/ext4/**", []string{"bake/image/ext4/internal/*", "bake/image/extent", "bake/tree"}, "a format"},
		{"bake/image/fat", []string{"bake/image/extent", "bake/tree"}, "a format"},
		{"bake/image/gpt", []string{"bake/image/extent", "bake/tree"}, "a format"},
		{"bake/image/cpio", []string{"bake/tree"}, "a format"},
		{"bake/image/containerd", []string{"bake/manifest", "bake/tree"}, "a format"},
		{"bake/image/containerd/containerdtest", []string{"bake/image/containerd", "bake/manifest", "bake/tree"}, "images for tests"},

		{"bake/record", []string{"bake/arch", "bake/manifest", "bake/tree"}, "a record"},
		{"bake/sbom", []string{"bake/license", "bake/manifest", "bake/record"}, "what SPDX and provenance say"},
		{"bake/sbom/purl", []string{"bake/record", "bake/sbom", "bake/arch", "bake/manifest"}, "names"},
		{"bake/sbom/*", []string{"bake/record", "bake/sbom", "bake/sbom/purl", "bake/license", "bake/manifest"}, "the record in other forms"},
		{"bake/sign", []string{"bake/manifest"}, "it signs texts, whatever they say"},
		{"bake/inspect/inspecttest", []string{"bake/record", "bake/sbom", "bake/sbom/spdx", "bake/image/*", "bake/arch", "bake/manifest", "bake/tree"}, "images for tests"},
		{"bake/inspect", []string{"bake/record", "bake/image/*", "bake/source/debian/deb822", "bake/arch", "bake/manifest", "bake/tree"}, "it takes images apart, and asks no source"},
		{"bake/lint", []string{"bake/inspect", "bake/record", "bake/sbom", "bake/sbom/spdx", "bake/image/*", "bake/arch", "bake/gce", "bake/manifest", "bake/program", "bake/tree"}, "rules about what inspect reads"},
		{"bake/embedded", []string{"bake/arch"}, "programs"},
		{"bake/node", []string{"firstboot/config", "firstboot/metadata", "firstboot/pki", "bake/gce"}, "what a worker wants, checked as the worker checks it"},
		{"bake/vm/vpc", nil, "it decides, whatever moves"},
		{"bake/vm/**", []string{"bake/vm/**", "bake/connect", "firstboot/metadata/emulator", "bake/arch", "bake/gce"}, "a machine, whatever it runs"},
		{"bake/kubeconfig", []string{"firstboot/pki", "bake/atomicfile", "bake/manifest", "bake/node"}, "entries of files that kubectl reads"},
		{"bake/kubectl", nil, "a program of the user's"},
		{"bake/dns", []string{"bake/kubectl", "bake/node", "bake/progress"}, "an add-on, applied by kubectl"},
		{"bake/routes", []string{"firstboot/config", "firstboot/pki", "bake/node"}, "what workers' metadata say, checked as the worker checks it"},
		{"bake/smoke", []string{"bake/kubectl", "bake/manifest", "bake/printable"}, "it asks a cluster by kubectl, whoever made it"},

		// What everything stands on.
		{"bake/manifest", []string{"bake/arch", "bake/gce", "bake/tree"}, "what is wanted"},
		{"bake/manifest/manifesttest", []string{"bake/manifest"}, "digests for tests"},
		{"bake/arch", nil, "names"},
		{"bake/gce", []string{"bake/arch"}, "facts"},
		{"bake/tree", nil, "files and their content"},
		{"bake/tree/treetest", []string{"bake/tree"}, "trees for tests"},
		{"bake/decompress", nil, "streams"},
		{"bake/program", []string{"bake/arch"}, "files that can be started"},
		{"bake/license", nil, "texts"},
		{"bake/atomicfile", nil, "files"},
		{"bake/accounts", []string{"bake/manifest", "bake/merge"}, "lines of files, whatever root they are for"},
		{"bake/merge", []string{"bake/manifest", "bake/relation", "bake/tree"}, "files of packages, whatever becomes of them"},
		{"bake/relation", nil, "fields and versions of packages"},
		{"bake/progress", []string{"bake/printable"}, "it knows not who works"},
		{"bake/progress/progresstest", []string{"bake/progress"}, "a sink for tests"},
		{"bake/printable", nil, "it knows text alone"},

		{"test/*test", []string{"test/must"}, "files and archives for tests"},
		{"test/goprogram", nil, "programs for tests"},
		{"test/must", nil, "it panics"},
		{"test/need", nil, "it looks for programs"},
		{"test/**", []string{"**"}, "tests may use everything"},
	}
}

func matches(pattern, pkg string) bool {
	if dir, ok := strings.CutSuffix(pattern, "**"); ok {
		dir = strings.TrimSuffix(dir, "/")
		return dir == "" || pkg == dir || strings.HasPrefix(pkg, dir+"/")
	}
	ok, err := path.Match(pattern, pkg)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return ok
}

// goPackage is what `go list -json` says of a package.
type goPackage struct {
	ImportPath string
	Standard   bool
	Imports    []string
}

// goList runs go list for linux/amd64: what is built where tests run may differ.
func goList(t *testing.T, args ...string) []goPackage {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"list", "-json=ImportPath,Standard,Imports"}, args...)...)
	cmd.Env = append(cmd.Environ(), "GOOS=linux", "GOARCH=amd64", "CGO_ENABLED=0")
	cmd.Dir = ".."
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("go list: %v: %s", err, stderr.String())
	}
	var packages []goPackage
	for dec := json.NewDecoder(&stdout); ; {
		var p goPackage
		err := dec.Decode(&p)
		if errors.Is(err, io.EOF) {
			return packages
		}
		if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
}

func TestImports(t *testing.T) {
	t.Parallel()
	packages := goList(t, "./...")
	for _, problem := range checkImports(packages, rules()) {
		t.Error(problem)
	}
	used := map[string]bool{}
	for _, p := range packages {
		if i := ruleFor(rules(), strings.TrimPrefix(p.ImportPath, module+"/")); i >= 0 {
			used[rules()[i].packages] = true
		}
	}
	for _, r := range rules() {
		if !used[r.packages] {
			t.Errorf("the rule for %s is about no package; remove it", r.packages)
		}
	}
}

func ruleFor(rules []rule, pkg string) int {
	return slices.IndexFunc(rules, func(r rule) bool { return matches(r.packages, pkg) })
}

func checkImports(packages []goPackage, rules []rule) []string {
	var problems []string
	for _, p := range packages {
		pkg := strings.TrimPrefix(p.ImportPath, module+"/")
		i := ruleFor(rules, pkg)
		if i < 0 {
			problems = append(problems, pkg+" has no rule; say what it may import")
			continue
		}
		for _, imported := range p.Imports {
			imported, ours := strings.CutPrefix(imported, module+"/")
			if ours && !slices.ContainsFunc(rules[i].imports, func(pattern string) bool { return matches(pattern, imported) }) {
				problems = append(problems, pkg+" imports "+imported+", and may not: "+rules[i].why)
			}
		}
	}
	return problems
}

// TestImportsRefuses shows the test above what it must refuse.
func TestImportsRefuses(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ pkg, imports, want string }{
		{"firstboot/config", "bake/manifest", "it runs on workers, and never imports bake"},
		{"cmd/firstboot", "bake", "it is tiny"},
		{"initramfs", "bake/image/boot", "it reads partition tables"},
		{"bake/image/ext4", "bake/image/fat", "a format"},
		{"bake/image/gpt", "bake/manifest", "a format"},
		{"bake/image/rootfs", "bake/source/debian", "a tree in the end"},
		{"bake/image", "bake/source", "it calls the packages below it"},
		{"bake/source/fetch", "bake/image/archive", "it brings files into the store"},
		{"bake/source/store", "bake/source/fetch", "it knows no networks"},
		{"bake/source", "bake", "it calls the packages below it"},
		{"bake/inspect", "bake/source/store", "asks no source"},
		{"bake/tree", "bake/manifest", "files and their content"},
		{"bake/new", "bake/tree", "bake/new has no rule"},
	} {
		problems := checkImports([]goPackage{{ImportPath: module + "/" + test.pkg, Imports: []string{"io", module + "/" + test.imports}}}, rules())
		if len(problems) != 1 || !strings.Contains(problems[0], test.want) {
			t.Errorf("%s importing %s: problems are %q; want one with %q", test.pkg, test.imports, problems, test.want)
		}
	}
}

// TestFirstbootImports keeps firstboot tiny: every package from outside of the
// standard library that ends up in it stands here.
func TestFirstbootImports(t *testing.T) {
	t.Parallel()
	allowed := []string{
		module + "/firstboot/**",
		"sigs.k8s.io/yaml",                    // kubeconfigs: 0.8 MB with the checks of package pki
		"go.yaml.in/yaml/v2",                  // on which that stands
		"golang.org/x/sys/unix",               // the host's name, the console, swap
		"github.com/coreos/go-systemd/v22/**", // units, and what systemctl status shows
		"github.com/godbus/dbus/v5",           // which the former speaks
	}
	for _, p := range goList(t, "-deps", "./cmd/firstboot") {
		if p.Standard || p.ImportPath == module+"/cmd/firstboot" {
			continue
		}
		if !slices.ContainsFunc(allowed, func(pattern string) bool { return matches(pattern, p.ImportPath) }) {
			t.Errorf("firstboot depends on %s; where it must, say so here", p.ImportPath)
		}
	}
}
