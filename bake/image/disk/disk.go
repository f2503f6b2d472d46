// Package disk puts the parts of an image's disk together: partition table, EFI
// system partition, root partition.
//
// A layout is made first ([NewLayout]), from the size that the root needs; the
// two filesystems are planned for the sizes that it gives; [Plan] combines
// them. It knows no file format but the partition table's: filesystems come as
// lists of extents.
//
// There are two partitions and always the same ones, on disks of whole GiB up
// to 2048 GB, Compute Engine's limit for an image.
package disk

import (
	"fmt"

	"github.com/nodebake/bake/bake/gce"
	"github.com/nodebake/bake/bake/image/extent"
	"github.com/nodebake/bake/bake/image/gpt"
)

const (
	mib = 1 << 20

	// alignment of partitions: what every partitioning tool uses, a multiple of
	// all block sizes of disks and SSDs.
	alignment = mib

	// espSize leaves room for what a node may do to itself: an arm64 kernel and
	// its initramfs have 35 MB, an upgrade writes a second pair before it
	// removes the first, and firmware updates go through the partition too. Its
	// unused part costs nothing in the archive.
	espSize = 256 * mib

	// maxSize is the largest image in whole GiB.
	maxSize = gce.MaxImageSize / gce.GiB * gce.GiB
)

// Range is a part of the disk in bytes.
type Range struct{ Start, Length int64 }

// Layout says where the partitions are. The root comes last, so that it can grow
// when the disk does.
type Layout struct {
	Size int64 // of the disk
	ESP  Range
	Root Range
}

// NewLayout returns the smallest disk of whole GiB whose root partition has at
// least minRoot bytes.
func NewLayout(minRoot int64) (Layout, error) {
	const before = alignment + espSize
	if minRoot <= 0 || minRoot > maxSize {
		return Layout{}, fmt.Errorf("laying out the disk: a root filesystem of %d bytes (want at most %d)", minRoot, int64(maxSize))
	}
	size := roundUp(before+roundUp(minRoot, alignment)+gpt.TailSize, gce.GiB)
	if size > maxSize {
		return Layout{}, fmt.Errorf("laying out the disk: a root filesystem of %d bytes needs a disk of %d, Compute Engine takes %d", minRoot, size, int64(maxSize))
	}
	return Layout{
		Size: size,
		ESP:  Range{alignment, espSize},
		Root: Range{before, (size-gpt.TailSize)/alignment*alignment - before},
	}, nil
}

func roundUp(n, to int64) int64 { return (n + to - 1) / to * to }

// GUIDs name the disk and its partitions.
type GUIDs struct{ Disk, ESP, Root gpt.GUID }

// NewGUIDs derives them from a seed that identifies the image's content, such
// as the digest of the plan's inputs. Every disk made from an image has the
// same ones: they tell images apart, not disks.
func NewGUIDs(seed []byte) GUIDs {
	return GUIDs{Disk: gpt.Derive(seed, "disk"), ESP: gpt.Derive(seed, "esp"), Root: gpt.Derive(seed, "root")}
}

// Config is what a disk is made of.
type Config struct {
	Layout   Layout
	GUIDs    GUIDs
	Arch     string      // "amd64" or "arm64": the type of the root partition
	ESPList  extent.List // of Layout.ESP.Length bytes
	RootList extent.List // of Layout.Root.Length bytes
}

// Plan returns the content of the whole disk.
func Plan(c Config) (extent.List, error) {
	rootType, ok := gpt.RootType(c.Arch)
	if !ok {
		return extent.List{}, fmt.Errorf("planning the disk: no type of root partition is known for architecture %q", c.Arch)
	}
	if c.ESPList.Size != c.Layout.ESP.Length || c.RootList.Size != c.Layout.Root.Length {
		return extent.List{}, fmt.Errorf("BUG: filesystems of %d and %d bytes for partitions of %d and %d",
			c.ESPList.Size, c.RootList.Size, c.Layout.ESP.Length, c.Layout.Root.Length)
	}
	list, err := gpt.Plan(c.Layout.Size, c.GUIDs.Disk, []gpt.Partition{
		{Type: gpt.ESPType(), GUID: c.GUIDs.ESP, Start: c.Layout.ESP.Start, Length: c.Layout.ESP.Length, Name: "esp"},
		// Named and flagged as systemd-repart would: it grows the partition, and
		// the filesystem in it.
		{Type: rootType, GUID: c.GUIDs.Root, Start: c.Layout.Root.Start, Length: c.Layout.Root.Length, Name: "root", Attributes: gpt.GrowFileSystem},
	})
	if err != nil {
		return extent.List{}, fmt.Errorf("planning the disk: %w", err)
	}
	list.Insert(c.Layout.ESP.Start, c.ESPList)
	list.Insert(c.Layout.Root.Start, c.RootList)
	return list, list.Check()
}
