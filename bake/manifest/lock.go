package manifest

import "time"

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
	Date    time.Time // its Date field
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
