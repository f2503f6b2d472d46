package merge

import (
	"fmt"

	"github.com/nodebake/bake/bake/tree"
)

// maxRead bounds what is read into memory of one file, in bytes. Kernel
// modules, which are larger, are read by package depmod.
const maxRead = 16 << 20

// reader reads small files. It keeps the last chunk, since the files that are
// Read one after the other are neighbours: a package's control members, or its
// configuration files.
type Reader struct{ chunks tree.ChunkReader }

// Read returns the content of a File.
func (r *Reader) Read(e tree.Entry) ([]byte, error) {
	switch {
	case e.Type != tree.File:
		return nil, fmt.Errorf("/%s is a %s, not a file", e.Path, e.Type)
	case e.Size > maxRead:
		return nil, fmt.Errorf("/%s has %d bytes, more than %d", e.Path, e.Size, maxRead)
	}
	out := make([]byte, 0, e.Size)
	for at := e.Offset; at < e.Offset+e.Size; {
		part, err := r.chunks.At(e.Blob, at)
		if err != nil {
			return nil, err
		}
		part = part[:min(int64(len(part)), e.Offset+e.Size-at)]
		out = append(out, part...)
		at += int64(len(part))
	}
	return out, nil
}
