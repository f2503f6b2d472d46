package containerd

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"slices"
)

// This file writes bbolt's file format, version 2, as go.etcd.io/bbolt v1.5.0
// reads it (internal/common: page.go, meta.go, inode.go, bucket.go, and
// Bucket.inlineable). The library itself can't write here: it spills buckets in
// the order of a map, so that the same input gives other bytes each time, wants
// a file to map into memory, and takes the host's page size and byte order.

// boltPage is the size of a page in bytes, whatever the host's is: a database
// says its own.
const boltPage = 4096

// Sizes in bytes, kinds of pages, and what is in a meta page.
const (
	pageHeader    = 16 // id, flags, count, overflow
	pageElement   = 16 // of a leaf or a branch
	bucketHeader  = 16 // root page, sequence
	metaLength    = 64 // without the page's header
	branchPage    = 0x01
	leafPage      = 0x02
	metaPage      = 0x04
	freelistPage  = 0x10
	bucketElement = 0x01 // flag of a leaf's element: its value is a bucket
	boltMagic     = 0xED0CDAED
	boltVersion   = 2
	maxInline     = boltPage / 4 // bytes of a bucket that is kept in its parent's page
)

// bucket is a bucket of a database: values and further buckets by name.
type bucket struct {
	values  map[string][]byte
	buckets map[string]*bucket
}

func newBucket() *bucket {
	return &bucket{values: map[string][]byte{}, buckets: map[string]*bucket{}}
}

// at returns the bucket at a path, made where it is missing.
func (b *bucket) at(names ...string) *bucket {
	for _, name := range names {
		if b.buckets[name] == nil {
			b.buckets[name] = newBucket()
		}
		b = b.buckets[name]
	}
	return b
}

// element is a key of a leaf or a branch.
type element struct {
	key, value []byte // of a branch, only the key
	flags      uint32 // leaf
	page       uint64 // branch
}

func (e element) size() int { return pageElement + len(e.key) + len(e.value) }

// bolt is a database being written.
type bolt struct {
	pages []byte // a multiple of boltPage
}

// writeBolt returns the database whose root bucket is root.
func writeBolt(root *bucket) []byte {
	const freelist = 2 // after two meta pages
	b := &bolt{pages: make([]byte, (freelist+1)*boltPage)}
	putPageHeader(b.pages[freelist*boltPage:], freelist, freelistPage, 0, 0)
	top := b.writeBucket(root)
	for id := range uint64(2) {
		page := b.pages[id*boltPage:]
		putPageHeader(page, id, metaPage, 0, 0)
		meta := page[pageHeader:][:metaLength]
		binary.LittleEndian.PutUint32(meta[0:], boltMagic)
		binary.LittleEndian.PutUint32(meta[4:], boltVersion)
		binary.LittleEndian.PutUint32(meta[8:], boltPage)
		binary.LittleEndian.PutUint64(meta[16:], top)
		binary.LittleEndian.PutUint64(meta[32:], freelist)
		binary.LittleEndian.PutUint64(meta[40:], b.next())
		binary.LittleEndian.PutUint64(meta[48:], id) // the transaction: the later meta page is the one that counts
		sum := fnv.New64a()
		sum.Write(meta[:56])
		binary.LittleEndian.PutUint64(meta[56:], sum.Sum64())
	}
	return b.pages
}

// next is the number of the page that is written next.
func (b *bolt) next() uint64 { return uint64(len(b.pages) / boltPage) }

// writeBucket writes the pages of c, and of all below it, and returns the number
// of its root page.
func (b *bolt) writeBucket(c *bucket) uint64 {
	elements, kind := b.elements(c), leafPage
	for {
		var above []element
		for _, run := range splitPages(elements) {
			e := element{page: b.writePage(kind, run)}
			if len(run) > 0 {
				e.key = run[0].key
			}
			above = append(above, e)
		}
		if len(above) == 1 {
			return above[0].page
		}
		elements, kind = above, branchPage
	}
}

// elements returns what c's leaves hold, sorted by key.
func (b *bolt) elements(c *bucket) []element {
	var out []element
	for name, value := range c.values {
		out = append(out, element{key: []byte(name), value: value})
	}
	for name := range c.buckets {
		out = append(out, element{key: []byte(name), flags: bucketElement})
	}
	slices.SortFunc(out, func(x, y element) int { return cmp.Compare(string(x.key), string(y.key)) })
	for i := range out {
		if out[i].flags&bucketElement != 0 {
			out[i].value = b.bucketValue(c.buckets[string(out[i].key)])
		}
	}
	return out
}

// bucketValue returns what stands for c in its parent: the number of its root
// page, or, for a small one without buckets, itself.
func (b *bolt) bucketValue(c *bucket) []byte {
	value := make([]byte, bucketHeader)
	if len(c.buckets) == 0 {
		elements := b.elements(c)
		if size := pageSize(elements); size <= maxInline {
			inline := make([]byte, size)
			putPage(inline, 0, leafPage, 0, elements)
			return append(value, inline...)
		}
	}
	binary.LittleEndian.PutUint64(value, b.writeBucket(c))
	return value
}

// splitPages cuts elements into runs that fill a page each. One that is larger
// than a page is a run of its own.
func splitPages(elements []element) [][]element {
	var runs [][]element
	start, size := 0, pageHeader
	for i, e := range elements {
		if i > start && size+e.size() > boltPage {
			runs = append(runs, elements[start:i])
			start, size = i, pageHeader
		}
		size += e.size()
	}
	return append(runs, elements[start:])
}

func pageSize(elements []element) int {
	size := pageHeader
	for _, e := range elements {
		size += e.size()
	}
	return size
}

// writePage appends a page with elements and returns its number.
func (b *bolt) writePage(kind int, elements []element) uint64 {
	id := b.next()
	pages := (pageSize(elements) + boltPage - 1) / boltPage
	page := make([]byte, pages*boltPage)
	putPage(page, id, kind, pages-1, elements)
	b.pages = append(b.pages, page...)
	return id
}

// putPage fills page: header, elements, then keys and values, which an element
// finds by their distance from itself.
func putPage(page []byte, id uint64, kind, overflow int, elements []element) {
	if len(elements) >= 0xFFFF {
		// From there on the count is elsewhere; a page holds far fewer.
		panic(fmt.Sprintf("BUG: %d elements in a page", len(elements)))
	}
	putPageHeader(page, id, kind, len(elements), overflow)
	data := pageHeader + len(elements)*pageElement
	for i, e := range elements {
		at := pageHeader + i*pageElement
		head, distance := page[at:at+pageElement], uint32(data-at)
		if kind == leafPage {
			binary.LittleEndian.PutUint32(head[0:], e.flags)
			binary.LittleEndian.PutUint32(head[4:], distance)
			binary.LittleEndian.PutUint32(head[8:], uint32(len(e.key)))
			binary.LittleEndian.PutUint32(head[12:], uint32(len(e.value)))
		} else {
			binary.LittleEndian.PutUint32(head[0:], distance)
			binary.LittleEndian.PutUint32(head[4:], uint32(len(e.key)))
			binary.LittleEndian.PutUint64(head[8:], e.page)
		}
		data += copy(page[data:], e.key)
		data += copy(page[data:], e.value)
	}
}

func putPageHeader(page []byte, id uint64, kind, count, overflow int) {
	binary.LittleEndian.PutUint64(page[0:], id)
	binary.LittleEndian.PutUint16(page[8:], uint16(kind))
	binary.LittleEndian.PutUint16(page[10:], uint16(count))
	binary.LittleEndian.PutUint32(page[12:], uint32(overflow))
}
