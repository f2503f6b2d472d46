package debian

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/nodebake/bake/bake/arch"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/source/debian/resolver"
)

// Request returns the digest of what cfg asks for: suite, architecture and lists.
// Where it is the same, a lock that was resolved from it holds.
func (c *Config) Request() manifest.Digest {
	h := sha256.New()
	fmt.Fprintf(h, "suite %s\narch %s\n", c.Suite, c.Arch)
	for _, list := range []struct {
		name string
		refs []manifest.PackageRef
	}{{"package", c.Packages}, {"extra", c.Extra}} {
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
// lock records: the closure of cfg.Packages with the essential packages, and
// cfg.Extra alone. The result depends on the indices, cfg's lists and cfg.Locked
// only, not on their order or on which mirror answered.
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
	var groups []resolver.Group
	for _, suite := range suites(cfg.Suite, wants) {
		g, err := l.group(ctx, suite)
		if err != nil {
			return nil, err
		}
		groups = append(groups, g)
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
			return nil, err
		}
		c, err := resolver.Find(g, w)
		if err != nil {
			return nil, unresolved(w.Suite, cfg.Arch, cfg.Suite, cfg.Extra, err)
		}
		extra = append(extra, c)
	}
	locked.Extra = lockChoices(extra)
	l.explain(append(choices, extra...))

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
