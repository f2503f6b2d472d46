package fat

import "fmt"

// Place says what a byte of a volume belongs to.
type Place struct {
	Path    string // of the file or directory that it is of; "" where it is none's
	Content bool   // it is content of the file at Path, at Offset, or behind its end in its last cluster
	Offset  int64  // in the file's content
	What    string // "content", "directory", "boot sectors", "allocation table 1", "free space"
}

// Locate says what the byte at offset belongs to.
func (v *Volume) Locate(offset int64) (Place, error) {
	tables := int64(v.geo.reserved) * sectorSize
	switch {
	case offset < 0 || offset >= v.Size:
		return Place{What: "behind the volume"}, nil
	case offset < tables:
		return Place{What: "boot sectors"}, nil
	case offset < v.geo.dataStart():
		return Place{What: fmt.Sprintf("allocation table %d", 1+(offset-tables)/(int64(v.geo.fatSectors)*sectorSize))}, nil
	}
	p, err := v.locate(v.root, ".", uint32((offset-v.geo.dataStart())/v.geo.clusterBytes())+rootCluster)
	if err != nil || p.What == "" {
		return Place{What: "free space"}, err
	}
	if p.Content {
		p.Offset += (offset - v.geo.dataStart()) % v.geo.clusterBytes()
		n, err := v.lookup("locate", p.Path)
		if err != nil {
			return Place{}, err
		}
		if p.Offset >= n.size {
			p.What = "behind the end of the content"
		}
	}
	return p, nil
}

// locate finds what owns a cluster in n or below it. Offset of what it returns
// is that of the cluster.
func (v *Volume) locate(n *node, path string, cluster uint32) (Place, error) {
	if n.dir || n.size > 0 {
		// A directory has no size of its own.
		limit := int64(maxDirBytes)/v.geo.clusterBytes() + 1
		if !n.dir {
			limit = (n.size + v.geo.clusterBytes() - 1) / v.geo.clusterBytes()
		}
		runs, err := v.chain(n.cluster, limit)
		if err != nil {
			return Place{}, fmt.Errorf("%s: %w", path, err)
		}
		var at int64
		for _, r := range runs {
			if cluster >= r.first && cluster < r.first+r.count {
				if n.dir {
					return Place{Path: path, What: "directory"}, nil
				}
				return Place{Path: path, What: "content", Content: true, Offset: at + int64(cluster-r.first)*v.geo.clusterBytes()}, nil
			}
			at += int64(r.count) * v.geo.clusterBytes()
		}
	}
	for _, c := range n.children {
		name := c.name
		if path != "." {
			name = path + "/" + name
		}
		if p, err := v.locate(c, name, cluster); err != nil || p.What != "" {
			return p, err
		}
	}
	return Place{}, nil
}
