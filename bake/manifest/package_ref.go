package manifest

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/nodebake/bake/bake/arch"
)

// PackageRef asks for a Debian package, as a list of packages writes it: NAME,
// or NAME/SUITE to take it from another suite than the rest. NAME may hold
// {arch}: "systemd-boot-efi-{arch}-signed/trixie".
type PackageRef struct {
	Name  string // "systemd-boot-efi-amd64-signed"
	Suite string // "trixie"; "" for the suite of the image

	Pos Pos    // where it is asked for; zero: not known
	Key string // the same: "os.packages[2]"
}

// NotFound is a mistake of whoever asks for r: there is no such package.
func (r PackageRef) NotFound(problem string) *InputError {
	return &InputError{Pos: r.Pos, Key: r.Key, Problem: problem}
}

// From says who asks for r, "versions.yaml:12", or what is given where that is
// not known.
func (r PackageRef) From(unknown string) string {
	if r.Pos.File == "" {
		return unknown
	}
	return fmt.Sprintf("%s:%d", r.Pos.File, r.Pos.Line)
}

// Listed is one entry of a list of packages, for every architecture.
type Listed struct {
	Text string // as ParsePackageRef reads it
	Pos  Pos
	Key  string // "os.packages[2]"
}

// Ref returns the package for arch.
func (l Listed) Ref(arch arch.Arch) (PackageRef, error) {
	ref, err := ParsePackageRef(l.Text, arch)
	if err != nil {
		return PackageRef{}, fmt.Errorf("%s: %s: %w", l.Pos, l.Key, err)
	}
	ref.Pos, ref.Key = l.Pos, l.Key
	return ref, nil
}

// ParsePackageRef reads one entry of a list of packages for arch.
func ParsePackageRef(s string, arch arch.Arch) (PackageRef, error) {
	name, suite, hasSuite := strings.Cut(s, "/")
	name, err := expand(name, map[string]string{"arch": string(arch)})
	if err != nil {
		return PackageRef{}, err
	}
	if err := checkPackageName(name); err != nil {
		return PackageRef{}, err
	}
	if hasSuite {
		if err := checkSuite(suite); err != nil {
			return PackageRef{}, err
		}
	}
	return PackageRef{Name: name, Suite: suite}, nil
}

// String writes r as ParsePackageRef reads it.
func (r PackageRef) String() string {
	if r.Suite == "" {
		return r.Name
	}
	return r.Name + "/" + r.Suite
}

// PackagesFor returns the packages for arch, in the file's order.
func (o OS) PackagesFor(arch arch.Arch) ([]PackageRef, error) {
	return packageRefs(o.Packages, arch)
}

// packageRefs returns the packages of a list for arch, in its order.
func packageRefs(list []Listed, arch arch.Arch) ([]PackageRef, error) {
	refs := make([]PackageRef, len(list))
	for i, l := range list {
		var err error
		if refs[i], err = l.Ref(arch); err != nil {
			return nil, err
		}
	}
	return refs, nil
}

// ExtraPackages returns the packages that c takes without the image having them: what
// it is taken out of, or else what it is compiled and linked against.
func (c *Component) ExtraPackages(arch arch.Arch) ([]PackageRef, error) {
	switch {
	case c.Package != nil:
		return packageRefs([]Listed{{c.Package.Name + "/" + c.Package.Suite, c.Package.Pos, c.Package.Key}}, arch)
	case c.Module != nil && c.Module.CGO != nil:
		return packageRefs(c.Module.CGO.Packages, arch)
	}
	return nil, nil
}

// PackagesFor returns the packages that c is made of, for arch.
func (c *ContainerImage) PackagesFor(arch arch.Arch) ([]PackageRef, error) {
	return packageRefs(c.Packages, arch)
}

// packages reads a list of packages and checks that each is one for every
// architecture, and that no name stands twice.
func (v value) packages() []Listed {
	var out []Listed
	first := map[string]int{} // the line of each name
	for _, item := range v.list() {
		s := item.text()
		if s == "" {
			continue
		}
		name, _, _ := strings.Cut(s, "/")
		if line, ok := first[name]; ok {
			item.errorf("package %s stands twice, first on line %d (remove one)", name, line)
			continue
		}
		first[name] = item.pos().Line
		if _, err := ParsePackageRef(s, arch.Default); err != nil {
			item.errorf("%v", err)
			continue
		}
		out = append(out, Listed{s, item.pos(), item.key})
	}
	return out
}

// checkPackageName checks a name by Debian policy, section 5.6.1: lower-case
// letters, digits, plus, minus and full stops, at least two of them, the first
// a letter or digit.
func checkPackageName(s string) error {
	if !packageName.MatchString(s) {
		return fmt.Errorf("%q is not a Debian package name (lower-case letters, digits, + - and .)", s)
	}
	return nil
}

func checkSuite(s string) error {
	if !suiteName.MatchString(s) {
		return fmt.Errorf("%q is not the name of a Debian suite, such as trixie or bookworm-backports", s)
	}
	return nil
}

var (
	packageName = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]+$`)
	suiteName   = regexp.MustCompile(`^[a-z][a-z0-9]*(-[a-z0-9]+)*$`)
)
