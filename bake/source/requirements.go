package source

import (
	"errors"
	"fmt"
	"slices"

	"github.com/nodebake/bake/bake/arch"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/source/debian"
	"github.com/nodebake/bake/bake/source/gobuild"
)

// Requirements are all that a bake of a set may take from elsewhere, for one
// architecture, whether the store has it or not. [Source.Plan] decides from them what
// is taken, and [Source.Needs] lists all for a mirror.
type Requirements struct {
	Packages      []manifest.LockedPackage // of the OS, in the lock's order
	Components    []RequiredComponent      // in the versions file's order
	Images        []manifest.ContainerImage
	ImagePackages map[string][]manifest.LockedPackage // of images that are made of packages, by their names
	Targets       []gobuild.Target                    // what of components and images can be built
}

// RequiredComponent is a component, and the locked packages that it takes.
type RequiredComponent struct {
	manifest.Component
	extra []manifest.LockedPackage // those of its ExtraPackages
}

// target is what is built of c.
func (c RequiredComponent) target() gobuild.Target {
	t := gobuild.ForComponent(c.Component)
	t.Packages = c.extra
	return t
}

// Require lists what v takes from elsewhere for arch, and of locked. lockCommand makes
// the lock again, for errors.
func Require(v *manifest.Versions, locked *manifest.LockedArch, arch arch.Arch, lockCommand string) (*Requirements, error) {
	r := &Requirements{Packages: locked.Packages, Images: v.Images, ImagePackages: locked.Images, Targets: gobuild.Targets(v)}
	var errs []error
	for _, c := range v.Components {
		required := RequiredComponent{Component: c}
		refs, err := c.ExtraPackages(arch)
		errs = append(errs, err)
		for _, ref := range refs {
			i := slices.IndexFunc(locked.Extra, func(p manifest.LockedPackage) bool {
				return p.Name == ref.Name && (ref.Suite == "" || debian.SameSuite(p.Suite, ref.Suite))
			})
			if i < 0 {
				errs = append(errs, fmt.Errorf("%s: component %s: package %s is not in the lock, which was edited (run: %s)", c.Pos, c.Name, ref, lockCommand))
				continue
			}
			required.extra = append(required.extra, locked.Extra[i])
		}
		r.Components = append(r.Components, required)
	}
	for _, image := range v.Images {
		if image.Packages != nil && len(locked.Images[image.Name]) == 0 {
			errs = append(errs, fmt.Errorf("%s: image %s: its packages are not in the lock, which was edited (run: %s)", image.PackagesPos, image.Name, lockCommand))
		}
	}
	return r, errors.Join(errs...)
}

// unique returns packages without those that stand there before.
func unique(packages []manifest.LockedPackage) []manifest.LockedPackage {
	seen := map[manifest.Digest]bool{}
	return slices.DeleteFunc(slices.Clone(packages), func(p manifest.LockedPackage) bool {
		twice := seen[p.SHA256]
		seen[p.SHA256] = true
		return twice
	})
}
