package inspect

import (
	"bytes"
	"io"
	"os"

	"github.com/nodebake/bake/bake/arch"
	"github.com/nodebake/bake/bake/image/archive"
	"github.com/nodebake/bake/bake/image/gpt"
)

// tableSize is where the primary partition table ends, in bytes: boot record,
// header and 128 entries of 128 bytes (UEFI 2.10, section 5.3.1).
const tableSize = 34 * gpt.SectorSize

// ArchOf returns the architecture of the image at path by the type of its root
// partition, and reads no more than the primary partition table. It is empty
// where that does not tell: what is wrong with an image is for others to say.
func ArchOf(path string) arch.Arch {
	m, err := OpenFile(path)
	if err != nil {
		return ""
	}
	defer m.Close()
	r, size := io.Reader(m.Source), m.length
	if m.Format == TarGz {
		disk, err := archive.NewReader(m.Source)
		if err != nil {
			return ""
		}
		r, size = disk, disk.Size()
	}
	start, err := io.ReadAll(io.LimitReader(r, tableSize))
	if err != nil {
		return ""
	}
	table, err := gpt.ReadAny(bytes.NewReader(start), size)
	if err != nil {
		return ""
	}
	for _, p := range table.Partitions {
		if arch, ok := RootArch(p.Type); ok {
			return arch
		}
	}
	return ""
}

// openRegular opens a file that is neither a directory nor something that may
// make the one who opens it wait, such as a FIFO.
func openRegular(path string) (*os.File, error) {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return nil, errNotRegular
	}
	return os.Open(path)
}
