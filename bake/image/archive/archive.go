// Package archive writes a disk as what ships: the tar.gz that Google Compute
// Engine imports, or a raw sparse file. It also reads such a tar.gz back.
//
// The archive is one gzip member (RFC 1952) around one old-GNU tar member, by
// default disk.raw. No temporary disk image is made: segments of the disk are
// compressed on all cores and written in order. A segment is either content,
// at most 1 MiB of it, or a run of zeroes of any length; each ends with a sync
// flush (an empty stored block, RFC 1951 section 3.2.4), so that it starts at a
// byte boundary, refers to nothing before it, and can be kept in a [Cache] and
// used again at another place. The bytes of the archive are a function of the
// list, the options that name the member, and the version of the codec. They
// do not depend on the number of workers or on what the cache holds.
//
// Memory is bounded by the number of workers, at most 16: up to 3 MiB each, and
// about 1 MiB for each segment that waits to be written, of which there are at
// most four more than workers. Real content was seen to need 31 MiB in all with
// two workers, 71 MiB with sixteen.
//
// The package does not make files appear atomically: what it has written when
// it returns an error is worthless, and the caller removes it. It writes no
// sparse tar members, which Compute Engine would accept, because deflate
// already stores a gibibyte of zeroes in one mebibyte.
package archive

import (
	"fmt"
	"runtime"

	"github.com/nodebake/bake/bake/image/extent"
	"github.com/nodebake/bake/bake/progress"
	"github.com/nodebake/bake/bake/tree"
)

// DiskName is the only name of a member that Compute Engine imports.
const DiskName = "disk.raw"

// maxWorkers bounds memory. Sixteen cores compress more than a gigabyte a
// second, which is what one core can hash and write.
const maxWorkers = 16

// Cache keeps compressed segments between runs. Get must return only what Put
// was given under the same key, so an implementation that keeps values on a
// disk verifies them. Both are called from several goroutines. The value that
// Get returns is not changed.
type Cache interface {
	Get(key tree.Digest) ([]byte, bool)
	Put(key tree.Digest, value []byte) error
}

// Options says how to write a disk. The zero value is usable.
type Options struct {
	Name     string        // of the member; empty: DiskName
	Epoch    int64         // the member's time, seconds since 1970-01-01 UTC, 0 to 8^11-1
	Workers  int           // how many segments are compressed or copied at once; 0: GOMAXPROCS; more than 16 count as 16
	Cache    Cache         // nil: every segment is compressed
	Progress progress.Sink // nil: nobody watches
}

// Result describes a written archive.
type Result struct {
	Size    int64       // of the archive, bytes
	SHA256  tree.Digest // of the archive
	Content int64       // bytes of the disk that are not zeroes by plan
	Cached  int64       // of Content, the bytes whose compressed form came from the cache
}

func (o Options) withDefaults() Options {
	if o.Name == "" {
		o.Name = DiskName
	}
	if o.Workers <= 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	o.Workers = min(o.Workers, maxWorkers)
	if o.Progress == nil {
		o.Progress = progress.Discard{}
	}
	return o
}

// contentSize returns how many bytes of l its extents cover.
func contentSize(l *extent.List) int64 {
	var n int64
	for _, e := range l.Extents {
		n += e.Length
	}
	return n
}

// describe names the place of s for an error.
func (s *segment) describe() string {
	name := "zeroes"
	for _, p := range s.pieces {
		if p.Blob != nil {
			name = p.Blob.Name
			break
		}
	}
	return fmt.Sprintf("%s at %d of the disk", name, s.offset)
}
