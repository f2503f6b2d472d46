package debian

import (
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/source/debian/deb"
)

// PackKey names, in a store, the pack that package deb makes of the .deb with
// digest sum.
func PackKey(sum manifest.Digest) string { return deb.Format + " " + string(sum) }
