package bake

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"

	"github.com/nodebake/bake/bake/license"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/record"
	"github.com/nodebake/bake/bake/sbom"
	"github.com/nodebake/bake/bake/sbom/slsa"
	"github.com/nodebake/bake/bake/sbom/spdx"
	"github.com/nodebake/bake/bake/source"
	"github.com/nodebake/bake/bake/source/gobuild"
	"github.com/nodebake/bake/bake/tree"
)

// contents say what an image of parts consists of and was made from. It refers to
// record, and has what becomes known there later.
func (b *Baker) contents(rec *record.Record, parts *source.Parts, locked *manifest.LockedArch) (*sbom.Contents, error) {
	contents := &sbom.Contents{Record: rec, Epoch: epoch(locked), Modules: map[record.GoModule]license.License{}}
	for _, p := range parts.Packages {
		contents.Packages = append(contents.Packages, p.LockedPackage)
	}
	var err error
	if contents.Licenses, err = b.licenses(parts.Packages); err != nil {
		return nil, err
	}
	for _, image := range parts.Images {
		licenses, err := b.licenses(image.Debs)
		if err != nil {
			return nil, err
		}
		maps.Copy(contents.Licenses, licenses)
	}
	for _, c := range parts.Components {
		made, err := b.buildInfo(c.Built, c.Pack.Entries)
		if err == nil {
			err = b.moduleLicenses(contents.Modules, made, c.Pack.Entries)
		}
		if err != nil {
			return nil, fmt.Errorf("reading what component %s is built of: %w", c.Name, err)
		}
		made.Sums, made.Package = c.Sums, c.Deb
		contents.Components = append(contents.Components, made)
	}
	for _, image := range parts.Images {
		made, err := b.buildInfo(image.Built, image.Programs)
		if err == nil {
			err = b.moduleLicenses(contents.Modules, made, image.Programs)
		}
		if err != nil {
			return nil, fmt.Errorf("reading what image %s is built of: %w", image.Name, err)
		}
		for _, p := range image.Debs {
			made.Packages = append(made.Packages, p.LockedPackage)
		}
		contents.Images = append(contents.Images, made)
	}
	for _, name := range slices.Sorted(maps.Keys(rec.Inputs.Programs)) {
		program, err := b.programs.program(name)
		if err != nil {
			return nil, err
		}
		read, err := b.goProgram(program.Entry)
		if err != nil {
			return nil, err
		}
		if read != nil { // tests have others
			contents.Programs = append(contents.Programs, read)
		}
	}
	return contents, nil
}

// buildInfo says how programs came to be. built is nil where bake did not build them.
func (b *Baker) buildInfo(built *gobuild.Built, programs []tree.Entry) (sbom.BuildInfo, error) {
	var made sbom.BuildInfo
	if built != nil {
		made.Module = &record.GoModule{Path: built.Module, Version: built.Version, Sum: built.Sum}
		made.Linked = built.Packages
		made.Tools = b.tools(built.Tools)
	}
	for _, e := range programs {
		read, err := b.goProgram(e)
		if err != nil {
			return made, err
		}
		if read != nil {
			made.Programs = append(made.Programs, read)
		}
	}
	return made, nil
}

// tools returns the host's tools with the digests of their files.
func (b *Baker) tools(tools []gobuild.Tool) []sbom.Tool {
	var out []sbom.Tool
	for _, t := range tools {
		tool := sbom.Tool{Name: t.Name}
		if t.Version != "" {
			tool.Module = record.GoModule{Path: t.Name, Version: t.Version, Sum: t.Sum}
		}
		if t.Path != "" {
			sum, err := b.hostFile(t.Path)
			if err != nil {
				b.config.Progress.Note("the provenance lacks the digest of %s: %v", t.Path, err)
				continue
			}
			tool.SHA256 = sum
		}
		out = append(out, tool)
	}
	return out
}

// hostFile returns the digest of a file of the host. It is kept under the file's
// name, size and time, as make knows files: compilers have tens of megabytes.
func (b *Baker) hostFile(path string) (manifest.Digest, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	key := sha256.Sum256(fmt.Appendf(nil, "file 1 of the host: %q %d %d", path, info.Size(), info.ModTime().UnixNano()))
	if value, ok := b.access.Store.Get(key); ok {
		if sum, err := manifest.ParseDigest(string(value)); err == nil {
			return sum, nil
		}
	}
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	read, err := sumOf(f)
	if err != nil {
		return "", err
	}
	sum := manifest.SHA256(read)
	_ = b.access.Store.Put(key, []byte(sum)) // or else it is read again
	return sum, nil
}

// goProgram reads what Go wrote into a program; nil: it is none of Go's. The
// answer is kept under the digest of the program, so that it is read once.
func (b *Baker) goProgram(e tree.Entry) (*record.GoProgram, error) {
	if e.Type != tree.File {
		return nil, nil
	}
	key := sha256.Sum256(append([]byte("go build information 1 of "), e.SHA256[:]...))
	var read *record.GoProgram
	if value, ok := b.access.Store.Get(key); !ok || json.Unmarshal(value, &read) != nil {
		var err error
		if read, err = record.ReadGo(&e); err != nil {
			return nil, err
		}
		b.keepFact(key, read, "what "+e.Path+" is built of")
	}
	if read != nil {
		read.Path = "/" + e.Path // the same program may be in two places
	}
	return read, nil
}

// embeddedSBOM returns the files of the image that say what is in it. record is
// the file of the record inside. Neither holds the digest of the image, which
// is not known before they are written.
func embeddedSBOM(contents *sbom.Contents, sbom *spdx.Encoded, rec tree.Entry) ([]tree.Entry, error) {
	var text bytes.Buffer
	if err := sbom.Write(&text, nil); err != nil {
		return nil, err
	}
	sbomFile := file(record.SBOMPath, 0o644, text.Bytes())
	statement, err := slsa.Statement(contents, []slsa.Subject{subject(rec), subject(sbomFile)})
	if err != nil {
		return nil, err
	}
	return []tree.Entry{sbomFile, file(record.ProvenancePath, 0o644, statement)}, nil
}

// subject is a file of the image.
func subject(e tree.Entry) slsa.Subject {
	return slsa.Subject{Name: "/" + e.Path, SHA256: manifest.SHA256(e.SHA256)}
}
