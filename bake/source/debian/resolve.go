package debian

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/nodebake/bake/bake/arch"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/source/debian/resolver"
	"github.com/nodebake/bake/bake/source/fetch"
)

// Request returns the digest of what cfg asks for: suite, architecture and lists.
// Where it is the same, a lock that was resolved from it holds.
func (c *Config) Request() manifest.Digest {
	h := sha256.New()
	fmt.Fprintf(h, "suite %s\narch %s\n", c.Suite, c.Arch)
	type list struct {
		name string
		refs []manifest.PackageRef
	}
	lists := []list{{"package", c.Packages}, {"extra", c.Extra}}
	for _, image := range c.Images {
		lists = append(lists, list{"image " + image.Name, image.Packages})
	}
	slices.SortStableFunc(lists[2:], func(a, b list) int { return strings.Compare(a.name, b.name) })
	for _, list := range lists {
		var lines []string
		for _, r := range list.refs {
			lines = append(lines, fmt.Sprintf("%s %s/%s\n", list.name, r.Name, cmp.Or(r.Suite, c.Suite)))
		}
		slices.Sort(lines)
		for _, line := range slices.Compact(lines) {
			io.WriteString(h, line)
		}
	}
	return manifest.SHA256([sha256.Size]byte(h.Sum(nil)))
}

// Resolve fetches and verifies the indices that cfg needs, and returns what a
// lock records: the closure of cfg.Packages with the essential packages, cfg.Extra
// alone, and the closure of each of cfg.Images. The result depends on the indices,
// cfg's lists and cfg.Locked only, not on their order or on which mirror answered.
//
// Of cfg.Locked stays what still fulfils what is asked for: from the index where it
// is still listed, else with the relations that its own control file has.
//
// The error is an [UnsolvableError], a [NoMirrorError] or an [ExpiredError]
// where that is the reason.
func Resolve(ctx context.Context, cfg Config) (*manifest.LockedArch, error) {
	l, err := newLoader(cfg)
	if err != nil {
		return nil, err
	}
	wants := wants(cfg.Packages, cmp.Or(cfg.List, "package list"))
	groups, err := l.groupsOf(ctx, cfg.Suite, wants, cfg.Packages)
	if err != nil {
		return nil, err
	}
	choices, err := resolver.Resolve(ctx, string(cfg.Arch), groups, wants)
	if err != nil {
		return nil, unresolved(cfg.Suite, cfg.Arch, cfg.Suite, cfg.Packages, err)
	}
	locked := &manifest.LockedArch{Request: cfg.Request(), Packages: lockChoices(choices)}

	var extra []resolver.Choice
	for _, w := range extras(cfg) {
		g, err := l.group(ctx, w.Suite)
		if err != nil {
			return nil, noSuite(w.Suite, cfg.Suite, cfg.Extra, err)
		}
		c, err := resolver.Find(g, w)
		if err != nil {
			return nil, unresolved(w.Suite, cfg.Arch, cfg.Suite, cfg.Extra, err)
		}
		extra = append(extra, c)
	}
	locked.Extra = lockChoices(extra)
	l.explain("", append(choices, extra...), l.let)

	for i := range cfg.Images {
		if err := l.image(ctx, &cfg.Images[i], choices, locked); err != nil {
			return nil, err
		}
	}

	locked.Releases = slices.Clone(l.locked)
	slices.SortFunc(locked.Releases, func(a, b manifest.LockedRelease) int {
		return cmp.Or(strings.Compare(a.Archive, b.Archive), strings.Compare(a.Suite, b.Suite))
	})
	return locked, nil
}

func wants(refs []manifest.PackageRef, from string) []resolver.Want {
	list := make([]resolver.Want, len(refs))
	for i, r := range refs {
		list[i] = resolver.Want{Name: r.Name, Suite: r.Suite, From: r.From(from)}
	}
	return list
}

// extras returns cfg.Extra with every suite named, sorted and each once.
func extras(cfg Config) []resolver.Want {
	list := wants(cfg.Extra, "extra packages")
	for i := range list {
		list[i].Suite = cmp.Or(list[i].Suite, cfg.Suite)
	}
	slices.SortStableFunc(list, func(a, b resolver.Want) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Suite, b.Suite))
	})
	return slices.CompactFunc(list, func(a, b resolver.Want) bool { return a.Name == b.Name && a.Suite == b.Suite })
}

// unresolved says that packages can't be installed together; or, where one of refs is
// not there at all, that whoever asks for it is mistaken.
func unresolved(suite string, arch arch.Arch, base string, refs []manifest.PackageRef, err error) error {
	var unsolvable *UnsolvableError
	if errors.As(err, &unsolvable) && unsolvable.Missing != nil {
		w := unsolvable.Missing
		for _, r := range refs {
			if r.Name == w.Name && cmp.Or(r.Suite, base) == cmp.Or(w.Suite, base) && r.Pos.File != "" {
				return r.NotFound(unsolvable.Problem)
			}
		}
	}
	return fmt.Errorf("resolving packages of %s for %s: %w", suite, arch, err)
}

