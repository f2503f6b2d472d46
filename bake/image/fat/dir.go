package fat

import (
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/nodebake/bake/bake/tree"
)

// named is a directory's child with the records that name it.
type named struct {
	entry *tree.Entry
	short shortName
	long  []longEntry // none where short says it all
}

// nameEntries gives the children of one directory their 8.3 names: first to
// those that have one by right, then to the others in the tree's order, so that
// the set of names alone decides.
func nameEntries(children []*tree.Entry) ([]named, error) {
	taken := map[shortName]bool{}
	folded := map[string]string{} // upper case -> path, to find names that differ in case only
	result := make([]named, len(children))
	for i, e := range children {
		name := path.Base(e.Path)
		if err := checkName(name); err != nil {
			return nil, fmt.Errorf("%s: %w", e.Path, err)
		}
		if other, ok := folded[strings.ToUpper(name)]; ok {
			return nil, fmt.Errorf("%s: FAT does not tell it from %s", e.Path, other)
		}
		folded[strings.ToUpper(name)] = e.Path
		result[i].entry = e
		if short, ok := exactShort(name); ok {
			result[i].short = short
			taken[short] = true
		} else if short, ok := exactShort(strings.ToUpper(name)); ok {
			// Looked up without regard to case, this name must not find
			// another file by its alias.
			taken[short] = true
		}
	}
	for i := range result {
		n := &result[i]
		if n.short != (shortName{}) {
			continue
		}
		name := path.Base(n.entry.Path)
		short, err := alias(name, taken)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", n.entry.Path, err)
		}
		taken[short] = true
		n.short, n.long = short, longRecords(name, short)
	}
	return result, nil
}

// dirRecords counts the records of a directory.
func (v *volume) dirRecords(dir string, children []named) int {
	n := 2 // "." and ".."
	if dir == "." {
		n = 0
		if v.label != (shortName{}) {
			n = 1
		}
	}
	for _, c := range children {
		n += len(c.long) + 1
	}
	return n
}

// encodeDir returns a directory's records, padded to whole clusters.
func (v *volume) encodeDir(dir string, children []named, start map[string]uint32) []byte {
	var data []byte
	put := func(e dirEntry) { data = append(data, encode(e, entrySize)...) }
	if dir == "." {
		if v.label != (shortName{}) {
			put(v.record(v.label, attrVolumeID, 0, 0, 0))
		}
	} else {
		// A child of the root says that its parent is at cluster 0.
		parent := start[path.Dir(dir)]
		if parent == rootCluster {
			parent = 0
		}
		put(v.record(makeShort(".", ""), attrDir, start[dir], 0, 0))
		put(v.record(makeShort("..", ""), attrDir, parent, 0, 0))
	}
	for _, c := range children {
		for _, l := range c.long {
			data = append(data, encode(l, entrySize)...)
		}
		attr := uint8(attrArchive)
		if c.entry.Type == tree.Dir {
			attr = attrDir
		}
		put(v.record(c.short, attr, start[c.entry.Path], uint32(c.entry.Size), c.entry.MTime))
	}
	if len(data) != v.dirRecords(dir, children)*entrySize {
		panic(fmt.Sprintf("BUG: directory %s has %d bytes, want %d records", dir, len(data), v.dirRecords(dir, children)))
	}
	whole := max(1, (int64(len(data))+v.clusterBytes()-1)/v.clusterBytes()) * v.clusterBytes()
	return append(data, make([]byte, whole-int64(len(data)))...)
}

// record makes a short record. mtime is in seconds since 1970; 0 is the epoch
// of the volume.
func (v *volume) record(name shortName, attr uint8, cluster, size uint32, mtime int64) dirEntry {
	if name[0] == deletedMark {
		name[0] = kanjiE5
	}
	date, clock, tenth := v.timestamp(mtime)
	return dirEntry{
		Name: name, Attr: attr,
		CreateTenth: tenth, CreateTime: clock, CreateDate: date, AccessDate: date,
		WriteTime: clock, WriteDate: date,
		ClusterHigh: uint16(cluster >> 16), ClusterLow: uint16(cluster), Size: size,
	}
}

// timestamp encodes a time in UTC (fatgen103, "Date and Time Formats"). FAT
// starts in 1980: earlier times become its first second, later ones than 2107
// its last.
func (v *volume) timestamp(mtime int64) (date, clock uint16, tenth uint8) {
	t := v.Epoch.UTC()
	if mtime != 0 {
		t = time.Unix(mtime, 0).UTC()
	}
	if t.Year() < 1980 {
		t = time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	if t.Year() > 2107 {
		t = time.Date(2107, 12, 31, 23, 59, 59, 0, time.UTC)
	}
	date = uint16((t.Year()-1980)<<9 | int(t.Month())<<5 | t.Day())
	clock = uint16(t.Hour()<<11 | t.Minute()<<5 | t.Second()/2)
	return date, clock, uint8(t.Second() % 2 * 100)
}

// fromTimestamp reverses timestamp, without the odd second.
func fromTimestamp(date, clock uint16) time.Time {
	return time.Date(1980+int(date>>9), time.Month(date>>5&15), int(date&31),
		int(clock>>11), int(clock>>5&63), int(clock&31)*2, 0, time.UTC)
}
