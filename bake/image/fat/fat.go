// Package fat creates and reads FAT32 filesystems: it plans the EFI system
// partition of an image and reads the one of a finished image.
//
// A plan is made without reading content. Directories come first, then the
// files in the order of the tree, each in one run of clusters, so that equal
// trees give equal volumes and a file is one extent.
//
// It creates volumes once and never changes them. FAT knows neither owners nor
// permissions, links or device nodes: owners and permissions of the tree are
// dropped, anything but directories and files is an error. Names that differ in
// case only are an error too. FAT12 and FAT16 are not supported: a volume has at
// least 65525 clusters, which takes 33 MiB.
package fat

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/nodebake/bake/bake/image/extent"
	"github.com/nodebake/bake/bake/tree"
)

// Options says what a volume is like beside its files.
type Options struct {
	Size          int64     // bytes; a multiple of 512
	HiddenSectors uint32    // sectors before the volume on its disk
	VolumeID      uint32    // serial number
	Label         string    // up to 11 of A-Z, 0-9, space, - and _; "" for none
	Epoch         time.Time // of entries without a time, and of the label; 1980 or later
}

// Plan lays out a volume of o.Size bytes with the files of t.
func Plan(t *tree.Tree, o Options) (extent.List, error) {
	v, err := newVolume(o)
	if err != nil {
		return extent.List{}, fmt.Errorf("planning a FAT32 volume: %w", err)
	}
	if err := v.addTree(t); err != nil {
		return extent.List{}, fmt.Errorf("planning a FAT32 volume: %w", err)
	}
	list := v.list()
	return list, list.Check()
}

// volume is a plan under way.
type volume struct {
	Options
	geometry
	label shortName // zero where there is no label

	table []uint32 // the used part of the FAT
	dirs  []byte   // content of the directories' clusters, from rootCluster on
	files []placed
}

// placed is a file's content and the cluster at which it starts.
type placed struct {
	entry   *tree.Entry
	cluster uint32
}

// geometry is where the parts of a volume are.
type geometry struct {
	sectors    uint32 // of the volume
	perCluster uint32 // sectors
	reserved   uint32 // sectors before the first FAT
	fatSectors uint32 // of one FAT
	clusters   uint32 // of the data area
}

func (g geometry) clusterBytes() int64 { return int64(g.perCluster) * sectorSize }
func (g geometry) dataStart() int64 {
	return (int64(g.reserved) + numFATs*int64(g.fatSectors)) * sectorSize
}
func (g geometry) offset(cluster uint32) int64 {
	return g.dataStart() + int64(cluster-rootCluster)*g.clusterBytes()
}

// newGeometry takes the largest cluster up to 4 KiB that still gives FAT32
// its least number of clusters: 4 KiB is the page and block size of everything
// else in an image, and larger ones waste more than they save on a few dozen
// files.
func newGeometry(size int64) (geometry, error) {
	if size%sectorSize != 0 || size < 0 || size/sectorSize > 0xffffffff {
		return geometry{}, fmt.Errorf("%d bytes are not a size for it (want a multiple of %d, less than 2 TiB)", size, sectorSize)
	}
	for perCluster := uint32(8); perCluster >= 1; perCluster /= 2 {
		g := fitGeometry(uint32(size/sectorSize), perCluster)
		if g.clusters >= minClusters && g.clusters <= maxClusters {
			return g, nil
		}
	}
	return geometry{}, fmt.Errorf("%d bytes hold fewer than the %d clusters that FAT32 needs, or too many", size, minClusters)
}

func fitGeometry(sectors, perCluster uint32) geometry {
	g := geometry{sectors: sectors, perCluster: perCluster}
	// One FAT entry of 4 bytes per cluster and two more; counting the FATs'
	// own sectors as data makes them at most a sector too long.
	most := uint64(sectors) / uint64(perCluster)
	g.fatSectors = uint32(((most+rootCluster)*4 + sectorSize - 1) / sectorSize)
	// The data area starts at a multiple of 4 KiB, as the partition does.
	start := minReserved + numFATs*g.fatSectors
	g.reserved = minReserved + (8-start%8)%8
	if start = g.reserved + numFATs*g.fatSectors; start < sectors {
		g.clusters = (sectors - start) / perCluster
	}
	return g
}

func newVolume(o Options) (*volume, error) {
	g, err := newGeometry(o.Size)
	if err != nil {
		return nil, err
	}
	if y := o.Epoch.UTC().Year(); y < 1980 || y > 2107 {
		return nil, fmt.Errorf("the epoch %s is not between 1980 and 2107", o.Epoch.UTC().Format(time.RFC3339))
	}
	v := &volume{Options: o, geometry: g}
	if o.Label != "" {
		for _, r := range o.Label {
			if !(r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == ' ' || r == '-' || r == '_') {
				return nil, fmt.Errorf("label %q has other characters than A-Z, 0-9, space, - and _", o.Label)
			}
		}
		if len(o.Label) > len(v.label) || strings.TrimSpace(o.Label) != o.Label {
			return nil, fmt.Errorf("label %q is longer than %d bytes, or starts or ends with a space", o.Label, len(v.label))
		}
		v.label = makeShort(o.Label, "")
		copy(v.label[:], o.Label)
	}
	return v, nil
}

