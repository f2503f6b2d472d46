// Package debian brings the packages of an image from Debian's archives. It
// resolves which packages that takes ([Resolve]) and later says where they can
// be had ([Requests]); package deb unpacks them.
//
//	mirrors.go   where archives are fetched from: as given, and the host's apt sources (aptconf)
//	keys.go      Debian's public keys, embedded
//	load.go      InRelease, verified, and the Packages index that it vouches for (repo)
//	resolve.go   the closure of what is wanted (resolver), as a lock records it
//	keep.go      what was locked before, and stays
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
	"fmt"
	"strings"
	"time"

	"github.com/nodebake/bake/bake/arch"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/progress"
	"github.com/nodebake/bake/bake/source/debian/repo"
	"github.com/nodebake/bake/bake/source/debian/resolver"
	"github.com/nodebake/bake/bake/source/fetch"
)

// Getter fetches small files that no lock pins.
type Getter interface {
	// Get returns the content of the first of urls that answers with no more
	// than limit bytes and whose content accept takes; nil takes any. The error
	// is a [fetch.UnreachableError] that says what was wrong with each.
	Get(ctx context.Context, urls []string, limit int64, accept func(url string, content []byte) error) ([]byte, error)
}

// Config says what to resolve and where from.
type Config struct {
	Suite    string                // that packages come from unless they say otherwise: "trixie"
	Arch     arch.Arch             //
	Packages []manifest.PackageRef // wanted in the image, with all they depend on
	Extra    []manifest.PackageRef // wanted beside it, alone
	List     string                // what Packages is called in errors; "": "package list"
	Images   []Image               // container images that are made of packages

	Mirrors  MirrorList
	Getter   Getter
	Now      time.Time     // against which signatures and Valid-Until are checked
	Keyring  []byte        // ASCII-armored public keys; nil: those of Debian's archives
	Known    []Known       // Releases that were locked before: older ones are refused; nil: any will do
	Locked   *Locked       // packages that stay as they are where they will do; nil: the newest are taken
	Progress progress.Sink // nil: progress.Discard

	// Keep is given every index file that was used, for Indices to find it by
	// its digest later; nil: nobody wants it.
	Keep func(ctx context.Context, content []byte) error

	// Explain is told of each package that Resolve takes why, "image definition
	// k8s-worker asks for it", and why it is not the one of Locked, "" where it is,
	// or Locked has none; nil: nobody wants to know. image is the name of the
	// container image that it is for, "" for none.
	Explain func(image string, p manifest.LockedPackage, why, instead string)
}

// Image asks for the packages of one container image, with all they depend on and
// without those that are only essential. They come from Config.Suite unless they say
// otherwise; where all say the same, what they depend on comes from there as well.
type Image struct {
	Name     string // "nginx"
	Packages []manifest.PackageRef
	Pos      manifest.Pos // of the list, for errors
	Key      string       // "images.nginx.packages"
}

// base returns the suite that what i's packages depend on comes from.
func (i *Image) base(suite string) string {
	base := i.Packages[0].Suite
	for _, r := range i.Packages {
		if r.Suite == "" || r.Suite != base {
			return suite
		}
	}
	return base
}

// Locked are packages that were locked before.
type Locked struct {
	*manifest.LockedArch
	Upgrade []string // names of packages that are taken as if they had not been

	// Control returns the control file of a package that no index lists any more,
	// out of its .deb. The error is [fetch.Gone] where no mirror has that either.
	Control func(ctx context.Context, p manifest.LockedPackage) ([]byte, error)
}

// UnsolvableError is [resolver.UnsolvableError]: what is wanted can't be installed
// together.
type UnsolvableError = resolver.UnsolvableError

// Known is a Release that a lock was made from.
type Known struct {
	manifest.LockedRelease
	Lock string // the lock's file
}

// OlderError says that a mirror's Release is older than one that was locked: it
// hides what came since, security updates among it.
type OlderError struct {
	Suite string
	Date  time.Time
	Known Known
}

func (e *OlderError) Error() string {
	const layout = "2006-01-02 15:04:05 UTC"
	return fmt.Sprintf("the Release file of %s is of %s, older than that of %s in %s: the mirror is behind (wait, or give another by --debian-mirror) or hides updates; --allow-older takes it",
		e.Suite, e.Date.UTC().Format(layout), e.Known.Date.UTC().Format(layout), e.Known.Lock)
}

// checkOlder refuses a Release that is older than what is known of its suite.
func (c *Config) checkOlder(s source, date time.Time) error {
	for _, k := range c.Known {
		if k.Archive == s.archive && k.Suite == s.suite && date.Before(k.Date) {
			return &OlderError{Suite: s.suite, Date: date, Known: k}
		}
	}
	return nil
}

// oldRelease is the age at which a Release that does not expire is worth a
// word. Debian's point releases come every two months or so.
const oldRelease = 100 * 24 * time.Hour

// noteOld says where a Release is old and does not say for how long it holds.
func (l *loader) noteOld(s source, f *found) {
	if age := l.cfg.Now.Sub(f.Date); f.ValidUntil.IsZero() && age > oldRelease {
		l.sink.Note("%s is of %s, %d days ago, and does not say how long it holds: Debian publishes %s again every two months or so; compare with another mirror (--debian-mirror)",
			redact(f.mirror.url("dists/"+s.suite+"/InRelease")), f.Date.Format(time.DateOnly), int(age.Hours()/24), s.suite)
	}
}

// ExpiredError is [repo.ExpiredError]: every mirror's Release file is too old,
// or the clock is wrong.
type ExpiredError = repo.ExpiredError

var _ Getter = (*fetch.Fetcher)(nil)

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
