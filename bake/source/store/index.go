package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/nodebake/bake/bake/tree"
)

// The index of a pack is binary, because every bake loads all of them: 12,500
// entries take 7 ms to decode like this and 20 times that as JSON, measured on
// the same busy core.
//
//	indexMagic                              8 bytes, with the version of the format
//	key                                     string
//	size of the blob                        uvarint
//	SHA-256 of each chunk                   ceil(size / tree.ChunkSize) times 32 bytes
//	number of entries                       uvarint
//	entries
//	SHA-256 of all before                   32 bytes
//
// and an entry is
//
//	type                                    one byte of typeBytes
//	path                                    string
//	permission bits, UID, GID               uvarint each
//	modification time                       varint
//	File: size, offset / tree.Align         uvarint each
//	File: SHA-256 of the content            32 bytes
//	Symlink, Hardlink: link                 string
//	Char, Block: major, minor               uvarint each
//	number of extended attributes           uvarint
//	  name and value, sorted by name        string each
//
// where a string is a uvarint length and that many bytes, and uvarint and
// varint are those of encoding/binary. A format that changes changes
// indexMagic; an index with another magic counts as damaged, so the pack is
// rebuilt.
const indexMagic = "bakepk1\n"

// typeBytes gives each type the letter that ls -l shows for it, and a hard
// link tar's 'h'.
const typeBytes = "d-lhcbp"

func typesInOrder() [len(typeBytes)]tree.Type {
	return [...]tree.Type{tree.Dir, tree.File, tree.Symlink, tree.Hardlink, tree.Char, tree.Block, tree.Fifo}
}

// encodeIndex returns the index of p, kept under key.
func encodeIndex(key string, p *tree.Pack) ([]byte, error) {
	b := make([]byte, 0, 256+len(p.Chunks)*sha256.Size+len(p.Entries)*128)
	b = append(b, indexMagic...)
	b = appendString(b, key)
	b = binary.AppendUvarint(b, uint64(p.Size))
	if len(p.Chunks) != chunkCount(p.Size) {
		return nil, fmt.Errorf("BUG: pack of %d bytes has %d chunks", p.Size, len(p.Chunks))
	}
	for _, c := range p.Chunks {
		b = append(b, c[:]...)
	}
	b = binary.AppendUvarint(b, uint64(len(p.Entries)))
	types := typesInOrder()
	for i := range p.Entries {
		e := &p.Entries[i]
		t := slices.Index(types[:], e.Type)
		if t < 0 || e.Size < 0 || e.Offset < 0 || e.Offset%tree.Align != 0 {
			return nil, fmt.Errorf("%s: can't be kept: type %q, %d bytes at %d", e.Path, e.Type, e.Size, e.Offset)
		}
		b = appendEntry(b, typeBytes[t], e)
	}
	sum := sha256.Sum256(b)
	return append(b, sum[:]...), nil
}

