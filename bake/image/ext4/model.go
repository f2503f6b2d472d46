package ext4

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/nodebake/bake/bake/image/ext4/internal/format"
	"github.com/nodebake/bake/bake/tree"
)

// model is a tree as inodes: what there is to place and encode, without saying where.
type model struct {
	nodes []node // by index, see node.number
	dirs  []directory
	files []int32 // nodes with content, in the order in which it goes to the disk
}

// Indexes of the nodes that every filesystem has.
const (
	nodeRoot      = 0
	nodeLostFound = 1
)

// node is one inode that a path leads to.
type node struct {
	entry   *tree.Entry
	mode    uint16 // kind and permission bits
	dir     int32  // index in model.dirs, or -1
	links   int32
	blocks  int64  // of content, directory or long symlink
	inXattr []byte // extended attributes that fit into the inode, encoded
	xattr   []byte // a block of those that do not, encoded but for its checksum
}

// inodeNumber is the number of the inode of the node with an index.
func inodeNumber(index int32) uint32 {
	if index == nodeRoot {
		return format.InodeRoot
	}
	return uint32(index) - nodeLostFound + format.InodeLostFound
}

// lostFoundBlocks is the length of lost+found: e2fsck wants room there
// without having to allocate. mke2fs makes the same.
const lostFoundBlocks = 4

// newModel makes inodes of t. The error joins everything in t that ext4
// cannot hold.
func newModel(t *tree.Tree, o *Options) (*model, error) {
	m := &model{nodes: make([]node, 2, len(t.Entries)+2)}
	a := adapter{model: m, epoch: o.Epoch, links: make([]link, 0, len(t.Entries)+1)}
	a.addEntries(t)
	a.addHardlinks(t)
	if len(a.errs) == 0 {
		a.addLostFound()
		a.fillDirectories(o)
	}
	if len(a.errs) > 0 {
		return nil, errors.Join(a.errs...)
	}
	m.orderFiles(o.Blobs)
	return m, nil
}

// link is a name in a directory, before the names are sorted by directory.
type link struct {
	dir int32 // index in model.dirs
	dirent
}

// adapter makes a model of a tree.
type adapter struct {
	*model
	epoch  int64
	links  []link
	nodeOf []int32 // by index of the tree's entry; -1: none
	errs   []error
}

func (a *adapter) failf(e *tree.Entry, format string, args ...any) {
	a.errs = append(a.errs, fmt.Errorf("%s: "+format, append([]any{e.Path}, args...)...))
}

// addEntries makes a node of every entry but hard links, and a link of every
// entry but the root.
func (a *adapter) addEntries(t *tree.Tree) {
	if len(t.Entries) == 0 || t.Entries[0].Path != "." || t.Entries[0].Type != tree.Dir {
		a.errs = append(a.errs, errors.New(`the tree does not begin with its root directory: add an entry "." and make the tree with tree.New`))
		return
	}
	a.nodeOf = make([]int32, len(t.Entries))
	var open []int32 // entries of the directories around the current one
	for i := range t.Entries {
		e := &t.Entries[i]
		a.nodeOf[i] = -1
		dir, name := ".", e.Path
		if slash := strings.LastIndexByte(e.Path, '/'); slash >= 0 {
			dir, name = e.Path[:slash], e.Path[slash+1:]
		}
		for len(open) > 0 && t.Entries[open[len(open)-1]].Path != dir {
			open = open[:len(open)-1]
		}
		if i > 0 && len(open) == 0 {
			a.failf(e, "it does not follow its directory: make the tree with tree.New")
			return
		}
		if len(name) > format.MaxNameLen {
			a.failf(e, "its name has %d bytes, ext4 takes %d: shorten it", len(name), format.MaxNameLen)
		}
		index := int32(-1)
		if e.Type != tree.Hardlink {
			index = a.addNode(e)
			a.nodeOf[i] = index
		}
		if i > 0 {
			parent := a.nodes[a.nodeOf[open[len(open)-1]]].dir
			a.links = append(a.links, link{parent, dirent{name: name, node: index}})
		}
		if e.Type == tree.Dir {
			if i > 0 {
				a.dirs[a.nodes[index].dir].parent = a.nodeOf[open[len(open)-1]]
			}
			open = append(open, int32(i))
		}
	}
}

