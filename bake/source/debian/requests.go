package debian

import (
	"fmt"

	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/source/fetch"
)

// Requests returns the downloads of packages, in their order, from every
// mirror of the archive that each comes from. Without any the error is a
// NoMirrorError, unless they may be elsewhere: then a request has no URLs.
func Requests(mirrors MirrorList, packages []manifest.LockedPackage, elsewhere bool) ([]fetch.Request, error) {
	requests := make([]fetch.Request, len(packages))
	for i, p := range packages {
		urls, err := mirrors.URLs(p.Archive, p.Path)
		if err != nil && !elsewhere {
			return nil, fmt.Errorf("package %s: %w", p.Name, err)
		}
		requests[i] = fetch.Request{
			Name: p.Name + " " + p.Version,
			URLs: urls,
			Sums: []manifest.Digest{p.SHA256},
			Size: p.Size,
			Own:  true,
		}
	}
	return requests, nil
}
