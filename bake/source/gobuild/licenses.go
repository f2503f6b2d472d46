package gobuild

import (
	"bytes"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/nodebake/bake/bake/license"
	"github.com/nodebake/bake/bake/record"
	"github.com/nodebake/bake/bake/tree"
)

// LicensesPath returns where what is built for a target has the license files of
// its modules, as a copyright file of DEP-5: see [license.Copyright].
func LicensesPath(target string) string { return path.Join(record.LicensesDir, target) }

// addLicenses packs the license files of the modules that packages are of: what
// the directories of the packages have, and those above them. Go's own is not
// among them, since each installation of Go has its own.
func addLicenses(w *tree.PackWriter, r *recipe, packages []*goPackage) error {
	var directories []license.Directory
	seen := map[string]bool{}
	for _, p := range packages {
		for dir := p.Dir; p.Module != nil && !seen[dir]; dir = filepath.Dir(dir) {
			seen[dir] = true
			d, err := readLicenses(p.Module, dir)
			if err != nil {
				return fmt.Errorf("reading the licenses of %s: %w", p.ImportPath, err)
			}
			if len(d.Licenses)+len(d.Notices) > 0 {
				directories = append(directories, d)
			}
			if dir == p.Module.Dir {
				break
			}
		}
	}
	text := license.Copyright(r.target, r.module.String(), directories)
	e := tree.Entry{Path: LicensesPath(r.target), Type: tree.File, Perm: 0o644, Size: int64(len(text))}
	return w.Add(e, bytes.NewReader(text))
}

// readLicenses reads what dir has about the license of m. Files above
// [license.MaxSize] are none.
func readLicenses(m *goModule, dir string) (license.Directory, error) {
	within, err := filepath.Rel(m.Dir, dir)
	if err != nil || !filepath.IsLocal(within) {
		return license.Directory{}, fmt.Errorf("BUG: %s is not in the module's directory %s", dir, m.Dir)
	}
	d := license.Directory{Module: m.Path, Version: m.Version, Path: strings.TrimPrefix(path.Clean(filepath.ToSlash(within)), ".")}
	if m.Replace != nil {
		d.Module, d.Version = m.Replace.Path, m.Replace.Version
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		return d, err
	}
	for _, f := range files {
		is, notice := license.IsFile(f.Name()), license.IsNotice(f.Name())
		if !f.Type().IsRegular() || !is && !notice {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			return d, err
		}
		switch {
		case len(text) > license.MaxSize:
		case notice:
			d.Notices = append(d.Notices, text)
		default:
			d.Licenses = append(d.Licenses, text)
		}
	}
	return d, nil
}
