package bake

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/nodebake/bake/bake/arch"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/source/fetch"
	"github.com/nodebake/bake/bake/source/gobuild"
	"github.com/nodebake/bake/bake/source/mirror"
)

// explainMirror adds to an error that something is not in the mirror why that
// is, where the mirror was made for something else than lock.
func (b *Baker) explainMirror(err error, lock *manifest.Lock) error {
	missing, modules := (*fetch.UnreachableError)(nil), (*gobuild.NotMirroredError)(nil)
	if b.access.Mirror == nil || !errors.As(err, &missing) && !errors.As(err, &modules) {
		return err
	}
	sources := errors.As(err, &modules)
	why := staleMirror(b.access.Mirror.Index().Sets, b.inputs.Set, lock, b.config.Arch, sources)
	switch {
	case b.config.Embedded != nil: // its files have no place that a person could name
		return err
	case why == "" && errors.As(err, &missing) && missing.Lacking == "" && !sources:
		return err // it says itself what is wrong
	case why == "":
		why = "is of this lock, and lacks it"
	}
	return fmt.Errorf("%w\nthe mirror %s %s; where there is a network, run: %s", err, b.access.Mirror, why, b.mirrorCommand(sources))
}

// mirrorCommand is the command that makes the mirror what b needs.
func (b *Baker) mirrorCommand(sources bool) string {
	words := []string{"bake", "mirror", "--versions", b.config.Versions}
	if b.config.Arch != arch.Default {
		words = append(words, "--arch", string(b.config.Arch))
	}
	if sources {
		words = append(words, "--sources")
	}
	to := b.access.Mirror.String()
	if strings.Contains(to, "://") {
		to = "DIR"
	}
	return manifest.Command(append(words, "--output", to)...)
}

// staleMirror says what keeps sets from being made for v and lock; "": nothing
// does.
func staleMirror(sets []mirror.Set, v *manifest.Versions, lock *manifest.Lock, arch arch.Arch, sources bool) string {
	var others []string
	// The lock does not say which versions file it is of.
	sameLock := func(s mirror.Set) bool { return s.Lock == lock.Sum }
	same := func(s mirror.Set) bool { return sameLock(s) && s.Versions == v.Sum }
	if i := slices.IndexFunc(sets, sameLock); i >= 0 && !slices.ContainsFunc(sets, same) {
		return fmt.Sprintf("has set %s, which is of this lock, but of another versions file than %s, which is %s", sets[i].Name, v.File, v.Sum)
	}
	for _, s := range sets {
		switch {
		case !same(s):
			others = append(others, fmt.Sprintf("set %s from lock %s", s.Name, s.Lock))
		case !slices.Contains(s.Archs, arch):
			return fmt.Sprintf("has set %s, which is of this lock, but not for %s", s.Name, arch)
		case sources && !s.Sources:
			return fmt.Sprintf("has set %s, which is of this lock, without sources", s.Name)
		default:
			return ""
		}
	}
	if len(others) == 0 {
		return "has no sets"
	}
	return fmt.Sprintf("was made for other locks than %s, which is %s: %s", lock.File, lock.Sum, strings.Join(others, ", "))
}
