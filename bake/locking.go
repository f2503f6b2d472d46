package bake

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/progress"
	"github.com/nodebake/bake/bake/source/debian"
)

// Result is what was made.
type Result struct {
	SHA256 manifest.Sum `json:"sha256"`
	Path   string       `json:"path"`
	Record string       `json:"record,omitempty"` // NAME.json, for an image
	Size   int64        `json:"size"`             // bytes

	SPDX       string `json:"spdx,omitempty"`       // NAME.spdx.json, likewise
	Provenance string `json:"provenance,omitempty"` // NAME.provenance.json
	Bundle     string `json:"bundle,omitempty"`     // NAME.sigstore.json, where it was signed

	Replaced manifest.Sum `json:"replaced,omitempty"` // digest of another image of that name that was there, see Config.Force

	Missing []Missing `json:"missing,omitempty"` // parts of an image that something else was made in place of

	Locked []LockedPackages `json:"locked,omitempty"` // of a lock
}

// packages returns the OS packages that are asked for, those that they need not
// included.
func (b *Baker) packages(arch manifest.Arch) ([]manifest.PackageRef, error) {
	definition, err := b.definition.PackagesFor(arch, b.versions.OS.Suite)
	if err != nil {
		return nil, err
	}
	versions, err := b.versions.OS.PackagesFor(arch)
	return slices.Concat(definition, versions), err
}

// known returns the Releases that the locks in files were made from, those that
// are there, unless older ones are allowed. A lock that can't be read is no
// reason to make no better one.
func (b *Baker) known(files ...string) []debian.Known {
	var known []debian.Known
	if b.config.AllowOlder {
		return nil
	}
	for _, file := range files {
		if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		lock, err := readLockFile(file)
		if err != nil {
			b.config.Progress.Note("the indices are not compared with those of a lock that can't be read: %v", err)
			continue
		}
		for _, arch := range slices.Sorted(maps.Keys(lock.Archs)) {
			for _, r := range lock.Archs[arch].Releases {
				known = append(known, debian.Known{LockedRelease: r, Lock: file})
			}
		}
	}
	return known
}

// resolveConfig says what package debian resolves for arch.
func (b *Baker) resolveConfig(arch manifest.Arch, now time.Time) (debian.Config, error) {
	packages, err := b.packages(arch)
	if err != nil {
		return debian.Config{}, err
	}
	extra, err := extraPackages(b.versions, arch)
	if err != nil {
		return debian.Config{}, err
	}
	return debian.Config{
		Suite:    b.versions.OS.Suite,
		Arch:     arch,
		Packages: packages,
		Extra:    extra,
		List:     "image definition " + b.definition.Name,
		Mirrors:  b.mirrors,
		Getter:   b.fetcher,
		Keyring:  b.config.Keyring,
		Now:      now,
		Progress: b.config.Progress,
		Keep: func(ctx context.Context, content []byte) error {
			sum := manifest.SHA256(sha256.Sum256(content))
			_, err := b.store.Add(ctx, []manifest.Sum{sum}, bytes.NewReader(content))
			return err
		},
	}, nil
}

// extraPackages are those that components need and the image does not.
func extraPackages(v *manifest.Versions, arch manifest.Arch) ([]manifest.PackageRef, error) {
	var refs []manifest.PackageRef
	var errs []error
	add := func(ref manifest.PackageRef, err error) {
		refs, errs = append(refs, ref), append(errs, err)
	}
	for _, c := range v.Components {
		if c.Package != nil {
			add(c.Package.Ref(arch))
		}
		if c.Module != nil && c.Module.CGO != nil {
			for _, listed := range c.Module.CGO.Packages {
				add(listed.Ref(arch))
			}
		}
	}
	return refs, errors.Join(errs...)
}