// addNode makes e's inode and returns its index.
func (a *adapter) addNode(e *tree.Entry) int32 {
	n := node{entry: e, dir: -1, links: 1, mode: e.Perm & format.ModePerm}
	var index int32
	switch e.Path {
	case ".":
		index = nodeRoot
	case "lost+found":
		index = nodeLostFound
		if e.Type != tree.Dir {
			a.failf(e, "it is not a directory, and e2fsck needs it to be one: rename it")
		}
	default:
		index = int32(len(a.nodes))
		a.nodes = append(a.nodes, node{})
	}
	switch e.Type {
	case tree.Dir:
		n.mode |= format.ModeDir
		n.links = 2
		n.dir = int32(len(a.dirs))
		a.dirs = append(a.dirs, directory{node: index, parent: nodeRoot})
	case tree.File:
		n.mode |= format.ModeFile
		n.blocks = blocksOf(e.Size)
		if e.Size > 0 && e.Blob == nil {
			a.failf(e, "it has %d bytes and no blob that holds them", e.Size)
		}
	case tree.Symlink:
		n.mode |= format.ModeSymlink
		n.mode |= 0o777 // Linux knows no other permissions of symlinks
		if len(e.Link) > format.MaxSymlink {
			a.failf(e, "its target has %d bytes, ext4 takes %d: shorten it", len(e.Link), format.MaxSymlink)
		} else if len(e.Link) > format.MaxFastSymlink {
			n.blocks = 1
		}
	case tree.Char, tree.Block:
		n.mode |= format.ModeChar
		if e.Type == tree.Block {
			n.mode = n.mode&^format.ModeType | format.ModeBlock
		}
		if e.Major >= 1<<12 || e.Minor >= 1<<20 {
			a.failf(e, "device %d:%d is outside of what Linux knows, 4095:1048575", e.Major, e.Minor)
		}
	case tree.Fifo:
		n.mode |= format.ModeFifo
	default:
		a.failf(e, "unknown type %q", e.Type)
	}
	if _, _, err := encodeTime(e.MTime); err != nil {
		a.failf(e, "%w", err)
	}
	var err error
	if n.inXattr, n.xattr, err = encodeXattrs(e.Xattrs); err != nil {
		a.failf(e, "%w", err)
	}
	a.nodes[index] = n
	return index
}

// addHardlinks gives links that are hard links the node of their target.
func (a *adapter) addHardlinks(t *tree.Tree) {
	if len(a.errs) > 0 {
		return
	}
	for i := range t.Entries {
		e := &t.Entries[i]
		if e.Type != tree.Hardlink {
			continue
		}
		target, found := slices.BinarySearchFunc(t.Entries, e.Link, func(e tree.Entry, p string) int {
			return tree.ComparePaths(e.Path, p)
		})
		if !found || t.Entries[target].Type != tree.File {
			a.failf(e, "hard link to %s, which is not a file of the tree", e.Link)
			continue
		}
		// Entry i > 0 has link i-1, since only the root has none.
		index := a.nodeOf[target]
		a.links[i-1].node = index
		a.nodes[index].links++
		if a.nodes[index].links == format.MaxLinks+1 {
			a.failf(e, "%s would have more than %d hard links, which is all that ext4 takes: copy it", e.Link, format.MaxLinks)
		}
	}
}

// addLostFound makes lost+found where the tree has none.
func (a *adapter) addLostFound() {
	if a.nodes[nodeLostFound].entry == nil {
		a.addNode(&tree.Entry{Path: "lost+found", Type: tree.Dir, Perm: 0o700, MTime: a.epoch, Owner: "ext4"})
		a.links = append(a.links, link{a.nodes[nodeRoot].dir, dirent{name: "lost+found", node: nodeLostFound}})
	}
	a.dirs[a.nodes[nodeLostFound].dir].minBlocks = lostFoundBlocks
}

// fillDirectories sorts all links to their directories and packs these.
func (a *adapter) fillDirectories(o *Options) {
	counts := make([]int, len(a.dirs))
	for _, l := range a.links {
		counts[l.dir]++
	}
	all := make([]dirent, len(a.links))
	for i, at := 0, 0; i < len(a.dirs); i++ {
		a.dirs[i].entries = all[at : at : at+counts[i]]
		at += counts[i]
	}
	for _, l := range a.links {
		dir := &a.dirs[l.dir]
		dir.entries = append(dir.entries, l.dirent)
		if a.nodes[l.node].dir >= 0 {
			a.nodes[dir.node].links++
		}
	}
	hash := newNameHash(o.HashSeed)
	for i := range a.dirs {
		dir := &a.dirs[i]
		n := &a.nodes[dir.node]
		if err := dir.pack(hash); err != nil {
			a.failf(n.entry, "%w", err)
		}
		n.blocks = int64(dir.blocks())
	}
}

// orderFiles sorts the files with content as their blobs hold it.
func (m *model) orderFiles(blobs []*tree.Blob) {
	order := make(map[*tree.Blob]int, len(blobs))
	for _, b := range blobs {
		if _, twice := order[b]; !twice {
			order[b] = len(order)
		}
	}
	type file struct {
		blob   int
		offset int64
		node   int32
	}
	var files []file
	for i := range m.nodes {
		e := m.nodes[i].entry
		if e.Type != tree.File || e.Size == 0 {
			continue
		}
		at, known := order[e.Blob]
		if !known {
			at = len(order)
			order[e.Blob] = at
		}
		files = append(files, file{at, e.Offset, int32(i)})
	}
	slices.SortFunc(files, func(a, b file) int {
		switch {
		case a.blob != b.blob:
			return a.blob - b.blob
		case a.offset < b.offset:
			return -1
		case a.offset > b.offset:
			return 1
		}
		return int(a.node - b.node)
	})
	m.files = make([]int32, len(files))
	for i, f := range files {
		m.files[i] = f.node
	}
}

// blocksOf is how many blocks size bytes take.
func blocksOf(size int64) int64 { return (size + blockSize - 1) / blockSize }
