// Package image makes a disk of packs:
//
//	rootfs      packages, components and the definition become one tree
//	containerd  container images as containerd stores them
//	boot        the EFI system partition: boot loader, kernel, initramfs
//	ext4 fat    filesystems as lists of extents
//	gpt disk    a whole disk as one such list
//	archive     that list as tar.gz or raw file
//	extent      what a list is; cpio, the initramfs's format
//
// This file is the package's entry point. Nothing here reads payload, but for what is
// derived from it once (see [Config].Derive).
package image

import (
	"encoding/binary"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/nodebake/bake/bake/arch"
	"github.com/nodebake/bake/bake/image/boot"
	"github.com/nodebake/bake/bake/image/containerd"
	"github.com/nodebake/bake/bake/image/disk"
	"github.com/nodebake/bake/bake/image/ext4"
	"github.com/nodebake/bake/bake/image/extent"
	"github.com/nodebake/bake/bake/image/fat"
	"github.com/nodebake/bake/bake/image/gpt"
	"github.com/nodebake/bake/bake/image/rootfs"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/merge"
	"github.com/nodebake/bake/bake/tree"
)

// MinFree is how many bytes of an image's root filesystem are free, at least.
// The disk of an instance is usually larger, and the root grows into it.
const MinFree = 512 << 20

// Config is what a disk is made of.
type Config struct {
	Arch       arch.Arch
	Suite      string
	Definition *manifest.Definition
	Units      fs.FS
	Packages   []merge.Package
	Requested  []string // names of packages that somebody asked for
	Components []rootfs.Component
	Images     []containerd.ContainerImage // that containerd is to have

	Name    string // of the image: "k8s-worker-v1-36-3-amd64"
	Version string // IMAGE_VERSION: "v1.36.3"
	Seed    []byte // identifies the inputs; GUIDs and UUIDs derive from it
	Epoch   int64  // seconds since 1970

	Init  []byte       // the initramfs's PID 1
	Extra []tree.Entry // further files of the root filesystem

	KernelArguments []string // after the definition's

	// Derive returns the pack that make writes, or one that an earlier make
	// wrote under the same key.
	Derive func(key string, make func(w *tree.PackWriter) error) (*tree.Pack, error)
}

// Image is a composed disk.
type Image struct {
	Root          *tree.Tree
	ESP           *tree.Tree
	List          extent.List // the whole disk
	Layout        disk.Layout
	GUIDs         disk.GUIDs
	KernelVersion string
	CommandLine   string // of the kernel
	FreeBytes     int64  // of the root filesystem
}

// Compose lays out the disk.
func Compose(c Config) (*Image, error) {
	store, err := containerd.Plan(c.Images, c.Epoch)
	if err != nil {
		return nil, fmt.Errorf("preparing containerd's store: %w", err)
	}
	root, err := rootfs.Compose(rootfs.Config{
		Arch: c.Arch, Suite: c.Suite, Definition: c.Definition,
		Packages: c.Packages, Requested: c.Requested, Components: c.Components,
		Units: c.Units, Extra: slices.Concat(c.Extra, store),
		ImageID: c.Definition.Name, ImageVersion: c.Version,
		Epoch: c.Epoch, Derive: c.Derive,
	})
	if err != nil {
		return nil, fmt.Errorf("composing the root filesystem: %w", err)
	}
	image := &Image{Root: root, GUIDs: disk.NewGUIDs(c.Seed)}
	esp, err := boot.Plan(boot.Config{
		Arch: c.Arch, Root: root, Init: c.Init,
		Modules: c.Definition.Kernel.Modules, Arguments: slices.Concat(c.Definition.Kernel.Arguments, c.KernelArguments),
		RootGUID: image.GUIDs.Root.String(), Name: c.Definition.Name, Title: c.Name,
		Epoch: c.Epoch, Derive: c.Derive,
	})
	if err != nil {
		return nil, err // it says what it was planning
	}
	image.ESP, image.KernelVersion, image.CommandLine = esp.Tree, esp.KernelVersion, esp.CommandLine
	if err := image.layOut(c); err != nil {
		return nil, fmt.Errorf("laying out the disk: %w", err)
	}
	return image, nil
}

// layOut plans the filesystems and puts the disk together.
func (image *Image) layOut(c Config) error {
	options := ext4.Options{
		UUID:     gpt.Derive(c.Seed, "root filesystem"),
		HashSeed: gpt.Derive(c.Seed, "directory hashes"),
		Label:    "root",
		Epoch:    c.Epoch,
		Blobs:    blobOrder(c),
	}
	minRoot, err := ext4.MinSize(image.Root, options, MinFree)
	if err != nil {
		return err
	}
	if image.Layout, err = disk.NewLayout(minRoot); err != nil {
		return err
	}
	options.Size = image.Layout.Root.Length
	root, err := ext4.Plan(image.Root, options)
	if err != nil {
		return err
	}
	image.FreeBytes = root.FreeBytes
	volume := gpt.Derive(c.Seed, "EFI system partition")
	esp, err := fat.Plan(image.ESP, fat.Options{
		Size:          image.Layout.ESP.Length,
		HiddenSectors: uint32(image.Layout.ESP.Start / 512),
		VolumeID:      binary.BigEndian.Uint32(volume[:]),
		Label:         "ESP",
		Epoch:         time.Unix(c.Epoch, 0).UTC(),
	})
	if err != nil {
		return err
	}
	image.List, err = disk.Plan(disk.Config{
		Layout: image.Layout, GUIDs: image.GUIDs, Arch: string(c.Arch), ESPList: esp, RootList: root.List,
	})
	if err != nil {
		return err
	}
	return image.List.Check()
}

// blobOrder puts packages first, in the lock's order, then components, then
// what is made here: what changes most often comes last.
func blobOrder(c Config) []*tree.Blob {
	var order []*tree.Blob
	add := func(p *tree.Pack) {
		for _, e := range p.Entries {
			if e.Blob != nil {
				order = append(order, e.Blob) // a pack has one
				return
			}
		}
	}
	for _, p := range c.Packages {
		add(p.Pack)
	}
	for _, comp := range c.Components {
		add(comp.Pack)
	}
	return order
}
