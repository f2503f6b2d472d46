package rootfs

import (
	"fmt"

	"github.com/nodebake/bake/bake/tree"
)

// maxRead bounds what is read into memory of one file, in bytes. Kernel
// modules, which are larger, are read by package depmod.
const maxRead = 16 << 20

// reader reads small files. It keeps the last chunk, since the files that are
// read one after the other are neighbours: a package's control members, or its
// configuration files.
type reader struct {
	blob  *tree.Blob
	chunk int
	data  []byte
	buf   []byte
}

// read returns the content of a File.
func (r *reader) read(e tree.Entry) ([]byte, error) {
	switch {
	case e.Type != tree.File:
		return nil, fmt.Errorf("/%s is a %s, not a file", e.Path, e.Type)
	case e.Size > maxRead:
		return nil, fmt.Errorf("/%s has %d bytes, more than %d", e.Path, e.Size, maxRead)
	}
	out := make([]byte, 0, e.Size)
	for at := e.Offset; at < e.Offset+e.Size; {
		if err := r.load(e.Blob, int(at/tree.ChunkSize)); err != nil {
			return nil, err
		}
		part := r.data[at%tree.ChunkSize:]
		part = part[:min(int64(len(part)), e.Offset+e.Size-at)]
		out = append(out, part...)
		at += int64(len(part))
	}
	return out, nil
}

func (r *reader) load(blob *tree.Blob, chunk int) error {
	if r.blob == blob && r.chunk == chunk {
		return nil
	}
	if r.buf == nil {
		r.buf = make([]byte, tree.ChunkSize)
	}
	r.blob = nil // data is being overwritten
	data, err := blob.ReadChunk(chunk, r.buf)
	if err != nil {
		return err
	}
	r.blob, r.chunk, r.data = blob, chunk, data
	return nil
}
