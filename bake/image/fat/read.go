package fat

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"time"
	"unicode/utf16"
)

// Limits of the reader, far above what an EFI system partition has.
const (
	maxEntriesRead = 65536
	maxDepthRead   = 32
	maxDirsRead    = 64 << 20 // bytes of all directories together
)

// Volume is an opened FAT32 filesystem.
type Volume struct {
	Label    string
	VolumeID uint32
	Size     int64 // bytes
	Free     int64 // bytes, as FSInfo says

	r    io.ReaderAt
	geo  geometry
	root *node
}

// node is a file or directory that Open found.
type node struct {
	name     string
	short    string
	dir      bool
	size     int64
	cluster  uint32
	modTime  time.Time
	children []*node // sorted by name
}

// Open reads the boot sector and all directories of the volume that starts at
// the beginning of r and has at most size bytes. It refuses volumes that are not
// FAT32, have sectors of another size than 512, or name more than 65536 files.
// It checks what it follows, not everything that fsck.vfat does.
func Open(r io.ReaderAt, size int64) (*Volume, error) {
	v, err := open(r, size)
	if err != nil {
		return nil, fmt.Errorf("reading a FAT32 volume: %w", err)
	}
	return v, nil
}

func open(r io.ReaderAt, size int64) (*Volume, error) {
	var b bootSector
	if err := readStruct(r, 0, &b, sectorSize); err != nil {
		return nil, fmt.Errorf("boot sector: %w", err)
	}
	geo, err := b.geometry(size)
	if err != nil {
		return nil, fmt.Errorf("boot sector: %w", err)
	}
	v := &Volume{VolumeID: b.VolumeID, Size: int64(geo.sectors) * sectorSize, r: r, geo: geo}
	var info fsInfo
	if err := readStruct(r, int64(b.FSInfo)*sectorSize, &info, sectorSize); err != nil {
		return nil, fmt.Errorf("FSInfo: %w", err)
	}
	if info.LeadSig != fsInfoLead || info.StructSig != fsInfoStruct || info.TrailSigLow != fsInfoTrail {
		return nil, errors.New("FSInfo has wrong signatures")
	}
	if info.Free > geo.clusters {
		return nil, fmt.Errorf("FSInfo counts %d free clusters of %d", info.Free, geo.clusters)
	}
	v.Free = int64(info.Free) * geo.clusterBytes()

	v.root = &node{name: ".", dir: true, cluster: b.RootCluster}
	w := walker{v: v, seen: map[uint32]bool{}}
	if err := w.directory(v.root, 0); err != nil {
		return nil, err
	}
	return v, nil
}

// geometry checks what the boot sector says.
func (b *bootSector) geometry(size int64) (geometry, error) {
	g := geometry{
		sectors: b.TotalSectors32, perCluster: uint32(b.SectorsPerCluster),
		reserved: uint32(b.ReservedSectors), fatSectors: b.FATSize32,
	}
	switch {
	case b.Signature != bootSignature:
		return g, fmt.Errorf("signature %#04x, want %#04x", b.Signature, bootSignature)
	case b.BytesPerSector != sectorSize:
		return g, fmt.Errorf("sectors of %d bytes, only %d are supported", b.BytesPerSector, sectorSize)
	case b.FATSize16 != 0 || b.RootEntries != 0 || b.TotalSectors16 != 0:
		return g, errors.New("the volume is FAT12 or FAT16, only FAT32 is supported")
	case g.perCluster == 0 || g.perCluster&(g.perCluster-1) != 0:
		return g, fmt.Errorf("%d sectors in a cluster", g.perCluster)
	case b.NumFATs != numFATs || b.Version != 0:
		return g, fmt.Errorf("%d allocation tables, version %d; want %d and 0", b.NumFATs, b.Version, numFATs)
	case int64(g.sectors)*sectorSize > size:
		return g, fmt.Errorf("%d sectors do not fit into %d bytes", g.sectors, size)
	case g.reserved <= fsInfoSector || b.FSInfo == 0 || uint32(b.FSInfo) >= g.reserved:
		return g, fmt.Errorf("FSInfo in sector %d of %d reserved ones", b.FSInfo, g.reserved)
	case g.dataStart() >= int64(g.sectors)*sectorSize:
		return g, errors.New("the allocation tables leave no room for data")
	}
	g.clusters = uint32((int64(g.sectors)*sectorSize - g.dataStart()) / g.clusterBytes())
	switch {
	case g.clusters < minClusters || g.clusters > maxClusters:
		return g, fmt.Errorf("%d clusters, FAT32 has from %d to %d", g.clusters, minClusters, maxClusters)
	case (int64(g.clusters)+rootCluster)*4 > int64(g.fatSectors)*sectorSize:
		return g, fmt.Errorf("allocation tables of %d sectors are too short for %d clusters", g.fatSectors, g.clusters)
	}
	return g, nil
}

