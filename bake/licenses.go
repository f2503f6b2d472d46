package bake

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"path"

	"github.com/nodebake/bake/bake/license"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/record"
	"github.com/nodebake/bake/bake/sbom"
	"github.com/nodebake/bake/bake/source"
	"github.com/nodebake/bake/bake/source/gobuild"
	"github.com/nodebake/bake/bake/tree"
)

// docDir is where a package has its copyright file, below its name (Debian policy
// 12.5).
const docDir = "usr/share/doc"

// licenses returns what the packages' copyright files say, by the packages'
// digests. A package may have the directory of another one instead of its own.
func (b *Baker) licenses(packages []source.Package) (map[manifest.Digest]license.License, error) {
	byName := map[string]source.Package{}
	h := sha256.New()
	h.Write([]byte("licenses 1"))
	for _, p := range packages {
		byName[p.Name] = p
		fmt.Fprintf(h, "\n%s %s", p.Name, p.SHA256)
	}
	// A bake that changes no package asks the store once, not for each of hundreds.
	key := tree.Digest(h.Sum(nil))
	out := map[manifest.Digest]license.License{}
	if value, ok := b.access.Store.Get(key); ok && json.Unmarshal(value, &out) == nil {
		return out, nil
	}
	out = map[manifest.Digest]license.License{}
	for _, p := range packages {
		e := copyrightFile(p)
		if e == nil {
			e = copyrightFile(byName[docLink(p)])
		}
		if e == nil || e.Size > license.MaxSize {
			continue
		}
		l, err := b.license(*e)
		if err != nil {
			return nil, fmt.Errorf("reading the copyright file of %s: %w", p.Name, err)
		}
		if l.Expression != "" {
			out[p.SHA256] = l
		}
	}
	b.keepFact(key, out, "what the packages say about licenses")
	return out, nil
}

// copyrightFile returns a package's own, or nil.
func copyrightFile(p source.Package) *tree.Entry {
	if p.Pack == nil {
		return nil
	}
	want := path.Join(docDir, p.Name, "copyright")
	for i := range p.Pack.Entries {
		if e := &p.Pack.Entries[i]; e.Path == want && e.Type == tree.File {
			return e
		}
	}
	return nil
}

// docLink returns the name of the package whose directory p has for its own.
func docLink(p source.Package) string {
	for _, e := range p.Pack.Entries {
		if e.Path == path.Join(docDir, p.Name) && e.Type == tree.Symlink {
			return path.Base(e.Link)
		}
	}
	return ""
}

// license reads a copyright file. The answer is kept under the file's digest.
func (b *Baker) license(e tree.Entry) (license.License, error) {
	key := sha256.Sum256(append([]byte("license 1 of "), e.SHA256[:]...))
	var read license.License
	if value, ok := b.access.Store.Get(key); ok && json.Unmarshal(value, &read) == nil {
		return read, nil
	}
	text, err := io.ReadAll(e.Content())
	if err != nil {
		return read, err
	}
	read = license.Debian(text)
	b.keepFact(key, read, "what "+e.Path+" says")
	return read, nil
}

// moduleLicenses puts into all what the license files among entries say of the modules
// that made is built of.
func (b *Baker) moduleLicenses(all map[record.GoModule]license.License, made sbom.BuildInfo, entries []tree.Entry) error {
	for _, e := range entries {
		if path.Dir(e.Path) != path.Dir(gobuild.LicensesPath("any")) || made.Module == nil {
			continue
		}
		text, err := io.ReadAll(e.Content())
		if err != nil {
			return err
		}
		says := license.Modules(text)
		for _, p := range made.Programs {
			for _, m := range p.Modules() {
				if l, ok := says[m.Path+"@"+m.Version]; ok {
					all[m] = l
				}
			}
		}
	}
	return nil
}

// keepFact keeps value, which can be computed again, under key.
func (b *Baker) keepFact(key tree.Digest, value any, what string) {
	text, err := json.Marshal(value)
	if err == nil {
		err = b.access.Store.Put(key, text)
	}
	if err != nil {
		b.config.Progress.Note("%s could not be kept for next time: %v", what, err)
	}
}
