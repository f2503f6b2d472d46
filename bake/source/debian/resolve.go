package debian

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/source/debian/closure"
)

// Resolve fetches and verifies the indices that cfg needs, and returns what a
// lock records: the closure of cfg.Packages with the essential packages, and
// cfg.Extra alone. The result depends on the indices and cfg's lists only, not
// on their order or on which mirror answered.
//
// The error is an [UnsolvableError], a [NoMirrorError] or an [ExpiredError]
// where that is the reason.
func Resolve(ctx context.Context, cfg Config) (*manifest.LockedArch, error) {
	l, err := newLoader(cfg)
	if err != nil {
		return nil, err
	}
	wants := wants(cfg.Packages, cmp.Or(cfg.List, "package list"))
	var groups []closure.Group
	for _, suite := range suites(cfg.Suite, wants) {
		g, err := l.group(ctx, suite)
		if err != nil {
			return nil, err
		}
		groups = append(groups, g)
	}
	choices, err := closure.Resolve(ctx, string(cfg.Arch), groups, wants)
	if err != nil {
		return nil, fmt.Errorf("resolving packages of %s for %s: %w", cfg.Suite, cfg.Arch, err)
	}
	locked := &manifest.LockedArch{Packages: lockChoices(choices)}

	var extra []closure.Choice
	for _, w := range extras(cfg) {
		g, err := l.group(ctx, w.Suite)
		if err != nil {
			return nil, err
		}
		c, err := closure.Find(g, w)
		if err != nil {
			return nil, fmt.Errorf("resolving packages of %s for %s: %w", w.Suite, cfg.Arch, err)
		}
		extra = append(extra, c)
	}
	locked.Extra = lockChoices(extra)

	locked.Releases = slices.Clone(l.locked)
	slices.SortFunc(locked.Releases, func(a, b manifest.LockedRelease) int {
		return cmp.Or(strings.Compare(a.Archive, b.Archive), strings.Compare(a.Suite, b.Suite))
	})
	return locked, nil
}

func wants(refs []manifest.PackageRef, from string) []closure.Want {
	list := make([]closure.Want, len(refs))
	for i, r := range refs {
		list[i] = closure.Want{Name: r.Name, Suite: r.Suite, From: from}
	}
	return list
}

// extras returns cfg.Extra with every suite named, sorted and each once.
func extras(cfg Config) []closure.Want {
	list := wants(cfg.Extra, "extra packages")
	for i := range list {
		list[i].Suite = cmp.Or(list[i].Suite, cfg.Suite)
	}
	slices.SortFunc(list, func(a, b closure.Want) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Suite, b.Suite))
	})
	return slices.Compact(list)
}

// suites returns base, then the other suites that wants name, sorted.
func suites(base string, wants []closure.Want) []string {
	var others []string
	for _, w := range wants {
		if w.Suite != "" && w.Suite != base {
			others = append(others, w.Suite)
		}
	}
	slices.Sort(others)
	return append([]string{base}, slices.Compact(others)...)
}

func lockChoices(choices []closure.Choice) []manifest.LockedPackage {
	list := make([]manifest.LockedPackage, len(choices))
	for i, c := range choices {
		list[i] = manifest.LockedPackage{
			Name: c.Name, Version: c.Version, Arch: c.Arch,
			Suite: c.Suite, Archive: c.Archive,
			Path: c.Path, Size: c.Size, SHA256: manifest.SHA256(c.SHA256),
		}
	}
	slices.SortFunc(list, func(a, b manifest.LockedPackage) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Suite, b.Suite))
	})
	return list
}

// Update is a locked package of which there is a newer version.
type Update struct {
	Have    manifest.LockedPackage
	Version string // the highest there is
	Archive string
	Suite   string // where it is: "trixie-security"
}

// Outdated returns the packages of locked, Extra among them, of which the
// suite they come from or its updates have a newer version, in the order of the
// lock. cfg's lists are not looked at, nor whether a newer version would need
// other packages.
func Outdated(ctx context.Context, cfg Config, locked *manifest.LockedArch) ([]Update, error) {
	l, err := newLoader(cfg)
	if err != nil {
		return nil, err
	}
	newest := make(map[string]map[string]Update) // by suite and name
	var updates []Update
	for _, p := range slices.Concat(locked.Packages, locked.Extra) {
		if err := closure.ValidVersion(p.Version); err != nil {
			return nil, fmt.Errorf("locked package %s: %w", p.Name, err)
		}
		suite := baseSuite(p.Suite)
		if newest[suite] == nil {
			g, err := l.group(ctx, suite)
			if err != nil {
				return nil, err
			}
			newest[suite] = newestOf(g)
		}
		u := newest[suite][p.Name]
		if u.Version == "" || closure.CompareVersions(u.Version, p.Version) <= 0 {
			continue
		}
		u.Have = p
		updates = append(updates, u)
	}
	return updates, nil
}

func newestOf(g closure.Group) map[string]Update {
	newest := make(map[string]Update)
	for _, x := range g.Indices {
		for i := range x.Packages {
			p := &x.Packages[i]
			if old := newest[p.Name]; old.Version == "" || closure.CompareVersions(p.Version, old.Version) > 0 {
				newest[p.Name] = Update{Version: p.Version, Archive: x.Archive, Suite: x.Suite}
			}
		}
	}
	return newest
}
