// Package sbom says what an image consists of and was built from, for its packages spdx
// and slsa to write in forms that other programs read.
package sbom

import (
	"strings"

	"github.com/nodebake/bake/bake/license"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/record"
)

// Contents are what an image consists of and was built from, as far as it is known:
// the record and what it leaves out. They are a function of the image's inputs alone.
type Contents struct {
	Record         *record.Record
	NameOverridden bool                                // Record.Name is not the one that the inputs give it
	Epoch          int64                               // the image's time: seconds since 1970
	Packages       []manifest.LockedPackage            // of the root filesystem
	Licenses       map[manifest.Digest]license.License // of packages, by the digests of their .debs, as far as they say them
	Modules        map[record.GoModule]license.License // of Go modules that bake built programs of, as far as their license files are known
	Components     []BuildInfo                         // in the order of Record.Components
	Images         []BuildInfo                         // in the order of Record.Images
	Programs       []*record.GoProgram                 // programs of bake's own that are in the image
}

// BuildInfo says how a component or a container image came to be.
type BuildInfo struct {
	Sums     []manifest.Digest        // of the release's file
	Package  *manifest.LockedPackage  // that it was taken out of
	Packages []manifest.LockedPackage // that an image is made of, sorted by name
	Module   *record.GoModule         // that it was built from
	Linked   []manifest.LockedPackage // with cgo: what was compiled and linked against
	Tools    []Tool                   // that built it on the host that baked: no function of the inputs
	Programs []*record.GoProgram      // those of its programs that Go built, by their paths
}

// Tool is a program that took part in a build, or the module that it came in.
type Tool struct {
	Name   string          // as Component.Toolchain has it, or else Module's
	Module record.GoModule // zero for what Go does not name
	SHA256 manifest.Digest // of its file; "" for a module, which has a Sum
}

// Codename returns the name of the Debian release that a suite belongs to:
// "trixie" for "trixie-security".
func Codename(suite string) string {
	name, _, _ := strings.Cut(strings.TrimSuffix(suite, "/updates"), "-")
	return name
}
