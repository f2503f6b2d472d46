package manifest

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/nodebake/bake/bake/arch"
)

// Lock is what `bake lock` resolves the packages to that a versions file and an
// image definition ask for. `bake image` takes every OS package from it and
// resolves nothing itself.
type Lock struct {
	File  string // where it was read from, for errors
	Sum   Digest // sha256 of its bytes
	Archs map[arch.Arch]*LockedArch
}

// LockedArch is the section of one architecture.
type LockedArch struct {
	Request  Digest          // of what was asked for, see debian.Config.Request; "": an older bake made it, and did not say
	Releases []LockedRelease // sorted by archive, suite
	Packages []LockedPackage // the root filesystem; sorted by name
	Extra    []LockedPackage // not installed: for Component.Package and CGO.Packages; sorted by name, suite

	// Images are the packages of container images by their names in the versions
	// file, each list sorted by name; nil: there are no such images.
	Images map[string][]LockedPackage
}

// All returns every package of l, each .deb once: those of the root filesystem,
// those that are not installed, those of images.
func (l *LockedArch) All() []LockedPackage {
	lists := [][]LockedPackage{l.Packages, l.Extra}
	for _, image := range slices.Sorted(maps.Keys(l.Images)) {
		lists = append(lists, l.Images[image])
	}
	type file struct {
		name string
		sum  Digest
	}
	seen := map[file]bool{}
	return slices.DeleteFunc(slices.Concat(lists...), func(p LockedPackage) bool {
		this := file{p.Name, p.SHA256}
		twice := seen[this]
		seen[this] = true
		return twice
	})
}

// LockedRelease is a Debian Release file that the lock was resolved from.
type LockedRelease struct {
	Archive string    // "debian" or "debian-security": the path of the archive on a mirror
	Suite   string    // as on the mirror: "trixie", "trixie-updates", "trixie-security"
	Date    time.Time // its Date field: UTC, whole seconds
	SHA256  Digest    // of the InRelease file
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
	SHA256  Digest
}

// LockFile returns the name of the lock that belongs to a versions file:
// manifests/versions.yaml has manifests/versions.lock beside it.
func LockFile(versionsFile string) string {
	return strings.TrimSuffix(strings.TrimSuffix(versionsFile, ".yaml"), ".yml") + ".lock"
}

// For returns the section for arch. It returns a *MissingArchError if there is
// none.
func (l *Lock) For(arch arch.Arch) (*LockedArch, error) {
	if section := l.Archs[arch]; section != nil {
		return section, nil
	}
	return nil, &MissingArchError{Pos: Pos{l.File, 1, 1}, What: "lock", Arch: arch, Have: slices.Sorted(maps.Keys(l.Archs))}
}

// Stale returns a *StaleError unless l has for arch what was resolved from
// request, which v and its image definition ask for now. Nothing else that they
// say is in a lock, so nothing else makes it stale. wanted are the names that are
// asked for.
func (l *Lock) Stale(v *Versions, arch arch.Arch, request Digest, wanted []string) error {
	section := l.Archs[arch]
	if section == nil || section.Request == request {
		return nil
	}
	e := &StaleError{Lock: l.File, VersionsFile: v.File, Definition: v.DefinitionDir(), Arch: arch, Old: section.Request == ""}
	for _, name := range wanted {
		if !slices.ContainsFunc(section.All(), func(p LockedPackage) bool { return p.Name == name }) {
			e.Lacks = append(e.Lacks, name)
		}
	}
	slices.Sort(e.Lacks)
	e.Lacks = slices.Compact(e.Lacks)
	return e
}

// StaleError says that a lock was resolved from another request than inputs make
// now: other packages, or another suite.
type StaleError struct {
	Lock         string // file name
	VersionsFile string
	Definition   string // directory of the image definition; "": the built-in one
	Arch         arch.Arch
	Lacks        []string // packages that are asked for and not in it
	Old          bool     // it does not say what was asked for
}

func (e *StaleError) Error() string {
	inputs := e.VersionsFile + " with the built-in image definition"
	if e.Definition != "" {
		inputs = e.VersionsFile + " with the image definition " + e.Definition
	}
	what := "asks for other packages than when it was made"
	switch n := len(e.Lacks); {
	case e.Old:
		return fmt.Sprintf("%s is stale: an older bake made it, which did not say what for (run: %s)", e.Lock, LockCommand(e.VersionsFile, e.Lock))
	case n > maxLacks:
		what = fmt.Sprintf("asks for %s and %d more, which it lacks", strings.Join(e.Lacks[:maxLacks], ", "), n-maxLacks)
	case n > 0:
		what = fmt.Sprintf("asks for %s, which it lacks", strings.Join(e.Lacks, ", "))
	}
	return fmt.Sprintf("%s is stale: %s %s (run: %s)", e.Lock, inputs, what, LockCommand(e.VersionsFile, e.Lock))
}

// maxLacks is how many packages a StaleError names.
const maxLacks = 5

// LockCommand is the command that makes the lock of a versions file, or with
// further arguments another one.
func LockCommand(versionsFile, lock string, args ...string) string {
	words := []string{"bake", "lock", "--versions", versionsFile}
	if lock != "" && lock != LockFile(versionsFile) {
		words = append(words, "--output", lock)
	}
	return Command(append(words, args...)...)
}

// Command writes a command as a POSIX shell takes it: words with what means
// something to a shell are in quotes.
func Command(words ...string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = w
		if !plainWord.MatchString(w) {
			quoted[i] = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
		}
	}
	return strings.Join(quoted, " ")
}

var plainWord = regexp.MustCompile(`^[A-Za-z0-9%+,./:=@_-]+$`)
