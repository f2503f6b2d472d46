// Package debian brings the packages of an image from Debian's archives. It
// resolves which packages that takes ([Resolve]) and later says where they can
// be had ([Requests]); package deb unpacks them.
//
//	mirrors.go   where archives are fetched from: as given, and the host's apt sources (aptconf)
//	keys.go      Debian's public keys, embedded
//	load.go      InRelease, verified, and the Packages index that it vouches for (repo)
//	resolve.go   the closure of what is wanted (closure), as a lock records it
//	outdated.go  what a lock misses
//	indices.go   the index files that a lock was made from
//	requests.go  locked packages as downloads
//	deb, ar      a .deb as a tree.Pack
//	deb822       the format of control files
//
// Only component main is used, and only binary packages. Nothing is installed
// or configured, and no script of a package is run. The package fetches through
// an interface, keeps nothing, and reads neither clock nor environment.
package debian

import (
	"context"
	"strings"
	"time"

	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/progress"
	"github.com/nodebake/bake/bake/source/debian/closure"
	"github.com/nodebake/bake/bake/source/debian/repo"
	"github.com/nodebake/bake/bake/source/release"
)

// Getter fetches small files that no lock pins.
type Getter interface {
	// Get returns the content of the first of urls that answers with no more
	// than limit bytes and whose content accept takes; nil takes any. The error
	// is a [release.UnreachableError] that says what was wrong with each.
	Get(ctx context.Context, urls []string, limit int64, accept func(url string, content []byte) error) ([]byte, error)
}

// Config says what to resolve and where from.
type Config struct {
	Suite    string                // that packages come from unless they say otherwise: "trixie"
	Arch     manifest.Arch         //
	Packages []manifest.PackageRef // wanted in the image, with all they depend on
	Extra    []manifest.PackageRef // wanted beside it, alone
	List     string                // what Packages is called in errors; "": "package list"

	Mirrors  MirrorList
	Getter   Getter
	Now      time.Time     // against which signatures and Valid-Until are checked
	Keyring  []byte        // ASCII-armored public keys; nil: those of Debian's archives
	Progress progress.Sink // nil: progress.Discard

	// Keep is given every index file that was used, for Indices to find it by
	// its digest later; nil: nobody wants it.
	Keep func(ctx context.Context, content []byte) error
}

// UnsolvableError is [closure.UnsolvableError]: what is wanted cannot be had
// together.
type UnsolvableError = closure.UnsolvableError

// ExpiredError is [repo.ExpiredError]: every mirror's Release file is too old,
// or the clock is wrong.
type ExpiredError = repo.ExpiredError

var _ Getter = (*release.Fetcher)(nil)

// baseSuite returns the suite that a suite of updates belongs to:
// "trixie" for "trixie-security", and other names unchanged.
func baseSuite(suite string) string {
	for _, suffix := range []string{"-updates", "-security"} {
		if base, ok := strings.CutSuffix(suite, suffix); ok {
			return base
		}
	}
	return suite
}

// SameSuite reports whether a package locked from one suite is what a person
// means by the other: "bullseye-security" is part of "bullseye".
func SameSuite(locked, wanted string) bool { return baseSuite(locked) == baseSuite(wanted) }

// source is one suite of one archive.
type source struct{ archive, suite string }

// sources returns where a suite's packages come from, the suite itself first.
// Stable releases have updates and security; suites built on others, such as
// backports, and the rolling ones do not.
func sources(suite string) []source {
	alone := strings.Contains(suite, "-")
	switch suite {
	case "sid", "unstable", "experimental", "rc-buggy":
		alone = true
	}
	if alone {
		return []source{{repo.Main, suite}}
	}
	return []source{{repo.Main, suite}, {repo.Main, suite + "-updates"}, {repo.Security, suite + "-security"}}
}
