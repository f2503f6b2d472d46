package debian

import (
	"context"
	"fmt"

	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/relation"
	"github.com/nodebake/bake/bake/source/debian/repo"
	"github.com/nodebake/bake/bake/source/debian/resolver"
)

// Update is a locked package of which there is a newer version.
type Update struct {
	Have     manifest.LockedPackage
	Version  string // the highest there is
	Archive  string // where it is; the security archive where that has it too
	Suite    string // "trixie-security"
	Security bool   // the security archive has a newer version, perhaps not the highest
}

// Outdated returns the packages of locked, all of them, of which the
// suite they come from or its updates have a newer version, in the order of the
// lock. cfg's lists are not looked at, nor whether a newer version would need
// other packages.
func Outdated(ctx context.Context, cfg Config, locked *manifest.LockedArch) ([]Update, error) {
	l, err := newLoader(cfg)
	if err != nil {
		return nil, err
	}
	all := locked.All()
	names := make(map[string]bool, len(all))
	for _, p := range all {
		if err := relation.ValidVersion(p.Version); err != nil {
			return nil, fmt.Errorf("locked package %s: %w", p.Name, err)
		}
		names[p.Name] = true
	}
	offers := make(map[string]map[string][]Update) // by suite and name
	var updates []Update
	for _, p := range all {
		suite := baseSuite(p.Suite)
		if offers[suite] == nil {
			g, err := l.group(ctx, suite)
			if err != nil {
				return nil, err
			}
			if offers[suite], err = offersOf(g, names); err != nil {
				return nil, err
			}
		}
		if u, newer := newest(p, offers[suite][p.Name]); newer {
			updates = append(updates, u)
		}
	}
	return updates, nil
}

// offersOf lists every version of the packages called names.
func offersOf(g resolver.Group, names map[string]bool) (map[string][]Update, error) {
	offers := make(map[string][]Update, len(names))
	for _, x := range g.Indices {
		for i := range x.Packages {
			p := &x.Packages[i]
			if names[p.Name] && p.Malformed != nil {
				return nil, fmt.Errorf("looking for updates of package %s: version %s is malformed in the index of %s: %w", p.Name, p.Version, x.Suite, p.Malformed)
			}
			if names[p.Name] {
				offers[p.Name] = append(offers[p.Name], Update{Version: p.Version, Archive: x.Archive, Suite: x.Suite})
			}
		}
	}
	return offers, nil
}

// newest picks the highest of offers that is newer than p. Between equals the
// security archive wins: a point release copies its updates to the suite, which
// does not make them less urgent.
func newest(p manifest.LockedPackage, offers []Update) (Update, bool) {
	best := Update{Have: p, Version: p.Version}
	found, security := false, false
	for _, o := range offers {
		if relation.CompareVersions(o.Version, p.Version) <= 0 {
			continue
		}
		fixes := o.Archive == repo.Security
		security = security || fixes
		d := relation.CompareVersions(o.Version, best.Version)
		if d > 0 || d == 0 && fixes {
			o.Have = p
			best, found = o, true
		}
	}
	best.Security = security
	return best, found
}
