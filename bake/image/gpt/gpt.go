// Package gpt writes and reads GUID partition tables: protective MBR, primary
// and backup header and entries, for sectors of 512 bytes, which is what Compute
// Engine's disks and QEMU's have.
//
// It writes one table for a whole disk whose partitions are given; it does not
// change tables, choose places or know what a partition holds. It reads tables
// of up to 1024 entries, and only where their checksums agree.
//
// The format is chapter 5 of the UEFI Specification 2.10.
package gpt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/nodebake/bake/bake/image/extent"
	"github.com/nodebake/bake/bake/tree"
)

// Partition is one entry of a table. Start and Length are in bytes and
// multiples of [SectorSize].
type Partition struct {
	Number     int // from 1; Plan ignores it and numbers in the order given
	Type       GUID
	GUID       GUID
	Start      int64
	Length     int64
	Attributes uint64 // UEFI table 5.8; bits 48 to 63 belong to the type
	Name       string // at most 36 UTF-16 code units
}

// GrowFileSystem is the attribute of the Discoverable Partitions Specification
// by which a root partition asks that its filesystem be grown to the
// partition's size.
const GrowFileSystem = 1 << 59

// Plan lays out the table of a disk of size bytes: a list of that size whose
// only extents are the first [HeadSize] and the last [TailSize] bytes. The
// partitions must be sorted by Start and lie between the two.
func Plan(size int64, disk GUID, parts []Partition) (extent.List, error) {
	if err := check(size, disk, parts); err != nil {
		return extent.List{}, fmt.Errorf("planning the partition table: %w", err)
	}
	sectors := uint64(size / SectorSize)
	entries := encodeEntries(parts)
	h := header{
		Revision:       revision,
		HeaderSize:     headerSize,
		MyLBA:          1,
		AlternateLBA:   sectors - 1,
		FirstUsableLBA: firstUsableLBA,
		LastUsableLBA:  sectors - tailSectors - 1,
		DiskGUID:       disk.swapped(),
		EntryLBA:       2,
		NumEntries:     numEntries,
		EntrySize:      entrySize,
		EntriesCRC32:   crc32.ChecksumIEEE(entries),
	}
	copy(h.Signature[:], signature)

	head := make([]byte, HeadSize)
	copy(head, protectiveMBR(sectors))
	copy(head[SectorSize:], encodeHeader(h))
	copy(head[2*SectorSize:], entries)

	h.MyLBA, h.AlternateLBA = h.AlternateLBA, h.MyLBA
	h.EntryLBA = h.LastUsableLBA + 1
	tail := make([]byte, TailSize)
	copy(tail, entries)
	copy(tail[entryBytes:], encodeHeader(h))

	list := extent.List{Size: size}
	list.Append(0, HeadSize, tree.Bytes("partition table", head), 0)
	list.Append(size-TailSize, TailSize, tree.Bytes("backup partition table", tail), 0)
	return list, list.Check()
}

func check(size int64, disk GUID, parts []Partition) error {
	if size%SectorSize != 0 || size < HeadSize+TailSize+SectorSize {
		return fmt.Errorf("a disk of %d bytes (want a multiple of %d, at least %d)", size, SectorSize, HeadSize+TailSize+SectorSize)
	}
	if disk.IsZero() {
		return errors.New("the disk has no GUID")
	}
	if len(parts) > numEntries {
		return fmt.Errorf("%d partitions, the table holds %d", len(parts), numEntries)
	}
	end := int64(HeadSize)
	seen := map[GUID]int{}
	for i, p := range parts {
		n := i + 1
		switch {
		case p.Type.IsZero() || p.GUID.IsZero():
			return fmt.Errorf("partition %d (%s) has no type or no GUID", n, p.Name)
		case seen[p.GUID] != 0:
			return fmt.Errorf("partitions %d and %d have the same GUID %s", seen[p.GUID], n, p.GUID)
		case p.Start%SectorSize != 0 || p.Length%SectorSize != 0 || p.Length <= 0:
			return fmt.Errorf("partition %d (%s): start %d and length %d are not whole sectors", n, p.Name, p.Start, p.Length)
		case p.Start < end:
			return fmt.Errorf("partition %d (%s) starts at %d, what precedes it ends at %d", n, p.Name, p.Start, end)
		case p.Length > size-TailSize-p.Start:
			return fmt.Errorf("partition %d (%s) ends at %d, the backup table starts at %d", n, p.Name, p.Start+p.Length, size-TailSize)
		case !utf8.ValidString(p.Name) || len(utf16.Encode([]rune(p.Name))) > maxNameUnits:
			return fmt.Errorf("partition %d: name %q is not UTF-8 or longer than %d UTF-16 units", n, p.Name, maxNameUnits)
		}
		seen[p.GUID] = n
		end = p.Start + p.Length
	}
	return nil
}

func encodeEntries(parts []Partition) []byte {
	var buf bytes.Buffer
	for _, p := range parts {
		e := entry{
			Type:       p.Type.swapped(),
			GUID:       p.GUID.swapped(),
			FirstLBA:   uint64(p.Start / SectorSize),
			LastLBA:    uint64((p.Start+p.Length)/SectorSize - 1),
			Attributes: p.Attributes,
		}
		copy(e.Name[:], utf16.Encode([]rune(p.Name)))
		mustWrite(&buf, e)
	}
	buf.Write(make([]byte, entryBytes-buf.Len()))
	return buf.Bytes()
}

func encodeHeader(h header) []byte {
	h.HeaderCRC32 = 0
	h.HeaderCRC32 = crc32.ChecksumIEEE(rawHeader(h))
	return rawHeader(h)
}

func rawHeader(h header) []byte {
	var buf bytes.Buffer
	mustWrite(&buf, h)
	if buf.Len() != headerSize {
		panic(fmt.Sprintf("BUG: the header encodes to %d bytes, want %d", buf.Len(), headerSize))
	}
	return buf.Bytes()
}

// protectiveMBR is one partition of type 0xEE over the whole disk, so that
// tools that know no GPT take the disk for occupied.
func protectiveMBR(sectors uint64) []byte {
	e := mbrEntry{
		StartCHS: [3]byte{0x00, 0x02, 0x00}, // LBA 1, as table 5.4 wants it
		Type:     mbrTypeGPT,
		EndCHS:   [3]byte{0xff, 0xff, 0xff},
		StartLBA: 1,
		Sectors:  uint32(min(sectors-1, mbrMaxSectors)),
	}
	var buf bytes.Buffer
	buf.Write(make([]byte, mbrEntryOffset))
	mustWrite(&buf, e)
	buf.Write(make([]byte, mbrSignatureOff-buf.Len()))
	mustWrite(&buf, uint16(mbrSignature))
	return buf.Bytes()
}

// mustWrite encodes v, whose size is fixed, so that only a bug makes it fail.
func mustWrite(buf *bytes.Buffer, v any) {
	if err := binary.Write(buf, binary.LittleEndian, v); err != nil {
		panic("BUG: " + err.Error())
	}
}
