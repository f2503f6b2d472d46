package decompress

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"hash/crc64"
	"io"

	"github.com/ulikunitz/xz/lzma"
)

// The container of xz is read here, and only LZMA2 by a library: that one
// allocates the dictionary that any block's header asks for, and here each header
// is read before. Sections are those of The .xz File Format 1.2.1.
const (
	xzMagic       = "\xfd7zXZ\x00" // 2.1.1.1
	xzFooterMagic = "YZ"           // 2.1.2.4
	xzHeaderSize  = 12             // of a stream's header and footer, 2.1
	lzma2Filter   = 0x21           // 5.3.1
)

var (
	errXZ       = errors.New("its headers are damaged")
	errXZData   = errors.New("its content does not have the checksum that it states")
	errXZIndex  = errors.New("its index contradicts its blocks")
	errXZFilter = errors.New("it has a filter that is not supported (LZMA2 is)")
)

// xzReader reads streams and the padding between them.
type xzReader struct {
	in    *bufio.Reader
	flags [2]byte // of the stream, 2.1.1.2
	block *xzBlock
	done  xzTotal // blocks of this stream
}

// xzBlock is the block that is being read.
type xzBlock struct {
	in           xzInput // its compressed data
	r            *lzma.Reader2
	header       int64 // its size in bytes
	compressed   int64 // announced; -1: not
	uncompressed int64 // the same
	out          int64 // bytes so far
	check        hash.Hash
}

// xzInput counts the bytes of a block. It reads no further than the library
// asks.
type xzInput struct {
	r *bufio.Reader
	n int64
}

func (i *xzInput) Read(p []byte) (int, error) {
	n, err := i.r.Read(p)
	i.n += int64(n)
	return n, err
}

// xzTotal stands for a list of blocks, whose lengths an index repeats, without
// keeping them: whoever makes streams could make the list long.
type xzTotal struct {
	blocks uint64
	sum    hash.Hash
}

func newXZTotal() xzTotal { return xzTotal{sum: sha256.New()} }

func (t *xzTotal) add(unpadded, uncompressed uint64) {
	t.blocks++
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:8], unpadded)
	binary.LittleEndian.PutUint64(b[8:], uncompressed)
	t.sum.Write(b[:])
}

func newXZ(in *bufio.Reader) (*xzReader, error) {
	x := &xzReader{in: in}
	return x, x.streamHeader()
}

// Read implements io.Reader.
func (x *xzReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for {
		if x.block == nil {
			if err := x.next(); err != nil {
				return 0, err // io.EOF after a stream is the end
			}
			continue
		}
		n, err := x.block.read(p)
		if err == io.EOF {
			err = x.endBlock()
		}
		if n > 0 || err != nil {
			return n, noEOF(err)
		}
	}
}

// next goes to the next block, or through the end of a stream to the next
// stream. It is io.EOF where there is none.
func (x *xzReader) next() error {
	size, err := x.in.ReadByte()
	if err != nil {
		return noEOF(err)
	}
	if size != 0 {
		return noEOF(x.startBlock(size))
	}
	if err := x.endStream(); err != nil {
		return noEOF(err)
	}
	for { // 2.2
		head, err := x.in.Peek(4)
		switch {
		case len(head) == 0 && err == io.EOF:
			return io.EOF
		case len(head) == 4 && string(head) == "\x00\x00\x00\x00":
			x.in.Discard(4)
			continue
		case len(head) == 4 && string(head) == xzMagic[:4]:
			return noEOF(x.streamHeader())
		case err != nil && err != io.EOF:
			return err
		}
		return ErrFollowed
	}
}

// streamHeader reads it: 2.1.1.
func (x *xzReader) streamHeader() error {
	var h [xzHeaderSize]byte
	if _, err := io.ReadFull(x.in, h[:]); err != nil {
		return noEOF(err)
	}
	x.flags = [2]byte(h[6:8])
	switch {
	case string(h[:6]) != xzMagic || crc32.ChecksumIEEE(h[6:8]) != binary.LittleEndian.Uint32(h[8:]):
		return errXZ
	case x.flags[0] != 0 || x.flags[1] > 15:
		return errors.New("it is of a newer format")
	}
	x.done = newXZTotal()
	_, err := newCheck(x.flags[1])
	return err
}

// newCheck returns what computes a block's checksum, 2.1.1.2.
func newCheck(id byte) (hash.Hash, error) {
	switch id {
	case 0:
		return nil, nil
	case 1:
		return crc32.NewIEEE(), nil
	case 4:
		return crc64.New(crc64.MakeTable(crc64.ECMA)), nil
	case 10:
		return sha256.New(), nil
	}
	return nil, fmt.Errorf("its checksum, of kind %d, is not supported", id)
}

