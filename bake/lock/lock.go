// Package lock resolves the OS packages that a versions file and its image definition
// ask for, and writes what it found to the lock: versions and digests, from Debian's
// signed indices. It says as well whether a lock still fits, and in what two differ.
package lock

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

	"github.com/nodebake/bake/bake/arch"
	"github.com/nodebake/bake/bake/atomicfile"
	"github.com/nodebake/bake/bake/inputs"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/progress"
	"github.com/nodebake/bake/bake/source"
	"github.com/nodebake/bake/bake/source/debian"
)

// Config says what to lock, and from where. Files, Cache and Now are required.
type Config struct {
	inputs.Files
	source.Options
	Keyring []byte    // armored keys that sign the mirrors' indices, for archives other than Debian's own; nil: Debian's
	Now     time.Time // that signatures and validity dates are checked against

	AllowOlder bool     // take indices that are older than those of the lock that is there
	UpgradeAll bool     // lock what is newest, whatever was locked before
	Upgrade    []string // the same for packages of these names and what they need
}

// Locker makes and checks a lock.
type Locker struct {
	config Config
	inputs *inputs.Inputs
	access *source.Access
}

// New reads and checks the inputs, and opens the store. Close it after use.
func New(c Config) (*Locker, error) {
	in, err := inputs.Read(c.Files)
	if err != nil {
		return nil, err
	}
	c.Files = in.Files
	access, err := source.Open(c.Options)
	if err != nil {
		return nil, err
	}
	c.Options = access.Options
	return &Locker{c, in, access}, nil
}

// Close releases the store.
func (l *Locker) Close() error { return l.access.Close() }

// Result is the lock that was made.
type Result struct {
	SHA256 manifest.Digest `json:"sha256"`
	Path   string          `json:"path"`
	Size   int64           `json:"size"` // bytes
	Locked []Packages      `json:"locked"`
}

