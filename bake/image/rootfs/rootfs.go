// Package rootfs composes the root filesystem of an image: Debian packages
// that were unpacked and never configured, the components, systemd units and
// the files of an image definition become one tree.
//
// What a package's maintainer scripts would have done is declared in the
// definition (configure.yaml) or worked out here from the packages' content:
// users and groups (sysusers.d), the dpkg database, PAM's stacks, trusted
// certificates, module dependencies, the links of enabled units. Nothing is
// executed, and the host's own files are never read.
//
// Limits: one architecture without foreign packages; merged /usr only; no
// tmpfiles.d, which systemd applies at every boot; no debconf database.
package rootfs

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/nodebake/bake/bake/arch"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/merge"
	"github.com/nodebake/bake/bake/tree"
)

// Config is what Compose makes a tree of.
type Config struct {
	Arch       arch.Arch
	Suite      string // "trixie": some packages' scripts differ between suites
	Definition *manifest.Definition
	Packages   []merge.Package // the closure, in any order
	Requested  []string        // names of packages that somebody asked for; apt may remove the others when nothing needs them
	Components []Component     // in any order
	Units      fs.FS           // unit files at its top; installed to /etc/systemd/system
	Extra      []tree.Entry

	ImageID      string // IMAGE_ID of os-release: "k8s-worker"
	ImageVersion string // IMAGE_VERSION of os-release: "v1.36.3"

	// Epoch is the time of everything made here, in seconds since 1970, and
	// the latest time that anything in the tree has. It should be about when
	// the newest package was published: never the time of the bake.
	Epoch int64

	Derive merge.Derive // nil stands for making packs in memory
}

// Component is an upstream project's files, at the paths where they install.
type Component struct {
	Name    string // "kubelet"
	Version string
	Origin  string // "release", "source" or "package"
	Pack    *tree.Pack
}

// Compose returns the tree of c. Errors name the packages and files that they
// are about; those that say a definition is wrong begin with its file and line.
func Compose(c Config) (*tree.Tree, error) {
	if c.Epoch <= 0 {
		return nil, errors.New("BUG: composing a root filesystem without an epoch")
	}
	if c.Derive == nil {
		c.Derive = tree.NewPack
	}
	l, err := newLayout(c)
	if err != nil {
		return nil, err
	}
	if err := l.AddPackages(l.diversions()); err != nil {
		return nil, err
	}
	// The order counts: each step sees the files of those before.
	for _, step := range []struct {
		what string
		do   func(*layout) error
	}{
		{"adding users and groups", (*layout).addAccounts},
		{"applying configure.yaml", (*layout).applyScripts},
		{"making the dpkg database", (*layout).addDatabase},
		{"configuring PAM", (*layout).addPAM},
		{"listing login shells", (*layout).addShells},
		{"collecting trusted certificates", (*layout).addCertificates},
		{"computing module dependencies", (*layout).addModules},
		{"naming the image in os-release", (*layout).addRelease},
		{"adding the definition's files", (*layout).addOverlay},
		{"adding components", (*layout).addComponents},
		{"adding units", (*layout).addUnits},
		{"adding files", (*layout).addExtra},
		{"enabling units", (*layout).enableUnits},
		{"marking /etc and /var as up to date", (*layout).addUpdated},
	} {
		if err := step.do(l); err != nil {
			return nil, fmt.Errorf("%s: %w", step.what, err)
		}
	}
	return l.tree()
}
