package inspect

import (
	"context"
	"fmt"
	"io"

	"github.com/nodebake/bake/bake/image/ext4"
	"github.com/nodebake/bake/bake/image/gpt"
)

// Unpack reads the disk of an image that [OpenFile] opened, and nothing that it
// holds, for who compares it byte by byte. An archive that is damaged is
// unpacked as far as it can be: Fault says why no further. What else keeps it
// from being unpacked is as for [Open].
func (m *Image) Unpack(ctx context.Context, tmpDir string) error {
	if err := m.unpack(ctx, tmpDir); err != nil {
		return err
	}
	if m.Fault != nil && m.Size == 0 { // nothing of a disk was found
		return &NotImageError{m.Path, m.Fault}
	}
	return nil
}

// OpenParts opens what the disk holds, as [Open] does. Afterwards m can be asked
// for its record.
func (m *Image) OpenParts() error {
	if err := m.OpenDisk().join(); err != nil {
		return &NotImageError{m.Path, err}
	}
	return nil
}

// Fragment returns the content of a file of the root filesystem, of at most
// 16 MiB, without asking that anything but the way to it be sound: one good
// partition table, one good superblock, the directories above the file. It follows no
// links. A file that is not there is an fs.ErrNotExist.
func (m *Image) Fragment(name string) ([]byte, error) {
	if m.fragments == nil {
		table, err := gpt.ReadAny(m.Disk, m.Size)
		if err != nil {
			// The end of the disk may be missing.
			if cut, cutErr := gpt.ReadAny(m.Disk, largestDisk); cutErr == nil {
				table, err = cut, nil
			}
		}
		if err != nil {
			return nil, err
		}
		m.Table = table
		p, err := m.partition("a root", func(t gpt.GUID) bool { _, ok := RootArch(t); return ok })
		if err != nil {
			return nil, err
		}
		if m.fragments, err = openAny(m.part(p)); err != nil {
			return nil, err
		}
	}
	n, err := m.fragments.Lookup(name)
	if err != nil {
		return nil, err
	}
	if n.Size > maxText {
		return nil, fmt.Errorf("/%s: %d bytes, more than the %d that are read", name, n.Size, maxText)
	}
	content, err := m.fragments.Content(n)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(content)
}

// largestDisk is larger in bytes than any image's disk.
const largestDisk = 1 << 42

// openAny opens a filesystem by its superblock or else by the copy in its second
// group (super.rst, blockgroup.rst of the kernel's documentation).
func openAny(r io.ReaderAt) (*ext4.FS, error) {
	root, err := ext4.Open(r)
	if err == nil {
		return root, nil
	}
	if root, copyErr := ext4.Open(&copied{r}); copyErr == nil {
		return root, nil
	}
	return nil, err
}

// copied shows the copies of superblock and group descriptors that the second
// group of a filesystem with blocks of 4 KiB has in the place of the first
// ones.
type copied struct{ r io.ReaderAt }

const (
	blockBytes  = 4096
	secondGroup = 8 * blockBytes * blockBytes // a group has as many blocks as its bitmap has bits
	superAt     = 1024                        // in the first group; the copy begins its block
)

// ReadAt implements io.ReaderAt.
func (c *copied) ReadAt(p []byte, off int64) (int, error) {
	n, err := c.r.ReadAt(p, off)
	for _, part := range []struct{ at, length, from int64 }{
		{superAt, superAt, secondGroup},
		{blockBytes, blockBytes, secondGroup + blockBytes}, // 64 groups, 8 GiB
	} {
		from, to := max(off, part.at), min(off+int64(n), part.at+part.length)
		if from >= to {
			continue
		}
		if _, err := c.r.ReadAt(p[from-off:to-off], part.from+from-part.at); err != nil {
			return 0, err
		}
	}
	return n, err
}