// walker reads directories and notices those that contain themselves.
type walker struct {
	v     *Volume
	seen  map[uint32]bool // first clusters of directories
	count int
	bytes int64 // of directories read
}

func (w *walker) directory(dir *node, depth int) error {
	if depth > maxDepthRead {
		return fmt.Errorf("%s: directories are nested more than %d deep", dir.name, maxDepthRead)
	}
	if w.seen[dir.cluster] {
		return fmt.Errorf("%s: its cluster %d already belongs to another directory", dir.name, dir.cluster)
	}
	w.seen[dir.cluster] = true
	runs, err := w.v.chain(dir.cluster, maxDirBytes/w.v.geo.clusterBytes()+1)
	if err != nil {
		return fmt.Errorf("%s: %w", dir.name, err)
	}
	for _, r := range runs {
		w.bytes += int64(r.count) * w.v.geo.clusterBytes()
	}
	if w.bytes > maxDirsRead {
		return fmt.Errorf("the volume's directories have more than %d bytes", maxDirsRead)
	}
	data, err := io.ReadAll(w.v.content(runs, -1))
	if err != nil {
		return fmt.Errorf("%s: %w", dir.name, err)
	}
	if err := w.records(dir, data); err != nil {
		return fmt.Errorf("%s: %w", dir.name, err)
	}
	slices.SortFunc(dir.children, func(a, b *node) int { return strings.Compare(a.name, b.name) })
	for i, c := range dir.children {
		if i > 0 && dir.children[i-1].name == c.name {
			return fmt.Errorf("%s: holds %q twice", dir.name, c.name)
		}
		if c.dir {
			if err := w.directory(c, depth+1); err != nil {
				return fmt.Errorf("%s/%w", dir.name, err)
			}
		}
	}
	return nil
}

// records decodes the content of a directory into its children.
func (w *walker) records(dir *node, data []byte) error {
	var long longName
	for ; len(data) >= entrySize; data = data[entrySize:] {
		if data[0] == 0 {
			return nil // and nothing after it
		}
		var e dirEntry
		if _, err := binary.Decode(data, binary.LittleEndian, &e); err != nil {
			return err
		}
		switch {
		case data[0] == deletedMark:
			long = longName{}
			continue
		case e.Attr&attrLongMask == attrLong:
			if err := long.add(data[:entrySize]); err != nil {
				return err
			}
			continue
		case e.Attr&attrVolumeID != 0:
			if dir == w.v.root {
				w.v.Label = strings.TrimRight(string(e.Name[:]), " ")
			}
			long = longName{}
			continue
		}
		if e.Name[0] == kanjiE5 {
			e.Name[0] = deletedMark
		}
		short := shortName(e.Name)
		if short == makeShort(".", "") || short == makeShort("..", "") {
			long = longName{}
			continue
		}
		n := &node{
			name: short.inCase(e.NTRes), short: short.String(),
			dir: e.Attr&attrDir != 0, size: int64(e.Size),
			cluster: uint32(e.ClusterHigh)<<16 | uint32(e.ClusterLow),
			modTime: fromTimestamp(e.WriteDate, e.WriteTime),
		}
		if name, ok := long.take(short); ok {
			n.name = name
		}
		if !fs.ValidPath(n.name) || strings.Contains(n.name, "/") || n.name == "." {
			return fmt.Errorf("a file is called %q", n.name)
		}
		if w.count++; w.count > maxEntriesRead {
			return fmt.Errorf("the volume names more than %d files", maxEntriesRead)
		}
		dir.children = append(dir.children, n)
	}
	return nil
}

