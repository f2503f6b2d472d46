package ext4

import (
	"errors"
	"fmt"

	"github.com/nodebake/bake/bake/image/ext4/internal/format"
	"github.com/nodebake/bake/bake/tree"
)

// Place says what a byte of a filesystem belongs to.
type Place struct {
	Path    string // of the file, directory or link that it is of; "" where it is none's
	Content bool   // it is content of the file at Path, at Offset, or behind its end in its last block
	Offset  int64  // in the file's content
	What    string // "content", "inode 12", "directory", "block bitmap of group 3", "free space"
}

// Locate says what the byte at offset belongs to. It reads all metadata, which
// must be sound.
func (f *FS) Locate(offset int64) (Place, error) {
	if offset < 0 || offset >= f.blocks*f.blockSize {
		return Place{What: "behind the filesystem"}, nil
	}
	block := offset / f.blockSize
	if offset >= format.SuperBlockOffset && offset < format.SuperBlockOffset+format.SuperBlockSize {
		return Place{What: "superblock"}, nil
	}
	group := (block - int64(f.super.FirstDataBlock)) / int64(f.super.BlocksPerGroup)
	if f.hasSuper(int(group)) && !f.incompat(format.IncompatMetaBG) {
		perBlock := f.blockSize / int64(f.descSize())
		descs := (f.groupCount() + perBlock - 1) / perBlock
		switch at := block - int64(f.super.FirstDataBlock) - group*int64(f.super.BlocksPerGroup); {
		case at == 0 && group > 0:
			return Place{What: fmt.Sprintf("copy of the superblock in group %d", group)}, nil
		case at > 0 && at <= descs:
			return Place{What: fmt.Sprintf("group descriptors in group %d", group)}, nil
		case at > descs && at <= descs+int64(f.super.ReservedGDTBlocks):
			return Place{What: fmt.Sprintf("room for more group descriptors in group %d", group)}, nil
		}
	}
	for i := range f.groups {
		d := &f.groups[i]
		table := f.join(d.InodeTableLo, d.InodeTableHi)
		perBlock := f.blockSize / int64(f.inodeSize)
		switch {
		case block == f.join(d.BlockBitmapLo, d.BlockBitmapHi):
			return Place{What: fmt.Sprintf("block bitmap of group %d", i)}, nil
		case block == f.join(d.InodeBitmapLo, d.InodeBitmapHi):
			return Place{What: fmt.Sprintf("inode bitmap of group %d", i)}, nil
		case block >= table && block < table+(int64(f.super.InodesPerGroup)+perBlock-1)/perBlock:
			number := uint32(i)*f.super.InodesPerGroup + uint32((offset-table*f.blockSize)/int64(f.inodeSize)) + 1
			return f.locateInode(number)
		}
	}
	return f.locateBlock(block, offset)
}

// errFound ends a walk.
var errFound = errors.New("found")

// locateInode names the file that has an inode.
func (f *FS) locateInode(number uint32) (Place, error) {
	p := Place{What: fmt.Sprintf("inode %d", number)}
	err := f.Walk(func(n *Element) error {
		if n.Inode == number {
			p.Path = n.Path
			return errFound
		}
		return nil
	})
	if err != nil && !errors.Is(err, errFound) {
		return Place{}, err
	}
	return p, nil
}

// locateBlock finds what owns the block with the byte at offset.
func (f *FS) locateBlock(block, offset int64) (Place, error) {
	if i, err := f.readInode(format.InodeJournal); err == nil { // else there is none
		if found, _, err := f.owns(i, block); err == nil && found != "" {
			return Place{What: "journal"}, nil
		}
	}
	var p Place
	err := f.Walk(func(n *Element) error {
		if n.Type == tree.Hardlink {
			return nil
		}
		i, err := f.readInode(n.Inode)
		if err != nil {
			return err
		}
		what, logical, err := f.owns(i, block)
		if err != nil || what == "" {
			return err
		}
		p = Place{Path: n.Path, What: what}
		if what != "content" {
			return errFound
		}
		switch n.Type {
		case tree.Dir:
			p.What = "directory"
		case tree.Symlink:
			p.What = "symbolic link"
		default:
			p.Content, p.Offset = true, logical*f.blockSize+offset%f.blockSize
			if p.Offset >= n.Size {
				p.What = "behind the end of the content"
			}
		}
		return errFound
	})
	switch {
	case errors.Is(err, errFound):
		return p, nil
	case err != nil:
		return Place{}, err
	}
	return Place{What: "free space"}, nil
}

// owns says as what a block belongs to an inode, "" if it does not, and for
// content which of its blocks it is.
func (f *FS) owns(i *inode, block int64) (what string, logical int64, err error) {
	if block == f.aclBlock(i) {
		return "extended attributes", 0, nil
	}
	if !f.hasContent(i) {
		return "", 0, nil
	}
	var own []int64 // blocks of the tree; those of content are claimed by it as well
	extents, err := f.extents(i, func(at, n int64) error {
		if err := f.inRange(at, n); err != nil {
			return err
		}
		if block >= at && block < at+n {
			own = append(own, at)
		}
		return nil
	})
	if err != nil {
		return "", 0, err
	}
	for _, e := range extents {
		if block >= e.block && block < e.block+e.n {
			return "content", e.logical + block - e.block, nil
		}
	}
	if len(own) > 0 {
		return "extent tree", 0, nil
	}
	return "", 0, nil
}