func appendEntry(b []byte, letter byte, e *tree.Entry) []byte {
	b = append(b, letter)
	b = appendString(b, e.Path)
	b = binary.AppendUvarint(b, uint64(e.Perm))
	b = binary.AppendUvarint(b, uint64(e.UID))
	b = binary.AppendUvarint(b, uint64(e.GID))
	b = binary.AppendVarint(b, e.MTime)
	switch e.Type {
	case tree.File:
		b = binary.AppendUvarint(b, uint64(e.Size))
		b = binary.AppendUvarint(b, uint64(e.Offset/tree.Align))
		b = append(b, e.SHA256[:]...)
	case tree.Symlink, tree.Hardlink:
		b = appendString(b, e.Link)
	case tree.Char, tree.Block:
		b = binary.AppendUvarint(b, uint64(e.Major))
		b = binary.AppendUvarint(b, uint64(e.Minor))
	}
	b = binary.AppendUvarint(b, uint64(len(e.Xattrs)))
	for _, name := range slices.Sorted(maps.Keys(e.Xattrs)) {
		b = appendString(b, name)
		b = appendString(b, string(e.Xattrs[name]))
	}
	return b
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func chunkCount(size int64) int { return int((size + tree.ChunkSize - 1) / tree.ChunkSize) }

var errChecksum = errors.New("its checksum is wrong")

// decodeIndex returns the pack of an index and the key that it is kept under.
func decodeIndex(b []byte) (*tree.Pack, string, error) {
	if len(b) < len(indexMagic)+sha256.Size {
		return nil, "", errors.New("it is cut off")
	}
	body, sum := b[:len(b)-sha256.Size], b[len(b)-sha256.Size:]
	if got := sha256.Sum256(body); !bytes.Equal(got[:], sum) {
		return nil, "", errChecksum
	}
	return decodeIndexBody(body)
}

// decodeIndexBody decodes all of an index but its checksum. It accepts nothing
// that would make a pack unsafe to use, whatever the checksum says.
func decodeIndexBody(body []byte) (*tree.Pack, string, error) {
	// All strings of the pack are parts of this one.
	d := &decoder{rest: string(body)}
	if !strings.HasPrefix(d.rest, indexMagic) {
		return nil, "", fmt.Errorf("it does not start with %q", indexMagic)
	}
	d.rest = d.rest[len(indexMagic):]
	key := d.string()
	p := &tree.Pack{Size: int64(d.uvarint(1 << 50))}
	// A count is checked against the bytes that are left before it is
	// believed: 32 for a chunk, at least 7 for an entry.
	if n := chunkCount(p.Size); d.enough(n, sha256.Size) {
		p.Chunks = make([]tree.Digest, n)
		for i := range p.Chunks {
			d.digest(&p.Chunks[i])
		}
	}
	if n := int(d.uvarint(1 << 40)); d.enough(n, 7) {
		p.Entries = make([]tree.Entry, n)
		for i := range p.Entries {
			d.entry(&p.Entries[i], p.Size)
			if d.err != nil {
				return nil, "", d.err
			}
		}
	}
	if d.err == nil && d.rest != "" {
		d.err = fmt.Errorf("%d bytes follow its end", len(d.rest))
	}
	if d.err != nil {
		return nil, "", d.err
	}
	return p, key, nil
}

// decoder takes values off the front of rest until one fails.
type decoder struct {
	rest string
	err  error
}

func (d *decoder) entry(e *tree.Entry, blobSize int64) {
	letter := d.bytes(1)
	if d.err != nil {
		return
	}
	t := strings.IndexByte(typeBytes, letter[0])
	if t < 0 {
		d.fail(fmt.Errorf("unknown type %q", letter))
		return
	}
	types := typesInOrder()
	e.Type = types[t]
	e.Path = d.string()
	e.Perm = uint16(d.uvarint(0o7777))
	e.UID = uint32(d.uvarint(1<<32 - 1))
	e.GID = uint32(d.uvarint(1<<32 - 1))
	e.MTime = d.varint()
	switch e.Type {
	case tree.File:
		e.Size = int64(d.uvarint(uint64(blobSize)))
		e.Offset = int64(d.uvarint(uint64(blobSize)/tree.Align)) * tree.Align
		d.digest(&e.SHA256)
		if e.Offset+e.Size > blobSize {
			d.fail(fmt.Errorf("%q: %d bytes at %d are outside of the %d of the pack", e.Path, e.Size, e.Offset, blobSize))
		}
	case tree.Symlink, tree.Hardlink:
		e.Link = d.string()
	case tree.Char, tree.Block:
		e.Major = uint32(d.uvarint(1<<32 - 1))
		e.Minor = uint32(d.uvarint(1<<32 - 1))
	}
	if n := int(d.uvarint(1 << 16)); n > 0 && d.enough(n, 2) {
		e.Xattrs = make(map[string][]byte, n)
		for range n {
			name := d.string()
			e.Xattrs[name] = []byte(d.string())
		}
	}
	if d.err == nil {
		d.fail(tree.ValidPath(e.Path))
	}
}

func (d *decoder) fail(err error) {
	if d.err == nil && err != nil {
		d.err, d.rest = err, ""
	}
}

// enough reports whether n items of at least size bytes can follow.
func (d *decoder) enough(n, size int) bool {
	if n > len(d.rest)/size {
		d.fail(fmt.Errorf("%d items in %d bytes", n, len(d.rest)))
	}
	return d.err == nil
}

func (d *decoder) bytes(n int) string {
	if !d.enough(n, 1) {
		return ""
	}
	s := d.rest[:n]
	d.rest = d.rest[n:]
	return s
}

func (d *decoder) string() string { return d.bytes(int(d.uvarint(1 << 30))) }

func (d *decoder) digest(to *tree.Digest) { copy(to[:], d.bytes(len(to))) }

// uvarint is binary.Uvarint for strings, with the largest value allowed.
func (d *decoder) uvarint(limit uint64) uint64 {
	var v uint64
	for i := 0; i < len(d.rest) && i < binary.MaxVarintLen64; i++ {
		c := d.rest[i]
		if i == binary.MaxVarintLen64-1 && c > 1 {
			break
		}
		v |= uint64(c&0x7f) << (7 * i)
		if c < 0x80 {
			d.rest = d.rest[i+1:]
			if v > limit {
				d.fail(fmt.Errorf("number %d is over %d", v, limit))
				return 0
			}
			return v
		}
	}
	d.fail(errors.New("it ends inside a number"))
	return 0
}

func (d *decoder) varint() int64 {
	u := d.uvarint(1<<64 - 1)
	return int64(u>>1) ^ -int64(u&1)
}