// longName collects the long records that precede a short one.
type longName struct {
	units    []uint16 // in order of the name; filled from its end
	next     int      // order of the record that must come next; 0: none
	checksum uint8
}

func (l *longName) add(raw []byte) error {
	var e longEntry
	if _, err := binary.Decode(raw, binary.LittleEndian, &e); err != nil {
		return err
	}
	order := int(e.Order &^ lastLong)
	if e.Order&lastLong != 0 {
		if order == 0 || order > (nameUnits+unitsPerRecord-1)/unitsPerRecord {
			return fmt.Errorf("a long name of %d records", order)
		}
		*l = longName{units: make([]uint16, order*unitsPerRecord), next: order, checksum: e.Checksum}
	}
	if order == 0 || order != l.next || e.Checksum != l.checksum {
		return errors.New("the records of a long name are out of order")
	}
	at := l.units[(order-1)*unitsPerRecord:]
	copy(at[0:], e.Name1[:])
	copy(at[5:], e.Name2[:])
	copy(at[11:], e.Name3[:])
	l.next--
	return nil
}

// take returns the name if it is whole and belongs to short, and starts again.
func (l *longName) take(short shortName) (string, bool) {
	units, whole := l.units, l.next == 0 && l.units != nil && l.checksum == short.checksum()
	*l = longName{}
	if !whole {
		return "", false
	}
	if end := slices.Index(units, 0); end >= 0 {
		units = units[:end]
	}
	return string(utf16.Decode(units)), true
}

// run is a row of clusters.
type run struct{ first, count uint32 }

// chain follows the allocation table from a cluster, for at most limit
// clusters.
func (v *Volume) chain(cluster uint32, limit int64) ([]run, error) {
	var runs []run
	// Read the table in pieces: a chain mostly goes on where it is.
	var piece [4096]byte
	pieceAt := int64(-1)
	for n := int64(0); cluster < endOfChainMin; n++ {
		if cluster < rootCluster || cluster-rootCluster >= v.geo.clusters {
			return nil, fmt.Errorf("cluster %d is outside of the volume", cluster)
		}
		if n >= limit {
			return nil, fmt.Errorf("the chain of clusters is longer than %d", limit)
		}
		if last := len(runs) - 1; last >= 0 && runs[last].first+runs[last].count == cluster {
			runs[last].count++
		} else {
			runs = append(runs, run{cluster, 1})
		}
		at := int64(cluster) * 4
		if at/int64(len(piece)) != pieceAt {
			pieceAt = at / int64(len(piece))
			size := min(int64(len(piece)), int64(v.geo.fatSectors)*sectorSize-pieceAt*int64(len(piece)))
			if err := readFull(v.r, piece[:size], int64(v.geo.reserved)*sectorSize+pieceAt*int64(len(piece))); err != nil {
				return nil, fmt.Errorf("allocation table: %w", err)
			}
		}
		cluster = binary.LittleEndian.Uint32(piece[at%int64(len(piece)):]) & entryMask
	}
	return runs, nil
}

// content reads runs, up to size bytes; all where size is negative.
func (v *Volume) content(runs []run, size int64) io.Reader {
	var readers []io.Reader
	var total int64
	for _, r := range runs {
		n := int64(r.count) * v.geo.clusterBytes()
		readers = append(readers, io.NewSectionReader(v.r, v.geo.offset(r.first), n))
		total += n
	}
	if size < 0 {
		size = total
	}
	return io.LimitReader(io.MultiReader(readers...), size)
}

func readStruct(r io.ReaderAt, off int64, v any, size int) error {
	buf := make([]byte, size)
	if err := readFull(r, buf, off); err != nil {
		return err
	}
	_, err := binary.Decode(buf, binary.LittleEndian, v)
	return err
}

func readFull(r io.ReaderAt, buf []byte, off int64) error {
	if n, err := r.ReadAt(buf, off); n < len(buf) {
		if err == nil || err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return fmt.Errorf("reading %d bytes at %d: %w", len(buf), off, err)
	}
	return nil
}
