package debian

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/source/debian/repo"
	"github.com/nodebake/bake/bake/source/debian/resolver"
	"github.com/nodebake/bake/bake/source/fetch"
)

// controlParallel is how many packages that no index lists are fetched at once.
const controlParallel = 8

// A lock has digests and no relations between packages, which are needed to know
// whether a package will still do. Where an index lists the very package, they are
// there. An index lists the newest versions only; the relations of others are in
// their .deb, which a bake needs anyway: one that is unavailable is not kept.

// hold returns those of locked that are of g and kept, where they will do. let gets
// why others are not.
func (l *loader) hold(ctx context.Context, g resolver.Group, locked []manifest.LockedPackage, let map[string]string) ([]resolver.Held, error) {
	var held []resolver.Held
	var gone []manifest.LockedPackage
	seen := map[manifest.Digest]bool{}
	listed := index(g)
	for _, p := range locked {
		if baseSuite(p.Suite) != g.Suite || seen[p.SHA256] {
			continue
		}
		seen[p.SHA256] = true
		if slices.Contains(l.cfg.Locked.Upgrade, p.Name) {
			let[p.Name+"/"+g.Suite] = "--upgrade"
			continue
		}
		if h, ok := find(listed[p.Name], p); ok {
			held = append(held, h)
			continue
		}
		gone = append(gone, p)
	}
	more, err := l.controls(ctx, g.Suite, gone, let)
	return append(held, more...), err
}

// index returns the packages of g by name.
func index(g resolver.Group) map[string][]resolver.Held {
	listed := map[string][]resolver.Held{}
	for _, x := range g.Indices {
		for _, p := range x.Packages {
			if p.Malformed == nil {
				listed[p.Name] = append(listed[p.Name], resolver.Held{Package: p, Archive: x.Archive, Suite: x.Suite})
			}
		}
	}
	return listed
}

// find returns the entry of an index that is p, of the suite that it was locked
// from where that has it still.
func find(listed []resolver.Held, p manifest.LockedPackage) (resolver.Held, bool) {
	var found resolver.Held
	ok := false
	for _, h := range listed {
		if h.Version != p.Version || manifest.SHA256(h.SHA256) != p.SHA256 {
			continue
		}
		if same := h.Archive == p.Archive && h.Suite == p.Suite; same || !ok {
			found, ok = h, true
			if same {
				break
			}
		}
	}
	return found, ok
}

// controls returns packages that no index lists with what their own control files
// say of them.
func (l *loader) controls(ctx context.Context, suite string, packages []manifest.LockedPackage, let map[string]string) ([]resolver.Held, error) {
	held := make([]resolver.Held, len(packages))
	kept := make([]bool, len(packages))
	var mu sync.Mutex
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(controlParallel)
	for i, p := range packages {
		group.Go(func() error {
			h, err := l.control(ctx, p)
			switch {
			case err == nil:
				held[i], kept[i] = h, true
				return nil
			case ctx.Err() != nil:
				return context.Cause(ctx)
			case !fetch.Gone(err):
				return fmt.Errorf("keeping %s %s, which is superseded: %w; this does not say that it is gone, so nothing is taken in its place (try again, or take what is newer by --upgrade %s)", p.Name, p.Version, err, p.Name)
			}
			mu.Lock()
			defer mu.Unlock()
			let[p.Name+"/"+suite] = p.Version + " is superseded, and no mirror has it"
			return nil
		})
	}
	err := group.Wait()
	var out []resolver.Held
	for i := range held {
		if kept[i] {
			out = append(out, held[i])
		}
	}
	return out, err
}

// control returns a package with the relations that it says it has.
func (l *loader) control(ctx context.Context, p manifest.LockedPackage) (resolver.Held, error) {
	content, err := l.cfg.Locked.Control(ctx, p)
	if err != nil {
		return resolver.Held{}, err
	}
	parsed, err := repo.ParseControl(content, string(l.cfg.Arch))
	if err == nil && (parsed.Name != p.Name || parsed.Version != p.Version || parsed.Arch != p.Arch) {
		err = fmt.Errorf("the package says that it is %s %s for %s", parsed.Name, parsed.Version, parsed.Arch)
	}
	if err == nil {
		err = parsed.SHA256.UnmarshalText([]byte(p.SHA256.Hex()))
	}
	if err != nil {
		return resolver.Held{}, err
	}
	parsed.Path, parsed.Size = p.Path, p.Size
	return resolver.Held{Package: parsed, Archive: p.Archive, Suite: p.Suite}, nil
}

// explain says of each choice for image why it is there, and why it is not the locked
// one, which let says of some.
func (l *loader) explain(image string, choices []resolver.Choice, let map[string]string) {
	if l.cfg.Explain == nil {
		return
	}
	for _, c := range choices {
		instead := c.Released
		if why := let[c.Name+"/"+baseSuite(c.Suite)]; why != "" {
			instead = why
		}
		l.cfg.Explain(image, lockChoice(c), because(c.Why), instead)
	}
}

// because says who is the reason for a package, by the chain that led to it.
func because(chain []string) string {
	switch n := len(chain); {
	case n == 0:
		return ""
	case chain[0] == "essential" && n <= 2:
		return "it is essential"
	case n <= 2:
		return chain[0] + " asks for it"
	default:
		by, _, _ := strings.Cut(chain[n-2], " ")
		return by + " needs it"
	}
}