// addTree gives every file and directory its clusters.
func (v *volume) addTree(t *tree.Tree) error {
	children := map[string][]*tree.Entry{}
	order := []string{"."} // directories, as the tree has them
	for i := range t.Entries {
		e := &t.Entries[i]
		if e.Path == "." {
			continue
		}
		if e.Type != tree.Dir && e.Type != tree.File {
			return fmt.Errorf("%s: FAT cannot hold a %s", e.Path, e.Type)
		}
		if e.Size > maxFileSize {
			return fmt.Errorf("%s: %d bytes, FAT32 holds files of up to %d", e.Path, e.Size, int64(maxFileSize))
		}
		children[path.Dir(e.Path)] = append(children[path.Dir(e.Path)], e)
		if e.Type == tree.Dir {
			order = append(order, e.Path)
		}
	}

	v.table = []uint32{0x0fffff00 | mediaFixed, endOfChain}
	start := map[string]uint32{}
	named := map[string][]named{}
	for _, dir := range order {
		n, err := nameEntries(children[dir])
		if err != nil {
			return err
		}
		named[dir] = n
		size := v.dirRecords(dir, n) * entrySize
		if size > maxDirBytes {
			return fmt.Errorf("%s: directory of %d bytes, FAT32 allows %d", dir, size, maxDirBytes)
		}
		if start[dir], err = v.allocate(int64(size)); err != nil {
			return fmt.Errorf("%s: %w", dir, err)
		}
	}
	for i := range t.Entries {
		e := &t.Entries[i]
		if e.Type != tree.File || e.Size == 0 {
			continue // an empty file has cluster 0, which start gives
		}
		cluster, err := v.allocate(e.Size)
		if err != nil {
			return fmt.Errorf("%s: %w", e.Path, err)
		}
		start[e.Path] = cluster
		v.files = append(v.files, placed{e, cluster})
	}
	for _, dir := range order {
		v.dirs = append(v.dirs, v.encodeDir(dir, named[dir], start)...)
	}
	return nil
}

// allocate takes the next free clusters for size bytes, at least one.
func (v *volume) allocate(size int64) (uint32, error) {
	n := max(1, (size+v.clusterBytes()-1)/v.clusterBytes())
	first := int64(len(v.table))
	if first-rootCluster+n > int64(v.clusters) {
		return 0, fmt.Errorf("the volume is full: %d bytes more do not fit into its %d clusters of %d bytes", size, v.clusters, v.clusterBytes())
	}
	for i := range n - 1 {
		v.table = append(v.table, uint32(first+i+1))
	}
	v.table = append(v.table, endOfChain)
	return uint32(first), nil
}

// list puts the parts together.
func (v *volume) list() extent.List {
	l := extent.List{Size: v.Size}
	boot := v.encodeBoot()
	l.Append(0, int64(len(boot)), tree.Bytes("FAT32 boot sectors", boot), 0)

	// Both FATs are the same bytes; what lies behind the used part is free,
	// which is zero.
	table := make([]byte, 0, len(v.table)*4)
	for _, next := range v.table {
		table = binary.LittleEndian.AppendUint32(table, next)
	}
	fat := tree.Bytes("FAT32 allocation table", table)
	for i := range int64(numFATs) {
		l.Append((int64(v.reserved)+i*int64(v.fatSectors))*sectorSize, fat.Size, fat, 0)
	}
	l.Append(v.offset(rootCluster), int64(len(v.dirs)), tree.Bytes("FAT32 directories", v.dirs), 0)
	for _, f := range v.files {
		l.Append(v.offset(f.cluster), f.entry.Size, f.entry.Blob, f.entry.Offset)
	}
	return l
}

// encodeBoot returns the boot sector, FSInfo and their backups.
func (v *volume) encodeBoot() []byte {
	b := bootSector{
		Jump:              [3]byte{0xeb, 0x58, 0x90}, // over the parameter block
		BytesPerSector:    sectorSize,
		SectorsPerCluster: uint8(v.perCluster),
		ReservedSectors:   uint16(v.reserved),
		NumFATs:           numFATs,
		Media:             mediaFixed,
		SectorsPerTrack:   63,
		Heads:             255,
		HiddenSectors:     v.HiddenSectors,
		TotalSectors32:    v.sectors,
		FATSize32:         v.fatSectors,
		RootCluster:       rootCluster,
		FSInfo:            fsInfoSector,
		BackupBoot:        backupSector,
		DriveNumber:       0x80,
		BootSig:           extBootSig,
		VolumeID:          v.VolumeID,
		Signature:         bootSignature,
	}
	copy(b.OEMName[:], "BAKE    ")
	copy(b.Type[:], "FAT32   ")
	copy(b.Label[:], "NO NAME    ")
	if v.label != (shortName{}) {
		b.Label = v.label
	}
	// The disk is not for BIOSes; one that tries gets "jmp $" instead of noise.
	copy(b.Code[:], []byte{0xeb, 0xfe})

	used := uint32(len(v.table)) - rootCluster
	info := fsInfo{
		LeadSig:     fsInfoLead,
		StructSig:   fsInfoStruct,
		Free:        v.clusters - used,
		NextFree:    uint32(len(v.table)),
		TrailSigLow: fsInfoTrail,
	}
	if info.Free == 0 {
		info.NextFree = 0xffffffff // unknown
	}
	pair := append(encode(b, sectorSize), encode(info, sectorSize)...)
	// fatgen103 puts a third boot sector, empty but for its signature, behind.
	third := make([]byte, sectorSize)
	binary.LittleEndian.PutUint16(third[sectorSize-2:], bootSignature)
	pair = append(pair, third...)

	all := make([]byte, backupSector*sectorSize+len(pair))
	copy(all, pair)
	copy(all[backupSector*sectorSize:], pair)
	return all
}

// encode writes a structure of fixed size.
func encode(v any, size int) []byte {
	var buf bytes.Buffer
	if err := binary.Write(&buf, binary.LittleEndian, v); err != nil || buf.Len() != size {
		panic(fmt.Sprintf("BUG: %T encodes to %d bytes, want %d: %v", v, buf.Len(), size, err))
	}
	return buf.Bytes()
}
