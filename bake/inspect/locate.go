package inspect

import (
	"fmt"
	"io"

	"github.com/nodebake/bake/bake/image/ext4"
	"github.com/nodebake/bake/bake/image/fat"
	"github.com/nodebake/bake/bake/image/gpt"
)

// Place says what a byte of a disk belongs to.
type Place struct {
	Partition string // its name, or "" outside of all
	Path      string // absolute, of the file or directory that it is of; "" where it is none's
	Offset    int64  // in the file at Path where it is content; else in the partition, or on the disk outside of all
	What      string // "content", "inode 12", "free space", "partition table"
}

// Locate says what the byte at offset of a disk belongs to. The disk must be
// sound up to the filesystem that has the byte: it is meant for one that was
// planned and not written.
func Locate(disk io.ReaderAt, size, offset int64) (Place, error) {
	if offset >= size {
		return Place{Offset: offset, What: "behind the end of the disk"}, nil
	}
	table, err := gpt.Read(disk, size)
	if err != nil {
		return Place{}, err
	}
	for i := range table.Partitions {
		p := &table.Partitions[i]
		if offset < p.Start || offset >= p.Start+p.Length {
			continue
		}
		place, err := locateIn(p, io.NewSectionReader(disk, p.Start, p.Length), offset-p.Start)
		if err != nil {
			return Place{}, fmt.Errorf("partition %s: %w", p.Name, err)
		}
		return place, nil
	}
	if offset < gpt.HeadSize || offset >= size-gpt.TailSize {
		return Place{Offset: offset, What: "partition table"}, nil
	}
	return Place{Offset: offset, What: "between partitions"}, nil
}

func locateIn(p *gpt.Partition, part io.ReaderAt, offset int64) (Place, error) {
	place := Place{Partition: p.Name, Offset: offset}
	var path string
	var content bool
	var at int64
	if p.Type == gpt.ESPType() {
		v, err := fat.Open(part, p.Length)
		if err != nil {
			return place, err
		}
		found, err := v.Locate(offset)
		if err != nil {
			return place, err
		}
		path, content, at, place.What = found.Path, found.Content, found.Offset, found.What
	} else {
		f, err := ext4.Open(part)
		if err != nil {
			return place, err
		}
		found, err := f.Locate(offset)
		if err != nil {
			return place, err
		}
		path, content, at, place.What = found.Path, found.Content, found.Offset, found.What
	}
	switch path {
	case "":
	case ".":
		place.Path = "/"
	default:
		place.Path = "/" + path
	}
	if content {
		place.Offset = at
	}
	return place, nil
}
