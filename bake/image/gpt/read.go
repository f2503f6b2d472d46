package gpt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"unicode/utf16"
)

// maxEntries bounds what a header can make the reader allocate: 128 KiB with
// entries of the usual size.
const maxEntries = 1024

// Table is what a disk's partition table says.
type Table struct {
	Disk        GUID
	FirstUsable int64 // bytes
	LastUsable  int64 // bytes; the first byte after the usable space
	Backup      int64 // bytes; where the backup header is
	Partitions  []Partition
}

// Lookup returns the partition with that GUID, or nil.
func (t *Table) Lookup(g GUID) *Partition {
	for i := range t.Partitions {
		if t.Partitions[i].GUID == g {
			return &t.Partitions[i]
		}
	}
	return nil
}

// Read reads the table of a disk of size bytes. It wants a protective MBR, both
// copies with right checksums, and equal content in both. The backup is sought
// where the primary header says, which is before the end of a disk that was
// made larger: compare Table.Backup with the size where that matters.
func Read(r io.ReaderAt, size int64) (*Table, error) {
	if err := readMBR(r); err != nil {
		return nil, fmt.Errorf("reading the protective MBR: %w", err)
	}
	primary, alternate, err := readCopy(r, size, 1)
	if err != nil {
		return nil, fmt.Errorf("reading the primary partition table: %w", err)
	}
	backup, back, err := readCopy(r, size, alternate)
	if err != nil {
		return nil, fmt.Errorf("reading the backup partition table at sector %d: %w", alternate, err)
	}
	if back != 1 {
		return nil, fmt.Errorf("the backup partition table names sector %d as the primary, want 1", back)
	}
	if err := primary.differs(backup); err != nil {
		return nil, err
	}
	primary.Backup = int64(alternate) * SectorSize
	return primary, nil
}

// ReadAny reads whichever copy has right checksums: the primary, or else the
// one in the last sector. It serves a machine that must boot while a table is
// being rewritten.
func ReadAny(r io.ReaderAt, size int64) (*Table, error) {
	t, alternate, err := readCopy(r, size, 1)
	if err == nil {
		t.Backup = int64(min(alternate, uint64(size/SectorSize))) * SectorSize
		return t, nil
	}
	last := uint64(max(size/SectorSize, 1) - 1)
	t, _, err2 := readCopy(r, size, last)
	if err2 != nil {
		return nil, fmt.Errorf("primary partition table: %w; backup: %w", err, err2)
	}
	t.Backup = int64(last) * SectorSize
	return t, nil
}

func readMBR(r io.ReaderAt) error {
	sector, err := readAt(r, 0, SectorSize)
	if err != nil {
		return err
	}
	if got := binary.LittleEndian.Uint16(sector[mbrSignatureOff:]); got != mbrSignature {
		return fmt.Errorf("signature %#04x, want %#04x", got, mbrSignature)
	}
	var e mbrEntry
	if _, err := binary.Decode(sector[mbrEntryOffset:], binary.LittleEndian, &e); err != nil {
		return err
	}
	if e.Type != mbrTypeGPT || e.StartLBA != 1 {
		return fmt.Errorf("its first partition has type %#02x and starts at sector %d, want %#02x and 1", e.Type, e.StartLBA, mbrTypeGPT)
	}
	return nil
}

// readCopy reads one header and its entries, and returns the table and the
// sector that the header names as that of the other copy.
func readCopy(r io.ReaderAt, size int64, lba uint64) (*Table, uint64, error) {
	sectors := uint64(size / SectorSize)
	if lba >= sectors {
		return nil, 0, fmt.Errorf("sector %d is outside of the disk's %d", lba, sectors)
	}
	sector, err := readAt(r, int64(lba)*SectorSize, SectorSize)
	if err != nil {
		return nil, 0, err
	}
	var h header
	if _, err := binary.Decode(sector, binary.LittleEndian, &h); err != nil {
		return nil, 0, err
	}
	if err := h.check(sector, lba, sectors); err != nil {
		return nil, 0, err
	}
	raw, err := readAt(r, int64(h.EntryLBA)*SectorSize, int(h.NumEntries*h.EntrySize))
	if err != nil {
		return nil, 0, fmt.Errorf("entries: %w", err)
	}
	if got := crc32.ChecksumIEEE(raw); got != h.EntriesCRC32 {
		return nil, 0, fmt.Errorf("the entries have checksum %08x, the header says %08x", got, h.EntriesCRC32)
	}
	t := &Table{
		Disk:        FromDisk(h.DiskGUID),
		FirstUsable: int64(h.FirstUsableLBA) * SectorSize,
		LastUsable:  int64(h.LastUsableLBA+1) * SectorSize,
	}
	for i := range int(h.NumEntries) {
		p, err := decodeEntry(raw[i*int(h.EntrySize):], h)
		if err != nil {
			return nil, 0, fmt.Errorf("partition %d: %w", i+1, err)
		}
		if !p.Type.IsZero() {
			p.Number = i + 1
			t.Partitions = append(t.Partitions, p)
		}
	}
	return t, h.AlternateLBA, nil
}

