package manifest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Lock is what `bake lock` resolves a versions file and an image definition
// to. `bake image` takes every OS package from it and resolves nothing itself.
type Lock struct {
	File       string // where it was read from, for errors
	Sum        Sum    // sha256 of its bytes
	Versions   Sum    // sha256 of the versions file that it was made from
	Definition Sum    // of the image definition (see Definition.Sum)
	Archs      map[Arch]*LockedArch
}

// LockedArch is the section of one architecture.
type LockedArch struct {
	Releases []LockedRelease // sorted by archive, suite
	Packages []LockedPackage // the root filesystem; sorted by name
	Extra    []LockedPackage // not installed: for Component.Package and CGO.Packages; sorted by name, suite
}

// LockedRelease is a Debian Release file that the lock was resolved from.
type LockedRelease struct {
	Archive string    // "debian" or "debian-security": the path of the archive on a mirror
	Suite   string    // as on the mirror: "trixie", "trixie-updates", "trixie-security"
	Date    time.Time // its Date field: UTC, whole seconds
	SHA256  Sum       // of the InRelease file
}

// LockedPackage is one binary package.
type LockedPackage struct {
	Name    string
	Version string
	Arch    string // "amd64" or "all"
	Suite   string // of the Release it was found in
	Archive string // "debian" or "debian-security"
	Path    string // below the archive: "pool/main/b/bash/bash_5.2.37-2_amd64.deb"
	Size    int64  // bytes
	SHA256  Sum
}

// LockFile returns the name of the lock that belongs to a versions file:
// manifests/versions.yaml has manifests/versions.lock beside it.
func LockFile(versionsFile string) string {
	return strings.TrimSuffix(strings.TrimSuffix(versionsFile, ".yaml"), ".yml") + ".lock"
}

// For returns the section for arch. It returns a *MissingArchError if there is
// none.
func (l *Lock) For(arch Arch) (*LockedArch, error) {
	if section := l.Archs[arch]; section != nil {
		return section, nil
	}
	return nil, &MissingArchError{Pos: Pos{l.File, 1, 1}, What: "lock", Arch: arch, Have: slices.Sorted(maps.Keys(l.Archs))}
}

// Stale returns a *StaleError unless l was made from v and from the image
// definition with the digest definition.
func (l *Lock) Stale(v *Versions, definition Sum) error {
	e := &StaleError{Lock: l.File, VersionsFile: v.File, Versions: l.Versions != v.Sum, Definition: l.Definition != definition}
	if !e.Versions && !e.Definition {
		return nil
	}
	return e
}

// StaleError says that a lock was made from other inputs than those at hand.
type StaleError struct {
	Lock         string // file name
	VersionsFile string
	Versions     bool // the versions file has changed
	Definition   bool // the image definition has changed
}

func (e *StaleError) Error() string {
	var changed []string
	if e.Versions {
		changed = append(changed, e.VersionsFile)
	}
	if e.Definition {
		changed = append(changed, "the image definition")
	}
	return fmt.Sprintf("%s is stale: since it was made, %s changed (run: bake lock --versions %s)",
		e.Lock, strings.Join(changed, " and "), e.VersionsFile)
}
