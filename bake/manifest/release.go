package manifest

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/nodebake/bake/bake/arch"
)

// Archs returns the architectures that r has a digest for, sorted.
func (r *Release) Archs() []arch.Arch {
	archs := slices.Concat(slices.Collect(maps.Keys(r.SHA256)), slices.Collect(maps.Keys(r.SHA512)))
	slices.Sort(archs)
	return slices.Compact(archs)
}

// For returns where the artifact for a is and all its digests, the longer
// first. It returns a *MissingArchError if the file has none for a.
func (r *Release) For(a arch.Arch) (url string, sums []Digest, err error) {
	for _, digests := range []map[arch.Arch]Digest{r.SHA512, r.SHA256} {
		if sum, ok := digests[a]; ok {
			sums = append(sums, sum)
		}
	}
	if len(sums) == 0 {
		return "", nil, &MissingArchError{Pos: r.Pos, What: "release of component " + r.Component, Arch: a, Have: r.Archs()}
	}
	url, err = expand(r.URL, map[string]string{"arch": string(a)})
	if err != nil {
		return "", nil, fmt.Errorf("%s: components.%s.release.url: %w", r.Pos, r.Component, err)
	}
	return url, sums, nil
}

// checkDigests reports a digest that two components have for files at different
// URLs.
func checkDigests(d *document, components []Component) {
	type owner struct{ component, url string }
	owners := map[Digest]owner{}
	for _, c := range components {
		if c.Release == nil || c.Release.URL == "" {
			continue
		}
		for _, arch := range c.Release.Archs() {
			url, sums, err := c.Release.For(arch)
			if err != nil {
				continue // reported already
			}
			for _, sum := range sums {
				other, ok := owners[sum]
				if ok && other.component != c.Name && other.url != url {
					d.report(c.Release.Digests[sum], c.Release.DigestKey(sum, arch), fmt.Sprintf(
						"the same digest as for component %s, whose file is another, %s (was it pasted twice?)", other.component, other.url))
				}
				owners[sum] = owner{c.Name, url}
			}
		}
	}
}

// DigestKey returns the key at which r has a digest for arch, from the top of
// the file.
func (r *Release) DigestKey(sum Digest, arch arch.Arch) string {
	return fmt.Sprintf("components.%s.release.%s.%s", r.Component, sum.Algorithm(), arch)
}

// MissingArchError says that a file has nothing for an architecture. That is
// no mistake until somebody asks for it.
type MissingArchError struct {
	Pos  Pos
	What string // "release of component runc"
	Arch arch.Arch
	Have []arch.Arch // sorted
}

func (e *MissingArchError) Error() string {
	have := make([]string, len(e.Have))
	for i, a := range e.Have {
		have[i] = string(a)
	}
	return fmt.Sprintf("%s: %s: nothing for %s (there is: %s)", e.Pos, e.What, e.Arch, strings.Join(have, ", "))
}
