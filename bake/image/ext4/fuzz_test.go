package ext4

import (
	"encoding/binary"
	"fmt"
	"io"
	"testing"

	"github.com/nodebake/bake/bake/image/ext4/ext4test"
	"github.com/nodebake/bake/bake/tree"
	"github.com/nodebake/bake/bake/tree/treetest"
)

// FuzzRead reads a filesystem that was changed in some places, with checksums
// left out so that the changes are seen by what they guard.
//
// The input is a list of changes: where in the metadata (three bytes), how many
// bytes (one), the bytes.
func FuzzRead(f *testing.F) {
	tr := treetest.New(f,
		treetest.Dir("."),
		tree.Entry{Path: "d", Type: tree.Dir, Perm: 0o755},
		tree.Entry{Path: "d/link", Type: tree.Symlink, Link: "target/that/is/longer/than/sixty/bytes/so/that/it/needs/a/block"},
		tree.Entry{Path: "d/fast", Type: tree.Symlink, Link: "fast"},
		tree.Entry{Path: "d/null", Type: tree.Char, Major: 1, Minor: 3},
		tree.Entry{Path: "d/x", Type: tree.File, Xattrs: map[string][]byte{"user.a": make([]byte, 300), "system.posix_acl_access": ext4test.ACL()}},
		tree.Entry{Path: "d/y", Type: tree.Hardlink, Link: "d/x"},
		tree.Entry{Path: "f", Type: tree.File, Size: 3 << 20, Blob: sparseBlob("f", 3<<20)},
	)
	for i := range 300 {
		path := fmt.Sprintf("d/some-name-that-is-not-short-%d", i)
		tr.Entries = append(tr.Entries, tree.Entry{Path: path, Type: tree.File, Perm: 0o644})
	}
	tr = treetest.New(f, tr.Entries...)
	o := testOptions(32 << 20)
	o.BytesPerInode = 4096
	l := mustPlan(f, tr, o)
	base := make([]byte, l.List.Size)
	if _, err := l.List.Reader().ReadAt(base, 0); err != nil {
		f.Fatal(err)
	}
	var meta []int64 // where each block of metadata is
	for _, e := range l.List.Extents {
		if e.Blob.Name == "ext4 metadata" {
			for at := e.Offset; at < e.Offset+e.Length; at += blockSize {
				// Of the blocks reserved for descriptors, which nobody reads, one will do.
				if at <= 2*blockSize || at >= (1+growDescBlocks)*blockSize {
					meta = append(meta, at)
				}
			}
		}
	}
	f.Add([]byte{})
	// Fields of the superblock, of descriptors and of the first inodes.
	for _, at := range []int{1024 + 0x18, 1024 + 0x20, 1024 + 0x28, 1024 + 0x58, 1024 + 0x60, 1024 + 0xfe, 4096, 4096 + 8} {
		f.Add([]byte{byte(at >> 16), byte(at >> 8), byte(at), 4, 0xff, 0xff, 0xff, 0x7f})
		f.Add([]byte{byte(at >> 16), byte(at >> 8), byte(at), 2, 0, 0})
	}
	for block := range meta {
		at := block * blockSize
		for _, in := range []int{4, 12, 26, 256 + 0x28, 256 + 0x30, 0xa4, 0x400} {
			at := at + in
			f.Add([]byte{byte(at >> 16), byte(at >> 8), byte(at), 2, 0xfe, 0xff})
		}
	}
	f.Fuzz(func(t *testing.T, changes []byte) {
		r := patched{base: base, patches: map[int64][]byte{}}
		for n := 0; len(changes) >= 4 && n < 16; n++ {
			at := int(binary.BigEndian.Uint32(changes)) >> 8
			block := at / blockSize % len(meta)
			size := min(int(changes[3]), len(changes)-4, blockSize-at%blockSize)
			b := r.patches[meta[block]]
			if b == nil {
				b = make([]byte, blockSize)
				copy(b, base[meta[block]:])
				r.patches[meta[block]] = b
			}
			copy(b[at%blockSize:], changes[4:4+size])
			changes = changes[4+size:]
		}
		fsys, err := open(r, false)
		if err != nil {
			return
		}
		budget := int64(16 << 20) // of content, to stay quick
		_ = fsys.Walk(func(n *Element) error {
			if n.Type != tree.File {
				return nil
			}
			content, err := fsys.Content(n)
			if err != nil {
				return nil
			}
			read, _ := io.Copy(io.Discard, io.LimitReader(content, budget))
			budget -= read
			return nil
		})
		_ = fsys.Verify()
		_, _ = fsys.Lookup("d/x")
	})
}

// patched is content with some of its blocks replaced.
type patched struct {
	base    []byte
	patches map[int64][]byte // by offset
}

func (p patched) ReadAt(b []byte, off int64) (int, error) {
	if off < 0 || off >= int64(len(p.base)) {
		return 0, io.EOF
	}
	n := copy(b, p.base[off:])
	for at, patch := range p.patches {
		lo, hi := max(off, at), min(off+int64(n), at+blockSize)
		if lo < hi {
			copy(b[lo-off:hi-off], patch[lo-at:])
		}
	}
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}