// startBlock reads a block's header, of which size is the first byte, and
// decides about its dictionary: 3.1.
func (x *xzReader) startBlock(size byte) error {
	h := make([]byte, (int(size)+1)*4)
	h[0] = size
	if _, err := io.ReadFull(x.in, h[1:]); err != nil {
		return err
	}
	h, sum := h[:len(h)-4], h[len(h)-4:]
	if crc32.ChecksumIEEE(h) != binary.LittleEndian.Uint32(sum) {
		return errXZ
	}
	const filters, reserved, hasCompressed, hasUncompressed = 0x03, 0x3c, 0x40, 0x80
	b := &xzBlock{header: int64(len(h) + 4), compressed: -1, uncompressed: -1, in: xzInput{r: x.in}}
	rest := h[2:]
	number := func() (n int64) {
		v, used := decodeNumber(rest)
		if used == 0 {
			rest = nil
			return -1
		}
		rest = rest[used:]
		return int64(v)
	}
	if h[1]&hasCompressed != 0 {
		if b.compressed = number(); b.compressed <= 0 {
			return errXZ
		}
	}
	if h[1]&hasUncompressed != 0 {
		if b.uncompressed = number(); b.uncompressed < 0 {
			return errXZ
		}
	}
	switch {
	case h[1]&reserved != 0:
		return errXZ
	case h[1]&filters != 0 || number() != lzma2Filter:
		return errXZFilter
	case number() != 1 || len(rest) == 0 || rest[0] > 40:
		return errXZ
	}
	// 40 stands for one byte less than this formula gives.
	bits := rest[0]
	dict := int64(2|bits&1) << (bits/2 + 11)
	if dict > MaxXZDict {
		return fmt.Errorf("it needs a dictionary of %d MiB, at most %d are allowed", dict>>20, MaxXZDict>>20)
	}
	for _, c := range rest[1:] {
		if c != 0 {
			return errXZ
		}
	}
	if b.uncompressed >= 0 { // nothing lies further back
		dict = max(lzma.MinDictCap, min(dict, b.uncompressed))
	}
	var err error
	if b.check, err = newCheck(x.flags[1]); err != nil {
		return err
	}
	if b.r, err = (lzma.Reader2Config{DictCap: int(dict)}).NewReader2(&b.in); err != nil {
		return err
	}
	x.block = b
	return nil
}

// read returns io.EOF after the block's end mark.
func (b *xzBlock) read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	b.out += int64(n)
	if b.check != nil {
		b.check.Write(p[:n])
	}
	switch {
	case b.uncompressed >= 0 && b.out > b.uncompressed, b.compressed >= 0 && b.in.n > b.compressed:
		return 0, errXZIndex
	case err == nil || err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF):
		return n, err
	}
	return n, fmt.Errorf("its content is damaged: %w", err)
}

// endBlock reads what follows a block's data: 3.3 and 3.4.
func (x *xzReader) endBlock() error {
	b := x.block
	x.block = nil
	if b.compressed >= 0 && b.in.n != b.compressed || b.uncompressed >= 0 && b.out != b.uncompressed {
		return errXZIndex
	}
	if err := x.padding(b.in.n); err != nil {
		return err
	}
	var want []byte
	if b.check != nil {
		want = b.check.Sum(nil)
		if b.check.Size() < sha256.Size { // the others are little-endian
			for i, j := 0, len(want)-1; i < j; i, j = i+1, j-1 {
				want[i], want[j] = want[j], want[i]
			}
		}
	}
	got := make([]byte, len(want))
	if _, err := io.ReadFull(x.in, got); err != nil {
		return noEOF(err)
	}
	if string(got) != string(want) {
		return errXZData
	}
	x.done.add(uint64(b.header+b.in.n)+uint64(len(want)), uint64(b.out))
	return nil
}

// padding reads the zeroes after n bytes up to a multiple of four.
func (x *xzReader) padding(n int64) error {
	for ; n%4 != 0; n++ {
		c, err := x.in.ReadByte()
		if err != nil {
			return noEOF(err)
		}
		if c != 0 {
			return errXZ
		}
	}
	return nil
}

// endStream reads the index, of which the first byte was read, compares it with
// the blocks that it followed, and reads the footer: 4 and 2.1.2.
func (x *xzReader) endStream() error {
	sum := crc32.NewIEEE()
	sum.Write([]byte{0})
	size := int64(1)
	number := func() (uint64, error) {
		var b []byte
		for {
			c, err := x.in.ReadByte()
			if err != nil {
				return 0, err
			}
			b = append(b, c)
			if c < 0x80 || len(b) == maxNumber {
				break
			}
		}
		sum.Write(b)
		size += int64(len(b))
		n, used := decodeNumber(b)
		if used == 0 {
			return 0, errXZ
		}
		return n, nil
	}
	count, err := number()
	if err != nil {
		return err
	}
	if count != x.done.blocks {
		return errXZIndex
	}
	listed := newXZTotal()
	for range count {
		unpadded, err := number()
		if err != nil {
			return err
		}
		uncompressed, err := number()
		if err != nil {
			return err
		}
		listed.add(unpadded, uncompressed)
	}
	if string(listed.sum.Sum(nil)) != string(x.done.sum.Sum(nil)) {
		return errXZIndex
	}
	if err := x.padding(size); err != nil {
		return err
	}
	sum.Write(make([]byte, -size&3))
	size += -size & 3
	var f [4 + xzHeaderSize]byte
	if _, err := io.ReadFull(x.in, f[:]); err != nil {
		return err
	}
	footer := f[4:]
	switch {
	case binary.LittleEndian.Uint32(f[:4]) != sum.Sum32(),
		string(footer[10:]) != xzFooterMagic,
		crc32.ChecksumIEEE(footer[4:10]) != binary.LittleEndian.Uint32(footer),
		[2]byte(footer[8:10]) != x.flags,
		(int64(binary.LittleEndian.Uint32(footer[4:]))+1)*4 != size+4:
		return errXZ
	}
	return nil
}

// maxNumber is the most bytes that a number has: 1.2.
const maxNumber = 9

// decodeNumber reads the number at the beginning of b, and returns how many bytes
// it has: 0 where it is none.
func decodeNumber(b []byte) (n uint64, used int) {
	for i, c := range b {
		if i == maxNumber || c == 0 && i > 0 {
			break
		}
		n |= uint64(c&0x7f) << (7 * i)
		if c < 0x80 {
			return n, i + 1
		}
	}
	return 0, 0
}

// noEOF makes an early end of the input an error of its own.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
