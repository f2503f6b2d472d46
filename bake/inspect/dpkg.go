package inspect

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/nodebake/bake/bake/record"
	"github.com/nodebake/bake/bake/source/debian/deb822"
)

// statusPath is dpkg's database of packages (dpkg(1), FILES).
const statusPath = "var/lib/dpkg/status"

// installed is a package as dpkg knows it.
type installed struct {
	Name, Version, Arch, Status string
}

// installed reads dpkg's database.
func (f *Files) installed() ([]installed, error) {
	text, err := f.Text(statusPath)
	if err != nil {
		return nil, err
	}
	r := deb822.NewReader(strings.NewReader(text), "Package", "Status", "Version", "Architecture")
	var all []installed
	for {
		s, err := r.Next()
		if err == io.EOF {
			return all, nil
		}
		if err != nil {
			return nil, fmt.Errorf("/%s: %w", statusPath, err)
		}
		all = append(all, installed{s.Get("Package"), s.Get("Version"), s.Get("Architecture"), s.Get("Status")})
	}
}

// comparePackages says in what dpkg's database and a record differ.
func comparePackages(recorded []record.Package, status []installed) []string {
	var found []string
	known := map[string]installed{}
	for _, p := range status {
		known[p.Name] = p
		if p.Status != "install ok installed" {
			found = append(found, fmt.Sprintf("package %s has the status %q in /%s; want \"install ok installed\"", p.Name, p.Status, statusPath))
		}
	}
	for _, p := range recorded {
		got, ok := known[p.Name]
		delete(known, p.Name)
		switch {
		case !ok:
			found = append(found, fmt.Sprintf("package %s %s is recorded and not in /%s", p.Name, p.Version, statusPath))
		case got.Version != p.Version || got.Arch != p.Arch:
			found = append(found, fmt.Sprintf("package %s is recorded as %s (%s) and is %s (%s) in /%s", p.Name, p.Version, p.Arch, got.Version, got.Arch, statusPath))
		}
	}
	for _, p := range known {
		found = append(found, fmt.Sprintf("package %s %s is in /%s and not recorded", p.Name, p.Version, statusPath))
	}
	slices.Sort(found)
	return found
}