func (h *header) check(sector []byte, lba, sectors uint64) error {
	switch {
	case string(h.Signature[:]) != signature:
		return fmt.Errorf("no partition table header (signature %q)", h.Signature)
	case h.HeaderSize < headerSize || h.HeaderSize > SectorSize:
		return fmt.Errorf("header of %d bytes", h.HeaderSize)
	}
	raw := bytes.Clone(sector[:h.HeaderSize])
	clear(raw[16:20]) // HeaderCRC32
	if got := crc32.ChecksumIEEE(raw); got != h.HeaderCRC32 {
		return fmt.Errorf("the header has checksum %08x, says %08x", got, h.HeaderCRC32)
	}
	switch {
	case h.Revision != revision:
		return fmt.Errorf("header revision %#08x, want %#08x", h.Revision, revision)
	case h.MyLBA != lba:
		return fmt.Errorf("the header at sector %d says that it is at %d", lba, h.MyLBA)
	case h.EntrySize < entrySize || h.EntrySize > 8*entrySize || h.EntrySize%entrySize != 0:
		return fmt.Errorf("entries of %d bytes", h.EntrySize)
	case h.NumEntries > maxEntries:
		return fmt.Errorf("%d entries, more than %d", h.NumEntries, maxEntries)
	case h.EntryLBA < 2 || h.EntryLBA >= sectors:
		return fmt.Errorf("entries at sector %d of %d", h.EntryLBA, sectors)
	case h.FirstUsableLBA > h.LastUsableLBA || h.LastUsableLBA >= sectors:
		return fmt.Errorf("usable sectors %d to %d of %d", h.FirstUsableLBA, h.LastUsableLBA, sectors)
	}
	return nil
}

func decodeEntry(raw []byte, h header) (Partition, error) {
	var e entry
	if _, err := binary.Decode(raw, binary.LittleEndian, &e); err != nil {
		return Partition{}, err
	}
	p := Partition{Type: FromDisk(e.Type), GUID: FromDisk(e.GUID), Attributes: e.Attributes}
	if p.Type.IsZero() {
		return p, nil
	}
	if e.FirstLBA < h.FirstUsableLBA || e.LastLBA > h.LastUsableLBA || e.FirstLBA > e.LastLBA {
		return p, fmt.Errorf("sectors %d to %d, usable are %d to %d", e.FirstLBA, e.LastLBA, h.FirstUsableLBA, h.LastUsableLBA)
	}
	p.Start = int64(e.FirstLBA) * SectorSize
	p.Length = int64(e.LastLBA-e.FirstLBA+1) * SectorSize
	name := e.Name[:]
	for i, u := range name {
		if u == 0 {
			name = name[:i]
			break
		}
	}
	p.Name = string(utf16.Decode(name))
	return p, nil
}

func (t *Table) differs(o *Table) error {
	if t.Disk != o.Disk || t.FirstUsable != o.FirstUsable || t.LastUsable != o.LastUsable || len(t.Partitions) != len(o.Partitions) {
		return errors.New("the primary and the backup partition table differ")
	}
	for i := range t.Partitions {
		if t.Partitions[i] != o.Partitions[i] {
			return fmt.Errorf("the primary and the backup partition table differ in partition %d", t.Partitions[i].Number)
		}
	}
	return nil
}

// readAt reads n bytes; a disk that ends before is an error.
func readAt(r io.ReaderAt, off int64, n int) ([]byte, error) {
	buf := make([]byte, n)
	if got, err := r.ReadAt(buf, off); got < n {
		if err == nil || err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("reading %d bytes at %d: %w", n, off, err)
	}
	return buf, nil
}
