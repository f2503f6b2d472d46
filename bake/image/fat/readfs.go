package fat

import (
	"errors"
	"io"
	"io/fs"
	"strings"
	"time"
)

// FS returns the volume's files. Names are matched as they are written: unlike
// FAT's drivers it tells upper from lower case. It must not be used from several
// goroutines where the io.ReaderAt of the volume must not.
func (v *Volume) FS() fs.FS { return volumeFS{v} }

// ShortName returns the 8.3 name of the file at path, for what must check it.
func (v *Volume) ShortName(path string) (string, error) {
	n, err := v.lookup("shortname", path)
	if err != nil {
		return "", err
	}
	return n.short, nil
}

func (v *Volume) lookup(op, name string) (*node, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	n := v.root
	if name == "." {
		return n, nil
	}
next:
	for part := range strings.SplitSeq(name, "/") {
		for _, c := range n.children {
			if c.name == part {
				n = c
				continue next
			}
		}
		return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
	}
	return n, nil
}

type volumeFS struct{ v *Volume }

// Open implements fs.FS.
func (f volumeFS) Open(name string) (fs.File, error) {
	n, err := f.v.lookup("open", name)
	if err != nil {
		return nil, err
	}
	if n.dir {
		return &openDir{info: nodeInfo{n}, rest: n.children}, nil
	}
	var runs []run
	if n.size > 0 {
		clusters := (n.size + f.v.geo.clusterBytes() - 1) / f.v.geo.clusterBytes()
		if runs, err = f.v.chain(n.cluster, clusters); err != nil {
			return nil, &fs.PathError{Op: "open", Path: name, Err: err}
		}
	}
	return &openFile{info: nodeInfo{n}, left: n.size, r: f.v.content(runs, n.size)}, nil
}

type openFile struct {
	info nodeInfo
	left int64
	r    io.Reader
}

func (f *openFile) Stat() (fs.FileInfo, error) { return f.info, nil }
func (f *openFile) Close() error               { return nil }

func (f *openFile) Read(p []byte) (int, error) {
	n, err := f.r.Read(p)
	f.left -= int64(n)
	if err == io.EOF && f.left > 0 {
		err = &fs.PathError{Op: "read", Path: f.info.Name(), Err: errors.New("its chain of clusters ends before its content")}
	}
	return n, err
}

type openDir struct {
	info nodeInfo
	rest []*node
}

func (d *openDir) Stat() (fs.FileInfo, error) { return d.info, nil }
func (d *openDir) Close() error               { return nil }

func (d *openDir) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: d.info.Name(), Err: errors.New("is a directory")}
}

// ReadDir implements fs.ReadDirFile.
func (d *openDir) ReadDir(n int) ([]fs.DirEntry, error) {
	take := len(d.rest)
	if n > 0 {
		if take == 0 {
			return nil, io.EOF
		}
		take = min(take, n)
	}
	entries := make([]fs.DirEntry, take)
	for i, c := range d.rest[:take] {
		entries[i] = fs.FileInfoToDirEntry(nodeInfo{c})
	}
	d.rest = d.rest[take:]
	return entries, nil
}

// nodeInfo is a node as fs.FileInfo.
type nodeInfo struct{ n *node }

func (i nodeInfo) Name() string       { return i.n.name }
func (i nodeInfo) Size() int64        { return i.n.size }
func (i nodeInfo) ModTime() time.Time { return i.n.modTime }
func (i nodeInfo) IsDir() bool        { return i.n.dir }
func (i nodeInfo) Sys() any           { return nil }

// Mode implements fs.FileInfo. FAT has no permissions: these are the ones that
// Linux shows by default.
func (i nodeInfo) Mode() fs.FileMode {
	if i.n.dir {
		return fs.ModeDir | 0o755
	}
	return 0o755
}
