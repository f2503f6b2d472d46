package lock

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/nodebake/bake/bake/arch"
	"github.com/nodebake/bake/bake/inputs"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/source/debian"
)

// Packages are the packages of a new lock for one architecture, and in what
// it is another than before.
type Packages struct {
	Arch    arch.Arch `json:"arch"`
	Count   int       `json:"count"` // of all packages, those that are not installed included
	Kept    int       `json:"kept"`  // of those that were locked already, the very same
	Changes []Change  `json:"changes"`
}

// Change is a package that is not as it was locked.
type Change struct {
	manifest.PackageChange `json:"-"`

	Name  string `json:"name"`
	Old   string `json:"old,omitempty"` // version; "": it is new
	New   string `json:"new,omitempty"` // version; "": it is gone
	Extra bool   `json:"notInstalled,omitempty"`
	Image string `json:"image,omitempty"` // the container image that it is of
	Why   string `json:"why"`
}

// String is one line: "tool 1.0 -> 1.1 (--upgrade)".
func (c Change) String() string { return fmt.Sprintf("%s (%s)", c.PackageChange, c.Why) }

// lockFiles are the locks that say what is locked: the one that is to be written,
// and the versions file's own.
func (l *Locker) lockFiles() []string {
	return slices.Compact([]string{l.config.Lock, manifest.LockFile(l.config.Versions)})
}

// lockedBefore returns the lock whose packages are kept: the one that is there
// already, else the versions file's own, else nil. One that can't be read is no
// reason to make no better one.
func (l *Locker) lockedBefore() *manifest.Lock {
	for _, file := range l.lockFiles() {
		if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		lock, err := inputs.ReadLockFile(file)
		if err == nil {
			return lock
		}
		l.config.Progress.Note("no package is kept as it was locked, since that can't be read: %v", err)
	}
	return nil
}

// checkUpgrade requires that packages which are to be upgraded are locked.
func (l *Locker) checkUpgrade(before *manifest.Lock) error {
	have := map[string]bool{}
	file := l.config.Lock
	if before != nil {
		file = before.File
		for _, section := range before.Archs {
			for _, p := range section.All() {
				have[p.Name] = true
			}
		}
	}
	for _, name := range l.config.Upgrade {
		if !have[name] {
			return &manifest.ArgumentError{Err: fmt.Errorf("--upgrade %s: %s has no package of that name", name, file)}
		}
	}
	return nil
}

// lockArchitecture resolves the packages for arch, for which old was locked
// before, nil for nothing.
func (l *Locker) lockArchitecture(ctx context.Context, arch arch.Arch, old *manifest.LockedArch, known []debian.Known) (*manifest.LockedArch, Packages, error) {
	changes := Packages{Arch: arch, Changes: []Change{}}
	config, err := l.resolveConfig(arch)
	if err != nil {
		return nil, changes, err
	}
	config.Known = known
	if old != nil && !l.config.UpgradeAll {
		debs := l.access.Packages(arch)
		config.Locked = &debian.Locked{LockedArch: old, Upgrade: l.config.Upgrade, Control: func(ctx context.Context, p manifest.LockedPackage) (control []byte, err error) {
			err = debs.Retry(func() error {
				control, err = debs.Control(ctx, p)
				return err
			})
			return control, err
		}}
	}
	type of struct {
		image string
		sum   manifest.Digest
	}
	why, instead := map[of]string{}, map[of]string{}
	config.Explain = func(image string, p manifest.LockedPackage, because, released string) {
		why[of{image, p.SHA256}], instead[of{image, p.SHA256}] = because, released
	}
	section, err := debian.Resolve(ctx, config)
	if err != nil {
		return nil, changes, err
	}
	changes.Count = len(section.Packages) + len(section.Extra)
	for _, image := range section.Images {
		changes.Count += len(image)
	}
	changes.Kept = changes.Count
	for _, c := range manifest.DiffLocks(lockOf(arch, old), lockOf(arch, section), arch) {
		change := Change{PackageChange: c, Extra: c.Extra, Image: c.Image}
		switch {
		case c.New == nil:
			change.Name, change.Old, change.Why = c.Old.Name, c.Old.Version, "nothing asks for it or needs it any more"
		case c.Old == nil:
			change.Name, change.New, change.Why = c.New.Name, c.New.Version, why[of{c.Image, c.New.SHA256}]
		default:
			change.Name, change.Old, change.New, change.Why = c.New.Name, c.Old.Version, c.New.Version, instead[of{c.Image, c.New.SHA256}]
			if l.config.UpgradeAll {
				change.Why = "--upgrade"
			}
			if change.Why == "" { // what is asked for is of another suite now
				change.Why = why[of{c.Image, c.New.SHA256}]
			}
		}
		if c.New != nil {
			changes.Kept--
		}
		// Problems of several packages stand on several lines.
		change.Why = strings.Join(strings.Fields(change.Why), " ")
		changes.Changes = append(changes.Changes, change)
	}
	// The same packages need no newer indices, whose date is the image's time.
	if old != nil && len(changes.Changes) == 0 && (old.Request == section.Request || old.Request == "") {
		section.Releases, section.Packages, section.Extra, section.Images = old.Releases, old.Packages, old.Extra, old.Images
	}
	return section, changes, nil
}

// lockOf is a lock with one section, or with none.
func lockOf(a arch.Arch, section *manifest.LockedArch) *manifest.Lock {
	lock := &manifest.Lock{Archs: map[arch.Arch]*manifest.LockedArch{}}
	if section != nil {
		lock.Archs[a] = section
	}
	return lock
}