// Lock resolves the OS packages for each of arches and writes the lock; without
// any it is for those of the lock that is there, or for all. now is what
// signatures and validity dates are checked against. Indices that are older than
// those of the lock that is there, or of the versions file's own, are refused.
//
// What is locked already and still does stays as it is, the lock's own bytes
// included where nothing changes; see Config.UpgradeAll and Config.Upgrade.
func (b *Baker) Lock(ctx context.Context, now time.Time, arches []manifest.Arch) (*Result, error) {
	before := b.lockedBefore()
	if err := b.checkUpgrade(before); err != nil {
		return nil, err
	}
	if len(arches) == 0 && before != nil {
		arches = slices.Sorted(maps.Keys(before.Archs))
	} else if len(arches) == 0 {
		arches = []manifest.Arch{manifest.AMD64, manifest.ARM64}
	}
	lock := &manifest.Lock{File: b.config.Lock, Archs: map[manifest.Arch]*manifest.LockedArch{}}
	known := b.known(b.lockFiles()...)
	var packages []LockedPackages
	for _, arch := range arches {
		var old *manifest.LockedArch
		if before != nil {
			old = before.Archs[arch]
		}
		progress.Phase(b.config.Progress, "resolve "+string(arch))
		section, changes, err := b.lockArchitecture(ctx, now, arch, old, known)
		if err != nil {
			return nil, err
		}
		lock.Archs[arch] = section
		packages = append(packages, changes)
	}
	progress.Phase(b.config.Progress, "")
	data := lock.Marshal()
	// What can't be read back must not replace what can.
	parsed, err := manifest.ParseLock(b.config.Lock, data)
	if err != nil {
		return nil, fmt.Errorf("BUG: the new lock does not parse: %w", err)
	}
	if err := writeWhole(b.config.Lock, data); err != nil {
		return nil, fmt.Errorf("writing the lock: %w", err)
	}
	return &Result{SHA256: parsed.Sum, Path: b.config.Lock, Size: int64(len(data)), Locked: packages}, nil
}

// LockReport is what is wrong with a lock.
type LockReport struct {
	Lock     string         `json:"lock"`
	Stale    string         `json:"stale,omitempty"` // why, where it is
	Security []LockedUpdate `json:"security"`        // security updates that it misses
	Updates  []LockedUpdate `json:"updates"`         // other newer versions
}

// LockedUpdate is a newer version of a locked package.
type LockedUpdate struct {
	Name      string `json:"name"`
	Locked    string `json:"locked"`
	Available string `json:"available"`
	Suite     string `json:"suite"`
}

// OutdatedError says that a lock misses security updates.
type OutdatedError struct {
	Lock         string
	VersionsFile string
	Updates      []LockedUpdate
}

func (e *OutdatedError) Error() string {
	var names []string
	for _, u := range e.Updates {
		names = append(names, u.Name)
	}
	slices.Sort(names)
	text := fmt.Sprintf("%s misses security updates (run: %s):", e.Lock,
		manifest.LockCommand(e.VersionsFile, e.Lock, "--upgrade", strings.Join(slices.Compact(names), ",")))
	for _, u := range e.Updates {
		text += fmt.Sprintf("\n  %s %s, %s has %s", u.Name, u.Locked, u.Suite, u.Available)
	}
	return text
}

// CheckLock says whether the lock fits the inputs and has the security updates
// of its architecture. The error is or joins a manifest.StaleError or an
// OutdatedError where it does not; the report comes with it, and lists no
// updates where they could not be looked up.
func (b *Baker) CheckLock(ctx context.Context, now time.Time) (*LockReport, error) {
	lock, _, err := b.readLockBytes()
	if err != nil {
		return nil, err
	}
	locked, err := lock.For(b.config.Arch)
	if err != nil {
		return nil, b.lockArch(err, lock)
	}
	report := &LockReport{Lock: b.config.Lock, Security: []LockedUpdate{}, Updates: []LockedUpdate{}}
	stale := b.Stale(lock)
	if stale != nil {
		report.Stale = stale.Error()
	}
	config, err := b.resolveConfig(b.config.Arch, now)
	if err != nil {
		return nil, err
	}
	config.Known = b.known(b.config.Lock)
	progress.Phase(b.config.Progress, "resolve "+string(b.config.Arch))
	updates, err := debian.Outdated(ctx, config, locked)
	if err == nil {
		progress.Phase(b.config.Progress, "")
	}
	switch {
	case err != nil && stale != nil:
		return report, errors.Join(stale, err)
	case err != nil:
		return nil, err
	}
	for _, u := range updates {
		update := LockedUpdate{u.Have.Name, u.Have.Version, u.Version, u.Suite}
		if u.Security {
			report.Security = append(report.Security, update)
		} else {
			report.Updates = append(report.Updates, update)
		}
	}
	var outdated error
	if len(report.Security) > 0 {
		outdated = &OutdatedError{b.config.Lock, b.config.Versions, report.Security}
	}
	return report, errors.Join(stale, outdated)
}

// DiffLocks says in which packages for arch the lock newFile differs from
// oldFile, a line for each.
func DiffLocks(oldFile, newFile string, arch manifest.Arch) ([]string, error) {
	older, err := readLockFile(oldFile)
	if err != nil {
		return nil, err
	}
	newer, err := readLockFile(newFile)
	if err != nil {
		return nil, err
	}
	var lines []string
	for _, change := range manifest.DiffLocks(older, newer, arch) {
		lines = append(lines, change.String())
	}
	return lines, nil
}
