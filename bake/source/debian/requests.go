package debian

import (
	"fmt"

	"github.com/nodebake/bake/bake/manifest"
)

// Request is a file to download. Its fields are those of release.Request, to
// which it converts.
type Request struct {
	Name string         // for people: "bash 5.2.37-2"
	URLs []string       // where it can be had, the preferred first
	Sums []manifest.Sum // all must hold
	Size int64          // bytes
}

// Requests returns the downloads of packages, in their order, from every
// mirror of the archive that each comes from.
func Requests(mirrors MirrorList, packages []manifest.LockedPackage) ([]Request, error) {
	requests := make([]Request, len(packages))
	for i, p := range packages {
		urls, err := mirrors.URLs(p.Archive, p.Path)
		if err != nil {
			return nil, fmt.Errorf("package %s: %w", p.Name, err)
		}
		requests[i] = Request{
			Name: p.Name + " " + p.Version,
			URLs: urls,
			Sums: []manifest.Sum{p.SHA256},
			Size: p.Size,
		}
	}
	return requests, nil
}
