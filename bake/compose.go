package bake

import (
	"bytes"
	"context"
	"crypto/sha256"
	"slices"
	"strings"

	"github.com/nodebake/bake/bake/image"
	"github.com/nodebake/bake/bake/image/rootfs"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/merge"
	"github.com/nodebake/bake/bake/record"
	"github.com/nodebake/bake/bake/sbom"
	"github.com/nodebake/bake/bake/sbom/spdx"
	"github.com/nodebake/bake/bake/source"
	"github.com/nodebake/bake/bake/tree"
)

// aptSourcesPath is there only where the versions file gives package sources.
const aptSourcesPath = "etc/apt/sources.list.d/bake.sources"

// Composed is a disk and its record, not yet written.
type Composed struct {
	*image.Image
	Record   *record.Record
	contents *sbom.Contents
	sbom     *spdx.Encoded
	missing  []source.Missing
}

// compose lays out the disk of parts.
func (b *Baker) compose(ctx context.Context, sources *source.Source, parts *source.Parts, lock *manifest.Lock, locked *manifest.LockedArch, name string, given bool) (*Composed, error) {
	firstboot, err := b.programs.program("firstboot")
	if err != nil {
		return nil, err
	}
	init, err := b.programs.program("init")
	if err != nil {
		return nil, err
	}
	rec, err := b.newRecord(parts, lock, name)
	if err != nil {
		return nil, err
	}
	config := image.Config{
		Arch: b.config.Arch, Suite: b.inputs.Set.OS.Suite, Definition: b.inputs.Definition, Units: b.config.Units,
		KernelArguments: b.inputs.Set.OS.KernelArguments,
		Name:            name, Version: b.version(), Seed: seed(rec), Epoch: epoch(locked), Init: init.content,
		Derive: func(key string, make func(w *tree.PackWriter) error) (*tree.Pack, error) {
			return sources.Packs().Pack(ctx, "derived "+key, "derived "+key, func(ctx context.Context, w *tree.PackWriter) error {
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				return make(w)
			})
		},
	}
	for _, p := range parts.Packages {
		config.Packages = append(config.Packages, merge.Package{LockedPackage: p.LockedPackage, Pack: p.Pack})
	}
	for _, c := range parts.Components {
		config.Components = append(config.Components, rootfs.Component{Name: c.Name, Version: c.Version, Origin: string(c.Origin), Pack: c.Pack})
	}
	config.Images = preloaded(parts.Images)
	if config.Requested, err = b.requested(); err != nil {
		return nil, err
	}
	var inside bytes.Buffer
	if err := rec.Write(&inside); err != nil {
		return nil, err
	}
	recordFile := file(record.Path, 0o644, inside.Bytes())
	inputs, err := b.recordedInputs(rec, parts)
	if err != nil {
		return nil, err
	}
	contents, err := b.contents(rec, parts, locked)
	if err != nil {
		return nil, err
	}
	contents.NameOverridden = given
	sbom, err := spdx.Encode(contents)
	if err != nil {
		return nil, err
	}
	embedded, err := embeddedSBOM(contents, sbom, recordFile)
	if err != nil {
		return nil, err
	}
	installed := firstboot.Entry
	installed.Path = record.FirstbootPath
	config.Extra = slices.Concat([]tree.Entry{installed, recordFile}, inputs, embedded)
	if sources := b.inputs.Set.OS.APTSources; sources != "" {
		config.Extra = append(config.Extra, file(aptSourcesPath, 0o644, []byte(sources)))
	}
	made, err := image.Compose(config)
	if err != nil {
		return nil, err
	}
	if err := b.checkPrograms(parts, made.Root); err != nil {
		return nil, err
	}
	rec.KernelArguments = strings.Fields(made.CommandLine)
	rec.Disk = record.Disk{Size: made.Layout.Size, Partitions: []record.Partition{
		{Name: "esp", Type: "esp", GUID: made.GUIDs.ESP.String(), Start: made.Layout.ESP.Start, Size: made.Layout.ESP.Length},
		{Name: "root", Type: "root", GUID: made.GUIDs.Root.String(), Start: made.Layout.Root.Start, Size: made.Layout.Root.Length},
	}}
	rec.Files = record.Entries(made.Root)
	return &Composed{made, rec, contents, sbom, nil}, nil
}

// file is an entry with content that is in memory.
func file(path string, perm uint16, content []byte) tree.Entry {
	return tree.Entry{
		Path: path, Type: tree.File, Perm: perm, Size: int64(len(content)), SHA256: sha256.Sum256(content),
		Blob: tree.Bytes(path, content), Owner: "bake",
	}
}

// version is the image's: that of the component that names it.
func (b *Baker) version() string {
	for _, c := range b.inputs.Set.Components {
		if c.Name == namingComponent {
			return c.Version
		}
	}
	return ""
}

// requested returns the names of the packages that the definition and the
// versions file ask for.
func (b *Baker) requested() ([]string, error) {
	packages, err := b.inputs.RequestedPackages(b.config.Arch)
	if err != nil {
		return nil, err
	}
	names := make([]string, len(packages))
	for i, p := range packages {
		names[i] = p.Name
	}
	return names, nil
}

// newRecord records what is known before the disk is laid out. In this form it
// goes into the image; what is beside it adds disk, files and the digest.
func (b *Baker) newRecord(parts *source.Parts, lock *manifest.Lock, name string) (*record.Record, error) {
	inputs, err := b.inputSums(lock, parts)
	if err != nil {
		return nil, err
	}
	rec := &record.Record{
		Schema: record.Schema, Name: name, Arch: b.config.Arch, Inputs: inputs,
		KernelArguments: slices.Concat(b.inputs.Definition.Kernel.Arguments, b.inputs.Set.OS.KernelArguments),
	}
	if n := b.inputs.Set.Node; n != nil {
		rec.Node = record.Node{RuntimeType: n.RuntimeType, CgroupDriver: n.CgroupDriver}
	}
	rec.Images, rec.Node.SandboxImage = recordImages(parts.Images)
	var packages []manifest.LockedPackage
	for _, p := range parts.Packages {
		packages = append(packages, p.LockedPackage)
	}
	rec.Packages = record.Packages(packages)
	for _, c := range parts.Components {
		component := record.Component{Name: c.Name, Version: c.Version, Origin: string(c.Origin), From: c.From, Toolchain: c.Toolchain}
		if c.Reports != nil {
			component.Reports = &record.Reports{Version: c.Reports.Version, Reason: c.Reports.Reason}
		}
		for _, e := range c.Pack.Entries {
			component.Files = append(component.Files, record.Program{Path: "/" + e.Path, SHA256: e.SHA256.String()})
		}
		rec.Components = append(rec.Components, component)
	}
	return rec, nil
}

// seed identifies everything that an image is made of.
func seed(rec *record.Record) []byte {
	h := sha256.New()
	if err := rec.Write(h); err != nil {
		panic("BUG: " + err.Error()) // a hash takes all
	}
	return h.Sum(nil)
}