// image resolves the packages of a container image into locked. choices are those of
// the root filesystem: an image takes the same, where it has none of its own, so that
// one .deb serves both.
func (l *loader) image(ctx context.Context, image *Image, choices []resolver.Choice, locked *manifest.LockedArch) error {
	base := image.base(l.cfg.Suite)
	wants := wants(image.Packages, "image "+image.Name)
	let := make(map[string]string)
	var own []manifest.LockedPackage
	if l.cfg.Locked != nil {
		own = l.cfg.Locked.Images[image.Name]
	}
	var groups []resolver.Group
	for _, suite := range suites(base, wants) {
		g, err := l.indices(ctx, suite)
		if err != nil {
			return noSuite(suite, l.cfg.Suite, image.Packages, err)
		}
		if g.Held, err = l.hold(ctx, g, own, let); err != nil {
			return err
		}
		for _, c := range choices {
			if baseSuite(c.Suite) == suite && !slices.ContainsFunc(own, func(p manifest.LockedPackage) bool {
				return p.Name == c.Name && let[p.Name+"/"+suite] == ""
			}) {
				g.Held = append(g.Held, resolver.Held{Package: c.Package, Archive: c.Archive, Suite: c.Suite})
			}
		}
		groups = append(groups, g)
	}
	found, err := resolver.Closure(ctx, string(l.cfg.Arch), groups, wants)
	if err != nil {
		return unresolvedImage(image, l.cfg.Suite, err)
	}
	if locked.Images == nil {
		locked.Images = make(map[string][]manifest.LockedPackage)
	}
	locked.Images[image.Name] = lockChoices(found)
	l.explain(image.Name, found, let)
	return nil
}

// unresolvedImage says that the packages of an image can't be together in it, or that
// there is none of a name.
func unresolvedImage(image *Image, suite string, err error) error {
	unsolvable, ok := errors.AsType[*UnsolvableError](err)
	if !ok {
		return fmt.Errorf("resolving packages of image %s: %w", image.Name, err)
	}
	if w := unsolvable.Missing; w != nil {
		for _, r := range image.Packages {
			if r.Name == w.Name && cmp.Or(r.Suite, suite) == cmp.Or(w.Suite, suite) {
				return r.NotFound(unsolvable.Problem + " (correct the name, or name another suite by NAME/SUITE)")
			}
		}
	}
	return &manifest.InputError{Pos: image.Pos, Key: image.Key, Problem: unsolvable.Error() + " (name other packages)"}
}

// groupsOf loads base and the other suites that wants name, which refs ask for.
func (l *loader) groupsOf(ctx context.Context, base string, wants []resolver.Want, refs []manifest.PackageRef) ([]resolver.Group, error) {
	var groups []resolver.Group
	for _, suite := range suites(base, wants) {
		g, err := l.group(ctx, suite)
		if err != nil {
			return nil, noSuite(suite, base, refs, err)
		}
		groups = append(groups, g)
	}
	return groups, nil
}

// noSuite says that who of refs asks for suite is mistaken, where mirrors answer that
// they have no such suite, and err otherwise. base is everybody's suite.
func noSuite(suite, base string, refs []manifest.PackageRef, err error) error {
	unreachable, ok := errors.AsType[*fetch.UnreachableError](err)
	if !ok || suite == base {
		return err
	}
	for _, t := range unreachable.Tried {
		if status, ok := errors.AsType[*fetch.StatusError](t.Err); !ok || status.Code != http.StatusNotFound {
			return err
		}
	}
	for _, r := range refs {
		if r.Suite == suite && r.Pos.File != "" {
			return r.NotFound(fmt.Sprintf("no mirror has the suite %s (correct it; %s is what packages without one are from)", suite, base))
		}
	}
	return err
}

// suites returns base, then the other suites that wants name, sorted.
func suites(base string, wants []resolver.Want) []string {
	var others []string
	for _, w := range wants {
		if w.Suite != "" && w.Suite != base {
			others = append(others, w.Suite)
		}
	}
	slices.Sort(others)
	return append([]string{base}, slices.Compact(others)...)
}

func lockChoices(choices []resolver.Choice) []manifest.LockedPackage {
	list := make([]manifest.LockedPackage, len(choices))
	for i, c := range choices {
		list[i] = lockChoice(c)
	}
	slices.SortFunc(list, func(a, b manifest.LockedPackage) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Suite, b.Suite))
	})
	return list
}

func lockChoice(c resolver.Choice) manifest.LockedPackage {
	return manifest.LockedPackage{
		Name: c.Name, Version: c.Version, Arch: c.Arch,
		Suite: c.Suite, Archive: c.Archive,
		Path: c.Path, Size: c.Size, SHA256: manifest.SHA256(c.SHA256),
	}
}
