package manifest

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/nodebake/bake/bake/arch"
)

// PackageChange is one package in which two locks differ. Old or New is nil
// for a package that was added or removed.
type PackageChange struct {
	Old, New *LockedPackage
	Extra    bool   // it is among the packages that are not installed
	Image    string // the container image of which it is; "": of none
}

// String writes "bash 5.2.37-2 -> 5.2.37-3", "+ bash 5.2.37-3" or
// "- bash 5.2.37-2".
func (c PackageChange) String() string {
	var s string
	switch {
	case c.Old == nil:
		s = fmt.Sprintf("+ %s %s", c.New.Name, c.New.Version)
	case c.New == nil:
		s = fmt.Sprintf("- %s %s", c.Old.Name, c.Old.Version)
	case c.Old.Version == c.New.Version:
		s = fmt.Sprintf("%s %s (same version, other file)", c.New.Name, c.New.Version)
	default:
		s = fmt.Sprintf("%s %s -> %s", c.New.Name, c.Old.Version, c.New.Version)
	}
	if c.Extra {
		s += " (not installed)"
	}
	if c.Image != "" {
		s += " (image " + c.Image + ")"
	}
	return s
}

// name is that of the package on either side.
func (c PackageChange) name() string {
	if c.New != nil {
		return c.New.Name
	}
	return c.Old.Name
}

// DiffLocks returns in which packages for arch b differs from a, sorted by name:
// the installed ones first, those of images last. A package that moved to another
// suite or mirror path without changing its content is the same.
func DiffLocks(a, b *Lock, arch arch.Arch) []PackageChange {
	before, after := a.Archs[arch], b.Archs[arch]
	if before == nil {
		before = &LockedArch{}
	}
	if after == nil {
		after = &LockedArch{}
	}
	changes := append(diffPackages(before.Packages, after.Packages, false), diffPackages(before.Extra, after.Extra, true)...)
	names := map[string]bool{}
	for _, section := range []*LockedArch{before, after} {
		for name := range section.Images {
			names[name] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		for _, c := range diffPackages(before.Images[name], after.Images[name], false) {
			c.Image = name
			changes = append(changes, c)
		}
	}
	return changes
}

func diffPackages(before, after []LockedPackage, extra bool) []PackageChange {
	// A name may stand twice in Extra, once for each suite.
	key := func(p *LockedPackage) string {
		if extra {
			return p.Name + "/" + p.Suite
		}
		return p.Name
	}
	old := map[string]*LockedPackage{}
	for i := range before {
		old[key(&before[i])] = &before[i]
	}
	var changes []PackageChange
	for i := range after {
		p := &after[i]
		was, ok := old[key(p)]
		delete(old, key(p))
		if !ok || was.SHA256 != p.SHA256 {
			changes = append(changes, PackageChange{Old: was, New: p, Extra: extra})
		}
	}
	for _, p := range old {
		changes = append(changes, PackageChange{Old: p, Extra: extra})
	}
	slices.SortFunc(changes, func(x, y PackageChange) int {
		return cmp.Or(strings.Compare(x.name(), y.name()), strings.Compare(x.String(), y.String()))
	})
	return changes
}