// known returns the Releases that the locks in files were made from, those that
// are there, unless older ones are allowed. A lock that can't be read is no
// reason to make no better one.
func (l *Locker) known(files ...string) []debian.Known {
	var known []debian.Known
	if l.config.AllowOlder {
		return nil
	}
	for _, file := range files {
		if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		lock, err := inputs.ReadLockFile(file)
		if err != nil {
			l.config.Progress.Note("the indices are not compared with those of a lock that can't be read: %v", err)
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
func (l *Locker) resolveConfig(arch arch.Arch) (debian.Config, error) {
	return DebianConfig(l.inputs, l.access, arch, l.config.Keyring, l.config.Now)
}

// DebianConfig says what package debian resolves of in for arch: with access, keyring
// and now as in [Config].
func DebianConfig(in *inputs.Inputs, access *source.Access, arch arch.Arch, keyring []byte, now time.Time) (debian.Config, error) {
	config, err := in.Packages(arch)
	if err != nil {
		return config, err
	}
	config.Mirrors, config.Getter, config.Progress = access.DebianMirrors, access.Fetcher, access.Progress
	config.Keyring, config.Now = keyring, now
	config.Keep = func(ctx context.Context, content []byte) error {
		sum := manifest.SHA256(sha256.Sum256(content))
		_, err := access.Store.Add(ctx, []manifest.Digest{sum}, bytes.NewReader(content))
		return err
	}
	return config, nil
}

// Lock resolves the OS packages for each of arches and writes the lock; without
// any it is for those of the lock that is there, or for all. Indices that are older
// than those of the lock that is there, or of the versions file's own, are refused.
//
// What is locked already and still does stays as it is, the lock's own bytes
// included where nothing changes; see Config.UpgradeAll and Config.Upgrade.
func (l *Locker) Lock(ctx context.Context, arches []arch.Arch) (*Result, error) {
	before := l.lockedBefore()
	if err := l.checkUpgrade(before); err != nil {
		return nil, err
	}
	if len(arches) == 0 && before != nil {
		arches = slices.Sorted(maps.Keys(before.Archs))
	} else if len(arches) == 0 {
		arches = arch.All()
	}
	lock := &manifest.Lock{File: l.config.Lock, Archs: map[arch.Arch]*manifest.LockedArch{}}
	known := l.known(l.lockFiles()...)
	var packages []Packages
	for _, arch := range arches {
		var old *manifest.LockedArch
		if before != nil {
			old = before.Archs[arch]
		}
		progress.Phase(l.config.Progress, "resolve "+string(arch))
		section, changes, err := l.lockArchitecture(ctx, arch, old, known)
		if err != nil {
			return nil, err
		}
		lock.Archs[arch] = section
		packages = append(packages, changes)
	}
	progress.Phase(l.config.Progress, "")
	data := lock.Marshal()
	// What can't be read back must not replace what can.
	parsed, err := manifest.ParseLock(l.config.Lock, data)
	if err != nil {
		return nil, fmt.Errorf("BUG: the new lock does not parse: %w", err)
	}
	if err := atomicfile.Write(l.config.Lock, data); err != nil {
		return nil, fmt.Errorf("writing the lock: %w", err)
	}
	return &Result{SHA256: parsed.Sum, Path: l.config.Lock, Size: int64(len(data)), Locked: packages}, nil
}

// Report is what is wrong with a lock.
type Report struct {
	Lock     string   `json:"lock"`
	Stale    string   `json:"stale,omitempty"` // why, where it is
	Security []Update `json:"security"`        // security updates that it misses
	Updates  []Update `json:"updates"`         // other newer versions
}

// Update is a newer version of a locked package.
type Update struct {
	Name      string `json:"name"`
	Locked    string `json:"locked"`
	Available string `json:"available"`
	Suite     string `json:"suite"`
}

// OutdatedError says that a lock misses security updates.
type OutdatedError struct {
	Lock         string
	VersionsFile string
	Updates      []Update
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

// Check says whether the lock fits the inputs and has the security updates
// of its architecture. The error is or joins a manifest.StaleError or an
// OutdatedError where it does not; the report comes with it, and lists no
// updates where they could not be looked up.
func (l *Locker) Check(ctx context.Context) (*Report, error) {
	lock, locked, err := l.inputs.ReadAnyLock()
	if err != nil {
		return nil, err
	}
	report := &Report{Lock: l.config.Lock, Security: []Update{}, Updates: []Update{}}
	stale := l.inputs.Stale(lock)
	if stale != nil {
		report.Stale = stale.Error()
	}
	config, err := l.resolveConfig(l.config.Arch)
	if err != nil {
		return nil, err
	}
	config.Known = l.known(l.config.Lock)
	progress.Phase(l.config.Progress, "resolve "+string(l.config.Arch))
	updates, err := debian.Outdated(ctx, config, locked)
	if err == nil {
		progress.Phase(l.config.Progress, "")
	}
	switch {
	case err != nil && stale != nil:
		return report, errors.Join(stale, err)
	case err != nil:
		return nil, err
	}
	for _, u := range updates {
		update := Update{u.Have.Name, u.Have.Version, u.Version, u.Suite}
		if u.Security {
			report.Security = append(report.Security, update)
		} else {
			report.Updates = append(report.Updates, update)
		}
	}
	var outdated error
	if len(report.Security) > 0 {
		outdated = &OutdatedError{l.config.Lock, l.config.Versions, report.Security}
	}
	return report, errors.Join(stale, outdated)
}

// Diff says in which packages for arch the lock newFile differs from
// oldFile, a line for each.
func Diff(oldFile, newFile string, arch arch.Arch) ([]string, error) {
	older, err := inputs.ReadLockFile(oldFile)
	if err != nil {
		return nil, err
	}
	newer, err := inputs.ReadLockFile(newFile)
	if err != nil {
		return nil, err
	}
	var lines []string
	for _, change := range manifest.DiffLocks(older, newer, arch) {
		lines = append(lines, change.String())
	}
	return lines, nil
}
